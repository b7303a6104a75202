"""Rewrites of single nodes that change no bit of the result, applied bottom up when a canonical graph is built.

Every rule is exact in IEEE arithmetic, NaN, infinities and signed zeros included: no x·0 -> 0, no x + 0 -> x
(-0 + 0 is +0; x - 0 and x + -0 are exact). A rule takes a node whose sources are simplified and returns another node,
or None. One pass suffices, since what a rule returns needs no further rule of its sources.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from . import ir
from .ir import BOOL, Node, Op

Rule = Callable[[Node], Node | None]


def _is(n: Node, value: float) -> bool:
    """Whether `n` is the constant `value`, sign of zero included."""
    return (
        n.op is Op.CONST
        and isinstance(n.arg, (int, float))
        and n.arg == value
        and (value != 0 or n.dtype.kind != "f" or math.copysign(1, n.arg) == math.copysign(1, value))
    )


def times_one(n: Node) -> Node | None:
    """mul(a, 1) -> a; mul(1, a) -> a."""
    a, b = n.src
    return a if _is(b, 1) else b if _is(a, 1) else None


def over_one(n: Node) -> Node | None:
    """div(a, 1) -> a."""
    return n.src[0] if _is(n.src[1], 1) else None


def minus_zero(n: Node) -> Node | None:
    """sub(a, 0) -> a."""
    return n.src[0] if _is(n.src[1], 0.0) else None


def plus_minus_zero(n: Node) -> Node | None:
    """add(a, -0.0) -> a; of integers add(a, 0) -> a."""
    a, b = n.src
    zero = -0.0 if n.dtype.kind == "f" else 0
    return a if _is(b, zero) else b if _is(a, zero) else None


def twice(n: Node) -> Node | None:
    """neg(neg(a)) -> a; not(not(a)) -> a."""
    return n.src[0].src[0] if n.src[0].op is n.op else None


def same(n: Node) -> Node | None:
    """max(a, a) -> a, likewise min, and, or."""
    return n.src[0] if n.src[0] is n.src[1] else None


def truth(n: Node) -> Node | None:
    """and(a, true) -> a; or(a, false) -> a; and(a, false) -> false; or(a, true) -> true."""
    if n.dtype is not BOOL:
        return same(n)
    for a, c in (n.src, n.src[::-1]):
        if c.op is Op.CONST:
            return a if c.arg is (n.op is Op.AND) else c
    return same(n)


def choice(n: Node) -> Node | None:
    """where(true, a, b) -> a; where(false, a, b) -> b; where(c, a, a) -> a; where(not c, a, b) -> where(c, b, a).

    where(c, where(c or d, x, y), b) -> where(c, x, b) and its like: a choice inside that c decides.
    """
    c, a, b = n.src
    if c.op is Op.CONST:
        return a if c.arg else b
    if c.op is Op.NOT:
        c, a, b = c.src[0], b, a
    yes, no = _given(a, c, True), _given(b, c, False)
    if yes is no:
        return yes
    return None if (c, yes, no) == n.src else Node(Op.WHERE, (c, yes, no), None, n.shape, n.dtype)


def _given(n: Node, c: Node, value: bool) -> Node:
    """What `n` is where `c` has this value."""
    while n.op is Op.WHERE and (known := _known(n.src[0], c, value)) is not None:
        n = n.src[1 if known else 2]
    return n


def _known(d: Node, c: Node, value: bool) -> bool | None:
    """What the condition `d`, or one of its two parts, tells where `c` has this value."""
    if d is c:
        return value
    if d.op is Op.NOT:
        return not value if d.src[0] is c else None
    if d.op is Op.AND or d.op is Op.OR:
        decides = d.op is Op.OR
        for part in d.src:
            inverse = part.op is Op.NOT and part.src[0] is c
            if (part is c and value is decides) or (inverse and value is not decides):
                return decides
    return None


def surely(n: Node) -> Node | None:
    """max over bools -> true, where positions decide: for each i there is a j with i >= j, namely 0."""
    test = n.src[0]
    if n.dtype is not BOOL:
        return None
    less = test.op is Op.LT
    pair = test if less else test.src[0] if test.op is Op.NOT and test.src[0].op is Op.LT else None
    if pair is None:
        return None
    x, y = map(_positions, pair.src)
    if x is None or y is None or x[0] == y[0]:
        return None
    # the best that the axes summed over can do, whatever the others are
    a, b = ((p[1][0] if (p[0] in n.arg) is low else p[1][1]) for p, low in ((x, less), (y, not less)))
    return ir.const(True, BOOL, n.shape) if (a < b) is less else None


def _positions(n: Node) -> tuple[int, tuple[int, int]] | None:
    """The one axis along which the integers `n` vary in equal steps, and the least and largest; None for others."""
    if n.op is Op.IOTA:
        return 0, (0, max(n.size - 1, 0))
    found = _positions(n.src[0]) if n.op in (Op.RESHAPE, Op.EXPAND, Op.PERMUTE) else None
    if found is None or n.op is Op.EXPAND:
        return found
    axis, ends = found
    if n.op is Op.PERMUTE:
        return n.arg.index(axis), ends
    size = n.src[0].shape[axis]
    if n.size != size or size < 2:
        return None
    return n.shape.index(size), ends


def there_and_back(n: Node) -> Node | None:
    """cast(cast(a, wider), dtype of a) -> a, if the wider dtype holds every value of a's."""
    inner = n.src[0]
    if inner.op is not Op.CAST or inner.src[0].dtype is not n.dtype:
        return None
    old, wide = n.dtype, inner.dtype
    exact = old is BOOL or (old.kind == wide.kind and old.itemsize <= wide.itemsize)
    return inner.src[0] if exact else None


