"""PyTorch's autograd, its idioms and its sore spots: in-place changes, grad_fn, create_graph, a custom function.

Comments say what PyTorch does with the same lines. In tinyad a tensor is a handle that in-place syntax points at a new
value; a graph recorded before keeps the old one. So no derivative can be spoilt afterwards, and none is refused.
"""

import numpy as np

import tinyad as ad
from tinyad.transforms import edges


def leaf(*values: float) -> ad.Tensor:
    return ad.tensor(np.array(values), requires_grad=True)


# 1. Changing a value that the backward pass needs ---------------------------------------------------------------------
x = leaf(1.0, 2.0, 3.0)
y = x * x
z = (y * y).sum()
y += 1  # PyTorch: "one of the variables needed for gradient computation has been modified by an inplace operation"
z.backward()
print("z = Σ x⁴, y changed since:   ∂z/∂x =", x.grad.numpy(), " y is now", y.numpy())
np.testing.assert_array_equal(x.grad, 4 * np.array([1.0, 2.0, 3.0]) ** 3)

x = leaf(1.0, 4.0)
root = ad.sqrt(x)
total = root.sum()
root *= 10  # PyTorch: the same error, since √ keeps its result for the backward pass
total.backward()
print("Σ √x, root changed since:    ∂/∂x  =", x.grad.numpy())
np.testing.assert_array_equal(x.grad, [0.5, 0.25])

# 2. Changing a leaf behind autograd's back ----------------------------------------------------------------------------
w = leaf(3.0, -2.0)
loss = (w * w).sum()
w.assign([0.0, 0.0])  # PyTorch, with w.data.zero_(): no error, and the gradient comes out as zeros
old = ad.gradients(loss, w)  # the w of now is not the w of then: nothing of it is in the loss
loss.backward()
print("Σ w², w zeroed since:        ∂/∂w  =", w.grad.numpy(), " towards the new value", old.numpy())
np.testing.assert_array_equal(w.grad, [6.0, -4.0])
np.testing.assert_array_equal(old, [0.0, 0.0])

# 3. In place on a leaf: refused in both, and allowed in both under no_grad --------------------------------------------
try:
    w += 1
except RuntimeError as error:
    print("w += 1:", str(error).split(" (")[0])
else:
    raise AssertionError("an in-place operation on a leaf went through")
with ad.no_grad():
    w += 1
assert w.requires_grad and w.tolist() == [1.0, 1.0]

# 4. Writing into parts of a tensor: differentiable, in a loop as well -------------------------------------------------
x = leaf(2.0)
powers = ad.zeros(5, dtype=ad.float64)
powers[0] = 1.0
for k in range(1, 5):
    powers[k] = powers[k - 1] * x[0]
ad.sum(powers).backward()
print("Σ xᵏ for k < 5 at x = 2:     ∂/∂x  =", x.grad.item())
assert x.grad.item() == 1 + 2 * 2 + 3 * 4 + 4 * 8

# 5. grad_fn: one node's derivative, inspected and called --------------------------------------------------------------
a, b = leaf(2.0), leaf(5.0)
c = a * b
for parent, pull in edges(c):  # PyTorch: c.grad_fn.next_functions, c.grad_fn(gradient)
    print(f"c = a·b came by {c.node.op.name} from {parent.numpy()}; called on 1 it gives", pull(np.ones(1)).numpy())
assert [pull(np.ones(1)).item() for _, pull in edges(c)] == [5.0, 2.0]

# 6. create_graph: the derivative of a derivative ----------------------------------------------------------------------
x = leaf(3.0)
(x**3).sum().backward(create_graph=True)
first = x.grad
(second,) = ad.gradients(first.sum(), [x])
print("x³ at 3: first", first.numpy(), "second", second.numpy())
assert (first.item(), second.item()) == (27.0, 18.0)


# 7. A function with its own backward, which is itself differentiable --------------------------------------------------
@ad.custom_vjp
def linear(x, weight, bias):
    return x @ weight.T + bias


def linear_forward(x, weight, bias):
    return x @ weight.T + bias, (x, weight)


def linear_backward(kept, g):
    x, weight = kept
    return g @ weight, g.T @ x, g.sum(axis=0)


linear.defvjp(linear_forward, linear_backward)
rng = np.random.default_rng(0)
arguments = rng.normal(size=(4, 3)), rng.normal(size=(2, 3)), rng.normal(size=2)
ad.check_grads(linear, arguments, order=2)  # first and second derivatives against difference quotients

x, weight, bias = (ad.tensor(v, requires_grad=True) for v in arguments)
(by_x,) = ad.gradients((linear(x, weight, bias) ** 2).sum(), [x])
penalty = (by_x**2).sum()  # the gradient penalty of a WGAN: needs the backward of the backward
(by_weight,) = ad.gradients(penalty, [weight])
(expected,) = ad.gradients((ad.gradients(((x @ weight.T + bias) ** 2).sum(), x) ** 2).sum(), [weight])
print("double backward of the custom linear function: largest difference", float(abs(by_weight - expected).max()))
np.testing.assert_allclose(by_weight, expected, rtol=1e-10)
