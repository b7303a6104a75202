"""Arrays made from sizes and numbers. Nothing is stored: they are CONST and IOTA nodes."""

from __future__ import annotations

import math
from typing import Any

from .. import ir
from ..dtypes import DEFAULT_FLOAT, DEFAULT_INT, as_dtype, default_of
from ..ir import FLOAT64, INT64, Node
from . import movement
from .core import Operand, broadcast_to, node
from .movement import shape_of
from .reductions import along


def _shape(shape: Any) -> ir.Shape:
    s = shape_of(shape)
    if any(n < 0 for n in s):
        raise ValueError("negative dimensions are not allowed")
    return s


def zeros(shape: Any, dtype: Any = None) -> Node:
    """Zeros, float32 unless said."""
    return ir.const(0, DEFAULT_FLOAT if dtype is None else as_dtype(dtype), _shape(shape))


def ones(shape: Any, dtype: Any = None) -> Node:
    """Ones, float32 unless said."""
    return ir.const(1, DEFAULT_FLOAT if dtype is None else as_dtype(dtype), _shape(shape))


empty = zeros


def full(shape: Any, fill_value: Operand, dtype: Any = None) -> Node:
    """`fill_value` everywhere; the dtype is its own unless said."""
    d = None if dtype is None else as_dtype(dtype)
    if isinstance(fill_value, Node):
        return broadcast_to(node(fill_value, d), _shape(shape))
    return ir.const(fill_value, d or default_of(fill_value), _shape(shape))


def zeros_like(x: Node, dtype: Any = None) -> Node:
    """Zeros of the shape and dtype of `x`."""
    return ir.const(0, x.dtype if dtype is None else as_dtype(dtype), x.shape)


def ones_like(x: Node, dtype: Any = None) -> Node:
    """Ones of the shape and dtype of `x`."""
    return ir.const(1, x.dtype if dtype is None else as_dtype(dtype), x.shape)


empty_like = zeros_like


def full_like(x: Node, fill_value: Operand, dtype: Any = None) -> Node:
    """`fill_value` in the shape and dtype of `x`."""
    return full(x.shape, fill_value, x.dtype if dtype is None else dtype)


def eye(n_rows: int, n_cols: int | None = None, k: int = 0, dtype: Any = None) -> Node:
    """Ones on the k-th diagonal, zeros elsewhere."""
    shape = _shape((n_rows, n_rows if n_cols is None else n_cols))
    row, column = along(ir.iota(shape[0]), 0, shape), along(ir.iota(shape[1]), 1, shape)
    hit = ir.eq(ir.add(row, ir.const(k, INT64, shape)), column)
    return ir.cast(hit, DEFAULT_FLOAT if dtype is None else as_dtype(dtype))


def arange(start: float, stop: float | None = None, step: float = 1, dtype: Any = None) -> Node:
    """start, start + step, ... below `stop`; with one argument from 0. Integers give int64, floats float32."""
    if stop is None:
        start, stop = 0, start
    if step == 0:
        raise ValueError("arange: step must not be 0")
    n = max(math.ceil((stop - start) / step), 0)
    whole = all(isinstance(v, int) for v in (start, stop, step))
    d = as_dtype(dtype) if dtype is not None else DEFAULT_INT if whole else DEFAULT_FLOAT
    if whole and d.kind in "iu":
        return _affine(ir.iota(n, d), start, step)
    work = INT64 if whole else FLOAT64
    return ir.cast(_affine(ir.cast(ir.iota(n), work), start, step), d)


def _affine(i: Node, start: float, step: float) -> Node:
    """start + i·step."""
    if step != 1:
        i = ir.mul(i, ir.const(step, i.dtype, i.shape))
    return i if start == 0 else ir.add(i, ir.const(start, i.dtype, i.shape))


def linspace(start: float, stop: float, num: int = 50, dtype: Any = None, endpoint: bool = True) -> Node:
    """`num` evenly spaced numbers from `start` to `stop`, which is the last one exactly if `endpoint`."""
    if num < 0:
        raise ValueError(f"Number of samples, {num}, must be non-negative.")
    d = DEFAULT_FLOAT if dtype is None else as_dtype(dtype)
    parts = num - 1 if endpoint else num
    i = ir.cast(ir.iota(num), FLOAT64)
    values = _affine(i, float(start), (stop - start) / parts if parts > 0 else 0.0)
    if endpoint and num > 1:
        values = ir.where(ir.eq(i, ir.const(num - 1, FLOAT64, i.shape)), ir.const(stop, FLOAT64, i.shape), values)
    return ir.cast(ir.floor(values) if d.kind in "iu" else values, d)


def meshgrid(*arrays: Node, indexing: str = "xy") -> list[Node]:
    """Coordinate matrices of coordinate vectors, the first two axes swapped for ``xy`` indexing."""
    if indexing not in ("xy", "ij"):
        raise ValueError("Valid values for `indexing` are 'xy' and 'ij'.")
    vectors = [movement.ravel(node(a)) for a in arrays]
    shape = tuple(v.shape[0] for v in vectors)
    grids = [along(v, i, shape) for i, v in enumerate(vectors)]
    if indexing == "xy" and len(grids) > 1:
        grids = [movement.swapaxes(g, 0, 1) for g in grids]
    return grids
