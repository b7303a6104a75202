"""`custom_vjp`, `checkpoint` and `check_grads`."""

import numpy as np
import pytest

import tinyad as ad
from tinyad import nn

X = np.array([0.3, -0.7, 1.9])


@ad.custom_vjp
def product_and_sum(x, y):
    return x * y, {"sum": x + y}


product_and_sum.defvjp(
    lambda x, y: ((x * y, {"sum": x + y}), (x, y)),
    lambda kept, g: (g[0] * kept[1] + g[1]["sum"], g[0] * kept[0] + g[1]["sum"]),
)


def test_a_custom_rule_agrees_with_difference_quotients_in_two_orders():
    ad.check_grads(product_and_sum, (X, X[::-1].copy()), order=2)


def test_a_custom_rule_is_used():
    @ad.custom_vjp
    def f(x):
        return x * x

    f.defvjp(lambda x: (x * x, None), lambda kept, g: (g * 100,))
    assert ad.grad(lambda x: f(x).sum())(X).tolist() == [100.0] * 3
    assert ad.vmap(ad.grad(f))(X).tolist() == [100.0] * 3
    assert ad.grad(lambda x: ad.vmap(f)(x).sum())(X).tolist() == [100.0] * 3
    assert ad.jvp(f, (X,), (np.ones(3),))[1].tolist() == [100.0] * 3
    x = ad.tensor(X, requires_grad=True)
    f(x).sum().backward()
    assert x.grad.tolist() == [100.0] * 3
    np.testing.assert_allclose(f(X), X * X)


def test_the_backward_of_a_rule_is_differentiated():
    @ad.custom_vjp
    def cube(x):
        return x**3

    cube.defvjp(lambda x: (x**3, x), lambda x, g: (g * 3 * x * x,))
    np.testing.assert_allclose(ad.vmap(ad.grad(ad.grad(cube)))(X), 6 * X)
    np.testing.assert_allclose(ad.vmap(ad.hessian(cube))(X), 6 * X)


def test_results_of_several_dtypes_are_packed_by_dtype():
    @ad.custom_vjp
    def f(x, y):
        return x * 2, y.sum() * 3, (x > 0).sum()

    f.defvjp(lambda x, y: ((x * 2, y.sum() * 3, (x > 0).sum()), y), lambda y, g: (g[0] * 7, g[1] * ad.ones_like(y)))
    y = np.ones(2, np.float32)

    def loss(x, y):
        a, b, count = f(x, y)
        return a.sum() + b.astype(ad.float64) + count.astype(ad.float64)

    by_x, by_y = ad.grad(loss, argnums=(0, 1))(X, y)
    assert by_x.tolist() == [7.0] * 3 and by_y.tolist() == [1.0] * 2 and by_y.dtype == ad.float32


def test_arguments_that_are_no_arrays_are_passed_on():
    @ad.custom_vjp
    def scaled(tree, mode, count):
        return tree["a"] * count if mode == "times" else tree["a"]

    def forward(tree, mode, count):
        assert mode == "times" and count == 3
        return tree["a"] * count, (mode, count)

    scaled.defvjp(forward, lambda kept, g: ({"a": g * kept[1]}, None, None))
    assert ad.grad(lambda x: scaled({"a": x}, "times", 3))(2.0).item() == 3.0


def test_wrong_rules_are_refused():
    @ad.custom_vjp
    def f(x, y):
        return x * y

    with pytest.raises(ad.GradError, match=r"f has no derivative yet: call f.defvjp\(fwd, bwd\)"):
        f(1.0, 2.0)
    f.defvjp(lambda x, y: (x * y, None), lambda kept, g: (g,))
    with pytest.raises(TypeError, match="must return a tuple of 2, one cotangent for each argument, got a tuple of 1"):
        ad.grad(f)(1.0, 2.0)
    f.defvjp(lambda x, y: (x * y, None), lambda kept, g: (ad.ones(3), None))
    with pytest.raises(ValueError, match=r"cotangent of shape \(\), got \(3,\)"):
        ad.grad(f)(1.0, 2.0)
    f.defvjp(lambda x, y: x * y, lambda kept, g: (g, g))
    with pytest.raises(TypeError, match=r"fwd of f must return \(result, residuals\)"):
        f(1.0, 2.0)


