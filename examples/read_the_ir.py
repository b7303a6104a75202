"""One small loss, read at every level: from the Python line down to the machine's instructions.

    python examples/read_the_ir.py          # the long texts are cut
    python examples/read_the_ir.py --full   # everything

Each level has one text. Names of values (%0, %1, ..) belong to one text; comments after ";" point to the Python line
or, for derivatives ("d"), to the value they are the derivative of.
"""

import sys

import numpy as np

import tinyad as ad

FULL = "--full" in sys.argv


def show(title: str, comment: str, text: str, lines: int) -> None:
    print(f"\n{'=' * 100}\n{title}\n\n{comment.strip()}\n")
    body = text.strip().splitlines()
    kept = body if FULL else body[:lines]
    print("\n".join("    " + line for line in kept))
    if len(kept) < len(body):
        print(f"    ... {len(body) - len(kept)} more lines")


# A linear model with a squashed output and its squared error on four examples.
x = ad.tensor(np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3))
t = ad.tensor(np.array([0.5, -0.5, 0.25, 1.0], dtype=np.float32))
w = ad.tensor(np.array([0.1, -0.2, 0.3], dtype=np.float32))

y = ad.tanh(x @ w)
loss = ((y - t) ** 2).mean()

show(
    "1. ir: the loss",
    """
Nothing is computed yet: `loss` is a graph of primitive operations on arrays. There is no matmul and no broadcasting
among them: both operands are reshaped and expanded to one shape, multiplied, and summed. Every node has one shape and
one dtype, and says which Python line it came from.
""",
    loss.dump("ir"),
    40,
)

(gradient,) = ad.gradients(loss, [w])
assert gradient.shape == w.shape

show(
    "2. ir: the gradient",
    """
A gradient is more of the same graph. Read it backwards from the loss: each value's derivative is its users'
derivatives times the local ones: 2(y - t) for the square, 1 - y² for tanh. The derivative of an expansion is a sum, so
the last lines are a contraction with x again. Since this is ordinary IR, it could be differentiated once more.
""",
    gradient.dump("ir"),
    60,
)

show(
    "3. schedule: which loops will run",
    """
Loss and gradient are both held, so one plan computes both. Operations that only move or map elements have been folded
into the kernels that use them. Each value that does go to memory says why.
""",
    gradient.dump("schedule"),
    40,
)

show(
    "4. loops: what codegen gets",
    """
Flat buffers, affine indices, loops. Shapes, movement and derivatives are gone: `codegen` knows nothing of them.
""",
    gradient.dump("loops"),
    45,
)

show(
    "5. llvm: the loops as vectors",
    """
The text that goes to LLVM. Vectors are explicit and the arithmetic is exactly that of the loops: nothing is reordered
behind your back, so the result has the same bits on every run.
""",
    gradient.dump("llvm"),
    60,
)

show(
    "6. asm: what the processor runs",
    "\nThe same kernels as instructions of this machine.\n",
    gradient.dump("asm"),
    30,
)

print(f"\n{'=' * 100}\n7. and the numbers\n")
print("loss      ", loss.item())
print("gradient  ", gradient.numpy())
stats = ad.compiled_stats()
print(f"{stats['kernels_built']} kernels, compiled in {stats['compile_seconds'] * 1e3:.0f} ms")

a, b, c = x.numpy().astype(float), w.numpy().astype(float), t.numpy().astype(float)
s = np.tanh(a @ b)
np.testing.assert_allclose(loss.item(), np.mean((s - c) ** 2), rtol=1e-5)
np.testing.assert_allclose(gradient, a.T @ (2 * (s - c) * (1 - s**2)) / 4, rtol=1e-5)
