"""Column reductions in tiles and by units of rows: the tree of `codegen.loops`, whatever is cut."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_tools import NUMPY, buffer, column_tree, compiled, execute, kernel, same_bits, sample
from levels import runnable_levels

from codegen.emit_columns import NEAR, column_units, is_tiled
from codegen.index import Var, flatten, of
from codegen.loops import Accumulator, Apply, Const, Kernel, Load, Loop, Reduce, Result, Stmt, Store
from codegen.parts import parts
from codegen.scalar import B1, F16, F32, F64, I32, U8, Type
from codegen.target import level

V3, V4 = (level(name, "x86_64-unknown-linux-gnu") for name in ("x86-64-v3", "x86-64-v4"))


def columns(type: Type, rows: int, width: int, *ops: str) -> Kernel:
    x, ys = buffer(type, rows * width), [buffer(type, width, "out") for _ in ops]
    i, j = Var(rows, "i"), Var(width, "j")
    a = Load(type, x, flatten((of(i), of(j)), (rows, width)))
    square = Apply("mul", type, (a, a))
    r = Reduce((i,), [a, square], tuple(Accumulator(op, type, square) for op in ops), "column")
    results = [Result(type, r, k) for k in range(len(ops))]
    stores = [Store(y, of(j), v) for y, v in zip(ys, results, strict=True)]
    return kernel([Loop(j, [r, *results, *stores])], x, *ys)


@pytest.mark.parametrize("shape", [(64, 300), (65, 1000), (127, 1033), (200, 4099), (1000, 128), (70, 9000)], ids=str)
@pytest.mark.parametrize("type", [F32, F64, F16, I32, U8], ids=str)
def test_tiles_of_wide_rows(type: Type, shape: tuple[int, int]) -> None:
    rows, width = shape
    k = columns(type, rows, width, "sum", "max")
    assert is_tiled(k.body[0], V4) == (rows * width * type.bytes > NEAR)
    source, sums, top = sample(type, shape), np.zeros(width, NUMPY[type]), np.zeros(width, NUMPY[type])
    execute(k, source, sums, top, splits=(1, 64, 77, 500))
    squares = source * source
    assert same_bits(top, squares.max(0))
    wide = squares.astype(np.float32) if type is F16 else squares
    with np.errstate(over="ignore"):
        assert same_bits(sums, column_tree(wide, "sum").astype(NUMPY[type]))


@pytest.mark.parametrize("target", runnable_levels())
@pytest.mark.parametrize("shape", [(64, 63), (64, 95), (127, 127), (1100, 63), (700, 95), (520, 127)], ids=str)
def test_tiles_of_bools(shape: tuple[int, int], target: str) -> None:
    """Last columns were cleared and merged as a vector, whose bools are bits, and added to as bytes one by one."""
    rows, width = shape
    x, ys = buffer(B1, rows * width), [buffer(B1, width, "out") for _ in range(2)]
    i, j = Var(rows, "i"), Var(width, "j")
    a = Load(B1, x, flatten((of(i), of(j)), (rows, width)))
    r = Reduce((i,), [a], (Accumulator("max", B1, a), Accumulator("min", B1, a)), "column")
    results = [Result(B1, r, k) for k in range(2)]
    k = kernel([Loop(j, [r, *results, *(Store(y, of(j), v) for y, v in zip(ys, results, strict=True))])], x, *ys)
    for fill in (False, True):
        source = np.full(shape, fill)
        source[rows // 2, ::3] = not fill
        some, every = np.zeros(width, bool), np.zeros(width, bool)
        execute(k, source, some, every, target=target)
        assert (some == source.any(0)).all() and (every == source.all(0)).all()


@pytest.mark.parametrize("shape", [(40_000, 7), (5000, 64), (3011, 77), (2048, 300), (66_000, 2)], ids=str)
@pytest.mark.parametrize("type", [F32, F64, F16, I32], ids=str)
def test_few_columns_are_cut_by_rows(type: Type, shape: tuple[int, int]) -> None:
    rows, width = shape
    k = columns(type, rows, width, "sum", "max")
    assert column_units(k.body[0]) is not None
    first, *rest = compiled(k).functions
    assert first.outer >= 4 and not first.few and len(rest) == 1
    source, sums, top = sample(type, shape), np.zeros(width, NUMPY[type]), np.zeros(width, NUMPY[type])
    execute(k, source, sums, top, splits=(1, 3))
    squares = source * source
    assert same_bits(top, squares.max(0))
    wide = squares.astype(np.float32) if type is F16 else squares
    with np.errstate(over="ignore"):
        assert same_bits(sums, column_tree(wide, "sum").astype(NUMPY[type]))


def test_what_stands_around_a_cut_reduction_is_kept() -> None:
    rows, width = 6000, 50
    x, m, s = buffer(F32, rows * width), buffer(F32, width), buffer(F32, 1)
    y = buffer(F32, width, "out")
    i, j = Var(rows, "i"), Var(width, "j")
    scale, zero = Load(F32, s, flatten((), ())), Const(F32, 0.5)
    double = Apply("mul", F32, (scale, zero))
    mean = Load(F32, m, of(j))
    moved = Apply("mul", F32, (mean, double))
    a = Load(F32, x, flatten((of(i), of(j)), (rows, width)))
    d = Apply("sub", F32, (a, moved))
    r = Reduce((i,), [a, d], (Accumulator("sum", F32, d),), "column")
    total = Result(F32, r)
    out = Apply("mul", F32, (total, double))
    k = kernel([scale, zero, double, Loop(j, [mean, moved, r, total, out, Store(y, of(j), out)])], x, m, s, y)
    assert len(parts(k)) == 2
    source, means, got = sample(F32, (rows, width)), sample(F32, width, 1), np.zeros(width, np.float32)
    execute(k, source, means, np.float32([3]), got, splits=(2,))
    assert same_bits(got, column_tree(source - means * np.float32(1.5), "sum") * np.float32(1.5))


@pytest.mark.parametrize("width", [130, 1500])
def test_two_passes_share_a_tile(width: int) -> None:
    rows = 100
    x, y = buffer(F32, rows * width), buffer(F32, width, "out")
    i, n, j = Var(rows, "i"), Var(rows, "n"), Var(width, "j")

    def element(v: Var) -> Load:
        return Load(F32, x, flatten((of(v), of(j)), (rows, width)))

    a, b = element(i), element(n)
    first = Reduce((i,), [a], (Accumulator("sum", F32, a),), "column")
    total, count = Result(F32, first), Const(F32, rows)
    mean = Apply("div", F32, (total, count))
    d = Apply("sub", F32, (b, mean))
    square = Apply("mul", F32, (d, d))
    second = Reduce((n,), [b, d, square], (Accumulator("sum", F32, square),), "column")
    out = Result(F32, second)
    body: list[Stmt] = [first, total, count, mean, second, out, Store(y, of(j), out)]
    source, got = sample(F32, (rows, width)), np.zeros(width, np.float32)
    execute(kernel([Loop(j, body)], x, y), source, got, splits=(70,))
    mean_of = column_tree(source, "sum") / np.float32(rows)
    assert same_bits(got, column_tree(np.square(source - mean_of), "sum"))


def test_middle_axes() -> None:
    batch, rows, width = 3, 96, 200
    x, y = buffer(F32, batch * rows * width), buffer(F32, batch * width, "out")
    b, i, j = Var(batch), Var(rows), Var(width)
    a = Load(F32, x, flatten((of(b), of(i), of(j)), (batch, rows, width)))
    r = Reduce((i,), [a], (Accumulator("sum", F32, a),), "column")
    total = Result(F32, r)
    body = [Loop(b, [Loop(j, [r, total, Store(y, flatten((of(b), of(j)), (batch, width)), total)])])]
    source, got = sample(F32, (batch, rows, width)), np.zeros((batch, width), np.float32)
    execute(kernel(body, x, y), source, got, splits=(1, 40))
    assert same_bits(got, np.stack([column_tree(s, "sum") for s in source]))


def test_narrower_targets_have_tails() -> None:
    k = columns(F32, 100, 1001, "sum")
    source, got = sample(F32, (100, 1001)), np.zeros(1001, np.float32)
    execute(k, source, got, target=V3)
    assert same_bits(got, column_tree(source * source, "sum"))


def test_rows_are_read_as_they_lie() -> None:
    """Eight rows are added to a vector of sums that is loaded and stored once."""
    asm = compiled(columns(F32, 4096, 4096, "sum"), V4).asm
    adds = asm.count("vaddps")
    assert 9 <= adds <= 24 and asm.count("vmulps") >= 8
