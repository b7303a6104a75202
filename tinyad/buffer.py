"""Memory that holds the value of a node."""

from __future__ import annotations

from typing import Any

import numpy as np

from .ir import DType, Shape

ALIGNMENT = 64  # bytes: one cache line, one AVX-512 vector


class Buffer:
    """A C-contiguous array and the address of its first element; what is stored in it never changes."""

    __slots__ = ("__weakref__", "address", "array")

    array: np.ndarray[Any, Any]
    address: int

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array
        self.address = array.__array_interface__["data"][0]


def empty(shape: Shape, dtype: DType) -> Buffer:
    """An aligned buffer with unspecified content."""
    nbytes = dtype.itemsize
    for n in shape:
        nbytes *= n
    raw = np.empty(nbytes + ALIGNMENT, np.uint8)
    start = -raw.__array_interface__["data"][0] % ALIGNMENT
    return Buffer(raw[start : start + nbytes].view(dtype).reshape(shape))


def copy(array: np.ndarray[Any, Any]) -> Buffer:
    """An aligned buffer with the elements of `array`, C-contiguous, in native byte order."""
    out = empty(array.shape, array.dtype.newbyteorder("="))
    out.array[...] = array
    return out
