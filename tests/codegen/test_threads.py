"""The thread pool: same bits for any number of threads; forks, exits, several callers, signals."""

from __future__ import annotations

import ctypes
import itertools
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kernel_tools import TARGET, buffer, compiled, same_bits, sample
from test_emit_contract import product
from test_machine_code import square

import tinyad as ad
from codegen import elf, jit, threads
from codegen.index import Datum, Index, Var, of
from codegen.loops import Apply, Check, Kernel, Load, Loop, Store
from codegen.pool import MOST, pool_text
from codegen.scalar import F32, F64, I8, I64
from tinyad.realize import _code_generator

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(
    "linux" not in jit.target().triple or not jit.target().triple.startswith("x86_64"), reason="no native pool"
)


@pytest.fixture(autouse=True)
def any_size(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Threads even for little work; afterwards as many as before."""
    _code_generator()
    monkeypatch.setattr(threads, "LEAST", 1)
    monkeypatch.setattr(threads, "CHUNK", 50)
    monkeypatch.setattr(threads.Pool, "serves", lambda self, work: True)
    yield
    threads.use_threads(0)


def launch(code: jit.Compiled, *arrays: np.ndarray) -> int:
    areas = threads.shares(code)
    memory = np.empty(threads.memory(code, areas) + 64, np.uint8)
    scratch = -(-memory.ctypes.data // 64) * 64
    table = (ctypes.c_void_p * (len(arrays) + 2))(*(a.ctypes.data for a in arrays), *code.more(scratch))
    params, status = ctypes.c_int64(0), ctypes.c_int32(0)
    at = ctypes.addressof(table), ctypes.addressof(params), ctypes.addressof(status)
    threads.call(code, *at, areas)
    return status.value


# Each result depends on the arguments only.
PROGRAMS = {
    "exp": lambda x, w: ad.exp(x),
    "sine, odd length": lambda x, w: ad.sin(x.reshape(-1)[:119_993]),
    "half": lambda x, w: x.astype("float16") * 3,
    "bytes": lambda x, w: (x > 0).astype("uint8"),
    "rows": lambda x, w: ad.softmax(x, -1),
    "columns": lambda x, w: ad.sum(x * x, 0),
    "row sums": lambda x, w: ad.sum(x, 1),
    "scan": lambda x, w: ad.cumsum(x, 1),
    "transposed": lambda x, w: ad.exp(x.T),
    "product": lambda x, w: x @ w,
    "product, transposed": lambda x, w: ad.tanh(w[:200].T @ x[:, :200].T),
    "whole": lambda x, w: ad.sum(ad.exp(x)),
    "gather": lambda x, w: x[ad.tensor(np.arange(0, 300, 7) % 297)],
    "gradient": lambda x, w: ad.grad(lambda v: ad.sum(ad.tanh(v @ w) ** 2))(x),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_number_of_threads_does_not_show(name: str) -> None:
    x, w = sample(F32, (300, 400)), sample(F32, (400, 500), 1)
    results = []
    for n in (1, 2, 3, 7):
        threads.use_threads(n)
        for _ in range(3):
            out = PROGRAMS[name](ad.tensor(x), ad.tensor(w)).numpy()
            results.append(out)
    assert all(same_bits(r, results[0]) for r in results)


def test_large_kernels_do_run_on_the_pool() -> None:
    threads.use_threads(3)
    code = compiled(square(100_000))
    x, y = sample(F32, 100_000), np.zeros(100_000, np.float32)
    assert threads.shares(code) == 3
    launch(code, x, y)
    pool = threads.pool()
    assert pool is not None and pool.threads == 3 and 0 < pool.wake < 10**9
    before = ctypes.c_uint64.from_address(pool.state).value
    launch(code, x, y)
    assert ctypes.c_uint64.from_address(pool.state).value == before + 2**32
    assert np.array_equal(y, x * x)


@pytest.mark.parametrize("outer", [2, 3, 5, 63, 64, 65, 127, 1000, 4097, 70_001])
def test_chunks_cover_the_range_once(outer: int) -> None:
    x, y = sample(F32, outer), np.zeros(outer, np.float32)
    code = compiled(square(outer))
    for n in (2, 5):
        threads.use_threads(n)
        y[:] = 0
        launch(code, x, y)
        assert np.array_equal(y, x * x)


@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize("chunks", [1, 2, 3, 7, 12, 128])
def test_each_chunk_has_one_thread_in_every_round(count: int, chunks: int) -> None:
    """The chunks of a round, at home or of others, in rounds that begin before all workers have seen the last one."""
    seen: list[tuple[int, int]] = []
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    signature = ctypes.CFUNCTYPE(None, pointer, pointer, number, number, pointer)
    kernel = signature(lambda table, params, begin, end, status: seen.append((begin, end)))
    pool, status = threads.Pool(count), ctypes.c_int32(0)
    try:
        for _ in range(20):
            seen.clear()
            address = ctypes.cast(kernel, pointer).value
            pool.run(pool.state, address, 1001, chunks << 32 | 1, None, None, 0, 0, ctypes.addressof(status))
            edges = [1001 * i // chunks for i in range(chunks + 1)]
            assert sorted(seen) == list(itertools.pairwise(edges))
    finally:
        pool.stop()


def test_a_pool_stopped_in_a_round_loses_and_repeats_no_chunk() -> None:
    """Homes took the stop for a new round, in which nothing was taken."""
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    signature = ctypes.CFUNCTYPE(None, pointer, pointer, number, number, pointer)
    edges = range(0, 1001, 10)
    for _ in range(20):
        seen: list[tuple[int, int]] = []
        begun = threading.Event()

        def chunk(table: int, params: int, begin: int, end: int, status: int, seen=seen, begun=begun) -> None:
            seen.append((begin, end))
            begun.set()
            time.sleep(0.0001)

        kernel, pool, status = signature(chunk), threads.Pool(3), ctypes.c_int32(0)
        address = ctypes.cast(kernel, pointer).value
        arguments = pool.state, address, 1000, 100 << 32 | 1, None, None, 0, 0, ctypes.addressof(status)
        caller = threading.Thread(target=pool.run, args=arguments)
        caller.start()
        begun.wait()
        pool.stop()
        caller.join()
        assert sorted(seen) == list(itertools.pairwise(edges))


def test_little_work_stays_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    threads.use_threads(2)
    assert threads.shares(compiled(square(1000))) == 1
    assert threads.shares(compiled(square(1_000_000))) == 2


def test_sleepers_are_woken_for_much_work_or_for_much_that_was_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    pool, now = threads.Pool(2), 0
    try:
        monkeypatch.setattr(threads.time, "perf_counter_ns", lambda: now)
        pool.wake = 50_000
        pool._sleepers = ctypes.c_uint32(0)
        assert pool.serves(threads.LEAST)
        pool._sleepers = ctypes.c_uint32(1)
        assert pool.serves(50_000)
        for _ in range(2):  # half of the work is missed by each call: the fifth pays for waking
            assert [pool.serves(20_000) for _ in range(5)] == [False] * 4 + [True]
        for _ in range(20):
            now += threads.SOON
            assert not pool.serves(20_000)
    finally:
        pool.stop()


def test_work_is_what_is_touched() -> None:
    """A gather reads a few rows of its table."""
    rows = ad.jit(lambda x, i: x[i])
    rows(ad.zeros((50_000, 64)), ad.tensor(np.arange(100)))
    (program,) = rows._programs.values()
    (function,) = program.frames[0].kernels[0].code.functions
    assert 2 * 100 * 64 * 4 // jit.SPEED <= function.work < 2 * 100 * 64 * 4


@pytest.mark.parametrize("causal", [True, False])
def test_threads_take_turns_where_conditions_leave_out_more_of_one_range(causal: bool) -> None:
    attention = ad.jit(lambda q, k, v: ad.scaled_dot_product_attention(q, k, v, is_causal=causal))
    attention(*[ad.zeros((1, 2, 2048, 8))] * 3)
    (program,) = attention._programs.values()
    (function,) = program.frames[0].kernels[0].code.functions
    assert threads._cut(function, 2)[0] == (2 * jit.UNEVEN if causal else 2)


def test_the_first_failing_index_is_reported() -> None:
    n = 20_000
    where, x, y, i = buffer(I64, n), buffer(F32, 10), buffer(F32, n, "out"), Var(n)
    raw = Load(I64, where, of(i))
    first, second = Check(I64, raw, 9, 1), Check(I64, raw, 10, 2)
    a, b = Load(F32, x, Index({Datum(first, 9): 1})), Load(F32, x, Index({Datum(second, 10): 1}))
    total = Apply("add", F32, (a, b))
    body = [Loop(i, [raw, first, second, a, b, total, Store(y, of(i), total)])]
    code = compiled(Kernel("test", (where, x, y), (), body))
    indices = np.zeros(n, np.int64)
    arrays = indices, sample(F32, 10), np.zeros(n, np.float32)
    indices[15_000:] = 99
    for k in (1, 2, 3):
        threads.use_threads(k)
        assert launch(code, *arrays) == 1
        indices[:] = 0
        assert launch(code, *arrays) == 0, "the status of a round is not left to the next"
        indices[15_000:] = 99


def test_several_threads_call_at_once() -> None:
    threads.use_threads(3)
    code = compiled(square(50_000))
    wrong: list[int] = []
    start = threading.Barrier(4)

    def work(number: int) -> None:
        x, y = sample(F32, 50_000, number), np.zeros(50_000, np.float32)
        start.wait()
        for round in range(200):
            y[:] = 0
            launch(code, x, y)
            if not np.array_equal(y, x * x):
                wrong.append(round)

    callers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in callers:
        t.start()
    for _ in range(5):
        threads.use_threads(2)
        threads.use_threads(3)
    for t in callers:
        t.join()
    assert not wrong


def test_no_more_threads_than_memory_was_laid_out_for() -> None:
    threads.use_threads(2)
    code = compiled(square(100_000))
    x, y = sample(F32, 100_000), np.zeros(100_000, np.float32)
    launch(code, x, y)
    with pytest.MonkeyPatch.context() as patch:  # the number changes between the question and the call
        memory = threads.memory
        patch.setattr(threads, "memory", lambda *a: (memory(*a), threads.use_threads(3))[0])
        launch(code, x, y)
    pool = threads.pool()
    assert pool is not None and pool.threads == 3
    before = ctypes.c_uint64.from_address(pool.state).value
    table, params, status = (ctypes.c_void_p * 4)(x.ctypes.data, y.ctypes.data), ctypes.c_int64(0), ctypes.c_int32(0)
    at = ctypes.addressof(table), ctypes.addressof(params), ctypes.addressof(status)
    threads.call(code, *at, 2)
    assert ctypes.c_uint64.from_address(pool.state).value == before, "two areas, three threads: alone"
    threads.call(code, *at, 3)
    assert ctypes.c_uint64.from_address(pool.state).value == before + 2**32


def test_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    threads.use_threads(3)
    assert threads.size() == 3
    threads.use_threads(10**6)
    assert threads.size() == MOST
    with pytest.raises(ValueError, match="got -1"):
        threads.use_threads(-1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3, 4})
    monkeypatch.setattr(threads, "_quota", lambda: 2.5)
    threads.use_threads(0)
    assert threads.size() == 3
    monkeypatch.setattr(threads, "_quota", lambda: 0.1)
    assert threads.available() == 1
    monkeypatch.setattr(threads, "_quota", lambda: math.inf)
    assert threads.available() == 5


def test_quotas_of_control_groups(tmp_path: Path) -> None:
    membership = tmp_path / "cgroup"
    inner = tmp_path / "sys" / "a" / "b"
    inner.mkdir(parents=True)
    quota = lambda: threads._quota(str(tmp_path / "sys"), str(membership))  # noqa: E731
    assert quota() == math.inf
    membership.write_text("0::/a/b\n")
    assert quota() == math.inf
    (inner / "cpu.max").write_text("max 100000\n")
    assert quota() == math.inf
    (inner.parent / "cpu.max").write_text("150000 100000\n")
    assert quota() == 1.5
    old = tmp_path / "sys" / "cpu"
    old.mkdir()
    (old / "cpu.cfs_quota_us").write_text("50000\n")
    (old / "cpu.cfs_period_us").write_text("100000\n")
    membership.write_text("3:cpu,cpuacct:/elsewhere\n2:memory:/x\n")
    assert quota() == 0.5
    (old / "cpu.cfs_quota_us").write_text("-1\n")
    assert quota() == math.inf


def test_other_machines_use_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jit, "target", lambda: jit.level("x86-64-v2", "arm64-apple-darwin"))
    threads.use_threads(4)
    assert threads.size() == 1 and threads.pool() is None


def test_the_pool_is_portable_x86() -> None:
    assert jit.assemble(pool_text(), jit.target("x86-64-v2"))
    assert set(elf.undefined_symbols(jit.assemble(pool_text(), jit.target(TARGET)))) <= {
        "pthread_create", "pthread_join", "syscall",
    }  # fmt: skip


# in processes of their own ----------------------------------------------------------------------------------------
START = """
import os, signal, sys, threading, time
import numpy as np
import tinyad as ad
from codegen import threads

x = np.linspace(-3, 3, 1 << 21, dtype=np.float32)

def compute():
    return ad.exp(ad.tensor(x) * 2).numpy().tobytes()

first = compute()
assert threads.pool() is not None and threads.pool().threads == 3
"""


def process(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("TINYAD_")}
    env |= {"PYTHONPATH": str(ROOT), "TINYAD_THREADS": "3", "TINYAD_CACHE": "0", **variables}
    command = [sys.executable, "-X", "faulthandler", "-W", "error", "-c", START + code]
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd="/", timeout=120)


def test_a_fork_gets_its_own_pool() -> None:
    done = process(
        """
for _ in range(3):
    child = os.fork()
    if not child:
        same = compute() == first and threads.pool().threads == 3 and len(os.listdir("/proc/self/task")) == 3
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert compute() == first
"""
    )
    assert done.returncode == 0, done.stderr


def test_forks_while_another_thread_computes() -> None:
    done = process(
        """
going = True
def busy():
    while going:
        assert compute() == first
worker = threading.Thread(target=busy)
worker.start()
for _ in range(10):
    child = os.fork()
    if not child:
        os._exit(0 if compute() == first else 1)
    assert os.waitpid(child, 0)[1] == 0
going = False
worker.join()
"""
    )
    assert done.returncode == 0, done.stderr


def test_forks_while_another_thread_is_inside_a_jitted_function() -> None:
    done = process(
        """
jitted = ad.jit(lambda t: ad.exp(t * 2))
inside, leave = threading.Event(), threading.Event()
def slow(t):
    if not inside.is_set():
        inside.set()
        leave.wait()
    return t * 3
traced = ad.jit(slow)
t = ad.tensor(x)
want = jitted(t).numpy().tobytes()
going = True
def busy():
    while going:
        jitted(t)
threading.Thread(target=lambda: traced(t), daemon=True).start()
inside.wait()
worker = threading.Thread(target=busy)
worker.start()
for _ in range(10):
    child = os.fork()
    if not child:
        signal.alarm(20)
        same = jitted(t).numpy().tobytes() == want and traced(t).numpy().tobytes() == (x * 3).tobytes()
        os._exit(0 if same else 1)
    if os.waitpid(child, 0)[1]:
        os._exit(1)
going = False
leave.set()
worker.join()
"""
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("end", ["", "sys.exit(0)", "os._exit(0)", "threads.use_threads(2); compute()"])
def test_exits(end: str) -> None:
    done = process(end)
    assert done.returncode == 0 and not done.stderr, done.stderr


def test_exit_while_a_daemon_thread_computes() -> None:
    for _ in range(3):
        done = process("threading.Thread(target=lambda: [compute() for _ in range(10**6)], daemon=True).start()\n"
                       "time.sleep(0.2)")  # fmt: skip
        assert done.returncode == 0 and not done.stderr, done.stderr


def test_computing_at_exit_works() -> None:
    done = process("import atexit; atexit.register(lambda: print(compute() == first))")
    assert done.stdout.strip() == "True" and done.returncode == 0


def test_an_interrupt_reaches_python_and_the_pool_goes_on() -> None:
    done = process(
        """
def poke(noticed):  # again after a while: Python drops an interrupt that comes while it runs a finalizer
    time.sleep(0.1)
    while not noticed.is_set():
        os.kill(os.getpid(), signal.SIGINT)
        noticed.wait(10)

for _ in range(5):
    noticed = threading.Event()
    threading.Thread(target=poke, args=(noticed,)).start()
    try:
        while True:
            compute()
    except KeyboardInterrupt:
        noticed.set()
        print("interrupted")
    assert compute() == first
"""
    )
    assert done.returncode == 0 and done.stdout.split() == ["interrupted"] * 5, done.stderr


def test_one_thread_starts_no_pool() -> None:
    done = process("", TINYAD_THREADS="1")
    assert done.returncode == 1 and "AssertionError" in done.stderr, "no pool was started"
    code = "threads.use_threads(1); compute(); print(threads.pool(), len(os.listdir('/proc/self/task')))"
    assert process(code, OPENBLAS_NUM_THREADS="1").stdout.strip() == "None 1"


def test_workers_take_no_signals() -> None:
    done = process(
        """
blocked = []
for task in os.listdir("/proc/self/task"):
    lines = open(f"/proc/self/task/{task}/status").read().splitlines()
    mask = next(int(l.split()[1], 16) for l in lines if l.startswith("SigBlk"))
    blocked.append(bool(mask >> signal.SIGINT - 1 & 1))
print(sorted(blocked))
""",
        OPENBLAS_NUM_THREADS="1",
    )
    assert done.stdout.strip() == "[False, True, True]", done.stderr


LEAST = threads.LEAST


@pytest.mark.parametrize(
    "kernel, shared",
    [
        (product(F32, 48, 48, 48), False),  # 2 µs
        (product(F32, 200, 33, 17), False),
        (product(F32, 96, 96, 96), True),
        (square(100_000, I8), False),
        (square(100_000, F64), True),
    ],
    ids=["48", "200x17x33", "96", "bytes", "doubles"],
)
def test_little_work_is_for_one_thread(kernel: Kernel, shared: bool) -> None:
    code = compiled(kernel, "x86-64-v3")
    assert (code.functions[0].work >= LEAST) == shared


@pytest.mark.parametrize("workers", [2, 3, 4])
def test_each_thread_has_as_many_chunks(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "CHUNK", 8000)
    (function,) = compiled(square(1 << 20)).functions
    for work in range(8_000, 200_000, 7_000):
        chunks, _ = threads._cut(replace(function, work=work), workers)
        assert chunks % workers == 0 and chunks >= workers
