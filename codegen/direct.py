"""Calls made again and again: kernels entered with one argument, since what ctypes does for each costs as much as a
small kernel, and rounds of the pool whose arguments are made once.

A block of 64-bit words holds the arguments: table, params, status, how many functions, then address and outer extent
of each. The function `enter` calls them one after the other, each with all of its range.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final

from . import jit, threads
from .jit import Code, Function
from .threads import ROUND, Pool

_P: Final = ctypes.c_void_p
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
def _enter() -> Callable[[Any], None]:
    """The function that takes the address of a block."""
    (address,) = jit.load_forever(_TEXT, ("enter",), jit.target())
    return ctypes.CFUNCTYPE(None, _P)(address)


class Call:
    """All functions of `code` with these arguments, to be called again and again.

    `alone(block)` is a call on this thread. `shared` uses the pool where that is faster, which has at most `areas`
    threads, as in `threads.call`.
    """

    __slots__ = ("_arguments", "_code", "_keep", "_pool", "_rounds", "alone", "areas", "block")

    def __init__(self, code: Code, table: int, params: int, status: int, areas: int) -> None:
        self.alone = _enter()
        self._arguments = table, params, status
        self._keep: list[Any] = []
        self._code, self.areas = code, areas
        self.block = self._block(code.functions)
        self._pool: Pool | None = None  # which the rounds are for
        self._rounds: list[tuple[int, Any, Any]] | None = None

    def _block(self, functions: Sequence[Function]) -> Any:
        words = [*self._arguments, len(functions)]
        for function in functions:
            words += function.address, function.outer
        memory = (ctypes.c_uint64 * len(words))(*words)
        self._keep.append(memory)
        return _P(ctypes.addressof(memory))

    def shared(self) -> None:
        """A call on several threads."""
        pool = threads.pool()
        if self._rounds is None or pool is not self._pool:
            self._rounds = [(f.work, self._round(f, pool), self._block([f])) for f in self._code.functions]
            self._pool = pool
        for work, round, block in self._rounds:
            if round is not None and pool is not None and pool.serves(work):
                pool.run(*round)
            else:
                self.alone(block)

    def _round(self, function: Function, pool: Pool | None) -> Any:
        """The arguments of a round for a function, ready for ctypes; None if nothing is gained by one."""
        words = None if pool is None else threads.round(pool, self._code, function, *self._arguments, self.areas)
        return words and [kind(word) for kind, word in zip(ROUND, words, strict=True)]
