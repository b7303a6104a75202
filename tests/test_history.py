"""What a read keeps for a later derivative, and what it does not."""

import numpy as np

import tinyad as ad


def leaf(*shape: int) -> ad.Tensor:
    return ad.tensor(np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape), requires_grad=True)


def loss_of(w: ad.Tensor, x: ad.Tensor) -> ad.Tensor:
    return ad.tanh(ad.tanh(x @ w) @ w).sum()


def products(plan) -> int:
    return sum(step.name.startswith("contract") for step in plan)


def test_reading_the_loss_before_backward_multiplies_nothing_twice():
    w, x = leaf(16, 16), ad.tensor(np.ones((8, 16), np.float32))
    loss = loss_of(w, x)
    assert products(ad.schedule(loss)) == 2
    loss.item()
    loss.backward()
    assert products(ad.schedule(w.grad)) == 3  # towards the inner layer, and each layer's part of w's gradient
    together = loss_of(w, x)
    assert np.array_equal(w.grad.numpy(), ad.gradients(together, w).numpy())


def test_nothing_is_kept_without_a_leaf_or_under_no_grad():
    x = ad.tensor(np.ones((8, 16), np.float32))
    free = ad.tensor(np.ones((16, 16), np.float32))
    plain = ad.schedule(loss_of(free, x))
    assert len(plain[len(plain) - 1].sinks) == 1
    w = leaf(16, 16)
    with ad.no_grad():
        loss = loss_of(w, x)
    stored = {n.op.value for step in ad.schedule(loss) for n in step.sinks}
    free_stored = {n.op.value for step in plain for n in step.sinks}
    assert stored == free_stored


def test_what_was_kept_goes_with_the_graph():
    w, x = leaf(64, 64), ad.tensor(np.ones((32, 64), np.float32))
    before = ad.compiled_stats()["live_bytes"]
    for _ in range(5):
        loss = loss_of(w, x)
        loss.item()
        del loss
    assert ad.compiled_stats()["live_bytes"] == before
