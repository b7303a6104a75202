"""Functions of corresponding elements, composed so that values are accurate and derivatives right to every order.

Where a formula needs two branches, the branch is chosen by WHERE on the argument and never by ABS or MAX, whose
derivatives at a kink are a convention; so both sides of the seam have the true derivative. Scale factors and signs
are constants (WHERE of constants) and have none.
"""

from __future__ import annotations

import math
from typing import Any, Final

from .. import ir
from ..autodiff import special
from ..dtypes import DEFAULT_FLOAT, as_dtype, with_scalar
from ..errors import DTypeError
from ..ir import BOOL, FLOAT16, FLOAT32, FLOAT64, DType, Node, Op
from . import core
from .core import Operand, binary, broadcast_to, float_type, floating, like, node, origins, result_type, together

INT8: Final = ir.DTYPES["i8"]
BITS: Final[dict[DType, DType]] = {FLOAT16: ir.DTYPES["i16"], FLOAT32: ir.INT32, FLOAT64: ir.INT64}
LN2: Final = math.log(2)


def same_kind(x: Operand, kinds: str, name: str) -> Node:
    """`x` as a node; DTypeError if its dtype's kind is not among `kinds`."""
    n = node(x)
    if n.dtype.kind not in kinds:
        raise DTypeError(f"'{name}' is not defined for dtype {n.dtype.name} ({origins(x)})")
    return n


def _wide(x: Node) -> Node:
    """float16 as float32: what is composed of several steps is rounded once."""
    return ir.cast(x, FLOAT32) if x.dtype is FLOAT16 else x


def _float(x: Operand) -> Node:
    return node(x, float_type(x))


# arithmetic -------------------------------------------------------------------------------------------------------
def add(x1: Operand, x2: Operand) -> Node:
    """x1 + x2; for bools, or."""
    return binary(Op.ADD, x1, x2)


def subtract(x1: Operand, x2: Operand) -> Node:
    """x1 - x2. Raises DTypeError for bools, as NumPy does."""
    return binary(Op.SUB, x1, x2)


def multiply(x1: Operand, x2: Operand) -> Node:
    """x1 · x2; for bools, and."""
    return binary(Op.MUL, x1, x2)


def divide(x1: Operand, x2: Operand) -> Node:
    """x1 / x2; integers and bools become the default float."""
    return binary(Op.DIV, x1, x2, None if _is_float(x1) and _is_float(x2) else float_type(x1, x2))


def _is_float(x: Operand) -> bool:
    """Whether `x` leaves a common dtype a float."""
    return type(x) is not Node or x.dtype.kind == "f"


def _number_type(x1: Operand, x2: Operand) -> DType:
    """The common dtype; int8 where it would be bool, as NumPy has it for // % **."""
    dtype = result_type(x1, x2)
    return INT8 if dtype is BOOL else dtype


def floor_divide(x1: Operand, x2: Operand) -> Node:
    """floor(x1 / x2), as Python's //; integers: x // 0 is 0."""
    return binary(Op.IDIV, x1, x2, _number_type(x1, x2))


def remainder(x1: Operand, x2: Operand) -> Node:
    """x1 - x2·floor(x1 / x2), as Python's %: the sign is that of x2; integers: x % 0 is 0."""
    return binary(Op.MOD, x1, x2, _number_type(x1, x2))


def fmod(x1: Operand, x2: Operand) -> Node:
    """x1 - x2·trunc(x1 / x2): the sign is that of x1."""
    a, b = together(x1, x2, dtype=_number_type(x1, x2))
    size = remainder(abs(a), abs(b))
    if a.dtype.kind == "u":
        return size
    return ir.where(_negative(a), ir.neg(size), size)


def _negative(x: Node) -> Node:
    """Whether the sign is minus, -0.0 included."""
    return signbit(x) if x.dtype.kind == "f" else ir.lt(x, like(0, x))


_MULTIPLIED: Final = 8  # the largest exponent for which multiplying stays within 4 ulp


