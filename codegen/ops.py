"""Scalar operations as LLVM instructions: one total table from (operation, kind of operand) to its emitter.

Values are held as `register_type` says (float16 as float32 that a half can hold, bool as i1), in any number of lanes.
The meaning is that of `codegen.scalar.OPS`: nothing traps, nothing is poison, no instruction carries fast-math or
nsw flags, and nothing becomes a call of a C library.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from . import avx512, long, soft
from .builder import I1, Builder, Ty, Val, const, register_type, ty
from .math import FUNCTIONS
from .scalar import OPS, Type

Emitter = Callable[..., Val]  # (builder, *operands) -> value
Conversion = Callable[[Builder, Type, Type, Val], Val]  # (builder, result type, operand type, operand) -> value


def emit_op(b: Builder, op: str, result: Type, operands: tuple[Type, ...], args: tuple[Val, ...]) -> Val:
    """The value of ``op`` on `args`, in as many lanes as they have; may end the current basic block.

    Raises: TypeError where `op` has no meaning for the operand types.
    """
    key = op, operands[-1].kind
    if (key not in TABLE and key not in CONVERSIONS) or len(args) != OPS[op][0]:
        raise TypeError(f"{op}: not defined for {', '.join(map(repr, operands))}")
    if op in b.module.outlined:
        y = _called(b, op, key, args)
    else:
        y = TABLE[key](b, *args) if key in TABLE else CONVERSIONS[key](b, result, operands[0], args[0])
    return round_to_half(b, y) if result.name == "f16" and op in ROUNDED else y


def _called(b: Builder, op: str, key: tuple[str, str], args: tuple[Val, ...]) -> Val:
    """The value of an operation by a function of the module's own, made at its first call."""
    t = args[0].ty
    name = f"{op}.{t.suffix}"
    if name not in b.module.helpers:
        b.module.helpers.add(name)
        inside = Builder(b.module)
        names = [f"%x{i}" for i in range(len(args))]
        y = TABLE[key](inside, *[Val(x, a.ty) for x, a in zip(names, args, strict=True)])
        heads = ", ".join(f"{a.ty.ll} {x}" for x, a in zip(names, args, strict=True))
        header = f"define internal {y.ty.ll} @{name}({heads}) #0 {{"
        b.module.functions.append("\n".join([header, "entry:", *inside.lines, f"  ret {y!r}", "}"]))
    return b.emit(t, f"call {t.ll} @{name}({', '.join(map(repr, args))})")


# memory and half precision ------------------------------------------------------------------------------------------
def to_register(b: Builder, type: Type, val: Val) -> Val:
    """A value as loaded (bool i8, float16 half) as held in registers."""
    if type.kind == "b":
        return b.icmp("ne", val, const(val.ty, 0))
    if type.name == "f16":
        if b.module.has_f16c:
            return b.convert("fpext", val, ty("f", 32, val.ty.lanes))
        return soft.f32_from_half(b, b.convert("bitcast", val, val.ty.as_int()))
    return val


def to_memory(b: Builder, type: Type, val: Val) -> Val:
    """A value as held in registers as it is stored: bool i8 0 or 1, float16 half."""
    if type.kind == "b":
        return b.convert("zext", val, ty("i", 8, val.ty.lanes))
    if type.name == "f16":
        half = ty("f", 16, val.ty.lanes)
        if b.module.has_f16c:
            return b.convert("fptrunc", val, half)
        return b.convert("bitcast", soft.half_from_f32(b, val), half)
    return val


def round_to_half(b: Builder, x: Val) -> Val:
    """f32 rounded to the nearest half, held as f32."""
    lanes = x.ty.lanes
    if b.module.has_f16c:
        return b.convert("fpext", b.convert("fptrunc", x, ty("f", 16, lanes)), x.ty)
    return soft.f32_from_half(b, soft.half_from_f32(b, x))


# conversions --------------------------------------------------------------------------------------------------------
def _from_bool(b: Builder, result: Type, _: Type, x: Val) -> Val:
    if result.kind == "b":
        return x
    return b.convert("uitofp" if result.kind == "f" else "zext", x, register_type(result, x.ty.lanes))


def _from_integer(b: Builder, result: Type, source: Type, x: Val) -> Val:
    signed = source.kind == "i"
    to = register_type(result, x.ty.lanes)
    if result.kind == "b":
        return b.icmp("ne", x, const(x.ty, 0))
    if result.kind == "f":
        # To half by way of f32 is one rounding: integers that f32 cannot hold overflow a half.
        if source.bits == 64:
            return (long.to_double if to.bits == 64 else long.to_single)(b, x, signed)
        return b.convert("sitofp" if signed else "uitofp", x, to)
    if to.bits == x.ty.bits:
        return x
    if to.bits < x.ty.bits:
        return b.convert("trunc", x, to)
    return b.convert("sext" if signed else "zext", x, to)


