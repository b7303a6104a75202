"""Modules: parameters by name, state, and each layer against its formula."""

import copy

import numpy as np
import pytest

import tinyad as ad
from tinyad import nn

RNG = np.random.default_rng(0)


class Block(nn.Module):
    def __init__(self):
        self.scale = ad.tensor(2.0, requires_grad=True)
        self.offset = ad.tensor(1.0)  # part of the state, not a parameter
        self.layers = [nn.Linear(3, 3), nn.Tanh()]
        self.heads = {"a": nn.Linear(3, 1, bias=False)}
        self.name = "block"

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.heads["a"](x) * self.scale + self.offset


def test_parameters_are_found_by_name():
    block = Block()
    names = ["scale", "layers.0.weight", "layers.0.bias", "heads.a.weight"]
    assert [n for n, _ in block.named_parameters()] == names
    assert all(p.requires_grad for p in block.parameters())
    assert [*block.state_dict()] == ["scale", "offset", *names[1:]]
    assert [type(m).__name__ for m in block.modules()] == ["Block", "Linear", "Tanh", "Linear"]


def test_a_shared_parameter_is_listed_once():
    a, b = nn.Linear(3, 3), nn.Linear(3, 3)
    b.weight = a.weight
    assert len(nn.Sequential(a, b).parameters()) == 3
    assert len(nn.Sequential(a, a).parameters()) == 2


def test_state_is_a_snapshot_and_loads_back():
    block = Block()
    state = block.state_dict()
    x = np.ones((2, 3), np.float32)
    before = block(ad.tensor(x)).numpy()
    with ad.no_grad():
        for p in block.parameters():
            p.assign(p * 0)
    assert not np.array_equal(block(ad.tensor(x)), before)
    block.load_state_dict(state)
    np.testing.assert_array_equal(block(ad.tensor(x)), before)
    assert all(p.requires_grad for p in block.parameters())
    other = Block()
    other.load_state_dict({k: v.numpy() for k, v in state.items()})
    np.testing.assert_array_equal(other(ad.tensor(x)), before)


def test_wrong_states_are_refused_and_nothing_is_assigned():
    layer = nn.Linear(2, 2)
    before = layer.weight.numpy()
    with pytest.raises(KeyError, match=r"missing \['bias'\], unexpected \['b'\]"):
        layer.load_state_dict({"weight": np.zeros((2, 2)), "b": np.zeros(2)})
    with pytest.raises(ValueError, match=r"bias: expected shape \(2,\), got \(3,\)"):
        layer.load_state_dict({"weight": np.zeros((2, 2)), "bias": np.zeros(3)})
    assert np.array_equal(layer.weight, before)


def test_train_and_eval_reach_every_module():
    block = Block()
    assert block.training
    assert block.eval() is block and not any(m.training for m in block.modules())
    assert block.train() is block and all(m.training for m in block.modules())


def test_zero_grad_forgets():
    block = Block()
    block(ad.tensor(np.ones((2, 3), np.float32))).sum().backward()
    assert all(p.grad is not None for p in block.parameters())
    block.zero_grad()
    assert all(p.grad is None for p in block.parameters())


def test_a_copy_shares_nothing():
    a = nn.Linear(2, 2)
    b = copy.deepcopy(a)
    with ad.no_grad():
        b.weight.assign(b.weight * 0)
    assert a.weight.numpy().any() and all(p.requires_grad for p in b.parameters())


def test_the_text_of_a_model():
    assert repr(nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.ReLU()))) == (
        "Sequential(\n"
        "  (0): Linear(in_features=2, out_features=3, bias=True)\n"
        "  (1): Sequential(\n"
        "    (0): ReLU()\n"
        "  )\n"
        ")"
    )


def test_a_module_without_forward_says_so():
    with pytest.raises(NotImplementedError, match="Module does not define forward"):
        nn.Module()(1)


def test_sequential_is_a_sequence():
    layers = [nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)]
    model = nn.Sequential(*layers)
    assert len(model) == 3 and model[1] is layers[1] and model[-1] is layers[2] and [*model] == layers
    assert [*model[:2]] == layers[:2]


def test_functional_is_the_namespace():
    import tinyad.nn.functional as F

    assert F.relu is ad.relu and nn.functional.cross_entropy is ad.cross_entropy
    assert "relu" in dir(F)
    with pytest.raises(AttributeError):
        F.no_such_function