def pow(x1: Operand, x2: Operand) -> Node:
    """x1 to the power x2. A Python number |n| <= 8 as exponent is carried out by multiplication, ±0.5 by sqrt.

    Raises ValueError for an integer array to a negative Python integer.
    """
    if isinstance(x1, Node) and not isinstance(x2, Node):
        x, n = x1, x2
        if isinstance(n, int) and x.dtype.kind == "b":
            x = ir.cast(x, with_scalar(BOOL, int(n)) if not isinstance(n, bool) else INT8)
        elif isinstance(n, float) and x.dtype.kind != "f":
            x = ir.cast(x, DEFAULT_FLOAT)
        if n == int(n) if math.isfinite(n) else False:
            if n < 0 and x.dtype.kind != "f":
                raise ValueError(f"Integers to negative integer powers are not allowed. ({origins(x1, x2)})")
            if n <= _MULTIPLIED and n >= -_MULTIPLIED:
                return _integer_power(x, int(n))
        if n == 0.5:
            return ir.sqrt(x)
        if n == -0.5:
            return ir.div(like(1, x), ir.sqrt(x))
        return ir.pow_(x, like(n, x))
    return binary(Op.POW, x1, x2, _number_type(x1, x2))


def _integer_power(x: Node, n: int) -> Node:
    """x^n by repeated squaring; x^0 is 1."""
    if n < 0:
        return ir.div(like(1, x), _integer_power(x, -n))
    result: Node | None = None
    while n:
        if n & 1:
            result = x if result is None else ir.mul(result, x)
        n >>= 1
        if n:
            x = ir.mul(x, x)
    return like(1, x) if result is None else result


def negative(x: Operand) -> Node:
    """-x. Raises DTypeError for bools."""
    n = node(x)
    if n.dtype is BOOL:
        raise DTypeError(
            "the boolean negative, the `-` operator, is not supported; use the `~` operator or logical_not "
            f"({origins(x)})"
        )
    return ir.neg(n)


def positive(x: Operand) -> Node:
    """x. Raises DTypeError for bools."""
    return same_kind(x, "iuf", "positive")


def abs(x: Operand) -> Node:
    """|x|; the derivative at 0 is 0."""
    n = node(x)
    return n if n.dtype.kind in "bu" else ir.abs_(n)


def sign(x: Operand) -> Node:
    """-1, 0 or 1; NaN stays NaN. The derivative is 0."""
    n = same_kind(x, "iuf", "sign")
    zero, one = like(0, n), like(1, n)
    if n.dtype.kind == "u":
        return ir.where(ir.eq(n, zero), zero, one)
    rest = zero if n.dtype.kind == "i" else ir.where(ir.eq(n, n), zero, like(math.nan, n))
    return ir.where(ir.lt(zero, n), one, ir.where(ir.lt(n, zero), like(-1, n), rest))


def square(x: Operand) -> Node:
    """x·x."""
    n = node(x)
    return ir.mul(n, n)


def reciprocal(x: Operand) -> Node:
    """1 / x; integers become the default float."""
    n = _float(x)
    return ir.div(like(1, n), n)


def maximum(x1: Operand, x2: Operand) -> Node:
    """The larger one; NaN if either is. Ties share the derivative ½ : ½."""
    return binary(Op.MAX, x1, x2)


def minimum(x1: Operand, x2: Operand) -> Node:
    """The smaller one; NaN if either is. Ties share the derivative ½ : ½."""
    return binary(Op.MIN, x1, x2)


def clip(x: Operand, min: Operand | None = None, max: Operand | None = None) -> Node:
    """minimum(maximum(x, min), max); a bound that is None does not hold."""
    n = node(x)
    if min is not None:
        n = maximum(n, min)
    return n if max is None else minimum(n, max)


# rounding ---------------------------------------------------------------------------------------------------------
def _rounding(op: Op, x: Operand) -> Node:
    n = node(x)
    return ir.unary(op, n) if n.dtype.kind == "f" else n


def floor(x: Operand) -> Node:
    """The largest integer <= x; integers stay as they are."""
    return _rounding(Op.FLOOR, x)


def ceil(x: Operand) -> Node:
    """The smallest integer >= x; integers stay as they are."""
    return _rounding(Op.CEIL, x)


def trunc(x: Operand) -> Node:
    """x without its fraction; integers stay as they are."""
    return _rounding(Op.TRUNC, x)


