"""Reading and writing by index against NumPy, on random indices of every kind."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinyad as ad

from .evaluate import values


def slices(n):
    place = st.one_of(st.none(), st.integers(-n - 1, n + 1))
    return st.builds(slice, place, place, st.sampled_from([None, 1, 2, 3, -1, -2]))


@st.composite
def indices(draw):
    """A shape, and an index of ints, slices, None, `...`, masks and integer arrays for it."""
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    common = draw(st.sampled_from([(), (1,), (2,), (2, 3), (0,)]))
    items, axis, dotted = [], 0, False
    while axis < len(shape):
        kind = draw(st.sampled_from(["int", "slice", "slice", "none", "dots", "array", "mask", "stop"]))
        n = shape[axis]
        if kind == "stop":
            break
        if kind == "none":
            if sum(i is None for i in items) < 2:
                items.append(None)
            continue
        if kind == "dots":
            if not dotted:
                items.append(Ellipsis)
                dotted = True
                axis += draw(st.integers(0, len(shape) - axis))
            continue
        if kind == "int":
            items.append(draw(st.integers(-n, n - 1)))
        elif kind == "slice":
            items.append(draw(slices(n)))
        elif kind == "mask" and not dotted:
            items.append(np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n))))
        else:
            array = draw(st.lists(st.integers(-n, n - 1), min_size=int(np.prod(common)), max_size=int(np.prod(common))))
            items.append(np.array(array, np.int64).reshape(common))
        axis += 1
    return shape, items[0] if len(items) == 1 and draw(st.booleans()) else tuple(items)


def same_or_both_refuse(f, g):
    """The results of both, or None if NumPy refuses: then tinyad must refuse too."""
    try:
        want = f()
    except (IndexError, ValueError) as e:
        with pytest.raises((IndexError, ValueError)):
            g().realize()
        assert str(e)
        return None
    return want, g()


def dynamic(index):
    """Integer arrays as tensors."""
    if isinstance(index, tuple):
        return tuple(map(dynamic, index))
    return ad.tensor(index) if isinstance(index, np.ndarray) and index.dtype.kind == "i" else index


@settings(max_examples=250, deadline=None)
@given(indices(), st.booleans())
def test_reading(case, computed):
    shape, index = case
    x = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    pair = same_or_both_refuse(lambda: x[index], lambda: ad.tensor(x)[dynamic(index) if computed else index])
    if pair is not None:
        np.testing.assert_array_equal(values(pair[1])[0], pair[0])


@settings(max_examples=250, deadline=None)
@given(indices(), st.booleans(), st.sampled_from(["scalar", "full", "row", "wrong"]))
def test_writing(case, computed, kind):
    shape, index = case
    x = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    try:
        part = x[index].shape
    except (IndexError, ValueError):
        return
    value = {
        "scalar": -1.0,
        "full": -np.arange(np.prod(part), dtype=np.float64).reshape(part) - 1,
        "row": -np.arange(part[-1], dtype=np.float64) - 1 if part else np.array(-1.0),
        "wrong": np.zeros((*part, 5)),
    }[kind]
    t = ad.tensor(x)

    def numpy_write():
        y = x.copy()
        y[index] = value
        return y

    def our_write():
        t[dynamic(index) if computed else index] = value
        return t

    try:
        want = numpy_write()
    except (ValueError, TypeError):
        with pytest.raises(ValueError, match=r"could not broadcast|shape"):
            our_write()
        return
    np.testing.assert_array_equal(values(our_write())[0], want)


@settings(max_examples=60, deadline=None)
@given(indices())
def test_derivative_of_reading_is_the_write(case):
    """<x[i], u> = <x, scatter(u)> exactly, on integers."""
    shape, index = case
    x = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    try:
        part = x[index]
    except (IndexError, ValueError):
        return
    u = np.arange(part.size, dtype=np.float64).reshape(part.shape) + 1
    want = np.zeros(shape)
    np.add.at(want, index, u)
    t = ad.tensor(x)
    (got,) = values(ad.gradients((t[index] * u).sum(), t))
    np.testing.assert_array_equal(got, want)


def test_derivative_of_writing():
    x, v = ad.tensor(np.arange(6.0)), ad.tensor(np.array([1.0, 2.0, 3.0]))
    y = x * 1.0
    y[np.array([1, 1, 4])] = v * 10
    gx, gv = values(ad.gradients((y * np.arange(1.0, 7.0)).sum(), [x, v]))
    np.testing.assert_array_equal(gx, [1, 0, 3, 4, 0, 6])
    np.testing.assert_array_equal(gv, [0, 20, 50])  # of equal places the last one wins


BAD = [
    (5, IndexError, "index 5 is out of bounds for axis 0 with size 3"),
    (-4, IndexError, "index -4 is out of bounds for axis 0 with size 3"),
    ((0, 4), IndexError, "index 4 is out of bounds for axis 1 with size 4"),
    (np.array([0, 3]), IndexError, "index 3 is out of bounds for axis 0 with size 3"),
    ((0, 0, 0), IndexError, "too many indices for array: array is 2-dimensional, but 3 were indexed"),
    (1.5, IndexError, "only integers, slices (`:`), ellipsis (`...`), numpy.newaxis (`None`)"),
    ("a", IndexError, "only integers, slices"),
    (np.array([0.5]), IndexError, "arrays used as indices must be of integer (or boolean) type"),
    ((..., ...), IndexError, "an index can only have a single ellipsis ('...')"),
    (np.array([True, False]), IndexError, "boolean index did not match indexed array along axis 0; size of axis is 3"),
    ((np.array([0, 1]), np.array([0, 1, 2])), IndexError, "shape mismatch: indexing arrays could not be broadcast"),
]


@pytest.mark.parametrize(("index", "error", "message"), BAD)
def test_bad_indices_are_refused_when_written(index, error, message):
    x = ad.zeros((3, 4))
    with pytest.raises(error) as read:
        x[index]
    with pytest.raises(error) as write:
        x[index] = 0
    assert message in str(read.value)
    assert message in str(write.value)


def test_a_computed_index_out_of_bounds_raises_when_read():
    x = ad.tensor(np.arange(3.0))
    y = x[ad.tensor([0, 5])]
    with pytest.raises(IndexError, match=r"index 5 is out of bounds for axis 0 with size 3 .*test_indexing.py:\d+"):
        values(y)
    z = ad.zeros((3, 4))[ad.tensor([1]), ad.tensor([7])]  # must not wrap into the next row
    with pytest.raises(IndexError, match="out of bounds"):
        values(z)


def test_value_that_does_not_fit():
    x = ad.zeros((2, 3))
    with pytest.raises(ValueError, match=r"could not broadcast input array from shape \(2,\) into shape \(3,\)"):
        x[0] = np.zeros(2)


def test_iteration_and_unpacking():
    a, b = ad.tensor([[1, 2], [3, 4]])
    assert a.tolist() == [1, 2]
    assert b.tolist() == [3, 4]
    assert [int(e) for e in a] == [1, 2]


@pytest.mark.parametrize("index", [True, False, np.True_, (True, 0), (0, None, True), np.array(True), ([0, 1], True)])
def test_single_bools(index):
    x = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(values(ad.tensor(x)[index])[0], x[index])


def test_compiled_indexing():
    x = np.arange(24.0).reshape(2, 3, 4)
    t = ad.tensor(x)
    for index in [
        (0, slice(None, None, -2)),
        (slice(1, None), [2, 0]),
        ([1, 0], slice(None), [3, 3]),
        x > 7,
        (..., None, 1),
    ]:
        np.testing.assert_array_equal(t[index].numpy(), x[index])
        u, y = ad.tensor(x), x.copy()
        u[index] = -1.0
        y[index] = -1.0
        np.testing.assert_array_equal(u.numpy(), y)


def test_a_computed_mask_with_one_value_is_lazy_and_differentiable():
    x = ad.tensor(np.array([-1.0, 2.0, -3.0]))
    y = x * 1
    mask = y < 0
    y[mask] = 0
    assert mask.node.buffer is None  # nothing was computed
    assert values(ad.gradients((y * y).sum(), x))[0].tolist() == [0, 4, 0]
    z = ad.zeros((2, 3))
    z[ad.tensor([False, True])] = [1, 2, 3]
    assert z.tolist() == [[0, 0, 0], [1, 2, 3]]
    y[y > 1] = np.array([7.0])  # one value for each place: the places are computed
    assert y.tolist() == [0, 7, 0]
