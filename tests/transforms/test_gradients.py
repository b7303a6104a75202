"""`gradients` and `backward`: what they add where, and what they refuse."""

import numpy as np
import pytest

import tinyad as ad


def leaf(*values):
    return ad.tensor(np.array(values), requires_grad=True)


def test_one_tensor_in_one_tensor_out():
    x = ad.tensor(3.0)
    assert ad.gradients(x * x, x).item() == 6.0
    (g,) = ad.gradients([x * x, 5 * x], [x])
    assert g.item() == 11.0


def test_grad_outputs_weigh_the_outputs():
    x = ad.tensor(np.array([1.0, 2.0]))
    assert ad.gradients(x * x, x, np.array([10.0, 1.0])).tolist() == [20.0, 4.0]
    (g,) = ad.gradients([x * x, x.sum()], [x], [np.array([1.0, 0.0]), None])
    assert g.tolist() == [3.0, 1.0]
    with pytest.raises(ValueError, match="expected 2 grad_outputs, one per output, got 1"):
        ad.gradients([x, x], [x], [x])
    with pytest.raises(ValueError, match=r"expected shape \(2,\), got \(3,\)"):
        ad.gradients(x, x, np.ones(3))


def test_what_is_not_reached_gives_zeros_of_its_shape_and_dtype():
    x, other = ad.tensor(2.0), ad.tensor(np.ones((2, 3), np.float64))
    _, g = ad.gradients(x * x, [x, other])
    assert g.shape == (2, 3) and g.dtype == ad.float64 and not g.numpy().any()
    assert ad.gradients(ad.floor(x) * 1.0, x).item() == 0.0
    assert ad.gradients(x.detach() * 2, x).item() == 0.0
    assert ad.grad(lambda v: ad.tensor(7.0))(np.ones(3)).tolist() == [0.0, 0.0, 0.0]
    assert ad.jvp(lambda v: 7.0, (1.0,), (1.0,))[1].item() == 0.0


def test_history_cut_off_by_computing_is_refused_and_names_the_line():
    x = ad.tensor(2.0)
    y = x * x
    y.item()
    z = y * 3
    with pytest.raises(ad.GradError, match=r"test_gradients\.py:\d+ is gone"):
        ad.gradients(z, x)
    assert ad.gradients(z, y).item() == 3.0


def test_history_cut_off_by_intent_gives_zeros():
    x = ad.tensor(2.0)
    y = x.detach() * x.detach()
    y.item()
    assert ad.gradients(y * 3, x).item() == 0.0


def test_a_leaf_that_requires_grad_keeps_all_history():
    x = leaf(2.0)
    y = x * x
    y.item()
    (y * y).sum().item()
    assert ad.gradients((y * y).sum(), x).item() == 32.0


def test_outputs_must_be_numbers_and_inputs_real():
    x = ad.tensor(np.ones(3))
    with pytest.raises(TypeError, match=r"Gradient only defined for scalar-output functions. Output had shape: \(3,\)"):
        ad.gradients(x, x)
    with pytest.raises(TypeError, match=r"but got int64"):
        ad.gradients(x.sum(), ad.tensor(1))
    with pytest.raises(TypeError, match=r"but got bool"):
        ad.gradients((x > 0).any(), x)
    with pytest.raises(TypeError, match=r"Output had shape: \(3,\)"):
        ad.grad(lambda v: v)(x)
    with pytest.raises(TypeError, match="Output was: tuple"):
        ad.grad(lambda v: (v, v))(1.0)
    message = r"grad requires real-valued inputs \(input dtype that is a sub-dtype of np.floating\), but got int64\."
    with pytest.raises(TypeError, match=message):
        ad.grad(lambda v: v * 1.0)(1)
    with pytest.raises(TypeError, match="must be tensors, NumPy arrays or numbers, got str"):
        ad.grad(lambda v: v)("x")
    with pytest.raises(ValueError, match="argnums=1 needs more positional arguments than the 1 given"):
        ad.grad(lambda v: v, argnums=1)(1.0)


def test_backward_adds_into_every_leaf():
    a, b, unused = leaf(1.0, 2.0), leaf(3.0, 4.0), leaf(1.0)
    (a * b).sum().backward()
    (a * a).sum().backward()
    assert a.grad.tolist() == [5.0, 8.0] and b.grad.tolist() == [1.0, 2.0] and unused.grad is None
    assert not a.grad.requires_grad


def test_backward_of_an_array_needs_the_gradient():
    x = leaf(1.0, 2.0)
    with pytest.raises(TypeError, match="Gradient only defined for scalar-output functions"):
        (x * x).backward()
    (x * x).backward(ad.tensor(np.array([1.0, 10.0])))
    assert x.grad.tolist() == [2.0, 40.0]


def test_backward_without_a_leaf_is_refused():
    x = ad.tensor(2.0)
    with pytest.raises(ad.GradError, match="no tensor made with requires_grad=True stands behind"):
        (x * x).backward()
    y = leaf(1.0)
    with ad.no_grad():
        z = y * y
    with pytest.raises(ad.GradError, match="no tensor made with requires_grad=True"):
        z.backward()
    with pytest.raises(ad.GradError, match="no tensor made with requires_grad=True"):
        (y.detach() * 2).backward()


def test_create_graph_makes_the_gradient_differentiable():
    x = leaf(3.0)
    (x**3).sum().backward(create_graph=True)
    assert ad.gradients(x.grad.sum(), x).item() == 18.0
    x.grad.sum().backward()
    assert x.grad.item() == 27.0 + 18.0


def test_reading_a_loss_before_backward_loses_nothing():
    x = leaf(1.0, 2.0)
    loss = (ad.exp(x) * x).sum()
    value = loss.item()
    loss.backward()
    expected = np.exp([1.0, 2.0]) * np.array([2.0, 3.0])
    np.testing.assert_allclose(x.grad, expected)
    assert loss.item() == value


def test_a_leaf_assigned_but_not_computed_is_a_leaf():
    x = leaf(1.0)
    x.assign(x * 5)
    (x * x).sum().backward()
    assert x.grad.item() == 10.0


def test_stop_gradient_goes_through_trees():
    def f(p):
        stopped = ad.stop_gradient({"a": p, "text": "kept"})
        assert stopped["text"] == "kept"
        return p * stopped["a"]

    assert ad.grad(f)(3.0).item() == 3.0


def test_edges_are_the_local_derivatives():
    from tinyad.transforms import edges

    a, b = leaf(4.0), leaf(3.0)
    c = a * b
    (to_a, pull_a), (to_b, pull_b) = edges(c)
    assert to_a is a and to_b is b
    assert (pull_a(np.ones(1)).item(), pull_b(np.ones(1)).item()) == (3.0, 4.0)
    assert edges(a) == []
