"""cbrt: x = 2^3q w with w in [1, 8), and w^(-1/3) by polynomial and Newton's method, without a division."""

from __future__ import annotations

from typing import Final

from .builder import Builder, Val
from .number import SPECS, Num, fma, horner

# w^(-1/3) on [1, 8), of degree 5: relative error 2^-8.4, which each step of Newton's method doubles in bits
_START: Final = (
    1.4247649908065796,
    -0.5964818000793457,
    0.2037312090396881,
    -0.038589589297771454,
    0.0036937843542546034,
    -0.00013931533612776548,
)
_STEPS: Final = {32: 1, 64: 2}
_OFFSET: Final = {32: 2, 64: 0}  # makes the exponent's bias a multiple of 3


def cbrt(b: Builder, v: Val) -> Val:
    """Cube root. The last step divides what y³ lacks of w, computed exactly but for one rounding, by 3 y²."""
    x = Num(b, v)
    fraction, bias = SPECS[v.ty.bits]
    offset = _OFFSET[v.ty.bits]
    up = (fraction // 3 + 1) * 3
    size = x.abs()
    small = size.lt(2.0 ** (1 - bias))
    bits = small.where(size * 2.0**up, size).bits()
    third = ((bits >> fraction) + offset) * 43691 >> 17  # a third, rounded down, of any exponent
    w = (bits - ((third * 3 - (offset + bias)) << fraction)).real()
    r = horner(w, _START)
    for _ in range(_STEPS[v.ty.bits]):
        r = fma(fma(w * r, -(r * r), 1.0), r * (1.0 / 3.0), r)
    square = r * r
    y = w * square
    y2 = y * y
    y2_low = fma(y, y, -y2)
    lack = fma(-y2, y, w) - y2_low * y
    y = fma(lack, square * (1.0 / 3.0), y)
    power = third + (bias - (bias + offset) // 3) - small.where(third.like(up // 3), 0)
    y = y * (power << fraction).real()
    usual = (size.bits() - 1).below(x.like(float("inf")).bits() - 1)
    return usual.where(y.sign_of(x), x).v
