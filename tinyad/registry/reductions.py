"""Records of the reductions and running sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from ..errors import AxisError, DTypeError
from .record import Bad, Kink, Of, Record, Samples, at, call, fixed, on

Reference = Callable[..., Any]
ALL: Final = "biuf"

_AXES: Final = fixed(
    call(Of(3, 5)),
    call(Of(3, 5), 0),
    call(Of(3, 5), -1),
    call(Of(2, 3, 4), (0, 2)),
    call(Of(2, 3, 4), axis=1, keepdims=True),
    call(Of()),
    call(Of(1)),
    call(Of(0, 3), 1),
    call(Of(33)),
    call(Of(2, 3, 4), (), keepdims=False),
)
_EMPTY: Final = fixed(call(Of(0)), call(Of(3, 0), 1), call(Of(0, 2), 0, keepdims=True))
_AXIS: Final = fixed(
    call(Of(3, 5), 0), call(Of(3, 5), -1), call(Of(7)), call(Of(1), 0), call(Of(4, 3)), call(Of(0, 3), 1)
)
_NAN: Final = fixed(lambda rng, d: call(np.array([1, np.nan, 3] if d.kind == "f" else [1, 2, 3]).astype(d))(rng, d))
_BAD: Final = (Bad((np.zeros((2, 3)), 2), AxisError, "axis 2 is out of bounds for array of dimension 2"),)
_BAD_TUPLE: Final = (*_BAD, Bad((np.zeros((2, 3)), (0, 0)), ValueError, "duplicate value in 'axis'"))
_POINTS: Final = at(on((2, 3)), call(Of(2, 3), 1), call(Of(2, 3, 2), (0, 2), keepdims=True))


def _both(*parts: Samples) -> Samples:
    return lambda rng, dtype: (s for part in parts for s in part(rng, dtype))


def _reduction(name: str, reference: Reference, samples: Samples, **rest: Any) -> Record:
    rest.setdefault("errors", _BAD_TUPLE)
    return Record(name, "reductions", rest.pop("kinds", ALL), samples, reference, **{"scale": 20, **rest})


def _keep(f: Reference) -> Reference:
    """NumPy's function, which for some keepdims has no form of its own."""

    def reference(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        return f(x, axis=axis, keepdims=keepdims)

    return reference


def _logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    from scipy.special import logsumexp

    if x.size == 0:
        with np.errstate(divide="ignore"):
            return np.log(np.sum(np.exp(x), axis=axis, keepdims=keepdims))
    return x if axis == () else logsumexp(x, axis=axis, keepdims=keepdims)


def _mean(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    return np.sum(x.astype(np.float64), axis=axis, keepdims=keepdims) / np.sum(
        np.ones(x.shape), axis=axis, keepdims=keepdims
    )


def _var(x: Any, axis: Any = None, keepdims: bool = False, correction: float = 0) -> Any:
    return np.var(x.astype(np.float64), axis=axis, keepdims=keepdims, ddof=correction)


def _std(x: Any, axis: Any = None, keepdims: bool = False, correction: float = 0) -> Any:
    return np.sqrt(_var(x, axis, keepdims, correction))


def _running(f: np.ufunc) -> Reference:
    def reference(x: Any, axis: int | None = None) -> Any:
        flat = x.reshape(-1) if axis is None else x
        return f.accumulate(flat, axis=axis or 0) if flat.ndim else flat.reshape(1)

    return reference


def _initial(f: Reference, first: int) -> Reference:
    def reference(x: Any, axis: int = 0, include_initial: bool = False) -> Any:
        y = f(x, axis=axis)
        return np.insert(y, 0, first, axis) if include_initial else y

    return reference


_SPREAD: Final = fixed(
    call(Of(3, 5), 0),
    call(Of(3, 5), -1),
    call(Of(9)),
    call(Of(2, 3, 4), (0, 2), keepdims=True),
    call(Of(6), correction=1),
)
_HALF: Final = np.array([0.5, 0.5, 0.0])
_TIES: Final = (Kink((np.array([2.0, 2.0, 1.0]),), (_HALF,)),)
_NO_IDENTITY: Final = Bad((np.zeros((0,)),), ValueError, "which has no identity")

RECORDS: Final = (
    _reduction(
        "sum",
        np.sum,
        _both(_AXES, _EMPTY),
        result="total",
        orders=2,
        smooth=_POINTS,
        linear=True,
        errors=(*_BAD_TUPLE, Bad((np.zeros(2),), DTypeError, "not defined for dtype bool", {"dtype": "bool"})),
    ),
    _reduction(
        "prod",
        np.prod,
        _both(_AXES, _EMPTY),
        result="total",
        orders=2,
        smooth=_POINTS,
        scale=1e4,
        wide=False,
        kinks=(
            Kink((np.array([0.0, 2.0, 3.0]),), (np.array([6.0, 0.0, 0.0]),)),
            Kink((np.array([0.0, 0.0, 3.0]),), (np.zeros(3),)),
        ),
    ),
    _reduction(
        "max",
        np.max,
        _both(_AXES, _NAN),
        orders=2,
        smooth=_POINTS,
        kinks=_TIES,
        errors=(*_BAD_TUPLE, _NO_IDENTITY),
        aliases=("amax",),
    ),
    _reduction(
        "min",
        np.min,
        _both(_AXES, _NAN),
        orders=2,
        smooth=_POINTS,
        errors=(*_BAD_TUPLE, _NO_IDENTITY),
        kinks=(Kink((np.array([2.0, 2.0, 3.0]),), (_HALF,)),),
        aliases=("amin",),
    ),
    _reduction("mean", _mean, _AXES, result="float", orders=2, smooth=_POINTS, linear=True),
    _reduction("var", _var, _SPREAD, result="float", orders=2, smooth=_POINTS),
    _reduction(
        "std",
        _std,
        _SPREAD,
        result="float",
        orders=2,
        smooth=at(on((2, 5)), call(Of(2, 3), 1)),
        kinks=(Kink((np.ones(3),), (np.zeros(3),)),),
    ),
    _reduction("any", _keep(np.any), _both(_AXES, _EMPTY), result="bool"),
    _reduction("all", _keep(np.all), _both(_AXES, _EMPTY), result="bool"),
    _reduction("count_nonzero", _keep(np.count_nonzero), _both(_AXES, _EMPTY), result="int64", wide=False),
    _reduction(
        "argmax",
        _keep(np.argmax),
        _both(_AXIS, _NAN),
        result="int64",
        errors=(*_BAD, Bad((np.zeros(0),), ValueError, "attempt to get argmax of an empty sequence")),
    ),
    _reduction(
        "argmin",
        _keep(np.argmin),
        _both(_AXIS, _NAN),
        result="int64",
        errors=(*_BAD, Bad((np.zeros(0),), ValueError, "attempt to get argmin of an empty sequence")),
    ),
    _reduction(
        "logsumexp",
        _logsumexp,
        _both(_AXES, _EMPTY),
        result="float",
        orders=2,
        smooth=_POINTS,
        kinks=(
            Kink((np.array([-np.inf, -np.inf]),), (np.zeros(2),)),
            Kink((np.array([-np.inf, 1.0]),), (np.array([0.0, 1.0]),)),
        ),
    ),
    _reduction(
        "cumsum",
        np.cumsum,
        _both(_AXIS, _EMPTY_AXIS := fixed(call(Of(0)))),
        result="total",
        orders=2,
        smooth=at(on((2, 3)), call(Of(2, 3), 1)),
        errors=_BAD,
        linear=True,
    ),
    _reduction(
        "cumprod",
        np.cumprod,
        _both(_AXIS, _EMPTY_AXIS),
        result="total",
        orders=2,
        wide=False,
        scale=1e3,
        smooth=at(on((2, 3)), call(Of(2, 3), 1)),
        errors=_BAD,
        kinks=(Kink((np.array([2.0, 0.0, 3.0]),), (np.array([1.0, 8.0, 0.0]),)),),
    ),
    _reduction(
        "cumulative_sum",
        _initial(np.cumsum, 0),
        fixed(call(Of(5)), call(Of(3, 4), axis=1, include_initial=True), call(Of(0))),
        result="total",
        orders=2,
        smooth=at(call(Of(2, 3), axis=1, include_initial=True)),
        linear=True,
        errors=(Bad((np.zeros((2, 3)),), ValueError, "'axis' must be given"),),
    ),
    _reduction(
        "cumulative_prod",
        _initial(np.cumprod, 1),
        fixed(call(Of(5)), call(Of(3, 4), axis=1, include_initial=True), call(Of(0))),
        result="total",
        orders=2,
        smooth=at(call(Of(2, 3), axis=1, include_initial=True)),
        wide=False,
        scale=1e3,
        errors=(Bad((np.zeros((2, 3)),), ValueError, "'axis' must be given"),),
    ),
    _reduction(
        "cummax",
        _running(np.maximum),
        _both(_AXIS, _NAN),
        orders=2,
        smooth=at(on((2, 3)), call(Of(2, 3), 1)),
        errors=_BAD,
        kinks=(Kink((np.array([1.0, 1.0, 0.0]),), (np.array([1.0, 2.0, 0.0]),)),),
    ),
    _reduction(
        "cummin",
        _running(np.minimum),
        _both(_AXIS, _NAN),
        orders=2,
        smooth=at(on((2, 3)), call(Of(2, 3), 1)),
        errors=_BAD,
    ),
    _reduction(
        "diff",
        np.diff,
        fixed(call(Of(7)), call(Of(4, 3), axis=0), call(Of(4, 5), 2), call(Of(1)), call(Of(0, 3))),
        orders=2,
        smooth=at(on((4,)), call(Of(2, 4), 2)),
        linear=True,
        errors=(Bad((np.zeros(3), -1), ValueError, "order must be non-negative"),),
    ),
)
