"""Row reductions whose rows lie across memory: the tree of `codegen.loops`, read line by line."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_tools import NUMPY, buffer, compiled, execute, kernel, row_tree, same_bits, sample

from codegen.emit_crossed import is_crossed
from codegen.index import Var, flatten, of
from codegen.loops import Accumulator, Apply, Kernel, Load, Loop, Reduce, Result, Stmt, Store
from codegen.scalar import F16, F32, F64, I32, Type


def crossed(type: Type, extents: tuple[int, ...], width: int) -> Kernel:
    """Σ x² and max x² over all axes of x but the last, along which memory goes."""
    size = width * int(np.prod(extents))
    x, total, top = buffer(type, size), buffer(type, width, "out"), buffer(type, width, "out")
    rs, j = tuple(Var(n, "r") for n in extents), Var(width, "j")
    a = Load(type, x, flatten((*map(of, rs), of(j)), (*extents, width)))
    square = Apply("mul", type, (a, a))
    r = Reduce(rs, [a, square], (Accumulator("sum", type, square), Accumulator("max", type, square)), "row")
    results = [Result(type, r, 0), Result(type, r, 1)]
    stores = [Store(y, of(j), v) for y, v in zip((total, top), results, strict=True)]
    return kernel([Loop(j, [r, *results, *stores])], x, total, top)


@pytest.mark.parametrize("width", [8, 77, 1000])
@pytest.mark.parametrize("extents", [(2,), (7,), (16,), (33,), (64,), (513,), (1600,), (3, 50), (5, 600)], ids=str)
@pytest.mark.parametrize("type", [F32, F64, F16, I32], ids=str)
def test_the_tree_of_a_row(type: Type, extents: tuple[int, ...], width: int) -> None:
    k = crossed(type, extents, width)
    assert isinstance(k.body[0], Loop) and is_crossed(k.body[0])
    source, total, top = sample(type, (*extents, width)), np.zeros(width, NUMPY[type]), np.zeros(width, NUMPY[type])
    execute(k, source, total, top, splits=(1, 5, 300))
    squares = (source * source).reshape(-1, extents[-1], width)
    assert same_bits(top, squares.max((0, 1)))
    wide = squares.astype(np.float32) if type is F16 else squares
    with np.errstate(over="ignore"):
        want = np.array([row_tree(wide[:, :, j], "sum") for j in range(width)])
    assert same_bits(total, want.astype(NUMPY[type]))


def test_a_second_pass_uses_the_first() -> None:
    rows, extent = 90, 300
    x, y = buffer(F32, rows * extent), buffer(F32, rows, "out")
    i, n, j = Var(extent, "i"), Var(extent, "n"), Var(rows, "j")
    a, b = (Load(F32, x, flatten((of(v), of(j)), (extent, rows))) for v in (i, n))
    first = Reduce((i,), [a], (Accumulator("sum", F32, a),), "row")
    total = Result(F32, first)
    d = Apply("sub", F32, (b, total))
    second = Reduce((n,), [b, d], (Accumulator("sum", F32, d),), "row")
    out = Result(F32, second)
    body: list[Stmt] = [first, total, second, out, Store(y, of(j), out)]
    source, got = sample(F32, (extent, rows)), np.zeros(rows, np.float32)
    execute(kernel([Loop(j, body)], x, y), source, got, splits=(40,))
    want = [row_tree((c - row_tree(c[None], "sum"))[None], "sum") for c in source.T]
    assert same_bits(got, np.array(want, np.float32))


def test_rows_that_lie_in_memory_are_not_crossed() -> None:
    x, y = buffer(F32, 100 * 200), buffer(F32, 100, "out")
    i, j = Var(200, "i"), Var(100, "j")
    a = Load(F32, x, flatten((of(j), of(i)), (100, 200)))
    r = Reduce((i,), [a], (Accumulator("sum", F32, a),), "row")
    total = Result(F32, r)
    assert not is_crossed(Loop(j, [r, total, Store(y, of(j), total)]))


def test_threads_get_wide_ranges() -> None:
    (function,) = compiled(crossed(F32, (1000,), 1000)).functions
    assert function.few and function.outer == 1000
