"""Sequential loops and updates of memory keep the order of their iterations."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_tools import NUMPY, buffer, compiled, execute, kernel, same_bits, sample

from codegen import jit, threads
from codegen.index import Datum, Index, Var, flatten, of
from codegen.loops import Advance, Carry, Check, Const, Load, Loop, Store, Update
from codegen.ranges import extent as outer_extent
from codegen.scalar import F16, F32, F64, I32, I64, Type

SCAN = {"sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum}


def scan_kernel(type: Type, op: str, rows: int, n: int, along: int):
    x, y = buffer(type, rows * n), buffer(type, rows * n, "out")
    i, j = Var(rows, "i"), Var(n, "j")
    at = flatten((of(i), of(j)), (rows, n))
    a = Load(type, x, at)
    carry = Carry(op, type)
    new = Advance(type, carry, (a,))
    body = [a, new, Store(y, at, new)]
    if along == 1:
        return kernel([Loop(i, [Loop(j, body, (carry,))])], x, y)
    return kernel([Loop(j, [Loop(i, body, (carry,))])], x, y)


@pytest.mark.parametrize("op", SCAN)
@pytest.mark.parametrize("type", [F32, F64, F16, I32], ids=str)
@pytest.mark.parametrize("along", [0, 1])
def test_scans_are_sequential(op: str, type: Type, along: int) -> None:
    source, result = sample(type, (21, 37)), np.zeros((21, 37), NUMPY[type])
    execute(scan_kernel(type, op, 21, 37, along), source, result, splits=(4, 11))
    with np.errstate(all="ignore"):
        assert same_bits(result, SCAN[op].accumulate(source, axis=along, dtype=source.dtype))


@pytest.mark.parametrize("along", [0, 1])
def test_linear_recurrence_rounds_twice(along: int) -> None:
    rows, n = 19, 33
    p, q, y = buffer(F32, rows * n), buffer(F32, rows * n), buffer(F32, rows * n, "out")
    i, j = Var(rows, "i"), Var(n, "j")
    at = flatten((of(i), of(j)), (rows, n))
    a, b, carry = Load(F32, p, at), Load(F32, q, at), Carry("linrec", F32)
    new = Advance(F32, carry, (a, b))
    body = [a, b, new, Store(y, at, new)]
    loops = [Loop(i, [Loop(j, body, (carry,))])] if along else [Loop(j, [Loop(i, body, (carry,))])]
    x, z, result = sample(F32, (rows, n)), sample(F32, (rows, n), 1), np.zeros((rows, n), np.float32)
    execute(kernel(loops, p, q, y), x, z, result)
    want = np.zeros_like(x)
    state = np.zeros((rows, n)[1 - along], np.float32)
    for step in range((rows, n)[along]):
        piece = (slice(None), step) if along else (step, slice(None))
        state = x[piece] * state + z[piece]
        want[piece] = state
    assert same_bits(result, want)


@pytest.mark.parametrize("op", ["sum", "max", "min", "set"])
@pytest.mark.parametrize("type", [F32, I64], ids=str)
def test_scatter_in_iteration_order(op: str, type: Type) -> None:
    n, size = 200, 13
    x, at, y = buffer(type, n), buffer(I32, n), buffer(type, size, "inout")
    i = Var(n)
    raw, a = Load(I32, at, of(i)), Load(type, x, of(i))
    checked = Check(I32, raw, size, 4)
    update = Update(op, y, Index({Datum(checked, size): 1}, 0), a)
    k = kernel([Loop(i, [raw, checked, a, update])], x, at, y)
    assert outer_extent(k, jit.target()) == 1
    source, where = sample(type, n), np.random.default_rng(2).integers(0, size, n).astype(np.int32)
    result = np.ones(size, NUMPY[type])
    want = result.copy()
    for v, p in zip(source, where, strict=True):
        want[p] = {"sum": np.add, "max": np.maximum, "min": np.minimum, "set": lambda _, new: new}[op](want[p], v)
    assert execute(k, source, where, result) == 0
    # `execute` runs the kernel on fresh copies each time, so one pass over `where` is what is seen
    assert same_bits(result, want)


def test_rows_scattered_as_vectors() -> None:
    n, size, width = 40, 7, 21
    x, at, y = buffer(F32, n * width), buffer(I32, n), buffer(F32, size * width, "inout")
    i, j = Var(n, "i"), Var(width, "j")
    raw = Load(I32, at, of(i))
    checked = Check(I32, raw, size, 4)
    a = Load(F32, x, flatten((of(i), of(j)), (n, width)))
    update = Update("sum", y, Index({Datum(checked, size): width, j: 1}, 0), a)
    k = kernel([Loop(i, [raw, checked, Loop(j, [a, update])])], x, at, y)
    source, where = sample(F32, (n, width)), np.random.default_rng(2).integers(0, size, n).astype(np.int32)
    result = np.zeros((size, width), np.float32)
    execute(k, source, where, result)
    want = np.zeros((size, width), np.float32)
    np.add.at(want, where, source)
    assert same_bits(result, want)


def test_overlapping_windows_add_in_order() -> None:
    """Outer iterations collide, so the outer loop is neither split nor a vector; the inner one is."""
    n, w = 50, 6
    x, y = buffer(F64, n * w), buffer(F64, n + w - 1, "inout")
    i, j = Var(n, "i"), Var(w, "j")
    a = Load(F64, x, flatten((of(i), of(j)), (n, w)))
    k = kernel([Loop(i, [Loop(j, [a, Update("sum", y, of(i) + of(j), a)])])], x, y)
    assert outer_extent(k, jit.target()) == 1
    source, result = sample(F64, (n, w)), np.zeros(n + w - 1)
    execute(k, source, result)
    want = np.zeros(n + w - 1)
    for r in range(n):
        for c in range(w):
            want[r + c] += source[r, c]
    assert same_bits(result, want)


def test_disjoint_updates_may_be_split() -> None:
    n = 50
    y, i = buffer(F32, n, "inout"), Var(n)
    one = Const(F32, 1.0)
    k = kernel([Loop(i, [one, Update("sum", y, of(i), one)])], y)
    assert outer_extent(k, jit.target()) == n
    result = sample(F32, n)
    want = result + np.float32(1)
    execute(k, result, splits=(7, 33))
    assert same_bits(result, want)


@pytest.mark.parametrize("n", [15, 16, 50, 128])
@pytest.mark.parametrize("rows", [1, 4, 7])
@pytest.mark.parametrize("op", ["sum", "max"])
@pytest.mark.parametrize("type", [F32, F64, I32, I64], ids=str)
def test_rows_of_scans(type: Type, op: str, rows: int, n: int) -> None:
    source, result = sample(type, (rows, n)), np.zeros((rows, n), NUMPY[type])
    if type.kind == "f" and op == "max":
        source[-1, n // 2] = np.nan
    execute(scan_kernel(type, op, rows, n, 1), source, result, splits=(2, 5))
    with np.errstate(all="ignore"):
        assert same_bits(result, SCAN[op].accumulate(source, axis=1, dtype=source.dtype))


def test_zeros_of_a_running_maximum() -> None:
    source, result = np.full((1, 40), -0.0, np.float32), np.ones((1, 40), np.float32)
    source[0, 20] = 0.0
    execute(scan_kernel(F32, "max", 1, 40, 1), source, result)
    assert list(np.signbit(result[0])) == [True] * 20 + [False] * 20


def test_scans_of_any_order_are_vectors_and_others_go_abreast() -> None:
    x86 = "x86-64-v4"
    assert compiled(scan_kernel(I32, "sum", 8, 1000, 1), x86).asm.count("%zmm") > 8
    rows = compiled(scan_kernel(F32, "sum", 8, 1000, 1), x86).asm
    alone = compiled(scan_kernel(F32, "sum", 3, 1000, 1), x86).asm
    assert "%zmm" not in rows and rows.count("vaddss") == 4 + alone.count("vaddss")


def test_threads_keep_off_each_others_columns() -> None:
    """What goes down columns is few wide ranges, and so few columns that threads would share their lines are one."""
    (scan,) = compiled(scan_kernel(F32, "sum", 1000, 1000, 0)).functions
    assert scan.few and scan.grain % 16 == 0 and threads._cut(scan, 2) == (2, scan.grain)
    (narrow,) = compiled(scan_kernel(F32, "sum", 1000, 16, 0)).functions
    assert threads._cut(narrow, 2)[0] == 1
    (rows,) = compiled(scan_kernel(F32, "sum", 1000, 16, 1)).functions
    assert threads._cut(rows, 2)[0] == 2
