"""Kernels cut into parts for several threads: the same bits however they are cut, and cut where it pays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from kernel_tools import NUMPY, buffer, compiled, execute, kernel, row_tree, same_bits, sample

import tinyad as ad
from codegen import elf, threads
from codegen.emit_partials import LEAST, units
from codegen.index import ZERO, Datum, Index, Var, flatten, of
from codegen.loops import Accumulator, Apply, Check, Const, Kernel, Load, Loop, Reduce, Result, Store, Update
from codegen.parts import LONG, parts
from codegen.scalar import B1, F16, F32, F64, I32, I64, Type
from codegen.target import level

SHAPES = (
    (1, 1 << 16), (1, 100_001), (1, 32 * 16 * 64), (2, 40_000), (3, 16 * 32 * 40), (64, 1000), (70, 1001), (100, 512),
    (200, 24), (5000, 7), (67, 33_000),
)  # fmt: skip


def sums(type: Type, rows: int, n: int, *ops: str) -> Kernel:
    x, ys = buffer(type, rows * n), [buffer(type, 1, "out") for _ in ops]
    i, j = Var(rows, "i"), Var(n, "j")
    a = Load(type, x, flatten((of(i), of(j)), (rows, n)))
    r = Reduce((i, j), [a], tuple(Accumulator(op, type, a) for op in ops))
    results = [Result(type, r, k) for k in range(len(ops))]
    return kernel([r, *results, *(Store(y, ZERO, v) for y, v in zip(ys, results, strict=True))], x, *ys)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("type", [F32, F64, F16, I32], ids=str)
def test_cut_sums_keep_their_tree(type: Type, shape: tuple[int, int]) -> None:
    k = sums(type, *shape, "sum", "max")
    assert len(parts(k)) == 2 and compiled(k).functions[0].outer > 1
    source = sample(type, shape)
    got = [np.zeros(1, NUMPY[type]) for _ in range(2)]
    execute(k, source, *got, splits=(1, 2, 9))
    assert got[1][0] == source.max()
    wide = source.astype(np.float32) if type is F16 else source
    want = source.sum(dtype=np.int32) if type is I32 else row_tree(wide, "sum")
    assert same_bits(got[0], np.asarray(want).astype(NUMPY[type]).reshape(1))


@pytest.mark.parametrize("n", [200_001, 1 << 18])
def test_bools_are_cut_as_bytes(n: int) -> None:
    k = sums(B1, 1, n, "max", "min", "sum", "prod")
    assert len(parts(k)) == 2
    for fill in (False, True):
        source = np.full((1, n), fill)
        source[0, n - 2] = not fill
        got = [np.zeros(1, np.bool_) for _ in range(4)]
        execute(k, source, *got, splits=(1, 7))
        assert [bool(g[0]) for g in got] == [True, False, True, False]


def test_what_a_loop_updates_is_filled_once() -> None:
    """A few elements cleared by straight code beside the loop that adds to them: each range cleared them again."""
    x, y = buffer(F32, 2 * 9), buffer(F32, 2, "out")
    i, j = Var(2, "i"), Var(9, "j")
    zero, a = Const(F32, 0.0), Load(F32, x, flatten((of(i), of(j)), (2, 9)))
    loop = Loop(i, [Loop(j, [a, Update("sum", y, of(i), a)])])
    k = kernel([zero, Store(y, ZERO, zero), Store(y, Index({}, 1), zero), loop], x, y)
    source, got = np.arange(18, dtype=np.float32).reshape(2, 9), np.ones(2, np.float32)
    execute(k, source, got, splits=(1,))
    assert (got == source.sum(1)).all()


@pytest.mark.parametrize("rows, n, cut", [(2, LONG, True), (3, LONG + 5, True), (3, LONG - 1, False), (4, LONG, False)])
def test_few_very_long_rows_are_shared_one_by_one(rows: int, n: int, cut: bool) -> None:
    x, y = buffer(F32, rows * n), buffer(F32, rows, "out")
    i, j, k = Var(rows, "i"), Var(n, "j"), Var(n, "k")
    a, b = (Load(F32, x, flatten((of(i), of(v)), (rows, n))) for v in (j, k))
    largest = Reduce((j,), [a], (Accumulator("max", F32, a),))
    top = Result(F32, largest, 0)
    less = Apply("sub", F32, (b, top))
    total = Reduce((k,), [b, less], (Accumulator("sum", F32, less),))
    result = Result(F32, total, 0)
    loop = Loop(i, [largest, top, total, result, Store(y, of(i), result)])
    code = kernel([loop], x, y)
    assert len(parts(code)) == (4 * rows if cut else 1)
    source, got = sample(F32, (rows, n)), np.zeros(rows, np.float32)
    execute(code, source, got, splits=(1, 2))
    want = [row_tree(r[None] - r.max(), "sum") for r in source]
    assert same_bits(got, np.array(want, np.float32).reshape(rows))


def test_small_sums_stay_whole() -> None:
    assert len(parts(sums(F32, 1, LEAST * 512, "sum"))) == 2
    assert len(parts(sums(F32, 1, (LEAST - 1) * 512, "sum"))) == 1


def test_subtrees_are_few() -> None:
    for shape in ((1, 1 << 24), (4096, 4096), (1 << 20, 7), (2, 8_000_001)):
        r = sums(F32, *shape, "sum").body[0]
        assert isinstance(r, Reduce)
        u = units(r)
        assert u is not None and u.count >= 16 and u.subtrees * 64 <= shape[0] * max(shape[1], 512) // 8


def test_passes_over_one_array_are_parts_with_scalars_between() -> None:
    """A softmax of one long row: the largest, the sum of what is kept in scratch, the quotients."""
    n = 70_000
    x, y, kept = buffer(F32, n), buffer(F32, n, "out"), buffer(F32, n, "scratch")
    j, k, m = Var(n, "j"), Var(n, "k"), Var(n, "m")
    a = Load(F32, x, of(j))
    largest = Reduce((j,), [a], (Accumulator("max", F32, a),))
    top = Result(F32, largest)
    b = Load(F32, x, of(k))
    less = Apply("sub", F32, (b, top))
    power = Apply("exp", F32, (less,))
    total = Reduce((k,), [b, less, power, Store(kept, of(k), power)], (Accumulator("sum", F32, power),))
    one = Const(F32, 1.0)
    inside = Result(F32, total)  # a result that is read inside a loop only
    inverse = Apply("div", F32, (one, inside))
    c = Load(F32, kept, of(m))
    out = Apply("mul", F32, (c, inverse))
    body = [largest, top, total, one, Loop(m, [inside, inverse, c, out, Store(y, of(m), out)])]
    whole = kernel(body, x, y, scratch=(kept,))
    assert [bool(p.partials) for p in parts(whole)] == [True, False, True, False, False]
    code = compiled(whole)
    assert [p.outer > 1 for p in code.functions] == [True, False, True, False, True] and code.shared > 4 * n
    source, result = sample(F32, n), np.zeros(n, np.float32)
    execute(whole, source, result, splits=(1, 3))
    powers = np.exp((source - source.max()).astype(np.float64))
    assert np.allclose(result, powers / powers.sum(), 1e-5, 0)


def test_loops_that_follow_one_another_are_parts() -> None:
    """A scatter: the fill is shared, the updates are too where they go to distinct columns."""
    rows, width, n = 3000, 64, 2000
    where, g, out = buffer(I64, n), buffer(F32, n * width), buffer(F32, rows * width, "out")
    zero, fill, i, j = Const(F32, 0.0), Var(rows * width, "f"), Var(n, "i"), Var(width, "j")
    at = Load(I64, where, of(i))
    checked = Check(I64, at, rows, 1)
    value = Load(F32, g, flatten((of(i), of(j)), (n, width)))
    target = Index({Datum(checked, rows): width}) + of(j)
    body = [
        zero,
        Loop(fill, [Store(out, of(fill), zero)]),
        Loop(i, [at, checked, Loop(j, [value, Update("sum", out, target, value)])]),
    ]
    k = kernel(body, where, g, out)
    assert [p.outer for p in compiled(k).functions] == [rows * width, width]
    positions = np.random.default_rng(0).integers(0, rows, n)
    source, result = sample(F32, (n, width)), np.zeros((rows, width), np.float32)
    assert execute(k, positions, source, result, splits=(1, 17)) == 0
    want = np.zeros_like(result)
    np.add.at(want, positions, source)
    assert same_bits(result, want)
    positions[77] = rows
    assert execute(k, positions, source, result) == 1


def test_every_part_is_on_disk_and_in_the_text() -> None:
    code = compiled(sums(F32, 1, 1 << 17, "sum"))
    assert "define void @kernel(" in code.llvm and "define void @kernel.1(" in code.llvm
    assert elf.undefined_symbols(code.object) == []


def test_losses_of_tensors_are_cut() -> None:
    x = sample(F32, (700, 300))
    loss = ad.square(ad.tensor(x) - 0.5).mean()
    plan = ad.schedule(loss)
    assert len(plan) == 1
    assert len(parts(plan.steps[0].lowered.kernel)) == 2
    assert np.isclose(float(loss), np.square(x.astype(np.float64) - 0.5).mean())


@pytest.mark.parametrize(("op", "mib", "narrow"), [("sum", 256, True), ("sum", 8, False), ("max", 256, False)])
def test_sums_of_far_memory_load_half_as_much_at_a_time(op: str, mib: int, narrow: bool) -> None:
    target = replace(level("x86-64-v4", "x86_64-unknown-linux-gnu"), cache_bytes=32 << 20)
    asm = compiled(sums(F32, 1, mib << 18, op), target).asm
    first = asm[: asm.index("retq")]
    assert ("%zmm" in first) != narrow and ("%ymm" in first or not narrow)


def test_tiles_of_several_nests_are_no_threads_but_its_own() -> None:
    """Blocks of rows and the rest of the rows are two parts that use one tile, each for itself: threads that shared it
    would overwrite each other's rows."""
    x, w = (ad.tensor(np.ones(shape, np.float32)) for shape in ((360, 512), (512, 10)))
    (step,) = ad.schedule((x @ w + 1).argmax(-1))
    assert step.lowered.kernel.scratch
    code = compiled(step.lowered.kernel)
    assert len(code.functions) == 2 and code.shared == 0 and code.scratch


def test_a_tile_that_some_parts_pass_on_is_still_private_to_the_others() -> None:
    """Attention with gradients and a rest of rows: some parts hand a tile on, the blocks of rows do not."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((300, 5)).astype(np.float32) for _ in range(4)]

    def attention(q: ad.Tensor, k: ad.Tensor, v: ad.Tensor) -> ad.Tensor:
        a = ad.relu(q @ k.mT) ** 2
        return a / (a.sum(axis=-1, keepdims=True) + 1e-3) @ v

    def bits(count: int) -> list[bytes]:
        threads.use_threads(count)
        q, k, v, g = map(ad.tensor, arrays)
        y, pull = ad.vjp(attention, q, k, v)
        return [x.numpy().tobytes() for x in (y, *pull(g))]

    try:
        alone = bits(1)
        assert all(bits(count) == alone for count in (2, 3) * 10)
    finally:
        threads.use_threads(0)
