"""exp, expm1, tanh, erf and erfc: one range reduction, one polynomial; sinh and cosh: the same reduction.

x = n ln 2 + r with |r| <= ln(2)/2. Adding 1.5·2^p (p the fraction's width) rounds n to an integer and leaves it in
the low bits of the sum, from where it is shifted into exponents. With ln 2 = HIGH + LOW and FMA, x - n HIGH is exact:
it is a multiple of the last place of HIGH and less than 1. Then e^r = 1 + r + r² P(r). In exp itself n counts eighths:
its last three bits choose a power of two from a table, and P is shorter. (The others need 2^n without an error.)

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
from .lookup import COUNT, lookup
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
    eighth: tuple[float, ...]  # P for |r| <= ln(2)/16


EXP: Final = {
    # P, degree 4: relative error of expm1 2^-26.1; in eighths degree 1, of exp 2^-25.2
    32: Exp(
        1.5 * 2.0**23,
        1.4426950216293335,
        0.6931471824645996,
        -1.9046542121259336e-09,
        -104.0,
        89.0,
        20.0,
        (0.5, 0.16666539013385773, 0.04166661202907562, 0.008367126807570457, 0.0013917002361267805),
        (0.500064492225647, 0.1666685789823532),
    ),
    # P, degree 10: 2^-61.7; in eighths 5, 2^-58.2
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
        (
            0.5000000000000296,
            0.16666666666663726,
            0.04166666657011067,
            0.008333333371114995,
            0.0013889780501531728,
            0.00019840565824694845,
        ),
    ),
}
EIGHTHS: Final = (  # 2^(k/8)
    1.0,
    1.0905077326652577,
    1.189207115002721,
    1.2968395546510096,
    1.4142135623730951,
    1.5422108254079407,
    1.681792830507429,
    1.8340080864093424,
)
LARGEST: Final = 0.0625  # more than |r| in eighths


def reduce(x: Num, c: Exp, parts: int = 1) -> tuple[Num, Num]:
    """1.5·2^p + n, whose bits end in n, and r; with n a multiple of 1 / parts, bits that end in n parts."""
    magic = c.magic / parts
    shifted = fma(x, c.log2e, magic)
    n = shifted - magic
    return shifted, fma(n, -c.low, fma(n, -c.high, x))


def exp(b: Builder, v: Val) -> Val:
    """e^x. The power of two is applied in two factors: results round once in the denormal range.

    Where one instruction does that, and makes 0, infinity and NaN of any n that is not small, x need not be bounded
    from both sides: it is enough that r is small where it is of no account.
    """
    x = Num(b, v)
    c = EXP[v.ty.bits]
    direct = avx512.serves(b, v.ty)
    shifted, r = reduce(x if direct else x.at_most(c.highest).at_least(c.lowest), c, COUNT)
    if direct:
        r = Num(b, avx512.bounded(b, r.v, x.like(LARGEST).v))
    power = lookup(EIGHTHS, shifted.bits())
    return _times_power(fma(power, fma(r * r, horner(r, c.eighth), r), power), shifted, COUNT).v


def _times_power(y: Num, shifted: Num, parts: int = 1) -> Num:
    """y 2^n for the n of `reduce`, rounded down to an integer."""
    at_once = avx512.scale(y.b, y.v, (shifted - EXP[y.ty.bits].magic / parts).v)
    if at_once is not None:
        return Num(y.b, at_once)
    fraction, bias = SPECS[y.ty.bits]
    n = shifted.bits() >> parts.bit_length() - 1
    half = (n >> 1) << fraction
    rest = (n << fraction) - half
    return y * (half + (bias << fraction)).real() * (rest + (bias << fraction)).real()


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


# With e^r = cosh r + sinh r, sinh(r + n ln 2) and cosh(r + n ln 2) are sums of products of sinh r, cosh r - 1 and
# (2^n ± 2^-n)/2 (with its rounding error), none of which cancel. For |r| <= ln(2)/2, sinh r = r + r³ P(r²) and
# cosh r - 1 = r² Q(r²).
_HYPERBOLIC: Final = {
    # P and Q of degree 2: relative errors of sinh and cosh 2^-34.3, 2^-33.2
    32: (
        (
            0.1666666716337204,
            0.008333174511790276,
            0.00019975060422439128,
        ),
        (
            0.5,
            0.041666459292173386,
            0.0013935413444414735,
        ),
    ),
    # of degree 5: 2^-59.7, 2^-64.7
    64: (
        (
            0.16666666666666666,
            0.008333333333333337,
            0.00019841269841253334,
            2.755731926497382e-06,
            2.5052056954153945e-08,
            1.6090773707197603e-10,
        ),
        (
            0.5,
            0.04166666666666671,
            0.001388888888886394,
            2.4801587363392162e-05,
            2.7557241827219955e-07,
            2.092442477469189e-09,
        ),
    ),
}
_LESS: Final = 4  # the powers of two are made 2^4 times too small, since they overflow before sinh and cosh do


def _hyperbolic(x: Num) -> tuple[Num, Num, Num, Num]:
    """2^n / 2^4 and 2^-n / 2^4, sinh r and cosh r - 1 for |x| = r + n ln 2."""
    c = EXP[x.ty.bits]
    fraction, bias = SPECS[x.ty.bits]
    shifted, r = reduce(x.abs().at_most(c.highest + 2.0), c)
    n = shifted.bits() << fraction
    one = (bias - _LESS) << fraction
    odd, even = _HYPERBOLIC[x.ty.bits]
    z = r * r
    return (
        (n + one).real(),
        (n.like(one) - n).at_least(0).real(),
        fma(r * z, horner(z, odd), r),
        z * horner(z, even),
    )


def sinh(b: Builder, v: Val) -> Val:
    """Hyperbolic sine; tiny x are their own result."""
    x = Num(b, v)
    up, down, s, c = _hyperbolic(x)
    half = up - down
    y = half + fma(up + down, s, fma(half, c, (up - half) - down))
    tiny = x.abs().lt(2.0 ** -(SPECS[v.ty.bits][0] // 2 + 1))
    return tiny.where(x, (y * 2.0 ** (_LESS - 1)).sign_of(x)).v


def cosh(b: Builder, v: Val) -> Val:
    """Hyperbolic cosine."""
    up, down, s, c = _hyperbolic(Num(b, v))
    half = up + down
    return ((half + fma(up - down, s, fma(half, c, (up - half) + down))) * 2.0 ** (_LESS - 1)).v


# (1 + 2a) e^(a²) erfc(a) = 1 + u H(u - 1) with u = 2a / (a + k), for 0 <= a <= cap; beyond, erfc rounds to 0.
_ERFC: Final = {  # k, cap, H
    # degree 9: relative error 2^-26.9
    32: (
        3.0,
        10.5,
        (
            0.25300806760787964,
            -0.3886291980743408,
            0.34106671810150146,
            -0.2114202380180359,
            0.09214992076158524,
            -0.023854542523622513,
            5.3253057558322325e-05,
            0.0025121031794697046,
            -0.0005042831762693822,
            -0.0002654530107975006,
        ),
    ),
    # degree 22: 2^-56.2
    64: (
        4.0,
        27.5,
        (
            0.2329951186255525,
            -0.37261623546611505,
            0.3879958875687347,
            -0.3198988333140391,
            0.21885976727774017,
            -0.12512693227949337,
            0.05879656646715992,
            -0.02162905092800561,
            0.005431316871532694,
            -0.000399346908458292,
            -0.000358426389537653,
            0.00015916977507657144,
            -8.54805314728961e-06,
            -1.5851430974522388e-05,
            4.629236952523318e-06,
            1.0810577651718188e-06,
            -7.868383930640182e-07,
            -3.9262023693126024e-08,
            1.1324641309277904e-07,
            -2.8244264881843156e-09,
            -1.4521525017863928e-08,
            4.4491821397126593e-10,
            1.1817166266630918e-09,
        ),
    ),
}


def erfc(b: Builder, v: Val) -> Val:
    """1 - erf x with all its digits: e^(-a²) g / (1 + 2a) for a = |x| and g as above; 2 minus that for x < 0.

    Rounding errors that count are carried along: of u's divisor into u; of a², g and the quotient into the last sum.
    """
    x = Num(b, v)
    k, cap, polynomial = _ERFC[v.ty.bits]
    c = EXP[v.ty.bits]
    a = x.abs().at_most(cap)
    twice = a + a
    divisor = a + k
    inverse = 1.0 / divisor
    u = twice * inverse
    u = fma(fma(-u, a - (divisor - k), fma(-u, divisor, twice)), inverse, u)
    rest = u * horner(u - 1.0, polynomial)
    g = rest + 1.0
    divisor = twice + 1.0
    part = divisor - 1.0
    divisor_low = (twice - part) - (divisor - part - 1.0)
    inverse = 1.0 / divisor
    q = g * inverse
    q_low = (fma(-q, divisor_low, fma(-q, divisor, g)) + (rest - (g - 1.0))) * inverse
    square = a * a
    shifted, r = reduce(-square, c)
    p = fma(r * r, horner(r, c.polynomial), r)
    q_low = fma(q, fma(-a, a, square), q_low)
    y = _times_power(fma(q, p, fma(q_low, p, q_low)) + q, shifted)
    return x.lt(0.0).where(y.like(2.0) - y, y).v
