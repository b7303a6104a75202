"""Facts about plans: how many kernels a computation takes, by library functions, hand-written variants, other axes."""

from __future__ import annotations

import numpy as np
import pytest

import tinyad as ad

RNG = np.random.default_rng(0)


def make(*shape: int, grad: bool = False) -> ad.Tensor:
    return ad.tensor(RNG.standard_normal(shape).astype(np.float32), requires_grad=grad)


def kernels(*tensors: ad.Tensor) -> int:
    return len(ad.schedule(*tensors))


def kernels_of(f, *args) -> int:
    """The kernels of f(*args). (Inside an `assert`, pytest keeps intermediate tensors alive, and each is stored.)"""
    made = f(*args)
    return kernels(*made) if isinstance(made, (tuple, list)) else kernels(made)


# elementwise --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("length", [1, 10, 200])
def test_an_elementwise_chain_is_one_kernel(length: int):
    x = y = make(24, 30)
    for i in range(length):
        y = y * 1.01 + x if i % 2 else ad.tanh(y)
    assert kernels(y) == 1


def test_movement_between_elementwise_operations_costs_no_kernel():
    x = make(4, 6, 10)
    y = ad.exp(x).transpose()[::-1]
    y = ad.sin(y.reshape(20, 12))[1:, 2:] * 2
    y = ad.pad(y, ((1, 0), (0, 2))).reshape(4, 60)
    y = ad.flip(y, axis=1) + make(60)
    y = y.reshape(2, 2, 60).permute(1, 2, 0) * make(2)
    assert kernels(ad.cos(y)) == 1


def test_a_diamond_of_many_levels_is_one_kernel():
    v = make(7, 9)
    for _ in range(60):
        v = v * v + v
    assert kernels(v) == 1


def test_several_results_of_one_input_are_one_kernel():
    x = make(33, 5)
    assert kernels_of(lambda: (ad.sin(x), ad.cos(x), x.T * 2)) == 1


# rows ---------------------------------------------------------------------------------------------------------------
def softmax(x: ad.Tensor, axis: int) -> ad.Tensor:
    e = ad.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def layernorm(x: ad.Tensor, axis: int = -1) -> ad.Tensor:
    m = x.mean(axis=axis, keepdims=True)
    d = x - m
    return d / ad.sqrt((d * d).mean(axis=axis, keepdims=True) + 1e-5)


def groupnorm(x: ad.Tensor, groups: int) -> ad.Tensor:
    n, c, *rest = x.shape
    y = layernorm(x.reshape(n, groups, -1)).reshape(n, c, *rest)
    return y * make(c, *[1 for _ in rest]) + make(c, *[1 for _ in rest])


def rms(x: ad.Tensor) -> ad.Tensor:
    return x / ad.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-6) * make(x.shape[-1])


