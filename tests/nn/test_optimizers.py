"""Optimizers against their formulas in NumPy."""

import numpy as np
import pytest

import tinyad as ad
from tinyad import nn, optim

A = np.random.default_rng(0).normal(size=(4, 3))
START = np.array([1.0, -2.0, 0.5])


def gradient(w):
    return 2 * A.T @ (A @ w - 1)


def run(make, steps=7):
    w = ad.tensor(START, requires_grad=True)
    optimizer = make([w])
    for _ in range(steps):
        optimizer.zero_grad()
        ((ad.tensor(A) @ w - 1) ** 2).sum().backward()
        optimizer.step()
    return w


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_sgd(momentum, nesterov, decay):
    w, v = START.copy(), np.zeros(3)
    for _ in range(7):
        g = gradient(w) + decay * w
        v = momentum * v + g
        w = w - 0.01 * (g + momentum * v if nesterov else v)
    found = run(lambda p: optim.SGD(p, lr=0.01, momentum=momentum, nesterov=nesterov, weight_decay=decay))
    np.testing.assert_allclose(found, w, rtol=1e-12)


@pytest.mark.parametrize("kind", [optim.Adam, optim.AdamW])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adam(kind, decay):
    w, m, v = START.copy(), np.zeros(3), np.zeros(3)
    for t in range(1, 8):
        g = gradient(w)
        if kind is optim.Adam:
            g = g + decay * w
        else:
            w = w * (1 - 0.05 * decay)
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
        w = w - 0.05 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.99**t)) + 1e-8)
    found = run(lambda p: kind(p, lr=0.05, betas=(0.9, 0.99), weight_decay=decay))
    np.testing.assert_allclose(found, w, rtol=1e-10)


def test_a_step_computes_everything_at_once():
    w = ad.tensor(START, requires_grad=True)
    optimizer = optim.Adam([w], lr=0.1)
    (w * w).sum().backward()
    optimizer.step()
    assert w.node.buffer is not None and not w.node.src and w.requires_grad and w.is_leaf
    assert all(t.node.buffer is not None for t in optimizer._state[0].values())


def test_parameters_without_a_gradient_stay():
    a, b = (ad.tensor(START, requires_grad=True) for _ in range(2))
    optimizer = optim.SGD([a, b], lr=0.1)
    (a * a).sum().backward()
    optimizer.step()
    np.testing.assert_allclose(a, 0.8 * START)
    np.testing.assert_array_equal(b, START)


def test_what_an_optimizer_refuses():
    w = ad.tensor(START, requires_grad=True)
    with pytest.raises(ValueError, match="SGD got an empty parameter list"):
        optim.SGD([])
    with pytest.raises(ValueError, match=r"requires_grad=True, got a tensor of shape \(3,\) without it"):
        optim.SGD([ad.tensor(START)])
    with pytest.raises(ValueError, match="requires_grad=True, got ndarray"):
        optim.SGD([START])
    with pytest.raises(ValueError, match="lr must not be negative"):
        optim.Adam([w], lr=-1)
    with pytest.raises(ValueError, match="nesterov needs a momentum"):
        optim.SGD([w], nesterov=True)
    with pytest.raises(ValueError, match=r"betas must lie in \[0, 1\)"):
        optim.Adam([w], betas=(0.9, 1.0))


def test_a_network_learns_exclusive_or():
    nn.init.seed(0)
    model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
    x = ad.tensor(np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32))
    y = ad.tensor(np.array([[0], [1], [1], [0]], np.float32))
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        ad.binary_cross_entropy_with_logits(model(x), y).backward()
        optimizer.step()
    assert ((model(x) > 0).numpy() == (y > 0.5).numpy()).all()
