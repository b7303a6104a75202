"""Memory that holds the value of a node."""

from __future__ import annotations

import ctypes
from sys import getrefcount
from typing import Any, Final

import numpy as np

from .config import config
from .ir import DType, Shape

ALIGNMENT = 64  # bytes: one cache line, one AVX-512 vector
COLOURS: Final = 8  # places in a page at which large arrays begin in turn, and
COLOUR: Final = 9 * ALIGNMENT  # bytes from one to the next: arrays read side by side then use other sets of the caches
PAGE: Final = 4096


_colour = 0
_live = 0
_peak = 0
# memory of buffers that are gone, by size, each with where the array began: the place in it, and the address, which
# takes NumPy longer to tell than the memory to be found
_pool: dict[int, list[tuple[np.ndarray[Any, Any], int, int]]] = {}
_pooled = 0
POOL_BYTES: Final = 1 << 30  # what the pool holds at most
SMALL: Final = 1 << 12  # bytes: up to here a ctypes array, though cleared, is made in a quarter of the time


class Buffer:
    """A C-contiguous array and the address of its first element; what is stored in it never changes.

    `memory` is the allocation, in which the array begins at `start`, `nbytes` its size as counted here (0 for a view
    of `owner`'s memory). The memory of a buffer that nothing refers to any more, NumPy views included, goes to a pool
    for the next one of its size: the first touch of fresh memory costs more than most kernels.
    """

    __slots__ = ("__weakref__", "address", "array", "memory", "nbytes", "owner", "start")

    array: np.ndarray[Any, Any]
    address: int
    memory: np.ndarray[Any, Any] | None
    nbytes: int
    owner: "Buffer | None"
    start: int

    def __init__(
        self,
        array: np.ndarray[Any, Any],
        nbytes: int = 0,
        memory: np.ndarray[Any, Any] | None = None,
        owner: "Buffer | None" = None,
        address: int = 0,
        start: int = 0,
    ) -> None:
        global _live, _peak
        self.array = array
        self.address = address or array.__array_interface__["data"][0]
        self.memory = memory
        self.nbytes = nbytes
        self.owner = owner
        self.start = start
        _live += nbytes
        if _live > _peak:
            _peak = _live

    def __del__(self) -> None:
        global _live, _pooled
        _live -= self.nbytes
        memory = self.memory
        if memory is None or _pooled + memory.nbytes > POOL_BYTES:
            return
        if getrefcount(memory) == _UNSHARED:
            _pool.setdefault(memory.nbytes, []).append((memory, self.start, self.address))
            _pooled += memory.nbytes

    def handed_over(self, shape: Shape, dtype: DType) -> "Buffer":
        """Its memory as another array of as many bytes. The value that was here is gone once that is written."""
        global _live
        nbytes, memory = self.nbytes, self.memory
        _live -= nbytes
        self.nbytes, self.memory = 0, None
        array = self.array.reshape(-1).view(dtype).reshape(shape)
        return Buffer(array, nbytes, memory, address=self.address, start=self.start)

    @property
    def unseen(self) -> bool:
        """Whether no other buffer and no NumPy array looks at its memory, which is its own."""
        memory = self.memory
        return memory is not None and getrefcount(memory) == _UNSHARED

    def reshaped(self, shape: Shape) -> "Buffer":
        """The same memory as an array of another shape."""
        return self if shape == self.array.shape else Buffer(self.array.reshape(shape), owner=self)


_UNSHARED: Final = 4  # the slot, the local name, the call, and the base of the buffer's own array


def usage() -> dict[str, int]:
    """Bytes of the buffers allocated here: alive now, the most at one time, and kept for reuse."""
    return {"live_bytes": _live, "peak_bytes": _peak, "pooled_bytes": _pooled}


def trim() -> None:
    """Gives the pooled memory back to the system."""
    global _pooled
    _pool.clear()
    _pooled = 0


def empty(shape: Shape, dtype: DType) -> Buffer:
    """An aligned buffer with unspecified content."""
    nbytes = dtype.itemsize
    for n in shape:
        nbytes *= n
    if config.guard:
        from . import guard

        return Buffer(guard.memory(nbytes, dtype.itemsize).view(dtype).reshape(shape), nbytes)
    if nbytes <= SMALL:
        raw: Any = (ctypes.c_char * (nbytes + ALIGNMENT))()
        at = ctypes.addressof(raw)
        start = -at % ALIGNMENT
        return Buffer(np.ndarray(shape, dtype, raw, start), nbytes, address=at + start)
    memory, start, address = _memory(nbytes)
    return Buffer(np.ndarray(shape, dtype, memory, start), nbytes, memory, address=address, start=start)


def workspace(nbytes: int) -> Buffer:
    """Aligned memory for the duration of a kernel; not counted in `usage`, since it holds no array."""
    if config.guard:
        from . import guard

        return Buffer(guard.memory(nbytes, ALIGNMENT))
    memory, start, address = _memory(nbytes)
    return Buffer(np.ndarray((nbytes,), np.uint8, memory, start), 0, memory, address=address, start=start)


def _memory(nbytes: int) -> tuple[np.ndarray[Any, Any], int, int]:
    """Memory for `nbytes` from the pool or the system, where in it the array begins (aligned, in its colour) and the
    address of that."""
    global _pooled, _colour
    size = nbytes + ALIGNMENT + PAGE
    free = _pool.get(size)
    if free:
        _pooled -= size
        return free.pop()
    memory = np.empty(size, np.uint8)
    _colour = (_colour + 1) % COLOURS
    at = memory.__array_interface__["data"][0]
    start = -at % ALIGNMENT + _colour * COLOUR
    return memory, start, at + start


def copy(array: np.ndarray[Any, Any]) -> Buffer:
    """An aligned buffer with the elements of `array`, C-contiguous, in native byte order."""
    out = empty(array.shape, array.dtype.newbyteorder("="))
    out.array[...] = array
    return out
