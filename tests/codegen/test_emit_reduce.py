"""Reductions follow the trees that `codegen.loops` defines, bit for bit."""

from __future__ import annotations

import re

import numpy as np
import pytest
from kernel_tools import ABSENT, NUMPY, buffer, column_tree, compiled, execute, kernel, row_tree, same_bits, sample

from codegen import jit
from codegen.assemble import assembly
from codegen.emit import emit
from codegen.index import ZERO, Var, flatten, of
from codegen.loops import Accumulator, Apply, IndexValue, Kernel, Load, Loop, Reduce, Result, Store, Update
from codegen.scalar import B1, F16, F32, F64, I8, I32, I64, U8, Type

ALL = ("sum", "max", "prod", "min")
SHAPES = ((1, 1), (1, 7), (1, 17), (1, 64), (1, 100), (1, 513), (1, 5000), (3, 5), (7, 600), (5, 512), (40, 33),
          (6, 1), (6, 2), (33, 4), (9, 8), (9, 9))  # fmt: skip


def full_reduction(type: Type, rows: int, n: int, tree: str, ops: tuple[str, ...] = ALL) -> Kernel:
    x, ys = buffer(type, rows * n), [buffer(type, 1, "out") for _ in ops]
    i, j = Var(rows, "i"), Var(n, "j")
    a = Load(type, x, flatten((of(i), of(j)), (rows, n)))
    r = Reduce((i, j), [a], tuple(Accumulator(op, type, a) for op in ops), tree)
    results = [Result(type, r, k) for k in range(len(ops))]
    return kernel([r, *results, *(Store(y, ZERO, v) for y, v in zip(ys, results, strict=True))], x, *ys)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("type", [F32, F64, F16], ids=str)
@pytest.mark.parametrize("tree", ["row", "column"])
def test_floats_follow_the_tree(type: Type, shape: tuple[int, int], tree: str) -> None:
    source = sample(type, shape)
    wide = source.astype(np.float32) if type is F16 else source
    results = [np.zeros(1, NUMPY[type]) for _ in ALL]
    execute(full_reduction(type, *shape, tree), source, *results)
    for op, got in zip(ALL, results, strict=True):
        with np.errstate(all="ignore"):
            want = row_tree(wide, op) if tree == "row" else column_tree(wide.reshape(-1), op)
            assert same_bits(got, np.asarray(want).astype(NUMPY[type]).reshape(1)), op


@pytest.mark.parametrize("n", [1, 17, 200])
@pytest.mark.parametrize("type", [I8, U8, I32, I64], ids=str)
@pytest.mark.parametrize("tree", ["row", "column"])
def test_integers_wrap(type: Type, n: int, tree: str) -> None:
    source = sample(type, (3, n))
    results = [np.zeros(1, NUMPY[type]) for _ in ALL]
    execute(full_reduction(type, 3, n, tree), source, *results)
    product = np.multiply.reduce(source.reshape(-1), dtype=NUMPY[type])
    assert [r[0] for r in results] == [source.sum(dtype=NUMPY[type]), source.max(), product, source.min()]


@pytest.mark.parametrize("tree", ["row", "column"])
def test_bools_reduce_to_any_and_all(tree: str) -> None:
    for fill in (0, 1):
        source = np.full((2, 70), fill, np.bool_)
        source[1, 69] = not fill
        results = [np.zeros(1, np.bool_) for _ in range(2)]
        execute(full_reduction(B1, 2, 70, tree, ("max", "min")), source, *results)
        assert [bool(r[0]) for r in results] == [True, False]


@pytest.mark.parametrize("type", [F32, F16, I32], ids=str)
@pytest.mark.parametrize("tree", ["row", "column"])
def test_nothing_reduces_to_the_identity(type: Type, tree: str) -> None:
    results = [np.ones(1, NUMPY[type]) for _ in ALL]
    execute(full_reduction(type, 3, 0, tree), np.zeros((3, 0), NUMPY[type]), *results)
    limits = (np.iinfo(np.int32).min, np.iinfo(np.int32).max) if type is I32 else (-np.inf, np.inf)
    assert [r[0] for r in results] == [0, limits[0], 1, limits[1]] and not np.signbit(results[0][0])


