"""Loops split at borders and into phases: the same bits, and hot loops without masks and divisions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from kernel_tools import NUMPY, buffer, compiled, execute, kernel, same_bits, sample
from levels import runnable_levels

from codegen import emit, jit
from codegen.analysis import indices, statements
from codegen.coalesce import coalesce
from codegen.index import Div, Index, Mod, Var, flatten, floordiv, masked, mod, of
from codegen.loops import Accumulator, Apply, Const, InRange, Kernel, Load, Loop, Reduce, Result, Stmt, Store
from codegen.scalar import B1, F16, F32, F64, I8, I32, Type
from codegen.split import prepare
from codegen.text import canonical
from codegen.verify import verify


def nest(variables: tuple[Var, ...], body: list[Stmt]) -> list[Stmt]:
    for var in reversed(variables):
        body = [Loop(var, body)]
    return body


def innermost(body: list[Stmt]) -> list[Loop]:
    return [s for s in statements(body) if isinstance(s, Loop) and not any(isinstance(x, Loop) for x in s.body)]


def undecided(loop: Loop) -> bool:
    """Whether a loop's body has a mask, a division or a modulus."""
    return any(
        isinstance(s, InRange) or any(isinstance(a, (Div, Mod)) for e in indices(s) for a in e.terms)
        for s in statements(loop.body)
    )


def check(k: Kernel, *arrays: np.ndarray, splits: tuple[int, ...] = ()) -> None:
    """Runs the kernel split and as it is: equal bits in every array."""
    verify(k)
    verify(prepare(k))
    plain = [a.copy() for a in arrays]
    execute(k, *arrays, splits=splits)
    execute(replace(coalesce(k), prepared=True), *plain)
    for got, expected in zip(arrays, plain, strict=True):
        assert same_bits(got, expected)


def padded(rows: int, columns: int, pad: int, type: Type = F32) -> Kernel:
    x, y = buffer(type, 3 * rows * columns), buffer(type, 3 * (rows + 2 * pad) * (columns + 2 * pad), "out")
    b, i, j = Var(3, "b"), Var(rows + 2 * pad, "i"), Var(columns + 2 * pad, "j")
    row, column = of(i) + -pad, of(j) + -pad
    up, across = InRange(B1, row, 0, rows), InRange(B1, column, 0, columns)
    inside = Apply("and", B1, (up, across))
    at = flatten((of(b), masked(row, rows), masked(column, columns)), (3, rows, columns))
    value = Load(type, x, at, inside)
    store = Store(y, flatten((of(b), of(i), of(j)), (3, i.extent, j.extent)), value)
    return kernel(nest((b, i, j), [up, across, inside, value, store]), x, y)


@pytest.mark.parametrize("shape", [(5, 7, 1), (20, 100, 1), (9, 66, 3), (2, 131, 2)], ids=str)
@pytest.mark.parametrize("type", [F32, I8, F64], ids=str)
def test_padding(shape: tuple[int, int, int], type: Type) -> None:
    rows, columns, pad = shape
    x = sample(type, (3, rows, columns))
    y = np.zeros((3, rows + 2 * pad, columns + 2 * pad), NUMPY[type])
    check(padded(*shape, type), x, y, splits=(1,))
    assert same_bits(y, np.pad(x, ((0, 0), (pad, pad), (pad, pad))))


def test_the_interior_has_no_mask() -> None:
    loops = innermost(prepare(padded(40, 200, 1)).body)
    assert [loop.var.extent for loop in loops if not undecided(loop)] == [202, 176, 202]
    assert len(loops) == 5


def test_the_outermost_loop_stays_one() -> None:
    k = padded(40, 200, 1)
    assert compiled(k).functions[0].outer == 3


def window(size: int, out: int, taps: int, stride: int, pad: int, op: str, type: Type, tree: str = "column") -> Kernel:
    """Reductions over windows of ``taps * taps`` of padded images; absent elements are 0."""
    x, y = buffer(type, 2 * size * size), buffer(type, 2 * out * out, "out")
    b, i, j, p, q = Var(2, "b"), Var(out, "i"), Var(out, "j"), Var(taps, "p"), Var(taps, "q")
    row, column = of(i) * stride + of(p) + -pad, of(j) * stride + of(q) + -pad
    up, across = InRange(B1, row, 0, size), InRange(B1, column, 0, size)
    inside = Apply("and", B1, (up, across))
    at = flatten((of(b), masked(row, size), masked(column, size)), (2, size, size))
    value = Load(type, x, at, inside)
    reduced = Reduce((p, q), [up, across, inside, value], (Accumulator(op, type, value),), tree)
    result = Result(type, reduced)
    store = Store(y, flatten((of(b), of(i), of(j)), (2, out, out)), result)
    return kernel(nest((b, i, j), [reduced, result, store]), x, y)


