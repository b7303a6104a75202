"""The search behind ``TINYAD_TUNE=1``: contractions are timed in the ways that may be fastest, and the best is kept.

What `codegen.contract` chooses by a model of costs is here found out by running the kernel on memory of its own, once
for each candidate, in turn and several times over. The winner's name goes on disk under all that decides it: the
kernel's text, the target, the number of threads and this package's source. No way shows in the bits of a result.
"""

from __future__ import annotations

import ctypes
import mmap
import time
from collections.abc import Sequence
from typing import Final

from . import jit, threads
from .analysis import statements
from .cache import Entry
from .clone import Clone
from .contract import candidates
from .jit import Compiled, Wanted
from .loops import Contract, Kernel
from .split import prepare
from .target import Target
from .text import canonical

CANDIDATES: Final = 8  # of each kind that are timed
ROUNDS: Final = 5
LEAST: Final = 200_000  # nanoseconds that one measurement takes
SLOW: Final = 1.3  # times the best, from which a candidate is given up after a round

_known: Final[dict[tuple[str, Target, int], list[str]]] = {}


def tuned(kernel: Kernel, target: Target) -> Kernel:
    """`kernel` with each of its contractions computed as was fastest when it was first seen here; it is timed now if
    it never was. A kernel without contractions is returned as it is."""
    kernel = prepare(kernel)
    if not any(isinstance(s, Contract) for s in statements(kernel.body)):
        return kernel
    key = canonical(kernel), target, threads.size()
    hows = _known.get(key)
    if hows is None:
        hows = _known[key] = _remembered(kernel, key)
    return _with(kernel, hows)


def _contractions(kernel: Kernel) -> list[Contract]:
    return [s for s in statements(kernel.body) if isinstance(s, Contract)]


def _with(kernel: Kernel, hows: Sequence[str]) -> Kernel:
    """A copy whose contractions are computed in these ways."""
    body = Clone({}).body(kernel.body)
    out = Kernel(kernel.name, kernel.buffers, kernel.params, body, kernel.scratch, prepared=True)
    for s, how in zip(_contractions(out), hows, strict=True):
        s.how = how
    return out


def _remembered(kernel: Kernel, key: tuple[str, Target, int]) -> list[str]:
    name = jit.key(f"tuned for {key[2]} threads\n{key[0]}", key[1])
    entry = jit.remembered(name)
    if entry is not None:
        return entry.image.decode().split("\n")
    hows = _search(kernel, key[1])
    jit.remember(name, Entry((), "\n".join(hows).encode()))
    return hows


def _search(kernel: Kernel, target: Target) -> list[str]:
    """The best way for each contraction in turn, the others being what is best so far."""
    hows = [""] * len(_contractions(kernel))
    runs = _Runs(kernel)
    for i, s in enumerate(_contractions(kernel)):
        named = {how: _with(kernel, [*hows[:i], how, *hows[i + 1 :]]) for how in candidates(s, target, CANDIDATES)}
        codes = jit.compile_kernels([Wanted(k) for k in named.values()], target, threads.size())
        hows[i] = runs.fastest(dict(zip(named, codes, strict=True)))
    return hows


class _Runs:
    """Runs of one kernel in several forms, on memory of their own."""

    def __init__(self, kernel: Kernel) -> None:
        self.memory = [mmap.mmap(-1, max(b.size * b.type.bytes, 1) + 64) for b in kernel.buffers]
        self.addresses = [ctypes.addressof(ctypes.c_char.from_buffer(m)) for m in self.memory]
        self.params = (ctypes.c_uint64 * (len(kernel.params) + 1))()
        self.status = ctypes.c_int32()

    def fastest(self, codes: dict[str, Compiled]) -> str:
        """The name of the code with the least time of some rounds; the slow ones are given up on the way."""
        best: dict[str, float] = {}
        for _ in range(ROUNDS):
            for name, code in codes.items():
                best[name] = min(best.get(name, float("inf")), self._time(code))
            least = min(best.values())
            codes = {name: code for name, code in codes.items() if best[name] < SLOW * least}
        return min(codes, key=lambda name: best[name])

    def _time(self, code: Compiled) -> float:
        """Nanoseconds of one run."""
        areas = threads.shares(code)
        extra = ctypes.create_string_buffer(threads.memory(code, areas) + 64)
        aligned = -(-ctypes.addressof(extra) // 64) * 64
        entries = [*self.addresses, *code.more(aligned)]
        table = (ctypes.c_uint64 * len(entries))(*entries)
        at = ctypes.addressof(table), ctypes.addressof(self.params), ctypes.addressof(self.status)
        threads.call(code, *at, areas)
        turns, start, took = 0, time.perf_counter_ns(), 0
        while took < LEAST:
            threads.call(code, *at, areas)
            turns, took = turns + 1, time.perf_counter_ns() - start
        return took / turns