@pytest.mark.parametrize("tree", ["row", "column"])
def test_signed_zeros_and_nans(tree: str) -> None:
    source = np.full((1, 600), -0.0, np.float32)
    results = [np.ones(1, np.float32) for _ in range(2)]
    execute(full_reduction(F32, 1, 600, tree, ("sum", "max")), source, *results)
    assert all(r[0] == 0 and np.signbit(r[0]) for r in results)
    source[0, 577] = np.nan
    execute(full_reduction(F32, 1, 600, tree, ("sum", "max")), source, *results)
    assert all(np.isnan(r[0]) for r in results)


@pytest.mark.parametrize("rows, columns", [(1, 5), (31, 16), (32, 64), (33, 70), (100, 130), (1000, 40)])
@pytest.mark.parametrize("type", [F32, F64, F16, I32, U8], ids=str)
def test_columns_are_vectors_of_independent_sums(rows: int, columns: int, type: Type) -> None:
    x, y = buffer(type, rows * columns), buffer(type, columns, "out")
    i, j = Var(rows, "i"), Var(columns, "j")
    a = Load(type, x, flatten((of(i), of(j)), (rows, columns)))
    r = Reduce((i,), [a], (Accumulator("sum", type, a),), "column")
    total = Result(type, r)
    source, result = sample(type, (rows, columns)), np.zeros(columns, NUMPY[type])
    execute(kernel([Loop(j, [r, total, Store(y, of(j), total)])], x, y), source, result, splits=(3, 20, 37))
    wide = source.astype(np.float32) if type is F16 else source
    assert same_bits(result, column_tree(wide, "sum").astype(NUMPY[type]))


@pytest.mark.parametrize("inner", [3, 32, 45])
def test_columns_over_two_variables_cross_rows(inner: int) -> None:
    outer, columns = 23, 20
    x, y = buffer(F32, outer * inner * columns), buffer(F32, columns, "out")
    i, k, j = Var(outer, "i"), Var(inner, "k"), Var(columns, "j")
    a = Load(F32, x, flatten((of(k), of(i), of(j)), (inner, outer, columns)))  # not mergeable
    r = Reduce((i, k), [a], (Accumulator("sum", F32, a), Accumulator("max", F32, a)), "column")
    total, top = Result(F32, r), Result(F32, r, 1)
    out = Apply("sub", F32, (total, top))
    source, result = sample(F32, (inner, outer, columns)), np.zeros(columns, np.float32)
    execute(kernel([Loop(j, [r, total, top, out, Store(y, of(j), out)])], x, y), source, result, splits=(7,))
    flat = source.transpose(1, 0, 2).reshape(-1, columns)
    assert same_bits(result, column_tree(flat, "sum") - flat.max(0))


def test_accumulators_of_different_widths() -> None:
    n = 700
    x, y, z, w = buffer(F32, n), buffer(F32, 1, "out"), buffer(F64, 1, "out"), buffer(I64, 1, "out")
    j = Var(n, "j")
    a = Load(F32, x, of(j))
    d, at = Apply("cast", F64, (a,)), IndexValue(I64, of(j))
    r = Reduce((j,), [a, d, at], (Accumulator("sum", F32, a), Accumulator("sum", F64, d), Accumulator("max", I64, at)))
    results = [Result(t, r, k) for k, t in enumerate((F32, F64, I64))]
    stores = [Store(b, ZERO, v) for b, v in zip((y, z, w), results, strict=True)]
    source, single, double, last = sample(F32, (1, n)), np.zeros(1, np.float32), np.zeros(1), np.zeros(1, np.int64)
    execute(kernel([r, *results, *stores], x, y, z, w), source, single, double, last)
    assert same_bits(single, np.array([row_tree(source, "sum")]))
    assert same_bits(double, np.array([row_tree(source.astype(np.float64), "sum")]))
    assert last[0] == n - 1


