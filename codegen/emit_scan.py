"""Sequential loops. Where the order of combination does not show (extrema, integers), a vector at a time: the running
values inside it by log2 steps of shifting and combining, then combined with what all vectors before came to. Where it
does, several rows at once, because each step of one waits for the step before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from .analysis import dominating_bytes, is_leaf
from .builder import I64, Val, const
from .clone import Clone
from .combine import combine, identity, is_ordered
from .frame import Frame, first_lanes
from .index import of
from .loops import Carry, Loop, Store, Update
from .target import Target
from .vectorize import hidden

ABREAST: Final = 4  # rows side by side,
SIZE: Final = 16  # of so many statements at most


def is_prefix(loop: Loop, target: Target) -> bool:
    """Whether a sequential loop is done a vector at a time."""
    if not loop.carries or loop.var.extent < _lanes(loop, target) or not _is_straight(loop):
        return False
    if any(c.op == "linrec" or is_ordered(c.op, c.type) for c in loop.carries):
        return False
    stores = [s.index for s in loop.body if isinstance(s, Store)]
    return all(e.coefficient(loop.var) in (1, -1) and not hidden(e, loop.var) for e in stores)


def _is_straight(loop: Loop) -> bool:
    return all(is_leaf(s) and not isinstance(s, Update) for s in loop.body)


def _lanes(loop: Loop, target: Target) -> int:
    return max(target.vector_bytes // dominating_bytes(loop.body), 1)


def prefix(f: Frame, loop: Loop, rest: Callable[[Val, list[Val]], None]) -> None:
    """Emits a loop of which `is_prefix` holds; `rest(first, carried)` does the last iterations one by one."""
    lanes, extent = _lanes(loop, f.target), loop.var.extent
    middle = extent - extent % lanes

    def step(mask: Val | None, i: Val, carried: list[Val]) -> list[Val]:
        f.prefixes = dict(zip(loop.carries, carried, strict=True))
        with f.scope((loop.var, i)), f.vectorised(loop.var, lanes, mask, aligned=True):
            f.run(loop.body)
        return list(f.prefixes.values())

    fresh = [identity(c.op, c.type, lanes) for c in loop.carries]
    carried = f.loop(
        const(I64, 0), const(I64, middle), lanes, fresh, lambda i, carried: step(None, i, carried), "prefix"
    )
    f.prefixes = {}
    if middle == extent:
        return
    if f.target.masks:
        step(first_lanes(extent - middle, lanes), const(I64, middle), carried)
        f.prefixes = {}
    else:
        rest(const(I64, middle), [f.b.extract(v, 0) for v in carried])


def advance(f: Frame, carry: Carry, x: Val) -> Val:
    """The running values of the elements `x`; what they come to, in every lane, is the carry afterwards."""
    b, lanes = f.b, f.lanes
    absent = identity(carry.op, carry.type, lanes)
    x, apart = f.wide(x), 1
    while apart < lanes:
        earlier = b.shuffle(absent, x, [j if j < apart else lanes + j - apart for j in range(lanes)])
        x, apart = combine(f, carry.op, carry.type, earlier, x), 2 * apart
    before = f.prefixes[carry]
    f.prefixes[carry] = combine(f, carry.op, carry.type, before, b.shuffle(x, None, [lanes - 1] * lanes))
    return combine(f, carry.op, carry.type, before, x)


def abreast(loop: Loop) -> list[Loop] | None:
    """`ABREAST` turns of a loop over rows that are sequential loops, as one sequential loop; None of other loops."""
    if len(loop.body) != 1 or not isinstance(row := loop.body[0], Loop) or not row.carries or not _is_straight(row):
        return None
    rows_differ = all(loop.var in s.index.variables() for s in row.body if isinstance(s, Store))
    if loop.carries or loop.var.extent < ABREAST or len(row.body) > SIZE or not rows_differ:
        return None
    copies = [Clone({loop.var: of(loop.var) + k}).statement(row) for k in range(ABREAST)]
    loops = [s for s in copies if isinstance(s, Loop)]
    body = [s for copy in loops for s in copy.body]
    return [Loop(row.var, body, tuple(c for copy in loops for c in copy.carries))]