@pytest.mark.parametrize("op", ["sum", "max", "min", "prod"])
@pytest.mark.parametrize("type", [F32, F16, I32, B1], ids=str)
@pytest.mark.parametrize(
    "form", [(32, 16, 3, 2, 1), (70, 70, 3, 1, 1), (9, 3, 3, 3, 0), (12, 12, 5, 1, 2), (14, 14, 7, 1, 3)], ids=str
)
def test_windows(op: str, type: Type, form: tuple[int, int, int, int, int]) -> None:
    size, out, taps, stride, pad = form
    x, y = sample(type, (2, size, size)), np.zeros((2, out, out), NUMPY[type])
    check(window(size, out, taps, stride, pad, op, type), x, y)


def test_a_window_of_negative_zeros_sums_to_negative_zero() -> None:
    x, y = np.full((2, 70, 70), -0.0, np.float32), np.zeros((2, 70, 70), np.float32)
    check(window(70, 70, 3, 1, 1, "sum", F32), x, y)
    assert np.signbit(y[:, 1:-1, 1:-1]).all() and not np.signbit(y[:, 0]).any()


def test_windows_of_two_blocks_are_written_out() -> None:
    """Chains of two blocks, of which the first may have absent terms only; those of three stay loops."""
    for taps, loops in ((7, 0), (8, 0), (9, 1)):
        x, y = np.full((2, 40, 40), -0.0, np.float32), np.zeros((2, 40, 40), np.float32)
        k = window(40, 40, taps, 1, taps - 1, "sum", F32)
        assert sum(isinstance(s, Reduce) for s in statements(prepare(k).body)) >= loops
        assert loops or not any(isinstance(s, Reduce) for s in statements(prepare(k).body))
        check(k, x, y)


def test_row_trees_are_left_alone() -> None:
    x, y = sample(F32, (2, 70, 70)), np.zeros((2, 70, 70), np.float32)
    check(window(70, 70, 3, 1, 1, "sum", F32, "row"), x, y)


def spread(size: int, stride: int, taps: int, type: Type = F32) -> Kernel:
    """The adjoint of windows: each element sums what the windows over it hold, found by division by the stride."""
    out = (size - taps) // stride + 1
    x, y = buffer(type, 2 * out * out), buffer(type, 2 * size * size, "out")
    b, i, j, p, q = Var(2, "b"), Var(size, "i"), Var(size, "j"), Var(taps, "p"), Var(taps, "q")
    masks: list[Stmt] = []
    places = []
    inside: InRange | Apply | None = None
    for e in (of(i) + of(p) * -1, of(j) + of(q) * -1):
        m = InRange(B1, e, 0, (out - 1) * stride + 1, stride)
        masks.append(m)
        if inside is not None:
            inside = Apply("and", B1, (inside, m))
            masks.append(inside)
        else:
            inside = m
        places.append(masked(floordiv(e, stride), out))
    value = Load(type, x, flatten((of(b), *places), (2, out, out)), inside)
    reduced = Reduce((p, q), [*masks, value], (Accumulator("sum", type, value),), "column")
    result = Result(type, reduced)
    store = Store(y, flatten((of(b), of(i), of(j)), (2, size, size)), result)
    return kernel(nest((b, i, j), [reduced, result, store]), x, y)


@pytest.mark.parametrize("form", [(64, 2, 2), (65, 2, 3), (66, 3, 3), (64, 4, 2), (67, 4, 4), (30, 2, 3)], ids=str)
@pytest.mark.parametrize("type", [F32, F16, I8], ids=str)
def test_phases(form: tuple[int, int, int], type: Type) -> None:
    size, stride, taps = form
    out = (size - taps) // stride + 1
    x, y = sample(type, (2, out, out)), np.zeros((2, size, size), NUMPY[type])
    check(spread(*form, type), x, y)


def test_phases_leave_no_division() -> None:
    for form in ((64, 2, 2), (128, 2, 2)):
        loops = innermost(prepare(spread(*form)).body)
        assert not any(undecided(loop) for loop in loops)
        assert "scatter" not in emit.emit(spread(*form), jit.target("x86-64-v4"), "f")


