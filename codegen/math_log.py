"""log, log2, log1p and pow: x = 2^e m with m in [sqrt(1/2), sqrt(2)), and log m near 1 by polynomial in f = m - 1."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from .builder import Builder, Val
from .math_exp import EXP
from .number import SPECS, Num, fma, horner

INFINITY: Final = float("inf")
NAN: Final = float("nan")


@dataclass(frozen=True, slots=True)
class _Log:
    """Constants of one width: the bits of sqrt(1/2), ln 2 = high + low, and the polynomial."""

    root: int
    high: float
    low: float
    polynomial: tuple[float, ...]


def _bits(value: float, bits: int) -> int:
    return int.from_bytes(struct.pack("<f" if bits == 32 else "<d", value), "little")


_LOG: Final = {
    # log(1 + f) = f - f²/2 + f³ P(f), P of degree 7: relative error 2^-27.3
    32: _Log(
        0x3F3504F3,
        0.6931471824645996,
        -1.9046542121259336e-09,
        (
            0.33333316445350647,
            -0.25000813603401184,
            0.20002371072769165,
            -0.16624420881271362,
            0.14179059863090515,
            -0.13128729164600372,
            0.12897704541683197,
            -0.07878788560628891,
        ),
    ),
    # with s = f / (2 + f): log(1 + f) = 2 s + s³ R(s²), R of degree 6: 2^-58.5
    64: _Log(
        0x3FE6A09E667F3BCD,
        0.6931471805599453,
        2.3190468138462996e-17,
        (
            0.6666666666666712,
            0.39999999999502234,
            0.2857142873410425,
            0.22222198525152453,
            0.18183603814869798,
            0.15312280845472923,
            0.14819821122912857,
        ),
    ),
}
_INVERSE_LN2: Final = {  # high + low
    32: (1.4426950216293335, 1.9259629911266175e-08),
    64: (1.4426950408889634, 2.0355273740931033e-17),
}


def split(x: Num) -> tuple[Num, Num]:
    """e + bias in the integer, m's bits, for positive finite normal x."""
    fraction, bias = SPECS[x.ty.bits]
    root = _LOG[x.ty.bits].root
    moved = x.bits() + ((bias << fraction) - root)
    return moved >> fraction, (moved & ((1 << fraction) - 1)) + root


def to_float(n: Num, offset: "Num | float") -> Num:
    """n - offset as a float, for an integer 0 <= n < 2^p: 2^p | n are the bits of 2^p + n. `offset` includes 2^p."""
    fraction, bias = SPECS[n.ty.bits]
    return (n | ((bias + fraction) << fraction)).real() - offset


def _beyond(f: Num, extra: "Num | float") -> Num:
    """log(1 + f) - f + extra, for a small `extra`."""
    c = _LOG[f.ty.bits]
    if f.ty.bits == 32:
        return fma(f * f, fma(f, horner(f, c.polynomial), -0.5), extra)
    half = f * f * 0.5
    s = f / (f + 2.0)
    z = s * s
    return fma(s, fma(z, horner(z, c.polynomial), half), extra) - half


def sum_of_logs(e: Num, f: Num) -> Num:
    """e ln 2 + log(1 + f), small terms first."""
    c = _LOG[f.ty.bits]
    return fma(e, c.high, f + _beyond(f, e * c.low))


def sum_of_binary_logs(e: Num, f: Num) -> Num:
    """e + log2(1 + f): the factor 1/ln 2 is a sum of two numbers where it multiplies f itself."""
    high, low = _INVERSE_LN2[f.ty.bits]
    return e + fma(f, high, fma(f, low, _beyond(f, 0.0) * high))


def log(b: Builder, v: Val) -> Val:
    """Natural logarithm."""
    return _of_positive(b, v, sum_of_logs)


def log2(b: Builder, v: Val) -> Val:
    """Logarithm to base 2, exact at powers of two."""
    return _of_positive(b, v, sum_of_binary_logs)