def _from_float(b: Builder, result: Type, _: Type, x: Val) -> Val:
    to = register_type(result, x.ty.lanes)
    if result.kind == "b":
        return b.fcmp("une", x, const(x.ty, 0.0))
    if result.kind == "f":
        if to.bits == x.ty.bits:
            return x
        if to.bits > x.ty.bits:
            return b.convert("fpext", x, to)
        y = b.convert("fptrunc", x, to)
        if result.name == "f16":
            # f64 to half rounds once: to odd on the way through f32.
            y = _odd_f32(b, x, y)
        return y
    return long.saturated(b, x, to, result.kind == "i")


def _odd_f32(b: Builder, x: Val, y: Val) -> Val:
    """f64 `x` rounded to odd in f32, given `y`, the same rounded to nearest."""
    it = y.ty.as_int()
    back = b.convert("fpext", y, x.ty)
    bits = b.convert("bitcast", y, it)
    even = b.icmp("eq", b.binary("and", bits, const(it, 1)), const(it, 0))
    adjust = b.binary("and", even, b.fcmp("one", back, x))
    outwards = b.fcmp("olt", b.intrinsic("fabs", x.ty, back), b.intrinsic("fabs", x.ty, x))
    step = b.select(outwards, const(it, 1), const(it, -1))
    return b.convert("bitcast", b.select(adjust, b.binary("add", bits, step), bits), y.ty)


def _bitcast(b: Builder, result: Type, source: Type, x: Val) -> Val:
    if result.bits != source.bits:
        raise TypeError(f"bitcast: widths differ: {source} to {result}")
    if result.kind == source.kind or "f" not in (result.kind, source.kind):
        return x
    if source.name == "f16":
        x = to_memory(b, source, x)
    y = b.convert("bitcast", x, ty(result.kind if result.kind == "f" else "i", result.bits, x.ty.lanes))
    return to_register(b, result, y)


# integers -----------------------------------------------------------------------------------------------------------
def _quotient(b: Builder, x: Val, y: Val, signed: bool) -> Val:
    """x / y towards zero for y != 0 and no overflow.

    Vectors of up to 32 bits divide as floats with more than twice the digits that matter: a quotient of integers is
    at least 1/y from the next integer, farther than the rounding error, so truncation is exact.
    """
    lanes, bits = x.ty.lanes, x.ty.bits
    if lanes == 1:
        return b.binary("sdiv" if signed else "udiv", x, y)
    if bits == 64:
        return long.quotient(b, x, y, signed)
    if bits < 32:
        wide, real = ty("i", 32, lanes), ty("f", 32, lanes)
        x, y = (b.convert("sitofp", b.convert("sext" if signed else "zext", v, wide), real) for v in (x, y))
        return b.convert("trunc", b.convert("fptosi", b.binary("fdiv", x, y), wide), ty("i", bits, lanes))
    real = ty("f", 64, lanes)
    it = x.ty
    x, y = (b.convert("sitofp" if signed else "uitofp", v, real) for v in (x, y))
    q = b.binary("fdiv", x, y)
    if signed:
        return b.convert("fptosi", q, it)
    # 2^52 + q has q in its low bits: no conversion to unsigned, which has no instruction before AVX-512.
    q = b.binary("fadd", b.intrinsic("trunc", real, q), const(real, 2.0**52))
    return b.convert("trunc", b.convert("bitcast", q, real.as_int()), it)


def _signed_division(b: Builder, x: Val, y: Val) -> tuple[Val, Val, Val]:
    """Quotient towards zero and remainder of x by y, where y is 1 in place of 0 and -1; then that divisor."""
    t = x.ty
    unsafe = b.icmp("ult", b.binary("add", y, const(t, 1)), const(t, 2))
    divisor = b.select(unsafe, const(t, 1), y)
    q = _quotient(b, x, divisor, True)
    return q, b.binary("sub", x, b.binary("mul", q, divisor)), divisor


def _borrow(b: Builder, remainder: Val, divisor: Val) -> Val:
    """Where the quotient towards zero is one above the floor."""
    zero = const(remainder.ty, 0)
    opposite = b.icmp("slt", b.binary("xor", remainder, divisor), zero)
    return b.binary("and", opposite, b.icmp("ne", remainder, zero))


