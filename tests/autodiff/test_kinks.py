"""The stated choice at every kink, and exact zeros where a branch that was not taken is singular."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tinyad import ir
from tinyad.autodiff import gradient, tangent
from tinyad.interpret import interpret
from tinyad.ir import FLOAT64, Node, Op

from .cases import fixed, like

nan, inf = float("nan"), float("inf")


def both(f: Callable[..., Node], *points: object, order: int = 1) -> list[list[float]]:
    """The derivative of Σ f to `order` towards each argument, the same by both modes (forward: each unit tangent)."""
    arrays = [np.asarray(p, np.float64) for p in points]
    xs = [ir.input(a.shape, FLOAT64) for a in arrays]
    values = dict(zip(xs, arrays))
    with np.errstate(all="ignore"):
        ys = [f(*xs)]
        for _ in range(order):
            before = ys
            found = gradient(before, xs, [like(y, 1.0) for y in before])
            ys = [ir.const(0.0, FLOAT64, x.shape) if g is None else g for g, x in zip(found, xs)]
        out = [g.reshape(-1) for g in interpret(ys, values)]
        for i, (x, a) in enumerate(zip(xs, arrays)):
            for j in range(a.size):
                unit = ir.input(a.shape, FLOAT64)
                ts = tangent(before, [x], [unit])
                sums = [ir.reshape(ir.sum_(t, range(t.ndim)), ()) for t in ts if t is not None]
                e = np.zeros(a.shape)
                e.reshape(-1)[j] = 1
                got = sum(float(v) for v in interpret(sums, values | {unit: e}))
                np.testing.assert_allclose(got, out[i][j], rtol=1e-14, err_msg=f"forward, {i}, {j}")
    return [g.tolist() for g in out]


KINKS = {
    "max tie": (ir.maximum, [[1, 1, 2], [1, 2, 1]], [[0.5, 0, 1], [0.5, 1, 0]]),
    "min tie": (ir.minimum, [[1, 1, 2], [1, 2, 1]], [[0.5, 1, 0], [0.5, 0, 1]]),
    "max of zeros": (ir.maximum, [[0.0, -0.0], [-0.0, 0.0]], [[0.5, 0.5], [0.5, 0.5]]),
    "max with a NaN": (ir.maximum, [[nan, 1, nan], [1, nan, nan]], [[1, 0, 0.5], [0, 1, 0.5]]),
    "abs": (ir.abs_, [[-1, 0, -0.0, 2]], [[-1, 0, 0, 1]]),
    "relu": (lambda a: ir.where(ir.lt(like(a, 0.0), a), a, like(a, 0.0)), [[-1, 0, 2]], [[0, 0, 1]]),
    "sqrt": (ir.sqrt, [[0]], [[inf]]),
    "floor": (ir.floor, [[0.5, 1.0]], [[0, 0]]),
    "reduce max": (lambda a: ir.reduce(Op.REDUCE_MAX, a, (0,)), [[3, 1, 3, 3]], [[1 / 3, 0, 1 / 3, 1 / 3]]),
    "reduce min": (lambda a: ir.reduce(Op.REDUCE_MIN, a, (0,)), [[1, 1, 3]], [[0.5, 0.5, 0]]),
    "reduce max of NaN": (lambda a: ir.reduce(Op.REDUCE_MAX, a, (0,)), [[1, nan, 3]], [[0, 1, 0]]),
    "cummax": (lambda a: ir.scan("max", 0, a), [[1, 3, 3, 2]], [[1, 1, 2, 0]]),
    "cummin": (lambda a: ir.scan("min", 0, a), [[2, 2, 1, 1]], [[1, 1, 1, 1]]),
    "cummax of NaN": (lambda a: ir.scan("max", 0, a), [[1, nan, 3, nan, 5]], [[1, 2, 0, 2, 0]]),
    "scatter max": (
        lambda g: ir.scatter("max", g, fixed([0, 0, 1, 0], (4,)), 0, 2), [[2, 2, 5, 1]], [[0.5, 0.5, 1, 0]],
    ),
    "scatter set": (lambda g: ir.scatter("set", g, fixed([0, 1, 0], (3,)), 0, 2), [[2, 3, 4]], [[0, 1, 1]]),
    "atan2 at the origin": (ir.atan2, [[0, 1], [0, 0]], [[0, 0], [0, -1]]),
    "mod": (ir.mod, [[5.5, -5.5], [2, 2]], [[1, 1], [-2, 3]]),
    "pow at 0": (ir.pow_, [[0, 0, 0, 0], [0, 1, 2, 3]], [[0, 1, 0, 0], [0, 0, 0, 0]]),
}  # fmt: skip


@pytest.mark.parametrize("name", KINKS)
def test_kink(name: str) -> None:
    f, points, expected = KINKS[name]
    assert both(f, *points) == expected


def power(n: float) -> Callable[[Node], Node]:
    return lambda a: ir.pow_(a, like(a, n))


def times(n: float) -> Callable[[Node], Node]:
    """A power whose exponent is not known to be constant."""
    return lambda a: ir.pow_(a, ir.add(like(a, n), like(a, 0.0)))


@pytest.mark.parametrize("make", [power, times])
@pytest.mark.parametrize(
    ("n", "order", "at_zero"), [(2, 1, 0), (2, 2, 2), (2, 3, 0), (1, 1, 1), (1, 2, 0), (0, 1, 0), (0, 2, 0), (3, 3, 6)]
)
def test_powers_are_polynomials_at_zero(make: Callable[..., Node], n: float, order: int, at_zero: float) -> None:
    assert both(make(n), [0.0], order=order) == [[at_zero]]


def positive(x: Node) -> Node:
    return ir.lt(like(x, 0.0), x)


def zeros(x: Node) -> Node:
    return like(x, 0.0)


def finite_part(f: Callable[[Node], Node]) -> Callable[[Node], Node]:
    return lambda x: ir.where(positive(x), f(x), zeros(x))


def hypotenuse(x: Node) -> Node:
    """|x| composed with a safe inner argument."""
    square = ir.mul(x, x)
    at_zero = ir.eq(square, zeros(x))
    return ir.where(at_zero, zeros(x), ir.sqrt(ir.where(at_zero, like(x, 1.0), square)))


def masked_rows(x: Node) -> Node:
    """log through movement, sums and a mask that keeps only the first row."""
    a = ir.log(ir.reshape(x, (2, 2)))
    s = ir.expand(ir.sum_(ir.permute(a, (1, 0)), (0,)), (2, 2))
    keep = ir.expand(ir.eq(ir.reshape(ir.iota(2), (1, 2)), ir.const(0, ir.INT64, (1, 2))), (2, 2))
    return ir.where(keep, s, ir.const(0.0, FLOAT64, (2, 2)))


def padded(f: Callable[[Node], Node]) -> Callable[[Node], Node]:
    """Poison that is dropped by a SHRINK, whose adjoint fills with zeros."""
    return lambda x: ir.shrink(f(ir.pad(x, [(1, 1, 1)])), [(1, 2 * x.shape[0], 2)])


def through_scan(x: Node) -> Node:
    return ir.shrink(ir.scan("sum", 0, ir.log(x)), [(0, 1, 1)])


def through_skew(x: Node) -> Node:
    return ir.skew(ir.log(ir.reshape(x, (2, 1))), 0, 1, 1, 1, 1)


def through_gather(x: Node) -> Node:
    return ir.gather(ir.log(x), fixed([1, 1], (2,)), 0)


def through_cat(x: Node) -> Node:
    y = ir.cat([ir.log(x), x], 0)
    return ir.shrink(y, [(1, 3, 1)])


def through_scatter(x: Node) -> Node:
    """0 where nothing goes; sqrt'(0) there is never used."""
    y = ir.sqrt(ir.scatter("sum", x, fixed([0, 2], (2,)), 0, 3))
    return ir.mul(y, y)


