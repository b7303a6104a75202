"""Vectors of which the last is not whole, in one copy of the code: it differs in what is loaded and stored alone.

    whole?  ->  loads  |  loads under a mask
    what is computed of them
    whole?  ->  stores  |  stores under a mask

A mask on every turn would cost what a small body takes again; a second copy of the body as much of LLVM's time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from .ahead import fetch
from .builder import I64, Val, const
from .frame import Frame, some_lanes
from .index import Var
from .loops import Apply, Buffer, Const, IndexValue, InRange, Load, Loop, Stmt, Store
from .vectorize import private

MOST: Final = 8  # vectors that are loaded and stored


@dataclass(frozen=True, slots=True)
class Pieces:
    """A straight body as what it loads along the vector, what it computes, and what it stores."""

    loads: Sequence[Load]
    rest: Sequence[Stmt]
    stores: Sequence[Stmt]


def pieces(body: Sequence[Stmt], var: Var) -> Pieces | None:
    """The pieces of a body; None if loads cannot come first and stores last, or too many values would wait."""
    stored: set[Buffer] = set()
    for s in body:
        if not isinstance(s, (Const, Load, Apply, IndexValue, InRange, Store)):
            return None
        if isinstance(s, Load) and (s.mask is not None or s.index.data() or s.buffer in stored):
            return None
        if isinstance(s, Store):
            stored.add(s.buffer)
    loads = [s for s in body if isinstance(s, Load) and var in s.index.variables()]
    stores = [s for s in body if isinstance(s, Store)]
    if len(loads) + len(stores) > MOST:
        return None
    return Pieces(loads, [s for s in body if s not in loads and s not in stores], stores)


def vector(f: Frame, loop: Loop, p: Pieces, lanes: int, left: Val, aligned: bool) -> None:
    """The pieces of a loop's body, for as many lanes if so many are `left`."""
    mine = private(loop)

    def read(mask: Val | None) -> list[Val]:
        with f.vectorised(loop.var, lanes, mask, aligned, mine):
            f.run(p.loads)
        return [f.values[s] for s in p.loads]

    def write(mask: Val | None) -> list[Val]:
        with f.vectorised(loop.var, lanes, mask, aligned, mine):
            f.run(p.stores)
        return []

    def fork(body: Callable[[Val | None], list[Val]]) -> list[Val]:
        return f.choose(part, lambda: body(some_lanes(f, left, lanes)), lambda: body(None), rare=True)

    part = f.b.icmp("slt", left, const(I64, lanes))
    f.values.update(zip(p.loads, fork(read), strict=True))
    with f.vectorised(loop.var, lanes, None, aligned, mine):
        f.run(p.rest)
        fetch(f, loop)
    fork(write)
