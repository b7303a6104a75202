"""Records of the elementwise functions, comparisons and logic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from ..errors import DTypeError, ShapeError
from ..interpret import lgamma
from .record import Bad, Kink, Of, Record, at, binary_samples, call, fixed, on, unary_samples

Reference = Callable[..., Any]
ALL, NUMBER, SIGNED, INTEGER, BITS = "biuf", "iuf", "if", "iu", "biu"


def _scipy(name: str) -> Reference:
    """A function of `scipy.special`, imported when called."""

    def call(x: Any) -> Any:
        from scipy import special

        return getattr(special, name)(x)

    return call


def _lgamma(x: Any) -> Any:
    return np.vectorize(lgamma, otypes=[float])(x)


def _digamma(x: Any) -> Any:
    return _scipy("digamma")(x + 0.0)  # SciPy tells -0 from 0


def _unary(
    name: str,
    reference: Reference,
    kinds: str = ALL,
    result: str = "float",
    orders: int = 2,
    domain: tuple[float, float] = (-2.0, 2.0),
    kinks: tuple[Kink, ...] = (),
    ulps: float = 4,
    ends: bool = True,
    wide: bool = True,
    aliases: tuple[str, ...] = (),
    linear: bool = False,
    scale: float = 0,
) -> Record:
    low, high = domain
    refused = Bad((np.zeros(2, "float64" if "f" not in kinds else "bool"),), DTypeError, "not ")
    return Record(
        name,
        "elementwise",
        kinds,
        unary_samples(ends=ends),
        reference,
        result,
        orders,
        at(on((2, 3), low=low, high=high), on((), low=low, high=high)) if orders else None,
        kinks,
        (refused,) if kinds != ALL else (),
        linear,
        ulps,
        scale,
        wide,
        aliases,
    )


def _binary(
    name: str,
    reference: Reference,
    kinds: str = ALL,
    result: str = "same",
    orders: int = 2,
    domain: tuple[float, float] = (0.3, 2.0),
    kinks: tuple[Kink, ...] = (),
    ulps: float = 4,
    ends: bool = True,
    nonzero: bool = False,
    wide: bool = True,
    aliases: tuple[str, ...] = (),
    linear: bool = False,
) -> Record:
    low, high = domain
    errors = [
        Bad(
            (np.zeros(3, d), np.zeros(4, d)),
            ShapeError,
            "operands could not be broadcast together with shapes (3,) (4,)",
        )
        for d in ["float32" if "f" in kinds else "int32"]
    ]
    if "f" not in kinds:
        errors.append(Bad((np.zeros(3), np.zeros(3)), DTypeError, "not defined for dtype float64"))
    elif "b" not in kinds:
        errors.append(Bad((np.zeros(3, bool), np.zeros(3, bool)), DTypeError, "not defined for dtype bool"))
    return Record(
        name,
        "elementwise",
        kinds,
        binary_samples(ends=ends, nonzero=nonzero),
        reference,
        result,
        orders,
        at(on((2, 3), (3,), low=low, high=high)) if orders else None,
        kinks,
        tuple(errors),
        linear,
        ulps,
        0,
        wide,
        aliases,
    )


def _logical(f: Reference) -> Reference:
    return lambda a, b: f(np.asarray(a) != 0, np.asarray(b) != 0)


def _round(x: Any, decimals: int = 0) -> Any:
    return x if x.dtype.kind == "b" else np.round(x, decimals)


def _pow(a: Any, b: Any) -> Any:
    return np.power(a.astype(np.int8), b.astype(np.int8)) if a.dtype.kind == "b" else np.power(a, b)


def _as_int8(f: Reference) -> Reference:
    return lambda a, b: f(a.astype(np.int8), b.astype(np.int8)) if a.dtype.kind == "b" else f(a, b)


def _nextafter(a: Any, b: Any) -> Any:
    return np.nextafter(a, b) if a.dtype.kind == "f" else np.nextafter(a.astype(np.float32), b.astype(np.float32))


def _zero(x: float = 0.0) -> tuple[Any, ...]:
    return (np.array([x]),)


_ONE: Final = (np.array([1.0]),)
_NONE: Final = (np.array([0.0]),)

RECORDS: Final = (
    _unary("abs", np.abs, ALL, "same", kinks=(Kink(_zero(), _NONE),), aliases=("absolute",), domain=(0.1, 3)),
    _unary("acos", np.arccos, aliases=("arccos",), domain=(-0.9, 0.9)),
    _unary("acosh", np.arccosh, aliases=("arccosh",), domain=(1.2, 4)),
    _unary("asin", np.arcsin, aliases=("arcsin",), domain=(-0.9, 0.9)),
    _unary("asinh", np.arcsinh, aliases=("arcsinh",), kinks=(Kink(_zero(), _ONE),)),
    _unary("atan", np.arctan, aliases=("arctan",)),
    _unary("atanh", np.arctanh, aliases=("arctanh",), domain=(-0.9, 0.9), kinks=(Kink(_zero(), _ONE),)),
    _unary("cbrt", np.cbrt, domain=(0.3, 3), kinks=(Kink(_zero(), (np.array([np.inf]),)),)),
    _unary("ceil", np.ceil, ALL, "same", orders=2, domain=(0.1, 0.9), kinks=(Kink(_zero(), _NONE),)),
    _unary("cos", np.cos),
    _unary("cosh", np.cosh),
    _unary("erf", _scipy("erf")),
    _unary("erfc", _scipy("erfc")),
    _unary("digamma", _digamma, domain=(0.3, 4), ulps=40, scale=1),
    _unary("exp", np.exp),
    _unary("exp2", np.exp2),
    _unary("expm1", np.expm1),
    _unary("floor", np.floor, ALL, "same", domain=(0.1, 0.9), kinks=(Kink(_zero(), _NONE),)),
    _unary("isfinite", np.isfinite, result="bool", orders=0),
    _unary("isinf", np.isinf, result="bool", orders=0),
    _unary("isnan", np.isnan, result="bool", orders=0),
    _unary("lgamma", _lgamma, domain=(0.3, 4), scale=8),
    _unary("log", np.log, domain=(0.3, 3)),
    _unary("log10", np.log10, domain=(0.3, 3)),
    _unary("log1p", np.log1p, domain=(-0.5, 3)),
    _unary("log2", np.log2, domain=(0.3, 3)),
    _unary("logical_not", np.logical_not, result="bool", orders=0),
    _unary("bitwise_invert", np.invert, BITS, "same", orders=0, aliases=("bitwise_not", "invert")),
    _unary("negative", np.negative, NUMBER, "same", linear=True),
    _unary("positive", np.positive, NUMBER, "same", linear=True),
    _unary("reciprocal", lambda x: 1 / x, domain=(0.3, 3)),
    _unary("rsqrt", lambda x: 1 / np.sqrt(x), domain=(0.3, 3)),
    _unary("sign", np.sign, NUMBER, "same", domain=(0.1, 2), kinks=(Kink(_zero(), _NONE),)),
    _unary("signbit", lambda x: x < 0 if x.dtype.kind != "f" else np.signbit(x), result="bool", orders=0),
    _unary("sin", np.sin),
    _unary("sinh", np.sinh, kinks=(Kink(_zero(), _ONE),)),
    _unary("sqrt", np.sqrt, domain=(0.3, 3), kinks=(Kink(_zero(), (np.array([np.inf]),)),)),
    _unary("square", np.square, ALL, "same"),
    _unary("tan", np.tan, domain=(-1, 1)),
    _unary("tanh", np.tanh),
    _unary("trunc", np.trunc, ALL, "same", domain=(0.1, 0.9), kinks=(Kink(_zero(), _NONE),)),
    Record(
        "round",
        "elementwise",
        ALL,
        fixed(
            on((7,)),
            on((3, 4)),
            on((5,), decimals=1, low=-400, high=400),
            on((5,), decimals=-2, low=-100, high=100),
            on(()),
        ),
        _round,
        orders=2,
        smooth=at(on((3,), low=0.1, high=0.4)),
        kinks=(Kink((np.array([0.5]),), _NONE),),
        ulps=2,
    ),
    Record(
        "nan_to_num",
        "elementwise",
        ALL,
        unary_samples(),
        np.nan_to_num,
        orders=2,
        smooth=at(on((3,))),
        wide=False,
        kinks=(Kink((np.array([np.nan, np.inf, 1.0]),), (np.array([0.0, 0.0, 1.0]),)),),
    ),
    Record(
        "astype",
        "elementwise",
        ALL,
        fixed(call(Of(3, 4), "float64"), call(Of(5), "bool"), call(Of(0), "int8")),
        lambda x, dtype: x.astype(dtype),
        "any",
        orders=2,
        smooth=at(call(Of(3), "float64")),
        wide=False,
        linear=True,
        errors=(Bad((np.zeros(2), "complex128"), DTypeError, "dtype complex128 is not supported"),),
    ),
    _binary("add", np.add, linear=True),
    _binary("subtract", np.subtract, NUMBER, linear=True),
    _binary("multiply", np.multiply),
    _binary("divide", lambda a, b: np.true_divide(a, b), result="float", aliases=("true_divide",)),
    _binary("floor_divide", _as_int8(np.floor_divide), result="number", orders=0, nonzero=True, ends=False, wide=False),
    _binary(
        "remainder",
        _as_int8(np.remainder),
        result="number",
        nonzero=True,
        ends=False,
        wide=False,
        aliases=("mod",),
        domain=(0.35, 0.6),
    ),
    _binary(
        "fmod", _as_int8(np.fmod), result="number", nonzero=True, ends=False, wide=False, orders=1, domain=(0.35, 0.6)
    ),
    Record(
        "pow",
        "elementwise",
        ALL,
        binary_samples(0, 4, ends=False),
        _pow,
        "number",
        2,
        at(
            on((2, 3), (3,), low=0.3, high=2),
            call(Of(3), 2),
            call(Of(3), -3),
            call(Of(3, low=0.5), 0.5),
            call(Of(3), 5.0),
        ),
        kinks=(Kink((np.array([0.0]), 2), _NONE), Kink((np.array([0.0]), 1), _ONE), Kink((np.array([0.0]), 0), _NONE)),
        errors=(Bad((np.arange(3), -1), ValueError, "Integers to negative integer powers are not allowed."),),
        aliases=("power",),
    ),
    _binary(
        "maximum", np.maximum, kinks=(Kink((np.array([1.0]), np.array([1.0])), (np.array([0.5]), np.array([0.5]))),)
    ),
    _binary(
        "minimum", np.minimum, kinks=(Kink((np.array([1.0]), np.array([1.0])), (np.array([0.5]), np.array([0.5]))),)
    ),
    _binary("atan2", np.arctan2, result="float", aliases=("arctan2",)),
    _binary(
        "hypot",
        lambda a, b: np.hypot(a, b),
        result="float",
        kinks=(Kink((np.array([0.0]), np.array([0.0])), (np.array([0.0]), np.array([0.0]))),),
    ),
    _binary(
        "logaddexp",
        np.logaddexp,
        result="float",
        kinks=(Kink((np.array([2.0]), np.array([2.0])), (np.array([0.5]), np.array([0.5]))),),
    ),
    _binary("copysign", np.copysign, result="float"),
    _binary("nextafter", _nextafter, result="float", orders=0, wide=False),
    _binary("less", np.less, result="bool", orders=0),
    _binary("less_equal", np.less_equal, result="bool", orders=0),
    _binary("greater", np.greater, result="bool", orders=0),
    _binary("greater_equal", np.greater_equal, result="bool", orders=0),
    _binary("equal", np.equal, result="bool", orders=0),
    _binary("not_equal", np.not_equal, result="bool", orders=0),
    _binary("logical_and", _logical(np.logical_and), result="bool", orders=0),
    _binary("logical_or", _logical(np.logical_or), result="bool", orders=0),
    _binary("logical_xor", _logical(np.logical_xor), result="bool", orders=0),
    _binary("bitwise_and", np.bitwise_and, BITS, orders=0),
    _binary("bitwise_or", np.bitwise_or, BITS, orders=0),
    _binary("bitwise_xor", np.bitwise_xor, BITS, orders=0),
    Record(
        "bitwise_left_shift",
        "elementwise",
        INTEGER,
        binary_samples(0, 7, ends=False),
        np.left_shift,
        aliases=("left_shift",),
        errors=(Bad((np.zeros(2, bool), np.zeros(2, bool)), DTypeError, "not defined for dtype bool"),),
    ),
    Record(
        "bitwise_right_shift",
        "elementwise",
        INTEGER,
        binary_samples(0, 7, ends=False),
        np.right_shift,
        aliases=("right_shift",),
        errors=(Bad((np.zeros(2), np.zeros(2)), DTypeError, "not defined for dtype float64"),),
    ),
    Record(
        "where",
        "elementwise",
        ALL,
        fixed(
            call(np.array([[True], [False], [True]]), Of(3, 4), Of(4)),
            call(np.array([True, False]), Of(2), Of(1)),
            call(np.array(True), Of(), Of(0)),
        ),
        np.where,
        orders=2,
        smooth=at(call(np.array([True, False]), Of(2), Of(2))),
        kinks=(
            Kink(
                (np.array([True, False]), np.array([np.inf, 1.0]), np.array([0.0, np.nan])),
                (None, np.array([1.0, 0.0]), np.array([0.0, 1.0])),
            ),
        ),
        wide=False,
    ),
    Record(
        "clip",
        "elementwise",
        "biuf",
        fixed(call(Of(5, 3), 1, 2), call(Of(7), min=1), call(Of(7), None, 2), call(Of(4, 3), Of(3), 3)),
        lambda x, min=None, max=None: np.clip(x, min, max),
        "integer",
        orders=2,
        smooth=at(call(Of(9), -1, 2), call(Of(4, 3), Of(3), 3.0)),
        kinks=(Kink((np.array([0.0, 1.0, 2.0, 3.0]), 1.0, 2.0), (np.array([0.0, 0.5, 0.5, 0.0]),)),),
        wide=False,
    ),
    Record(
        "lerp",
        "elementwise",
        "biuf",
        fixed(on((3,), (3,), (1,)), call(Of(2, 3), Of(3), 0.25)),
        lambda a, b, t: a + t * (b - a),
        "float",
        orders=2,
        smooth=at(on((3,), (3,), (1,))),
        scale=8,
    ),
)
