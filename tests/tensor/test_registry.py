"""Every record of the registry: values, dtypes, errors, derivatives, kinks."""

from __future__ import annotations

import numpy as np
import pytest

import tinyad as ad
from tinyad.registry import NOT_OPERATIONS, RECORDS, RESULTS

from .evaluate import close, invoke, tensors, values

CELLS = [(name, d.name) for name, r in RECORDS.items() for d in r.dtypes]
DIFFERENTIABLE = [name for name, r in RECORDS.items() if r.smooth is not None]


def widened(x, record):
    """Float arrays in float64, in sequences too; integers as well where the result is a float (as float32)."""
    if isinstance(x, np.ndarray):
        if record.wide and record.result == "float" and x.dtype.kind in "biu":
            return x.astype(np.float32).astype(np.float64)
        return x.astype(np.float64) if record.wide and x.dtype.kind == "f" else x
    return type(x)(widened(e, record) for e in x) if isinstance(x, (list, tuple)) else x


def samples_of(record, dtype):
    return record.samples(np.random.default_rng(0), np.dtype(dtype))


def check(record, sample, dtype, compiled=False):
    got = values(invoke(record, sample), compiled)
    with np.errstate(all="ignore"):
        want = record.reference(
            *widened(sample.args, record), **{k: widened(v, record) for k, v in sample.kwargs.items()}
        )
    want = list(want) if isinstance(want, (list, tuple)) else [want]
    assert len(got) == len(want)
    for g, w in zip(got, want, strict=True):
        shapes = [a.shape for a in sample.args if isinstance(a, np.ndarray)]
        message = f"{record.name} {dtype} {shapes} {sample.kwargs}"
        rule = RESULTS.get(record.result)
        assert g.dtype == (rule(np.dtype(dtype)) if rule else np.asarray(w).dtype), message
        close(g, w, record.ulps, record.scale, message)


def test_the_registry_is_total():
    named = set(RECORDS) | {a for r in RECORDS.values() for a in r.aliases}
    top = {n for n in named if "." not in n}
    assert top | NOT_OPERATIONS == set(ad.__all__)
    assert {n.removeprefix("linalg.") for n in RECORDS if n.startswith("linalg.")} == set(ad.linalg.__all__)
    assert not top & NOT_OPERATIONS


def test_aliases_are_the_same_function():
    for r in RECORDS.values():
        for alias in r.aliases:
            if "." not in alias:
                assert getattr(ad, alias) is r.function, alias


@pytest.mark.parametrize(("name", "dtype"), CELLS)
def test_value(name, dtype):
    record = RECORDS[name]
    for sample in samples_of(record, dtype):
        check(record, sample, dtype)


@pytest.mark.parametrize("name", RECORDS)
def test_compiled_value_of_some(name):
    record = RECORDS[name]
    dtype = next((d.name for d in record.dtypes if d.name == "float32"), record.dtypes[-1].name)
    for sample, _ in zip(samples_of(record, dtype), range(2), strict=False):
        check(record, sample, dtype, compiled=True)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dtype"), CELLS)
def test_compiled_value(name, dtype):
    record = RECORDS[name]
    for sample in samples_of(record, dtype):
        check(record, sample, dtype, compiled=True)


@pytest.mark.parametrize("name", RECORDS)
def test_errors(name):
    record = RECORDS[name]
    for bad in record.errors:
        with pytest.raises(bad.error) as caught:
            record.function(*tensors(bad.args), **bad.kwargs)
        assert bad.message in str(caught.value)


@pytest.mark.parametrize("name", [n for n, r in RECORDS.items() if r.family != "creation" and len(r.kinds) < 4])
def test_dtypes_that_are_not_claimed_are_refused(name):
    record = RECORDS[name]
    for dtype in ("bool", "int64", "uint8", "float64"):
        if np.dtype(dtype).kind not in record.kinds:
            with pytest.raises(TypeError):
                invoke(record, next(samples_of(record, dtype)))


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_derivatives(name):
    """Reverse = forward = difference quotients, to the order that is claimed."""
    record = RECORDS[name]
    for sample in record.smooth(np.random.default_rng(1)):
        arrays, call = split(record, sample)
        ad.check_grads(call, arrays, order=record.orders, atol=2e-5, rtol=2e-5)


def split(record, sample):
    """The float arrays of a sample, and the function of them alone."""
    places = [(i,) for i, a in enumerate(sample.args) if is_float(a)]
    lists = [(i, j) for i, a in enumerate(sample.args) if isinstance(a, list) for j, e in enumerate(a) if is_float(e)]
    names = [k for k, a in sample.kwargs.items() if is_float(a)]

    def call(*xs):
        given = iter(xs)
        args = [list(a) if isinstance(a, list) else a for a in sample.args]
        for path in places + lists:
            if len(path) == 1:
                args[path[0]] = next(given)
            else:
                args[path[0]][path[1]] = next(given)
        y = record.function(*args, **{**sample.kwargs, **{k: next(given) for k in names}})
        return [t for t in y if t.dtype.kind == "f"] if isinstance(y, (list, tuple)) else y

    arrays = [sample.args[p[0]] if len(p) == 1 else sample.args[p[0]][p[1]] for p in places + lists]
    return arrays + [sample.kwargs[k] for k in names], call


def is_float(a):
    return isinstance(a, np.ndarray) and a.dtype.kind == "f"


@pytest.mark.parametrize("name", [n for n, r in RECORDS.items() if r.kinks])
def test_kinks(name):
    record = RECORDS[name]
    for kink in record.kinks:
        args = tensors(kink.args)
        y = record.function(*args, **kink.kwargs).sum()
        inputs = [t for t in args if isinstance(t, ad.Tensor)]
        pairs = [(t, e) for t, e in zip(inputs, kink.expected, strict=True) if e is not None]
        for got, (_, want) in zip(values(ad.gradients(y, [t for t, _ in pairs])), pairs, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-12, err_msg=f"{name} at {kink.args}")
        first = ad.gradients(y, [t for t, _ in pairs])
        total = sum(g.sum() for g in first)
        if all(np.isfinite(e).all() for _, e in pairs):
            for got in values(ad.gradients(total, [t for t, _ in pairs])):
                assert np.isfinite(got).all(), f"{name}: second derivative at {kink.args} is {got}"


@pytest.mark.parametrize("name", [n for n, r in RECORDS.items() if not r.orders and r.family not in ("creation",)])
def test_what_has_no_derivative_says_so(name):
    """A result that is not real-valued cannot be differentiated; a real-valued one has derivative zero."""
    record = RECORDS[name]
    sample = next(samples_of(record, record.dtypes[-1]))
    args = tensors(sample.args)
    y = record.function(*args, **sample.kwargs)
    y = y[0] if isinstance(y, tuple) else y
    inputs = [a for a in args if isinstance(a, ad.Tensor) and a.dtype.kind == "f"]
    if y.dtype.kind == "f" and inputs:
        for g in values(ad.gradients(y.sum(), inputs)):
            assert not g.any()
    elif y.dtype.kind != "f":
        with pytest.raises(TypeError, match="requires real-valued outputs"):
            ad.gradients(y, args[0] if inputs else ad.tensor(1.0))
