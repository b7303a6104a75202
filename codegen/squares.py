"""Column reductions whose lanes lie far apart in memory, each a row of it: squares are read as they lie and transposed.

A vector has one element of each of several rows. One by one these would be gathered; here a square of as many steps as
lanes is loaded row by row, and the steps take its columns in order, so the sums are the same.
"""

from __future__ import annotations

from collections.abc import Callable

from . import address
from .analysis import is_leaf
from .builder import I64, Val, const
from .frame import Frame
from .loops import Load, Reduce, Store, Update
from .memory import memory_type
from .pack import transpose
from .vectorize import crosses

Chain = Callable[[Val, list[Val]], list[Val]]


def crossing(f: Frame, node: Reduce) -> list[Load]:
    """The loads of a reduction that squares serve, in the loop over `f.vector` that is open."""
    simple = all(is_leaf(s) and not isinstance(s, (Store, Update)) for s in node.body)
    if f.vector is None or f.active is not None or not simple:
        return []
    found = [s for s in node.body if isinstance(s, Load) and crosses(s, f.vector, node.vars[-1])]
    whole = all(f.lanes * s.type.bytes == f.target.vector_bytes for s in found)
    return found if whole and node.vars[-1].extent >= f.lanes else []


def by_squares(
    f: Frame, node: Reduce, loads: list[Load], lo: Val, hi: Val, chain: list[Val], element: Chain
) -> list[Val]:
    """``chain = element(i, chain)`` for i in ``[lo, hi)``, with the values of `loads` known where squares fit."""
    b, inner, lanes = f.b, node.vars[-1], f.lanes
    assert f.vector is not None
    vector = f.vector

    def square(i: Val, chain: list[Val]) -> list[Val]:
        columns = {}
        for s in loads:
            t = memory_type(s.type, lanes)
            with f.scope((inner, i)):
                step = s.index.coefficient(vector)
                places = [address.pointer(f, s.buffer, s.index + r * step, t.scalar()) for r in range(lanes)]
                columns[s] = transpose(f, [b.load(t, place, s.type.bytes) for place in places])
        for r in range(lanes):
            f.known = {s: column[r] for s, column in columns.items()}
            chain = element(b.binary("add", i, const(I64, r)), chain)
        f.known = {}
        return chain

    middle = b.binary("add", lo, b.binary("and", b.binary("sub", hi, lo), const(I64, -lanes)))
    chain = f.loop(lo, middle, lanes, chain, square, "square")
    return f.loop(middle, hi, 1, chain, element, "column")
