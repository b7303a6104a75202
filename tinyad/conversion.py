"""Tensors from what other libraries have, and functions whose result's shape depends on values."""

from __future__ import annotations

from typing import Any

import numpy as np

from .dtypes import as_dtype
from .tensor import ArrayLike, Tensor


def asarray(data: ArrayLike, dtype: Any = None, *, device: str | None = None, copy: bool | None = None) -> Tensor:
    """`data` as a tensor: itself if it is one of this dtype and no copy is asked for."""
    if device not in (None, "cpu"):
        raise ValueError(f"asarray: the only device is 'cpu', got {device!r}")
    if isinstance(data, Tensor) and not copy and (dtype is None or as_dtype(dtype) is data.dtype):
        return data
    if copy is False:
        raise ValueError("Unable to avoid copy while creating an array as requested.")
    return Tensor(data, dtype)


def from_dlpack(x: Any, *, device: str | None = None, copy: bool | None = None) -> Tensor:
    """A copy of an array of another library, by way of DLPack."""
    return asarray(np.from_dlpack(x), device=device, copy=copy)


def nonzero(x: ArrayLike) -> tuple[Tensor, ...]:
    """The places of the elements that are not zero, one int64 vector per axis. Computes `x`: the shape depends on it.

    Raises ValueError for an array without axes.
    """
    array = asarray(x).numpy()
    if not array.ndim:
        raise ValueError("Calling nonzero on 0d arrays is not allowed. Use np.atleast_1d(scalar).nonzero() instead.")
    return tuple(map(Tensor, np.nonzero(array)))
