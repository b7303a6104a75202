"""Memory that holds the value of a node."""

from __future__ import annotations

from typing import Any

import numpy as np

from .ir import DType, Shape

ALIGNMENT = 64  # bytes: one cache line, one AVX-512 vector


_live = 0
_peak = 0


class Buffer:
    """A C-contiguous array and the address of its first element; what is stored in it never changes.

    `owner` is the buffer whose memory this one is a view of; `nbytes` what it allocated itself.
    """

    __slots__ = ("__weakref__", "address", "array", "nbytes", "owner")

    array: np.ndarray[Any, Any]
    address: int
    nbytes: int
    owner: "Buffer | None"

    def __init__(self, array: np.ndarray[Any, Any], nbytes: int = 0, owner: "Buffer | None" = None) -> None:
        global _live, _peak
        self.array = array
        self.address = array.__array_interface__["data"][0]
        self.nbytes = nbytes
        self.owner = owner
        _live += nbytes
        if _live > _peak:
            _peak = _live

    def __del__(self) -> None:
        global _live
        _live -= self.nbytes

    def reshaped(self, shape: Shape) -> "Buffer":
        """The same memory as an array of another shape."""
        return self if shape == self.array.shape else Buffer(self.array.reshape(shape), 0, self)


def usage() -> dict[str, int]:
    """Bytes of the buffers allocated here: alive now, and the most at one time."""
    return {"live_bytes": _live, "peak_bytes": _peak}


def empty(shape: Shape, dtype: DType) -> Buffer:
    """An aligned buffer with unspecified content."""
    nbytes = dtype.itemsize
    for n in shape:
        nbytes *= n
    raw = np.empty(nbytes + ALIGNMENT, np.uint8)
    start = -raw.__array_interface__["data"][0] % ALIGNMENT
    return Buffer(raw[start : start + nbytes].view(dtype).reshape(shape), nbytes)


def copy(array: np.ndarray[Any, Any]) -> Buffer:
    """An aligned buffer with the elements of `array`, C-contiguous, in native byte order."""
    out = empty(array.shape, array.dtype.newbyteorder("="))
    out.array[...] = array
    return out
