"""64-bit integers in vectors, on every instruction set this machine runs: conversions and division, exactly."""

from __future__ import annotations

import numpy as np
import pytest
from harness import NUMPY, run
from levels import runnable_levels

SPECIAL = [0, 1, 2, 3, 5, 10, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**52, 2**53 - 1, 2**53, 2**53 + 1, 2**62, 2**63 - 1]


def integers(name: str, count: int = 4000) -> np.ndarray:
    """Of all sizes, near powers of two, and the ends of the range."""
    rng = np.random.default_rng(5)
    bits = rng.integers(0, 2**64, count, np.uint64)
    sized = bits >> rng.integers(0, 64, count).astype(np.uint64)
    near = (np.uint64(1) << rng.integers(0, 64, count).astype(np.uint64)) + rng.integers(-3, 4, count).astype(np.uint64)
    special = np.array(SPECIAL, np.uint64)
    both = np.concatenate([special, ~special, -special, bits, sized, near])
    return both.view(NUMPY[name])


@pytest.mark.parametrize("level", runnable_levels())
@pytest.mark.parametrize("name", ["i64", "u64"])
def test_division(level: str, name: str) -> None:
    x = integers(name)
    rng = np.random.default_rng(6)
    for y in (rng.permutation(x), x, x - 1, x + 1, np.full_like(x, 3), np.full_like(x, 1), np.full_like(x, 2**62)):
        minus = -1 if name == "i64" else 1
        keep = (y != 0) & ~((x == np.iinfo(x.dtype).min) & (y == minus) & (name == "i64"))
        a, b = x[keep], y[keep]
        with np.errstate(all="ignore"):
            assert np.array_equal(run("idiv", a, b, target=level), a // b)
            assert np.array_equal(run("mod", a, b, target=level), a % b)


@pytest.mark.parametrize("level", runnable_levels())
@pytest.mark.parametrize("name", ["i64", "u64"])
@pytest.mark.parametrize("to", ["f16", "f32", "f64"])
def test_to_floats_rounds_once(level: str, name: str, to: str) -> None:
    x = integers(name)
    halfway = (x >> np.array(40, x.dtype) << np.array(40, x.dtype)) | np.array(1 << 39, x.dtype)
    for values in (x, halfway, halfway + 1, halfway - 1):
        with np.errstate(all="ignore"):
            assert np.array_equal(run("cast", values, result=to, target=level), values.astype(NUMPY[to]))


@pytest.mark.parametrize("level", runnable_levels())
@pytest.mark.parametrize("source", ["f16", "f32", "f64"])
@pytest.mark.parametrize("to", ["i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64"])
def test_from_floats_saturates(level: str, source: str, to: str) -> None:
    kind = NUMPY[source]
    rng = np.random.default_rng(7)
    info = np.iinfo(NUMPY[to])
    with np.errstate(all="ignore"):
        ends = np.array([*SPECIAL, info.min, info.max, 0.5, 0.99, np.inf], kind)
        ends = np.concatenate([ends, np.nextafter(ends, kind(0)), np.nextafter(ends, kind(np.inf))])
        scaled = (rng.uniform(-2, 2, 4000) * float(info.max)).astype(kind)
        x = np.concatenate([ends, -ends, [kind(np.nan)], scaled, rng.uniform(-300, 300, 4000).astype(kind)])
        x = x.astype(kind)
    want = [0 if v != v else min(max(v if abs(v) == np.inf else int(v), info.min), info.max) for v in x.tolist()]
    assert run("cast", x, result=to, target=level).tolist() == [int(v) for v in want]
