"""The "autodiff from scratch" tutorial, in which every number remembers its parents and the local gradients to them.

There a variable is (value, [(parent, local gradient), ..]) and `get_gradients` walks all paths from a result to its
inputs, multiplying along the edges and adding over the paths. tinyad keeps the same graph; `edges` shows it, and the
sum over paths can be taken by hand. It is then taken once per node instead of once per path, because of the last graph
below, which has 2^60 of them.
"""

import numpy as np

import tinyad as ad
from tinyad.transforms import edges


def variable(x: float) -> ad.Tensor:
    """A number in double precision that remembers what it goes into."""
    return ad.tensor(x, dtype=ad.float64, requires_grad=True)


# 1. Edges -------------------------------------------------------------------------------------------------------------
a, b = variable(4.0), variable(3.0)
c = a + b  # 7
d = a * c  # 28
name = {a: "a", b: "b", c: "c", d: "d"}  # tensors are hashed by identity

print("local derivatives, edge by edge")
for t in (d, c):
    for parent, pull in edges(t):
        print(f"  ∂{name[t]}/∂{name[parent]} = {pull(1.0).item():g}")

to_a, to_c = edges(d)  # d = a·c: by a it is c, by c it is a
assert (to_a.pull(1.0).item(), to_c.pull(1.0).item()) == (7.0, 4.0)


# 2. The sum over paths of the products of edges, by hand --------------------------------------------------------------
def over_paths(result: ad.Tensor, x: ad.Tensor, so_far: ad.Tensor | float = 1.0) -> ad.Tensor | float:
    """The derivative of `result` by `x`, path by path: as the tutorial computes it, and as slow on a big graph."""
    if result is x:
        return so_far
    return sum(over_paths(parent, x, pull(so_far)) for parent, pull in edges(result))


# ... and by the library, towards inputs and intermediate values alike.
gradients = dict(zip([a, b, c], ad.gradients(d, [a, b, c]), strict=True))
print("\nd = a·(a + b) at a = 4, b = 3")
for x in (a, b, c):
    print(f"  ∂d/∂{name[x]} = {gradients[x].item():g}, over paths {float(over_paths(d, x)):g}")
    assert gradients[x].item() == float(over_paths(d, x))
assert [gradients[x].item() for x in (a, b, c)] == [11.0, 4.0, 4.0]


# 3. A longer expression, held against a difference quotient -----------------------------------------------------------
def f(a, b):
    return (a / b - a) * (b / a + a + b) * (a - b)


p, q = variable(230.3), variable(33.2)
by_p, by_q = (g.item() for g in ad.gradients(f(p, q), [p, q]))
delta = 1e-6
quotient_p = (f(230.3 + delta, 33.2) - f(230.3 - delta, 33.2)) / (2 * delta)
quotient_q = (f(230.3, 33.2 + delta) - f(230.3, 33.2 - delta)) / (2 * delta)
print("\ny = (a/b - a)(b/a + a + b)(a - b) at a = 230.3, b = 33.2")
print(f"  ∂y/∂a = {by_p:.6f}, difference quotient {quotient_p:.3f}")
print(f"  ∂y/∂b = {by_q:.6f}, difference quotient {quotient_q:.3f}")
assert abs(by_p - -153284.83150602411) < 1e-6 and abs(by_q - 3815.0389441500993) < 1e-6

# 4. 2^60 paths --------------------------------------------------------------------------------------------------------
x = variable(1.0)
y = x
for _ in range(60):
    y = y + y  # two edges, both to the same parent
by_x = ad.gradients(y, x)
print(f"\n60 doublings: {len(ad.graph(y))} nodes, 2^60 paths, ∂y/∂x = {by_x.item():.0f}")
assert by_x.item() == 2.0**60

# 5. NumPy arrays of numbers: its own dot product, run on tensors ------------------------------------------------------
to_variables = np.vectorize(variable, otypes=[object])
rng = np.random.default_rng(0)
weights = to_variables(rng.normal(size=(3, 5)))
inputs, target = rng.normal(size=5), rng.normal(size=3)
first = last = None
for _ in range(20):
    error = np.dot(weights, inputs) - target  # an object array of 0-d tensors
    loss = np.sum(error * error)
    flat = list(weights.flat)
    moved = [w - 0.05 * g for w, g in zip(flat, ad.gradients(loss, flat), strict=True)]
    last = loss.item()
    first = last if first is None else first
    weights = to_variables(np.array([m.item() for m in moved]).reshape(weights.shape))
print(f"\nan object array of 15 tensors learns: squared error {first:.3f} -> {last:.2e}")
assert last < 1e-3 * first