def _of_positive(b: Builder, v: Val, total: Callable[[Num, Num], Num]) -> Val:
    """`total` of e and f. Denormals are scaled up; what is no positive finite number is answered by selects."""
    x = Num(b, v)
    fraction, bias = SPECS[v.ty.bits]
    up = fraction + 2
    small = x.lt(2.0 ** (1 - bias))
    e, m = split(small.where(x * 2.0**up, x))
    offset = 2.0**fraction + bias
    y = total(to_float(e, small.where(x.like(offset + up), offset)), m.real() - 1.0)
    infinity = _bits(INFINITY, v.ty.bits)
    usual = (x.bits() - 1).below(infinity - 1)
    negative = Num(b, b.fcmp("ult", v, x.like(0.0).v))
    other = x.eq(0.0).where(x.like(-INFINITY), negative.where(x.like(NAN), x))
    return usual.where(y, other).v


def log1p(b: Builder, v: Val) -> Val:
    """log(1 + x) with e taken from 1 + x rounded, and f = x 2^-e + (2^-e - 1) rounded once.

    2^-e is made four times too large, since e goes to 128 (1024). Tiny x are their own result.
    """
    x = Num(b, v)
    fraction, bias = SPECS[v.ty.bits]
    e, _ = split(x + 1.0)
    scale = ((e.like(2 * bias + 2) - e) << fraction).real()
    f = fma(x * 0.25, scale, fma(scale, 0.25, -1.0))
    y = sum_of_logs(to_float(e, 2.0**fraction + bias), f)
    y = x.abs().lt(2.0 ** -(fraction + 2)).where(x, y)
    usual = x.gt(-1.0) & x.lt(INFINITY)
    negative = Num(b, b.fcmp("ult", v, x.like(-1.0).v))
    other = x.eq(-1.0).where(x.like(-INFINITY), negative.where(x.like(NAN), x))
    return usual.where(y, other).v


# pow ----------------------------------------------------------------------------------------------------------------
# For float32: log(1 + f) as above in double, P of degree 11, relative error 2^-38.1; e^r = 1 + r + r² P(r), P of
# degree 5, 2^-31.7.
_POW_LOG: Final = (
    0.33333333382570624,
    -0.2500000120798133,
    0.1999999173923257,
    -0.16666525699352,
    0.1428605770323191,
    -0.12505860677826594,
    0.11108131438491377,
    -0.09889137701199609,
    0.09013126135159966,
    -0.09266992924376634,
    0.09220046203646122,
    -0.049630489781366985,
)
_POW_EXP: Final = (
    0.5000000040421492,
    0.16666666809284167,
    0.04166637129623778,
    0.008333274599230186,
    0.0013940002285870057,
    0.00019913423664645727,
)

# For float64: log(1 + f) = 2 s + s³ (2/3 + s² T(s²)), T of degree 6, relative error 2^-65.9.
_POW_TAIL: Final = (
    0.4000000000000145,
    0.28571428570415575,
    0.22222222472307993,
    0.18181787955856385,
    0.15386612923625506,
    0.13259784951744608,
    0.13171846562995826,
)
TWO_THIRDS: Final = (0.6666666666666666, 3.700743415417188e-17)
LN2_SHORT: Final = (0.6931471805598903, 5.497923018708371e-14)  # 42 bits: an exponent times it is exact


def pow(b: Builder, v: Val, w: Val) -> Val:
    """x^y as e^(y log|x|) with C99's table of special values (annex F.9.4.4).

    log|x| of 0 and infinity are infinite, and e^ of an infinite product is 0 or infinity: most of the table follows.
    """
    x, y = Num(b, v), Num(b, w)
    one = x.like(1.0)
    size = x.abs()
    magnitude = (_pow32 if v.ty.bits == 32 else _pow64)(size, y)
    whole = y.trunc().eq(y)
    half = y * 0.5
    odd = whole & half.trunc().ne(half)
    sign = odd.where(x.bits() & (1 << (v.ty.bits - 1)), 0)
    result = (magnitude.bits() | sign).real()
    outside = x.lt(0.0) & x.gt(-INFINITY) & ~whole
    result = (outside | x.unordered(y)).where(x.like(NAN), result)
    fixed = y.eq(0.0) | x.eq(1.0) | (x.eq(-1.0) & y.abs().eq(INFINITY))
    return fixed.where(one, result).v


