"""Fused multiply-add and half conversions for targets without the instructions: the hardware's bits, slower.

Everything is IR text made with a `Builder`, correctly rounded (to nearest, ties to even), denormals included. A NaN
result has no particular payload.
"""

from __future__ import annotations

from .builder import I1, I64, Builder, Val, const, ty

F64_INF = 0x7FF << 52
I128 = ty("i", 128)


def two_sum(b: Builder, x: Val, y: Val) -> tuple[Val, Val]:
    """s, e with s = x + y rounded and s + e = x + y exactly. Source: Knuth, TAOCP 2, 4.2.2."""
    s = b.binary("fadd", x, y)
    x_part = b.binary("fsub", s, y)
    y_part = b.binary("fsub", s, x_part)
    return s, b.binary("fadd", b.binary("fsub", x, x_part), b.binary("fsub", y, y_part))


def two_product(b: Builder, x: Val, y: Val) -> tuple[Val, Val]:
    """p, e with p = x * y rounded and p + e = x * y exactly, without FMA. Source: Dekker 1971 with Veltkamp's split."""
    splitter = const(x.ty, 134217729.0 if x.ty.bits == 64 else 4097.0)

    def split(v: Val) -> tuple[Val, Val]:
        c = b.binary("fmul", splitter, v)
        high = b.binary("fsub", c, b.binary("fsub", c, v))
        return high, b.binary("fsub", v, high)

    (xh, xl), (yh, yl) = split(x), split(y)
    p = b.binary("fmul", x, y)
    e = b.binary("fsub", b.binary("fmul", xh, yh), p)
    e = b.binary("fadd", e, b.binary("fmul", xh, yl))
    e = b.binary("fadd", e, b.binary("fmul", xl, yh))
    return p, b.binary("fadd", e, b.binary("fmul", xl, yl))


def to_odd(b: Builder, s: Val, e: Val) -> Val:
    """s + e rounded to odd, for s = the sum rounded to nearest and e a number of the sign of the error.

    A later rounding to two bits fewer then rounds as if from the exact sum. Source: Boldo and Melquiond 2008.
    """
    it = s.ty.as_int()
    zero = const(s.ty, 0.0)
    bits = b.convert("bitcast", s, it)
    even = b.icmp("eq", b.binary("and", bits, const(it, 1)), const(it, 0))
    adjust = b.binary("and", even, b.fcmp("one", e, zero))
    outwards = b.icmp("eq", b.fcmp("olt", e, zero), b.icmp("slt", bits, const(it, 0)))
    step = b.select(outwards, const(it, 1), const(it, -1))
    return b.convert("bitcast", b.select(adjust, b.binary("add", bits, step), bits), s.ty)


def fma(b: Builder, x: Val, y: Val, z: Val) -> Val:
    """x * y + z rounded once."""
    if x.ty.bits == 32:
        return b.helper(f"tinyad.fma.{x.ty.suffix}", x.ty, (x, y, z), lambda c, a: _fma32(c, *a))
    return b.helper(f"tinyad.fma.{x.ty.suffix}", x.ty, (x, y, z), lambda c, a: _fma64(c, *a))


def _fma32(b: Builder, x: Val, y: Val, z: Val) -> Val:
    """The product is exact in f64; the sum is rounded to odd there, then to f32."""
    wide = ty("f", 64, x.ty.lanes)
    x, y, z = (b.convert("fpext", v, wide) for v in (x, y, z))
    s, e = two_sum(b, b.binary("fmul", x, y), z)
    return b.convert("fptrunc", to_odd(b, s, e), ty("f", 32, x.ty.lanes))