def reshaped(n: Node) -> Node | None:
    """reshape(reshape(a)) -> reshape(a)."""
    return ir.reshape(n.src[0].src[0], n.shape) if n.src[0].op is Op.RESHAPE else None


def permuted(n: Node) -> Node | None:
    """permute(permute(a, p), q) -> permute(a, p∘q)."""
    inner = n.src[0]
    return ir.permute(inner.src[0], [inner.arg[i] for i in n.arg]) if inner.op is Op.PERMUTE else None


def expanded(n: Node) -> Node | None:
    """expand(expand(a)) -> expand(a)."""
    return ir.expand(n.src[0].src[0], n.shape) if n.src[0].op is Op.EXPAND else None


def flipped(n: Node) -> Node | None:
    """flip(flip(a, p), q) -> flip(a, p xor q)."""
    inner = n.src[0]
    return ir.flip(inner.src[0], set(inner.arg) ^ set(n.arg)) if inner.op is Op.FLIP else None


def unskewed(n: Node) -> Node | None:
    """skew(a) along an axis of size 1 -> pad(shrink(a)): a shift by `off`."""
    i, k, _, off, size = n.arg
    a = n.src[0]
    begin, end = max(off, 0), min(off + size, a.shape[i])
    if a.shape[k] != 1 or begin >= end:
        return None
    part = ir.shrink(a, [(begin, end, 1) if j == i else (0, m, 1) for j, m in enumerate(a.shape)])
    return ir.pad(part, [(begin - off, off + size - end, 0) if j == i else (0, 0, 0) for j in range(len(a.shape))])


def cut_out(n: Node) -> Node | None:
    """shrink(pad(a)) -> a where it takes out just what was put in; shrink(shrink(a)) -> shrink(a)."""
    inner = n.src[0]
    if inner.op is Op.SHRINK:
        spec = []
        for (b, _, s), (b0, _, s0), size in zip(n.arg, inner.arg, n.shape):
            start = b0 + b * s0
            spec.append((start, start + (size - 1) * s * s0 + 1 if size else start, s * s0))
        return ir.shrink(inner.src[0], spec)
    if inner.op is Op.PAD:
        a = inner.src[0]
        if n.shape == a.shape and all(
            b == lo and (s == gap + 1 or size == 1) for (b, _, s), (lo, _, gap), size in zip(n.arg, inner.arg, a.shape)
        ):
            return a
    return None


def side_by_side(n: Node) -> Node | None:
    """add(pad(a), pad(b)) -> pad(cat(a + 0, b + 0)) where b begins as a ends; likewise or(pad(a), pad(b)).

    The gradient of `split` is a sum of such pads. (-0 + 0 is +0, so the zeros stay to be added.)
    """
    a, b = n.src
    if a.op is not Op.PAD or b.op is not Op.PAD:
        return None
    apart = [i for i, pair in enumerate(zip(a.arg, b.arg)) if pair[0] != pair[1]]
    if len(apart) != 1:
        return None
    (i,) = apart
    if a.arg[i][0] > b.arg[i][0]:
        a, b = b, a
    x, y = a.src[0], b.src[0]
    (start, _, gap), (middle, end, gap_b) = a.arg[i], b.arg[i]
    if gap or gap_b or start + x.shape[i] != middle:
        return None
    parts = [p for z in (x, y) for p in (z.src if z.op is Op.CAT and z.arg == i else (z,))]
    parts = list(map(_plus_zero, parts)) if n.op is Op.ADD else parts
    joined = ir.cat(parts, i)
    if all(p.op is Op.CONST and p.arg is True for p in parts):
        joined = ir.const(True, BOOL, joined.shape)
    spec = [(start, end, 0) if k == i else s for k, s in enumerate(a.arg)]
    return ir.pad(joined, spec) if any(s != (0, 0, 0) for s in spec) else joined


def _plus_zero(n: Node) -> Node:
    """``n + 0``, once."""
    if n.dtype.kind != "f" or (n.op is Op.ADD and any(_is(s, 0.0) for s in n.src)):
        return n
    return Node(Op.ADD, (n, ir.const(0.0, n.dtype, n.shape)), None, n.shape, n.dtype)


def sum_of(n: Node) -> Node | None:
    """The rules of add."""
    return plus_minus_zero(n) or side_by_side(n)


def union(n: Node) -> Node | None:
    """The rules of or."""
    return truth(n) or (side_by_side(n) if n.dtype is BOOL else None)


RULES: Final[dict[Op, Rule]] = {
    Op.MUL: times_one, Op.DIV: over_one, Op.SUB: minus_zero, Op.ADD: sum_of, Op.NEG: twice, Op.NOT: twice,
    Op.MAX: same, Op.MIN: same, Op.AND: truth, Op.OR: union, Op.WHERE: choice, Op.CAST: there_and_back,
    Op.RESHAPE: reshaped, Op.PERMUTE: permuted, Op.EXPAND: expanded, Op.FLIP: flipped, Op.SHRINK: cut_out,
    Op.SKEW: unskewed, Op.REDUCE_MAX: surely,
}  # fmt: skip


def simplify(n: Node) -> Node:
    """The simplest node known to be equal to `n` bit for bit; its sources are simplified already."""
    rule = RULES.get(n.op)
    return n if rule is None else rule(n) or n