def round(x: Operand, decimals: int = 0) -> Node:
    """The nearest integer, halves to even; with `decimals`, of 10^decimals · x."""
    if decimals == 0:
        return _rounding(Op.ROUND, x)
    n = node(x)
    scale = 10 ** (decimals if decimals > 0 else -decimals)
    if n.dtype.kind != "f":
        if decimals > 0 or n.dtype is BOOL:
            return n
        exact = ir.cast(n, FLOAT64)
        return ir.cast(ir.mul(ir.round_(ir.div(exact, like(scale, exact))), like(scale, exact)), n.dtype)
    w = _wide(n)
    s = like(float(scale), w)
    up, down = (ir.mul, ir.div) if decimals > 0 else (ir.div, ir.mul)
    return ir.cast(down(ir.round_(up(w, s)), s), n.dtype)


# exponentials and logarithms --------------------------------------------------------------------------------------
def exp(x: Operand) -> Node:
    """e^x."""
    return floating(Op.EXP, x)


def exp2(x: Operand) -> Node:
    """2^x."""
    n = _float(x)
    return ir.pow_(like(2, n), n)


def expm1(x: Operand) -> Node:
    """e^x - 1, accurate near 0."""
    return floating(Op.EXPM1, x)


def log(x: Operand) -> Node:
    """The natural logarithm."""
    return floating(Op.LOG, x)


def log1p(x: Operand) -> Node:
    """log(1 + x), accurate near 0."""
    return floating(Op.LOG1P, x)


def log2(x: Operand) -> Node:
    """The logarithm to base 2, exact at powers of two."""
    return floating(Op.LOG2, x)


def log10(x: Operand) -> Node:
    """The logarithm to base 10."""
    n = _float(x)
    w = _wide(n)
    return ir.cast(ir.mul(ir.log(w), like(1 / math.log(10), w)), n.dtype)


def logaddexp(x1: Operand, x2: Operand) -> Node:
    """log(e^x1 + e^x2) without overflow: hi + log1p(e^(lo - hi))."""
    a, b = together(x1, x2, dtype=float_type(x1, x2))
    c = ir.lt(a, b)
    hi, lo = ir.where(c, b, a), ir.where(c, a, b)
    smooth = ir.add(hi, ir.log1p(ir.exp(ir.sub(lo, hi))))
    same = ir.and_(ir.eq(lo, hi), isinf(hi))  # inf - inf
    return ir.where(same, hi, smooth)


def sqrt(x: Operand) -> Node:
    """The square root; the derivative at 0 is inf."""
    return floating(Op.SQRT, x)


def cbrt(x: Operand) -> Node:
    """The cube root, of negative numbers too; the derivative at 0 is inf."""
    return floating(Op.CBRT, x)


def rsqrt(x: Operand) -> Node:
    """1 / √x."""
    n = _float(x)
    return ir.div(like(1, n), ir.sqrt(n))


_SCALES: Final[dict[DType, tuple[float, float]]] = {  # (where squaring over- and underflows is far off, 2^k)
    FLOAT32: (2.0**60, 2.0**70),
    FLOAT64: (2.0**500, 2.0**600),
}


def hypot(x1: Operand, x2: Operand) -> Node:
    """√(x1² + x2²) without overflow or underflow: both are scaled by a power of two. The derivative at 0 is 0."""
    dtype = float_type(x1, x2)
    a, b = map(_wide, together(x1, x2, dtype=dtype))
    big, scale = _SCALES[a.dtype]
    one = like(1, a)
    size = ir.maximum(ir.abs_(a), ir.abs_(b))
    down, up = ir.lt(like(big, a), size), ir.lt(size, like(1 / big, a))
    s = ir.where(down, like(1 / scale, a), ir.where(up, like(scale, a), one))
    back = ir.where(down, like(scale, a), ir.where(up, like(1 / scale, a), one))
    a_, b_ = ir.mul(a, s), ir.mul(b, s)
    root = ir.mul(safe_sqrt(ir.add(ir.mul(a_, a_), ir.mul(b_, b_))), back)
    infinite = ir.or_(isinf(a), isinf(b))
    return ir.cast(ir.where(infinite, like(math.inf, a), root), dtype)