SAFE: dict[str, tuple[Callable[[Node], Node], list[float], list[float], list[float]]] = {  # first and second derivative
    "log": (finite_part(ir.log), [0, 2], [0, 0.5], [0, -0.25]),
    "sqrt": (finite_part(ir.sqrt), [0, 4], [0, 0.25], [0, -1 / 32]),
    "reciprocal": (finite_part(lambda x: ir.div(like(x, 1.0), x)), [0, 2], [0, -0.25], [0, 0.25]),
    "power": (finite_part(power(-1.5)), [0, 1], [0, -1.5], [0, 3.75]),
    "times infinity": (
        finite_part(lambda x: ir.mul(ir.exp(ir.log(x)), ir.div(x, x))), [0, 2], [0, 1], [0, 0],
    ),
    "sin of infinity": (
        lambda x: ir.where(ir.lt(ir.abs_(x), like(x, 9.0)), ir.sin(x), zeros(x)), [inf, 0], [0, 1], [0, 0],
    ),
    "tanh of NaN": (lambda x: ir.where(ir.eq(x, x), ir.tanh(x), zeros(x)), [nan, 0], [0, 1], [0, 0]),
    "safe division": (
        lambda x: ir.div(x, ir.where(ir.eq(x, zeros(x)), like(x, 1.0), x)), [0, 2], [1, 0], [0, 0],
    ),
    "max": (lambda x: ir.maximum(ir.log(x), like(x, -5.0)), [0, 4], [0, 0.25], [0, -1 / 16]),
    "min": (lambda x: ir.minimum(ir.neg(ir.log(x)), like(x, 5.0)), [0, 4], [0, -0.25], [0, 1 / 16]),
    "abs of log": (lambda x: ir.abs_(ir.log(x)), [1, 2], [0, 0.5], [0, -0.25]),
    "half a square": (lambda x: ir.mul(power(2)(x), like(x, 0.5)), [0, 3], [0, 3], [1, 1]),
    "hypotenuse": (hypotenuse, [0, 3], [0, 1], [0, 0]),
    "half a squared norm": (lambda x: ir.mul(power(2)(hypotenuse(x)), like(x, 0.5)), [0, 3], [0, 3], [0, 1]),
    "masked rows": (masked_rows, [1, 2, 0, 0], [2, 1, 0, 0], [-2, -0.5, 0, 0]),
    "pad, log": (padded(ir.log), [1, 2], [1, 0.5], [-1, -0.25]),
    "pad, sqrt": (lambda x: ir.sqrt(ir.pad(x, [(1, 1, 0)])), [1, 4], [0.5, 0.25], [-0.25, -1 / 32]),
    "scan": (through_scan, [1, 0], [1, 0], [-1, 0]),
    "cumprod": (lambda x: ir.shrink(ir.scan("prod", 0, x), [(0, 2, 1)]), [2, 3, inf], [4, 2, 0], [1, 1, 0]),
    "linrec": (
        lambda x: ir.shrink(ir.scan("linrec", 0, x, x), [(0, 2, 1)]), [2, 3, inf], [4, 3, 0], [1, 1, 0],
    ),
    "skew": (through_skew, [0, 2], [0, 0.5], [0, -0.25]),
    "gather": (through_gather, [0, 2], [0, 1], [0, -0.5]),
    "cat": (through_cat, [0, 2], [1, 0.5], [0, -0.25]),
    "scatter": (through_scatter, [1, 4], [1, 1], [0, 0]),
    "reduce max": (lambda x: ir.reduce(Op.REDUCE_MAX, ir.log(x), (0,)), [0, 2], [0, 0.5], [0, -0.25]),
}  # fmt: skip


