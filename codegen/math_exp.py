"""exp, expm1, tanh and erf: one range reduction, one polynomial.

x = n ln 2 + r with |r| <= ln(2)/2. Adding 1.5·2^p (p the fraction's width) rounds n to an integer and leaves it in
the low bits of the sum, from where it is shifted into exponents. With ln 2 = HIGH + LOW and FMA, x - n HIGH is exact:
it is a multiple of the last place of HIGH and less than 1. Then e^r = 1 + r + r² P(r).

All coefficients of `codegen` were computed for it: Remez exchange in 50-digit arithmetic for the relative error of
the function, each rounded to the nearest number of the type (for the shortest polynomials one by one from the lowest,
the rest fitted again each time). Errors given are those of the rounded polynomial alone, in exact arithmetic;
`codegen.math.MAX_ULP` has those of the code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from . import avx512
from .builder import Builder, Val
from .number import SPECS, Num, fma, horner


@dataclass(frozen=True, slots=True)
class Exp:
    """Constants of one width. `lowest`, `highest`: beyond these e^x is surely 0 or infinite."""

    magic: float
    log2e: float
    high: float
    low: float
    lowest: float
    highest: float
    below_one: float  # e^-this is under a quarter of the last place of 1
    polynomial: tuple[float, ...]


EXP: Final = {
    # P, degree 4: relative error of expm1 2^-26.1
    32: Exp(
        1.5 * 2.0**23,
        1.4426950216293335,
        0.6931471824645996,
        -1.9046542121259336e-09,
        -104.0,
        89.0,
        20.0,
        (0.5, 0.16666539013385773, 0.04166661202907562, 0.008367126807570457, 0.0013917002361267805),
    ),
    # P, degree 10: 2^-61.7
    64: Exp(
        1.5 * 2.0**52,
        1.4426950408889634,
        0.6931471805599453,
        2.3190468138462996e-17,
        -750.0,
        710.0,
        40.0,
        (
            0.5,
            0.16666666666666677,
            0.0416666666666667,
            0.008333333333321579,
            0.0013888888888866984,
            0.00019841269886265213,
            2.480158736031564e-05,
            2.7557244062599836e-06,
            2.7557242927067567e-07,
            2.510909024420236e-08,
            2.0924401643510525e-09,
        ),
    ),
}


def reduce(x: Num, c: Exp) -> tuple[Num, Num]:
    """1.5·2^p + n, whose bits end in n, and r."""
    shifted = fma(x, c.log2e, c.magic)
    n = shifted - c.magic
    return shifted, fma(n, -c.low, fma(n, -c.high, x))


def exp(b: Builder, v: Val) -> Val:
    """e^x. The power of two is applied in two factors: results round once in the denormal range."""
    x = Num(b, v)
    c = EXP[v.ty.bits]
    fraction, bias = SPECS[v.ty.bits]
    x = x.at_most(c.highest).at_least(c.lowest)
    shifted, r = reduce(x, c)
    p = fma(r * r, horner(r, c.polynomial), r) + 1.0
    at_once = avx512.scale(b, p.v, (shifted - c.magic).v)
    if at_once is not None:
        return at_once
    n = shifted.bits()
    half = (n >> 1) << fraction
    rest = (n << fraction) - half
    return (p * (half + (bias << fraction)).real() * (rest + (bias << fraction)).real()).v


def scaled(x: Num, less: int = 0) -> tuple[Num, Num, Num, Num]:
    """s = 2^(n - less), r, r² and P(r): e^x = 2^less (s + s (r + r² P)). For x of which 2^(n - less) is normal."""
    c = EXP[x.ty.bits]
    fraction, bias = SPECS[x.ty.bits]
    shifted, r = reduce(x, c)
    s = ((shifted.bits() << fraction) + ((bias - less) << fraction)).real()
    return s, r, r * r, horner(r, c.polynomial)


def sum_with_error(a: Num, s: Num, r: Num, q: Num) -> Num:
    """a + s r + s q for |a| >= |s r| or a = 0, the first sum kept with its rounding error."""
    high = fma(s, r, a)
    return high + fma(s, q, fma(s, r, a - high))


def expm1(b: Builder, v: Val) -> Val:
    """e^x - 1 = (s - 1) + s (r + r² P(r)) with s = 2^n.

    Everything is computed halved, since 2^n overflows where e^x does not yet; tiny x are their own result.
    """
    x = Num(b, v)
    c = EXP[v.ty.bits]
    fraction, _ = SPECS[v.ty.bits]
    s, r, r2, p = scaled(x.at_most(c.highest).at_least(-c.below_one), less=1)
    half = sum_with_error(s - 0.5, s, r, r2 * p)
    return x.abs().lt(2.0 ** -(fraction + 2)).where(x, half + half).v


def tanh(b: Builder, v: Val) -> Val:
    """(1 - e) / (1 + e) with e = e^(-2|x|), with the sign of x. Tiny x are exact: 1 - e is then 2|x|."""
    x = Num(b, v)
    a = -x.abs()
    s, r, r2, p = scaled((a + a).at_least(-EXP[v.ty.bits].below_one))
    q = fma(r2, p, r)
    # In float32 the plain sum, which is two instructions shorter, stays below 2 ulp.
    difference = fma(s, q, s - 1.0) if v.ty.bits == 32 else sum_with_error(s - 1.0, s, r, r2 * p)
    return (difference / fma(s, q, s + 1.0)).sign_of(x).v


# erf = 1 - e^-q with q(a) = -ln erfc(a) = a + a S(a): S is smooth, and e^-q forgives what q lacks in digits as a
# grows, so that one polynomial serves from 0 to where erf rounds to 1, without a choice of intervals.
_ERF: Final = {
    # S of degree 10 on [0, 3.93]: relative error of erf 2^-31.7
    32: (
        3.93,
        (
            0.12837916612625122,
            0.6366198062896729,
            0.10277159512042999,
            -0.019119959324598312,
            -0.0002451845502946526,
            0.0017841490916907787,
            -0.0007233814685605466,
            0.00015565170906484127,
            -1.6603389667579904e-05,
            1.6443864581106027e-07,
            9.233887965365284e-08,
        ),
    ),
    # S of degree 24 on [0, 5.93]: 2^-57.5
    64: (
        5.93,
        (
            0.12837916709551256,
            0.6366197723675836,
            0.10277260330178872,
            -0.019128447005069465,
            -0.0002091946948525724,
            0.001696206385815471,
            -0.0005901255532197671,
            2.5878605333161735e-05,
            6.449185839000127e-05,
            -2.9724041915550046e-05,
            3.407259981769584e-06,
            2.8351457995710446e-06,
            -1.741552066252241e-06,
            3.3636789569242643e-07,
            1.3718008931150838e-07,
            -1.4176086522733097e-07,
            6.573301248636007e-08,
            -2.0962487824679178e-08,
            4.997661043409115e-09,
            -9.082142570594798e-10,
            1.248398010245656e-10,
            -1.2610886468318774e-11,
            8.845508222770716e-13,
            -3.8505067848788456e-14,
            7.834172217103003e-16,
        ),
    ),
}
# In the variable -|x| the odd coefficients change sign.
_ERF_NEGATED: Final = {
    bits: (cap, tuple(-c if k % 2 else c for k, c in enumerate(s))) for bits, (cap, s) in _ERF.items()
}


def erf(b: Builder, v: Val) -> Val:
    """The error function, as above."""
    x = Num(b, v)
    cap, polynomial = _ERF_NEGATED[v.ty.bits]
    a = (-x.abs()).at_least(-cap)
    s, r, r2, p = scaled(fma(a, horner(a, polynomial), a))
    return fma(s, fma(r2, p, r), s - 1.0).sign_of(x).v
