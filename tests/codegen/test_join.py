"""Reductions over the same elements become one statement where none needs another, and no bit changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from kernel_tools import COMBINE, NUMPY, buffer, column_tree, execute, kernel, row_tree, same_bits, sample

from codegen.analysis import statements
from codegen.coalesce import coalesce
from codegen.index import ZERO, Index, Var, masked, of
from codegen.jit import target
from codegen.join import MOST, join
from codegen.loops import Accumulator, Apply, Buffer, InRange, Kernel, Load, Loop, Reduce, Result, Stmt, Store, Value
from codegen.scalar import B1, F16, F32, F64, I32, Type
from codegen.split import prepare
from codegen.verify import verify


def reduced(x: Buffer, r: Var, at: Index, op: str, tree: str = "row", scale: Value | None = None) -> Reduce:
    """``op`` over x[at]; with `scale`, over x[at] * scale."""
    load = Load(x.type, x, at)
    value: Value = load if scale is None else Apply("mul", x.type, (load, scale))
    body: list[Stmt] = [load] if scale is None else [load, value]  # type: ignore[list-item]
    return Reduce((r,), body, (Accumulator(op, x.type, value),), tree)


def rows(ops: str, rows: int, columns: int, type: Type = F32, tree: str = "row") -> Kernel:
    """A result of each operation of `ops` for each row (or, of a column tree, each column)."""
    x, i = buffer(type, rows * columns), Var(rows if tree == "row" else columns, "i")
    outs = [buffer(type, i.extent, "out") for _ in ops.split()]
    body: list[Stmt] = []
    for op, out in zip(ops.split(), outs, strict=True):
        r = Var(columns if tree == "row" else rows, "r")
        at = of(i) * columns + of(r) if tree == "row" else of(r) * columns + of(i)
        s = reduced(x, r, at, op, tree)
        body += [s, result := Result(type, s), Store(out, of(i), result)]
    return kernel([Loop(i, body)], x, *outs)


def count(k: Kernel, kind: type) -> int:
    return sum(isinstance(s, kind) for s in statements(prepare(k).body))


def unjoined(k: Kernel) -> Kernel:
    return replace(coalesce(k), prepared=True)


@pytest.mark.parametrize("type", [F32, F64, I32])
@pytest.mark.parametrize("ops", ["sum max", "min max sum", "sum sum prod"])
@pytest.mark.parametrize("shape", [(3, 5), (40, 700), (7, 3000)])
def test_rows(ops: str, shape: tuple[int, int], type: Type) -> None:
    k = rows(ops, *shape, type)
    verify(prepare(k))
    assert (count(k, Reduce), count(k, Load)) == (1, 1)
    x = sample(type, shape)
    outs = [np.zeros(shape[0], x.dtype) for _ in ops.split()]
    execute(k, x.reshape(-1), *outs)
    for op, out in zip(ops.split(), outs, strict=True):
        if type.kind == "f":
            assert same_bits(out, np.array([row_tree(row[None], op) for row in x]))
        else:
            assert same_bits(out, COMBINE[op].reduce(x, axis=1, dtype=x.dtype))  # type: ignore[attr-defined]


@pytest.mark.parametrize("shape", [(100, 40), (4096, 24), (640, 2100)])
def test_columns(shape: tuple[int, int]) -> None:
    k = rows("sum max", *shape, tree="column")
    assert (count(k, Reduce), count(k, Load)) == (1, 1)
    x = sample(F32, shape)
    outs = [np.zeros(shape[1], np.float32) for _ in range(2)]
    execute(k, x.reshape(-1), *outs, splits=(7, 20))
    assert same_bits(outs[0], column_tree(x, "sum")) and same_bits(outs[1], x.max(0))


def test_whole_arrays_are_cut_once() -> None:
    x, outs = buffer(F32, 300_000), [buffer(F32, 1, "out") for _ in range(2)]
    body: list[Stmt] = []
    for op, out in zip(("sum", "max"), outs, strict=True):
        r = Var(300_000, "r")
        s = reduced(x, r, of(r), op)
        body += [s, result := Result(F32, s), Store(out, Index({}, 0), result)]
    k = kernel(body, x, *outs)
    assert count(k, Reduce) == 1
    data, results = sample(F32, 300_000), [np.zeros(1, np.float32) for _ in range(2)]
    execute(k, data, *results)
    assert same_bits(results[0], np.array([row_tree(data[None], "sum")])) and results[1][0] == data.max()


def variance(between: str) -> Kernel:
    """Σx, then Σx·Σx of the same row, and Σx·c, where c comes from a second array, loaded after the first sum."""
    x, y, i = buffer(F32, 8 * 100), buffer(F32, 8), Var(8, "i")
    outs = [buffer(F32, 8, "out") for _ in range(3)]
    r, s, t = (Var(100, n) for n in "rst")
    total = reduced(x, r, of(i) * 100 + of(r), "sum")
    first = Result(F32, total)
    after = reduced(x, s, of(i) * 100 + of(s), "sum", scale=first)
    c = Load(F32, y if between == "load" else outs[0], of(i))
    free = reduced(x, t, of(i) * 100 + of(t), "sum", scale=c)
    body: list[Stmt] = [total, first, Store(outs[0], of(i), first), after, c, free]
    results: list[Result] = [first, Result(F32, after), Result(F32, free)]
    for out, result in zip(outs[1:], results[1:], strict=True):
        body += [result, Store(out, of(i), result)]
    return kernel([Loop(i, body)], x, y, *outs)


@pytest.mark.parametrize("between, joint", [("load", 2), ("read back", 2)])
def test_what_needs_a_result_stays_behind_it(between: str, joint: int) -> None:
    """The third sum joins the first, or, if it needs what was stored of the first, the second."""
    k = variance(between)
    assert count(k, Reduce) == joint
    [loop] = join(k).body
    assert isinstance(loop, Loop)
    sizes = [len(s.accumulators) for s in loop.body if isinstance(s, Reduce)]
    assert sizes == ([2, 1] if between == "load" else [1, 2])
    x, y = sample(F32, (8, 100)), sample(F32, 8, 1)
    joined = [np.zeros(8, np.float32) for _ in range(3)]
    apart = [np.zeros(8, np.float32) for _ in range(3)]
    execute(k, x.reshape(-1), y, *joined)
    execute(unjoined(k), x.reshape(-1), y, *apart)
    assert all(map(same_bits, joined, apart)) and np.any(joined[2])


def test_what_is_not_alike_stays_apart() -> None:
    x, y, out = buffer(F32, 4000), buffer(F32, 4000), buffer(F32, 1, "out")
    r, s, t = Var(4000, "r"), Var(3999, "s"), Var(4000, "t")
    sums = [reduced(x, r, of(r), "sum"), reduced(x, s, of(s), "sum"), reduced(y, t, of(t), "sum")]
    ends: list[Stmt] = []
    for n in sums:
        ends += [v := Result(F32, n), Store(out, Index({}, 0), v)]
    assert count(kernel([*sums, *ends], x, y, out), Reduce) == 3


def test_no_more_results_than_registers() -> None:
    k = rows(" ".join(["sum"] * (MOST + 2)), 4, 500)
    assert count(k, Reduce) == 2


# turns of a loop ------------------------------------------------------------------------------------------------
def correlations(
    turns: int, rows: int, columns: int, type: Type = F32, tree: str = "row", shared: bool = True
) -> Kernel:
    """y[b, p, q] = Σ a[b, r, c] · x[b, r + p, c + q], zeros around x; without `shared` the first factor moves, too."""
    a, x, y = (buffer(type, n, role) for n, role in (
        (2 * rows * (columns + turns), "in"), (2 * rows * columns, "in"), (2 * turns * turns, "out")))  # fmt: skip
    b, p, q, r, c = Var(2, "b"), Var(turns, "p"), Var(turns, "q"), Var(rows, "r"), Var(columns, "c")
    row, column = of(r) + of(p) + -1, of(c) + of(q) + -1
    inside = InRange(B1, row, 0, rows), InRange(B1, column, 0, columns)
    both = Apply("and", B1, inside)
    shift = ZERO if shared else of(q)
    u = Load(type, a, (of(b) * rows + of(r)) * (columns + turns) + of(c) + shift)
    v = Load(type, x, (of(b) * rows + masked(row, rows)) * columns + masked(column, columns), both)
    s = Reduce((r, c), [u, *inside, both, v, w := Apply("mul", type, (u, v))], (Accumulator("sum", type, w),), tree)
    end: list[Stmt] = [s, total := Result(type, s), Store(y, (of(b) * turns + of(p)) * turns + of(q), total)]
    return kernel([Loop(b, [Loop(p, [Loop(q, end)])])], a, x, y)


@pytest.mark.parametrize("type", [F16, F32, F64, I32], ids=str)
@pytest.mark.parametrize("turns, rows, columns", [(2, 3, 1), (3, 7, 7), (3, 5, 17), (5, 9, 4), (7, 7, 7), (4, 3, 100)])
def test_turns_that_read_the_same_have_the_same_bits(turns: int, rows: int, columns: int, type: Type) -> None:
    k = correlations(turns, rows, columns, type)
    verify(prepare(k))
    a, x = sample(type, 2 * rows * (columns + turns)), sample(type, 2 * rows * columns, 1)
    joint, apart = (np.zeros(2 * turns * turns, NUMPY[type]) for _ in range(2))
    execute(k, a, x, joint, splits=(1,))
    execute(unjoined(k), a, x, apart)
    assert same_bits(joint, apart) and np.any(joint)


@pytest.mark.parametrize(
    "turns, columns, results",
    [
        (3, 7, 9),  # all turns of both loops
        (7, 7, 7),  # of one: 49 results are too many
        (3, 30, 3),  # rows of two vectors, so 8 at most
        (3, 100, 3),
        (7, 100, 1),
        (9, 7, 1),
    ],
)  # fmt: skip
def test_turns_of_a_loop_are_results_of_one_reduction(turns: int, columns: int, results: int) -> None:
    found = [s for s in statements(prepare(correlations(turns, 7, columns)).body) if isinstance(s, Reduce)]
    assert {len(s.accumulators) for s in found} == {results}
    if results == 9:
        assert sum(isinstance(s, Load) for s in found[0].body) == 10


def test_turns_that_share_nothing_stay_a_loop() -> None:
    for k in (correlations(3, 7, 7, shared=False), correlations(3, 20, 7, tree="column")):
        assert all(len(s.accumulators) < 9 for s in statements(prepare(k).body) if isinstance(s, Reduce))


@pytest.mark.skipif(not target().triple.startswith("x86_64"), reason="AVX2")
@pytest.mark.parametrize("type, columns", [(F64, 5), (F64, 7), (F32, 13)])
def test_half_a_mask_that_is_surely_false_loads_nothing(type: Type, columns: int) -> None:
    """A row's condition and columns of which one half of the vector lies outside: LLVM 22 loaded all of that half."""
    k = correlations(7, 9, columns, type)
    a, x = sample(type, 2 * 9 * (columns + 7)), sample(type, 2 * 9 * columns, 1)
    joint, apart = (np.zeros(2 * 49, NUMPY[type]) for _ in range(2))
    execute(k, a, x, joint, target="x86-64-v3")
    execute(unjoined(k), a, x, apart)
    assert same_bits(joint, apart) and np.any(joint)
