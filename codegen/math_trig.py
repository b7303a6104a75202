"""sin, cos, tan and the arc functions.

sin and cos reduce by whole multiples of pi: x = n pi + r with |r| <= pi/2 (for the cosine, odd multiples of pi/2), so
that one polynomial serves every lane and n's lowest bit is the sign. With pi = A + B + C and FMA, x - n A is exact
(a multiple of A's last place, smaller than 2), and x - n A - n B is kept with its rounding error. Lanes from 2^17
(float32) or 2^20 (float64) on are done again one by one, in integers; the branch to that is the only one.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from .builder import I1, I64, PTR, Builder, HelperBody, Val, const, ty
from .number import SPECS, Num, fma, horner, rarely

# sin r = r + r³ P(r²) for |r| <= pi/2: P of degree 3, relative error 2^-27.3; of degree 7, 2^-61.5
_SIN: Final = {
    32: (
        -0.16666659712791443,
        0.008333069272339344,
        -0.00019809773948509246,
        2.6060820346174296e-06,
    ),
    64: (
        -0.16666666666666666,
        0.008333333333333207,
        -0.0001984126984121248,
        2.7557319211569482e-06,
        -2.5052106904422734e-08,
        1.6058941002303462e-10,
        -7.643019373357678e-13,
        2.721419624222548e-15,
    ),
}
# tan r = r + r³ P(r²) for |r| <= pi/4: P of degree 6, relative error 2^-29.5; of degree 14, 2^-56.2
_TAN: Final = {
    32: (
        0.33333349227905273,
        0.13332676887512207,
        0.05405868962407112,
        0.021287482231855392,
        0.010823973454535007,
        0.00010278719855705276,
        0.004370401613414288,
    ),
    64: (
        0.33333333333333376,
        0.13333333333325792,
        0.05396825397265746,
        0.021869488406093828,
        0.008863237811823573,
        0.0035921020455107395,
        0.0014560372074558826,
        0.0005889064733553126,
        0.00024360104117560327,
        8.394423905290746e-05,
        6.651760912598324e-05,
        -2.4739639690109573e-05,
        4.788672976468235e-05,
        -2.3901484431549224e-05,
        9.715867889987605e-06,
    ),
}
_PI: Final = {
    32: (3.1415927410125732, -8.742277657347586e-08, -3.4302490200117637e-15),
    64: (3.141592653589793, 1.2246467991473532e-16, -2.9947698097183397e-33),
}
_HALF_PI: Final = {bits: tuple(0.5 * part for part in parts) for bits, parts in _PI.items()}
_INVERSE_PI: Final = {32: 0.31830987334251404, 64: 0.3183098861837907}
_COSINE_FALL: Final = 0.405  # 4 / pi²
_HUGE: Final = {32: 2.0**17, 64: 2.0**20}  # from here on n B and n C would lose digits

# The bits of 1/pi after the point, after 64 zero bits.
_INVERSE_PI_WORDS: Final = (
    0,
    0x517CC1B727220A94,
    0xFE13ABE8FA9A6EE0,
    0x6DB14ACC9E21C820,
    0xFF28B1D5EF5DE2B0,
    0xDB92371D2126E970,
    0x0324977504E8C90E,
    0x7F0EF58E5894D39F,
    0x74411AFA975DA242,
    0x74CE38135A2FBF20,
    0x9CC8EB1CC1A99CFA,
    0x4E422FC5DEFC941D,
    0x8FFC4BFFEF02CC07,
    0xF79788C5AD05368F,
    0xB69B3F6793E584DB,
    0xA7A31FB34F2FF516,
    0xBA93DD63F5F2F8BD,
    0x9E839CFBC5294975,
    0x35FDAFD88FC6AE84,
    0x2B0198237E3DB5D5,
    0xF867DE104D7A1B0E,
    0xD4F1C8B0AF730D84,
    0x32CCC2AF8A503420,
)


def sin(b: Builder, v: Val) -> Val:
    """Sine; the sign of x is put on at the end, so that sin(-0) = -0."""
    x = Num(b, v)
    fraction, _ = SPECS[v.ty.bits]
    magic = 1.5 * 2.0**fraction
    a = x.abs()
    shifted = fma(a, _INVERSE_PI[v.ty.bits], magic)
    sign = (x.bits() & (1 << (v.ty.bits - 1))) ^ (shifted.bits() << (v.ty.bits - 1))
    y = _sin_of_rest(a, shifted - magic, _PI[v.ty.bits])
    return _mend_huge(b, x, (y.bits() ^ sign).real(), "sin", _huge_sin).v


def cos(b: Builder, v: Val) -> Val:
    """Cosine: with n odd and r = |x| - n pi/2, cos x = ±sin r, positive where n is 3 modulo 4."""
    x = Num(b, v)
    fraction, _ = SPECS[v.ty.bits]
    magic = 1.5 * 2.0**fraction
    a = x.abs()
    shifted = fma(a, _INVERSE_PI[v.ty.bits], -0.5) + magic
    n = fma(shifted - magic, 2.0, 1.0)
    y = _sin_of_rest(a, n, _HALF_PI[v.ty.bits])
    sign = ~shifted.bits() << (v.ty.bits - 1)
    return _mend_huge(b, x, (y.bits() ^ sign).real(), "cos", _huge_cos).v


def tan(b: Builder, v: Val) -> Val:
    """Tangent: with n the nearest multiple of pi/2, tan r for even n and -1 / tan r for odd ones.

    The rest keeps its rounding error, r + low, and so does the tangent of which the inverse is taken.
    """
    x = Num(b, v)
    fraction, _ = SPECS[v.ty.bits]
    magic = 1.5 * 2.0**fraction
    a = x.abs()
    shifted = fma(a, 2.0 * _INVERSE_PI[v.ty.bits], magic)
    n = shifted - magic
    first, second, third = _HALF_PI[v.ty.bits]
    high = fma(n, -first, a)
    part = n * second
    r = high - part
    back = r - high
    low = (high - (r - back)) - (part + back) - fma(n, third, fma(n, second, -part))
    y = _tangent(r, low, (shifted.bits() & 1).ne(0))
    y = (y.bits() ^ (x.bits() & (1 << (v.ty.bits - 1)))).real()
    return _mend_huge(b, x, y, "tan", _huge_tan).v


def _tangent(r: Num, low: Num, odd: Num) -> Num:
    """tan(r + low) for |r| <= pi/4, or where `odd` -1 / tan(r + low)."""
    z = r * r
    q = r * z * horner(z, _TAN[r.ty.bits])
    t = r + q
    q = q + fma(low * t, t, low)
    t = r + q
    t_low = q - (t - r)
    y = -1.0 / t
    y = fma(y, fma(t_low, y, fma(t, y, 1.0)), y)
    return odd.where(y, t)


def _sin_of_rest(x: Num, n: Num, period: tuple[float, ...]) -> Num:
    """sin(x - n period)."""
    r = fma(n, -period[2], fma(n, -period[1], fma(n, -period[0], x)))
    z = r * r
    return _at_most_one(fma(r * z, horner(z, _SIN[x.ty.bits]), r))


def sin_of_turns(x: Num) -> Num:
    """|sin pi x|, zero at integers."""
    t = (x - Num(x.b, x.b.intrinsic("roundeven", x.ty, x.v))).abs()
    r = t * _PI[x.ty.bits][0]
    z = r * r
    return fma(r * z, horner(z, _SIN[x.ty.bits]), r)


def _at_most_one(y: Num) -> Num:
    """A sine that rounding errors may have taken past 1 (and a NaN as it is)."""
    return y.at_most(1.0).at_least(-1.0)


def _mend_huge(b: Builder, x: Num, y: Num, name: str, body: HelperBody) -> Num:
    """`y` with the huge finite lanes of `x` done one by one, in double, by `body`."""
    t = x.ty
    threshold = x.like(_HUGE[t.bits]).bits()
    huge = (x.abs().bits() - threshold).below(x.like(float("inf")).bits() - threshold)

    def lanes(inner: Builder, args: tuple[Val, ...]) -> Val:
        (v,) = args
        out = v
        for lane in range(t.lanes):
            one = v if t.lanes == 1 else inner.extract(v, lane)
            one = one if t.bits == 64 else inner.convert("fpext", one, ty("f", 64))
            exact = inner.helper(f"tinyad.{name}.huge", ty("f", 64), (one,), body)
            exact = exact if t.bits == 64 else inner.convert("fptrunc", exact, t.scalar())
            out = exact if t.lanes == 1 else inner.insert(out, exact, lane)
        return out

    return rarely(huge, y, lambda: Num(b, b.helper(f"tinyad.{name}.huge.{t.suffix}", t, (x.v,), lanes)))


def _huge_sin(b: Builder, args: tuple[Val, ...]) -> Val:
    """sin x for |x| >= 2^13."""
    odd, r, r_low = _huge_rest(b, args[0], 0, _PI[64])
    y = _sin_with_low(r, r_low)
    return (y.bits() ^ (odd << 63) ^ (Num(b, args[0]).bits() & (1 << 63))).real().v


def _huge_cos(b: Builder, args: tuple[Val, ...]) -> Val:
    """cos x = sin(|x| + pi/2) for |x| >= 2^13."""
    odd, r, r_low = _huge_rest(b, args[0], 1, _PI[64])
    return (_sin_with_low(r, r_low).bits() ^ (odd << 63)).real().v


def _huge_tan(b: Builder, args: tuple[Val, ...]) -> Val:
    """tan x for |x| >= 2^13, from the rest of quarter turns."""
    odd, r, r_low = _huge_rest(b, args[0], 0, _HALF_PI[64])
    y = _tangent(r, r_low, odd.ne(0))
    return (y.bits() ^ (Num(b, args[0]).bits() & (1 << 63))).real().v


def _sin_with_low(r: Num, r_low: Num) -> Num:
    """sin(r + r_low); the low part counts with weight cos r, for which a parabola through the zeros at pi/2 will do."""
    z = r * r
    return _at_most_one(r + fma(r * z, horner(z, _SIN[64]), r_low * fma(z, -_COSINE_FALL, 1.0)))


def _huge_rest(b: Builder, v: Val, quarters: int, period: tuple[float, ...]) -> tuple[Num, Num, Num]:
    """r + r_low = |x| + quarters pi/2 - n period with |r| <= period/2, and n's lowest bit. `period`: pi or pi/2.

    Payne and Hanek 1983: x = M 2^k; of 2^k/pi only the bits worth less than 2 count, of which 192 are taken, and
    the product's top 128 are |x|/pi modulo 2 in fixed point. Doubles come no closer to a multiple of pi/2 than
    2^-61: at least 60 good bits are left. Any x in, sense for |x| >= 2^13.
    """
    wide = ty("i", 128)
    if "inverse_pi" not in b.module.helpers:
        b.module.helpers.add("inverse_pi")
        text = ", ".join(str(const(I64, w)) for w in _INVERSE_PI_WORDS)
        b.module.globals.append(f"@tinyad.inverse_pi = internal constant [{len(_INVERSE_PI_WORDS)} x i64] [{text}]")

    def integer(value: Val) -> Num:
        return Num(b, value)

    x = Num(b, v)
    bits = x.bits()
    mantissa = (bits & ((1 << 52) - 1)) | (1 << 52)
    exponent = (bits >> 52) & 0x7FF
    # The bit worth 1 of 2^k/pi is the k-th after the point: the window starts there, at k + 63 in the table.
    first = exponent + (63 - 1075)
    first = first.lt(0).where(first.like(0), first)
    last = 64 * (len(_INVERSE_PI_WORDS) - 4)
    first = first.gt(last).where(first.like(last), first)
    place, shift = first >> 6, first & 63
    words = []
    for k in range(4):
        address = b.gep(I64, Val("@tinyad.inverse_pi", PTR), (place + k).v)
        words.append(integer(b.load(I64, address, 8)))
    window = [integer(b.intrinsic("fshl", I64, high.v, low.v, shift.v)) for high, low in pairwise(words)]

    def extend(n: Num) -> Num:
        return n.convert("zext", "i", 128)

    m = extend(mantissa)
    product = extend(window[2]) * m >> 64
    product = product + extend(window[1]) * m
    product = product + (extend(window[0] * mantissa) << 64)
    # Units of 2^-127 half turns (quarter turns, if those are the period): the top bit says odd multiples once
    # rounded; the rest is a signed fraction of the period.
    product = product + (quarters << 126)
    if period is _HALF_PI[64]:
        product = product << 1
    parity = (product + (1 << 126) >> 127).convert("trunc", "i", 64)
    fraction = product << 1
    negative = fraction.lt(0)
    size = negative.where(fraction.like(0) - fraction, fraction)
    zeros = integer(b.intrinsic("ctlz", wide, size.v, const(I1, False))) & 127
    top = ((size << zeros) >> 64).convert("trunc", "i", 64)
    scale = ((top.like(1023 - 64) - zeros.convert("trunc", "i", 64)) << 52).real()
    high = integer(b.convert("uitofp", (top & ~0x7FF).v, v.ty)) * scale
    low = integer(b.convert("uitofp", (top & 0x7FF).v, v.ty)) * scale
    a, c = period[:2]
    r = high * a
    r_low = fma(high, a, -r) + fma(high, c, low * a)
    return parity, negative.where(-r, r), negative.where(-r_low, r_low)


# arc tangents -------------------------------------------------------------------------------------------------------
# atan z = z + z³ P(z²) for 0 <= z <= 1: P of degree 8, relative error 2^-27.0; of degree 19, 2^-57.5
_ATAN: Final = {
    32: (
        -0.33333298563957214,
        0.1999852955341339,
        -0.14264015853405,
        0.10950881987810135,
        -0.08399318158626556,
        0.057881854474544525,
        -0.031097859144210815,
        0.010869479738175869,
        -0.0017830991419032216,
    ),
    64: (
        -0.3333333333333311,
        0.1999999999995627,
        -0.14285714282800144,
        0.11111111012663431,
        -0.09090907090616057,
        0.07692280758328938,
        -0.06666410917951286,
        0.058805655962470074,
        -0.05253675910314486,
        0.04722826282969368,
        -0.04220434220690549,
        0.03666634551044641,
        -0.02994105490754912,
        0.022028919603963765,
        -0.013940729764220226,
        0.007224116861652116,
        -0.0028987569232333064,
        0.0008360908244043153,
        -0.00015317091021161203,
        1.3324157602144603e-05,
    ),
}


def atan(b: Builder, v: Val) -> Val:
    """Arc tangent; for |x| > 1, pi/2 - atan(1/|x|)."""
    x = Num(b, v)
    high, low, _ = _HALF_PI[v.ty.bits]
    a = x.abs()
    steep = a.gt(1.0)
    z = steep.where(x.like(-1.0) / a, a)
    q = z * z
    t = fma(z * q, horner(q, _ATAN[v.ty.bits]), steep.where(x.like(low), 0.0))
    return (steep.where(x.like(high), 0.0) + (z + t)).sign_of(x).v


def atan2(b: Builder, v: Val, w: Val) -> Val:
    """Angle of (x, y) from the smaller over the larger of |x|, |y|, reflected for the octant.

    Equal magnitudes are 45 degrees even when infinite, and 0 over 0 is 0: C99's table (annex F.9.1.4) follows.
    """
    y, x = Num(b, v), Num(b, w)
    pi, pi_low, _ = _PI[v.ty.bits]
    ay, ax = y.abs(), x.abs()
    steep = ay.gt(ax)
    small, large = steep.where(ax, ay), steep.where(ay, ax)
    z = small / large.eq(0.0).where(x.like(1.0), large)
    z = small.eq(float("inf")).where(x.like(1.0), z)
    backwards = x.bits().lt(0)
    # Angle = base ± atan z, the minus where exactly one of steep and backwards holds.
    falling = steep ^ backwards
    base = steep.where(x.like(0.5 * pi), backwards.where(x.like(pi), 0.0))
    base_low = steep.where(x.like(0.5 * pi_low), backwards.where(x.like(pi_low), 0.0))
    z = falling.where(-z, z)
    q = z * z
    t = fma(z * q, horner(q, _ATAN[v.ty.bits]), base_low)
    angle = base + (z + t)
    return x.unordered(y).where(x.like(float("nan")), angle.sign_of(y)).v


# arc sines ----------------------------------------------------------------------------------------------------------
# asin s = s + s³ P(s²) for 0 <= s <= 1/2: P of degree 4, relative error 2^-27.6; of degree 12, 2^-58.1
_ASIN: Final = {
    32: (
        0.16666752099990845,
        0.07495307177305222,
        0.045469559729099274,
        0.024182381108403206,
        0.04216281697154045,
    ),
    64: (
        0.1666666666666676,
        0.07499999999970662,
        0.04464285717475308,
        0.03038194270057306,
        0.02237221520193979,
        0.017351607978037635,
        0.01398087104118411,
        0.011398482487430805,
        0.010782751345442173,
        0.003696641357783491,
        0.021731993184291545,
        -0.02103487778361897,
        0.03265168100285048,
    ),
}


def _arc(x: Num) -> tuple[Num, Num, Num]:
    """Whether |x| > 1/2, then s with asin s = s + s p: s = |x|, or sqrt((1 - |x|)/2), the sine of half the rest."""
    a = x.abs()
    steep = a.gt(0.5)
    z = steep.where(fma(a, -0.5, 0.5), a * a)
    s = steep.where(z.sqrt(), a)
    return steep, s, z * horner(z, _ASIN[x.ty.bits])


def asin(b: Builder, v: Val) -> Val:
    """Arc sine; for |x| > 1/2, pi/2 - 2 asin(sqrt((1 - |x|)/2))."""
    x = Num(b, v)
    high, low, _ = _HALF_PI[v.ty.bits]
    steep, s, p = _arc(x)
    d = s + s
    rest = x.like(high) - d
    rest_low = x.like(high) - rest - d
    return steep.where(rest + (fma(-d, p, low) + rest_low), fma(s, p, s)).sign_of(x).v


def acos(b: Builder, v: Val) -> Val:
    """Arc cosine: pi/2 - asin x; for x > 1/2, 2 asin(sqrt((1 - x)/2)), and for x < -1/2 what is left of pi to that."""
    x = Num(b, v)
    pi, pi_low, _ = _PI[v.ty.bits]
    steep, s, p = _arc(x)
    backwards = x.lt(0.0)
    d = s + s
    w = steep.where(backwards.where(d, -d), x)
    base = steep.where(backwards.where(x.like(pi), 0.0), 0.5 * pi)
    base_low = steep.where(backwards.where(x.like(pi_low), 0.0), 0.5 * pi_low)
    return (base - (w + fma(w, p, -base_low))).v
