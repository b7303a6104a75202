"""TensorFlow's GradientTape in a few lines.

The tape of TensorFlow records what happens inside it. tinyad's tensors remember what they were made of anyway, so the
tape has nothing to record: it only says which gradients may be asked for, and how often.
"""

import tinyad as ad


class GradientTape:
    """The idiom of `tf.GradientTape`: one gradient per tape, unless it is persistent."""

    def __init__(self, persistent: bool = False) -> None:
        self.persistent = persistent
        self.used = False

    def __enter__(self) -> "GradientTape":
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def gradient(self, target, sources, output_gradients=None):
        if self.used and not self.persistent:
            raise RuntimeError("A non-persistent GradientTape can only be used to compute one set of gradients")
        self.used = True
        return ad.gradients(target, sources, output_gradients)


def variable(x) -> ad.Tensor:
    """As tf.Variable: what is computed from it keeps its history, even when it is printed halfway."""
    return ad.tensor(x, requires_grad=True)


# One gradient ---------------------------------------------------------------------------------------------------------
x = variable(3.0)
with GradientTape() as tape:
    y = x**2
print("y = x² at 3:            dy/dx =", tape.gradient(y, x).item())
try:
    tape.gradient(y, x)
except RuntimeError as error:
    print("once more:             ", error)
else:
    raise AssertionError("a used tape gave another gradient")

# Persistent: several targets, and intermediate results as sources -----------------------------------------------------
with GradientTape(persistent=True) as tape:
    y = x * x
    z = y * y
dz_dx, dz_dy, dy_dx = tape.gradient(z, x), tape.gradient(z, y), tape.gradient(y, x)
print("z = y², y = x² at 3:    dz/dx =", dz_dx.item(), " dz/dy =", dz_dy.item(), " dy/dx =", dy_dx.item())
assert (dz_dx.item(), dz_dy.item(), dy_dx.item()) == (108.0, 18.0, 6.0)

# Nested: the gradient taken inside the outer tape is an expression like any other -------------------------------------
x = variable(1.0)
with GradientTape() as outer:
    with GradientTape() as inner:
        y = x * x * x
    first = inner.gradient(y, x)
second = outer.gradient(first, x)
print("y = x³ at 1:            dy/dx =", first.item(), " d²y/dx² =", second.item())
assert (first.item(), second.item()) == (3.0, 6.0)

# A layer's variables at once, and control flow on values --------------------------------------------------------------
w, b = variable([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]]), variable([0.0, 0.0])
with GradientTape(persistent=True) as tape:
    out = ad.tensor([[1.0, 2.0, 3.0]]) @ w + b
    loss = (out * out).mean()
by_w, by_b = tape.gradient(loss, [w, b])
print("layer:                  dl/db =", by_b.numpy(), " dl/dw has shape", by_w.shape)
assert by_b.tolist() == [6.0, 6.0] and by_w.shape == w.shape

v0, v1 = variable(2.0), variable(2.0)
with GradientTape(persistent=True) as tape:
    result = v0 if x > 0 else v1**2  # only the branch that was taken is there
print("branch taken:           ", [g.item() for g in tape.gradient(result, [v0, v1])])
assert [g.item() for g in tape.gradient(result, [v0, v1])] == [1.0, 0.0]