def _signed_idiv(b: Builder, x: Val, y: Val) -> Val:
    t = x.ty
    q, r, divisor = _signed_division(b, x, y)
    q = b.select(_borrow(b, r, divisor), b.binary("sub", q, const(t, 1)), q)
    q = b.select(b.icmp("eq", y, const(t, -1)), b.binary("sub", const(t, 0), x), q)
    return b.select(b.icmp("eq", y, const(t, 0)), const(t, 0), q)


def _signed_mod(b: Builder, x: Val, y: Val) -> Val:
    """A divisor of 1 in place of 0 and -1 gives those the remainder 0."""
    _, r, divisor = _signed_division(b, x, y)
    return b.select(_borrow(b, r, divisor), b.binary("add", r, divisor), r)


def _unsigned_idiv(b: Builder, x: Val, y: Val) -> Val:
    t = x.ty
    nothing = b.icmp("eq", y, const(t, 0))
    q = _quotient(b, x, b.select(nothing, const(t, 1), y), False)
    return b.select(nothing, const(t, 0), q)


def _unsigned_mod(b: Builder, x: Val, y: Val) -> Val:
    t = x.ty
    divisor = b.select(b.icmp("eq", y, const(t, 0)), const(t, 1), y)
    return b.binary("sub", x, b.binary("mul", _quotient(b, x, divisor, False), divisor))


def _integer_pow(signed: bool) -> Callable[[Builder, Val, Val], Val]:
    def emit(b: Builder, x: Val, y: Val) -> Val:
        name = f"tinyad.ipow.{'s' if signed else 'u'}.{x.ty.suffix}"
        return b.helper(name, x.ty, (x, y), lambda c, a: _power_loop(c, a[0], a[1], signed))

    return emit


def _power_loop(b: Builder, x: Val, y: Val, signed: bool) -> Val:
    """Powering by squares until every lane's exponent is used up. 1 and -1 need only the exponent's lowest bit."""
    t = x.ty
    zero, one = const(t, 0), const(t, 1)
    exponent = y
    start = one
    if signed:
        unit = b.icmp("ult", b.binary("add", x, one), const(t, 3))
        unit = b.binary("and", unit, b.icmp("ne", x, zero))
        negative = b.icmp("slt", y, zero)
        exponent = b.select(unit, b.binary("and", y, one), b.select(negative, zero, y))
        vanishes = b.binary("and", negative, b.binary("xor", unit, const(t.as_bool(), True)))
        start = b.select(vanishes, zero, one)
    loop, done = b.fresh_label("loop"), b.fresh_label("done")
    entry = b.block
    b.branch(loop)
    b.label(loop)
    result, result_place = b.phi(t)
    base, base_place = b.phi(t)
    left, left_place = b.phi(t)
    odd = b.icmp("ne", b.binary("and", left, one), zero)
    product = b.select(odd, b.binary("mul", result, base), result)
    square = b.binary("mul", base, base)
    rest = b.binary("lshr", left, one)
    b.set_phi(result, result_place, [(start, entry), (product, loop)])
    b.set_phi(base, base_place, [(x, entry), (square, loop)])
    b.set_phi(left, left_place, [(exponent, entry), (rest, loop)])
    b.cond_branch(b.any(b.icmp("ne", rest, zero)), loop, done)
    b.label(done)
    return product


def _shift_inside(b: Builder, y: Val) -> tuple[Val, Val]:
    """Whether 0 <= y < width, and y where it is (else 0)."""
    inside = b.icmp("ult", y, const(y.ty, y.ty.bits))
    return inside, b.select(inside, y, const(y.ty, 0))


def _shl(b: Builder, x: Val, y: Val) -> Val:
    inside, count = _shift_inside(b, y)
    return b.select(inside, b.binary("shl", x, count), const(x.ty, 0))


def _lshr(b: Builder, x: Val, y: Val) -> Val:
    inside, count = _shift_inside(b, y)
    return b.select(inside, b.binary("lshr", x, count), const(x.ty, 0))


def _ashr(b: Builder, x: Val, y: Val) -> Val:
    return b.binary("ashr", x, b.intrinsic("umin", y.ty, y, const(y.ty, y.ty.bits - 1)))


# floats -------------------------------------------------------------------------------------------------------------
def _float_remainder(b: Builder, x: Val, y: Val) -> Val:
    """The remainder of x / y truncated, of x's sign, exactly."""
    return b.helper(f"tinyad.fmod.{x.ty.suffix}", x.ty, (x, y), lambda c, a: _remainder_loop(c, a[0], a[1]))