@pytest.mark.parametrize("n", [10, 100, 1000])
def test_softmax_rows(n: int) -> None:
    """Several reductions and a loop in one row, written to scratch in between."""
    rows = 4
    x, y, t = buffer(F32, rows * n), buffer(F32, rows * n, "out"), buffer(F32, n, "scratch")
    i, j1, j2, j3 = Var(rows, "i"), Var(n, "j"), Var(n, "j"), Var(n, "j")
    a = Load(F32, x, flatten((of(i), of(j1)), (rows, n)))
    top = Reduce((j1,), [a], (Accumulator("max", F32, a),))
    peak = Result(F32, top)
    b = Load(F32, x, flatten((of(i), of(j2)), (rows, n)))
    low = Apply("sub", F32, (b, peak))
    square = Apply("mul", F32, (low, low))
    total = Reduce((j2,), [b, low, square, Store(t, of(j2), square)], (Accumulator("sum", F32, square),))
    norm = Result(F32, total)
    c = Load(F32, t, of(j3))
    out = Apply("div", F32, (c, norm))
    last = Loop(j3, [c, out, Store(y, flatten((of(i), of(j3)), (rows, n)), out)])
    k = kernel([Loop(i, [top, peak, total, norm, last])], x, y, scratch=(t,))
    source, result = sample(F32, (rows, n)), np.zeros((rows, n), np.float32)
    execute(k, source, result, splits=(1, 3))
    squares = (source - source.max(1, keepdims=True)) ** 2
    sums = np.array([[row_tree(r[None], "sum")] for r in squares])
    assert same_bits(result, squares / sums)


def test_large_row_bodies_rotate_one_copy() -> None:
    n = 1000
    x, y, j = buffer(F32, n), buffer(F32, 1, "out"), Var(n, "j")
    a = Load(F32, x, of(j))
    chain: list[Load | Apply] = [a]
    for _ in range(20):
        chain.append(Apply("add", F32, (chain[-1], a)))
    r = Reduce((j,), chain, (Accumulator("sum", F32, chain[-1]),))
    total = Result(F32, r)
    source, result = sample(F32, (1, n)), np.zeros(1, np.float32)
    execute(kernel([r, total, Store(y, ZERO, total)], x, y), source, result)
    want = source
    for _ in range(20):
        want = want + source
    assert same_bits(result, np.array([row_tree(want, "sum")]))


@pytest.mark.parametrize("n", [5, 70, 900])
def test_rows_with_statements_that_stay_scalar(n: int) -> None:
    """A histogram inside a sum: the same tree, one element at a time."""
    x, y, h = buffer(F32, n), buffer(F32, 1, "out"), buffer(F32, 3, "inout")
    j = Var(n, "j")
    a = Load(F32, x, of(j))
    r = Reduce((j,), [a, Update("max", h, of(Var(1)), a)], (Accumulator("sum", F32, a), Accumulator("min", F32, a)))
    results = [Result(F32, r), Result(F32, r, 1)]
    both = Apply("mul", F32, tuple(results))
    source, result, tops = sample(F32, (1, n)), np.zeros(1, np.float32), np.zeros(3, np.float32)
    execute(kernel([r, *results, both, Store(y, ZERO, both)], x, y, h), source, result, tops)
    assert same_bits(result, np.array([row_tree(source, "sum") * source.min()]))
    assert tops[0] == max(source.max(), 0) and ABSENT["max"] == -np.inf


def test_reductions_inside_reductions() -> None:
    shape = (9, 40)
    x, y = buffer(F64, 360), buffer(F64, 1, "out")
    i, j = Var(9, "i"), Var(40, "j")
    a = Load(F64, x, flatten((of(i), of(j)), shape))
    inner = Reduce((j,), [a], (Accumulator("max", F64, a),))
    top = Result(F64, inner)
    outer = Reduce((i,), [inner, top], (Accumulator("sum", F64, top),))
    total = Result(F64, outer)
    source, result = sample(F64, shape), np.zeros(1)
    execute(kernel([outer, total, Store(y, ZERO, total)], x, y), source, result)
    assert same_bits(result, np.array([row_tree(source.max(1)[None], "sum")]))