@pytest.mark.parametrize("size", [40, 64, 101])
@pytest.mark.parametrize("times", [2, 3, 4])
def test_repeated_elements(size: int, times: int) -> None:
    x, y = buffer(F32, 5 * size), buffer(F32, 5 * size * times, "out")
    b, j = Var(5, "b"), Var(size * times, "j")
    value = Load(F32, x, of(b) * size + floordiv(of(j), times))
    k = kernel(nest((b, j), [value, Store(y, of(b) * (size * times) + of(j), value)]), x, y)
    a, out = sample(F32, (5, size)), np.zeros((5, size * times), np.float32)
    check(k, a, out)
    assert same_bits(out, np.repeat(a, times, 1))


@pytest.mark.parametrize("cut", [1, 16, 37, 64])
def test_pieces_side_by_side(cut: int) -> None:
    """``where(j < cut, x, y)``, each loaded where it is: what a concatenation is."""
    size, rows = 150, 4
    x, y, z = buffer(F32, rows * cut), buffer(F32, rows * (size - cut)), buffer(F32, rows * size, "out")
    b, j = Var(rows, "b"), Var(size, "j")
    first, second = InRange(B1, of(j), 0, cut), InRange(B1, of(j) + -cut, 0, size - cut)
    p = Load(F32, x, of(b) * cut + masked(of(j), cut), first)
    q = Load(F32, y, of(b) * (size - cut) + masked(of(j) + -cut, size - cut), second)
    r = Apply("where", F32, (first, p, q))
    k = kernel(nest((b, j), [first, second, p, q, r, Store(z, of(b) * size + of(j), r)]), x, y, z)
    left, right = sample(F32, (rows, cut)), sample(F32, (rows, size - cut), 1)
    out = np.zeros((rows, size), np.float32)
    check(k, left, right, out)
    assert same_bits(out, np.concatenate([left, right], 1))


@pytest.mark.parametrize("step", [2, 3, 4, 5])
@pytest.mark.parametrize("size", [7, 64, 77])
@pytest.mark.parametrize("type", [F32, I8, B1, F16, F64], ids=str)
def test_strided_reading_and_writing(step: int, size: int, type: Type) -> None:
    reverse_groups(type, size, step)


def reverse_groups(type: Type, size: int, step: int, target: str | None = None) -> None:
    x, y = buffer(type, 3 * size * step), buffer(type, 3 * size * step, "out")
    b, j = Var(3, "b"), Var(size, "j")
    body: list[Stmt] = []
    for r in range(step):
        value = Load(type, x, of(b) * (size * step) + of(j) * step + (step - 1 - r))
        body += [value, Store(y, of(b) * (size * step) + of(j) * step + r, value)]
    body.sort(key=lambda s: isinstance(s, Store))
    a, out = sample(type, (3, size, step)), np.zeros((3, size, step), NUMPY[type])
    execute(kernel(nest((b, j), body), x, y), a, out, target=target)
    assert same_bits(out, a[:, :, ::-1])


def test_strided_vectors_end_at_the_last_element() -> None:
    """Two doubles at a step of four read one more element, past the end of the array."""
    if "x86-64-v2" not in runnable_levels():
        pytest.skip("this machine does not run it")
    reverse_groups(F64, 64, 4, "x86-64-v2")


def test_moduli_of_a_phase() -> None:
    x, y = buffer(F32, 2 * 50), buffer(F32, 3 * 100, "out")
    b, j = Var(3, "b"), Var(100, "j")
    e: Index = mod(of(j), 2) * 50 + floordiv(of(j), 2)
    value = Load(F32, x, e)
    k = kernel(nest((b, j), [value, Store(y, of(b) * 100 + of(j), value)]), x, y)
    a, out = sample(F32, 100), np.zeros((3, 100), np.float32)
    check(k, a, out)
    assert same_bits(out, np.tile(a.reshape(2, 50).T.ravel(), (3, 1)))


def test_unread_values_and_literals_go() -> None:
    x, y = buffer(F32, 600), buffer(F32, 600, "out")
    b, j = Var(6, "b"), Var(100, "j")
    always = InRange(B1, of(j), 0, 100)
    zero, value = Const(F32, 0.0), Load(F32, x, of(b) * 100 + of(j), always)
    chosen = Apply("where", F32, (always, value, zero))
    k = kernel(nest((b, j), [always, zero, value, chosen, Store(y, of(b) * 100 + of(j), chosen)]), x, y)
    text = canonical(prepare(k))
    assert "inrange" not in text and "where" not in text and "0.0" not in text
