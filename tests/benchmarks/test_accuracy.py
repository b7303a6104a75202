"""Errors of float32 functions over all their arguments, or every 1021st of them, are within `MAX_ULP`."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from accuracy import CHUNK, COMPOSED, arguments, errors, largest

from codegen.math import MAX_ULP
from codegen.scalar import ELEMENTARY
from tinyad import ir
from tinyad.ir import FLOAT32, FLOAT64, Node
from tinyad.realize import realize

STRIDE = 1021


def bound(name: str) -> float:
    return MAX_ULP[name]["f32"] if name in MAX_ULP else COMPOSED[name]


@pytest.mark.parametrize("name", [*ELEMENTARY, *COMPOSED])
def test_every_so_many_arguments(name: str) -> None:
    worst, where = largest(name, [0], STRIDE, (1 << 32) // STRIDE)
    assert worst <= bound(name), where


@pytest.mark.slow
@pytest.mark.parametrize("name", [*ELEMENTARY, *COMPOSED])
def test_every_argument(name: str) -> None:
    worst, where = largest(name, range(0, 1 << 32, CHUNK))
    assert worst <= bound(name), where


def test_the_error_is_measured_right() -> None:
    """One unit off, a wrong sign of zero, a lost NaN and the step to infinity, by a function that makes them."""
    wide = np.array([1.5, 0.0, np.nan, 3.4028235677973366e38, 2.0**-149, np.inf])
    narrow = np.array([1.5 + 2**-23, -0.0, 1.0, np.inf, 2.0**-148, np.inf], np.float32)

    def function(x: Node) -> Node:
        array = narrow if x.dtype is FLOAT32 else wide
        terms = [ir.const(float(v), x.dtype, (1,)) for v in array]
        return ir.cat(terms, 0)

    found = errors(function, arguments(0, 1, len(wide)))
    realize([found])
    got = found.buffer.array
    assert got[0] == 1 and np.isinf(got[1:3]).all() and got[3] == 0.5 and got[4] == 1 and got[5] == 0
    assert found.dtype is FLOAT64


def test_the_table_in_the_documentation_is_the_one_in_the_code() -> None:
    text = (Path(__file__).parent.parent.parent / "ARCHITECTURE.md").read_text()
    rows = re.findall(r"^\| (\w+) \| ([\d.]+) \| ([\d.]+) \|$", text, re.M)
    assert {name: {"f32": float(a), "f64": float(b)} for name, a, b in rows} == MAX_ULP