ROWS = {
    "softmax": lambda x: ad.softmax(x, axis=-1),
    "softmax by hand": lambda x: softmax(x, -1),
    "softmax of a transposed array": lambda x: softmax(x.T, -1),
    "log_softmax": lambda x: ad.log_softmax(x, axis=-1),
    "logsumexp": lambda x: ad.logsumexp(x, axis=-1),
    "layernorm": lambda x: layernorm(x) * make(x.shape[-1]) + make(x.shape[-1]),
    "layernorm of three axes": lambda x: layernorm(x.reshape(4, 6, 40)),
    "rms norm": rms,
    "group norm": lambda x: groupnorm(x.reshape(4, 6, 5, 8), 3),
    "mean and variance": lambda x: x.var(axis=-1) + x.mean(axis=-1),
    "softmax of gelu": lambda x: ad.softmax(ad.gelu(x), axis=-1),
    "entropy": lambda x: -(softmax(x, -1) * ad.log_softmax(x, axis=-1)).sum(axis=-1),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_chain_over_rows_is_one_kernel(name: str):
    assert kernels(ROWS[name](make(24, 40))) == 1


def test_several_reductions_of_the_same_rows_are_one_kernel():
    x = make(16, 50)
    assert kernels(x.sum(axis=1), x.max(axis=1), x.mean(axis=1), x.var(axis=1)) == 1


@pytest.mark.parametrize("f", [lambda x: ad.softmax(x, axis=-1), lambda x: softmax(x, -1)])
def test_softmax_backward_is_one_kernel(f):
    x, g = make(24, 40, grad=True), make(24, 40)
    y = f(x).realize()
    assert kernels(*ad.gradients(f(x), [x], g)) == 1
    del y


def test_layernorm_backward_is_two_kernels():
    x, w, b, g = make(24, 40, grad=True), make(40, grad=True), make(40, grad=True), make(24, 40)
    assert kernels_of(lambda: ad.gradients(layernorm(x) * w + b, [x, w, b], g)) <= 2


def test_cross_entropy_with_its_gradient_is_two_kernels():
    x = make(32, 10, grad=True)
    loss = ad.cross_entropy(x, ad.tensor(RNG.integers(0, 10, 32)))
    assert kernels(loss, ad.gradients(loss, x)) <= 2


def test_cross_entropy_by_hand_with_its_gradient_is_two_kernels():
    x, t = make(32, 10, grad=True), ad.tensor(RNG.integers(0, 10, (32, 1)))
    loss = (ad.logsumexp(x, axis=1) - ad.take_along_axis(x, t, axis=1)[:, 0]).mean()
    assert kernels(loss, ad.gradients(loss, x)) <= 2


# windows ------------------------------------------------------------------------------------------------------------
CONVOLUTIONS = [(1, 1, 1, 1), (2, 1, 1, 1), (3, 0, 1, 1), (1, 2, 2, 1), (2, 1, 1, 2), (1, 1, 1, 4)]


@pytest.mark.parametrize(("stride", "padding", "dilation", "groups"), CONVOLUTIONS)
def test_convolution_and_each_gradient_are_one_kernel(stride, padding, dilation, groups):
    x, w, b = make(2, 4, 9, 11, grad=True), make(8, 4 // groups, 3, 3, grad=True), make(8)
    y = ad.conv2d(x, w, b, stride=stride, padding=padding, dilation=dilation, groups=groups)
    assert kernels_of(lambda: ad.relu(ad.conv2d(x, w, b, stride, padding, dilation, groups))) == 1
    gx, gw = ad.gradients(y, [x, w], make(*y.shape))
    assert kernels(gx) == 1
    assert kernels(gw) == 1


@pytest.mark.parametrize(("size", "stride"), [(2, 2), (3, 2), (3, 1)])
def test_max_pooling_with_its_gradient_is_a_kernel_each(size: int, stride: int):
    x = make(2, 3, 9, 8, grad=True)
    assert kernels_of(lambda: ad.max_pool2d(x, size, stride)) == 1
    y = ad.max_pool2d(x, size, stride)
    assert kernels(y, ad.gradients(y, x, make(*y.shape))) == 2


# contractions -------------------------------------------------------------------------------------------------------
def test_matmul_with_bias_tanh_and_residual_is_one_kernel():
    x, w, b, r = make(20, 30), make(30, 40), make(40), make(20, 40)
    assert kernels_of(lambda: ad.tanh(x @ w + b) + r) == 1
    assert kernels_of(lambda: ad.tanh(w.T @ x.T + b.reshape(40, 1)).T + r) == 1


def test_attention_is_two_kernels():
    q, k, v = make(2, 4, 16, 8), make(2, 4, 16, 8), make(2, 4, 16, 8)
    assert kernels_of(lambda: ad.softmax(q @ k.mT * 0.35, axis=-1) @ v) <= 2


def test_a_two_layer_network_with_all_gradients():
    x, t = make(32, 20), ad.tensor(RNG.integers(0, 10, 32))
    w1, b1, w2, b2 = (make(*s, grad=True) for s in [(20, 50), (50,), (50, 10), (10,)])
    loss = ad.cross_entropy(ad.relu(x @ w1 + b1) @ w2 + b2, t)
    assert kernels(loss, *ad.gradients(loss, [w1, b1, w2, b2])) <= 8


def test_a_product_followed_by_its_rows_is_one_kernel():
    x, w = make(48, 30), make(30, 20)
    assert kernels_of(lambda: ad.softmax(x @ w, axis=-1)) == 1
    assert kernels_of(lambda: ad.logsumexp(x @ w + make(20), axis=1)) == 1
    logits = x @ w
    assert kernels(logits, ad.log_softmax(logits, axis=-1)) == 1


# indices ------------------------------------------------------------------------------------------------------------
def test_a_gather_followed_by_arithmetic_is_one_kernel():
    table, i = make(100, 16), ad.tensor(RNG.integers(0, 100, 40))
    assert kernels_of(lambda: ad.tanh(table[i] * 2 + make(16))) == 1


def test_a_scan_followed_by_arithmetic_is_one_kernel():
    x = make(5, 30)
    assert kernels_of(lambda: ad.exp(ad.cumsum(x, axis=1)) * 2) == 1
    assert kernels_of(lambda: ad.exp(ad.cumsum(x, axis=0).T) * 2) == 1


def test_the_gradient_of_an_embedding_costs_what_it_touches():
    table, i = make(5000, 16, grad=True), ad.tensor(RNG.integers(0, 5000, 40))
    y = table[i]
    plan = ad.schedule(ad.gradients(y, table, make(40, 16)))
    assert plan.flops <= 2 * 40 * 16


# stored values ------------------------------------------------------------------------------------------------------
def test_what_you_hold_is_stored_by_the_kernel_that_computes_it():
    x = make(24, 40)
    e = ad.exp(x)
    y = e / e.sum(axis=1, keepdims=True)
    assert kernels(y) == 1
    plan = ad.schedule(y)
    assert plan.bytes == 3 * 24 * 40 * 4
    assert "you hold it" in plan.explain()


def test_each_stored_value_has_a_reason():
    x, w = make(24, 40), make(40, 50)
    plan = ad.schedule(ad.softmax(x @ w, axis=0).sum())
    stored = [n for step in plan for n in step.sinks]
    assert stored
    assert all(plan.partition.reasons.get(id(n)) for n in stored)
