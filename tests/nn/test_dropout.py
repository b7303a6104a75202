"""`nn.Dropout`: what is kept, scaled, differentiated and drawn anew."""

from __future__ import annotations

import numpy as np
import pytest

import tinyad as ad
from tinyad import nn


def test_training_zeroes_by_chance_and_scales_the_rest() -> None:
    layer = nn.Dropout(0.25, ad.random.default_rng(0))
    x = ad.tensor(np.full((400, 250), 3.0, np.float32))
    y = layer(x).numpy()
    assert set(np.unique(y)) == {0.0, 4.0}
    assert (y == 0).mean() == pytest.approx(0.25, abs=0.01) and y.mean() == pytest.approx(3.0, abs=0.02)
    assert (layer(x).numpy() != y).any()
    assert layer.eval()(x) is x and layer.train()(x) is not x
    assert repr(layer) == "Dropout(p=0.25)"


def test_the_derivative_is_the_mask() -> None:
    x = ad.tensor(np.arange(1.0, 101.0, dtype=np.float32))
    value, g = ad.value_and_grad(lambda x: nn.Dropout(0.5, ad.random.default_rng(1))(x).sum())(x)
    assert set(np.unique(g.numpy())) == {0.0, 2.0}
    assert value.item() == (g * x).sum().item()


def test_the_ends_and_what_is_not_finite() -> None:
    x = ad.tensor(np.array([np.inf, np.nan, 1.0], np.float32))
    assert nn.Dropout(0.0)(x) is x
    assert nn.Dropout(1.0)(x).tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="between 0 and 1"):
        nn.Dropout(1.5)


def test_the_default_generator_is_used_also_under_jit() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.ReLU())
    x = ad.tensor(np.ones((64, 8), np.float32))
    ad.random.seed(3)
    want = [model(x).numpy() for _ in range(3)]
    ad.random.seed(3)
    f = ad.jit(lambda m, x: m(x))
    assert all((f(model, x).numpy() == w).all() for w in want)
    assert f.trace_count == 1
    assert (f(model.eval(), x).numpy() == 1).all() and f.trace_count == 2
    assert len(ad.schedule(model.train()(x * 2.0))) == 1
    ad.random.seed(0)
