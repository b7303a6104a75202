"""Kernels on several cores: a pool of threads that never enter Python, and the choice of when they are worth waking.

The pool is machine code over pthreads and futexes (Linux on x86-64; elsewhere kernels run on the calling thread). A
round is one kernel call: its outer range is cut into chunks, which the caller and the workers claim from one atomic
word, the number of the round above the chunks left, each first from its own part of the range (`codegen.pool`). So a
worker that comes late finds nothing and harms nothing, and the caller waits for claimed chunks only, not for workers
that are still asleep. Workers spin for a while after a round, then sleep; nobody is woken by a system call unless
somebody sleeps. One caller at a time has the pool, others meanwhile run their kernels alone. Chunks do not show in
results: a kernel's bits are the same for any split.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

from . import jit
from .jit import Code, Function
from .pool import ENTRIES, MOST, SLEEPERS, STATE_BYTES, pool_text

LEAST: Final = 8_000  # nanoseconds of work below which even a spinning worker is no help
SLOWEST: Final = 100_000  # nanoseconds of waking that are believed: more was measured while other processes ran
SOON: Final = 300_000  # nanoseconds between calls in which a worker would not have gone to sleep
CHUNK: Final = 8_000  # nanoseconds of work in a chunk, about
EACH: Final = 8  # chunks for each thread at most: enough for an even load, few enough that most are done at home
CHUNKS: Final = 128  # of one round at most
GRAIN: Final = 64  # iterations that chunks are multiples of, where there are many: whole vectors, whole cache lines
_SYNCHRONOUS: Final = {"SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT", "SIGTRAP"}
_P, _I = ctypes.c_void_p, ctypes.c_int64
ROUND: Final = (_P, _P, _I, _I, _P, _P, _I, _I, _P)  # types of the arguments of a round
_RUN: Final = ctypes.CFUNCTYPE(None, *ROUND)
_START: Final = ctypes.CFUNCTYPE(_I, _P, _I)
_PROBE: Final = ctypes.CFUNCTYPE(None, _P)


@cache
def _functions() -> list[int]:
    """The pool's machine code."""
    return jit.load_forever(pool_text(), ENTRIES, jit.target())


