"""Kernels entered with one argument: what ctypes does for each argument takes as long as a small kernel.

A block of 64-bit words holds the arguments: table, params, status, how many functions, then address and outer extent
of each. `enter` calls them one after the other, each with all of its range.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any, Final

from . import jit
from .jit import Code

_TEXT: Final = """
define void @enter(ptr %block) {
entry:
  %p.params = getelementptr i64, ptr %block, i64 1
  %p.status = getelementptr i64, ptr %block, i64 2
  %p.count = getelementptr i64, ptr %block, i64 3
  %first = getelementptr i64, ptr %block, i64 4
  %table = load ptr, ptr %block
  %params = load ptr, ptr %p.params
  %status = load ptr, ptr %p.status
  %count = load i64, ptr %p.count
  %last = getelementptr {ptr, i64}, ptr %first, i64 %count
  br label %turn
turn:
  %at = phi ptr [%first, %entry], [%next, %turn]
  %function = load ptr, ptr %at
  %p.outer = getelementptr i64, ptr %at, i64 1
  %outer = load i64, ptr %p.outer
  call void %function(ptr %table, ptr %params, i64 0, i64 %outer, ptr %status)
  %next = getelementptr i64, ptr %at, i64 2
  %end = icmp eq ptr %next, %last
  br i1 %end, label %exit, label %turn
exit:
  ret void
}
"""


@cache
def enter() -> Callable[[Any], None]:
    """The function that takes the address of a block."""
    (address,) = jit.load_forever(_TEXT, ("enter",), jit.target())
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address)


def block(code: Code, table: int, params: int, status: int) -> Any:
    """The arguments of a call of all of `code`."""
    words = [table, params, status, len(code.functions)]
    for function in code.functions:
        words += function.address, function.outer
    return (ctypes.c_uint64 * len(words))(*words)
