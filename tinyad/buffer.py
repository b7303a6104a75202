"""Memory that holds the value of a node."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from functools import lru_cache
from sys import getrefcount
from typing import Any, Final

import numpy as np

from .config import config
from .ir import DType, Shape

ALIGNMENT = 64  # bytes: one cache line, one AVX-512 vector
COLOURS: Final = 8  # places in a page at which large arrays begin in turn, and
COLOUR: Final = 9 * ALIGNMENT  # bytes from one to the next: arrays read side by side then use other sets of the caches
PAGE: Final = 4096
_BYTES: Final = np.dtype(np.uint8)

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
    """Elements in C order from `address` on; what is stored there never changes.

    They lie in `memory`, from byte `start` of it on: an array or a ctypes array; of a view, the buffer it looks at.
    `nbytes`: its size as counted here (0 for a view). `pooled` memory goes, once nothing refers to it any more, NumPy
    views included, to a pool for the next buffer of its size: the first touch of fresh memory costs more than most
    kernels.
    """

    __slots__ = ("__weakref__", "_array", "address", "dtype", "memory", "nbytes", "pooled", "shape", "start")

    address: int
    dtype: DType
    memory: Any
    nbytes: int
    pooled: bool
    shape: Shape
    start: int
    _array: np.ndarray[Any, Any] | None

    def __init__(
        self, shape: Shape, dtype: DType, address: int, memory: Any, start: int, nbytes: int, pooled: bool
    ) -> None:
        global _live, _peak
        self.shape = shape
        self.dtype = dtype
        self.address = address
        self.memory = memory
        self.start = start
        self.nbytes = nbytes
        self.pooled = pooled
        self._array = None
        _live += nbytes
        if _live > _peak:
            _peak = _live

    def __del__(self) -> None:
        global _live, _pooled
        _live -= self.nbytes
        if self.pooled:
            memory = self.memory
            size = memory.nbytes
            if _pooled + size <= POOL_BYTES and getrefcount(memory) == _UNSHARED + (self._array is not None):
                _pool.setdefault(size, []).append((memory, self.start, self.address))
                _pooled += size

    @property
    def array(self) -> np.ndarray[Any, Any]:
        """The elements for NumPy, made when somebody asks: most buffers only kernels see."""
        made = self._array
        if made is None:
            made = self._array = np.ndarray(self.shape, self.dtype, self.memory, self.start)
        return made

    def handed_over(self, shape: Shape, dtype: DType) -> "Buffer":
        """Its memory as another array of as many bytes. The value that was here is gone once that is written."""
        global _live
        _live -= self.nbytes
        new = Buffer(shape, dtype, self.address, self.memory, self.start, self.nbytes, self.pooled)
        self.memory, self.nbytes, self.pooled, self._array = new, 0, False, None
        return new

    @property
    def unseen(self) -> bool:
        """Whether no other buffer and no NumPy array looks at its memory, which is its own."""
        memory = self.memory
        return self.pooled and getrefcount(memory) == _UNSHARED + (self._array is not None)

    def reshaped(self, shape: Shape) -> "Buffer":
        """The same memory as an array of another shape."""
        return self if shape == self.shape else _view(self.array.reshape(shape), self.address, self)


_UNSHARED: Final = 3  # the slot, the local name, the call; one more if NumPy's array has been made


def _view(array: np.ndarray[Any, Any], address: int, memory: Any) -> Buffer:
    """A buffer for an array that lies in something else's memory."""
    out = Buffer(array.shape, array.dtype, address, memory, 0, 0, False)
    out._array = array
    return out


def view(array: np.ndarray[Any, Any]) -> Buffer:
    """An array of somebody else's as a buffer."""
    return _view(array, address_of(array), array)


def address_of(array: np.ndarray[Any, Any]) -> int:
    """Where the first element is."""
    at: int = array.__array_interface__["data"][0]
    return at


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
    return maker(shape, dtype, config.guard)()


@lru_cache(1024)
def maker(shape: Shape, dtype: DType, guarded: bool) -> Callable[[], Buffer]:
    """What makes one empty buffer after the other."""
    nbytes = math.prod(shape) * dtype.itemsize
    if guarded:
        from . import guard

        def forbidding() -> Buffer:
            memory = guard.memory(nbytes, dtype.itemsize)
            return Buffer(shape, dtype, address_of(memory), memory, 0, nbytes, False)

        return forbidding
    if nbytes > SMALL:

        def large() -> Buffer:
            memory, start, address = _memory(nbytes)
            return Buffer(shape, dtype, address, memory, start, nbytes, True)

        return large
    raw: Any = ctypes.c_char * (nbytes + ALIGNMENT)
    place = ctypes.addressof

    def small() -> Buffer:
        memory = raw()
        at = place(memory)
        start = -at % ALIGNMENT
        return Buffer(shape, dtype, at + start, memory, start, nbytes, False)

    return small


def workspace(nbytes: int) -> Buffer:
    """Aligned memory for the duration of a kernel; not counted in `usage`, since it holds no array."""
    if config.guard:
        from . import guard

        return view(guard.memory(nbytes, ALIGNMENT))
    memory, start, address = _memory(nbytes)
    return Buffer((nbytes,), _BYTES, address, memory, start, 0, True)


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
    at = address_of(memory)
    start = -at % ALIGNMENT + _colour * COLOUR
    return memory, start, at + start


def copy(array: np.ndarray[Any, Any]) -> Buffer:
    """An aligned buffer with the elements of `array`, C-contiguous, in native byte order."""
    out = empty(array.shape, array.dtype.newbyteorder("="))
    out.array[...] = array
    return out
