"""The elementary functions: errors within `MAX_ULP`, special values, signed zeros."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from harness import REFERENCE, log_gamma, run, ulp_error

from codegen.math import MAX_ULP

ONE_ARGUMENT = [name for name in REFERENCE if name not in ("pow", "atan2")]
BOUNDED = {"sin": 1.0, "cos": 1.0, "tanh": 1.0, "erf": 1.0}


def check_f32(name: str, x: np.ndarray) -> float:
    """The largest error on float32 `x`, after asserting it, the signs and the range."""
    with np.errstate(all="ignore"):
        want = REFERENCE[name](x.astype(np.float64))
    got = run(name, x)
    error = ulp_error(got, want)
    k = int(np.argmax(error))
    assert error[k] <= MAX_ULP[name]["f32"], (x[k], got[k], want[k], error[k])
    number = ~np.isnan(got)
    assert np.array_equal(np.signbit(got[number]), np.signbit(want[number]))
    assert name not in BOUNDED or np.nanmax(np.abs(got)) <= BOUNDED[name]
    return float(error[k])


@pytest.mark.parametrize("name", ONE_ARGUMENT)
def test_f32_strided(name):
    check_f32(name, np.arange(0, 2**32, 3989, dtype=np.uint64).astype(np.uint32).view(np.float32))


def points(name: str, count: int) -> np.ndarray:
    """Doubles of all sizes and where functions are hard: near 1 and 0, multiples of pi/2, ends of exp's range."""
    rng = np.random.default_rng(11)
    any_bits = rng.integers(0, 2**64, count, np.uint64).view(np.float64)
    normal = rng.standard_normal(count)
    multiples = np.rint(rng.uniform(-(2**22), 2**22, count)) * (np.pi / 2)
    few = np.rint(rng.uniform(-100, 100, count)) * (np.pi / 2)
    pieces = [
        any_bits,
        normal,
        normal * 10,
        normal * 300,
        normal * 1e-3,
        1 + normal * 1e-2,
        1 + normal * 1e-8,
        -1 + np.abs(normal) * 1e-4,
        multiples,
        few,
        normal * np.exp(rng.uniform(3, 60, count)),
        rng.uniform(-1, 1, count),
        rng.uniform(0, 28, count),
        rng.uniform(-745.2, -700, count),
        np.array([6381956970095103.0 * 2.0**797, 709.782712893384, 709.7827128933841, -745.1332191019411, 5e-324]),
    ]
    return np.concatenate(pieces)


DOMAIN = {
    **dict.fromkeys(("exp", "expm1", "sinh", "cosh"), (-1000, 1000)),
    **dict.fromkeys(("log", "log2", "lgamma"), (0, math.inf)),
    **dict.fromkeys(("asin", "acos"), (-1, 1)),
    "log1p": (-1, math.inf),
    "erfc": (-math.inf, 26.54),  # from where on results are denormal
}

EXACT = {
    "exp": mpmath.exp,
    "log": mpmath.log,
    "expm1": mpmath.expm1,
    "log1p": mpmath.log1p,
    "sin": mpmath.sin,
    "cos": mpmath.cos,
    "log2": lambda x: mpmath.log(x) / mpmath.log(2),
    "tan": mpmath.tan,
    "sinh": mpmath.sinh,
    "cosh": mpmath.cosh,
    "tanh": mpmath.tanh,
    "asin": mpmath.asin,
    "acos": mpmath.acos,
    "erfc": mpmath.erfc,
    "cbrt": lambda x: mpmath.sign(x) * mpmath.cbrt(abs(x)),
    "lgamma": log_gamma,
    "atan": mpmath.atan,
    "erf": mpmath.erf,
    "pow": mpmath.power,
    "atan2": mpmath.atan2,
}


def f64_errors(name: str, *sources: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Errors in ulp against mpmath where the exact result is a normal number."""
    got = run(name, *sources)
    errors = np.zeros(len(got))
    with mpmath.workprec(200):
        for k, (y, *args) in enumerate(zip(got.tolist(), *(s.tolist() for s in sources))):
            exact = EXACT[name](*map(mpmath.mpf, args))
            rounded = float(exact)
            if math.isinf(rounded) or math.isinf(y):
                errors[k] = 0 if y == rounded else math.inf
            else:
                errors[k] = abs(float((mpmath.mpf(y) - exact) / math.ulp(rounded)))
    return got, errors


@pytest.mark.parametrize("name", ONE_ARGUMENT)
def test_f64_sampled(name):
    x = points(name, 250)
    x = x[np.isfinite(x)]
    low, high = DOMAIN.get(name, (-math.inf, math.inf))
    x = x[(low < x) & (x < high)]
    got, errors = f64_errors(name, x)
    k = int(np.argmax(errors))
    assert errors[k] <= MAX_ULP[name]["f64"], (x[k], got[k], errors[k])
    assert name not in BOUNDED or np.max(np.abs(got)) <= BOUNDED[name]


def pow_points(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(12)
    x = np.concatenate(
        [
            np.exp(rng.uniform(-700, 700, count)),
            np.abs(1 + rng.standard_normal(count) * 1e-3),
            1 + rng.standard_normal(count) * 1e-9,
            rng.uniform(0.5, 2, count),
            np.exp2(rng.uniform(-1074, -1022, count)),
        ]
    )
    return x, rng.uniform(-740, 740, len(x)) / np.maximum(np.abs(np.log(x)), 1e-300)


def test_f64_pow_sampled():
    x, y = pow_points(500)
    got, errors = f64_errors("pow", x, y)
    k = int(np.argmax(errors))
    assert errors[k] <= MAX_ULP["pow"]["f64"], (x[k], y[k], got[k], errors[k])


def test_f64_atan2_sampled():
    rng = np.random.default_rng(13)
    y, x = rng.standard_normal((2, 3000)) * np.exp(rng.uniform(-5, 5, (2, 3000)))
    got, errors = f64_errors("atan2", y, x)
    k = int(np.argmax(errors))
    assert errors[k] <= MAX_ULP["atan2"]["f64"], (y[k], x[k], got[k], errors[k])


@pytest.mark.parametrize("name", ["pow", "atan2"])
def test_f32_of_two_arguments_sampled(name):
    rng = np.random.default_rng(14)
    bits = rng.integers(0, 2**32, (2, 300000), np.uint64).astype(np.uint32).view(np.float32)
    a, b = pow_points(60000) if name == "pow" else rng.standard_normal((2, 300000)) * np.exp(rng.uniform(-5, 5, 300000))
    for x, y in (bits, (a.astype(np.float32), b.astype(np.float32))) if name == "atan2" else (bits, narrow(a, b)):
        got = run(name, x, y)
        with np.errstate(all="ignore"):
            errors = ulp_error(got, REFERENCE[name](x.astype(np.float64), y.astype(np.float64)))
        k = int(np.argmax(errors))
        assert errors[k] <= MAX_ULP[name]["f32"], (x[k], y[k], got[k], errors[k])


def narrow(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Arguments of pow scaled so that float32 results cover its range."""
    with np.errstate(all="ignore"):
        x = x.astype(np.float32)
        y = (y * (100 / 740)).astype(np.float32)
    return x, y
