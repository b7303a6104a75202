"""Transforms of transforms, against the formulas."""

import numpy as np
import pytest

import tinyad as ad
from tinyad import nn

POINTS = np.array([-1.5, -0.2, 0.7, 2.0])


def cubic(x):
    return x * x * x


ONCE = {
    "grad": ad.grad,
    "jvp": lambda f: lambda x: ad.jvp(f, (x,), (ad.ones_like(x),))[1],
    "vjp": lambda f: lambda x: ad.vjp(f, x)[1](ad.ones_like(x))[0],
    "linearize": lambda f: lambda x: ad.linearize(f, x)[1](ad.ones_like(x)),
    "jacfwd": ad.jacfwd,
    "jacrev": ad.jacrev,
    "value_and_grad": lambda f: lambda x: ad.value_and_grad(f)(x)[1],
    "vmap of grad": lambda f: lambda x: ad.vmap(ad.grad(f))(ad.expand_dims(x, 0))[0],
    "grad of vmap": lambda f: ad.grad(lambda x: ad.vmap(f)(ad.expand_dims(x, 0))[0]),
    "checkpoint": lambda f: ad.grad(ad.checkpoint(f)),
}


@pytest.mark.parametrize("outer", ONCE)
@pytest.mark.parametrize("inner", ONCE)
def test_every_pair_of_transforms_gives_the_second_derivative(outer, inner):
    second = ONCE[outer](ONCE[inner](ad.sin))
    assert second(ad.tensor(0.5, dtype=ad.float64)).item() == pytest.approx(-np.sin(0.5), rel=1e-12)


@pytest.mark.parametrize("order", range(6))
def test_grad_nests_to_any_depth(order):
    f = ad.exp
    for _ in range(order):
        f = ad.grad(f)
    assert f(ad.tensor(0.3, dtype=ad.float64)).item() == pytest.approx(np.exp(0.3), rel=1e-12)


def test_vmap_of_grad_is_grad_at_every_point():
    np.testing.assert_allclose(ad.vmap(ad.grad(cubic))(POINTS), 3 * POINTS**2)
    np.testing.assert_allclose(ad.grad(lambda x: ad.vmap(cubic)(x).sum())(POINTS), 3 * POINTS**2)
    np.testing.assert_allclose(ad.vmap(ad.vmap(ad.grad(ad.grad(cubic))))(POINTS.reshape(2, 2)).reshape(4), 6 * POINTS)


def test_hessian_is_both_orders_of_modes():
    a = np.arange(9.0).reshape(3, 3)

    def f(x):
        return ad.sum(ad.tanh(x @ a) * x)

    x = np.array([0.1, -0.2, 0.3])
    expected = ad.jacrev(ad.jacfwd(f))(x).numpy()
    np.testing.assert_allclose(ad.hessian(f)(x), expected, atol=1e-12)
    np.testing.assert_allclose(expected, expected.T, atol=1e-12)
    v = np.array([1.0, -2.0, 0.5])
    np.testing.assert_allclose(ad.hvp(f, (x,), (v,)), expected @ v, atol=1e-12)


def test_jacobians_follow_both_trees():
    def f(p, s):
        return {"u": p["a"] * s, "v": (p["b"].sum(),)}

    args = ({"a": np.ones(2), "b": np.ones((2, 3))}, np.float64(3.0))
    for jacobian in (ad.jacfwd, ad.jacrev):
        by_p = jacobian(f)(*args)
        assert by_p["u"]["a"].tolist() == [[3.0, 0.0], [0.0, 3.0]]
        assert by_p["u"]["b"].shape == (2, 2, 3) and not by_p["u"]["b"].numpy().any()
        assert by_p["v"][0]["b"].tolist() == [[1.0] * 3] * 2
        by_p, by_s = jacobian(f, argnums=(0, 1))(*args)["u"]
        assert by_s.tolist() == [1.0, 1.0] and by_p["a"].shape == (2, 2)


