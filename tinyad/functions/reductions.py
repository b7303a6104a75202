"""Sums, products, extrema, statistics and running sums over axes. `axis`: an int, a tuple or None (all axes)."""

from __future__ import annotations

from typing import Any

from .. import ir
from ..dtypes import DEFAULT_FLOAT, as_dtype
from ..errors import DTypeError
from ..ir import BOOL, INT32, INT64, DType, Node, Op
from .core import Axis, axes_of, axis_index, drop_axes, like, origins
from .elementwise import isinf, safe_sqrt

UINT64 = ir.DTYPES["u64"]


def _finish(y: Node, axes: tuple[int, ...], keepdims: bool) -> Node:
    return y if keepdims or not axes else drop_axes(y, axes)


def _accumulator(dtype: DType) -> DType:
    """What sums and products of `dtype` are: 64 bits for integers and bools."""
    return INT64 if dtype.kind in "bi" else UINT64 if dtype.kind == "u" else dtype


def _float_of(x: Node) -> Node:
    return x if x.dtype.kind == "f" else ir.cast(x, DEFAULT_FLOAT)


def _accumulate(op: Op, x: Node, axis: Axis, dtype: Any, keepdims: bool) -> Node:
    axes = axes_of(axis, len(x.shape))
    d = _accumulator(x.dtype) if dtype is None else as_dtype(dtype)
    if d is BOOL:
        raise DTypeError(f"'{op.value}' is not defined for dtype bool ({origins(x)})")
    return _finish(ir.reduce(op, ir.cast(x, d), axes), axes, keepdims)


