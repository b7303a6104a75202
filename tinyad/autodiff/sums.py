"""Nested sums as one: the sum over windows of a sum of products is one sum of products.

The derivative of a convolution towards its data arrives as ``sum(pad, skew ..(sum(a·b)))``: products summed over
channels, laid back over each other window by window. Here the movement is lifted over the inner sum's axes and pushed
into the factors, which makes it one sum of products: a convolution again. Nothing of the size of all windows is stored.

Where a window does not reach, the moved factor is zero and the other is left as it is: 0·b, which the licence of
contractions allows. Imports `ir` and `axes`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from .. import ir
from ..axes import Axes, repeated
from ..ir import Node, Op

_GROWTH: Final = 8  # a stride spreads the elements; beyond this many zeros for each of them, two sums cost less

# k leading axes are put before those the movement knows
_LIFTED: Final[dict[Op, Callable[[Node, Node, int], Node]]] = {
    Op.RESHAPE: lambda m, a, k: ir.reshape(a, a.shape[:k] + m.shape),
    Op.PERMUTE: lambda m, a, k: ir.permute(a, (*range(k), *(k + i for i in m.arg))),
    Op.FLIP: lambda m, a, k: ir.flip(a, [k + i for i in m.arg]),
    Op.SHRINK: lambda m, a, k: ir.shrink(a, [*((0, n, 1) for n in a.shape[:k]), *m.arg]),
    Op.PAD: lambda m, a, k: ir.pad(a, [(0, 0, 0)] * k + list(m.arg)),
    Op.SKEW: lambda m, a, k: ir.skew(a, m.arg[0] + k, m.arg[1] + k, *m.arg[2:]),
}


def summed(g: Node, axes: Sequence[int]) -> Node:
    """``sum(g, axes)``, as one sum of products if `g` lays products, or sums of them, out in overlapping windows."""
    chain: list[Node] = []
    n = g
    while n.op in _LIFTED and n.src:
        chain.append(n)
        n = n.src[0]
    if n.op not in (Op.SUM, Op.MUL) or not n.src or not any(m.op is Op.SKEW for m in chain):
        return ir.sum_(g, axes)
    terms = n.src[0] if n.op is Op.SUM else n
    inner = [i for i in n.arg if terms.shape[i] > 1] if n.op is Op.SUM else []
    size = max(m.size for m in chain) * math.prod(terms.shape[i] for i in inner)
    if size > _GROWTH * max(terms.size, 1):
        return ir.sum_(g, axes)
    k = len(inner)
    order = [*inner, *(i for i in range(len(terms.shape)) if i not in inner)]
    shape = tuple([terms.shape[i] for i in inner]) + n.shape

    def front(x: Node) -> Node:
        return ir.reshape(ir.permute(x, order), shape)

    if terms.op is Op.MUL and terms.src:
        a, b = map(front, terms.src)
        for m in reversed(chain):
            a, b = _moved(m, a, b, k)
        terms = ir.mul(a, b)
    else:
        terms = front(terms)
        for m in reversed(chain):
            terms = _LIFTED[m.op](m, terms, k)
    total = ir.sum_(terms, [*range(k), *(k + i for i in axes)])
    return ir.reshape(total, total.shape[k:])


def shrunk(g: Node, spec: Sequence[tuple[int, int, int]]) -> Node:
    """``shrink(g, spec)``, taken before a sum of products instead of after it."""
    total = g
    while total.op is Op.RESHAPE and total.src:
        total = total.src[0]
    if total.op is not Op.SUM or not total.src or total.src[0].op is not Op.MUL:
        return ir.shrink(g, spec)
    kept = [i for i, n in enumerate(total.shape) if n != 1]
    cut = [s for s, n in zip(spec, g.shape, strict=True) if n != 1]
    if [total.shape[i] for i in kept] != [n for n in g.shape if n != 1] or any(
        s != (0, 1, 1) for s, n in zip(spec, g.shape, strict=True) if n == 1
    ):
        return ir.shrink(g, spec)
    inner = [(0, n, 1) for n in total.src[0].shape]
    for i, s in zip(kept, cut, strict=True):
        inner[i] = s
    a, b = (ir.shrink(s, inner) for s in total.src[0].src)
    small = ir.sum_(ir.mul(a, b), total.arg)
    return ir.reshape(small, tuple(-(-(stop - start) // step) for start, stop, step in spec))


def _moved(m: Node, a: Node, b: Node, k: int) -> tuple[Node, Node]:
    """The movement `m` of a·b as movements of a and b. Zeros are put into one factor only where the other repeats."""
    lift = _LIFTED[m.op]
    if m.op is Op.PAD:
        touched = {k + i for i, s in enumerate(m.arg) if s != (0, 0, 0)}
    elif m.op is Op.SKEW:
        touched = {k + m.arg[0]}
    else:
        return lift(m, a, k), lift(m, b, k)
    memo: dict[int, Axes] = {}
    moved = lift(m, a, k)
    if _free(b, touched, memo):
        return moved, _resized(b, touched, moved.shape)
    if _free(a, touched, memo):
        return _resized(a, touched, moved.shape), lift(m, b, k)
    return moved, lift(m, b, k)


def _free(n: Node, axes: set[int], memo: dict[int, Axes]) -> bool:
    """Whether `n` is the same all along `axes`."""
    same = repeated(n, memo)
    return all(i in same or n.shape[i] == 1 for i in axes)


def _resized(n: Node, axes: set[int], shape: tuple[int, ...]) -> Node:
    """`n`, the same all along `axes`, with the sizes of `shape` there."""
    one = ir.shrink(n, [(0, 1, 1) if i in axes else (0, size, 1) for i, size in enumerate(n.shape)])
    return ir.expand(one, tuple(shape[i] if i in axes else size for i, size in enumerate(n.shape)))
