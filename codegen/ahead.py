"""Fetching memory before it is read, where hardware does not: it goes ahead of the reads it sees, line after line.

Of rows that are gone through several times only the first pass reads memory, which would wait while the others compute
on what is in cache: so while the passes go over one row they fetch the next, each a share; and while one matrix product
of many is computed, its tiles fetch the factors of the next. What jumps from page to page is fetched some steps ahead.
Only time depends on this.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from . import address
from .builder import I64, Val, const, ty
from .frame import Frame
from .index import Index, Var, floordiv, of, substitute
from .loops import Buffer, Load, Loop, Reduce, Stmt
from .vectorize import hidden, share

LINE: Final = 64
LEAST: Final = 1 << 10  # bytes of a row from which fetching it pays,
MOST: Final = 1 << 17  # and of all rows that are fetched: a part of the second cache
FACTOR: Final = 1 << 14  # bytes of a factor from which fetching it pays: hardware goes ahead of smaller ones

Fetch = tuple[Buffer, Index]


def fetches(loop: Loop) -> dict[int, list[Fetch]]:
    """What each pass (by identity) over a row of a loop fetches of the next row: a share, so that memory never idles.

    The last pass, which stores, fetches only if there are but two. What loops inside a pass load is not fetched.
    """
    passes = [(s, v) for s in loop.body if isinstance(s, (Loop, Reduce)) and (v := _inner(s)) is not None]
    if loop.carries or len(passes) < 2:
        return {}
    fetching = passes[:-1] if len(passes) > 2 else passes
    extent = fetching[-1][1].extent
    fetching = [(s, v) for s, v in fetching if v.extent == extent]
    place = Var(extent)  # in the next row
    rows: dict[Fetch, None] = {}
    for s, v in passes[:-1]:
        for x in s.body:
            if isinstance(x, Load) and v.extent == extent and _is_row(x, loop.var, v):
                there = {loop.var: of(loop.var) + 1, v: of(place)}
                rows[x.buffer, _with(x.index, there)] = None
    if not LEAST <= sum(b.type.bytes for b, _ in rows) * extent <= MOST:
        return {}
    shares = len(fetching)
    return {
        id(s): [(b, _with(e, {place: floordiv(of(v), shares) + k * (extent // shares)})) for b, e in rows]
        for k, (s, v) in enumerate(fetching)
    }


def _with(e: Index, places: dict[Var, Index]) -> Index:
    """An index with other indices in place of variables."""
    return substitute(e, lambda a: places.get(a) if isinstance(a, Var) else None)


def _inner(s: Loop | Reduce) -> Var | None:
    """The variable that a pass goes along; None of what is no pass."""
    if isinstance(s, Reduce):
        return s.vars[0] if s.tree == "row" and len(s.vars) == 1 else None
    return None if s.carries else s.var


def _is_row(x: Load, row: Var, inner: Var) -> bool:
    """Whether a load walks along each row of an argument, and on to the next one."""
    e = x.index
    plain = x.mask is None and not e.data() and not hidden(e, row) and not hidden(e, inner)
    return plain and x.buffer.role == "in" and e.coefficient(inner) == 1 and bool(e.coefficient(row))


def shares(body: Sequence[Stmt], own: Sequence[Var]) -> list[tuple[Load, Var]]:
    """The loads of a factor, a function of its `own` variables, that in each turn of a loop around read the next share
    of an array; and that loop's variable."""
    out = []
    for x in body:
        if not isinstance(x, Load) or x.mask is not None or x.index.data():
            continue
        around = [v for v in x.index.variables() if v not in own]
        if len(around) == 1 and FACTOR <= share(x.index, around[0]) * x.type.bytes <= MOST:
            out.append((x, around[0]))
    return out


def fetch_share(f: Frame, x: Load, around: Var, part: Val, parts: int) -> None:
    """Fetches one of so many parts of what a load will read in the next turn of the loop `around`."""
    e = Index({around: x.index.coefficient(around)}, x.index.coefficient(around))
    size = -(-x.index.coefficient(around) * x.type.bytes // (LINE * parts)) * LINE
    start = address.pointer(f, x.buffer, e, ty("i", 8 * x.buffer.type.bytes))
    start = f.b.gep(ty("i", 8), start, f.b.binary("mul", part, const(I64, size)))
    for line in range(0, size, LINE):
        f.b.prefetch(f.b.gep(ty("i", 8), start, const(I64, line)))


def fetch(f: Frame, s: Stmt) -> None:
    """Emits the fetches that belong to a step of the pass `s`."""
    for buffer, e in f.ahead.get(id(s), ()):
        lines(f, buffer, e)


def lines(f: Frame, buffer: Buffer, e: Index) -> None:
    """Fetches the lines that the lanes of a vector of ``buffer[e]`` lie in."""
    for first in range(0, f.lanes, max(LINE // buffer.type.bytes, 1)):
        f.b.prefetch(address.pointer(f, buffer, e + first, ty("i", 8 * buffer.type.bytes)))


def prefetch(f: Frame, body: Sequence[Stmt], along: Var, var: Var, ahead: int) -> None:
    """Fetches what the loads of `body`, vectors along `along`, will read when `var` is `ahead` more."""
    for s in body:
        if not isinstance(s, Load) or s.index.data():
            continue
        if s.index.coefficient(along) == 1 and s.index.coefficient(var):
            lines(f, s.buffer, substitute(s.index, lambda a: of(a) + ahead if a is var else None))
