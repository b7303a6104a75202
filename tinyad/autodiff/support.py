"""Where a cotangent or a tangent may be other than zero: lazy Boolean arrays, and the product that honours them.

A (co)tangent is a pair (g, support). Outside its support g is exactly zero *by construction*; None means "everywhere".
Where the next local derivative d can be infinite or NaN, ``g·d`` is built as ``where(support, g·d, 0)``: a branch that
was not taken contributes 0 and not 0·∞. The value of g is never tested. A support is described when it arises and built
only if some d asks for it.

Imports `ir` only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from .. import ir
from ..axes import Axes, repeated
from ..ir import BOOL, Node, Op, Shape


class Support:
    """A Boolean array not built yet: `make` of the arrays of `parents`. Shared, and built at most once."""

    __slots__ = ("make", "node", "parents")

    def __init__(self, make: Callable[..., Node], *parents: Support) -> None:
        self.make = make
        self.parents = parents
        self.node: Node | None = None

    def build(self) -> Node:
        """The Boolean node; iterative, for supports narrowed a hundred thousand times."""
        stack = [self]
        while stack:
            s = stack[-1]
            if s.node is None:
                pending = [p for p in s.parents if p.node is None]
                if pending:
                    stack.extend(pending)
                    continue
                s.node = s.make(*[p.node for p in s.parents])
                s.parents = ()
            stack.pop()
        assert self.node is not None
        return self.node


Flow = tuple[Node, "Support | None"]
"""A cotangent or tangent and its support."""


def true(shape: Shape) -> Node:
    return Node(Op.CONST, (), True, shape, BOOL)


def begin(shape: Shape, move: Callable[[Node], Node], s: Support | None) -> Support:
    """The support after a movement that fills with zeros: the moved `s`, or the places that are not fill."""
    return Support(lambda: move(true(shape))) if s is None else moved(move, s)


def moved(move: Callable[[Node], Node], s: Support) -> Support:
    """The support after a linear operation, applied to Booleans."""
    return Support(lambda a: raise_expand(move(a)), s)


def narrow(s: Support | None, cond: Node, negate: bool) -> Support:
    """The part of `s` where `cond` holds (does not hold, if `negate`)."""
    if s is None:
        return Support(lambda: ir.not_(cond) if negate else cond)
    return Support(lambda a: ir.and_(a, ir.not_(cond) if negate else cond), s)


def either(flows: Sequence[Flow]) -> Support | None:
    """The support of a sum: the union, everywhere if one of them is."""
    unique: list[Support] = []
    for _, s in flows:
        if s is None:
            return None
        if s not in unique[:8]:
            unique.append(s)
    return unique[0] if len(unique) == 1 else Support(lambda *a: balanced(_union, a), *unique)


def _union(a: Node, b: Node) -> Node:
    """``a or b``; everywhere if one of them is."""
    return next((x for x in (a, b) if x.op is Op.CONST and x.arg is True), None) or ir.or_(a, b)


def balanced(join: Callable[[Node, Node], Node], parts: Sequence[Node]) -> Node:
    """`parts` joined pairwise: depth log n, in order."""
    level = list(parts)
    while len(level) > 1:
        pairs = [join(a, b) for a, b in zip(level[::2], level[1::2], strict=False)]
        level = [*pairs, level[-1]] if len(level) % 2 else pairs
    return level[0]


def accumulate(flows: Sequence[Flow]) -> Flow:
    """The sum of several contributions to one node."""
    if len(flows) == 1:
        return flows[0]
    return balanced(ir.add, [g for g, _ in flows]), either(flows)


# Booleans through linear operations: + is or, and only shape matters ------------------------------------------------
def total(a: Node, axes: Iterable[int]) -> Node:
    """SUM, or the union if `a` is a support."""
    return any_(a, tuple(axes)) if a.dtype is BOOL else ir.sum_(a, axes)


def any_(a: Node, axes: tuple[int, ...]) -> Node:
    """OR over `axes`, pushed below the movement that `a` ends with, so that a support is never larger than need be.

    Without this the support of a convolution's operand would cost as much as the convolution.
    """
    axes = tuple(i for i in axes if a.shape[i] != 1)
    if not axes:
        return a
    shape = tuple(1 if i in axes else n for i, n in enumerate(a.shape))
    if a.op is Op.CONST and 0 not in a.shape:
        return Node(Op.CONST, (), a.arg, shape, BOOL)
    if not a.src:
        return ir.reduce(Op.REDUCE_MAX, a, axes)
    if a.op is Op.EXPAND and 0 not in a.shape:
        return ir.expand(any_(a.src[0], axes), shape)
    if a.op is Op.PERMUTE:
        return ir.permute(any_(a.src[0], tuple(a.arg[i] for i in axes)), a.arg)
    if a.op is Op.RESHAPE and (kept := _unsqueezed(a)) is not None:
        return ir.reshape(any_(a.src[0], tuple(kept[i] for i in axes)), shape)
    if a.op is Op.SCATTER and a.arg[1] in axes:  # every update lands somewhere: indices are checked
        return any_(any_(a.src[0], (a.arg[1],)), axes)
    if a.op in _BY_AXIS:
        touched = _touched(a)
        free = tuple(i for i in axes if i not in touched)
        if free:
            return any_(_again(a, any_(a.src[0], free)), tuple(i for i in axes if i in touched))
    return ir.reduce(Op.REDUCE_MAX, a, axes)


def _unsqueezed(a: Node) -> dict[int, int] | None:
    """The axes of RESHAPE `a` that are not of size 1, and which ones of its source they are; None if it does more."""
    new, old = ([i for i, n in enumerate(x.shape) if n != 1] for x in (a, a.src[0]))
    same = [a.shape[i] for i in new] == [a.src[0].shape[i] for i in old]
    return dict(zip(new, old, strict=True)) if same else None


def raise_expand(a: Node) -> Node:
    """``move(expand(x)) -> expand(move(x))`` for a support `a`, where the move leaves the expanded axes alone."""
    if not a.src or not a.src[0].src:
        return a
    if a.op is Op.PERMUTE and a.src[0].op is Op.EXPAND:
        return ir.expand(ir.permute(a.src[0].src[0], a.arg), a.shape)
    if a.op not in _BY_AXIS or a.src[0].op is not Op.EXPAND:
        return a
    wide, touched = a.src[0], _touched(a)
    core = wide.src[0]
    apart = [i for i, (m, n) in enumerate(zip(core.shape, wide.shape, strict=True)) if m != n and i not in touched]
    if not apart:
        return a
    partly = tuple(m if i in apart else n for i, (m, n) in enumerate(zip(core.shape, wide.shape, strict=True)))
    return ir.expand(_again(a, ir.expand(core, partly)), a.shape)


_BY_AXIS = frozenset({Op.PAD, Op.SHRINK, Op.FLIP, Op.SKEW})


def _touched(a: Node) -> set[int]:
    """The axes that a movement in `_BY_AXIS` does not leave alone."""
    if a.op is Op.SKEW:
        return {a.arg[0], a.arg[1]}
    if a.op is Op.FLIP:
        return set(a.arg)
    trivial = (0, 0, 0)
    if a.op is Op.PAD:
        return {i for i, spec in enumerate(a.arg) if spec != trivial}
    return {i for i, (spec, n) in enumerate(zip(a.arg, a.src[0].shape, strict=True)) if spec != (0, n, 1)}


def _again(a: Node, x: Node) -> Node:
    """The movement `a` of `x`, whose untouched axes may have other sizes."""
    if a.op is Op.SKEW:
        return ir.skew(x, *a.arg)
    if a.op is Op.FLIP:
        return ir.flip(x, a.arg)
    if a.op is Op.PAD:
        return ir.pad(x, a.arg)
    touched = _touched(a)
    return ir.shrink(x, [s if i in touched else (0, n, 1) for i, (s, n) in enumerate(zip(a.arg, x.shape, strict=True))])


# what is known of an operand without computing it -------------------------------------------------------------------
_PLAIN = frozenset({Op.RESHAPE, Op.PERMUTE, Op.EXPAND, Op.SHRINK, Op.FLIP, Op.PAD, Op.SKEW, Op.DETACH, Op.FENCE})


def finite(n: Node) -> bool:
    """True if no element can be infinite or NaN: a moved finite constant, or integers cast to float."""
    while n.op in _PLAIN and n.src:
        n = n.src[0]
    if n.op is Op.CONST:
        return math.isfinite(n.arg)
    return n.op is Op.CAST and bool(n.src) and n.src[0].dtype.kind in "biu" and n.dtype.itemsize > 2


def contraction(n: Node) -> bool:
    """True if MUL `n` multiplies operands each broadcast along an axis the other is not, as matmul and conv do.

    There 0·b may stand for a masked term (the licence of contractions), so that gradients of contractions are again
    plain SUM(MUL(·, ·)).
    """
    memo: dict[int, Axes] = {}
    a, b = (repeated(s, memo) for s in n.src)
    return bool(a - b) and bool(b - a)
