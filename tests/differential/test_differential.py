"""Random programs: what kernels compute is what the interpreter says, kernel by kernel; fused is unfused to the bit."""

from __future__ import annotations

import re
import sys
from itertools import permutations

import numpy as np
import pytest
from checking import Coverage, check, repeat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from programs import CELLS, Generator, Program, make

from tinyad import interpret as interpreter
from tinyad import ir, sites
from tinyad.buffer import copy
from tinyad.canonical import number
from tinyad.compare import Mismatch, by_tree, tree_reduce
from tinyad.interpret import interpret
from tinyad.ir import DTYPES, FLOAT32, Op
from tinyad.realize import realize, run
from tinyad.schedule.plan import plan_for

SIZES = 8  # actions of a program, at most


@settings(
    max_examples=200, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
@given(seed=st.integers(0, 2**32), size=st.integers(0, SIZES), cell=st.sampled_from(CELLS))
def test_programs(any_size: None, seed: int, size: int, cell: tuple[str, str, str]) -> None:
    check(make(seed, size, cell), make(seed, size, cell, data=1))
    if seed % 4 == 0:
        repeat(make(seed, size, cell))


@pytest.mark.slow
def test_two_thousand_programs_leave_no_cell_empty(capsys: pytest.CaptureFixture[str]) -> None:
    coverage = Coverage()
    for k in range(max(2000, len(CELLS))):
        cell, size = CELLS[k % len(CELLS)], k % (SIZES + 1)
        try:
            check(make(k, size, cell), make(k, size, cell, data=1), coverage)
        except Exception as e:
            raise AssertionError(f"make({k}, {_smallest(k, size, cell)}, {cell}): {e}") from e
    with capsys.disabled():
        print("\n" + coverage.table())
    for pair in range(0, 132, 12):
        check(casts(pair), coverage=coverage)
    for cell in coverage.missing():  # what was asked for was fused into a kernel of another kind
        for k in range(8):
            check(make(k, 0, cell), coverage=coverage)
    assert not coverage.missing()
    assert not [pair for pair in permutations(DTYPES, 2) if not coverage.casts[pair]]
    assert coverage.licensed <= coverage.programs // 100, "too many programs use the licence of masked contractions"


def _smallest(seed: int, size: int, cell: tuple[str, str, str]) -> int:
    """The least number of actions with which the program still fails."""
    for fewer in range(size):
        try:
            check(make(seed, fewer, cell))
        except Exception:
            return fewer
    return size


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_large_programs(seed: int) -> None:
    check(make(seed, 60), make(seed, 60, data=1))


def casts(first: int) -> Program:
    """A dozen of the 132 casts, from the `first` on, of every value that is unlike the others."""
    g = Generator(first)
    pairs = list(permutations(DTYPES.values(), 2))[first : first + 12]
    return Program([ir.cast(g.stored((7, 31), a, "special"), b) for a, b in pairs], first, 0, None)


@pytest.mark.parametrize("first", range(0, 132, 12))
def test_every_cast(first: int) -> None:
    check(casts(first))


# what the comparison stands on ----------------------------------------------------------------------------------------
def test_the_documented_tree_by_hand() -> None:
    """Four rows of three, by lanes of 16: each row is one block; ((0+1)+(2+3)) over rows, then over lanes."""
    x = np.array([[1e8, 1.0, 3.0], [-1e8, 4.0, 7.0], [0.5, 2.0, 1.0], [9.0, 2.0, 5.0]], np.float32)
    lanes = (x[0] + x[1]) + (x[2] + x[3])
    assert tree_reduce(x, True, np.add, -0.0) == (lanes[0] + lanes[2]) + lanes[1]
    column = np.arange(40, dtype=np.float32).reshape(40, 1) * np.float32(0.1)
    first = np.float32(0)
    for v in column[:32, 0]:
        first += v
    second = np.float32(0)
    for v in column[32:, 0]:
        second += v
    n = ir.sum_(ir.input((40, 2), FLOAT32), (0,))
    assert (by_tree(n, np.repeat(column, 2, 1)) == first + second).all()


@pytest.mark.parametrize("name", ["add", "exp", "reduce_max", "sum", "contraction"])
def test_a_wrong_value_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter off by a last place or two, or another tree: the smallest faults a kernel could have."""
    g = Generator(0)
    x = g.stored((16, 50), FLOAT32, "plain")
    y = {
        "add": ir.add(x, x),
        "exp": ir.exp(x),
        "reduce_max": ir.reduce(Op.REDUCE_MAX, x, (1,)),
        "sum": ir.sum_(x, (0, 1)),
        "contraction": g.matmul(x, g.stored((50, 7), FLOAT32, "plain")),
    }[name]
    check(Program([y], 0, 0, None))
    if name == "sum":
        monkeypatch.setattr("tinyad.compare.tree_reduce", lambda terms, *_: terms[0].sum(0))  # another order
    elif name == "contraction":
        monkeypatch.setattr("tinyad.compare.depth_of", lambda n, contraction: 0.1)
    else:
        right = interpreter.EVALUATE[Op(name)]
        scale = np.float32(1 + 2**-23 * (4 if name == "exp" else 1))
        monkeypatch.setitem(interpreter.EVALUATE, Op(name), lambda n, *a: right(n, *a) * scale)
    with pytest.raises(Mismatch):
        check(Program([y], 0, 0, None))


# indices out of range -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["i8", "i32", "i64", "u8", "u64"])
@pytest.mark.parametrize("what", ["gather", "scatter"])
@pytest.mark.parametrize("bad", ["size", "negative", "extreme"])
@pytest.mark.parametrize("fuse", [False, True])
def test_an_index_out_of_range_names_the_line(what: str, dtype: str, bad: str, fuse: bool) -> None:
    kind = DTYPES[dtype]
    value = {"size": 5, "negative": -1, "extreme": np.iinfo(kind).max}[bad]
    if bad == "negative" and kind.kind == "u":
        value = np.iinfo(kind).max // 2 + 1
    indices = np.zeros((3, 7), kind)
    indices[2, 5] = value
    idx = ir.buffer((3, 7), kind, copy(indices))
    x = ir.buffer((3, 5), FLOAT32, copy(np.ones((3, 5), np.float32)))
    if what == "gather":
        n = ir.gather(x, idx, 1)
    else:
        n = ir.scatter("sum", ir.buffer((3, 7), FLOAT32, copy(np.ones((3, 7), np.float32))), idx, 1, 5)
    n.site, line = sites.capture(), sys._getframe().f_lineno
    root = ir.exp(n)
    expected = re.escape(f"test_differential.py:{line}")
    with pytest.raises(IndexError, match=rf"out of bounds for axis 1 with size 5.*{expected}"):
        interpret([root])
    c = number([root])
    with pytest.raises(IndexError, match=rf"out of bounds for axis 1 with size 5.*{expected}"):
        run(plan_for(c, fuse), c)
    if fuse:
        with pytest.raises(IndexError, match="out of bounds"):
            realize([root])
        assert root.buffer is None
