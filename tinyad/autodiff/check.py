"""Numerical checks of derivatives of IR functions, in float64 through the interpreter. For tests, and `check_grads`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .. import ir
from ..interpret import interpret
from ..ir import FLOAT64, Node
from .forward import tangent
from .reverse import gradient

Array = np.ndarray[Any, np.dtype[Any]]
Function = Callable[..., Node]
STEP = 6e-6  # cube root of the rounding error: where the two errors of a central difference balance


def inner(a: Node, b: Node) -> Node:
    """<a, b> as a 0-d node."""
    product = ir.mul(a, b)
    return ir.reshape(ir.sum_(product, range(product.ndim)), ())


def check_derivatives(
    f: Function, points: Sequence[Array], order: int = 2, tolerance: float = 1e-6, seed: int = 0
) -> None:
    """Compares reverse mode, forward mode and central differences of <f, u> along random directions, order by order.

    From the second order on, both modes are applied to what either mode made before.

    Raises:
        AssertionError: two of the three differ by more than `tolerance`, relative to 1 + the difference quotient.
    """
    rng = np.random.default_rng(seed)
    xs = [ir.input(np.shape(p), FLOAT64) for p in points]
    y = f(*xs)
    u = ir.input(y.shape, FLOAT64)
    values: dict[Node, Array] = {x: np.asarray(p, np.float64) for x, p in zip(xs, points, strict=True)}
    values[u] = rng.uniform(-1, 1, y.shape)
    _check(inner(y, u), xs, values, order, tolerance, rng, "")


def _check(
    s: Node,
    xs: list[Node],
    values: dict[Node, Array],
    order: int,
    tolerance: float,
    rng: np.random.Generator,
    path: str,
) -> None:
    vs = [ir.input(x.shape, FLOAT64) for x in xs]
    values = values | {v: rng.uniform(-1, 1, v.shape) for v in vs}
    one = ir.const(1.0, FLOAT64)
    zero = ir.const(0.0, FLOAT64)
    reverse = zero
    for g, v in zip(gradient([s], xs, [one]), vs, strict=True):
        if g is not None:
            reverse = ir.add(reverse, inner(g, v))
    forward = tangent([s], xs, vs)[0] or zero
    moved = [
        values | {x: np.asarray(values[x] + h * values[v]) for x, v in zip(xs, vs, strict=True)} for h in (STEP, -STEP)
    ]
    high, low = (evaluate(s, m) for m in moved)
    expected = (high - low) / (2 * STEP)
    for mode, node in ("reverse", reverse), ("forward", forward):
        got = evaluate(node, values)
        if not abs(got - expected) <= tolerance * (1 + abs(expected)):
            raise AssertionError(f"{path}{mode}: expected {expected:.12g} by central differences, got {got:.12g}")
    if order > 1:
        for mode, node in ("reverse", reverse), ("forward", forward):
            _check(node, xs, values, order - 1, tolerance, rng, f"{path}{mode} of ")


def evaluate(s: Node, values: Mapping[Node, Array]) -> float:
    """The value of a 0-d node."""
    return float(interpret([s], values)[0])


def check_linear(f: Function, points: Sequence[Array], seed: int = 0) -> None:
    """For a linear `f`, on integer-valued data, exactly: <A x, u> = <x, Aᵀ u>, and the tangent of f along x is f(x).

    Raises:
        AssertionError: one of the two does not hold to the last bit.
    """
    rng = np.random.default_rng(seed)
    xs = [ir.input(np.shape(p), FLOAT64) for p in points]
    y = f(*xs)
    u = ir.input(y.shape, FLOAT64)
    values: dict[Node, Array] = {x: np.asarray(p, np.float64) for x, p in zip(xs, points, strict=True)}
    values[u] = rng.integers(-9, 10, y.shape).astype(np.float64)
    back = gradient([y], xs, [u])
    pulled = sum(evaluate(inner(g, x), values) for g, x in zip(back, xs, strict=True) if g is not None)
    forward = evaluate(inner(y, u), values)
    if forward != pulled:
        raise AssertionError(f"<A x, u> = {forward:g} but <x, Aᵀ u> = {pulled:g}")
    along = tangent([y], xs, xs)[0] or ir.const(0.0, FLOAT64, y.shape)
    out, pushed = interpret([y, along], values)
    if not np.array_equal(out, pushed):
        raise AssertionError(f"f(x) = {out} but its tangent along x is {pushed}")
