"""vmap is the loop."""

import numpy as np
import pytest

import tinyad as ad

RNG = np.random.default_rng(0)
A = RNG.normal(size=(4, 3, 5))
B = RNG.normal(size=(4, 5, 2))
V = RNG.normal(size=(4, 3))

FUNCTIONS = {
    "elementwise": (lambda v: ad.tanh(v) * 2 + ad.where(v > 0, v, ad.exp(v)), (V,)),
    "matmul": (lambda a, b: a @ b, (A, B)),
    "reduce": (lambda a: (a.sum(axis=0), a.max(axis=1), a.mean()), (A,)),
    "softmax": (lambda a: ad.softmax(a, axis=0), (A,)),
    "index": (lambda a: a[1:, ::2] + a[0, 0], (A,)),
    "take": (lambda v: v[ad.argmax(v)], (V,)),
    "write": (lambda v: _written(v), (V,)),
    "cumsum": (lambda a: ad.cumsum(a, axis=1), (A,)),
    "flip and pad": (lambda v: ad.pad(ad.flip(v), (1, 2)), (V,)),
    "concat": (lambda a, v: ad.concat([a, v[:, None]], axis=1), (A, V)),
    "sort": (lambda v: ad.sort(v), (V,)),
    "constant": (lambda v: ad.ones(2), (V,)),
    "grad": (lambda v: ad.grad(lambda u: ad.sum(u**3))(v), (V,)),
    "hessian": (lambda v: ad.hessian(lambda u: ad.sum(ad.sin(u) * u[0]))(v), (V,)),
}


def _written(v):
    out = ad.zeros(4, dtype=ad.float64)
    out[1:] = v
    out[0] = v.sum()
    return out


@pytest.mark.parametrize("name", FUNCTIONS)
def test_vmap_is_the_loop(name):
    f, args = FUNCTIONS[name]
    mapped = ad.vmap(f)(*args)
    rows = [f(*(ad.tensor(a[i]) for a in args)) for i in range(4)]
    for k in range(len(mapped) if isinstance(mapped, tuple) else 1):
        got, expected = (mapped[k], [r[k] for r in rows]) if isinstance(mapped, tuple) else (mapped, rows)
        np.testing.assert_allclose(got, np.stack([e.numpy() for e in expected]), rtol=1e-12)


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("out", [0, 1, -1])
def test_axes_in_and_out(axis, out):
    moved = np.moveaxis(A, 0, axis)
    got = ad.vmap(lambda a: a * 2, in_axes=axis, out_axes=out)(moved)
    np.testing.assert_array_equal(got, np.moveaxis(2 * A, 0, out))


def test_axes_are_prefixes_of_trees():
    tree = {"a": V, "b": [V.T, 3.0]}
    got = ad.vmap(lambda t, s: {"sum": t["a"] + t["b"][0] * t["b"][1] + s, "same": t["b"][1]},
                  in_axes=({"a": 0, "b": [1, None]}, None), out_axes={"sum": 1, "same": None})(tree, 1.0)  # fmt: skip
    np.testing.assert_allclose(got["sum"], (V + V * 3 + 1).T)
    assert got["same"] == 3.0 or got["same"].item() == 3.0


def test_keywords_are_mapped_over_axis_0():
    np.testing.assert_allclose(ad.vmap(lambda v, *, w: v * w)(V, w=V), V * V)


def test_closed_over_tensors_are_shared():
    w = ad.tensor(V[0], requires_grad=True)
    y = ad.vmap(lambda v: (v * w).sum())(V)
    y.sum().backward()
    np.testing.assert_allclose(w.grad, V.sum(axis=0))


def test_per_example_gradients():
    w = ad.tensor(V[0])
    g = ad.vmap(ad.grad(lambda w, v: ad.sum(w * w * v)), (None, 0))(w, V)
    np.testing.assert_allclose(g, 2 * V[0] * V)


def test_values_cannot_be_read_inside_and_the_error_says_what_to_use():
    def f(v):
        return v if v.sum() > 0 else -v

    with pytest.raises(ad.TraceError, match=r"ad\.where"):
        ad.vmap(f)(V)
    with pytest.raises(ad.TraceError, match=r"test_vmap\.py:\d+"):
        ad.vmap(ad.grad(lambda x: x * float(x)))(V[0])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ad.vmap(lambda a, b: a + b)(V, V[:2]), ValueError, "inconsistent sizes .*: 4, 2"),
        (lambda: ad.vmap(lambda a: a, in_axes=None)(V), ValueError, "at least one argument must be mapped"),
        (lambda: ad.vmap(lambda a: a, in_axes=2)(V), ValueError, "in_axes=2 is out of bounds for an array of dim"),
        (lambda: ad.vmap(lambda a: a, in_axes=(0, 0))(V), ValueError, "in_axes has 2 entries for 1 positional"),
        (lambda: ad.vmap(lambda a: a, out_axes=None)(V), ValueError, "out_axes is None for a result that depends"),
        (lambda: ad.vmap(lambda a: a)("text"), TypeError, "vmap: mapped arguments must be tensors"),
    ],
)
def test_wrong_calls(call, error, message):
    with pytest.raises(error, match=message):
        call()