def safe_sqrt(q: Node) -> Node:
    """√q whose derivative at 0 is 0, not inf."""
    zero = like(0, q)
    at_zero = ir.eq(q, zero)
    return ir.where(at_zero, zero, ir.sqrt(ir.where(at_zero, like(1, q), q)))


# trigonometry -----------------------------------------------------------------------------------------------------
def sin(x: Operand) -> Node:
    """The sine of radians."""
    return floating(Op.SIN, x)


def cos(x: Operand) -> Node:
    """The cosine of radians."""
    return floating(Op.COS, x)


def tan(x: Operand) -> Node:
    """The tangent of radians."""
    return floating(Op.TAN, x)


def asin(x: Operand) -> Node:
    """The angle in [-π/2, π/2] whose sine is x."""
    return floating(Op.ASIN, x)


def acos(x: Operand) -> Node:
    """The angle in [0, π] whose cosine is x."""
    return floating(Op.ACOS, x)


def atan(x: Operand) -> Node:
    """The angle in [-π/2, π/2] whose tangent is x."""
    return floating(Op.ATAN, x)


def atan2(x1: Operand, x2: Operand) -> Node:
    """The angle of the point (x2, x1) in [-π, π]."""
    return binary(Op.ATAN2, x1, x2, float_type(x1, x2))


def sinh(x: Operand) -> Node:
    """(e^x - e^-x)/2."""
    return floating(Op.SINH, x)


def cosh(x: Operand) -> Node:
    """(e^x + e^-x)/2."""
    return floating(Op.COSH, x)


def tanh(x: Operand) -> Node:
    """The hyperbolic tangent."""
    return floating(Op.TANH, x)


def asinh(x: Operand) -> Node:
    """± log1p(a + a·(a / (1 + √(1 + a²)))) with a = |x|; log a + ln 2 where a is large."""
    n = _float(x)
    w = _wide(n)
    one = like(1, w)
    s = _sign_factor(w)
    a = ir.mul(s, w)
    large = ir.lt(like(2.0**28, w), a)
    inner = ir.where(large, one, a)
    near = ir.log1p(
        ir.add(inner, ir.mul(inner, ir.div(inner, ir.add(one, ir.sqrt(ir.add(one, ir.mul(inner, inner)))))))
    )
    far = ir.add(ir.log(ir.where(large, a, one)), like(LN2, w))
    return ir.cast(ir.mul(s, ir.where(large, far, near)), n.dtype)


def acosh(x: Operand) -> Node:
    """log1p(t + √t·√(t + 2)) with t = x - 1; log x + ln 2 where x is large. NaN for x < 1."""
    n = _float(x)
    w = _wide(n)
    one = like(1, w)
    large = ir.lt(like(2.0**28, w), w)
    t = ir.sub(ir.where(large, like(2, w), w), one)
    near = ir.log1p(ir.add(t, ir.mul(ir.sqrt(t), ir.sqrt(ir.add(t, like(2, w))))))
    far = ir.add(ir.log(ir.where(large, w, one)), like(LN2, w))
    return ir.cast(ir.where(large, far, near), n.dtype)


def atanh(x: Operand) -> Node:
    """± ½·log1p(2a / (1 - a)) with a = |x|."""
    n = _float(x)
    w = _wide(n)
    s = _sign_factor(w)
    a = ir.mul(s, w)
    inner = ir.log1p(ir.div(ir.add(a, a), ir.sub(like(1, w), a)))
    return ir.cast(ir.mul(ir.mul(s, like(0.5, w)), inner), n.dtype)


def _sign_factor(x: Node) -> Node:
    """-1 where the sign bit is set, else 1: a constant for derivatives."""
    return ir.where(signbit(x), like(-1, x), like(1, x))


def erf(x: Operand) -> Node:
    """The error function 2/√π ∫₀ˣ e^(-t²) dt."""
    return floating(Op.ERF, x)


def erfc(x: Operand) -> Node:
    """1 - erf(x), with all its digits where that is small."""
    return floating(Op.ERFC, x)


def lgamma(x: Operand) -> Node:
    """log |Γ(x)|; infinite at 0, -1, -2, ... The derivative is `digamma`."""
    return floating(Op.LGAMMA, x)


