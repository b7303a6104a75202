"""Loops over rows that end in elementary functions of what each row comes to: the logarithm of a row's sum, say.

The reductions of a row are vectors along it, and what follows them is scalar code, which for short rows takes longer
than the row. Here the reductions of some rows are done one row after another, their results kept on the stack; then
what follows is done for all these rows at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from . import memory
from .analysis import dominating_bytes, indices, is_leaf, operands, statements
from .builder import I64, Val, const
from .frame import Frame, lanes_before
from .loops import Advance, Apply, Check, Const, Load, Loop, Reduce, Result, Stmt, Store, Update, Value
from .math import FUNCTIONS
from .ops import to_memory, to_register

ROWS: Final = 64  # rows whose results are kept


def epilogue(loop: Loop) -> int:
    """Where in the body of a loop over rows the code begins that is done for many rows at once; 0 if none is."""
    body = loop.body
    at = 1 + max((i for i, s in enumerate(body) if not is_leaf(s)), default=-1)
    if loop.carries or not at or not any(isinstance(s, Reduce) and s.tree == "row" for s in body):
        return 0
    written = {s.buffer for s in statements(body) if isinstance(s, (Store, Update))}
    for s in body[at:]:
        if isinstance(s, (Update, Check, Advance)) or (isinstance(s, Load) and s.buffer in written):
            return 0
        if isinstance(s, Store) and not s.index.coefficient(loop.var):
            return 0
    return at if any(isinstance(s, Apply) and s.op in FUNCTIONS for s in body[at:]) else 0


def rows(f: Frame, loop: Loop, lo: Val, hi: Val, at: int) -> None:
    """Emits the loop for the rows ``[lo, hi)``; the statements from number `at` on are its epilogue."""
    b = f.b
    head, tail = loop.body[:at], loop.body[at:]
    values = _passed(head, tail)
    types = [memory.memory_type(v.type, 1) for v in values]
    places = [f.alloca(t, ROWS) for t in types]
    lanes = max(f.target.vector_bytes // dominating_bytes(tail), 1)

    def one(first: Val, i: Val, carried: list[Val]) -> list[Val]:
        with f.scope((loop.var, i)):
            f.run(head)
            f.run([v for v in values if isinstance(v, Result) and v in tail])
            for v, t, place in zip(values, types, places, strict=True):
                where = b.gep(t, place, b.binary("sub", i, first))
                b.store(to_memory(b, v.type, f.values[v]), where, v.type.bytes)
        return carried

    def together(first: Val, past: Val, width: int, i: Val, carried: list[Val]) -> list[Val]:
        mask = None
        if width > 1 and f.target.masks:
            mask = lanes_before(f, b.binary("sub", past, i), width)
        with f.scope((loop.var, i)), f.vectorised(loop.var, width, mask, aligned=False):
            for v, t, place in zip(values, types, places, strict=True):
                where = b.gep(t, place, b.binary("sub", i, first))
                f.values[v] = to_register(b, v.type, b.load(t.with_lanes(width), where, v.type.bytes))
            f.run([s for s in tail if s not in values])
        return carried

    def block(first: Val, carried: list[Val]) -> list[Val]:
        past = f.extreme("smin", b.binary("add", first, const(I64, ROWS)), hi)
        f.loop(first, past, 1, [], lambda i, c: one(first, i, c), "row", certain=True)
        middle = past
        if not f.target.masks:
            middle = b.binary("add", first, b.binary("and", b.binary("sub", past, first), const(I64, -lanes)))
        f.loop(first, middle, lanes, [], lambda i, c: together(first, past, lanes, i, c), "rows")
        if middle is not past:
            f.loop(middle, past, 1, [], lambda i, c: together(first, past, 1, i, c), "rest")
        return carried

    f.loop(lo, hi, ROWS, [], block, "rows")


def _passed(head: Sequence[Stmt], tail: Sequence[Stmt]) -> list[Value]:
    """The values of a row that the epilogue needs: what the head defines, and results of its reductions."""
    defined = {id(s) for s in head if not isinstance(s, Const)}
    reduces = {id(s) for s in head if isinstance(s, Reduce)}
    out: dict[int, Value] = {}
    for s in tail:
        if isinstance(s, Result) and id(s.reduce) in reduces:
            out[id(s)] = s
        for v in (*operands(s), *(d.value for e in indices(s) for d in e.data())):
            if id(v) in defined:
                out[id(v)] = v
    return list(out.values())
