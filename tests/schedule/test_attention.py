"""Attention and its like as stages over blocks of rows: kernels, memory, bits and errors."""

from __future__ import annotations

import numpy as np
import pytest

import tinyad as ad
from codegen import threads

RNG = np.random.default_rng(0)
Arrays = list[np.ndarray]


def arrays(heads: int, queries: int, keys: int, d: int, dtype: str = "float32") -> Arrays:
    """q, k, v and the gradient of the result."""
    sizes = (queries, keys, keys, queries)
    return [RNG.standard_normal((1, heads, n, d)).astype(dtype) for n in sizes]


def plain(q: ad.Tensor, k: ad.Tensor, v: ad.Tensor) -> ad.Tensor:
    """Causal attention as one writes it."""
    s = q @ ad.swapaxes(k, -1, -2) * 0.125
    i, j = ad.arange(q.shape[-2]), ad.arange(k.shape[-2])
    return ad.softmax(ad.where(i[:, None] >= j[None, :], s, -ad.inf), axis=-1) @ v


def causal(q: ad.Tensor, k: ad.Tensor, v: ad.Tensor) -> ad.Tensor:
    return ad.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.125)


def by_einsum(q: ad.Tensor, k: ad.Tensor, v: ad.Tensor) -> ad.Tensor:
    p = ad.softmax(ad.einsum("bhid,bhjd->bhij", q, k) * 0.125, axis=-1)
    return ad.einsum("bhij,bhjd->bhid", p, v)


def by_hand(q: ad.Tensor, k: ad.Tensor, v: ad.Tensor) -> ad.Tensor:
    s = q @ ad.swapaxes(k, -1, -2) * 0.125
    e = ad.exp(s - ad.max(s, axis=-1, keepdims=True))
    return (e / e.sum(axis=-1, keepdims=True)) @ v


def expected(a: Arrays, masked: bool) -> tuple[Arrays, Arrays]:
    """The result and the gradients in float64, and for each element Σ|terms| of its last sum."""
    q, k, v, g = (x.astype(np.float64) for x in a)

    def t(x: np.ndarray) -> np.ndarray:
        return np.swapaxes(x, -1, -2)

    s = q @ t(k) * 0.125
    if masked:
        s = np.where(np.tri(*s.shape[-2:], dtype=bool), s, -np.inf)
    e = np.exp(s - s.max(-1, keepdims=True))
    p = e / e.sum(-1, keepdims=True)
    dp = g @ t(v)
    ds = p * (dp - (dp * p).sum(-1, keepdims=True)) * 0.125
    size = p * (np.abs(g) @ t(np.abs(v)) + (np.abs(dp) * p).sum(-1, keepdims=True)) * 0.125
    values = [p @ v, ds @ k, t(ds) @ q, t(p) @ g]
    return values, [p @ np.abs(v), size @ np.abs(k), t(size) @ np.abs(q), t(p) @ np.abs(g)]


def with_gradients(f, a: Arrays) -> list[ad.Tensor]:
    q, k, v, g = map(ad.tensor, a)
    y, pull = ad.vjp(f, q, k, v)
    return [y, *pull(g)]


@pytest.fixture
def any_threads():
    yield
    threads.use_threads(0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("heads", "queries", "keys", "d"), [(5, 77, 77, 80), (4, 300, 300, 16), (4, 130, 200, 24), (2, 96, 96, 32)]
)
@pytest.mark.parametrize("f", [plain, causal, by_einsum, by_hand])
def test_values_and_bits(any_threads: None, f, heads: int, queries: int, keys: int, d: int, dtype: str) -> None:
    a = arrays(heads, queries, keys, d, dtype)
    results: list[Arrays] = []
    for n in (1, 2, 3):
        threads.use_threads(n)
        results.append([x.numpy() for x in with_gradients(f, a)])
    assert all(np.array_equal(x, y) for other in results[1:] for x, y in zip(results[0], other, strict=True))
    depth = max(queries, keys, 256) // 8 + 2 * d  # of the products, the rows and the scores' error in the exponent
    for got, want, terms in zip(results[0], *expected(a, f in (plain, causal)), strict=True):
        assert np.all(np.abs(got - want) <= depth * np.finfo(dtype).eps / 2 * terms)


@pytest.mark.parametrize("f", [plain, causal, by_einsum, by_hand])
def test_forwards_and_backwards_are_one_kernel_without_a_score_matrix(f) -> None:
    a = arrays(8, 1024, 1024, 64)
    plan = ad.schedule(*with_gradients(f, a))
    assert len(plan) == 1
    assert plan.peak_bytes == 4 * a[0].nbytes == 8 * 1024 * 1024  # the four results
    assert ad.schedule(f(*map(ad.tensor, a[:3]))).peak_bytes == a[0].nbytes


def test_gradients_alone_need_no_more() -> None:
    q, k, v, g = map(ad.tensor, arrays(8, 1024, 1024, 64))

    def loss(q, k, v):
        return (causal(q, k, v) * g).sum()

    assert ad.schedule(*ad.grad(loss, argnums=(0, 1, 2))(q, k, v)).peak_bytes == 3 * q.nbytes
    value, grads = ad.value_and_grad(loss, argnums=(0, 1, 2))(q, k, v)
    assert ad.schedule(value, *grads).peak_bytes <= 8 * 1024 * 1024 + 64


