"""Contractions: chains of fused multiply-adds in blocks of k, whatever the tiling."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_tools import NUMPY, buffer, compiled, execute, fma, kernel, same_bits, sample

from codegen import jit
from codegen.contract import described
from codegen.index import Var, flatten, masked, of
from codegen.loops import Acc, Apply, Const, Contract, InRange, Kernel, Load, Loop, Store
from codegen.ranges import ranged
from codegen.scalar import B1, F16, F32, F64, I8, I32, Type
from codegen.split import prepare

SHAPES = ((1, 1, 1), (3, 5, 0), (5, 7, 3), (1, 100, 300), (100, 1, 300), (64, 64, 64), (37, 53, 700), (13, 300, 257))


def chained(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """float32 [m, k] by [k, n] as `codegen.loops` defines it."""
    total = None
    for start in range(0, max(a.shape[1], 1), 256):
        acc = np.zeros((a.shape[0], b.shape[1]), np.float32)
        for k in range(start, min(start + 256, a.shape[1])):
            acc = fma(a[:, k, None] + np.zeros_like(acc), b[None, k] + np.zeros_like(acc), acc)
        total = acc if total is None else total + acc
    assert total is not None
    return total


def product(type: Type, m: int, n: int, k: int, forms: str = "nnn") -> Kernel:
    """c = a @ b; each of a, b, c is stored as it is (``n``) or transposed (``t``)."""
    a, b, c = buffer(type, m * k), buffer(type, k * n), buffer(type, m * n, "out")
    i, j, r = Var(m, "i"), Var(n, "j"), Var(k, "r")

    def at(form: str, x: Var, y: Var):
        return (
            flatten((of(x), of(y)), (x.extent, y.extent))
            if form == "n"
            else flatten((of(y), of(x)), (y.extent, x.extent))
        )

    x, y, acc = Load(type, a, at(forms[0], i, r)), Load(type, b, at(forms[1], r, j)), Acc(type)
    body = Contract((i,), (j,), (r,), [x], x, [y], y, acc, [Store(c, at(forms[2], i, j), acc)])
    return kernel([body], a, b, c)


def stored(x: np.ndarray, form: str) -> np.ndarray:
    return np.ascontiguousarray(x if form == "n" else x.T)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("forms", ["nnn", "tnn", "ntn", "ttt"])
def test_products_have_the_defined_bits(shape: tuple[int, int, int], forms: str) -> None:
    m, n, k = shape
    a, b = sample(F32, (m, k)), sample(F32, (k, n), 1)
    c = np.full((m, n), 7, np.float32)
    out = stored(c, forms[2])
    execute(product(F32, m, n, k, forms), stored(a, forms[0]), stored(b, forms[1]), out)
    assert same_bits(stored(out, forms[2]), chained(a, b))


@pytest.mark.parametrize("type", [F64, F16, I32, I8], ids=str)
@pytest.mark.parametrize("shape", [(5, 7, 3), (37, 53, 300), (2, 70, 600), (96, 60, 100)], ids=str)
@pytest.mark.parametrize("forms", ["nnn", "ntn"])
def test_products_of_every_kind(type: Type, shape: tuple[int, int, int], forms: str) -> None:
    m, n, k = shape
    rng = np.random.default_rng(3)
    a, b = rng.integers(-3, 4, (m, k)).astype(NUMPY[type]), rng.integers(-3, 4, (k, n)).astype(NUMPY[type])
    c = np.zeros((m, n), NUMPY[type])
    execute(product(type, m, n, k, forms), stored(a, forms[0]), stored(b, forms[1]), c)
    assert same_bits(c, (a.astype(np.int64) @ b.astype(np.int64)).astype(NUMPY[type]))


def test_half_precision_rounds_once() -> None:
    a, b = sample(F16, (20, 90)), sample(F16, (90, 30), 1)
    c = np.zeros((20, 30), np.float16)
    execute(product(F16, 20, 30, 90), a, b, c)
    assert same_bits(c, chained(a.astype(np.float32), b.astype(np.float32)).astype(np.float16))


def test_double_precision_error() -> None:
    a, b = sample(F64, (33, 500)), sample(F64, (500, 29), 1)
    c = np.zeros((33, 29))
    execute(product(F64, 33, 29, 500), a, b, c)
    bound = 260 * np.finfo(np.float64).eps * (abs(a) @ abs(b))
    assert (abs(c - a @ b) <= bound).all()


@pytest.mark.parametrize("pad", [0, 1])
def test_convolution(pad: int) -> None:
    """m = (batch, y, x), n = filters, k = (dy, dx, channels); padding is a mask on a."""
    batch, size, channels, filters, window = 2, 9, 5, 6, 3
    out = size + 2 * pad - window + 1
    image, weights = buffer(F32, batch * size * size * channels), buffer(F32, window * window * channels * filters)
    bias, result = buffer(F32, filters), buffer(F32, batch * out * out * filters, "out")
    b, y, x, f = Var(batch, "b"), Var(out, "y"), Var(out, "x"), Var(filters, "f")
    dy, dx, c = Var(window, "dy"), Var(window, "dx"), Var(channels, "c")
    row, column = of(y) + of(dy) + -pad, of(x) + of(dx) + -pad
    rows, columns = InRange(B1, row, 0, size), InRange(B1, column, 0, size)
    inside = Apply("and", B1, (rows, columns))
    at = flatten((of(b), masked(row, size), masked(column, size), of(c)), (batch, size, size, channels))
    p = Load(F32, image, at, inside if pad else None)
    q = Load(F32, weights, flatten((of(dy), of(dx), of(c), of(f)), (window, window, channels, filters)))
    acc, shift, zero = Acc(F32), Load(F32, bias, of(f)), Const(F32, 0.0)
    moved = Apply("add", F32, (acc, shift))
    relu = Apply("max", F32, (moved, zero))
    store = Store(result, flatten((of(b), of(y), of(x), of(f)), (batch, out, out, filters)), relu)
    a_body = [rows, columns, inside, p] if pad else [p]
    body = Contract((b, y, x), (f,), (dy, dx, c), a_body, p, [q], q, acc, [shift, zero, moved, relu, store])
    images, kernels, offsets = (
        sample(F32, (batch, size, size, channels)),
        sample(F32, (3, 3, channels, filters)),
        sample(F32, 6),
    )
    got = np.zeros((batch, out, out, filters), np.float32)
    execute(kernel([body], image, weights, bias, result), images, kernels, offsets, got)
    padded = np.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2)).transpose(0, 1, 2, 4, 5, 3)
    product = chained(windows.reshape(batch * out * out, -1), kernels.reshape(-1, filters))
    assert same_bits(got, np.maximum(product.reshape(got.shape) + offsets, 0))


@pytest.mark.parametrize("shape", [(500, 40, 30), (500, 3, 300)], ids=str)
def test_rows_can_be_split(shape: tuple[int, int, int]) -> None:
    m, n, k = shape
    code = compiled(product(F32, m, n, k))
    assert code.functions[0].outer > 2
    a, b, c = sample(F32, (m, k)), sample(F32, (k, n), 1), np.zeros((m, n), np.float32)
    execute(product(F32, m, n, k), a, b, c, splits=(1, 3))
    assert same_bits(c, chained(a, b))


def test_batches_are_loops_outside() -> None:
    batch, m, n, k = 3, 10, 20, 30
    a, b, c = buffer(F32, batch * m * k), buffer(F32, batch * k * n), buffer(F32, batch * m * n, "out")
    g, i, j, r = Var(batch, "g"), Var(m, "i"), Var(n, "j"), Var(k, "r")
    x = Load(F32, a, flatten((of(g), of(i), of(r)), (batch, m, k)))
    y = Load(F32, b, flatten((of(g), of(r), of(j)), (batch, k, n)))
    minus, acc = Apply("neg", F32, (x,)), Acc(F32)
    store = Store(c, flatten((of(g), of(i), of(j)), (batch, m, n)), acc)
    body = Loop(g, [Contract((i,), (j,), (r,), [x, minus], minus, [y], y, acc, [store])])
    left, right, out = sample(F32, (batch, m, k)), sample(F32, (batch, k, n), 1), np.zeros((batch, m, n), np.float32)
    execute(kernel([body], a, b, c), left, right, out, splits=(1,))
    assert same_bits(out, np.stack([chained(-p, q) for p, q in zip(left, right, strict=True)]))


@pytest.mark.parametrize("target", ["x86-64-v2", "x86-64-v3", "x86-64-v4"])
def test_every_level_has_the_same_bits(target: str) -> None:
    if compiled(product(F32, 1, 1, 1)).target.vector_bytes < {"2": 16, "3": 32, "4": 64}[target[-1]]:
        pytest.skip("the host cannot run it")
    a, b, c = sample(F32, (19, 270)), sample(F32, (270, 35), 1), np.zeros((19, 35), np.float32)
    execute(product(F32, 19, 35, 270), a, b, c, target=target)
    assert same_bits(c, chained(a, b))


def way(k: Kernel) -> str:
    """How the contraction of a kernel is computed."""
    (text,) = described(k, jit.target("native"))
    return text


wide = pytest.mark.skipif(jit.target("native").vector_bytes < 64, reason="chosen for vectors of 64 bytes")


@wide
@pytest.mark.parametrize("shape", [(1, 700, 300), (5, 1000, 130), (24, 530, 515), (7, 264, 500)], ids=str)
@pytest.mark.parametrize("forms", ["nnn", "tnn", "nnt"])
def test_few_rows_let_the_large_factor_stream_by(shape: tuple[int, int, int], forms: str) -> None:
    m, n, k = shape
    k_form = product(F32, m, n, k, forms)
    assert "stream" in way(k_form)
    a, b, c = sample(F32, (m, k)), sample(F32, (k, n), 1), np.zeros((m, n), np.float32)
    out = stored(c, forms[2])
    execute(k_form, stored(a, forms[0]), b, out, splits=(1, 3))
    assert same_bits(stored(out, forms[2]), chained(a, b))


@wide
def test_few_columns_let_the_large_factor_stream_by() -> None:
    m, n, k = 1000, 6, 300
    assert "swapped: columns stream" in way(product(F32, m, n, k, "tnn"))
    a, b, c = sample(F32, (m, k)), sample(F32, (k, n), 1), np.zeros((m, n), np.float32)
    execute(product(F32, m, n, k, "tnn"), stored(a, "t"), b, c, splits=(2,))
    assert same_bits(c, chained(a, b))


@wide
@pytest.mark.parametrize("type", [F16, F64, I32], ids=str)
def test_streams_of_every_kind(type: Type) -> None:
    m, n, k = 3, 600, 270
    rng = np.random.default_rng(3)
    a, b = rng.integers(-2, 3, (m, k)).astype(NUMPY[type]), rng.integers(-2, 3, (k, n)).astype(NUMPY[type])
    c = np.zeros((m, n), NUMPY[type])
    assert "stream" in way(product(type, m, n, k))
    execute(product(type, m, n, k), a, b, c)
    assert same_bits(c, (a.astype(np.int64) @ b.astype(np.int64)).astype(NUMPY[type]))


@wide
@pytest.mark.parametrize(
    ("shape", "forms", "packs"),
    [
        ((60, 40, 90), "nnn", "neither"),
        ((60, 40, 90), "ttn", "neither"),
        ((300, 40, 90), "ntn", "columns"),
        ((512, 280, 128), "tnn", "both"),
    ],
    ids=str,
)
def test_factors_are_packed_where_it_pays(shape: tuple[int, int, int], forms: str, packs: str) -> None:
    m, n, k = shape
    assert f"packs {packs}" in way(product(F32, m, n, k, forms))
    a, b, c = sample(F32, (m, k)), sample(F32, (k, n), 1), np.zeros((m, n), np.float32)
    execute(product(F32, m, n, k, forms), stored(a, forms[0]), stored(b, forms[1]), c, splits=(1,))
    assert same_bits(c, chained(a, b))


@pytest.mark.parametrize("batch", [2, 5])
def test_few_batches_are_shared_part_by_part(batch: int) -> None:
    m, n, k = 90, 70, 40
    a, b, c = buffer(F32, batch * m * k), buffer(F32, batch * k * n), buffer(F32, batch * m * n, "out")
    g, i, j, r = Var(batch, "g"), Var(m, "i"), Var(n, "j"), Var(k, "r")
    x = Load(F32, a, flatten((of(g), of(i), of(r)), (batch, m, k)))
    y = Load(F32, b, flatten((of(g), of(r), of(j)), (batch, k, n)))
    acc = Acc(F32)
    store = Store(c, flatten((of(g), of(i), of(j)), (batch, m, n)), acc)
    made = kernel([Loop(g, [Contract((i,), (j,), (r,), [x], x, [y], y, acc, [store])])], a, b, c)
    assert isinstance(ranged(prepare(made).body), Contract)
    left, right, out = sample(F32, (batch, m, k)), sample(F32, (batch, k, n), 1), np.zeros((batch, m, n), np.float32)
    execute(made, left, right, out, splits=(1, 3))
    assert same_bits(out, np.stack([chained(p, q) for p, q in zip(left, right, strict=True)]))


def test_blocks_of_several_chains() -> None:
    """More k than are packed at a time, so that unfinished tiles wait."""
    m, n, k = 37, 70, 2100
    a, b, c = sample(F32, (m, k)), sample(F32, (k, n), 1), np.zeros((m, n), np.float32)
    execute(product(F32, m, n, k, "ntn"), a, stored(b, "t"), c)
    assert same_bits(c, chained(a, b))


def test_large_blocks() -> None:
    """Several blocks of every loop: rows, columns and k."""
    m, n, k = 430, 1100, 520
    a, b, c = sample(F32, (m, k)), sample(F32, (k, n), 1), np.zeros((m, n), np.float32)
    execute(product(F32, m, n, k), a, b, c)
    bound = 260 * np.finfo(np.float32).eps * (abs(a) @ abs(b))
    assert (abs(c - a.astype(np.float64) @ b.astype(np.float64)) <= bound).all()