def digamma(x: Operand) -> Node:
    """The derivative of `lgamma`: -inf at 0, NaN at -1, -2, ..."""
    return special.digamma(_float(x))


# bits of floats ---------------------------------------------------------------------------------------------------
def signbit(x: Operand) -> Node:
    """Whether the sign is minus, for -0.0 and NaN too."""
    n = node(x)
    if n.dtype.kind != "f":
        return ir.lt(n, like(0, n))
    bits = ir.bitcast(n, BITS[n.dtype])
    return ir.lt(bits, like(0, bits))


def copysign(x1: Operand, x2: Operand) -> Node:
    """|x1| with the sign of x2; the derivative is ±1 towards x1 and 0 towards x2."""
    a, b = together(x1, x2, dtype=float_type(x1, x2))
    return ir.where(ir.eq(signbit(a), signbit(b)), a, ir.neg(a))


def nextafter(x1: Operand, x2: Operand) -> Node:
    """The next number after x1 in the direction of x2. No derivative."""
    a, b = together(x1, x2, dtype=float_type(x1, x2))
    bits = ir.bitcast(a, BITS[a.dtype])
    zero, one = like(0, bits), like(1, bits)
    away = ir.eq(ir.lt(a, b), ir.lt(like(0, a), a))  # the magnitude grows
    step = ir.bitcast(ir.add(bits, ir.where(away, one, like(-1, bits))), a.dtype)
    tiny = ir.bitcast(one, a.dtype)
    first = ir.where(ir.lt(b, like(0, b)), ir.neg(tiny), tiny)
    moved = ir.where(ir.eq(ir.shl(bits, one), zero), first, step)
    number = ir.and_(ir.eq(a, a), ir.eq(b, b))
    return ir.where(number, ir.where(ir.eq(a, b), b, moved), ir.add(a, b))


def isnan(x: Operand) -> Node:
    """Whether x is NaN."""
    n = node(x)
    return ir.not_(ir.eq(n, n)) if n.dtype.kind == "f" else ir.const(False, BOOL, n.shape)


def isinf(x: Operand) -> Node:
    """Whether x is inf or -inf."""
    n = node(x)
    return ir.eq(ir.abs_(n), like(math.inf, n)) if n.dtype.kind == "f" else ir.const(False, BOOL, n.shape)


def isfinite(x: Operand) -> Node:
    """Whether x is neither NaN nor infinite."""
    n = node(x)
    return ir.lt(ir.abs_(n), like(math.inf, n)) if n.dtype.kind == "f" else ir.const(True, BOOL, n.shape)


# selection and dtype ----------------------------------------------------------------------------------------------
def where(condition: Operand, x1: Operand, x2: Operand) -> Node:
    """x1 where `condition`, else x2; the branch not taken has derivative 0, even where it is not finite."""
    c = ir.cast(node(condition), BOOL)
    dtype = result_type(x1, x2)
    shape = core.broadcast_shape(c, x1, x2)
    return ir.where(broadcast_to(c, shape), broadcast_to(x1, shape, dtype), broadcast_to(x2, shape, dtype))


def astype(x: Node, dtype: Any, *, copy: bool = True) -> Node:
    """x converted to `dtype`: floats are truncated to integers and saturate, NaN becomes 0; bool is x != 0."""
    del copy  # a new tensor never shares a variable with another one
    return ir.cast(x, as_dtype(dtype))


def nan_to_num(x: Operand, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Node:
    """x with NaN, inf and -inf replaced (by 0 and the largest finite numbers); their derivative is 0."""
    n = node(x)
    if n.dtype.kind != "f":
        return n
    import numpy as np

    top = float(np.finfo(n.dtype).max)
    n = ir.where(ir.eq(n, like(math.inf, n)), like(top if posinf is None else posinf, n), n)
    n = ir.where(ir.eq(n, like(-math.inf, n)), like(-top if neginf is None else neginf, n), n)
    return ir.where(ir.eq(n, n), n, like(nan, n))


def lerp(x1: Operand, x2: Operand, weight: Operand) -> Node:
    """x1 + weight·(x2 - x1); integers become the default float."""
    a, b, w = together(x1, x2, weight, dtype=float_type(x1, x2, weight))
    return ir.add(a, ir.mul(w, ir.sub(b, a)))
