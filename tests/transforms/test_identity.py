"""The derivative by a tensor means that tensor: equal values are different variables."""

import numpy as np
import pytest

import tinyad as ad


def test_two_equal_expressions_are_two_variables():
    x = ad.tensor(3.0)
    a, b = x + 1, x + 1
    by_a, by_b, by_x = ad.gradients(a * b, [a, b, x])
    assert (by_a.item(), by_b.item(), by_x.item()) == (4.0, 4.0, 8.0)
    by_a, by_b = ad.gradients(a * a + b, [a, b])
    assert (by_a.item(), by_b.item()) == (8.0, 1.0)


@pytest.mark.parametrize("zeros", [lambda: ad.zeros(2), lambda: ad.tensor([0.0, 0.0]), lambda: ad.zeros((1, 2))])
def test_two_zero_biases_have_their_own_gradients(zeros):
    x = ad.tensor([[1.0, 2.0], [3.0, 4.0]])
    first, second = zeros(), zeros()
    y = ((x + first) * 2 + second).sum()
    by_first, by_second = ad.gradients(y, [first, second])
    assert by_first.numpy().ravel().tolist() == [4.0, 4.0]
    assert by_second.numpy().ravel().tolist() == [2.0, 2.0]


def test_the_argument_of_grad_is_not_the_tensor_it_closes_over():
    w = ad.tensor(3.0)
    assert ad.grad(lambda v: v * w)(w).item() == 3.0
    assert ad.grad(lambda v: v * v * w)(w).item() == 18.0


def test_the_same_tensor_given_twice_is_two_arguments():
    w = ad.tensor(3.0)
    by_first, by_second = ad.grad(lambda u, v: u * u * v, argnums=(0, 1))(w, w)
    assert (by_first.item(), by_second.item()) == (18.0, 9.0)


def test_inner_and_outer_variables_do_not_meet():
    assert ad.grad(lambda x: x * ad.grad(lambda y: x + y)(1.0))(1.0).item() == 1.0
    assert ad.grad(lambda x: x * ad.grad(lambda y: x * y)(2.0))(3.0).item() == 6.0
    assert ad.jvp(lambda x: x * ad.jvp(lambda y: x + y, (1.0,), (1.0,))[1], (1.0,), (1.0,))[1].item() == 1.0


def test_a_branch_not_taken_gives_exact_zeros_in_two_orders():
    def f(x):
        return ad.where(x > 0, ad.log(x), ad.zeros_like(x))

    assert ad.grad(f)(0.0).item() == 0.0
    assert ad.grad(ad.grad(f))(0.0).item() == 0.0
    assert ad.grad(ad.grad(f))(2.0).item() == -0.25


def test_the_hessian_of_half_a_square_at_its_zero():
    def f(x):  # h(x)²/2 with h(0) = 0 and h'(0) = 3: the second derivative is h'²
        h = ad.sin(3 * x)
        return h * h / 2

    assert ad.hessian(f)(ad.tensor(0.0)).item() == 9.0


def test_in_place_changes_do_not_reach_a_graph_recorded_before():
    x = ad.tensor(np.array([1.0, 2.0]))
    y = x * x
    z = (y * y).sum()
    kept = x.copy()
    y += 100
    x[0] = 50.0
    assert ad.gradients(z, x).tolist() == [0.0, 0.0]  # the x of now is not in z
    assert kept.tolist() == [1.0, 2.0]


def test_an_intermediate_value_is_a_variable():
    x = ad.tensor(np.array([1.0, 2.0]))
    y = ad.exp(x)
    z = (y * y).sum()
    np.testing.assert_allclose(ad.gradients(z, y), 2 * np.exp([1.0, 2.0]))
