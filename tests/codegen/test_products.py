"""Sums of products: each product is added to its lane by a fused multiply-add, in the tree that every sum has."""

from __future__ import annotations

import re

import numpy as np
import pytest
from kernel_tools import NUMPY, TARGET, buffer, column_tree, compiled, execute, fma, kernel, row_tree, same_bits, sample
from levels import runnable_levels

from codegen import jit
from codegen.emit_columns import is_tiled
from codegen.emit_crossed import is_crossed
from codegen.index import ZERO, Var, flatten, of
from codegen.loops import Accumulator, Kernel, Load, Loop, Reduce, Result, Store, Update
from codegen.scalar import F32, F64, Type
from codegen.text import dump

FUSED = pytest.mark.skipif(not jit.target(TARGET).has_fma, reason="there is no such instruction")


def total(type: Type, rows: int, n: int, tree: str, beside: bool = False) -> Kernel:
    """Σ x·y of two arrays; `beside`: with a statement that keeps it one element at a time, and the largest x."""
    x, y, z, top = (*(buffer(type, rows * n) for _ in range(2)), *(buffer(type, 1, "out") for _ in range(2)))
    h = buffer(type, 1, "inout")
    i, j = Var(rows, "i"), Var(n, "j")
    a, b = (Load(type, s, flatten((of(i), of(j)), (rows, n))) for s in (x, y))
    sums = Accumulator("sum", type, a, b), Accumulator("max", type, a)
    r = Reduce((i, j), [a, b, *([Update("max", h, ZERO, a)] if beside else [])], sums, tree)
    results = Result(type, r), Result(type, r, 1)
    stores = [Store(z, ZERO, results[0]), Store(top, ZERO, results[1])]
    return kernel([r, *results, *stores], x, y, z, top, *([h] if beside else []))


def each(type: Type, rows: int, width: int, tree: str, across: bool = False) -> Kernel:
    """For each column (`across`: each row, which lies across memory) Σ x·y and Σ x·x."""
    x, y, *out = buffer(type, rows * width), buffer(type, rows), *(buffer(type, width, "out") for _ in range(2))
    i, j = Var(rows, "i"), Var(width, "j")
    a, b = Load(type, x, flatten((of(i), of(j)), (rows, width))), Load(type, y, of(i))
    r = Reduce((i,), [a, b], (Accumulator("sum", type, a, b), Accumulator("sum", type, a, a)), tree)
    results = [Result(type, r, k) for k in range(2)]
    stores = [Store(z, of(j), v) for z, v in zip(out, results, strict=True)]
    return kernel([Loop(j, [r, *results, *stores])], x, y, *out)


@FUSED
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (1, 17), (1, 513), (1, 5000), (3, 5), (7, 600), (40, 33)], ids=str)
@pytest.mark.parametrize("tree, beside", [("row", False), ("row", True), ("column", False)])
def test_all_elements(shape: tuple[int, int], tree: str, beside: bool) -> None:
    x, y = sample(F32, shape), sample(F32, shape, 1)
    z, top, tops = (np.zeros(1, np.float32) for _ in range(3))
    execute(total(F32, *shape, tree, beside), x, y, z, top, *([tops] if beside else []))
    model = row_tree(x, "sum", y) if tree == "row" else column_tree(x.reshape(-1), "sum", y.reshape(-1))
    assert same_bits(z, np.asarray(model).reshape(1)) and top[0] == x.max()


@FUSED
@pytest.mark.parametrize("rows, width", [(5, 20), (32, 64), (33, 70), (1000, 40), (70, 9000), (4096, 300)])
def test_columns_and_rows_across_memory(rows: int, width: int) -> None:
    x, y = sample(F32, (rows, width)), sample(F32, rows, 1)
    z, squares = np.zeros(width, np.float32), np.zeros(width, np.float32)
    factor = np.repeat(y[:, None], width, 1)
    k = each(F32, rows, width, "column")
    execute(k, x, y, z, squares, splits=(3, 20, 77))
    assert same_bits(z, column_tree(x, "sum", factor)) and same_bits(squares, column_tree(x, "sum", x))
    assert is_tiled(k.body[0], jit.target(TARGET)) == (rows * width > 1 << 16)
    k = each(F32, rows, width, "row")
    assert is_crossed(k.body[0])
    execute(k, x, y, z, squares, splits=(3, 20, 77))
    for j in (0, width // 2, width - 1):
        row = x[:, j][None]
        assert z[j] == row_tree(row, "sum", y[None]) and squares[j] == row_tree(row, "sum", row)


@FUSED
def test_sums_in_memory() -> None:
    n = 37
    x, y, z = buffer(F32, n), buffer(F32, n), buffer(F32, n, "inout")
    i = Var(n, "i")
    a, b = Load(F32, x, of(i)), Load(F32, y, of(i))
    k = kernel([Loop(i, [a, b, Update("sum", z, of(i), a, b)])], x, y, z)
    assert "update sum b2[i], %0 * %1" in dump(k) and "sum %1 * %2: f32" in dump(total(F32, 3, 4, "row"))
    xs, ys, zs = (sample(F32, n, seed) for seed in range(3))
    want = fma(xs, ys, zs)
    execute(k, xs, ys, zs)
    assert same_bits(zs, want)


@pytest.mark.parametrize("target", runnable_levels())
@pytest.mark.parametrize("type", [F32, F64], ids=str)
@pytest.mark.parametrize("tree", ["row", "column"])
def test_every_target_rounds_once_if_it_can(tree: str, type: Type, target: str) -> None:
    """(1 + e)(1 - e) - 1 is -e²; with the product rounded it is 0. Short sums are written out, long ones are loops."""
    e = float(np.finfo(NUMPY[type]).eps)
    for n in (2, 3, 500):
        x, y = np.zeros((1, n), NUMPY[type]), np.zeros((1, n), NUMPY[type])
        x[0, :2], y[0, :2] = (1, 1 + e), (-1, 1 - e)
        if tree == "row":  # one lane of one accumulator has both
            x, y = (np.concatenate([a[:, :1], np.zeros((1, 4 * 64 // a.itemsize - 1)), a[:, 1:]], 1) for a in (x, y))
            x, y = x.astype(NUMPY[type]), y.astype(NUMPY[type])
        z, top = np.ones(1, NUMPY[type]), np.zeros(1, NUMPY[type])
        execute(total(type, *x.shape, tree), x, y, z, top, target=target)
        assert z[0] == (-e * e if jit.target(target).has_fma else 0)


@pytest.mark.parametrize("target", ["x86-64-v2", "x86-64-v3", "x86-64-v4"])
@pytest.mark.parametrize("type", [F32, F64], ids=str)
def test_hot_loops_multiply_and_add_in_one(type: Type, target: str) -> None:
    """Or, without that instruction, in two."""
    name = "ps" if type is F32 else "pd"
    for k in (total(type, 1, 4096, "row"), each(type, 512, 512, "column"), each(type, 500, 4096, "column")):
        code = compiled(k, target)
        products = len(re.findall(rf"vfmadd\w+{name}", code.asm)), len(re.findall(rf"v?mul{name}", code.asm))
        assert (products[0] >= 2 and not products[1]) if jit.target(target).has_fma else (not products[0])
        assert "fma" not in code.llvm or jit.target(target).has_fma
