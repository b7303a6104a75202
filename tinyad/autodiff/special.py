"""digamma, the derivative of lgamma, composed of IR: its own derivatives are those of the composition."""

from __future__ import annotations

import math
from typing import Final

from .. import ir
from ..ir import FLOAT16, FLOAT32, Node, Op

_SHIFT: Final = 10
"""From here on the asymptotic series holds in float64."""
_SERIES: Final = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12, -3617 / 8160)
"""B_2k / 2k: ψ(z) = log z - 1/(2z) - Σ B_2k / (2k z^2k)."""


def _rising() -> tuple[int, ...]:
    """The coefficients of y (y + 1) ... (y + 9), lowest first."""
    out = [1]
    for k in range(_SHIFT):
        out = [k * a + b for a, b in zip([*out, 0], [0, *out])]
    return tuple(out)


_PRODUCT: Final = _rising()
_DERIVATIVE: Final = tuple(k * c for k, c in enumerate(_PRODUCT))[1:]


def _like(a: Node, value: float) -> Node:
    return Node(Op.CONST, (), value, a.shape, a.dtype)


def _polynomial(x: Node, coefficients: tuple[float, ...]) -> Node:
    *rest, last = coefficients
    y = ir.const(last, x.dtype, x.shape)
    for c in reversed(rest):
        y = ir.add(ir.mul(y, x), ir.const(c, x.dtype, x.shape))
    return y


def digamma(a: Node) -> Node:
    """ψ(a) = Γ'(a) / Γ(a): -inf at 0, NaN at -1, -2, ...

    a < 1/2 is reflected, ψ(a) = ψ(1 - a) - π cos πa / sin πa; y < 10 is moved up, ψ(y) = ψ(y + 10) - Σ 1/(y + k), the
    sum being P'/P for P = y (y + 1) ... (y + 9). Selections depend on `a` alone, and both sides of each are ψ: so the
    derivatives of this are those of ψ (tested to the third; each loses about one decimal digit).
    """
    if a.dtype is FLOAT16:
        return ir.cast(digamma(ir.cast(a, FLOAT32)), FLOAT16)
    one = _like(a, 1.0)
    left = ir.lt(a, _like(a, 0.5))
    y = ir.where(left, ir.sub(one, a), a)
    short = ir.lt(y, ir.const(_SHIFT, a.dtype, a.shape))
    low = ir.where(short, y, one)
    moved = ir.div(_polynomial(low, _DERIVATIVE), _polynomial(low, _PRODUCT))
    z = ir.where(short, ir.add(y, ir.const(_SHIFT, a.dtype, a.shape)), y)
    inverse = ir.div(one, z)
    square = ir.mul(inverse, inverse)
    tail = ir.add(ir.mul(_like(a, 0.5), inverse), ir.mul(square, _polynomial(square, _SERIES)))
    whole = ir.sub(ir.sub(ir.log(z), tail), ir.where(short, moved, _like(a, 0.0)))
    turns = ir.where(left, ir.sub(a, ir.round_(a)), ir.const(0.25, a.dtype, a.shape))
    angle = ir.mul(ir.const(math.pi, a.dtype, a.shape), turns)
    cotangent = ir.div(ir.mul(ir.const(math.pi, a.dtype, a.shape), ir.cos(angle)), ir.sin(angle))
    pole = ir.and_(ir.lt(a, _like(a, 0.0)), ir.eq(turns, _like(a, 0.0)))
    reflected = ir.where(pole, ir.const(math.nan, a.dtype, a.shape), cotangent)
    return ir.sub(whole, ir.where(left, reflected, _like(a, 0.0)))
