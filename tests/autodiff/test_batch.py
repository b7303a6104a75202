"""batch = loop, for every operation, with every choice of batched arguments."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from tinyad import ir
from tinyad.autodiff import batch, gradient, tangent
from tinyad.autodiff.batch import BATCH
from tinyad.errors import TraceError
from tinyad.interpret import interpret
from tinyad.ir import FLOAT64, INT64, Node, Op

from .cases import ALL, Array, Case, array, like

SIZE = 3


def compare(f: Callable[..., Node], points: Sequence[Array], batched: Sequence[bool], size: int = SIZE) -> Node:
    """Checks f batched against f in a loop; `points[i]` has a leading axis if `batched[i]`. Returns the result."""
    kinds = [p.shape[1:] if b else p.shape for p, b in zip(points, batched)]
    xs = [ir.input(s, np.dtype(p.dtype)) for s, p in zip(kinds, points)]
    y = f(*xs)
    chosen = [x for x, b in zip(xs, batched) if b]
    values = [ir.input(p.shape, np.dtype(p.dtype)) for p, b in zip(points, batched) if b]
    (out,) = batch([y], chosen, values, size)
    assert out.shape == (size, *y.shape)
    assert out.dtype is y.dtype
    given = dict(zip(values, (p for p, b in zip(points, batched) if b)))
    given |= {x: p for x, p, b in zip(xs, points, batched) if not b}
    with np.errstate(all="ignore"):
        got = interpret([out], given)[0]
        loop = [interpret([y], {x: p[i] if b else p for x, p, b in zip(xs, points, batched)})[0] for i in range(size)]
    for g, expected in zip(got, loop, strict=True):
        np.testing.assert_array_equal(g, expected)
    return out


def choices(n: int) -> list[tuple[bool, ...]]:
    return [c for c in itertools.product([True, False], repeat=n) if any(c)]


def points_of(case: Case, batched: Sequence[bool]) -> list[Array]:
    rng = np.random.default_rng(5)
    return [
        np.stack([p if p.size == 0 else rng.permutation(p.reshape(-1)).reshape(p.shape) for _ in range(SIZE)])
        if b
        else p
        for p, b in zip(case.points, batched)
    ]


def test_table_is_total() -> None:
    assert set(BATCH) == set(Op) - {Op.BUFFER, Op.CONST, Op.IOTA}


@pytest.mark.parametrize("case", ALL, ids=repr)
def test_batch_is_the_loop(case: Case) -> None:
    for batched in choices(len(case.points)):
        compare(case.f, points_of(case, batched), batched)


@pytest.mark.parametrize("case", ALL, ids=repr)
def test_batch_of_a_gradient(case: Case) -> None:
    def f(*x: Node) -> Node:
        y = ir.sin(case.f(*x))
        (g,) = gradient([y], x[:1], [like(y, 1.0)])
        return like(x[0], 0.0) if g is None else g

    batched = [True] * len(case.points)
    compare(f, points_of(case, batched), batched)


INTEGER = [Op.ADD, Op.MUL, Op.IDIV, Op.MOD, Op.MAX, Op.LT, Op.EQ, Op.AND, Op.OR, Op.XOR, Op.SHL, Op.SHR]


@pytest.mark.parametrize("op", INTEGER, ids=lambda op: op.value)
@pytest.mark.parametrize("batched", choices(2))
def test_batch_of_integers(op: Op, batched: tuple[bool, bool]) -> None:
    rng = np.random.default_rng(0)
    points = [rng.integers(1, 9, (SIZE, 4) if b else (4,)) for b in batched]
    compare(lambda a, b: ir.binary(op, a, b), points, batched)


@pytest.mark.parametrize("batched", choices(2))
def test_batch_of_indices(batched: tuple[bool, bool]) -> None:
    rng = np.random.default_rng(0)
    idx = rng.integers(0, 4, (SIZE, 2, 4) if batched[1] else (2, 4))
    values = array(*((SIZE, 2, 4) if batched[0] else (2, 4)))
    compare(lambda a, i: ir.gather(a, i, 1), [values, idx], batched)
    for kind in ir.SCATTERS:
        compare(lambda a, i, kind=kind: ir.scatter(kind, a, i, 1, 5), [values, idx], batched)


def test_batch_of_bits_and_not() -> None:
    compare(lambda a: ir.cast(ir.not_(ir.eq(ir.bitcast(a, INT64), ir.const(0, INT64, a.shape))), INT64),
            [np.array([[0.0, -0.0], [1.0, 2.0], [0.0, 0.0]])], [True])  # fmt: skip


@pytest.mark.parametrize("size", [0, 1])
def test_batches_of_none_and_one(size: int) -> None:
    compare(lambda a, b: ir.sum_(ir.mul(a, b), (0,)), [array(size, 4), array(4)], [True, False], size)


def test_nothing_is_computed_twice() -> None:
    x, w = ir.input((4,), FLOAT64), ir.input((4,), FLOAT64)
    shared = ir.exp(w)
    v = ir.input((SIZE, 4), FLOAT64)
    out, alone = batch([ir.mul(ir.sin(x), shared), shared], [x], [v], SIZE)
    nodes = ir.toposort([out, alone])
    assert shared in nodes
    assert [n.op for n in nodes].count(Op.EXP) == 1
    assert alone.op is Op.EXPAND and alone.shape == (SIZE, 4)


def test_batches_nest() -> None:
    def outer(a: Node, b: Node) -> Node:
        """a[i]·b[j] for all i and j."""
        x, y = ir.input((), FLOAT64), ir.input((), FLOAT64)
        (row,) = batch([ir.mul(x, y)], [y], [b], 4)
        (table,) = batch([row], [x], [a], 3)
        return table

    a, b = array(3), array(4, seed=1)
    p, q = ir.input((3,), FLOAT64), ir.input((4,), FLOAT64)
    got = interpret([outer(p, q)], {p: a, q: b})[0]
    np.testing.assert_array_equal(got, np.outer(a, b))
    compare(lambda q: outer(p_const, q), [array(SIZE, 4)], [True])


p_const = ir.cat([ir.const(float(i), FLOAT64, (1,)) for i in range(3)], 0)


def test_a_variable_that_carries_a_batched_value() -> None:
    compare(lambda a: ir.sin(ir.input(a.shape, a.dtype, ir.mul(a, a))), [array(SIZE, 2)], [True])


# custom rules ---------------------------------------------------------------------------------------------------------
def scaled(a: Node, w: Node) -> Node:
    """a·w with the rule (2·g·w, 3·g·a): recognisable."""

    def rule(res: Sequence[Node], g: Node) -> list[Node | None]:
        return [ir.mul(like(g, 2.0), ir.mul(g, res[1])), ir.mul(like(g, 3.0), ir.mul(g, res[0]))]

    return ir.custom(ir.mul(a, w), [a, w], [a, w], rule)


@pytest.mark.parametrize("batched", choices(2))
@pytest.mark.parametrize("which", [0, 1])
def test_gradient_of_a_batched_custom_rule(batched: tuple[bool, bool], which: int) -> None:
    """grad of vmap: the cotangent of an argument that is not batched is the sum over the batch."""
    points = [array(*((SIZE, 2) if b else (2,)), seed=i) for i, b in enumerate(batched)]
    xs = [ir.input((2,), FLOAT64) for _ in points]
    vs = [ir.input(p.shape, FLOAT64) for p in points]
    chosen = [i for i, b in enumerate(batched) if b]
    real = [v if b else x for x, v, b in zip(xs, vs, batched)]
    (out,) = batch([scaled(*xs)], [xs[i] for i in chosen], [vs[i] for i in chosen], SIZE)
    (g,) = gradient([out], [real[which]], [like(out, 1.0)])
    assert g is not None
    got = interpret([g], dict(zip(real, points)))[0]
    other = np.broadcast_to(points[1 - which], (SIZE, 2)) * (2.0, 3.0)[which]
    np.testing.assert_allclose(got, other if batched[which] else other.sum(0), rtol=1e-14)
    (t,) = tangent([out], [real[which]], [like(real[which], 1.0)])
    assert t is not None
    np.testing.assert_allclose(interpret([t], dict(zip(real, points)))[0], other, rtol=1e-14)


def test_a_custom_rule_that_closes_over_a_batched_value() -> None:
    x, s = ir.input((2,), FLOAT64), ir.input((2,), FLOAT64)
    vx, vs = ir.input((SIZE, 2), FLOAT64), ir.input((SIZE, 2), FLOAT64)
    y = ir.custom(ir.sin(x), [x], [], lambda _, g: [ir.mul(g, s)])
    (out,) = batch([y], [x, s], [vx, vs], SIZE)
    (g,) = gradient([out], [vx], [like(out, 1.0)])
    assert g is not None
    values = {vx: array(SIZE, 2), vs: array(SIZE, 2, seed=1)}
    np.testing.assert_array_equal(interpret([g], values)[0], values[vs])


def test_a_custom_rule_batched_twice() -> None:
    x = ir.input((), FLOAT64)
    inner, outer = ir.input((2,), FLOAT64), ir.input((3, 2), FLOAT64)
    (row,) = batch([scaled(x, x)], [x], [inner], 2)
    (table,) = batch([row], [inner], [outer], 3)
    (g,) = gradient([table], [outer], [like(table, 1.0)])
    assert g is not None
    point = array(3, 2)
    np.testing.assert_allclose(interpret([g], {outer: point})[0], 5 * point)


# host functions -------------------------------------------------------------------------------------------------------
def test_a_host_function_along_the_last_axis_is_called_on_the_batch() -> None:
    sort = ir.HostFunction("sort", lambda a: np.sort(a, -1), lambda s: s, FLOAT64)
    out = compare(lambda a: ir.call(sort, a), [array(SIZE, 5)], [True])
    assert out.op is Op.CALL


@pytest.mark.parametrize("shape", [lambda s: (2,), lambda s: (s[0], s[0]), lambda s: s[7]])
def test_a_host_function_of_fixed_shape_is_refused(shape: Callable[..., ir.Shape]) -> None:
    x = ir.input((2,), FLOAT64)
    y = ir.call(ir.HostFunction("solve", np.sort, lambda s: (2,), FLOAT64), x)
    y.arg.shape = shape
    with pytest.raises(TraceError, match="vmap: solve is a NumPy function"):
        batch([y], [x], [ir.input((SIZE, 2), FLOAT64)], SIZE)


def test_a_batch_must_fit() -> None:
    x = ir.input((2,), FLOAT64)
    with pytest.raises(ir.IRError, match="vmap: expected 3 of"):
        batch([ir.sin(x)], [x], [ir.input((2, 3), FLOAT64)], SIZE)
