"""Elementwise kernels: every type, access pattern, mask and size, next to inaccessible memory."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_tools import NUMPY, buffer, compiled, execute, kernel, same_bits, sample

from codegen import jit
from codegen.assemble import assembly
from codegen.coalesce import coalesce
from codegen.emit import emit
from codegen.index import ZERO, Datum, Index, Var, constant, flatten, floordiv, masked, mod, of
from codegen.loops import Apply, Check, Const, IndexValue, InRange, Load, Loop, Param, Store, Update
from codegen.ranges import extent as outer_extent
from codegen.scalar import B1, F16, F32, F64, I32, I64, TYPES, U8, Type

SIZES = (0, 1, 7, 16, 17, 1000)


@pytest.mark.parametrize("type", TYPES.values(), ids=str)
@pytest.mark.parametrize("n", SIZES)
def test_map_of_every_type_and_size(type: Type, n: int) -> None:
    x, y, i = buffer(type, n), buffer(type, n, "out"), Var(n)
    a = Load(type, x, of(i) if n != 1 else ZERO)
    square = Apply("mul", type, (a, a))
    out = Apply("add", type, (square, a))
    k = kernel([Loop(i, [a, square, out, Store(y, a.index, out)])], x, y)
    source, result = sample(type, n), np.zeros(n, NUMPY[type])
    execute(k, source, result)
    with np.errstate(all="ignore"):
        want = (source * source).astype(NUMPY[type]) + source
    assert same_bits(result, want.astype(NUMPY[type]))


def permuted(i: Index, j: Index) -> Index:
    return flatten((j, i), (24, 20))


ACCESSES = {  # source position of output element (i, j) of 20 x 24, from a source of 480
    "contiguous": lambda i, j: flatten((i, j), (20, 24)),
    "row broadcast": lambda i, j: j,
    "column broadcast": lambda i, j: i,
    "scalar": lambda i, j: constant(3),
    "transposed": permuted,
    "every other": lambda i, j: j * 2 + i,
    "reversed": lambda i, j: j * -1 + i * 24 + 23,
    "reversed by two": lambda i, j: j * -2 + i * 3 + 46,
    "offset": lambda i, j: i * 19 + j + 5,
    "repeated": lambda i, j: floordiv(j, 3) + i * 8,
    "tiled": lambda i, j: mod(j, 5) + i * 5,
    "reshaped": lambda i, j: mod(flatten((j, i), (24, 20)), 7) * 60 + floordiv(flatten((i, j), (20, 24)), 11),
    "negative floor": lambda i, j: floordiv(j * 3 + i * -7 + 1, 5) + 50,
}


@pytest.mark.parametrize("name", ACCESSES)
@pytest.mark.parametrize("type", [F32, F64, F16, U8, B1], ids=str)
def test_loads_follow_their_index(name: str, type: Type) -> None:
    i, j = Var(20, "i"), Var(24, "j")
    x, y = buffer(type, 480), buffer(type, 480, "out")
    a = Load(type, x, ACCESSES[name](of(i), of(j)))
    k = kernel([Loop(i, [Loop(j, [a, Store(y, flatten((of(i), of(j)), (20, 24)), a)])])], x, y)
    source, result = sample(type, 480), np.zeros(480, NUMPY[type])
    execute(k, source, result)
    assert same_bits(result, source[positions(a.index, i, j)].reshape(-1))


def positions(e: Index, i: Var, j: Var) -> np.ndarray:
    """The index evaluated for every (i, j)."""
    values = {i: np.arange(i.extent)[:, None], j: np.arange(j.extent)[None, :]}

    def at(e: Index) -> np.ndarray:
        out = np.full((i.extent, j.extent), e.const)
        for atom, coef in e.terms.items():
            if isinstance(atom, Var):
                v = values[atom]
            else:
                inner = at(atom.index)
                v = {"Div": inner // atom.n, "Mod": inner % atom.n, "Masked": inner}[type(atom).__name__]
            out = out + coef * v
        return out

    return at(e)


@pytest.mark.parametrize("period", [64, 48, 33])
@pytest.mark.parametrize("step, offset", [(1, 0), (1, 64), (1, 5), (2, 0), (2, 1), (2, 3), (-1, 0)])
def test_periods_of_whole_vectors(period: int, step: int, offset: int) -> None:
    """Rows of a reshaped array: vectors that stay inside one period, and those that do not."""
    n = 400
    i = Var(n)
    place = of(i) * step + (offset if step > 0 else n - 1)
    e = mod(place, period) * 2 + floordiv(place, period) * 3
    size = e.bounds[1] + 1
    x, y = buffer(F32, size), buffer(F32, n, "out")
    a = Load(F32, x, e)
    source, result = sample(F32, size), np.zeros(n, np.float32)
    execute(kernel([Loop(i, [a, Store(y, of(i), a)])], x, y), source, result, splits=(3, 50, 177))
    at = np.arange(n) * step + (offset if step > 0 else n - 1)
    assert same_bits(result, source[at % period * 2 + at // period * 3])


def test_padded_rows_need_no_gather() -> None:
    i = Var(640)
    x, y = buffer(F32, 1280), buffer(F32, 640, "out")
    a = Load(F32, x, mod(of(i), 64) + floordiv(of(i), 64) * 128)
    assert "gather" not in compiled(kernel([Loop(i, [a, Store(y, of(i), a)])], x, y)).llvm


@pytest.mark.parametrize("step", [1, -1, 2, 20])
def test_stores_follow_their_index(step: int) -> None:
    n = 37
    i = Var(n)
    x, y = buffer(F32, n), buffer(F32, n * 20, "out")
    a = Load(F32, x, of(i))
    position = of(i) * step + (n - 1 if step < 0 else 0)
    k = kernel([Loop(i, [a, Store(y, position, a)])], x, y)
    source, result = sample(F32, n), np.zeros(n * 20, np.float32)
    execute(k, source, result, splits=(5, 20))
    want = np.zeros_like(result)
    want[np.arange(n) * step + (n - 1 if step < 0 else 0)] = source
    assert same_bits(result, want)


@pytest.mark.parametrize("n", [1, 5, 16, 33])
@pytest.mark.parametrize("type", [F32, F16, U8, I64], ids=str)
def test_padding_reads_nothing_outside(n: int, type: Type) -> None:
    i = Var(n + 6)
    x, y = buffer(type, n), buffer(type, n + 6, "out")
    inside = InRange(B1, of(i) + -3, 0, n)
    a = Load(type, x, masked(of(i) + -3, n), inside)
    k = kernel([Loop(i, [inside, a, Store(y, of(i), a)])], x, y)
    source, result = sample(type, n), np.ones(n + 6, NUMPY[type])
    execute(k, source, result, splits=(2,))
    assert same_bits(result, np.pad(source, 3))


def test_dilation_uses_the_step_of_a_range() -> None:
    i = Var(60)
    x, y = buffer(F32, 20), buffer(F32, 60, "out")
    inside = InRange(B1, of(i), 0, 60, 3)
    a = Load(F32, x, masked(floordiv(of(i), 3), 20), inside)
    k = kernel([Loop(i, [inside, a, Store(y, of(i), a)])], x, y)
    source, result = sample(F32, 20), np.ones(60, np.float32)
    execute(k, source, result)
    want = np.zeros(60, np.float32)
    want[::3] = source
    assert same_bits(result, want)


@pytest.mark.parametrize("type", [I32, I64, U8], ids=str)
@pytest.mark.parametrize("bad", [None, -1, 30, 100])
def test_gather_checks_every_index(type: Type, bad: int | None) -> None:
    n = 45
    i = Var(n)
    table, at, y = buffer(F32, 30), buffer(type, n), buffer(F32, n, "out")
    raw = Load(type, at, of(i))
    checked = Check(type, raw, 30, 9)
    a = Load(F32, table, Index({Datum(checked, 30): 1}, 0))
    k = kernel([Loop(i, [raw, checked, a, Store(y, of(i), a)])], table, at, y)
    source, indices = sample(F32, 30), np.random.default_rng(1).integers(0, 30, n).astype(NUMPY[type])
    if bad is not None:
        indices[-1] = np.array(bad).astype(NUMPY[type])
    result = np.zeros(n, np.float32)
    assert execute(k, source, indices, result) == (0 if bad is None else 9)
    want = source[np.where((indices < 30) & (indices >= 0), indices, 0)]
    assert same_bits(result, want)


def test_masked_check_leaves_the_status_alone() -> None:
    n = 21
    i = Var(n)
    at, y = buffer(I32, n), buffer(I32, n, "out")
    raw = Load(I32, at, of(i))
    first = InRange(B1, of(i), 0, 10)
    checked = Check(I32, raw, 5, 3, first)
    k = kernel([Loop(i, [raw, first, checked, Store(y, of(i), checked)])], at, y)
    indices, result = np.full(n, 4, np.int32), np.ones(n, np.int32)
    indices[10:] = 99
    assert execute(k, indices, result) == 0
    assert result.tolist() == [4] * 10 + [0] * 11


def test_parameters_constants_and_index_values() -> None:
    n = 50
    i = Var(n)
    y, z = buffer(F32, n, "out"), buffer(I64, n, "out")
    rate, shift = Param(F32, "rate"), Param(I64, "shift")
    number = IndexValue(F32, of(i) * 3 + -7)
    half = Const(F32, 0.5)
    scaled, moved = Apply("mul", F32, (number, rate)), Apply("add", F32, (number, half))
    total = Apply("add", F32, (scaled, moved))
    whole = IndexValue(I64, mod(of(i), 7))
    out = Apply("add", I64, (whole, shift))
    body = [number, half, scaled, moved, total, whole, out, Store(y, of(i), total), Store(z, of(i), out)]
    k = kernel([Loop(i, body)], y, z, params=(rate, shift))
    result, integers = np.zeros(n, np.float32), np.zeros(n, np.int64)
    execute(k, result, integers, params=(np.float32(0.25), np.int64(-(1 << 40))))
    steps = np.arange(n, dtype=np.float32) * 3 - 7
    assert same_bits(result, steps * np.float32(0.25) + (steps + np.float32(0.5)))
    assert integers.tolist() == [v % 7 - (1 << 40) for v in range(n)]


def test_mixed_types_share_a_vector() -> None:
    n = 83
    i = Var(n)
    x, m, y, c = buffer(F64, n), buffer(B1, n), buffer(F32, n, "out"), buffer(B1, n, "out")
    a, p = Load(F64, x, of(i)), Load(B1, m, of(i))
    zero = Const(F64, 0.0)
    chosen = Apply("where", F64, (p, a, zero))
    narrow, negative = Apply("cast", F32, (chosen,)), Apply("lt", B1, (chosen, zero))
    body = [a, p, zero, chosen, narrow, negative, Store(y, of(i), narrow), Store(c, of(i), negative)]
    k = kernel([Loop(i, body)], x, m, y, c)
    source, mask = sample(F64, n), sample(B1, n)
    floats, bools = np.zeros(n, np.float32), np.zeros(n, np.bool_)
    execute(k, source, mask, floats, bools, splits=(1, 2, 50))
    want = np.where(mask, source, 0)
    assert same_bits(floats, want.astype(np.float32)) and same_bits(bools, want < 0)


@pytest.mark.parametrize("n", [40, 20000])
def test_scratch_holds_a_row(n: int) -> None:
    i, j, j2 = Var(5, "i"), Var(n, "j"), Var(n, "j")
    x, y, t = buffer(F32, 5 * n), buffer(F32, 5 * n, "out"), buffer(F32, n, "scratch", "t")
    a = Load(F32, x, flatten((of(i), of(j)), (5, n)))
    b = Load(F32, t, of(j2) * -1 + (n - 1))
    body = [Loop(j, [a, Store(t, of(j), a)]), Loop(j2, [b, Store(y, flatten((of(i), of(j2)), (5, n)), b)])]
    source, result = sample(F32, (5, n)), np.zeros((5, n), np.float32)
    execute(kernel([Loop(i, body)], x, y, scratch=(t,)), source, result)
    assert same_bits(result, source[:, ::-1].copy())


def test_large_bodies_use_one_masked_loop() -> None:
    n = 53
    i = Var(n)
    x, y = buffer(F32, n), buffer(F32, n, "out")
    a = Load(F32, x, of(i))
    chain: list[Load | Apply] = [a]
    for _ in range(50):
        chain.append(Apply("mul", F32, (chain[-1], a)))
        chain.append(Apply("add", F32, (chain[-1], a)))
    k = kernel([Loop(i, [*chain, Store(y, of(i), chain[-1])])], x, y)
    source, result = sample(F32, n), np.zeros(n, np.float32)
    execute(k, source, result, splits=(20,))
    want = source.copy()
    with np.errstate(all="ignore"):
        for _ in range(50):
            want = want * source + source
    assert same_bits(result, want)


def nest(order: str) -> list[Loop]:
    i, j, m = Var(6, "i"), Var(5, "j"), Var(7, "m")
    x, y = buffer(F32, 210), buffer(F32, 210, "out")
    at = flatten((of(i), of(j), of(m)), (6, 5, 7))
    source = at if order == "same" else flatten((of(j), of(i), of(m)), (5, 6, 7))
    a = Load(F32, x, source)
    return [Loop(i, [Loop(j, [Loop(m, [a, Store(y, at, a)])])])], x, y


def test_contiguous_nests_become_one_loop() -> None:
    body, x, y = nest("same")
    merged = coalesce(kernel(body, x, y)).body[0]
    assert merged.var.extent == 210 and not any(isinstance(s, Loop) for s in merged.body)
    assert outer_extent(kernel(body, x, y), jit.target()) == 210


def test_permuted_nests_stay() -> None:
    body, x, y = nest("permuted")
    k = kernel(body, x, y)
    assert outer_extent(k, jit.target()) == 6
    source, result = sample(F32, (5, 6, 7)), np.zeros((6, 5, 7), np.float32)
    execute(k, source, result, splits=(1, 4))
    assert same_bits(result, source.transpose(1, 0, 2).copy())


def test_scalars_before_a_loop_are_computed_by_every_range() -> None:
    n, i = 1000, Var(1000)
    x, s, y, t = buffer(F32, n), buffer(F32, 1), buffer(F32, n, "out"), buffer(F32, 1, "out")
    scale = Load(F32, s, ZERO)
    root = Apply("sqrt", F32, (scale,))
    a = Load(F32, x, of(i))
    product = Apply("mul", F32, (a, root))
    body = [scale, root, Store(t, ZERO, root), Loop(i, [a, product, Store(y, of(i), product)])]
    k = kernel(body, x, s, y, t)
    assert outer_extent(k, jit.target()) == n
    source, result, stored = sample(F32, n), np.zeros(n, np.float32), np.zeros(1, np.float32)
    execute(k, source, np.float32([3]), result, stored, splits=(17, 500))
    assert same_bits(result, source * np.sqrt(np.float32(3))) and stored[0] == np.sqrt(np.float32(3))


def test_a_scalar_that_the_loop_overwrites_is_read_once() -> None:
    i = Var(100)
    y = buffer(F32, 100, "inout")
    first = Load(F32, y, ZERO)
    a = Load(F32, y, of(i))
    total = Apply("add", F32, (a, first))
    assert outer_extent(kernel([first, Loop(i, [a, total, Store(y, of(i), total)])], y), jit.target()) == 1


def test_a_checked_index_is_compared_once() -> None:
    """The branch knows that it is right; only where it is not, zero takes its place."""
    target = jit.target("x86-64-v3")
    x, q, y = buffer(F32, 30), buffer(I64, 50), buffer(F32, 30, "out")
    i = Var(50)
    raw, a = Load(I64, q, of(i)), Load(F32, x, ZERO)
    checked = Check(I64, raw, 30, 9)
    k = kernel([Loop(i, [raw, a, checked, Update("sum", y, Index({Datum(checked, 30): 1}, 0), a)])], q, x, y)
    text = assembly(emit(k, target, "k"), target)
    assert text.count("$30") + text.count("$29") == 1