@pytest.mark.parametrize("shape", [(16, 16), (70, 100), (35, 515), (100, 3)], ids=str)
@pytest.mark.parametrize("type", [F32, F64], ids=str)
def test_lanes_that_are_rows_of_memory_are_read_in_squares(type: Type, shape: tuple[int, int]) -> None:
    n, k = shape
    x, y, z = buffer(type, n * k), buffer(type, k), buffer(type, n, "out")
    i, j = Var(n, "i"), Var(k, "j")
    a, b = Load(type, x, flatten((of(i), of(j)), (n, k))), Load(type, y, of(j))
    c = Apply("mul", type, (a, b))
    r = Reduce((j,), [a, b, c], (Accumulator("sum", type, c),), "column")
    total = Result(type, r)
    made = kernel([Loop(i, [r, total, Store(z, of(i), total)])], x, y, z)
    rows, weights, out = sample(type, (n, k)), sample(type, k, 1), np.zeros(n, NUMPY[type])
    execute(made, rows, weights, out, splits=(1, 33))
    assert same_bits(out, column_tree(np.ascontiguousarray((rows * weights).T), "sum"))


def test_squares_need_no_gather() -> None:
    x, z = buffer(F32, 64 * 320), buffer(F32, 64, "out")
    i, j = Var(64, "i"), Var(320, "j")
    a = Load(F32, x, flatten((of(i), of(j)), (64, 320)))
    r = Reduce((j,), [a], (Accumulator("sum", F32, a),), "column")
    total = Result(F32, r)
    made = kernel([Loop(i, [r, total, Store(z, of(i), total)])], x, z)
    body = jit.compile_kernel(made, jit.target("x86-64-v4")).llvm
    square = body[body.index("\nsquare") : body.index("\ncolumn")]
    assert "shufflevector" in square and "gather" not in square


@pytest.mark.parametrize("shape", [(1, 5), (1, 16), (1, 33), (1, 9000), (40, 8)], ids=str)
@pytest.mark.parametrize("type", [F32, F64, F16], ids=str)
def test_extrema_meet_nan_wherever_it_is(type: Type, shape: tuple[int, int]) -> None:
    places = sorted({0, 1, shape[1] // 2, shape[1] - 1})
    for tree in ("row", "column"):
        k = full_reduction(type, *shape, tree, ("max", "min"))
        for place in places:
            for nan in (np.nan, -np.nan):
                source = sample(type, shape)
                source[-1, place] = nan
                results = [np.zeros(1, NUMPY[type]) for _ in range(2)]
                execute(k, source, *results)
                assert all(np.isnan(r[0]) for r in results)


def test_extrema_are_one_short_chain() -> None:
    """The larger element in one instruction and NaN beside it: no sum of the two that would carry NaN on."""
    asm = compiled(full_reduction(F32, 1, 4000, "row", ("max",)), "x86-64-v4").asm
    assert "vrangeps" in asm and "vaddps" not in asm and "vaddss" not in asm


@pytest.mark.parametrize("type, n, widest", [(F32, 7, "ymm"), (F32, 3, "xmm"), (F32, 9, "zmm"), (F64, 3, "ymm")])
def test_short_rows_have_no_more_lanes_than_they_need(type: Type, n: int, widest: str) -> None:
    target = jit.target("x86-64-v4")
    x, y = buffer(type, 100 * n), buffer(type, 100, "out")
    i, j = Var(100), Var(n)
    a = Load(type, x, flatten((of(i), of(j)), (100, n)))
    r = Reduce((j,), [a], (Accumulator("sum", type, a),), "row")
    k = kernel([Loop(i, [r, v := Result(type, r), Store(y, of(i), v)])], x, y)
    text = assembly(emit(k, target, "k"), target)
    assert max(re.findall(r"%([xyz]mm)\d", text)) == widest
