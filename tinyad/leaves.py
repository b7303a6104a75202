"""Leaves of the graph from data: copies of arrays, numbers and nested sequences of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import buffer, ir
from .dtypes import DEFAULT_FLOAT, as_dtype, default_of, promote
from .errors import DTypeError
from .ir import GRAD, DType, Node


def stored(array: np.ndarray[Any, Any], dtype: Any = None) -> Node:
    """A leaf holding a copy of `array`."""
    d = as_dtype(array.dtype if dtype is None else dtype)
    return ir.buffer(array.shape, d, buffer.copy(np.asarray(array, dtype=d)))


def leaf(data: Any, dtype: Any, requires_grad: bool) -> Node:
    """A leaf with the value of `data`: a scalar, a nested sequence, or an array by NumPy's protocols.

    The dtype is NumPy's for what has one, float32, int64 or bool for Python numbers, unless given.
    """
    if isinstance(data, (bool, int, float)) and not isinstance(data, np.generic) and dtype is None:
        dtype = default_of(data)
    array = np.asarray(data)
    if dtype is None and array.dtype == np.float64 and isinstance(data, (list, tuple)):
        dtype = _float_of(data)
    if array.dtype.kind not in "biuf":
        raise DTypeError(f"cannot make a tensor from {type(data).__name__} of dtype {array.dtype}")
    n = stored(array, dtype)
    if requires_grad:
        if n.dtype.kind != "f":
            raise DTypeError(f"only tensors of floating point dtype can require gradients, got {n.dtype.name}")
        n.trace = GRAD
    return n


def _float_of(data: Any) -> DType:
    """The common float dtype of the leaves of nested sequences; Python numbers are weak."""
    stack = [data]
    dtype: DType | None = None
    while stack:
        x = stack.pop()
        if isinstance(x, (list, tuple)):
            stack.extend(x)
        elif hasattr(x, "dtype"):
            own = as_dtype(x.dtype)
            dtype = own if dtype is None else promote(dtype, own)
    return dtype if dtype is not None and dtype.kind == "f" else DEFAULT_FLOAT
