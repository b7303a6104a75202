"""The PyTorch notebook "Simple Autograd": a gradient is made of the same operations as the function, so it has one too.

The notebook records operations on a tape, and lets `grad` append the backward pass to that tape. Here the tape is the
graph behind a tensor, and `ad.gradients` appends to it.

    L1 = Σ (a + b)·b                    ∂L1/∂a = b                    ∂L1/∂b = a + 2b
    L2 = Σ (∂L1/∂a)² + (∂L1/∂b)²        ∂L2/∂a = 2a + 4b              ∂L2/∂b = 4a + 10b
"""

import numpy as np

import tinyad as ad

rng = np.random.default_rng(0)
a, b = ad.tensor(rng.random(4)), ad.tensor(rng.random(4))


def simple(a, b):
    t = a + b
    return t * b


loss1 = simple(a, b).sum()
dl1_da, dl1_db = ad.gradients(loss1, [a, b])
print("∂L1/∂a and ∂L1/∂b, not computed yet, as programs that go on from the program of L1:")
print(ad.graph(loss1, dl1_da, dl1_db), "\n")

loss2 = (dl1_da * dl1_da + dl1_db * dl1_db).sum()
dl2_da, dl2_db = ad.gradients(loss2, [a, b])

print("a         ", a.numpy())
print("b         ", b.numpy())
print("∂L1/∂b    ", dl1_db.numpy())
print("∂L2/∂a    ", dl2_da.numpy())
print("∂L2/∂b    ", dl2_db.numpy())

a, b = a.numpy(), b.numpy()
np.testing.assert_allclose(dl1_da, b, rtol=1e-12)
np.testing.assert_allclose(dl1_db, a + 2 * b, rtol=1e-12)
np.testing.assert_allclose(dl2_da, 2 * a + 4 * b, rtol=1e-12)
np.testing.assert_allclose(dl2_db, 4 * a + 10 * b, rtol=1e-12)
print("\nall four as the formulas say")
