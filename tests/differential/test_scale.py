"""Graphs of 100,000 nodes, 10,000 wide, 60 levels of diamonds: linear time at every stage, default recursion limit."""

from __future__ import annotations

import gc
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from tinyad import ir
from tinyad.autodiff import gradient
from tinyad.buffer import copy, usage
from tinyad.canonical import number
from tinyad.interpret import interpret
from tinyad.ir import FLOAT64, Node
from tinyad.realize import run
from tinyad.schedule.plan import make_plan

Graph = Callable[[int], tuple[Node, Node]]
BUDGET = {"build": 3.0, "differentiate": 10.0, "schedule": 30.0}  # µs a node
SLACK = 3.0  # machines differ and are shared
GROWTH = 2.2  # of the time a node when the graph is four times as large


@pytest.fixture(autouse=True)
def _plain_interpreter() -> Iterator[None]:
    """The default recursion limit; what other tests left alive is out of the collector's way."""
    old = sys.getrecursionlimit()
    sys.setrecursionlimit(1000)
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
    sys.setrecursionlimit(old)


def stored(shape: tuple[int, ...], value: float) -> Node:
    return ir.buffer(shape, FLOAT64, copy(np.full(shape, value)))


def chain(n: int) -> tuple[Node, Node]:
    """n operations, one after the other."""
    x, c = stored((8,), 0.7), ir.const(0.3, FLOAT64, (8,))
    v = x
    for _ in range(n // 2):
        v = ir.add(ir.mul(v, c), x)
    return x, v


def wide(n: int) -> tuple[Node, Node]:
    """The sum of n stored arrays."""
    xs = [stored((4,), float(i % 7)) for i in range(n)]
    v = xs[0]
    for t in xs[1:]:
        v = ir.add(v, t)
    return xs[1], v


def stack(n: int) -> tuple[Node, Node]:
    """n stored arrays, one after the other."""
    xs = [stored((1, 4), float(i)) for i in range(n)]
    return xs[1], ir.cat(xs, 0)


def computed_stack(n: int) -> tuple[Node, Node]:
    """n values of their own, one after the other."""
    xs = [stored((1, 4), float(i)) for i in range(n // 2)]
    return xs[1], ir.cat([ir.neg(x) for x in xs], 0)


def fan(n: int) -> tuple[Node, Node]:
    """A value read n / 2 times."""
    x = stored((4,), 0.01)
    y = ir.mul(x, x)
    v = x
    for _ in range(n):
        v = ir.add(v, y)
    return x, v


def layers(n: int) -> tuple[Node, Node]:
    """A network of n / 6 layers, each a product with a matrix and a function: a kernel each, all of them alike."""
    x = h = stored((2, 4), 1.0)
    w = ir.expand(ir.reshape(ir.buffer((4, 4), FLOAT64, copy(np.eye(4))), (1, 4, 4)), (2, 4, 4))
    for _ in range(n // 6):
        product = ir.mul(ir.expand(ir.reshape(h, (2, 4, 1)), (2, 4, 4)), w)
        h = ir.neg(ir.reshape(ir.sum_(product, (1,)), (2, 4)))
    return x, h


@contextmanager
def clock(seconds: dict[str, float], stage: str) -> Iterator[None]:
    begin = time.perf_counter()
    yield
    seconds[stage] = min(seconds.get(stage, np.inf), time.perf_counter() - begin)


def measure(graph: Graph, n: int, repeats: int) -> tuple[int, dict[str, float]]:
    """The number of nodes and the least seconds of each stage. Values are checked, and that all memory is freed."""
    seconds: dict[str, float] = {}
    nodes = 0
    for turn in range(repeats):
        before = usage()["live_bytes"]
        with clock(seconds, "build"):
            x, y = graph(n)
        with clock(seconds, "differentiate"):
            (g,) = gradient([y], [x], [ir.const(1.0, FLOAT64, y.shape)])
        assert g is not None
        nodes = len(ir.toposort([y]))
        with clock(seconds, "number"):
            c = number([y])
        with clock(seconds, "schedule"):
            plan = make_plan(c)
        arrays = run(plan, c)  # compiles
        with clock(seconds, "run"):
            arrays = run(plan, c)
        held = arrays[plan.results[0][0]]
        assert held is not None
        if not turn:
            assert held.array.reshape(y.shape).tobytes() == interpret([y])[0].tobytes()
        gone = weakref.ref(y)
        del c, plan, arrays, held
        with clock(seconds, "free"):
            del x, y, g
        gc.collect()
        assert gone() is None
        assert usage()["live_bytes"] == before
    return nodes, seconds


@pytest.mark.parametrize(
    ("graph", "n"),
    [(chain, 25_000), (wide, 2_500), (stack, 2_500), (computed_stack, 2_500), (fan, 5_000), (layers, 12_000)],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_every_stage_is_linear(graph: Graph, n: int, capsys: pytest.CaptureFixture[str]) -> None:
    few, short = measure(graph, n, 3)
    many, long = measure(graph, 4 * n, 2)
    with capsys.disabled():
        figures = ", ".join(f"{s} {short[s] / few * 1e6:.2f} -> {long[s] / many * 1e6:.2f}" for s in short)
        print(f"\n{graph.__name__}, µs a node at {few:,} -> {many:,} nodes: {figures}")
    for stage in short:
        small, large = short[stage] / few, long[stage] / many
        if long[stage] > 0.02:  # below that it is noise
            assert large <= GROWTH * small, f"{stage}: {small * 1e6:.2f} µs a node became {large * 1e6:.2f}"
    for stage, budget in BUDGET.items():
        per_kernel = 3 if graph is computed_stack and stage == "schedule" else 1  # each node is a kernel of its own
        assert long[stage] / many <= SLACK * per_kernel * budget * 1e-6, stage


@pytest.mark.parametrize("graph", [chain, wide, stack], ids=lambda g: g.__name__)
def test_gradients_of_large_graphs_run(graph: Graph) -> None:
    """The value and the gradient in one plan, as `backward` computes them."""
    x, y = graph(10_000)
    (g,) = gradient([y], [x], [ir.const(1.0, FLOAT64, y.shape)])
    assert g is not None
    c = number([y, g])
    plan = make_plan(c)
    arrays = run(plan, c)
    for (place, shape), want in zip(plan.results, interpret([y, g]), strict=True):
        held = arrays[place]
        assert held is not None
        np.testing.assert_array_equal(held.array.reshape(shape), want)


@pytest.mark.slow
def test_a_gradient_of_100_000_nodes() -> None:
    x, y = chain(100_000)
    (g,) = gradient([y], [x], [ir.const(1.0, FLOAT64, y.shape)])
    assert g is not None
    c = number([y, g])
    plan = make_plan(c)
    arrays = run(plan, c)
    for (place, _), want in zip(plan.results, interpret([y, g]), strict=True):
        held = arrays[place]
        assert held is not None
        np.testing.assert_array_equal(held.array, want)
    del x, y, g, c, plan, arrays


def test_diamonds_of_sixty_levels() -> None:
    """v = v·v + v has 2^60 paths: each stage visits each node once, to second order."""
    x = stored((4,), 1e-3)
    v = x
    for _ in range(60):
        v = ir.add(ir.mul(v, v), v)
    one = ir.const(1.0, FLOAT64, (4,))
    (g,) = gradient([v], [x], [one])
    assert g is not None and len(ir.toposort([v, g])) < 500
    (h,) = gradient([g], [x], [one])
    assert h is not None and len(ir.toposort([v, g, h])) < 2_000
    c = number([v, g, h])
    plan = make_plan(c)
    arrays = run(plan, c)
    value, first, second = 1e-3, 1.0, 0.0
    for _ in range(60):
        second = 2 * first * first + (2 * value + 1) * second
        first *= 2 * value + 1
        value += value * value
    for (place, _), want in zip(plan.results, (value, first, second), strict=True):
        held = arrays[place]
        assert held is not None
        np.testing.assert_allclose(held.array, want, 1e-13)


# through tensors ------------------------------------------------------------------------------------------------------
def test_tensors_of_the_same_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    """A chain of 100,000, a sum and a stack of 10,000, diamonds: built, differentiated, read, freed."""
    ad = pytest.importorskip("tinyad")
    seconds: dict[str, float] = {}
    x = ad.tensor(np.full(8, 0.7), requires_grad=True)
    with clock(seconds, "build"):
        v = x
        for _ in range(50_000):
            v = v * 0.3 + x
    with clock(seconds, "differentiate"):
        (g,) = ad.gradients(v.sum(), [x])
    with clock(seconds, "read"):
        np.testing.assert_allclose(v.numpy(), 1.0, 1e-12)
    np.testing.assert_allclose(g.numpy(), 1 / 0.7, 1e-12)
    with clock(seconds, "free"):
        del v, g
    with capsys.disabled():
        print("\ntensors, µs a node of 100,000: " + ", ".join(f"{s} {t * 10:.2f}" for s, t in seconds.items()))
    assert seconds["build"] <= SLACK * 5 * 0.1, "a Tensor operation: the node, the handle and promotion"
    assert seconds["differentiate"] <= SLACK * 10 * 0.1

    parts = [ad.tensor(np.full(4, float(k % 5)), requires_grad=True) for k in range(10_000)]
    total = sum(parts)
    (last,) = ad.gradients(total.sum(), [parts[-1]])
    np.testing.assert_array_equal(total.numpy(), 20_000.0)
    np.testing.assert_array_equal(last.numpy(), 1.0)
    rows = ad.stack(parts)
    assert rows.shape == (10_000, 4)
    (one,) = ad.gradients((rows * rows).sum(), [parts[3]])
    np.testing.assert_array_equal(one.numpy(), 6.0)

    y = x = ad.tensor(1e-3, requires_grad=True, dtype=ad.float64)
    for _ in range(60):
        y = y * y + y
    (g,) = ad.gradients(y, [x])
    value, first = 1e-3, 1.0
    for _ in range(60):
        first *= 2 * value + 1
        value += value * value
    np.testing.assert_allclose(float(g), first, 1e-13)
    np.testing.assert_allclose(float(y), value, 1e-13)