def _pow32(x: Num, y: Num) -> Num:
    """|x|^y in double: digits to spare, no denormals, and one rounding to float32 at the end."""
    a, y = x.convert("fpext", "f", 64), y.convert("fpext", "f", 64)
    e, m = split(a)
    f = m.real() - 1.0
    n = to_float(e, 2.0**52 + 1023)
    log_m = fma(f * f, fma(f, horner(f, _POW_LOG), -0.5), f)
    log_x = fma(n, EXP[64].high, log_m)
    log_x = a.eq(0.0).where(a.like(-INFINITY), a.eq(INFINITY).where(a, log_x))
    c = EXP[64]
    p = (y * log_x).at_most(100.0).at_least(-120.0)
    shifted = fma(p, c.log2e, c.magic)
    r = fma(shifted - c.magic, -c.high, p)
    q = fma(r * r, horner(r, _POW_EXP), r) + 1.0
    return (q.bits() + (shifted.bits() << 52)).real().convert("fptrunc", "f", 32)


def _pow64(x: Num, y: Num) -> Num:
    """|x|^y with log|x| as a sum of two doubles, relative error about 2^-65."""
    small = x.lt(2.0**-1022)
    e, m = split(small.where(x * 2.0**54, x))
    n = to_float(e, small.where(x.like(2.0**52 + 1023 + 54), 2.0**52 + 1023))
    f = m.real() - 1.0
    # s + s_low = f / (2 + f)
    d = f + 2.0
    d_low = f - (d - 2.0)
    inverse = 1.0 / d
    s = f * inverse
    s_low = fma(-s, d_low, fma(-s, d, f)) * inverse
    # z + z_low = s²; c + c_low = s z (2/3 + z T)
    z = s * s
    z_low = fma(s + s, s_low, fma(s, s, -z))
    tail = z * horner(z, _POW_TAIL)
    k = tail + TWO_THIRDS[0]
    k_low = tail - (k - TWO_THIRDS[0]) + TWO_THIRDS[1]
    zk = z * k
    zk_low = fma(z, k, -zk) + fma(z, k_low, z_low * k)
    c = s * zk
    c_low = fma(s, zk, -c) + fma(s, zk_low, s_low * zk)
    double = s + s
    m_log = double + c
    m_low = (double - m_log) + c + (s_low + s_low + c_low)
    whole = n * LN2_SHORT[0]
    high = whole + m_log
    low = (whole - high) + m_log + fma(n, LN2_SHORT[1], m_low)
    # The product with y, then e^(p + p_low)
    p = y * high
    p_low = fma(y, low, fma(y, high, -p))
    limit = EXP[64]
    special = x.eq(0.0) | x.eq(INFINITY)
    infinite = y * x.eq(0.0).where(x.like(-INFINITY), x)
    p = special.where(infinite, p)
    far = p.abs().gt(760.0)
    p_low = (far | special).where(p.like(0.0), p_low)
    p = p.at_most(760.0).at_least(-760.0)
    shifted = fma(p, limit.log2e, limit.magic)
    k = shifted - limit.magic
    r = fma(k, -limit.high, p)
    r_low = fma(k, -limit.low, p_low)
    t = r + r_low
    q = (r + fma(t * t, horner(t, limit.polynomial), r_low)) + 1.0
    bits = shifted.bits()
    half = (bits >> 1) << 52
    rest = (bits << 52) - half
    return (q.bits() + half).real() * (rest + (1023 << 52)).real()
