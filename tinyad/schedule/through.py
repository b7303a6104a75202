"""How a position passes from a node to its sources.

Where an operation reads an axis at another index than the one it is read at, the source's axis follows a foreign loop,
which belongs to no group: what becomes of that axis is unknown, the other axes keep the loops they follow.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from itertools import chain
from typing import Final

from ..ir import ELEMENTWISE, Node, Op
from .position import Loop, Position, current, laid_over


def writes_row(n: Node) -> bool:
    """Whether the scatter `n` writes one element into each row along its axis, so that it can be read in place."""
    return n.op is Op.SCATTER and n.src[1].shape[n.arg[1]] == 1


def _same(n: Node, p: Position | None) -> list[Position | None]:
    return [p] * len(n.src)


def unknown(n: Node, _: Position | None) -> list[Position | None]:
    return [None] * len(n.src)


def _expand(n: Node, p: Position | None) -> list[Position | None]:
    return [p and tuple([() if m == 1 else v for m, v in zip(n.src[0].shape, p)])]


def _permute(n: Node, p: Position | None) -> list[Position | None]:
    if p is None:
        return [None]
    q: list[tuple[Loop, ...]] = [()] * len(p)
    for i, axis in enumerate(n.arg):
        q[axis] = p[i]
    return [tuple(q)]


def _reshape(n: Node, p: Position | None) -> list[Position | None]:
    return [None if p is None else laid_over(chain(*p), n.src[0].shape)]


def _foreign(size: int) -> tuple[Loop, ...]:
    return (Loop(size),) if size > 1 else ()


def _elsewhere(n: Node, p: Position | None, axes: Container[int]) -> Position | None:
    """The position of the first source if it is read at some other index along `axes`."""
    return p and tuple([_foreign(m) if i in axes else v for i, (m, v) in enumerate(zip(n.src[0].shape, p))])


def _gather(n: Node, p: Position | None) -> list[Position | None]:
    return [_elsewhere(n, p, (n.arg,)), p]


def _shrink(n: Node, p: Position | None) -> list[Position | None]:
    moved = [i for i, ((start, _, _), size) in enumerate(zip(n.arg, n.src[0].shape)) if n.shape[i] != size or start]
    return [_elsewhere(n, p, moved)]


def _pad(n: Node, p: Position | None) -> list[Position | None]:
    return [_elsewhere(n, p, [i for i, spec in enumerate(n.arg) if spec != (0, 0, 0)])]


def _flip(n: Node, p: Position | None) -> list[Position | None]:
    return [_elsewhere(n, p, n.arg)]


def _skew(n: Node, p: Position | None) -> list[Position | None]:
    return [_elsewhere(n, p, n.arg[:1])]


def _cat(n: Node, p: Position | None) -> list[Position | None]:
    return [p and tuple([_foreign(s.shape[i]) if i == n.arg else v for i, v in enumerate(p)]) for s in n.src]


def _scatter(n: Node, p: Position | None) -> list[Position | None]:
    row = p and tuple([() if i == n.arg[1] else v for i, v in enumerate(p)])
    return [row, row]


THROUGH: Final[dict[Op, Callable[[Node, Position | None], list[Position | None]]]] = {
    **dict.fromkeys(ELEMENTWISE, _same),
    Op.FENCE: _same, Op.EXPAND: _expand, Op.PERMUTE: _permute,
    Op.RESHAPE: _reshape, Op.GATHER: _gather, Op.SCATTER: _scatter, Op.SHRINK: _shrink, Op.PAD: _pad,
    Op.FLIP: _flip, Op.SKEW: _skew, Op.CAT: _cat,
}  # fmt: skip
"""What position the sources have where a node is read at position p."""


def repeats(n: Node, p: Position | None, loops: tuple[Loop, ...]) -> bool:
    """Whether `n`, an expansion or row scatter read at `p`, evaluates its sources again: not along inner loops."""
    if p is None:
        return True
    p = current(p)
    place = {loop: i for i, loop in enumerate(loops)}
    spread = [m == 1 for m in n.src[0].shape] if n.op is Op.EXPAND else [i == n.arg[1] for i in range(len(p))]
    kept = [place.get(v, len(place)) for axis, new in zip(p, spread) if not new for v in axis]
    added = [place.get(v, len(place)) for axis, new in zip(p, spread) if new for v in axis]
    return max(kept, default=-1) >= min(added, default=len(place) + 1)
