"""Variances down columns in one pass over memory, and kernels that read the same memory side by side."""

from __future__ import annotations

import numpy as np
import pytest

import tinyad as ad
from codegen import threads
from tinyad.config import config
from tinyad.schedule import compose, moments, plan

RNG = np.random.default_rng(0)


@pytest.fixture
def nothing_is_near(monkeypatch: pytest.MonkeyPatch):
    """Arrays of any size count as larger than caches."""
    monkeypatch.setattr(compose, "FAR", 1)
    monkeypatch.setattr(compose, "TURNS", 2)
    monkeypatch.setattr(moments, "FAR", 1)
    plan.clear()
    yield
    plan.clear()


def both_axes(x: ad.Tensor) -> tuple[ad.Tensor, ...]:
    return x.mean(0), x.var(0), x.mean(1), x.var(1)


def bits(f, x: np.ndarray) -> list[bytes]:
    return [y.numpy().tobytes() for y in f(ad.tensor(x))]


def test_both_moments_of_both_axes_read_memory_once() -> None:
    x = ad.tensor(np.zeros((2048, 4096), np.float32))
    plan = ad.schedule(*both_axes(x))
    assert plan.bytes < 1.2 * 4 * 2048 * 4096
    assert len(plan) == 2 and len(plan[0].parts) == 2
    assert "what both read is read once" in plan.explain()


def test_the_variance_of_columns_reads_memory_once() -> None:
    x = ad.tensor(np.zeros((2048, 4096), np.float32))
    assert ad.schedule(x.var(0)).bytes < 1.2 * 4 * 2048 * 4096


@pytest.mark.parametrize("axis", [0, (0, 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mean", [0.0, 1e4, -3e-20])
def test_as_exact_as_two_passes(nothing_is_near: None, mean: float, dtype: type, axis: int | tuple[int, ...]) -> None:
    x = (RNG.standard_normal((512, 2, 37)) + mean).astype(dtype)
    found = ad.var(ad.tensor(x), axis).numpy()
    want = x.astype(np.longdouble).var(axis)
    # each x - m_b and m_b - m has the error of a mean of numbers this large, each sum that of blocks of 32
    eps, n = np.finfo(dtype).eps, x.shape[0]
    bound = 40 * eps * want + (8 * eps * (abs(mean) + 4)) ** 2 + 8 * eps**2 * n
    assert (abs(found - want) <= bound).all()


def test_what_is_subtracted_need_not_be_the_mean(nothing_is_near: None) -> None:
    x = RNG.standard_normal((1024, 19))
    t = ad.tensor(x)
    found = ((t - (t.mean(0) * 0.25 + 1)) ** 2).sum(0)
    assert all(n.shape == (32, 1, 19) for n in ad.schedule(found)[0].sinks), "sums of 32 blocks"
    assert np.allclose(found.numpy(), ((x - x.mean(0) * 0.25 - 1) ** 2).sum(0), rtol=1e-13, atol=0)


def test_constant_columns_have_no_variance(nothing_is_near: None) -> None:
    x = np.full((256, 40), 0.5, np.float32) * np.arange(40, dtype=np.float32)
    assert not ad.tensor(x).var(0).numpy().any()


def test_nan_and_infinity_stay_in_their_columns(nothing_is_near: None) -> None:
    x = RNG.standard_normal((256, 40)).astype(np.float32)
    x[7, 3], x[100, 5], x[255, 39] = np.nan, np.inf, -np.inf
    found = ad.tensor(x).var(0).numpy()
    assert np.isnan(found[[3, 5, 39]]).all() and np.isfinite(np.delete(found, [3, 5, 39])).all()


@pytest.mark.parametrize("shape", [(256, 5), (512, 300), (288, 64), (1024, 16), (256, 1, 40), (260, 33), (8, 40)])
def test_one_result_fused_or_not_on_any_threads(
    nothing_is_near: None, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]
) -> None:
    x = RNG.standard_normal(shape).astype(np.float32)
    want = bits(both_axes, x)
    for n in (1, 2, 3):
        threads.use_threads(n)
        assert bits(both_axes, x) == want
    threads.use_threads(0)
    assert bits(ad.jit(both_axes), x) == want
    monkeypatch.setattr(config, "fuse", False)
    assert bits(both_axes, x) == want


@pytest.mark.parametrize("shape", [(256, 40), (512, 7)])
def test_of_what_is_computed_and_held(
    nothing_is_near: None, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]
) -> None:
    def f(x: ad.Tensor) -> list[ad.Tensor]:
        y = ad.relu(x - x.mean(1, keepdims=True))
        z = ad.exp(y.var(0)) * y
        return [y, z, y.sum(0), z.var(0), z.mean(0), (z * y).mean(1)]

    x = RNG.standard_normal(shape).astype(np.float32)
    want = bits(ad.jit(f), x)
    monkeypatch.setattr(config, "fuse", False)
    assert bits(ad.jit(f), x) == want


def test_derivatives_of_a_variance_in_one_pass(nothing_is_near: None) -> None:
    x = RNG.standard_normal((256, 6))
    f = lambda x: (ad.var(x, 0) * ad.mean(x, 1)[:6]).sum()  # noqa: E731
    ad.check_grads(f, (ad.tensor(x),), order=2)


@pytest.mark.parametrize("needs", [False, True])
def test_side_by_side_are_only_kernels_that_do_not_wait(
    nothing_is_near: None, monkeypatch: pytest.MonkeyPatch, needs: bool
) -> None:
    def f(x: ad.Tensor) -> tuple[ad.Tensor, ...]:
        y = x.reshape(16, 32, 48).sum(1)
        return y, (x * y.sum() if needs else x).max(1)

    x = RNG.standard_normal((512, 48)).astype(np.float32)
    plan = ad.schedule(*f(ad.tensor(x)))
    assert [step.length > 0 for step in plan] == ([False, False] if needs else [True])
    want = bits(f, x)
    monkeypatch.setattr(config, "fuse", False)
    assert bits(f, x) == want


def test_arrays_that_caches_hold_are_left_alone() -> None:
    plan = ad.schedule(*both_axes(ad.tensor(np.zeros((1024, 1024), np.float32))))
    assert not any(step.length for step in plan)