def test_linear():
    x = RNG.normal(size=(5, 4, 3)).astype(np.float32)
    layer = nn.Linear(3, 2)
    w, b = layer.weight.numpy(), layer.bias.numpy()
    assert w.shape == (2, 3) and np.abs(w).max() <= 1 / np.sqrt(3)
    np.testing.assert_allclose(layer(ad.tensor(x)), x @ w.T + b, rtol=1e-5, atol=1e-6)
    plain = nn.Linear(3, 2, bias=False, dtype=ad.float64)
    y = plain(ad.tensor(x[0, 0].astype(float)))
    assert y.shape == (2,) and y.dtype == ad.float64 and plain.bias is None


def test_layer_norm():
    x = RNG.normal(size=(4, 3, 5))
    layer = nn.LayerNorm((3, 5), dtype=ad.float64)
    mean, var = x.mean(axis=(1, 2), keepdims=True), x.var(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(layer(ad.tensor(x)), (x - mean) / np.sqrt(var + 1e-5), rtol=1e-10)
    with pytest.raises(ValueError, match=r"expected the last axes to be \(3, 5\), got an input of shape \(5, 3\)"):
        layer(ad.tensor(x[0].T))


@pytest.mark.parametrize(("stride", "padding", "dilation", "groups"), [(1, 0, 1, 1), (2, 1, 1, 1), (1, 2, 2, 2)])
def test_conv2d(stride, padding, dilation, groups):
    layer = nn.Conv2d(4, 6, 3, stride, padding, dilation, groups, dtype=ad.float64)
    x = RNG.normal(size=(2, 4, 9, 8))
    w, b = layer.weight.numpy(), layer.bias.numpy()
    assert w.shape == (6, 4 // groups, 3, 3)
    padded = np.pad(x, [(0, 0), (0, 0), (padding, padding), (padding, padding)])
    span = 2 * dilation + 1
    windows = np.lib.stride_tricks.sliding_window_view(padded, (span, span), axis=(2, 3))
    windows = windows[:, :, ::stride, ::stride, ::dilation, ::dilation]
    windows = windows.reshape(2, groups, 4 // groups, *windows.shape[2:])
    expected = np.einsum("bgchwij,gocij->bgohw", windows, w.reshape(groups, 6 // groups, 4 // groups, 3, 3))
    expected = expected.reshape(2, 6, *expected.shape[3:]) + b[:, None, None]
    np.testing.assert_allclose(layer(ad.tensor(x)), expected, rtol=1e-10, atol=1e-12)


def test_max_pool_flatten_and_activations():
    x = RNG.normal(size=(2, 3, 4, 6))
    t = ad.tensor(x)
    np.testing.assert_array_equal(nn.MaxPool2d(2)(t), x.reshape(2, 3, 2, 2, 3, 2).max(axis=(3, 5)))
    assert nn.Flatten()(t).shape == (2, 72) and nn.Flatten(1, 2)(t).shape == (2, 12, 6)
    np.testing.assert_array_equal(nn.ReLU()(t), np.maximum(x, 0))
    np.testing.assert_allclose(nn.Tanh()(t), np.tanh(x), rtol=1e-12)
    np.testing.assert_allclose(nn.Sigmoid()(t), 1 / (1 + np.exp(-x)), rtol=1e-12)
    np.testing.assert_allclose(nn.GELU()(t), ad.gelu(t))


def test_a_convolutional_network_has_right_gradients():
    nn.init.seed(0)
    convolution, linear = nn.Conv2d(1, 2, 3, dtype=ad.float64), nn.Linear(8, 3, dtype=ad.float64)
    model = nn.Sequential(convolution, nn.Tanh(), nn.MaxPool2d(2), nn.Flatten(), linear)
    x = ad.tensor(RNG.normal(size=(2, 1, 6, 6)))
    ad.check_grads(lambda m: ad.sum(m(x) ** 2), (model,), order=1)


INITS = ["kaiming_uniform", "kaiming_normal", "xavier_uniform", "xavier_normal"]


@pytest.mark.parametrize("name", INITS)
def test_initial_values_are_reproducible_and_scaled(name):
    make = getattr(nn.init, name)
    nn.init.seed(3)
    first = make((200, 300))
    nn.init.seed(3)
    np.testing.assert_array_equal(first, make((200, 300)))
    one, two = (make((2, 3), rng=np.random.default_rng(1)) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    expected = np.sqrt(2 / 300) if name.startswith("kaiming") else np.sqrt(2 / 500)
    assert np.std(first.numpy()) == pytest.approx(expected, rel=0.02)
    assert first.requires_grad and first.dtype == ad.float32
    with pytest.raises(ValueError, match="need a weight with at least 2 axes"):
        make((3,))
    assert nn.init.fans((8, 4, 3, 3)) == (36, 72)
