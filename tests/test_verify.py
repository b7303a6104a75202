"""Legal graphs pass; a node that was changed behind the constructors' back is found and shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tinyad import ir
from tinyad.buffer import copy
from tinyad.errors import IRError
from tinyad.ir import BOOL, FLOAT32, FLOAT64, INT64, HostFunction, Node, Op
from tinyad.verify import ARITY, RULES, fault, verify

X = ir.input((4, 3), FLOAT32)
B = ir.input((4, 3), BOOL)
I = ir.input((4, 3), INT64)  # noqa: E741
COLUMN = ir.input((4, 1), FLOAT32)
SORT = HostFunction("sort", np.sort, lambda shape: shape, FLOAT32)

LEGAL: dict[str, Callable[[], Node]] = {
    "buffer": lambda: ir.buffer((2,), FLOAT32, copy(np.zeros(2, np.float32))),
    "const": lambda: ir.const(0.1, FLOAT32, (4, 3)),
    "integer": lambda: ir.const(-7, INT64, (4, 3)),
    "nan": lambda: ir.const(float("nan"), FLOAT32),
    "iota": lambda: ir.iota(5),
    "input": lambda: ir.input((4, 3), FLOAT32, X),
    "exp": lambda: ir.exp(X),
    "not": lambda: ir.not_(B),
    "cast": lambda: ir.cast(X, INT64),
    "bitcast": lambda: ir.bitcast(X, ir.INT32),
    "add": lambda: ir.add(X, X),
    "lt": lambda: ir.lt(I, I),
    "where": lambda: ir.where(B, X, X),
    "sum": lambda: ir.sum_(X, (0, 1)),
    "max": lambda: ir.reduce(Op.REDUCE_MAX, B, (1,)),
    "scan": lambda: ir.scan("sum", 1, X),
    "linrec": lambda: ir.scan("linrec", 0, X, X),
    "scatter": lambda: ir.scatter("set", X, I, 0, 9),
    "reshape": lambda: ir.reshape(X, (3, 4)),
    "permute": lambda: ir.permute(X, (1, 0)),
    "expand": lambda: ir.expand(COLUMN, (4, 5)),
    "pad": lambda: ir.pad(X, [(1, 0, 2), (0, 0, 0)]),
    "pad nothing": lambda: ir.pad(ir.input((0,), FLOAT32), [(1, 2, 3)]),
    "shrink": lambda: ir.shrink(X, [(0, 4, 3), (1, 1, 1)]),
    "flip": lambda: ir.flip(X, (1,)),
    "skew": lambda: ir.skew(X, 0, 1, -1, 2, 6),
    "cat": lambda: ir.cat([X, COLUMN], 1),
    "gather": lambda: ir.gather(X, ir.input((9, 3), INT64), 0),
    "detach": lambda: ir.detach(X),
    "fence": lambda: ir.fence(X),
    "custom": lambda: ir.custom(ir.neg(X), [X], [COLUMN], None),
    "call": lambda: ir.call(SORT, X),
}


def test_the_tables_are_total() -> None:
    assert set(RULES) == set(ARITY) == set(Op)


@pytest.mark.parametrize("name", LEGAL)
def test_legal_nodes_pass_and_wrong_types_do_not(name: str) -> None:
    n = LEGAL[name]()
    verify([n])
    if n.src:
        shape = n.shape
        n.shape = (*shape, 2)
        with pytest.raises(IRError):
            verify([n])
        n.shape, n.dtype = shape, ir.DTYPES["u16"]
        if n.op is not Op.CAST:
            with pytest.raises(IRError):
                verify([n])


BROKEN: list[tuple[str, dict[str, Any], str]] = [
    ("exp", {"shape": [4, 3]}, "shape is"),
    ("exp", {"shape": (4, -3)}, "shape is"),
    ("exp", {"shape": (np.int64(4), 3)}, "shape is"),
    ("exp", {"dtype": np.dtype(">f4")}, "none of the objects"),
    ("exp", {"dtype": np.float32}, "none of the objects"),
    ("exp", {"src": (I,)}, "dtype kinds f"),
    ("exp", {"src": (X, X)}, "has 2 sources"),
    ("exp", {"src": ()}, "has 0 sources"),
    ("exp", {"src": [X]}, "no tuple of nodes"),
    ("exp", {"src": (1,)}, "no tuple of nodes"),
    ("exp", {"op": "exp"}, "op is 'exp'"),
    ("exp", {"arg": 1}, "takes no argument"),
    ("buffer", {"shape": (3,)}, "its buffer holds"),
    ("const", {"arg": 1}, "no float"),
    ("const", {"arg": 0.1}, "not rounded"),
    ("integer", {"arg": True}, "no int"),
    ("integer", {"arg": 2**63}, "out of range"),
    ("iota", {"shape": (2, 2)}, "vector of integers"),
    ("input", {"arg": None}, "its number is None"),
    ("input", {"src": (COLUMN,)}, r"should be f32\[4,1\]"),
    ("bitcast", {"dtype": INT64}, "widths differ"),
    ("add", {"src": (X, COLUMN)}, "differ in type"),
    ("lt", {"dtype": INT64}, r"should be b1\[4,3\]"),
    ("where", {"src": (X, X, X)}, "condition"),
    ("where", {"src": (B, X, I)}, "differ in type"),
    ("sum", {"arg": ()}, "axes are"),
    ("sum", {"arg": [0, 1]}, "axes are"),
    ("sum", {"arg": (1, 0)}, "axes are"),
    ("sum", {"arg": (0, 2)}, "out of range"),
    ("sum", {"arg": (0,)}, r"should be f32\[1,3\]"),
    ("sum", {"src": (B,)}, "takes numbers"),
    ("scan", {"arg": ("mean", 0)}, "argument is"),
    ("scan", {"arg": ("sum", 2)}, "axis 2 is out"),
    ("scan", {"arg": ("linrec", 0)}, "linrec of 1"),
    ("scatter", {"arg": ("prod", 0, 9)}, "argument is"),
    ("scatter", {"arg": ("set", 0, -9)}, "size is"),
    ("scatter", {"src": (X, X)}, "no integer array"),
    ("scatter", {"src": (B, I), "arg": ("sum", 0, 9)}, "takes numbers"),
    ("reshape", {"shape": (3, 5)}, "number of elements"),
    ("permute", {"arg": (0, 0)}, "order is"),
    ("expand", {"src": (X,)}, "not of size 1"),
    ("expand", {"shape": (4,)}, "rank differs"),
    ("pad", {"arg": ((1, 0, 2),)}, "argument is"),
    ("pad", {"arg": ((1, 0, 2), (-1, 0, 0))}, "negative"),
    ("shrink", {"arg": ((0, 4, 3), (1, 4, 1))}, "1:4:1 of an axis of size 3"),
    ("flip", {"arg": (2,)}, "out of range"),
    ("skew", {"arg": (0, 0, -1, 2, 6)}, "argument is"),
    ("cat", {"arg": 0}, "beside axis 0"),
    ("gather", {"src": (COLUMN, ir.input((9, 3), INT64))}, "beside axis 0"),
    ("gather", {"src": (X, X)}, "no integer array"),
    ("fence", {"arg": "a"}, "its number"),
    ("custom", {"arg": (None, 3)}, "says 3 arguments"),
    ("custom", {"arg": None}, "argument is None"),
    ("call", {"arg": np.sort}, "argument is"),
    ("call", {"dtype": FLOAT64}, "should be"),
]


@pytest.mark.parametrize("name, change, why", BROKEN)
def test_a_broken_node_is_refused(name: str, change: dict[str, Any], why: str) -> None:
    n = LEGAL[name]()
    for attribute, v in change.items():
        setattr(n, attribute, v)
    with pytest.raises(IRError, match=why):
        verify([ir.Node(Op.DETACH, (n,), None, n.shape, n.dtype)])


def test_the_fault_is_shown_among_its_lines() -> None:
    n = X
    nodes = [n := ir.neg(n) for _ in range(20)]
    nodes[10].src = (COLUMN,)
    with pytest.raises(IRError) as e:
        verify([n])
    lines = str(e.value).splitlines()
    assert lines[0] == "neg: its type should be f32[4,1]"
    assert len(lines) == 1 + 7  # %0 is gone with what led to it: the header and the fault come first
    assert lines[2] == ">   %0: f32[4,3] = neg x0"
    nodes[10].src = (nodes[9],)
    nodes[10].arg = 0
    with pytest.raises(IRError) as e:
        verify([n])
    assert [line for line in str(e.value).splitlines() if line.startswith(">")] == [">   %10: f32[4,3] = neg[0] %9"]
    assert len(str(e.value).splitlines()) == 12


def test_a_cycle_is_found() -> None:
    n = X
    nodes = [n := ir.neg(n) for _ in range(5)]
    nodes[1].src = (nodes[3],)
    with pytest.raises(IRError, match="neg: depends on itself: neg <- neg <- neg <- neg"):
        verify([n])


def test_a_computed_node_without_sources_is_a_leaf() -> None:
    n = ir.exp(X)
    n.buffer = copy(np.zeros((4, 3), np.float32))
    n.src = ()
    assert fault(n) is None
    n.buffer = copy(np.zeros((4, 3)))
    assert fault(n) == "its buffer holds float64[4, 3]"


def test_long_chains_and_diamonds() -> None:
    n = X
    for _ in range(100_000):
        n = ir.neg(n)
    verify([n, n])
    v = X
    for _ in range(60):
        v = ir.add(v, v)
    verify([v])


def test_constructors_refuse_what_verify_would() -> None:
    builds: list[Callable[[], Node]] = [
        lambda: ir.expand(COLUMN, (4, -2)),
        lambda: ir.scatter("sum", X, I, 0, -1),
        lambda: ir.iota(-1),
        lambda: ir.cat([X, ir.input((4,), FLOAT32)], 1),
    ]
    for build in builds:
        with pytest.raises(IRError):
            build()
    verify([ir.cast(X, np.dtype(np.longlong))])


def test_a_folded_cast_is_rounded_once() -> None:
    v = 2**60 + 2**36 + 1  # float64 rounds it to the middle of two float32
    assert ir.cast(ir.const(v, INT64), FLOAT32).arg == float(np.int64(v).astype(np.float32))
