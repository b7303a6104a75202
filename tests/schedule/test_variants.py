"""The facts of `test_plans.py` once more: by hand, along other axes, in other layouts, with movement between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinyad as ad

RNG = np.random.default_rng(0)


def make(*shape: int, grad: bool = False) -> ad.Tensor:
    return ad.tensor(RNG.standard_normal(shape).astype(np.float32), requires_grad=grad)


def labels(n: int, *shape: int) -> ad.Tensor:
    return ad.tensor(RNG.integers(0, n, shape))


def kernels(made: Any) -> int:
    return len(ad.schedule(*made) if isinstance(made, (tuple, list)) else ad.schedule(made))


def gradients(f: Callable[..., ad.Tensor], *args: ad.Tensor) -> list[ad.Tensor]:
    """The cotangents of all arguments."""
    y, pull = ad.vjp(f, *args)
    return list(pull(make(*y.shape)))


def softmax(x: ad.Tensor, axis: Any) -> ad.Tensor:
    e = ad.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def norm(x: ad.Tensor, axis: Any) -> ad.Tensor:
    d = x - x.mean(axis=axis, keepdims=True)
    return d / ad.sqrt((d * d).mean(axis=axis, keepdims=True) + 1e-5)


AXES = [0, 1, 2, 3, (1, 2), (0, 2), (0, 3), (2, 3), (1, 3), (1, 2, 3), (0, 1, 2, 3)]
ROWS: dict[str, Callable[[ad.Tensor, Any], Any]] = {
    "softmax": softmax,
    "log_softmax": lambda x, axis: x - ad.logsumexp(x, axis=axis, keepdims=True),
    "norm": norm,
    "mean and variance": lambda x, axis: (x.mean(axis=axis), x.var(axis=axis)),
    "rms": lambda x, axis: x * ad.rsqrt((x * x).mean(axis=axis, keepdims=True) + 1e-6),
}


@pytest.mark.parametrize("axis", AXES, ids=str)
@pytest.mark.parametrize("name", ROWS)
def test_rows_along_any_axes_are_one_kernel(name: str, axis: Any) -> None:
    x = make(4, 6, 5, 8)
    assert kernels(ROWS[name](x, axis)) == 1
    assert kernels(ROWS[name](x.transpose(), axis)) == 1


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "norm", "rms"])
def test_their_gradients_are_one_kernel(name: str, axis: int) -> None:
    assert kernels(gradients(lambda x: ROWS[name](x, axis), make(24, 40))) == 1


def group_norm(x: ad.Tensor, w: ad.Tensor, b: ad.Tensor) -> ad.Tensor:
    return norm(x.reshape(4, 3, -1), -1).reshape(x.shape) * w + b


def test_normalisations_with_weights_have_two_kernels_of_gradients() -> None:
    x, w, b = make(24, 40), make(40), make(40)
    assert kernels(gradients(lambda x, w, b: norm(x, -1) * w + b, x, w, b)) <= 2
    assert kernels(gradients(lambda x, w, b: norm(x, 0) * w + b, x, make(24, 1), make(24, 1))) <= 2
    assert kernels(gradients(lambda x, w: x * ad.rsqrt((x * x).mean(-1, keepdims=True) + 1e-6) * w, x, w)) <= 2
    x, w, b = make(4, 6, 5, 8), make(6, 1, 1), make(6, 1, 1)
    assert kernels(gradients(group_norm, x, w, b)) <= 2
    assert kernels(gradients(lambda x, w, b: norm(x, (0, 2, 3)) * w + b, x, w, b)) <= 2


def with_gradient(loss: Callable[[ad.Tensor], ad.Tensor], x: ad.Tensor) -> list[ad.Tensor]:
    value, g = ad.value_and_grad(loss)(x)
    return [value, g]


def test_losses_with_their_gradients_are_two_kernels() -> None:
    t, x = labels(10, 32), make(32, 10)
    rows = ad.arange(32)
    assert kernels(with_gradient(lambda x: -ad.log_softmax(x, axis=-1)[rows, t].mean(), x)) <= 2
    assert kernels(with_gradient(lambda x: -ad.log(softmax(x, -1)[np.arange(32), t]).mean(), x)) <= 2
    assert kernels(with_gradient(lambda x: -(ad.log_softmax(x, axis=-1) * ad.one_hot(t, 10)).sum(-1).mean(), x)) <= 2
    assert kernels(with_gradient(lambda x: ad.cross_entropy(x.T, t), make(10, 32))) <= 2
    assert kernels(with_gradient(lambda x: ad.cross_entropy(x, labels(7, 4, 5)), make(4, 5, 7))) <= 2
    assert kernels(with_gradient(lambda x: ad.cross_entropy(x, t, label_smoothing=0.1), x)) <= 2
    assert kernels(with_gradient(lambda x: ad.binary_cross_entropy_with_logits(x, make(32, 10)), x)) <= 2
    assert kernels(with_gradient(lambda x: ((x - make(32, 10)) ** 2).mean(), x)) <= 2


def test_networks_in_either_layout_have_eight_kernels() -> None:
    t = labels(10, 32)

    def tanh(ps: list[ad.Tensor]) -> ad.Tensor:
        return ad.cross_entropy(ad.tanh(make(32, 20) @ ps[0] + ps[1]) @ ps[2] + ps[3], t)

    def turned(ps: list[ad.Tensor]) -> ad.Tensor:
        return ad.cross_entropy((ps[2] @ ad.gelu(ps[0] @ make(20, 32) + ps[1]) + ps[3]).T, t)

    loss, grads = ad.value_and_grad(tanh)([make(20, 50), make(50), make(50, 10), make(10)])
    assert kernels([loss, *grads]) <= 8
    loss, grads = ad.value_and_grad(turned)([make(50, 20), make(50, 1), make(10, 50), make(10, 1)])
    assert kernels([loss, *grads]) <= 8


MOVED: dict[str, Callable[[ad.Tensor], Any]] = {
    "rolled": lambda x: ad.roll(x, 3, axis=1) * 2,
    "split and joined": lambda x: ad.concat([c * 2 for c in ad.split(x, 4, axis=1)], axis=1),
    "joined": lambda x: ad.concat([ad.sin(x), ad.cos(x), x], axis=1) * 2,
    "stacked": lambda x: ad.stack([ad.sin(x), ad.cos(x)], axis=-1).reshape(64, 128) + 1,
    "rotated": lambda x: ad.concat([x[:, :32] * 2 - x[:, 32:], x[:, 32:] + x[:, :32] * 3], axis=1),
    "a stencil": lambda x: ad.pad(x, 1)[1:-1, 2:] + ad.pad(x, 1)[1:-1, :-2] - 2 * x,
    "all of it": lambda x: ad.tanh(ad.pad(ad.roll(ad.concat([x, x * 2]), 5, axis=0), ((1, 2), (0, 0)))[::2].T) * 3,
    "rows picked from a softmax": lambda x: ad.take_along_axis(softmax(x, 1), labels(64, 64, 1), axis=1),
    "the gradient of a split": lambda x: gradients(
        lambda x: ad.concat([ad.sin(c) * (i + 1) for i, c in enumerate(ad.split(x, 4, axis=1))]), x
    ),
}


@pytest.mark.parametrize("name", MOVED)
def test_movement_costs_no_kernel(name: str) -> None:
    assert kernels(MOVED[name](make(64, 64))) == 1


CHAINS: dict[str, tuple[int, Callable[[ad.Tensor], Any]]] = {
    "columns twice": (1, lambda x: softmax(softmax(x, 0), 0)),
    "columns, then rows": (2, lambda x: softmax(softmax(x, 0), 1)),
    "several of one axis": (1, lambda x: (x.var(0), x.mean(0), x.max(0))),
    "elementwise between": (1, lambda x: softmax(ad.gelu(norm(ad.gelu(x), -1)), -1)),
    "everything normalised": (1, lambda x: (x - x.mean()) / x.std()),
}


@pytest.mark.parametrize("name", CHAINS)
def test_one_axis_after_another(name: str) -> None:
    most, f = CHAINS[name]
    assert kernels(f(make(64, 64))) <= most


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (1, 2, 6, 10)], ids=str)
def test_pooling_is_one_kernel_with_its_gradient(shape: tuple[int, ...]) -> None:
    y, pull = ad.vjp(lambda x: ad.max_pool2d(x, 2), make(*shape))
    (g,) = pull(make(*y.shape))
    assert kernels((y, g)) == 1


def test_values_of_variants(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same bits as without fusion."""
    from test_compose import both

    x = RNG.standard_normal((4, 6, 5, 8)).astype(np.float32)
    for axis in AXES:
        names = [name for name in ROWS if name != "mean and variance"]
        both(monkeypatch, lambda x, axis=axis, names=names: [ROWS[name](x, axis) for name in names], x)
    square = RNG.standard_normal((64, 64)).astype(np.float32)
    for name, f in MOVED.items():
        if "picked" not in name and "gradient" not in name:
            both(monkeypatch, f, square)
