"""Positions: which loops of a kernel each axis of a value follows.

A position holds, for each axis, the loops (outermost first) whose joint row-major counter is the axis' index; an
axis of size 1 has none. Loops split where a reshape cuts an axis, so positions pass through reshapes too.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..ir import Shape


class Loop:
    """One loop of a group, or (`inner`) of a reduction inside it. A split loop lives on in its `parts`."""

    __slots__ = ("extent", "inner", "parts")

    def __init__(self, extent: int, inner: bool = False) -> None:
        self.extent = extent
        self.inner = inner
        self.parts: tuple[Loop, ...] = ()

    def split(self, outer: int) -> "tuple[Loop, Loop]":
        """Divides the loop into `outer` rounds of an inner loop."""
        pair = Loop(outer, self.inner), Loop(self.extent // outer, self.inner)
        self.parts = pair
        return pair


Position = tuple[tuple[Loop, ...], ...]


def resolved(loops: Iterable[Loop]) -> tuple[Loop, ...]:
    """The loops with split ones replaced by their parts."""
    loops = tuple(loops)
    for loop in loops:
        if loop.parts:
            break
    else:
        return loops
    out: list[Loop] = []
    stack = list(loops)[::-1]
    while stack:
        loop = stack.pop()
        if loop.parts:
            stack.extend(reversed(loop.parts))
        else:
            out.append(loop)
    return tuple(out)


def current(p: Position) -> Position:
    """The position with every split loop replaced."""
    return tuple([resolved(axis) if axis else () for axis in p])


def aligned(a: Iterable[Loop], b: Iterable[Loop]) -> list[tuple[Loop, Loop]] | None:
    """The loops of two axes side by side, split until their extents agree; None if a size does not divide."""
    mine, its = list(resolved(a))[::-1], list(resolved(b))[::-1]
    out: list[tuple[Loop, Loop]] = []
    while mine and its:
        x, y = mine.pop(), its.pop()
        if x.extent > y.extent and x.extent % y.extent == 0:
            x, rest = x.split(y.extent)
            mine.append(rest)
        elif y.extent > x.extent and y.extent % x.extent == 0:
            y, rest = y.split(x.extent)
            its.append(rest)
        elif x.extent != y.extent:
            return None
        out.append((x, y))
    return None if mine or its else out


def laid_over(loops: Iterable[Loop], shape: Shape) -> Position | None:
    """The position of an array of `shape` whose elements follow `loops` in row-major order; splits loops as needed.

    None if a size does not divide.
    """
    todo = list(resolved(loops))[::-1]
    out: list[tuple[Loop, ...]] = []
    for size in shape:
        axis: list[Loop] = []
        while size > 1:
            if not todo:
                return None
            loop = todo.pop()
            if loop.extent > size:
                if loop.extent % size:
                    return None
                loop, rest = loop.split(size)
                todo.append(rest)
            elif size % loop.extent:
                return None
            axis.append(loop)
            size //= loop.extent
        out.append(tuple(axis))
    return None if todo else tuple(out)
