"""Column sums left by the kernel that has the rows in cache."""

from __future__ import annotations

import numpy as np
import pytest
from test_compose import both

import tinyad as ad
from tinyad.schedule import tails

RNG = np.random.default_rng(0)


def layernorm(x: ad.Tensor, w: ad.Tensor, b: ad.Tensor) -> ad.Tensor:
    d = x - x.mean(-1, keepdims=True)
    return d * ad.rsqrt((d * d).mean(-1, keepdims=True) + 1e-5) * w + b


def with_gradients(f, *args: ad.Tensor) -> list[ad.Tensor]:
    y, pull = ad.vjp(f, *args)
    return [y, *pull(ad.cos(y.detach() * 3))]


def arrays(*shapes: tuple[int, ...], dtype: str = "float32") -> list[np.ndarray]:
    return [RNG.standard_normal(s).astype(dtype) for s in shapes]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", [(512,), (4, 64), (2, 16, 16), (513,), (40,)])
def test_a_normalisation_with_all_gradients(monkeypatch: pytest.MonkeyPatch, rows: tuple[int, ...], dtype: str) -> None:
    both(monkeypatch, lambda *a: with_gradients(layernorm, *a), *arrays((*rows, 48), (48,), (48,), dtype=dtype))


def test_it_reads_and_writes_each_array_once() -> None:
    x, w, b, g = map(ad.tensor, arrays((1024, 256), (256,), (256,), (1024, 256)))
    y, pull = ad.vjp(layernorm, x, w, b)
    plan = ad.schedule(y, *pull(g))
    assert len(plan) == 2
    assert plan.bytes <= 1.1 * 4 * x.nbytes
    assert "rows at a time" in plan.explain()


@pytest.mark.parametrize("reduce", [ad.sum, ad.max, ad.prod])
def test_other_reductions_and_rows_without_passes(monkeypatch: pytest.MonkeyPatch, reduce) -> None:
    def f(x: ad.Tensor):
        e = ad.exp(x * 0.01)
        return e.sum(1), e * 2, reduce(e, axis=0)

    both(monkeypatch, f, *arrays((640, 33)))


def test_sums_of_sums_stay_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variance of columns needs their mean first, so its rows are gone through again."""

    def f(x: ad.Tensor):
        return x.sum(1), x.var(0), x.mean(0), (x - x.max(axis=1, keepdims=True)).sum(0)

    both(monkeypatch, f, *arrays((512, 40)))


def test_integers_and_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    def f(x: ad.Tensor):
        return x.max(axis=1), x + 1, x.sum(0)

    both(monkeypatch, f, RNG.integers(-100, 100, (512, 20), np.int32))
    both(monkeypatch, f, RNG.standard_normal((512, 20)).astype(np.float16))


def test_kernels_that_only_reduce_rows_sum_up_columns_of_what_no_cache_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    def f(x: ad.Tensor):
        return x.mean(1), x.var(1), x.mean(0), x.var(0)

    x = ad.tensor(arrays((512, 40))[0])
    assert "rows at a time" not in ad.schedule(*f(x)).explain()
    monkeypatch.setattr(tails, "FAR", 0)
    y = ad.tensor(arrays((544, 40))[0])
    assert "rows at a time" in ad.schedule(*f(y)).explain()
    both(monkeypatch, f, *arrays((576, 40)))