def test_a_rule_that_would_lose_a_derivative_is_refused():
    w = ad.tensor(2.0, requires_grad=True)

    @ad.custom_vjp
    def f(x):
        return x * w

    f.defvjp(lambda x: (x * w, None), lambda kept, g: (g * 2,))
    with pytest.raises(ad.GradError, match=r"not one of its arguments \(f32\[\] made at .*test_custom_rules.py"):
        f(1.0)
    with ad.no_grad():
        assert f(3.0).item() == 6.0


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_checkpoint_changes_no_value_and_no_derivative(order):
    def f(x, s):
        return ad.tanh(ad.sin(x) * s) * x

    plain, saved = f, ad.checkpoint(f)
    for _ in range(order):
        plain, saved = ad.grad(plain), ad.grad(saved)
    np.testing.assert_array_equal(ad.vmap(saved, (0, None))(X, 2.0), ad.vmap(plain, (0, None))(X, 2.0))


def test_checkpoint_differentiates_what_it_closes_over():
    nn.init.seed(0)
    layers = [nn.Linear(3, 3) for _ in range(3)]
    x = ad.tensor(X.astype(np.float32))

    def run(wrap):
        y = x
        for layer in layers:
            y = wrap(lambda v, layer=layer: ad.tanh(layer(v)))(y)
        return (y * y).sum()

    parameters = [p for layer in layers for p in layer.parameters()]
    expected = ad.gradients(run(lambda f: f), parameters)
    for g, e in zip(ad.gradients(run(ad.checkpoint), parameters), expected, strict=True):
        np.testing.assert_array_equal(g, e)


def test_checkpoint_computes_again_behind_a_fence():
    def f(x):
        return ad.exp(ad.sin(x))

    x = ad.tensor(X)
    kept = ad.graph(ad.gradients(f(x).sum(), x))
    saved = ad.graph(ad.gradients(ad.checkpoint(f)(x).sum(), x))
    assert not any(n.op.value == "fence" for n in kept)
    assert any(n.op.value == "fence" for n in saved)


def test_checkpoint_takes_trees_and_keywords_and_survives_reading():
    @ad.checkpoint
    def f(tree, *, s):
        y = tree["a"] * s
        assert y.numpy().shape == (3,)
        return {"y": y * y, "n": 2}

    def loss(x):
        out = f({"a": x, "name": "static"}, s=3.0)
        assert out["n"].item() == 2
        return out["y"].sum()

    np.testing.assert_allclose(ad.grad(loss)(X), 18 * X)


def test_check_grads_names_the_worst_element():
    @ad.custom_vjp
    def f(x):
        return x * x

    f.defvjp(lambda x: (x * x, x), lambda x, g: (g * 2 * x * np.array([1.0, 1.0005, 1.0]),))
    with pytest.raises(ad.GradError, match=r"reverse mode, order 1: argument 0: element \[1\] is .* \(1 of 3 elements"):
        ad.check_grads(f, (X,), order=1)
    with pytest.raises(ad.GradError, match="forward mode, order 1: along a direction"):
        ad.check_grads(f, (X,), order=1, modes=("fwd",))


def test_check_grads_sees_a_wrong_second_derivative():
    @ad.custom_vjp
    def f(x):
        return x**3

    f.defvjp(lambda x: (x**3, x), lambda x, g: (g * 3 * x * ad.stop_gradient(x),))
    ad.check_grads(f, (X,), order=1)
    with pytest.raises(ad.GradError, match="order 2"):
        ad.check_grads(f, (X,), order=2)


def test_check_grads_passes_right_ones():
    ad.check_grads(lambda a, b: ad.log1p(ad.exp(a @ b)), (np.ones((2, 3)) * 0.1, X), order=2)
    ad.check_grads(lambda t: {"y": ad.sin(t["x"])}, ({"x": X.astype(np.float32)},), order=1)