def sum(x: Node, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> Node:
    """The sum over `axis`; bools and integers give 64-bit integers, an empty sum is 0."""
    return _accumulate(Op.SUM, x, axis, dtype, keepdims)


def prod(x: Node, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> Node:
    """The product over `axis`; bools and integers give 64-bit integers, an empty product is 1."""
    return _accumulate(Op.PROD, x, axis, dtype, keepdims)


def _extremum(op: Op, name: str, x: Node, axis: Axis, keepdims: bool) -> Node:
    axes = axes_of(axis, len(x.shape))
    if 0 in [x.shape[i] for i in axes]:
        raise ValueError(f"zero-size array to reduction operation {name} which has no identity ({origins(x)})")
    return _finish(ir.reduce(op, x, axes), axes, keepdims)


def max(x: Node, axis: Axis = None, keepdims: bool = False) -> Node:
    """The largest element over `axis`, NaN if there is one; ties share the derivative evenly.

    Raises ValueError if the axis is empty.
    """
    return _extremum(Op.REDUCE_MAX, "maximum", x, axis, keepdims)


def min(x: Node, axis: Axis = None, keepdims: bool = False) -> Node:
    """The smallest element over `axis`, NaN if there is one; ties share the derivative evenly.

    Raises ValueError if the axis is empty.
    """
    return _extremum(Op.REDUCE_MIN, "minimum", x, axis, keepdims)


def _count(x: Node, axes: tuple[int, ...]) -> int:
    n = 1
    for i in axes:
        n *= x.shape[i]
    return n


def mean(x: Node, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> Node:
    """The arithmetic mean over `axis`; integers and bools become the default float; NaN over nothing."""
    axes = axes_of(axis, len(x.shape))
    x = _float_of(x) if dtype is None else ir.cast(x, as_dtype(dtype))
    total = ir.sum_(x, axes)
    return _finish(ir.div(total, like(_count(x, axes), total)), axes, keepdims)


def var(x: Node, axis: Axis = None, dtype: Any = None, keepdims: bool = False, *, correction: float = 0,
        ddof: float | None = None) -> Node:  # fmt: skip
    """Σ(x - mean)² / (n - correction) over `axis`; `ddof` is NumPy's older name of `correction`."""
    axes = axes_of(axis, len(x.shape))
    x = _float_of(x) if dtype is None else ir.cast(x, as_dtype(dtype))
    count = _count(x, axes)
    total = ir.sum_(x, axes)
    deviation = ir.sub(x, ir.expand(ir.div(total, like(count, total)), x.shape))
    squares = ir.sum_(ir.mul(deviation, deviation), axes)
    left = count - (correction if ddof is None else ddof)
    return _finish(ir.div(squares, like(left if left > 0 else 0, squares)), axes, keepdims)


def std(x: Node, axis: Axis = None, dtype: Any = None, keepdims: bool = False, *, correction: float = 0,
        ddof: float | None = None) -> Node:  # fmt: skip
    """√var; its derivative where it is 0 is 0."""
    return safe_sqrt(var(x, axis, dtype, keepdims, correction=correction, ddof=ddof))


def any(x: Node, axis: Axis = None, keepdims: bool = False) -> Node:
    """Whether any element over `axis` is true (not zero); of nothing: False."""
    axes = axes_of(axis, len(x.shape))
    return _finish(ir.reduce(Op.REDUCE_MAX, ir.cast(x, BOOL), axes), axes, keepdims)


def all(x: Node, axis: Axis = None, keepdims: bool = False) -> Node:
    """Whether every element over `axis` is true (not zero); of nothing: True."""
    axes = axes_of(axis, len(x.shape))
    return _finish(ir.reduce(Op.REDUCE_MIN, ir.cast(x, BOOL), axes), axes, keepdims)


def count_nonzero(x: Node, axis: Axis = None, keepdims: bool = False) -> Node:
    """How many elements over `axis` are not zero, int64."""
    return sum(ir.cast(x, BOOL), axis, keepdims=keepdims)


def _position(op: Op, name: str, x: Node, axis: int | None, keepdims: bool) -> Node:
    """The first place of the extremum, a NaN counting as it."""
    rank = len(x.shape)
    if axis is None:
        flat = _position(op, name, ir.reshape(x, (x.size,)), 0, False)
        return ir.reshape(flat, (1,) * rank) if keepdims else flat
    i = axis_index(axis, rank)
    n = x.shape[i]
    if n == 0:
        raise ValueError(f"attempt to get {name} of an empty sequence ({origins(x)})")
    hit = ir.eq(x, ir.expand(ir.reduce(op, x, (i,)), x.shape))
    if x.dtype.kind == "f":
        hit = ir.or_(hit, ir.not_(ir.eq(x, x)))
    place = along(ir.iota(n, INT32 if n < 1 << 31 else INT64), i, x.shape)  # as many to a vector as there are floats
    first = ir.cast(ir.reduce(Op.REDUCE_MIN, ir.where(hit, place, like(n, place)), (i,)), INT64)
    return first if keepdims else drop_axes(first, (i,))


def along(v: Node, axis: int, shape: tuple[int, ...]) -> Node:
    """The vector `v` laid along `axis` of `shape`, repeated along the others."""
    one = (1,) * axis + (v.shape[0],) + (1,) * (len(shape) - axis - 1)
    return ir.expand(ir.reshape(v, one), shape)


def argmax(x: Node, axis: int | None = None, keepdims: bool = False) -> Node:
    """The index of the first largest element (or NaN) along `axis`, int64; None: of the flattened array."""
    return _position(Op.REDUCE_MAX, "argmax", x, axis, keepdims)


def argmin(x: Node, axis: int | None = None, keepdims: bool = False) -> Node:
    """The index of the first smallest element (or NaN) along `axis`, int64; None: of the flattened array."""
    return _position(Op.REDUCE_MIN, "argmin", x, axis, keepdims)


def logsumexp(x: Node, axis: Axis = None, keepdims: bool = False) -> Node:
    """log Σ e^x over `axis` without overflow; -inf where all are -inf, with derivative 0 there."""
    axes = axes_of(axis, len(x.shape))
    x = _float_of(x)
    top = ir.reduce(Op.REDUCE_MAX, ir.detach(x), axes)
    top = ir.where(isinf(top), like(0, top), top)
    total = ir.sum_(ir.exp(ir.sub(x, ir.expand(top, x.shape))), axes)
    nothing = ir.eq(total, like(0, total))
    value = ir.where(nothing, like(float("-inf"), total), ir.log(total))
    return _finish(ir.add(value, top), axes, keepdims)


# running sums -----------------------------------------------------------------------------------------------------
def _running(kind: str, x: Node, axis: int | None, dtype: DType) -> Node:
    if axis is None:
        x, axis = ir.reshape(x, (x.size,)), 0
    elif not x.shape:
        axis_index(axis, 1)
        x, axis = ir.reshape(x, (1,)), 0
    return ir.scan(kind, axis_index(axis, len(x.shape)), ir.cast(x, dtype))


def cumsum(x: Node, axis: int | None = None, dtype: Any = None) -> Node:
    """Running sum along `axis` (None: of the flattened array); bools and integers give 64-bit integers."""
    return _running("sum", x, axis, _accumulator(x.dtype) if dtype is None else as_dtype(dtype))


def cumprod(x: Node, axis: int | None = None, dtype: Any = None) -> Node:
    """Running product along `axis` (None: of the flattened array); bools and integers give 64-bit integers."""
    return _running("prod", x, axis, _accumulator(x.dtype) if dtype is None else as_dtype(dtype))


def _cumulative(kind: str, x: Node, axis: int | None, dtype: Any, include_initial: bool) -> Node:
    if axis is None:
        if len(x.shape) != 1:
            raise ValueError(f"'axis' must be given for an array of {len(x.shape)} dimensions ({origins(x)})")
        axis = 0
    i = axis_index(axis, len(x.shape))
    y = _running(kind, x, i, _accumulator(x.dtype) if dtype is None else as_dtype(dtype))
    if not include_initial:
        return y
    first = ir.const(kind == "prod", y.dtype, (*y.shape[:i], 1, *y.shape[i + 1 :]))
    return ir.cat((first, y), i)


def cumulative_sum(x: Node, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False) -> Node:
    """Running sum along `axis`, which only a vector may leave out; with `include_initial`, after a leading 0."""
    return _cumulative("sum", x, axis, dtype, include_initial)


def cumulative_prod(x: Node, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False) -> Node:
    """Running product along `axis`, which only a vector may leave out; with `include_initial`, after a leading 1."""
    return _cumulative("prod", x, axis, dtype, include_initial)


def cummax(x: Node, axis: int | None = None) -> Node:
    """Running maximum along `axis` (None: of the flattened array)."""
    return _scan_extremum("max", x, axis)


def cummin(x: Node, axis: int | None = None) -> Node:
    """Running minimum along `axis` (None: of the flattened array)."""
    return _scan_extremum("min", x, axis)


def _scan_extremum(kind: str, x: Node, axis: int | None) -> Node:
    if x.dtype is BOOL:
        return ir.cast(_running(kind, x, axis, ir.DTYPES["u8"]), BOOL)
    return _running(kind, x, axis, x.dtype)


def diff(x: Node, n: int = 1, axis: int = -1) -> Node:
    """x[1:] - x[:-1] along `axis`, `n` times; for bools, xor."""
    i = axis_index(axis, len(x.shape))
    if n < 0:
        raise ValueError(f"order must be non-negative but got {n}")
    for _ in range(n):
        size = x.shape[i]
        whole = [(0, m, 1) for m in x.shape]
        later, earlier = list(whole), list(whole)
        later[i], earlier[i] = (1 if size else 0, size, 1), (0, size - 1 if size else 0, 1)
        a, b = ir.shrink(x, later), ir.shrink(x, earlier)
        x = ir.xor(a, b) if x.dtype is BOOL else ir.sub(a, b)
    return x