def test_has_aux_everywhere():
    def f(x):
        return x * x, {"kept": x + 1}

    (value, aux), g = ad.value_and_grad(f, has_aux=True)(3.0)
    assert (value.item(), aux["kept"].item(), g.item()) == (9.0, 4.0, 6.0)
    g, aux = ad.grad(f, has_aux=True)(3.0)
    assert (aux["kept"].item(), g.item()) == (4.0, 6.0)
    assert [t.item() for t in ad.jvp(f, (3.0,), (1.0,), has_aux=True)[:2]] == [9.0, 6.0]
    value, pull, aux = ad.vjp(f, 3.0, has_aux=True)
    assert (pull(1.0)[0].item(), aux["kept"].item()) == (6.0, 4.0)
    for jacobian in (ad.jacfwd, ad.jacrev):
        j, aux = jacobian(f, has_aux=True)(3.0)
        assert (j.item(), aux["kept"].item()) == (6.0, 4.0)


def test_values_can_be_read_while_a_derivative_is_traced():
    seen = []

    def f(x):
        y = x * x
        seen.append(float(y))
        assert "9." in repr(y)
        return y if x > 0 else -y

    assert ad.grad(f)(3.0).item() == 6.0
    assert ad.grad(f)(-3.0).item() == 6.0
    assert ad.grad(ad.grad(f))(3.0).item() == 2.0
    assert ad.jvp(f, (3.0,), (1.0,))[1].item() == 6.0
    assert seen == [9.0] * 4


def test_a_value_read_halfway_in_a_nested_function_loses_nothing():
    def inner(x, y):
        z = x * y
        z.item()
        return z * z

    def outer(x):
        g = ad.grad(lambda y: inner(x, y))(2.0)  # 2x²y
        g.item()
        return g * x

    assert ad.grad(outer)(3.0).item() == 12 * 9.0


def test_the_result_of_a_closed_transform_does_not_close_an_open_one():
    w = ad.grad(cubic)(2.0)  # pending, made under a trace that is closed by now

    def f(x):
        y = x * w
        y.item()
        return y * y

    assert ad.grad(f)(1.0).item() == 2 * 12.0**2


def test_a_trace_is_closed_when_the_function_raises():
    kept = []

    def f(x):
        kept.append(x * 2)
        raise KeyError("out")

    for transform in (ad.grad(f), ad.vmap(f), lambda x: ad.jvp(f, (x,), (x,)), lambda x: ad.vjp(f, x)):
        with pytest.raises(KeyError):
            transform(np.ones(1))
    assert not any(t.node.trace is not None and t.node.trace.open for t in kept)
    assert ad.grad(cubic)(1.0).item() == 3.0


def test_a_pull_can_be_called_and_differentiated_any_number_of_times():
    y, pull = ad.vjp(lambda x, s: (x * x * s, x.sum()), np.array([1.0, 2.0]), np.float64(3.0))
    y[0].realize()
    for k in (1.0, 2.0):
        by_x, by_s = pull((np.full(2, k), 0.0))
        assert by_x.tolist() == [6 * k, 12 * k] and by_s.item() == 5 * k
    linear = ad.jacrev(lambda g: pull((g, np.float64(0.0)))[0])(np.ones(2))
    assert linear.tolist() == [[6.0, 0.0], [0.0, 12.0]]


def test_no_grad_outside_acts_on_the_result_only():
    x = ad.tensor(3.0, requires_grad=True)
    with ad.no_grad():
        g = ad.grad(cubic)(x)
    assert g.item() == 27.0 and not g.requires_grad

    def f(v):
        with ad.no_grad():
            c = v * v
        return c * v

    assert ad.grad(f)(2.0).item() == 4.0


def test_a_module_is_an_argument_like_any_other():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    x = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)

    def loss(m):
        return m(ad.tensor(x)).mean() + 0.5 * sum((p * p).sum() for p in m.parameters())

    value, grads = ad.value_and_grad(loss)(model)
    loss(model).backward()
    assert value.item() == pytest.approx(loss(model).item())
    assert [n for n, _ in grads.named_parameters()] == [n for n, _ in model.named_parameters()]
    for g, p in zip(grads.parameters(), model.parameters(), strict=True):
        np.testing.assert_allclose(g, p.grad, rtol=1e-5, atol=1e-6)


def test_python_floats_are_float32_and_numpy_keeps_its_dtype():
    assert ad.grad(cubic)(1.0).dtype == ad.float32
    assert ad.grad(cubic)(np.float64(1.0)).dtype == ad.float64
    g = ad.grad(lambda p: p["a"] * 2.0 + p["b"].sum())({"a": 1.0, "b": np.ones(2, np.float64)})
    assert g["a"].dtype == ad.float32 and g["b"].dtype == ad.float64