@pytest.mark.parametrize("name", SAFE)
def test_the_branch_not_taken_contributes_exactly_zero(name: str) -> None:
    f, point, first, second = SAFE[name]
    (got,) = both(f, point)
    np.testing.assert_allclose(got, first, rtol=1e-14, atol=0)
    (got,) = both(f, point, order=2)
    np.testing.assert_allclose(got, second, rtol=1e-14, atol=1e-16)


def test_products_with_zeros_are_exact() -> None:
    def prod(a: Node) -> Node:
        return ir.reduce(Op.PROD, a, (0,))

    assert both(prod, [2, 3, 4]) == [[12, 8, 6]]
    assert both(prod, [2, 0, 4]) == [[0, 8, 0]]
    assert both(prod, [0, 3, 0]) == [[0, 0, 0]]
    assert both(prod, [0, 3, 0], order=2) == [[3, 0, 3]]
    assert both(lambda a: ir.scan("prod", 0, a), [0, 3, 0, 2]) == [[4, 0, 0, 0]]


def test_selection_keeps_infinite_cotangents_out() -> None:
    """g = ∞ at a place the mask drops: where, never ∞ · 0."""
    assert both(lambda x: ir.sqrt(ir.abs_(x)), [0.0, 4.0]) == [[0.0, 0.25]]
    assert both(lambda x: ir.sqrt(ir.where(positive(x), x, zeros(x))), [-1.0, 4.0]) == [[0.0, 0.25]]
