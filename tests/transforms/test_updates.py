"""Thousands of updates in constant memory and time: history ends where nothing needs it."""

import gc
from time import perf_counter

import numpy as np
import pytest

import tinyad as ad
from tinyad import history, nn, optim
from tinyad.ir import toposort

STEPS = 2000
X = np.linspace(-1, 1, 8, dtype=np.float32)


def loss_of(w):
    return ((w * ad.tensor(X) - 1) ** 2).sum()


def realized(w):
    loss = loss_of(w)
    w = w - 0.01 * ad.grad(loss_of)(w)
    w.realize()
    return w, loss


def loss_before(w):
    loss = loss_of(w)
    loss.item()
    return w - 0.01 * ad.grad(loss_of)(w), loss


def loss_after(w):
    loss = loss_of(w)
    w = w - 0.01 * ad.grad(loss_of)(w)
    loss.item()
    return w, loss


def with_value(w):
    loss, g = ad.value_and_grad(loss_of)(w)
    w = w - 0.01 * g
    loss.item()
    return w, loss


def history_length(*tensors):
    return len(toposort([t.node for t in tensors]))


@pytest.mark.parametrize("step", [realized, loss_before, loss_after, with_value])
def test_functional_updates(step):
    w = ad.tensor(np.zeros(8, np.float32))
    lengths, seconds = [], []
    for i in range(STEPS):
        began = perf_counter()
        w, loss = step(w)
        seconds.append(perf_counter() - began)
        if i % 200 == 100:
            lengths.append((history_length(w), history_length(loss)))
    assert len(set(lengths)) == 1, lengths
    assert np.median(seconds[-200:]) < 3 * np.median(seconds[200:400])
    np.testing.assert_allclose(w * ad.tensor(X), 1 - (1 - 0.02 * X * X) ** STEPS, atol=1e-3)


OPTIMIZERS = {
    "sgd": lambda p: optim.SGD(p, lr=0.01),
    "momentum": lambda p: optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True),
    "adam": lambda p: optim.Adam(p, lr=0.01),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_updates_with_an_optimizer(name):
    nn.init.seed(0)
    model = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1))
    optimizer = OPTIMIZERS[name](model.parameters())
    x = ad.tensor(X.reshape(8, 1))
    lengths, seconds, kernels = [], [], []
    for i in range(STEPS):
        began = perf_counter()
        loss = ((model(x) - x * x) ** 2).mean()
        if i % 2:
            loss.item()  # before backward, as most people do
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seconds.append(perf_counter() - began)
        if i % 200 == 100:
            lengths.append(history_length(*model.parameters()))
            kernels.append(ad.compiled_stats()["kernels_built"])
    assert set(lengths) == {len(model.parameters())}, "every parameter is a leaf"
    assert all(p.requires_grad and p.is_leaf for p in model.parameters())
    assert len(set(kernels)) == 1, "no kernel is built after the first steps"
    assert np.median(seconds[-200:]) < 3 * np.median(seconds[200:400])
    assert loss.item() < 0.05


def test_memory_stays_constant():
    import tracemalloc

    model = nn.Linear(64, 64)
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    x = ad.tensor(np.ones((4, 64), np.float32))

    def run(steps):
        for _ in range(steps):
            loss = (model(x) ** 2).mean()
            loss.item()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        first = run(40)
        assert run(120) - first < 200_000  # bytes; one parameter alone has 16,384
    finally:
        tracemalloc.stop()


def test_a_changed_learning_rate_compiles_nothing():
    w = ad.tensor(np.ones(8, np.float32), requires_grad=True)
    optimizer = optim.SGD([w], lr=0.1)
    built = []
    for i in range(5):
        optimizer.lr = 0.1 / (i + 3)
        optimizer.zero_grad()
        loss_of(w).backward()
        optimizer.step()
        built.append(ad.compiled_stats()["kernels_built"])
    assert built[0] == built[-1]


def test_an_assigned_tensor_is_pending_once():
    w = ad.tensor(np.ones(8, np.float32), requires_grad=True)
    for _ in range(5):
        w.assign(w * 2)
    nodes = history.pending()
    assert len(nodes) == len(set(nodes))