def _exponent(b: Builder, x: Val) -> Val:
    """floor(log2 x) of a positive finite x, as an integer."""
    t, it = x.ty, x.ty.as_int()
    fraction, bias = (52, 1023) if t.bits == 64 else (23, 127)
    small = b.icmp("ult", b.convert("bitcast", x, it), const(it, 1 << fraction))
    scaled = b.select(small, b.binary("fmul", x, const(t, 2.0 ** (fraction + 1))), x)
    field = b.binary("lshr", b.convert("bitcast", scaled, it), const(it, fraction))
    return b.binary("sub", field, b.select(small, const(it, bias + fraction + 1), const(it, bias)))


def _power_of_two(b: Builder, e: Val, t: Ty) -> Val:
    fraction, bias = (52, 1023) if t.bits == 64 else (23, 127)
    return b.convert("bitcast", b.binary("shl", b.binary("add", e, const(e.ty, bias)), const(e.ty, fraction)), t)


def _remainder_loop(b: Builder, x: Val, y: Val) -> Val:
    """fmod by long division in digits of almost a significand's width.

    Each step takes r to r - q s with s = |y| 2^k, k the most that leaves q = r / s below 2^p - 2. r and q s are
    multiples of s's last place and their difference is at most s: fma gives it exactly, and q, a rounded quotient
    truncated, is at most one too large, which one addition of s mends. Lanes already below |y| get q = 0.
    """
    t, it = x.ty, x.ty.as_int()
    digits = 51 if t.bits == 64 else 22
    zero = const(t, 0.0)
    infinity = const(t, float("inf"))
    size, step = b.intrinsic("fabs", t, x), b.intrinsic("fabs", t, y)
    defined = b.binary("and", b.fcmp("olt", size, infinity), b.fcmp("ogt", step, zero))
    divides = b.binary("and", defined, b.fcmp("olt", step, infinity))
    start = b.select(divides, size, zero)
    step = b.select(divides, step, const(t, 1.0))
    step_exponent = _exponent(b, step)

    entry, loop, body, done = b.block, b.fresh_label("loop"), b.fresh_label("body"), b.fresh_label("done")
    b.branch(loop)
    b.label(loop)
    r, place = b.phi(t)
    b.cond_branch(b.any(b.fcmp("oge", r, step)), body, done)
    b.label(body)
    k = b.binary("sub", b.binary("sub", _exponent(b, r), step_exponent), const(it, digits))
    k = b.intrinsic("smax", it, k, const(it, 0))
    half = b.binary("lshr", k, const(it, 1))
    s = b.binary("fmul", step, _power_of_two(b, half, t))
    s = b.binary("fmul", s, _power_of_two(b, b.binary("sub", k, half), t))
    q = b.intrinsic("trunc", t, b.binary("fdiv", r, s))
    rest = b.fma(b.fneg(q), s, r)
    rest = b.select(b.fcmp("olt", rest, zero), b.binary("fadd", rest, s), rest)
    b.set_phi(r, place, [(start, entry), (rest, b.block)])
    b.branch(loop)
    b.label(done)
    left = b.select(divides, r, b.select(defined, size, const(t, float("nan"))))
    return b.copysign(left, x)


def _float_division(b: Builder, x: Val, y: Val) -> tuple[Val, Val]:
    """Floored quotient and remainder as Python's divmod, and NumPy's where y is 0 or something is not finite."""
    t = x.ty
    zero = const(t, 0.0)
    r = _float_remainder(b, x, y)
    quotient = b.binary("fdiv", b.binary("fsub", x, r), y)
    exact = b.fcmp("oeq", r, zero)
    opposite = b.binary("xor", b.fcmp("olt", y, zero), b.fcmp("olt", r, zero))
    shift = b.binary("and", opposite, b.fcmp("une", r, zero))
    quotient = b.select(shift, b.binary("fsub", quotient, const(t, 1.0)), quotient)
    r = b.select(shift, b.binary("fadd", r, y), r)
    r = b.select(exact, b.copysign(zero, y), r)
    # (x - r) / y is an integer up to rounding: take the nearest one.
    floored = b.intrinsic("floor", t, quotient)
    up = b.fcmp("ogt", b.binary("fsub", quotient, floored), const(t, 0.5))
    floored = b.select(up, b.binary("fadd", floored, const(t, 1.0)), floored)
    plain = b.binary("fdiv", x, y)
    floored = b.select(b.fcmp("oeq", quotient, zero), b.copysign(zero, plain), floored)
    return b.select(b.fcmp("oeq", y, zero), plain, floored), r


# the table ----------------------------------------------------------------------------------------------------------
def _instruction(name: str) -> Emitter:
    return lambda b, x, y: b.binary(name, x, y)


