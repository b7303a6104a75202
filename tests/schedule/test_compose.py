"""Kernels composed into one: segments over equal bodies, strips of long chains."""

from __future__ import annotations

import numpy as np
import pytest

import tinyad as ad
from tinyad import nn, optim
from tinyad.config import config

RNG = np.random.default_rng(0)


def make(*shape: int) -> ad.Tensor:
    return ad.tensor(RNG.standard_normal(shape).astype(np.float32))


def both(monkeypatch: pytest.MonkeyPatch, f, *args: np.ndarray) -> list[np.ndarray]:
    """f of the arrays, asserting that the fused and the unfused plan give the same bits."""
    out = []
    for fuse in (False, True):
        monkeypatch.setattr(config, "fuse", fuse)
        results = f(*map(ad.tensor, args))
        out.append([r.numpy().copy() for r in (results if isinstance(results, (list, tuple)) else [results])])
    for a, b in zip(*out, strict=True):
        assert np.array_equal(a, b, equal_nan=True)
    return out[0]


def chain(x: ad.Tensor, length: int) -> ad.Tensor:
    y = x
    for _ in range(length // 4):
        y = ad.tanh(y * 0.9 + x) * 1.1
    return y


@pytest.mark.parametrize("size", [1, 63, 64, 1000, 5000, 70_001])
def test_a_long_chain_runs_strip_by_strip(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    x = RNG.standard_normal(size).astype(np.float32)
    both(monkeypatch, lambda x: chain(x, 1000), x)
    if size > 1:
        plan = ad.schedule(chain(ad.tensor(x), 1000))
        assert len(plan) == 1 and len(plan[0].parts) > 2
        assert plan.peak_bytes == 4 * size, "what the parts pass on is no array"
        assert plan.bytes <= 4 * size * (len(plan[0].parts) + 1)


def test_the_gradient_of_a_long_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    gradient = ad.grad(lambda x: chain(x, 800).sum())
    both(monkeypatch, gradient, RNG.standard_normal(1000).astype(np.float32))
    assert len(ad.schedule(gradient(make(1000)))) == 1


def test_what_is_held_stays_an_array() -> None:
    x = make(500)
    middle = chain(x, 500)
    y = chain(middle, 500)
    assert ad.schedule(y).peak_bytes == 2 * 4 * 500
    assert np.array_equal(y.numpy(), chain(ad.tensor(middle.numpy()), 500).numpy())


@pytest.mark.parametrize("optimizer", [optim.SGD, optim.Adam, optim.AdamW])
def test_an_update_of_all_parameters_is_one_kernel(optimizer) -> None:
    model = nn.Sequential(nn.Linear(20, 50), nn.ReLU(), nn.Linear(50, 1), nn.Linear(1, 30), nn.Linear(30, 10))
    step = optimizer(model.parameters(), lr=0.1)
    for p in model.parameters():
        p.grad = make(*p.shape)
    for _ in range(2):
        before = ad.compiled_stats()["kernels_run"]
        step.step()
        assert ad.compiled_stats()["kernels_run"] - before <= 2


def test_segments_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = [(3,), (100, 7), (1,), (64,), (), (5, 0), (2, 3, 4), (70_000,), (1, 9)]
    arrays = [RNG.standard_normal(s).astype(np.float32) for s in shapes]
    scale = [0.13 * i + 0.3 for i in range(len(shapes))]
    both(monkeypatch, lambda *xs: [ad.exp(x) * s - x / 3 for x, s in zip(xs, scale)], *arrays)
    assert len(ad.schedule(*[ad.exp(ad.tensor(x)) * s for x, s in zip(arrays, scale)])) <= 2


def test_segments_wait_for_what_they_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Alike kernels of which one needs the other's result stay two."""

    def f(x: ad.Tensor, w: ad.Tensor) -> list[ad.Tensor]:
        rows = []
        for i in range(4):
            x = ad.tanh(x @ w) * 0.5 + i
            rows.append(x.sum(0) * 2)
        return [*rows, x]

    both(monkeypatch, f, *(RNG.standard_normal((20, 20)).astype(np.float32) for _ in range(2)))


def test_rows_of_one_array_are_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    x = RNG.standard_normal((6, 40)).astype(np.float32)
    both(monkeypatch, lambda x: [ad.exp(x[i]) * (i + 0.5) for i in range(6)], x)