class Pool:
    """`threads` - 1 sleeping workers. `wake`: measured nanoseconds from a call until one of them has done its part."""

    def __init__(self, threads: int) -> None:
        start, stop, probe, run = _functions()
        self.run = _RUN(run)
        self._stop, self._probe = _START(stop), _PROBE(probe)
        memory = ctypes.create_string_buffer(STATE_BYTES + 64)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(memory))  # never freed: threads look at it whatever happens here
        self.state = -(-ctypes.addressof(memory) // 64) * 64
        self._sleepers = ctypes.c_uint32.from_address(self.state + SLEEPERS)
        with _signals_blocked():
            workers = _START(start)(self.state, threads - 1)
        self.threads = 1 + workers
        self.wake = self._measure() if workers else 0
        self._missed = self._alone = 0

    def _measure(self) -> int:
        took = []
        for _ in range(3):
            patience = time.perf_counter() + 0.002
            while self._sleepers.value < self.threads - 1 and time.perf_counter() < patience:
                time.sleep(0.0001)
            began = time.perf_counter_ns()
            self._probe(self.state)
            took.append(time.perf_counter_ns() - began)
        return min(took)

    def serves(self, work: int) -> bool:
        """Whether the pool should do so many nanoseconds of work, at least `LEAST`. Waking somebody for less than that
        takes pays where such work goes on: once as much was missed as it costs, in calls soon after one another."""
        if not self._sleepers.value:
            return True
        cost = max(min(self.wake, SLOWEST), LEAST)
        if work < cost:
            now = time.perf_counter_ns()
            self._missed = work // 2 + (self._missed if now - self._alone < SOON else 0)
            self._alone = now
            if self._missed < cost:
                return False
        self._missed = 0
        return True

    def stop(self) -> None:
        """Ends the workers, after the chunks they are at. Rounds begun later have only their caller."""
        self._stop(self.state, self.threads - 1)


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Threads started inside take no signals, so that those interrupt the threads of Python; faults stay fatal."""
    blocked = {s for s in signal.valid_signals() if getattr(s, "name", "") not in _SYNCHRONOUS}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_lock = threading.Lock()
_wanted = 0
_size = 0  # 0: not decided yet
_pool: Pool | None = None


def use_threads(threads: int) -> None:
    """Kernels run on `threads` threads from now on; 0: as many as this process may run at once."""
    global _size, _wanted
    if threads < 0:
        raise ValueError(f"use_threads: expected a number of threads or 0, got {threads}")
    with _lock:
        _wanted, _size = threads, 0
        _end()


def size() -> int:
    """The number of threads a large kernel runs on."""
    global _size
    found = _size  # read once: another thread may set it to 0
    if not found:
        triple = jit.target().triple
        native = triple.startswith("x86_64") and "linux" in triple
        _size = found = min(_wanted or available(), MOST) if native else 1
    return found


def pool() -> Pool | None:
    """The running pool, started if it was not; None if kernels run on one thread."""
    global _pool
    if _pool is not None:
        return _pool
    with _lock:
        if _pool is None and size() > 1:
            _pool = Pool(size())
        return _pool


def shares(code: Code) -> int:
    """How many threads may be inside one call of `code`, each with its own scratch area."""
    return size() if any(map(_large, code.functions)) else 1


def _large(function: Function) -> bool:
    """Whether several threads may be of use: there is enough to do, and more than one thing."""
    return function.outer > function.grain and function.work >= LEAST


def memory(code: Code, areas: int) -> int:
    """Bytes of memory that a call of `code` on `areas` threads needs; `code.more` says where in the table they go."""
    return code.shared + code.scratch * areas


def call(code: Code, table: int, params: int, status: int, areas: int) -> None:
    """Runs all of `code`, each function on several threads where that is faster, of which there are at most `areas`:
    what `shares` said when the memory was laid out, since the number may have been changed meanwhile."""
    for function in code.functions:
        if areas > 1 and _large(function):
            found = pool()
            words = None if found is None else round(found, code, function, table, params, status, areas)
            if found is not None and words is not None and found.serves(function.work):
                found.run(*words)
                continue
        function.call(table, params, 0, function.outer, status)


def round(
    found: Pool, code: Code, function: Function, table: int, params: int, status: int, areas: int
) -> tuple[int, ...] | None:
    """The arguments of `found.run` for a function of `code`; None if several threads are of no use."""
    if found.threads > areas or not _large(function):
        return None
    chunks, grain = _cut(function, found.threads)
    if chunks == 1:
        return None
    entries = code.entries + (code.shared > 0) + (code.scratch > 0)
    cut = chunks << 32 | grain
    return found.state, function.address, function.outer, cut, table, params, entries, code.scratch, status


def _cut(function: Function, threads: int) -> tuple[int, int]:
    """Into how many chunks the outer range goes, and of which number of iterations each is a multiple."""
    if function.few:
        return min(function.few * threads, -(-function.outer // function.grain)), function.grain
    chunks = min(max(function.work // CHUNK, 4), EACH * threads, CHUNKS)
    chunks = max(chunks // threads, 1) * threads  # as many for each
    grain = GRAIN if function.outer >= 2 * GRAIN * chunks else function.grain
    return min(chunks, -(-function.outer // grain)), grain


def available() -> int:
    """How many threads this process may run at once: its CPUs, and its control group's share of them."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    return max(math.ceil(min(len(os.sched_getaffinity(0)), _quota())), 1)


def _quota(root: str = "/sys/fs/cgroup", membership: str = "/proc/self/cgroup") -> float:
    """CPUs' worth of time that control groups allow this process; infinite without a limit."""
    least = math.inf
    try:
        lines = Path(membership).read_text().splitlines()
    except OSError:
        return least
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = Path(root) if not controllers else Path(root) / "cpu"
        place = top / path.lstrip("/")
        for group in (place, *place.parents):
            with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
                least = min(least, _limit(group, bool(controllers)))
            if group == top:
                break
    return least


def _limit(group: Path, first_version: bool) -> float:
    if first_version:
        quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
    else:
        quota, period = (group / "cpu.max").read_text().split()
    return math.inf if quota.strip() in ("max", "-1") else int(quota) / int(period)


def _end() -> None:
    global _pool
    ending, _pool = _pool, None
    if ending is not None:
        ending.stop()


def _exit() -> None:
    global _size
    with _lock:
        _size = 1
        _end()


def _forked() -> None:
    """The child of a fork has none of the workers, and perhaps a lock that nobody will release."""
    global _lock, _pool, _size
    _lock, _pool, _size = threading.Lock(), None, 0


atexit.register(_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