def _fma64(b: Builder, x: Val, y: Val, z: Val) -> Val:
    """Error-free sums in double where no partial result can under- or overflow; elsewhere lane by lane in integers.

    Source of the sum: Boldo and Melquiond 2008, algorithm Fmac: the exact product uh + ul, then z + ul = th + tl,
    uh + th = vh + vl, and vh plus (tl + vl rounded to odd).
    """
    t, it = x.ty, x.ty.as_int()
    zero = const(t, 0.0)
    uh, ul = two_product(b, x, y)
    th, tl = two_sum(b, z, ul)
    vh, vl = two_sum(b, uh, th)
    usual = b.binary("fadd", vh, to_odd(b, *two_sum(b, tl, vl)))

    def exponent(v: Val) -> Val:
        shifted = b.binary("lshr", b.convert("bitcast", v, it), const(it, 52))
        return b.binary("and", shifted, const(it, 0x7FF))

    ex, ey, ez = exponent(x), exponent(y), exponent(z)
    factors_finite = b.binary("and", *(b.icmp("ult", e, const(it, 0x7FF)) for e in (ex, ey)))
    product_zero = b.binary("or", b.fcmp("oeq", x, zero), b.fcmp("oeq", y, zero))
    plain = b.binary("or", product_zero, b.binary("xor", factors_finite, const(t.as_bool(), True)))
    z_zero = b.fcmp("oeq", z, zero)
    z_special = b.icmp("eq", ez, const(it, 0x7FF))
    product = b.binary("fmul", x, y)
    y1 = b.select(z_zero, product, usual)
    y1 = b.select(z_special, z, y1)
    y1 = b.select(plain, b.binary("fadd", product, z), y1)
    # Where factors lie in 2^±480 and z under 2^960, every bit of the product is a multiple of 2^-1074.
    near = [b.icmp("ult", b.binary("sub", e, const(it, 1023 - 480)), const(it, 960)) for e in (ex, ey)]
    safe = b.binary("and", b.binary("and", *near), b.icmp("ult", ez, const(it, 1023 + 960)))
    for other in (plain, z_zero, z_special):
        safe = b.binary("or", safe, other)
    hard = b.binary("xor", safe, const(t.as_bool(), True))
    start, rare, done = b.block, b.fresh_label("rare"), b.fresh_label("done")
    b.rare_branch(b.any(hard), rare, done)
    b.label(rare)
    y2 = y1
    scalar = t.scalar()
    for lane in range(t.lanes):
        parts = [v if t.lanes == 1 else b.extract(v, lane) for v in (x, y, z, y1)]
        flag = hard if t.lanes == 1 else b.extract(hard, lane)
        exact = b.helper("tinyad.fma.integer", scalar, tuple(parts[:3]), lambda c, a: _fma_integer(c, *a))
        chosen = b.select(flag, exact, parts[3])
        y2 = chosen if t.lanes == 1 else b.insert(y2, chosen, lane)
    b.branch(done)
    b.label(done)
    y, place = b.phi(t)
    b.set_phi(y, place, [(y1, start), (y2, rare)])
    return y


def _fma_integer(b: Builder, x: Val, y: Val, z: Val) -> Val:
    """One finite nonzero lane: 128-bit sum of the aligned 106-bit product and z, normalised and rounded by hand."""
    one = const(I64, 1)

    def unpack(v: Val) -> tuple[Val, Val, Val]:
        """Negative?, significand in [2^52, 2^53), exponent e of significand · 2^(e - 1075)."""
        bits = b.convert("bitcast", v, I64)
        e = b.binary("and", b.binary("lshr", bits, const(I64, 52)), const(I64, 0x7FF))
        m = b.binary("and", bits, const(I64, (1 << 52) - 1))
        up = b.binary("sub", b.intrinsic("ctlz", I64, m, const(I1, False)), const(I64, 11))
        up = b.binary("and", up, const(I64, 63))
        denormal = b.icmp("eq", e, const(I64, 0))
        m = b.select(denormal, b.binary("shl", m, up), b.binary("or", m, const(I64, 1 << 52)))
        return b.icmp("slt", bits, const(I64, 0)), m, b.select(denormal, b.binary("sub", one, up), e)

    def shift_right(v: Val, n: Val) -> Val:
        """v >> n (n >= 0) with every lost bit gathered in the lowest."""
        far = b.icmp("ugt", n, const(I64, 127))
        n128 = b.convert("zext", b.select(far, const(I64, 127), n), I128)
        q = b.binary("lshr", v, n128)
        lost = b.icmp("ne", b.binary("shl", q, n128), v)
        return b.binary("or", q, b.convert("zext", lost, I128))

    (sx, mx, ex), (sy, my, ey), (sz, mz, ez) = unpack(x), unpack(y), unpack(z)
    product = b.binary("mul", b.convert("zext", mx, I128), b.convert("zext", my, I128))
    product = b.binary("shl", product, const(I128, 20))
    addend = b.binary("shl", b.convert("zext", mz, I128), const(I128, 72))
    ep = b.binary("sub", b.binary("add", ex, ey), const(I64, 2150 + 20))
    eq = b.binary("sub", ez, const(I64, 1075 + 72))
    apart = b.binary("sub", ep, eq)
    product_high = b.icmp("sge", apart, const(I64, 0))
    zero = const(I64, 0)
    addend = shift_right(addend, b.select(product_high, apart, zero))
    product = shift_right(product, b.select(product_high, zero, b.binary("sub", zero, apart)))
    e = b.select(product_high, ep, eq)
    sp = b.binary("xor", sx, sy)
    subtract = b.binary("xor", sp, sz)
    addend = b.select(subtract, b.binary("sub", const(I128, 0), addend), addend)
    total = b.binary("add", product, addend)
    flip = b.icmp("slt", total, const(I128, 0))
    total = b.select(flip, b.binary("sub", const(I128, 0), total), total)
    negative = b.binary("xor", sp, flip)
    vanished = b.icmp("eq", total, const(I128, 0))

    up128 = b.intrinsic("ctlz", I128, total, const(I1, False))
    up128 = b.binary("and", up128, const(I128, 127))
    total = b.binary("shl", total, up128)
    biased = b.binary("sub", b.binary("add", e, const(I64, 127 + 1023)), b.convert("trunc", up128, I64))
    top = shift_right(total, const(I64, 65))
    high = b.convert("trunc", top, I64)
    missing = b.binary("sub", one, biased)
    missing = b.select(b.icmp("slt", missing, zero), zero, missing)
    gone = b.icmp("ugt", missing, const(I64, 53))
    high = b.select(gone, one, high)
    shift = b.binary("add", b.select(gone, const(I64, 53), missing), const(I64, 10))
    q = b.binary("lshr", high, shift)
    rest = b.binary("sub", high, b.binary("shl", q, shift))
    half = b.binary("shl", one, b.binary("sub", shift, one))
    odd = b.icmp("ne", b.binary("and", q, one), zero)
    tie_up = b.binary("and", b.icmp("eq", rest, half), odd)
    q = b.binary("add", q, b.convert("zext", b.binary("or", b.icmp("ugt", rest, half), tie_up), I64))
    field = b.binary("sub", biased, one)
    field = b.select(b.icmp("slt", field, zero), zero, field)
    bits = b.binary("add", b.binary("shl", field, const(I64, 52)), q)
    bits = b.select(b.icmp("sgt", biased, const(I64, 2046)), const(I64, F64_INF), bits)
    bits = b.binary("or", bits, b.binary("shl", b.convert("zext", negative, I64), const(I64, 63)))
    return b.convert("bitcast", b.select(vanished, zero, bits), x.ty)


