"""The Tensor as a Python object: identity, mutation, operators, NumPy's protocols, errors."""

from __future__ import annotations

import copy
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest

import tinyad as ad
from tinyad.ir import Op

from .evaluate import values


def tensor(*data, **kwargs):
    return ad.tensor(np.array(data, np.float64), **kwargs)


# identity and mutation --------------------------------------------------------------------------------------------
def test_hash_is_identity_and_equality_elementwise():
    a, b = tensor(1.0, 2.0), tensor(1.0, 3.0)
    assert len({a, b, a}) == 2
    assert (a == b).tolist() == [True, False]
    assert (a != b).tolist() == [False, True]
    assert (a == None) is False  # noqa: E711
    assert (a == "x") is False


def test_equal_expressions_are_two_variables():
    x = tensor(2.0)
    a, b = x + 1, x + 1
    y = a * b
    assert values(ad.gradients(y, a))[0] == 3
    assert a.node is not b.node


def test_no_handle_aliases_another():
    x = tensor(1.0, 2.0, 3.0)
    y = x[0]
    y += 1
    z = x.reshape(3)
    z *= 5
    w = ad.tensor(x)
    w[0] = 9
    assert x.tolist() == [1, 2, 3]
    assert (float(y), z.tolist(), w.tolist()) == (2, [5, 10, 15], [9, 2, 3])
    assert +x is not x
    assert x.reshape(3).node is not x.node


def test_a_recorded_graph_never_changes():
    x = tensor(3.0)
    y = (x * x).sum()
    old = ad.gradients(y, x)
    x += 100
    assert values(y, compiled=True)[0] == 9
    assert old.tolist() == [6]
    assert x.tolist() == [103]


