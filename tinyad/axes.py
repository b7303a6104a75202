"""Along which axes a node repeats itself, read off the shape of its IR: an EXPAND repeats, a constant always does.

What autodiff and the scheduler mean by a contraction rests on this one analysis. May import `ir` only.
"""

from __future__ import annotations

from typing import Final

from .ir import ELEMENTWISE, Node, Op, Shape

Axes = frozenset[int]
_SEEN: Final = ELEMENTWISE | {Op.RESHAPE, Op.PERMUTE, Op.EXPAND, Op.SHRINK, Op.FLIP, Op.PAD, Op.SKEW, Op.FENCE}
_DEPTH: Final = 64  # how far the analysis looks


def repeated(n: Node, memo: dict[int, Axes]) -> Axes:
    """The axes of `n` of size other than 1 along which all elements are equal; `memo` lives as long as the nodes."""
    stack = [n]
    while stack:
        x = stack[-1]
        if id(x) in memo:
            stack.pop()
            continue
        todo = [s for s in x.src if id(s) not in memo] if x.op in _SEEN and len(stack) < _DEPTH else []
        if todo:
            stack.extend(todo)
            continue
        stack.pop()
        memo[id(x)] = frozenset(i for i in _of(x, memo) if x.shape[i] != 1)
    return memo[id(n)]


def _of(x: Node, memo: dict[int, Axes]) -> Axes:
    """The rule of each operation, given its sources' axes."""
    if x.op is Op.CONST:
        return frozenset(range(len(x.shape)))
    if x.op not in _SEEN or not x.src or any(id(s) not in memo for s in x.src):
        return frozenset()
    shape = x.src[0].shape
    if x.op in ELEMENTWISE:
        return frozenset.intersection(*(memo[id(s)] for s in x.src))
    same = memo[id(x.src[0])] | {i for i, size in enumerate(shape) if size == 1}
    if x.op is Op.PERMUTE:
        return frozenset(i for i, j in enumerate(x.arg) if j in same)
    if x.op is Op.RESHAPE:
        return _reshaped(same, shape, x.shape)
    if x.op is Op.PAD:
        return frozenset(i for i in same if x.arg[i][:2] == (0, 0) and (x.arg[i][2] == 0 or shape[i] == 1))
    if x.op is Op.SKEW:
        i, k, *_ = x.arg
        return same - {i, k}
    return same


def _reshaped(axes: Axes, old: Shape, new: Shape) -> Axes:
    """Where `axes` of `old` go under a reshape: of each run of axes with equal products, all or nothing."""
    out: set[int] = set()
    i = j = 0
    while i < len(old) and j < len(new):
        i0, j0, m, n = i, j, old[i], new[j]
        i, j = i + 1, j + 1
        while m != n and (i < len(old) if m < n else j < len(new)):
            if m < n:
                m, i = m * old[i], i + 1
            else:
                n, j = n * new[j], j + 1
        if all(k in axes for k in range(i0, i)):
            out.update(range(j0, j))
    return frozenset(out)