# half ---------------------------------------------------------------------------------------------------------------
def half_from_f32(b: Builder, x: Val) -> Val:
    """f32 rounded to half, as its 16 bits. Overflow, normal and denormal results are three cases of one select."""
    it = x.ty.as_int()
    bits = b.convert("bitcast", x, it)
    sign = b.binary("and", bits, const(it, 1 << 31))
    a = b.binary("xor", bits, sign)
    special = b.select(b.icmp("ugt", a, const(it, 0x7F800000)), const(it, 0x7E00), const(it, 0x7C00))
    # Adding 1/2 to |x| < 2^-14 leaves |x| in units of 2^-24, the half denormals' step, in the low bits.
    tiny = b.binary("fadd", b.convert("bitcast", a, x.ty), const(x.ty, 0.5))
    tiny = b.binary("sub", b.convert("bitcast", tiny, it), const(it, 0x3F000000))
    odd = b.binary("and", b.binary("lshr", a, const(it, 13)), const(it, 1))
    normal = b.binary("add", b.binary("add", a, const(it, ((15 - 127) << 23) + 0xFFF)), odd)
    normal = b.binary("lshr", normal, const(it, 13))
    y = b.select(b.icmp("ult", a, const(it, 113 << 23)), tiny, normal)
    y = b.select(b.icmp("ugt", a, const(it, (143 << 23) - 1)), special, y)
    y = b.binary("or", y, b.binary("lshr", sign, const(it, 16)))
    return b.convert("trunc", y, ty("i", 16, x.ty.lanes))


def f32_from_half(b: Builder, bits: Val) -> Val:
    """The f32 of a half given as its 16 bits, exactly."""
    it, ft = ty("i", 32, bits.ty.lanes), ty("f", 32, bits.ty.lanes)
    h = b.convert("zext", bits, it)
    sign = b.binary("shl", b.binary("and", h, const(it, 0x8000)), const(it, 16))
    a = b.binary("shl", b.binary("and", h, const(it, 0x7FFF)), const(it, 13))
    normal = b.binary("add", a, const(it, (127 - 15) << 23))
    special = b.binary("add", normal, const(it, (255 - 31 - 127 + 15) << 23))
    tiny = b.convert("bitcast", b.binary("add", normal, const(it, 1 << 23)), ft)
    tiny = b.convert("bitcast", b.binary("fsub", tiny, const(ft, 2.0**-14)), it)
    y = b.select(b.icmp("ult", a, const(it, 0x400 << 13)), tiny, normal)
    y = b.select(b.icmp("ugt", a, const(it, (0x7C00 << 13) - 1)), special, y)
    return b.convert("bitcast", b.binary("or", y, sign), ft)