def test_in_place_operators_keep_shape_and_dtype():
    x = ad.tensor([1, 2, 3], dtype="float32")
    same = x
    x += np.ones(3)
    assert same is x
    assert x.dtype == np.float32
    with pytest.raises(
        ValueError,
        match=r"non-broadcastable output operand with shape \(3,\) doesn't match the broadcast shape \(2, 3\)",
    ):
        x += ad.ones((2, 3))
    i = ad.tensor([1, 2])
    with pytest.raises(
        TypeError, match=r"Cannot cast output from dtype\('float32'\) to dtype\('int64'\) with casting rule 'same_kind'"
    ):
        i /= 2
    i *= 3
    i -= 1
    i **= 2
    i //= 2
    i %= 5
    i <<= 2
    i >>= 1
    i |= 1
    i &= 7
    i ^= 2
    want = np.array([1, 2])
    want = ((((((want * 3 - 1) ** 2 // 2) % 5) << 2) >> 1 | 1) & 7) ^ 2
    assert i.tolist() == want.tolist()


def test_a_requires_grad_leaf_is_not_written_in_place():
    w = tensor(1.0, 2.0, requires_grad=True)
    for write in (lambda: w.__iadd__(1), lambda: w.__setitem__(0, 1.0)):
        with pytest.raises(
            RuntimeError,
            match=r"a leaf Tensor that requires grad is being used in an in-place operation .*test_protocol.py:\d+",
        ):
            write()
    y = w * 2
    y += 1  # what is computed from it may be
    assert y.requires_grad


def test_update_under_no_grad_keeps_the_leaf():
    w = tensor(1.0, 2.0, requires_grad=True)
    (w * w).sum().backward()
    grad = w.grad
    with ad.no_grad():
        w -= 0.5 * w.grad
        w[0] = 7.0
    assert w.requires_grad
    assert w.is_leaf
    assert w.grad is grad
    assert w.tolist() == [7, 0]
    w.grad = None
    (w * w).sum().backward()
    assert w.grad.tolist() == [14, 0]
    w.assign([3, 4])
    assert (w.requires_grad, w.is_leaf, w.tolist()) == (True, True, [3, 4])


def test_assign_cuts_derivatives_and_many_updates_do_not_pile_up():
    w = tensor(1.0, requires_grad=True)
    with ad.no_grad():
        for _ in range(300):
            w -= 0.001 * w
            w.realize()
    depth, n = 0, w.node
    while n.src:
        n, depth = n.src[0], depth + 1
    assert depth < 5
    x = tensor(1.0)
    y = x * 2
    y.assign(x * 3)
    assert values(ad.gradients(y, x))[0] == [0]


def test_no_grad_results_have_no_derivative():
    x = tensor(2.0, requires_grad=True)
    with ad.no_grad():
        y = x * 3
    assert not y.requires_grad

    @ad.no_grad()
    def f(t):
        return t * 2

    assert not f(x).requires_grad
    assert (x * 3).requires_grad
    assert not x.detach().requires_grad


# making -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (1.5, "float32"),
        (1, "int64"),
        (True, "bool"),
        ([1, 2], "int64"),
        ([1, 2.5], "float32"),
        ([[True]], "bool"),
        ([], "float32"),
        (np.float64(1), "float64"),
        (np.float16(1), "float16"),
        (np.arange(3, dtype=np.int8), "int8"),
        ([np.float64(1)], "float64"),
        (np.array([1.0], ">f8"), "float64"),
    ],
)
def test_default_dtypes(data, dtype):
    t = ad.tensor(data)
    assert t.dtype == dtype
    np.testing.assert_array_equal(t.numpy(), np.asarray(data))


def test_sources_are_copied_and_views_read_only():
    a = np.zeros(3)
    t = ad.tensor(a)
    a += 1
    assert t.tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="read-only"):
        t.numpy()[0] = 1
    assert t.numpy().base is not None
    assert np.shares_memory(t.numpy(), t.numpy())


def test_what_cannot_be_a_tensor():
    with pytest.raises(TypeError, match="complex"):
        ad.tensor(1j)
    with pytest.raises(TypeError, match="cannot make a tensor from str"):
        ad.tensor("abc")
    with pytest.raises(TypeError, match="only tensors of floating point dtype can require gradients, got int64"):
        ad.tensor([1], requires_grad=True)
    with pytest.raises(ValueError, match="inhomogeneous"):
        ad.tensor([[1], [1, 2]])
    with pytest.raises(TypeError, match="complex"):
        ad.ones(2) * 1j
    with pytest.raises(AttributeError):
        ad.ones(2).colour = 1


def test_nested_lists_of_tensors():
    t = ad.tensor([[ad.tensor(1.0), ad.tensor(2.0)], [3.0, 4.0]])
    assert t.shape == (2, 2)
    assert t.dtype == np.float32
    np.testing.assert_array_equal(t.numpy(), [[1, 2], [3, 4]])


# operators --------------------------------------------------------------------------------------------------------
BINARY = ["+", "-", "*", "/", "//", "%", "**", "@", "<", "<=", ">", ">=", "==", "!="]


@pytest.mark.parametrize("op", BINARY)
def test_operators_and_reflected_ones(op):
    f = eval(f"lambda a, b: a {op} b")
    x, y = np.array([1.0, 2.0, 3.0]), np.array([3.0, 2.0, 0.5])
    for a, b in [(ad.tensor(x), ad.tensor(y)), (x, ad.tensor(y)), (ad.tensor(x), y)]:
        got = f(a, b)
        assert isinstance(got, ad.Tensor)
        np.testing.assert_allclose(values(got)[0], f(x, y), rtol=1e-14)
    if op != "@":
        np.testing.assert_allclose(values(f(2, ad.tensor(y)))[0], f(2, y), rtol=1e-14)
        np.testing.assert_allclose(values(f(ad.tensor(x), 2.0))[0], f(x, 2.0), rtol=1e-14)


@pytest.mark.parametrize("op", ["&", "|", "^", "<<", ">>"])
def test_bit_operators(op):
    f = eval(f"lambda a, b: a {op} b")
    x, y = np.array([1, 6, 12]), np.array([1, 2, 3])
    for a, b in [(ad.tensor(x), ad.tensor(y)), (x, ad.tensor(y)), (ad.tensor(x), 2), (2, ad.tensor(y))]:
        want = f(x if isinstance(a, ad.Tensor) else a, y if isinstance(b, ad.Tensor) else b)
        assert values(f(a, b))[0].tolist() == want.tolist()


def test_unary_operators():
    x = tensor(1.5, -2.0)
    assert [(-x).tolist(), (+x).tolist(), abs(x).tolist()] == [[-1.5, 2], [1.5, -2], [1.5, 2]]
    assert (~ad.tensor([True, False])).tolist() == [False, True]
    assert round(tensor(1.26), 1).tolist() == [1.3]
    q, r = divmod(tensor(7.0), 2)
    assert (q.tolist(), r.tolist()) == ([3], [1])


def test_foreign_types_get_not_implemented():
    class Other:
        def __radd__(self, other):
            return "radd"

        def __eq__(self, other):
            return "eq"

    x = tensor(1.0)
    assert x + Other() == "radd"
    assert (x == Other()) == "eq"
    assert x.__add__(Other()) is NotImplemented
    assert x.__iadd__("a") is NotImplemented
    for bad in ("a", None, [1.0]):
        with pytest.raises(TypeError):
            x + bad


def test_python_scalars_are_weak_and_numpy_ones_are_not():
    half = ad.tensor([1.0], dtype="float16")
    assert (half * 2.0).dtype == np.float16
    assert (half * 2).dtype == np.float16
    assert (half * True).dtype == np.float16
    assert (half * np.float64(2)).dtype == np.float64
    assert (half * np.float32(2)).dtype == np.float32
    ints = ad.tensor([1], dtype="int8")
    assert (ints + 1).dtype == np.int8
    assert (ints + 1.0).dtype == np.float32
    assert (ints / ints).dtype == np.float32
    assert (ints + True).dtype == np.int8
    assert (ad.tensor([True]) + 1).dtype == np.int64
    with pytest.raises(OverflowError, match="Python integer 300 out of bounds for int8"):
        ints + 300
    assert (ints < 300).tolist() == [True]
    assert (ints == 300).tolist() == [False]
    assert (ints > -300).tolist() == [True]
    assert (300 > ints).tolist()  # noqa: SIM300
    assert (ints < 300).tolist() == [True]
    assert (ints >= 300).tolist() == [False]


def test_small_integer_powers_are_products():
    x = tensor(3.0)
    assert (x**2).node.op is Op.MUL
    assert (x**3).tolist() == [27]
    assert (x**-2).tolist() == [1 / 9]
    assert (x**0).tolist() == [1]
    assert (x**0.5).node.op is Op.SQRT
    assert (ad.tensor([-2, 3]) ** 3).tolist() == [-8, 27]


# NumPy's protocols ------------------------------------------------------------------------------------------------
def test_numpy_functions_that_call_methods():
    a = np.arange(6.0).reshape(2, 3)
    t = ad.tensor(a)
    for f in (
        np.sum,
        np.mean,
        np.prod,
        np.max,
        np.min,
        np.std,
        np.var,
        np.any,
        np.all,
        np.argmax,
        np.cumsum,
        np.transpose,
        np.squeeze,
    ):
        got = f(t)
        assert isinstance(got, ad.Tensor), f.__name__
        np.testing.assert_allclose(values(got)[0], f(a), rtol=1e-12)
    np.testing.assert_allclose(values(np.sum(t, axis=1, keepdims=True))[0], np.sum(a, axis=1, keepdims=True))
    np.testing.assert_allclose(values(np.reshape(t, (3, 2)))[0], a.reshape(3, 2))
    np.testing.assert_allclose(values(np.clip(t, 1, 4))[0], a.clip(1, 4))
    np.testing.assert_allclose(values(np.round(t, 1))[0], a)
    np.testing.assert_array_equal(np.asarray(t), a)
    assert np.asarray(t, dtype=np.float32).dtype == np.float32
    assert values(sum([t, t]))[0].tolist() == (a + a).tolist()


def test_arrays_of_objects():
    make = np.vectorize(ad.tensor, otypes=[object])
    a = make(np.array([[1.0, 2.0], [3.0, 4.0]]))
    b = make(np.array([[5.0, 6.0], [7.0, 8.0]]))
    assert float(np.sum(a)) == 10
    c = np.dot(a, b)
    assert [[float(e) for e in row] for row in c] == [[19, 22], [43, 50]]
    assert float((a + b)[0, 1]) == 8
    scaled = ad.tensor(2.0) * a
    assert isinstance(scaled, np.ndarray)
    assert float(scaled[1, 1]) == 8
    assert float((a * ad.tensor(2.0))[1, 0]) == 6
    assert float(np.exp(a)[0, 0]) == pytest.approx(np.e)
    g = ad.gradients(np.sum(a * a), a[1, 0])
    assert float(g) == 6


def test_array_protocol():
    t = tensor(1.0, 2.0) * 2
    with pytest.raises(ValueError, match="Unable to avoid copy"):
        np.array(t, copy=False)
    assert np.array(t).flags.writeable
    assert t.__array_namespace__() is ad
    assert t.__array_namespace__(api_version="2023.12") is ad
    with pytest.raises(ValueError, match="unsupported array API version"):
        t.__array_namespace__(api_version="1999.01")
    assert np.from_dlpack(t).tolist() == [2, 4]
    assert ad.from_dlpack(np.arange(3)).tolist() == [0, 1, 2]
    assert t.__dlpack_device__() == (1, 0)
    assert t.to_device("cpu") is t
    assert t.device == "cpu"


def test_scalars():
    assert float(tensor(2.5)) == 2.5
    assert int(ad.tensor(3)) == 3
    assert bool(ad.tensor([True]))
    assert [10, 20][ad.tensor(1)] == 20
    assert f"{tensor(1.23456):.2f}" == "1.23"
    with pytest.raises(ValueError, match="The truth value of an array with more than one element is ambiguous"):
        bool(ad.ones(2))
    with pytest.raises(TypeError, match="only length-1 arrays can be converted to Python scalars"):
        float(ad.ones(2))
    with pytest.raises(ValueError, match="can only convert an array of size 1 to a Python scalar"):
        ad.ones(2).item()
    with pytest.raises(TypeError, match="only integer scalar arrays can be converted to a scalar index"):
        range(ad.tensor(1.0))
    with pytest.raises(TypeError, match="len\\(\\) of unsized object"):
        len(ad.tensor(1.0))
    with pytest.raises(TypeError, match="iteration over a 0-d array"):
        iter(ad.tensor(1.0))
    assert 2.0 in tensor(1.0, 2.0)
    assert 5.0 not in tensor(1.0, 2.0)


def test_attributes():
    t = ad.ones((2, 3, 4), dtype="float16")
    assert (t.shape, t.ndim, t.size, t.nbytes, len(t)) == ((2, 3, 4), 3, 24, 48, 2)
    assert t.T.shape == (4, 3, 2)
    assert t.mT.shape == (2, 4, 3)


def test_repr_shows_value_shape_and_dtype():
    assert repr(tensor(1.0, 2.5)) == "Tensor([1. , 2.5], shape=(2,), dtype=float64)"
    assert str(ad.tensor(2, dtype="int8")) == "Tensor(2, shape=(), dtype=int8)"
    assert repr(tensor(1.0, requires_grad=True)).endswith("requires_grad=True)")
    assert "..." in repr(ad.zeros(5000))


def test_copies_and_pickles():
    w = tensor(1.0, 2.0, requires_grad=True)
    (w * 2).sum().backward()
    for other in (copy.deepcopy(w), pickle.loads(pickle.dumps(w))):
        assert other.tolist() == w.tolist()
        assert other.requires_grad
        assert other.is_leaf
    assert copy.deepcopy(w).grad.tolist() == [2, 2]
    alias = copy.copy(w)
    assert values(ad.gradients((alias * 3).sum(), w))[0].tolist() == [3, 3]
    assert pickle.loads(pickle.dumps(w * 2)).tolist() == [2, 4]


# errors -----------------------------------------------------------------------------------------------------------
GOLDEN = {
    "add": (
        lambda a, b: a + b[0],
        "operands could not be broadcast together with shapes (2,3) (4,) (f64[2,3] made at {a}; f64[4] made at {b0})",
    ),
    "matmul": (
        lambda a, b: a @ b,
        "matmul: Input operand 1 has a mismatch in its core dimension 0, with gufunc signature (n?,k),(k,m?)->(n?,m?) "
        "(size 5 is different from 3) (f64[2,3] made at {a}; f64[5,4] made at {b})",
    ),
    "reshape": (lambda a, b: a.reshape(4), "cannot reshape array of size 6 into shape (4,) (f64[2,3] made at {a})"),
    "axis": (lambda a, b: a.sum(axis=2), "axis 2 is out of bounds for array of dimension 2"),
    "index": (lambda a, b: a[2], "index 2 is out of bounds for axis 0 with size 2 (f64[2,3] made at {a})"),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_error_texts(name):
    f, text = GOLDEN[name]
    a = ad.tensor(np.zeros((2, 3)))
    b = ad.tensor(np.zeros((5, 4)))
    with pytest.raises((ValueError, IndexError)) as caught:
        f(a, b)
    got = re.sub(r"[\w/]*test_protocol\.py:\d+", "HERE", str(caught.value))
    assert got == re.sub(r"\{\w+\}", "HERE", text)


# import and cost --------------------------------------------------------------------------------------------------
def test_import_is_light():
    heavy = "sorted(m for m in sys.modules if m.split('.')[0] in ('llvmlite', 'scipy'))"
    code = f"import sys, tinyad; print({heavy}, len(tinyad.__all__))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.startswith("[] ")


def test_every_public_name_exists():
    for name in ad.__all__:
        assert hasattr(ad, name), name
    with pytest.raises(AttributeError):
        _ = ad.no_such_thing


def test_out_and_device_keywords():
    x = tensor(1.0)
    assert ad.sum(x, out=None).tolist() == 1
    assert ad.zeros(2, device="cpu").tolist() == [0, 0]
    with pytest.raises(TypeError, match="out"):
        ad.sum(x, out=np.zeros(3))