def test_a_mask_of_positions_cuts_the_products() -> None:
    (step,) = ad.schedule(*with_gradients(causal, arrays(4, 256, 256, 16)))
    assert step.loops.count("contract m") == 6
    assert step.loops.count("where ") - step.loops.count("= where ") == 6  # conditions, not selections
    assert " step 64 of 256" in step.loops


def test_scores_come_again_where_the_backward_pass_waits_for_others() -> None:
    q, k, v, _ = map(ad.tensor, arrays(8, 512, 512, 32))
    w = ad.tensor(RNG.standard_normal((256, 256)).astype(np.float32) * 0.1)

    def loss(q, k, v, w):
        y = ad.swapaxes(causal(q, k, v), 1, 2).reshape(512, 256) @ w
        return (ad.tanh(y) ** 2).mean()

    value, grads = ad.value_and_grad(loss, argnums=(0, 1, 2, 3))(q, k, v, w)
    plan = ad.schedule(value, *grads)
    assert len(plan) == 6
    assert plan.peak_bytes <= 12 * q.nbytes  # a score matrix has 16 times as many


@pytest.mark.parametrize(("batch", "kv"), [(1, 4), (4, 1), (4, 2)])
def test_heads_that_share_keys_and_values(any_threads: None, batch: int, kv: int) -> None:
    q, g = (RNG.standard_normal((batch, 8, 128, 16)).astype(np.float32) for _ in range(2))
    k, v = (RNG.standard_normal((batch, kv, 128, 16)).astype(np.float32) for _ in range(2))

    def f(q, k, v):
        return ad.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.125, enable_gqa=True)

    plan = ad.schedule(*with_gradients(f, [q, k, v, g]))
    assert len(plan) == 1
    results = []
    for n in (1, 3):
        threads.use_threads(n)
        results.append([x.numpy() for x in with_gradients(f, [q, k, v, g])])
    assert all(np.array_equal(x, y) for x, y in zip(*results, strict=True))
    wide = [q, *(np.repeat(x, 8 // kv, 1) for x in (k, v)), g]
    y, dq, dk, dv = expected(wide, True)[0]
    dk, dv = (x.reshape(batch, kv, 8 // kv, 128, 16).sum(2) for x in (dk, dv))
    for got, want in zip(results[0], (y, dq, dk, dv), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=3e-6 * np.abs(want).max())


def test_masks_in_memory_batches_and_vmap() -> None:
    q, k, v, g = (ad.tensor(RNG.standard_normal((2, 4, 64, 16)).astype(np.float32)) for _ in range(4))
    padding = ad.tensor(RNG.random((2, 1, 1, 64)) < 0.8)
    bias = ad.tensor(RNG.standard_normal((64, 64)).astype(np.float32))
    sdpa = ad.scaled_dot_product_attention
    for f in (lambda *x: sdpa(*x, padding), lambda *x: sdpa(*x, bias), ad.vmap(causal)):
        y, pull = ad.vjp(f, q, k, v)
        plan = ad.schedule(y, *pull(g))
        assert len(plan) == 1
        assert plan.peak_bytes == 4 * q.nbytes


def test_second_derivatives_are_one_kernel() -> None:
    q, k, v, _ = map(ad.tensor, arrays(4, 64, 64, 16))
    f = ad.grad(lambda q: (causal(q, k, v) ** 2).sum())
    _, tangent = ad.jvp(f, (q,), (q,))
    assert len(ad.schedule(tangent)) == 1
    eps = 1e-3
    quotient = (f(q + eps * q).numpy() - f(q - eps * q).numpy()) / (2 * eps)
    np.testing.assert_allclose(tangent.numpy(), quotient, rtol=0, atol=2e-3 * np.abs(quotient).max())


def test_what_is_skipped_is_what_a_mask_selects_away() -> None:
    q, k, v, g = arrays(4, 96, 96, 16)
    k[:, :, 90:], v[:, :, 90:] = np.nan, np.inf  # seen by the last six queries only
    y, dq, _, dv = (x.numpy() for x in with_gradients(causal, [q, k, v, g]))
    want = expected([x[:, :, :90] for x in (q, k, v, g)], True)[0]
    for got, exact in ((y, want[0]), (dq, want[1])):  # a tile that reaches them may multiply by zero
        np.testing.assert_allclose(got[:, :, :64], exact[:, :, :64], rtol=0, atol=1e-5)
    assert np.isnan(y[:, :, 90:]).all() and np.isnan(dv[:, :, :90]).all()


def test_kernels_between_are_not_joined_in_a_cycle() -> None:
    x, w = (ad.tensor(RNG.standard_normal(s).astype(np.float32)) for s in ((4, 64, 16), (16, 16)))

    def layer(x, w):
        return ad.tanh(causal(x @ w, x, x) + x)

    def loss(x, w):
        return layer(layer(layer(x, w), w), w).sum()

    value, grads = ad.value_and_grad(loss, argnums=(0, 1))(x, w)
    eager = [t.numpy() for t in (value, *grads)]
    jitted = ad.jit(ad.value_and_grad(loss, argnums=(0, 1)))(x, w)
    assert all(np.array_equal(a, b.numpy()) for a, b in zip(eager, (jitted[0], *jitted[1]), strict=True))
