"""Memory of plans: arrays that take the place of others, arguments that are given away."""

from __future__ import annotations

import gc

import numpy as np
import pytest

import tinyad as ad

RNG = np.random.default_rng(0)
N = 50_000


def make(*shape: int) -> ad.Tensor:
    return ad.tensor(RNG.standard_normal(shape).astype(np.float32))


def measured(*outputs: ad.Tensor) -> int:
    """The most bytes alive at one time beyond those alive before, while the outputs are computed."""
    from tinyad import buffer

    gc.collect()
    before = buffer._peak = buffer._live
    outputs[0].realize()
    return buffer._peak - before


def normalized(x: ad.Tensor) -> ad.Tensor:
    """The power is stored, since its sum is needed first, and read at the place where the quotient is written."""
    e = ad.abs(x) ** 1.7 + 1
    return e / e.sum()


def test_an_array_takes_the_memory_of_one_that_ends() -> None:
    x = make(N)
    y = normalized(normalized(x))
    plan = ad.schedule(y)
    assert sum(len(step.replaces) for step in plan) == 1
    assert plan.peak_bytes == measured(y)
    assert plan.peak_bytes < 2 * 4 * N + 100, "two powers; the result is where the second was"
    want = np.abs(x.numpy()) ** 1.7 + 1
    want = np.abs(want / want.sum()) ** 1.7 + 1
    assert np.allclose(y.numpy(), want / want.sum(), rtol=1e-4)


@pytest.mark.parametrize(
    "f",
    [lambda s: s[::-1] * 2, lambda s: s + s[::-1], lambda s: s.astype(ad.float64) * 2],
    ids=["reversed", "with its reverse", "of other size"],
)
def test_what_is_read_elsewhere_is_not_overwritten(f) -> None:
    x = make(N)
    s = ad.cumsum(ad.sin(x))
    plan = ad.schedule(f(s) - s.sum())
    assert not any(step.replaces for step in plan)
    got, want = f(ad.cumsum(ad.sin(x))).numpy(), f(ad.tensor(ad.cumsum(ad.sin(x)).numpy())).numpy()
    assert np.array_equal(got, want)


def test_donated_arguments_are_written_in_place() -> None:
    @ad.jit(donate_argnums=(0, 1))
    def step(p: ad.Tensor, m: ad.Tensor, g: ad.Tensor):
        m = 0.9 * m + g
        return p - 0.1 * m, m

    p, m, g = make(N), make(N), make(N)
    want_p, want_m = p.numpy().copy(), m.numpy().copy()
    p, m = step(ad.tensor(want_p), ad.tensor(want_m), g)
    for _ in range(3):
        want_m = np.float32(0.9) * want_m + g.numpy()
        want_p = want_p - np.float32(0.1) * want_m
        addresses = p.node.buffer.address, m.node.buffer.address
        assert np.allclose(p.numpy(), want_p, rtol=1e-5, atol=1e-6)
        old = p, m
        p, m = step(p, m, g)
        assert (p.node.buffer.address, m.node.buffer.address) == addresses
        for t in old:
            with pytest.raises(ValueError, match="donated"):
                t.numpy()


def test_what_somebody_sees_is_not_overwritten() -> None:
    step = ad.jit(lambda x: x * 2, donate_argnums=0)
    x = make(N)
    seen, values = x.numpy(), x.numpy().copy()
    reshaped = x.reshape(2, -1).realize()
    assert np.array_equal(step(x).numpy(), values * 2)
    assert np.array_equal(seen, values) and np.array_equal(reshaped.numpy().ravel(), values)
    y = make(N)
    both = ad.jit(lambda a, b: (a * 2, b + a), donate_argnums=(0,))
    values = y.numpy().copy()
    with pytest.raises(ValueError, match="donated"):
        both(y, y)[1].numpy(), y.numpy()
    assert np.array_equal(both(ad.tensor(values), ad.tensor(values))[1].numpy(), values + values)


def test_what_derivatives_are_taken_of_cannot_be_donated() -> None:
    w = ad.tensor(np.ones(4, np.float32), requires_grad=True)
    step = ad.jit(lambda w: w * 2, donate_argnums=0)
    with ad.no_grad(), pytest.raises(ValueError, match="derivatives"):
        step(w)


def test_what_is_read_after_a_store_is_not_overwritten_by_it() -> None:
    """One kernel stored a result where another value was, and read that value afterwards, for another result."""
    x = RNG.uniform(0.5, 2, (2, 3))
    y, w, u, v = (RNG.uniform(0.5, 2, s) for s in [(3,), (2, 3), (2, 3), (3,)])

    def gradient(x: ad.Tensor, y: ad.Tensor):
        return ad.vjp(ad.pow, x, y)[1](ad.tensor(w))

    _, pull = ad.vjp(gradient, ad.tensor(x), ad.tensor(y))
    together = [t.numpy() for t in pull((ad.tensor(u), ad.tensor(v)))]
    for i, alone in enumerate(together):
        assert np.allclose(pull((ad.tensor(u), ad.tensor(v)))[i].numpy(), alone, rtol=1e-13)
