"""Memory for tests (``TINYAD_GUARD=1``): it ends at a page that nobody may touch, and begins as NaN.

A kernel that reads or writes past the end of an array ends the process with a fault; one that uses what it has not
written gives NaN (integers: -1). POSIX only.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from typing import Any, Final

import numpy as np

_PAGE: Final = mmap.PAGESIZE
_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def memory(nbytes: int, align: int) -> np.ndarray[Any, Any]:
    """`nbytes` of memory at a multiple of `align`, as near to the forbidden page as that allows."""
    pages = -(-max(nbytes, 1) // _PAGE)
    whole = np.frombuffer(mmap.mmap(-1, (pages + 1) * _PAGE), np.uint8)
    end = pages * _PAGE
    if _libc.mprotect(whole.ctypes.data + end, _PAGE, 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    start = (end - nbytes) // align * align
    whole[:end] = 0xFF
    return whole[start : start + nbytes]
