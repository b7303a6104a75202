"""lgamma: the logarithm of |gamma(x)|, in double for float32 too.

For x <= 8, gamma(x) = gamma(2 + u) times or divided by a product of x, x - 1, ..., with |u| <= 1/2, so that the zeros
at 1 and 2 are factors; for larger x Stirling's series; for x < 0 gamma(x) gamma(-x) = -pi / (x sin pi x).
"""

from __future__ import annotations

import math
from typing import Final

from .builder import Builder, Val
from .math_log import INFINITY, log
from .math_trig import sin_of_turns
from .number import Num, horner, rarely

# lgamma(2 + u) / u for |u| <= 1/2, of degree 19: relative error 2^-55
_NEAR_TWO: Final = (
    0.42278433509846713,
    0.3224670334241132,
    -0.06735230105319814,
    0.020580808427784925,
    -0.007385551028668393,
    0.002890510330713706,
    -0.0011927539119911906,
    0.0005096695256865375,
    -0.00022315475094754648,
    9.945749520696724e-05,
    -4.492634876391246e-05,
    2.0507408897084095e-05,
    -9.43847461265947e-06,
    4.373504072161947e-06,
    -2.044857206526183e-06,
    9.61051746159709e-07,
    -4.3049025911057917e-07,
    1.9667618250656017e-07,
    -1.3400865110087413e-07,
    6.915705481478493e-08,
)
# x (lgamma(x) - (x - 1/2) (log x - 1) - ln(2 pi)/2 + 1/2) in 1/x² for x >= 8, of degree 6: error of lgamma 2^-66
_STIRLING: Final = (
    0.08333333333333333,
    -0.0027777777777674385,
    0.0007936507864120737,
    -0.0005952358537722098,
    0.0008413923305701143,
    -0.0018864099310857863,
    0.004987797783990308,
)
_CONSTANT: Final = (math.log(2 * math.pi) - 1) / 2
_LARGE: Final = 8.0
_TINY: Final = 2.0**-60  # lgamma(x) is -log |x| below


def lgamma(b: Builder, v: Val) -> Val:
    """log |gamma(x)|; +inf at 0, -1, -2, ... and at both infinities."""
    x = Num(b, v)
    if v.ty.bits == 32:
        x = x.convert("fpext", "f", 64)
    a = x.abs()
    y = _of_size(a)
    reflected = rarely(x.lt(-_TINY), y, lambda: _reflected(a, y))
    return reflected.v if v.ty.bits == 64 else reflected.convert("fptrunc", "f", 32).v


def _of_size(a: Num) -> Num:
    """lgamma(a) for a >= 0."""
    large, below = a.gt(_LARGE), a.lt(1.5)
    near, product = a, a.like(1.0)
    for _ in range(int(_LARGE) - 2):
        down = near - 1.0
        again = near.gt(2.5)
        near, product = again.where(down, near), again.where(product * down, product)
    lowest = a.lt(0.5)
    u = below.where(lowest.where(a, a - 1.0), near - 2.0)
    product = below.where(lowest.where(a * (a + 1.0), a), product)
    logarithm = Num(a.b, log(a.b, large.where(a, product).v))
    inverse = 1.0 / a
    stirling = (a - 0.5) * (logarithm - 1.0) + (inverse * horner(inverse * inverse, _STIRLING) + _CONSTANT)
    return large.where(stirling, u * horner(u, _NEAR_TWO) + below.where(-logarithm, logarithm))


def _reflected(a: Num, y: Num) -> Num:
    """lgamma(-a) given y = lgamma(a)."""
    sine = sin_of_turns(a)
    poles = sine.eq(0.0) | a.eq(INFINITY)
    return poles.where(a.like(INFINITY), Num(a.b, log(a.b, (a.like(math.pi) / (a * sine)).v)) - y)
