"""Random programs as functions of their leaves: what `jit` computes is what a lazy read computes, to the bit."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from checking import same_bits
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from programs import CELLS, Program, make

import tinyad as ad
from tinyad.ir import Node, Op, toposort
from tinyad.realize import realize
from tinyad.tensor import Tensor
from tinyad.transforms.tracing import Body


def leaves_of(p: Program) -> list[Node]:
    """The stored nodes of a program, in an order that does not depend on its data."""
    return [n for n in toposort(p.roots) if n.op is Op.BUFFER]


def read(tensors: tuple[Tensor, ...]) -> list[Any]:
    realize([t.node for t in tensors])
    return [t.numpy().copy() for t in tensors]


def replay(seed: int, size: int, cell: tuple[str, str, str]) -> None:
    p, other = make(seed, size, cell), make(seed, size, cell, data=1)
    holes = leaves_of(p)

    def function(*args: Tensor) -> tuple[Tensor, ...]:
        return tuple([Tensor._of(n) for n in Body(p.roots, holes).on([a.node for a in args])])

    jitted = ad.jit(function)
    for program in (p, other, p):
        data = [n.buffer.array for n in leaves_of(program)]
        tensors = [Tensor(a) for a in data]
        want = read(function(*tensors))
        for args in (tensors, data):
            got = jitted(*args)
            for x, y in zip(got, want, strict=True):
                assert x.shape == y.shape and x.dtype == y.dtype
                assert same_bits(x.numpy(), y).all(), f"make({seed}, {size}, {cell})"
    assert jitted.trace_count == 1


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)
@given(seed=st.integers(0, 2**32), size=st.integers(0, 6), cell=st.sampled_from(CELLS))
def test_programs(seed: int, size: int, cell: tuple[str, str, str]) -> None:
    replay(seed, size, cell)


@pytest.mark.slow
def test_two_thousand_programs() -> None:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        for k in range(2000):
            replay(k, k % 9, CELLS[k % len(CELLS)])