def _intrinsic(name: str) -> Emitter:
    return lambda b, *args: b.intrinsic(name, args[0].ty, *args)


def _extreme(name: str, which: int) -> Emitter:
    """The larger or smaller of two floats, NaN if either is."""

    def emit(b: Builder, x: Val, y: Val) -> Val:
        found = avx512.select(b, which, x, y)
        if found is None:
            return b.intrinsic(name, x.ty, x, y)
        return b.select(b.fcmp("uno", x, y), b.binary("fadd", x, y), found)

    return emit


def _same(_: Builder, x: Val) -> Val:
    return x


_rounding = ("floor", "ceil", "trunc", "round")

_BITS: Final[dict[str, Emitter]] = {
    "not": lambda b, x: b.binary("xor", x, const(x.ty, -1)),
    "and": _instruction("and"),
    "or": _instruction("or"),
    "xor": _instruction("xor"),
    "eq": lambda b, x, y: b.icmp("eq", x, y),
    "where": lambda b, c, x, y: b.select(c, x, y),
    **dict.fromkeys(_rounding, _same),
}

_BOOL: Final[dict[str, Emitter]] = {
    **_BITS,
    "abs": _same,
    "add": _instruction("or"),
    "mul": _instruction("and"),
    "max": _instruction("or"),
    "min": _instruction("and"),
    "lt": lambda b, x, y: b.icmp("ult", x, y),
}

_INTEGER: Final[dict[str, Emitter]] = {
    **_BITS,
    "neg": lambda b, x: b.binary("sub", const(x.ty, 0), x),
    "add": _instruction("add"),
    "sub": _instruction("sub"),
    "mul": _instruction("mul"),
    "shl": _shl,
}

_SIGNED: Final[dict[str, Emitter]] = {
    **_INTEGER,
    "abs": lambda b, x: b.intrinsic("abs", x.ty, x, const(I1, False)),
    "idiv": _signed_idiv,
    "mod": _signed_mod,
    "pow": _integer_pow(True),
    "max": _intrinsic("smax"),
    "min": _intrinsic("smin"),
    "lt": lambda b, x, y: b.icmp("slt", x, y),
    "shr": _ashr,
}

_UNSIGNED: Final[dict[str, Emitter]] = {
    **_INTEGER,
    "abs": _same,
    "idiv": _unsigned_idiv,
    "mod": _unsigned_mod,
    "pow": _integer_pow(False),
    "max": _intrinsic("umax"),
    "min": _intrinsic("umin"),
    "lt": lambda b, x, y: b.icmp("ult", x, y),
    "shr": _lshr,
}

_FLOAT: Final[dict[str, Emitter]] = {
    **FUNCTIONS,
    "neg": lambda b, x: b.fneg(x),
    "abs": _intrinsic("fabs"),
    "sqrt": _intrinsic("sqrt"),
    "floor": _intrinsic("floor"),
    "ceil": _intrinsic("ceil"),
    "trunc": _intrinsic("trunc"),
    "round": _intrinsic("roundeven"),
    "add": _instruction("fadd"),
    "sub": _instruction("fsub"),
    "mul": _instruction("fmul"),
    "div": _instruction("fdiv"),
    "muladd": lambda b, x, y, z: b.muladd(x, y, z),
    "idiv": lambda b, x, y: _float_division(b, x, y)[0],
    "mod": lambda b, x, y: _float_division(b, x, y)[1],
    "max": _extreme("maximum", avx512.MAX),
    "min": _extreme("minimum", avx512.MIN),
    "lt": lambda b, x, y: b.fcmp("olt", x, y),
    "eq": lambda b, x, y: b.fcmp("oeq", x, y),
    "where": _BITS["where"],
}

_KINDS: Final = {"b": _BOOL, "i": _SIGNED, "u": _UNSIGNED, "f": _FLOAT}
TABLE: Final[dict[tuple[str, str], Emitter]] = {
    (op, kind): emitter for kind, table in _KINDS.items() for op, emitter in table.items()
}

CONVERSIONS: Final[dict[tuple[str, str], Conversion]] = {
    ("cast", "b"): _from_bool,
    ("cast", "i"): _from_integer,
    ("cast", "u"): _from_integer,
    ("cast", "f"): _from_float,
    **{("bitcast", kind): _bitcast for kind in _KINDS},
}

# Results that float16 need not round again: these hold a half exactly already.
_EXACT: Final = {"neg", "abs", *_rounding, "bitcast", "max", "min", "where"}
ROUNDED: Final = frozenset(OPS) - _EXACT
