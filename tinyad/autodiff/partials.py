"""The one table of local derivatives, read by reverse and forward mode alike: a row for every operation.

An operation's derivative is ``dy = L(Σ_i w_i · dx_i)`` with elementwise weights w_i and a linear map L. There are
three kinds of row:

- *scalar* operations have weights only (`PARTIALS`): ∂y/∂x_i as IR;
- *linear* operations have a map only (`ADJOINT`): the map and its transpose;
- *weighted reductions* have both: `WEIGHTS` and `ADJOINT` (max and min, prod, scans, scatters).

A weight is exact zero or one, a node, or selects: `When` it does not hold the derivative is zero whatever d is. A plain
node may be infinite or NaN somewhere (if its operands are); `Finite` promises that it never is. Rows call constructors
of `ir` only, so that derivatives of derivatives need nothing new.

Kinks: binary max and min split ties ½ : ½, reductions evenly; abs'(0) = 0; steps have derivative zero; a NaN operand of
max or min takes the derivative; sqrt'(0) = cbrt'(0) = ∞.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import Enum
from typing import Final, NamedTuple

from .. import ir
from ..ir import BOOL, FLOAT16, FLOAT32, INT32, INT64, Node, Op
from .special import digamma
from .sums import shrunk, summed
from .support import total


# kinds of weight --------------------------------------------------------------------------------------------------
class Unit(Enum):
    """A weight known without computing anything."""

    ZERO = 0
    ONE = 1
    MINUS_ONE = -1


ZERO, ONE, MINUS_ONE = Unit.ZERO, Unit.ONE, Unit.MINUS_ONE


class Finite(NamedTuple):
    """The weight d, never infinite or NaN, whatever the operands."""

    d: Node


class Over(NamedTuple):
    """The weight 1/d, applied as a division: one operation less, rounded once less."""

    d: Node


class When(NamedTuple):
    """The weight d where `cond` holds (does not hold, if `negate`), and zero elsewhere by selection."""

    cond: Node
    d: Unit | Node | Finite | Over
    negate: bool = False


Partial = Unit | Node | Finite | Over | When
Partials = tuple[Partial, ...]


def _like(a: Node, value: float) -> Node:
    """`value`, exact in every float type, in the shape and dtype of `a`."""
    return Node(Op.CONST, (), value, a.shape, a.dtype)


# weights of scalar operations ---------------------------------------------------------------------------------------
def _wins(a: Node, y: Node) -> Node:
    """Where `a` is the extremum y, or NaN."""
    won = ir.eq(a, y)
    if a.op is Op.CONST and not math.isnan(a.arg):
        return won
    return ir.or_(won, ir.not_(ir.eq(a, a)))


def _extremum(y: Node, a: Node, b: Node) -> Partials:
    """1 for the winner, ½ for both at a tie; of a number and a NaN, the NaN wins."""
    won_a, won_b = _wins(a, y), _wins(b, y)
    share = Finite(ir.where(ir.and_(won_a, won_b), _like(a, 0.5), _like(a, 1.0)))
    return When(won_a, share), When(won_b, share)


def _abs(_: Node, a: Node) -> Partials:
    """The sign, and 0 at 0."""
    sign = ir.where(ir.lt(a, _like(a, 0.0)), _like(a, -1.0), _like(a, 1.0))
    return (When(ir.eq(a, _like(a, 0.0)), Finite(sign), negate=True),)


def _pow(y: Node, a: Node, b: Node) -> Partials:
    """``b·a^(b-1)`` and ``y·log a``; 0 at a = b = 0, and ∂/∂b = 0 where a = 0 <= b.

    The selected exponents and arguments keep a^2, a^1 and a^0 right at a = 0 in every order. A CONST exponent is not
    a variable of the second derivative.
    """
    zero, one = _like(a, 0.0), _like(a, 1.0)
    at_zero = ir.eq(a, zero)
    if b.op is Op.CONST and b.arg != 0.0:
        lower = a if b.arg == 2.0 else ir.pow_(a, ir.const(b.arg - 1.0, b.dtype, b.shape))
        base: Partial = ONE if b.arg == 1.0 else ir.mul(b, lower)
    else:
        corner = ir.and_(at_zero, ir.eq(b, zero))
        base = When(corner, ir.mul(b, ir.pow_(a, ir.where(corner, one, ir.sub(b, one)))), negate=True)
    flat = ir.and_(at_zero, ir.not_(ir.lt(b, zero)))
    return base, When(flat, ir.mul(y, ir.log(ir.where(flat, one, a))), negate=True)


def _atan2(_: Node, a: Node, b: Node) -> Partials:
    """``(b, -a) / (a² + b²)``, 0 at the origin."""
    square = ir.add(ir.mul(a, a), ir.mul(b, b))
    origin = ir.eq(square, _like(a, 0.0))
    safe = ir.where(origin, _like(a, 1.0), square)
    return When(origin, ir.div(b, safe), negate=True), When(origin, ir.neg(ir.div(a, safe)), negate=True)


def _scaled(factor: float, a: Node) -> Node:
    return ir.mul(ir.const(factor, a.dtype, a.shape), a)


def _gauss(factor: float, a: Node) -> Partials:
    """``factor · 2/√π · exp(-a²)``"""
    return (_scaled(factor * 2.0 / math.sqrt(math.pi), ir.exp(ir.neg(ir.mul(a, a)))),)


def _cosine(a: Node) -> Node:
    """The cosine of the angle whose sine is a: √((1 - a)(1 + a))."""
    return ir.sqrt(ir.mul(ir.sub(_like(a, 1.0), a), ir.add(_like(a, 1.0), a)))


def _flat(*nodes: Node) -> Partials:
    """Piecewise constant, or not a float."""
    return (ZERO,) * (len(nodes) - 1)


PARTIALS: Final[dict[Op, Callable[..., Partials]]] = {  # (y, *src) -> ∂y/∂src_i
    # unary
    Op.NEG: lambda *_: (MINUS_ONE,),
    Op.ABS: _abs,
    Op.EXP: lambda y, _: (y,),
    Op.LOG: lambda _, a: (Over(a),),
    Op.EXPM1: lambda _, a: (ir.exp(a),),  # y + 1 would lose all digits for a << 0
    Op.LOG1P: lambda _, a: (Over(ir.add(a, _like(a, 1.0))),),
    Op.LOG2: lambda _, a: (Over(_scaled(math.log(2.0), a)),),
    Op.SQRT: lambda y, _: (Over(ir.add(y, y)),),
    Op.CBRT: lambda y, _: (Over(_scaled(3.0, ir.mul(y, y))),),
    Op.SIN: lambda _, a: (ir.cos(a),),
    Op.COS: lambda _, a: (ir.neg(ir.sin(a)),),
    Op.TAN: lambda y, _: (ir.add(ir.mul(y, y), _like(y, 1.0)),),
    Op.SINH: lambda _, a: (ir.cosh(a),),
    Op.COSH: lambda _, a: (ir.sinh(a),),
    Op.TANH: lambda y, _: (ir.sub(_like(y, 1.0), ir.mul(y, y)),),
    Op.ASIN: lambda _, a: (Over(_cosine(a)),),
    Op.ACOS: lambda _, a: (Over(ir.neg(_cosine(a))),),
    Op.ATAN: lambda _, a: (Over(ir.add(ir.mul(a, a), _like(a, 1.0))),),
    Op.ERF: lambda _, a: _gauss(1.0, a),
    Op.ERFC: lambda _, a: _gauss(-1.0, a),
    Op.LGAMMA: lambda _, a: (digamma(a),),
    Op.FLOOR: _flat,
    Op.CEIL: _flat,
    Op.TRUNC: _flat,
    Op.ROUND: _flat,
    Op.NOT: _flat,
    Op.BITCAST: _flat,
    # binary, and where
    Op.ADD: lambda *_: (ONE, ONE),
    Op.SUB: lambda *_: (ONE, MINUS_ONE),
    Op.MUL: lambda _, a, b: (b, a),
    Op.DIV: lambda y, _, b: (Over(b), ir.neg(ir.div(y, b))),
    Op.IDIV: _flat,
    Op.MOD: lambda _, a, b: (ONE, ir.neg(ir.idiv(a, b))),  # from a = b·idiv(a, b) + mod(a, b)
    Op.POW: _pow,
    Op.MAX: _extremum,
    Op.MIN: _extremum,
    Op.ATAN2: _atan2,
    Op.LT: _flat,
    Op.EQ: _flat,
    Op.AND: _flat,
    Op.OR: _flat,
    Op.XOR: _flat,
    Op.SHL: _flat,
    Op.SHR: _flat,
    Op.WHERE: lambda _, c, *__: (ZERO, When(c, ONE), When(c, ONE, negate=True)),
    # marker
    Op.DETACH: _flat,
}


# pieces of the weighted rows ----------------------------------------------------------------------------------------
def shifted(a: Node, axis: int, by: int, fill: float = 0.0) -> Node:
    """``out[k] = a[k - by]`` along `axis` for by = ±1, `fill` at the end that is bared."""
    n = a.shape[axis]
    if n == 0:
        return a
    keep = [(0, m, 1) for m in a.shape]
    keep[axis] = (0, n - 1, 1) if by > 0 else (1, n, 1)
    part = ir.shrink(a, keep)
    bare = ir.const(fill, a.dtype, tuple(1 if i == axis else m for i, m in enumerate(a.shape)))
    return ir.cat([bare, part] if by > 0 else [part, bare], axis)


def positions(a: Node, axis: int) -> Node:
    """The index of each element along `axis`, in the shape of `a`."""
    n = a.shape[axis]
    line = ir.reshape(ir.iota(n, INT32 if n < 2**31 else INT64), tuple(n if i == axis else 1 for i in range(a.ndim)))
    return ir.expand(line, a.shape)


def _share(won: Node, a: Node, count: Callable[[Node], Node]) -> When:
    """1/n for each of n winners; counted in float32 at least."""
    wide = FLOAT32 if a.dtype is FLOAT16 else a.dtype
    each = ir.div(Node(Op.CONST, (), 1.0, a.shape, wide), count(ir.cast(won, wide)))
    return When(won, Finite(ir.cast(each, a.dtype)))


def _reduced_extremum(y: Node, a: Node) -> Partials:
    """1/n for each of the n elements equal to the extremum; NaNs if there are any."""
    won = _wins(a, ir.expand(y, a.shape))
    return (_share(won, a, lambda w: ir.expand(ir.sum_(w, y.arg), a.shape)),)


def _prod(y: Node, a: Node) -> Partials:
    """The product of all the other elements: exclusive prefix product × exclusive suffix product, no division."""
    if a.size == 0:
        return (ONE,)
    kept = [i for i in range(a.ndim) if i not in y.arg]
    order = (*kept, *y.arg)
    line = ir.permute(a, order)
    k = len(kept)
    flat = ir.reshape(line, (*line.shape[:k], math.prod(line.shape[k:])))
    before = shifted(ir.scan("prod", k, flat), k, 1, 1.0)
    after = ir.flip(shifted(ir.scan("prod", k, ir.flip(flat, (k,))), k, 1, 1.0), (k,))
    others = ir.reshape(ir.mul(before, after), line.shape)
    return (ir.permute(others, _inverse(order)),)


def _scan_weights(y: Node, *src: Node) -> Partials:
    """linrec ``y_k = a_k·y_{k-1} + b_k``: (y_{k-1}, 1). prod: y_{k-1} with y_{-1} = 1. The others are linear."""
    kind, axis = y.arg
    if kind == "linrec":
        return shifted(y, axis, 1), ONE
    return (shifted(y, axis, 1, 1.0) if kind == "prod" else ONE,) * len(src)


def _scatter_weights(y: Node, a: Node, idx: Node) -> Partials:
    """max, min: 1/n for each of n winners. set: the last writer of a place. sum: all."""
    kind, axis, size = y.arg
    if kind == "sum":
        return ONE, ZERO
    if kind == "set":
        j = positions(a, axis)
        return When(ir.eq(j, ir.gather(ir.scatter("max", j, idx, axis, size), idx, axis)), ONE), ZERO
    won = _wins(a, ir.gather(y, idx, axis))
    return _share(won, a, lambda w: ir.gather(ir.scatter("sum", w, idx, axis, size), idx, axis)), ZERO


WEIGHTS: Final[dict[Op, Callable[..., Partials]]] = {
    Op.PROD: _prod,
    Op.REDUCE_MAX: _reduced_extremum,
    Op.REDUCE_MIN: _reduced_extremum,
    Op.SCAN: _scan_weights,
    Op.SCATTER: _scatter_weights,
}


# linear maps ------------------------------------------------------------------------------------------------------
class Linear(NamedTuple):
    """A linear map of the first source: `forward` (t, y) and its transpose `reverse` (g, y).

    Both also take Booleans, the supports, for which + is or. `fills` says which of the two bares places that no
    element reaches ("f", "r"): there a support begins. A `weighted` map multiplies by values that may be infinite; it
    takes the support of its result, if there is one, to leave out what is multiplied by an exact zero.
    """

    forward: Callable[..., Node]
    reverse: Callable[..., Node]
    fills: str = ""
    weighted: bool = False


def _again(t: Node, y: Node) -> Node:
    """The operation `y` applied to `t`; valid by construction, so built without checks."""
    return Node(y.op, (t, *y.src[1:]), y.arg, y.shape, t.dtype)


def _inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(range(len(order)), key=order.__getitem__))


def _unexpand(g: Node, y: Node) -> Node:
    axes = [i for i, (m, n) in enumerate(zip(y.src[0].shape, y.shape, strict=True)) if m != n]
    return total(g, axes) if g.dtype is BOOL else summed(g, axes)


def _unpad(g: Node, y: Node) -> Node:
    spec = []
    for (lo, _, inner), n in zip(y.arg, y.src[0].shape, strict=True):
        spec.append((lo, lo + n + max(n - 1, 0) * inner, inner + 1))
    return shrunk(g, spec)


def _unshrink(g: Node, y: Node) -> Node:
    spec = []
    for (start, _, step), m, n in zip(y.arg, y.shape, y.src[0].shape, strict=True):
        spec.append((start, n - start - m - max(m - 1, 0) * (step - 1), step - 1) if m else (0, n, 0))
    return ir.pad(g, spec)


def _unskew(g: Node, y: Node) -> Node:
    i, k, d, off, _ = y.arg
    return ir.skew(g, i, k, -d, -off, y.src[0].shape[i])


def _collect(g: Node, idx: Node, axis: int, size: int) -> Node:
    """Each element of `g` added to the place it came from."""
    return ir.scatter("max" if g.dtype is BOOL else "sum", g, idx, axis, size)


def _cast(g: Node, dtype: ir.DType) -> Node:
    return g if g.dtype is BOOL else ir.cast(g, dtype)


def _running(g: Node, y: Node) -> Node:
    """The running sum, or the running or."""
    axis = y.arg[1]
    return ir.cast(ir.scan("max", axis, ir.cast(g, INT32)), BOOL) if g.dtype is BOOL else ir.scan("sum", axis, g)


def _backwards(run: Callable[[Node, Node], Node]) -> Callable[[Node, Node], Node]:
    return lambda g, y: ir.flip(run(ir.flip(g, (y.arg[1],)), y), (y.arg[1],))


def _recur(t: Node, y: Node, mask: Node | None = None) -> Node:
    """``t_k ← a_k·t_{k-1} + t_k``: the tangent of linrec, and of a running product, with a the first source."""
    if t.dtype is BOOL:
        return _running(t, y)
    axis = y.arg[1]
    a = y.src[0] if mask is None else _masked(y.src[0], shifted(mask, axis, 1))
    return ir.scan("linrec", axis, a, t)


def _recur_back(g: Node, y: Node, mask: Node | None = None) -> Node:
    """``λ_k = g_k + a_{k+1}·λ_{k+1}``: the transpose of `_recur`."""
    if g.dtype is BOOL:
        return _backwards(_running)(g, y)
    axis = y.arg[1]
    a = y.src[0] if mask is None else _masked(y.src[0], mask)
    after = ir.flip(shifted(a, axis, -1), (axis,))
    return ir.flip(ir.scan("linrec", axis, after, ir.flip(g, (axis,))), (axis,))


def _masked(a: Node, mask: Node) -> Node:
    return ir.where(mask, a, _like(a, 0.0))


def _latest(y: Node) -> Node:
    """For a running extremum: the index of the latest element that set or equalled it."""
    axis = y.arg[1]
    at = positions(y, axis)
    won = _wins(y.src[0], y)
    return ir.scan("max", axis, ir.where(won, at, Node(Op.CONST, (), 0, at.shape, at.dtype)))


def _shape_of_source(g: Node, y: Node) -> Node:
    return ir.reshape(g, y.src[0].shape)


_REDUCE = Linear(lambda t, y: total(t, y.arg), lambda g, y: ir.expand(g, y.src[0].shape))
_SAME = Linear(lambda t, _: t, lambda g, _: g)
_RECUR = Linear(_recur, _recur_back, weighted=True)
_WINNER = Linear(
    lambda t, y: ir.gather(t, _latest(y), y.arg[1]),
    lambda g, y: _collect(g, _latest(y), y.arg[1], y.shape[y.arg[1]]),
    "r",
)

SCANNED: Final[dict[str, Linear]] = {
    "sum": Linear(_running, _backwards(_running)),
    "prod": _RECUR,
    "linrec": _RECUR,
    "max": _WINNER,
    "min": _WINNER,
}

ADJOINT: Final[dict[Op, Linear | Callable[[Node], Linear]]] = {
    # reduce
    Op.SUM: _REDUCE,
    Op.PROD: _REDUCE,
    Op.REDUCE_MAX: _REDUCE,
    Op.REDUCE_MIN: _REDUCE,
    Op.SCAN: lambda y: SCANNED[y.arg[0]],
    Op.SCATTER: Linear(
        lambda t, y: _collect(t, y.src[1], *y.arg[1:]), lambda g, y: ir.gather(g, y.src[1], y.arg[1]), "f"
    ),
    # movement
    Op.RESHAPE: Linear(_again, _shape_of_source),
    Op.PERMUTE: Linear(_again, lambda g, y: ir.permute(g, _inverse(y.arg))),
    Op.EXPAND: Linear(_again, _unexpand),
    Op.PAD: Linear(_again, _unpad, "f"),
    Op.SHRINK: Linear(_again, _unshrink, "r"),
    Op.FLIP: Linear(_again, lambda g, y: ir.flip(g, y.arg)),
    Op.SKEW: Linear(_again, _unskew, "fr"),
    Op.GATHER: Linear(_again, lambda g, y: _collect(g, y.src[1], y.arg, y.src[0].shape[y.arg]), "r"),
    # the same value
    Op.CAST: Linear(lambda t, y: _cast(t, y.dtype), lambda g, y: _cast(g, y.src[0].dtype)),
    Op.FENCE: _SAME,
    Op.INPUT: _SAME,
}


def cat_part(g: Node, y: Node, start: int, stop: int) -> Node:
    """CAT has a map per source; this is the transpose of the one whose source lies at start:stop of the axis."""
    spec = [(0, n, 1) for n in y.shape]
    spec[y.arg] = (start, stop, 1)
    return ir.shrink(g, spec)


SPECIAL: Final = frozenset({Op.CAT, Op.CUSTOM, Op.CALL})
"""Operations whose rule is in the drivers: a map per source; the user's rule; no rule."""
VARIABLE: Final = frozenset({Op.BUFFER, Op.CONST, Op.IOTA})
"""Leaves without sources."""
BLOCKED: Final = frozenset(op for op, row in PARTIALS.items() if row is _flat)
"""Operations through which no derivative passes."""
