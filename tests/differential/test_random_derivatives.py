"""Random differentiable programs: forward = reverse = differences to second order, adjoints exact, vmap = loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from programs import Generator

from tinyad import ir
from tinyad.autodiff import gradient, tangent
from tinyad.autodiff.batch import batch
from tinyad.autodiff.check import check_derivatives, check_linear, inner
from tinyad.autodiff.partials import PARTIALS
from tinyad.canonical import number
from tinyad.interpret import interpret
from tinyad.ir import FLOAT64, DType, Node, Op, Shape
from tinyad.realize import run
from tinyad.schedule.plan import plan_for

Array = np.ndarray[Any, np.dtype[Any]]
MARGIN = 0.01  # nearer to a kink than this, differences mean nothing

program = settings(deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))


class Smooth(Generator):
    """Programs of float64 whose values stay small and away from kinks: every node is evaluated when it is made."""

    def __init__(self, seed: int, points: Sequence[Array] = (), xs: Sequence[Node] = ()) -> None:
        super().__init__(seed)
        self.values: dict[Node, Array] = dict(zip(xs, points, strict=True))
        self.pool = list(xs)

    def dtype(self, classes: str = "f") -> DType:
        return FLOAT64 if "f" in classes else super().dtype(classes)

    def style(self) -> str:
        return "plain"

    def leaf(self, shape: Shape, dtype: DType) -> Node:
        return self.stored(shape, dtype, "plain")

    def want(self, shape: Shape, dtype: DType) -> Node:
        same = [n for n in self.pool if n.shape == shape and n.dtype is dtype]
        return self.one(same) if same and self.chance(0.7) else self.leaf(shape, dtype)

    def value(self, n: Node) -> Array:
        return interpret([n], self.values)[0]

    def like(self, a: Node, value: float) -> Node:
        return ir.const(value, a.dtype, a.shape)

    def positive(self, a: Node) -> Node:
        return ir.add(ir.mul(a, a), self.like(a, 0.6))

    def near(self, n: Node) -> float:
        """The least distance of the sources of `n` from a kink."""
        src = [self.value(s) for s in n.src]
        if not src or not src[0].size:
            return math.inf
        a = src[0]
        if n.op is Op.ABS:
            return float(np.min(np.abs(a)))
        if n.op in (Op.FLOOR, Op.CEIL, Op.TRUNC):
            return float(np.min(np.abs(a - np.round(a))))
        if n.op is Op.ROUND:
            return float(np.min(np.abs(a - np.floor(a) - 0.5)))
        if n.op in (Op.MAX, Op.MIN, Op.LT, Op.EQ):
            return float(np.min(np.abs(a - src[1])))
        if n.op in (Op.IDIV, Op.MOD):
            q = a / src[1]
            return float(np.min(np.abs(q - np.round(q))))
        if n.op in (Op.REDUCE_MAX, Op.REDUCE_MIN) or (n.op is Op.SCAN and n.arg[0] in ("max", "min")):
            flat = np.sort(a.ravel())
            return float(np.min(np.diff(flat), initial=math.inf))
        if n.op is Op.SCATTER and n.arg[0] in ("max", "min"):
            return float(np.min(np.diff(np.sort(a.ravel())), initial=math.inf))
        return math.inf

    def some(self, rank: int | None = None) -> Node:
        fit = [n for n in self.pool if n.dtype is FLOAT64 and (rank is None or n.ndim >= rank)]
        return self.one(fit[-5:] if self.chance(0.6) else fit) if fit else self.leaf((3,) * (rank or 1), FLOAT64)

    def made(self) -> Node:
        """A node of one of the differentiable operations."""
        a = self.some()
        b = self.want(a.shape, FLOAT64)
        pick = self.int(0, 9)
        if pick <= 1:
            op = self.one((Op.NEG, Op.ABS, Op.SQRT, Op.FLOOR, Op.CEIL, Op.TRUNC, Op.ROUND,
                           *sorted(ir.ELEMENTARY, key=lambda op: op.value)))  # fmt: skip
            if op in (Op.EXP, Op.EXPM1, Op.SINH, Op.COSH, Op.TAN):
                a = ir.sin(a)
            elif op in (Op.ASIN, Op.ACOS):
                a = ir.mul(self.like(a, 0.9), ir.sin(a))
            elif op in (Op.LOG, Op.LOG1P, Op.LOG2, Op.SQRT, Op.CBRT, Op.LGAMMA):
                a = self.positive(a)
            return ir.unary(op, a)
        if pick <= 3:
            op = self.one((Op.ADD, Op.SUB, Op.MUL, Op.MAX, Op.MIN, Op.DIV, Op.ATAN2, Op.POW, Op.MOD, Op.IDIV))
            if op in (Op.DIV, Op.ATAN2, Op.MOD, Op.IDIV):
                b = self.positive(b)
            elif op is Op.POW:
                a, b = (self.positive(a), ir.tanh(b)) if self.chance(0.6) else (a, self.like(a, 3.0))
            return ir.binary(op, a, b)
        if pick == 4:
            return ir.where(ir.lt(a, b), ir.sin(a), ir.mul(a, b))
        if pick == 5:
            op = self.one((Op.SUM, Op.PROD, Op.REDUCE_MAX, Op.REDUCE_MIN))
            axes = [i for i in range(a.ndim) if self.chance(0.6)]
            y = ir.reduce(op, a, axes)
            return ir.expand(y, a.shape) if self.chance(0.5) else y
        if pick == 6:
            a = self.some(rank=1)
            return self.scan(self.one(ir.SCANS), ir.sin(a)) if self.chance(0.5) else self.scattered(a)
        if pick == 7:
            return self.one((self.softmax, self.normalise))(self.some(rank=1))
        if pick == 8:
            return self.custom(a, b) if self.chance(0.5) else ir.fence(ir.input(a.shape, a.dtype, a))
        if self.chance(0.3):
            m, k, n = self.int(1, 3), self.int(1, 4), self.int(1, 3)
            return self.matmul(self.want((m, k), FLOAT64), self.want((k, n), FLOAT64))
        return self.movement(self.one(sorted(ir.MOVEMENT, key=lambda o: o.value)), self.some(rank=1))

    def scattered(self, a: Node) -> Node:
        y = self.scatter(self.one(ir.SCATTERS), a)
        return ir.where(ir.lt(ir.abs_(y), self.like(y, 1e9)), y, self.like(y, 0.0))  # untouched places may be infinite

    def custom(self, a: Node, b: Node) -> Node:
        return ir.custom(ir.mul(a, b), [a, b], [a, b], lambda res, g: (ir.mul(g, res[1]), ir.mul(g, res[0])))

    def act(self) -> None:
        n = self.made()
        if not 0 < n.size <= 64 or n.ndim > 4 or n in self.values:
            return
        for m in ir.toposort([n], lambda m: () if m in self.values else m.src):
            if m.op is not Op.BUFFER and m.dtype is FLOAT64 and m not in self.values:
                if self.near(m) < MARGIN:
                    return
            elif m.op in (Op.LT, Op.EQ) and self.near(m) < MARGIN:
                return
        most = float(np.max(np.abs(self.value(n))))
        if not math.isfinite(most):
            return
        if most > 4:
            n = ir.mul(n, self.like(n, 2 / most))
        self.values[n] = self.value(n)
        self.pool.append(n)

    def result(self, size: int) -> Node:
        """The last node, to which every other one adds a number."""
        for _ in range(size):
            self.act()
        floats = [n for n in self.pool if n.dtype is FLOAT64 and n.size]
        y = floats[-1]
        total = ir.const(0.0, FLOAT64)
        for n in floats[:-1]:
            total = ir.add(total, ir.reshape(ir.sum_(ir.sin(n), range(n.ndim)), ()))
        return ir.add(y, ir.expand(ir.reshape(total, (1,) * y.ndim), y.shape)) if y.ndim else ir.add(y, total)


def points(seed: int) -> list[Array]:
    rng = np.random.default_rng(seed)
    shapes = [tuple(rng.integers(1, 4, rng.integers(0, 4)).tolist()) for _ in range(2)]
    return [rng.uniform(-1.5, 1.5, s) for s in shapes]


def function(seed: int, size: int) -> tuple[Callable[..., Node], list[Array]]:
    """A random program as a function of nodes, and where to evaluate it."""
    at = points(seed)
    return lambda *xs: Smooth(seed, at, xs).result(size), at


def check_all(seed: int, size: int) -> None:
    f, at = function(seed, size)
    check_derivatives(f, at, tolerance=1e-5, seed=seed)


@settings(program, max_examples=100)
@given(seed=st.integers(0, 2**32), size=st.integers(0, 8))
def test_forward_is_reverse_is_differences(seed: int, size: int) -> None:
    check_all(seed, size)


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, 500, 50))
def test_many_derivatives(start: int) -> None:
    for seed in range(start, start + 50):
        check_all(seed, 2 + seed % 10)


@settings(program, max_examples=40)
@given(seed=st.integers(0, 2**32), size=st.integers(0, 8))
def test_forward_is_reverse_to_the_last_places(seed: int, size: int) -> None:
    """<u, J v> = <Jᵀ u, v>, both computed; and compiled as the interpreter has it."""
    f, at = function(seed, size)
    rng = np.random.default_rng(seed)
    g = Smooth(seed)
    xs = [ir.input(p.shape, FLOAT64, g.stored(p.shape, FLOAT64)) for p in at]
    for x, p in zip(xs, at, strict=True):
        x.src[0].buffer.array[...] = p
    y = f(*xs)
    u, *vs = (g.stored(n.shape, FLOAT64, "plain") for n in (y, *xs))
    along = tangent([y], xs, vs)[0]
    back = gradient([y], xs, [u])
    if along is None:
        assert all(b is None for b in back)
        return
    pairs = [(b, v) for b, v in zip(back, vs, strict=True) if b is not None]
    forward, *parts = interpret([inner(along, u), *(inner(b, v) for b, v in pairs)])
    gs, ds = interpret([b for b, _ in pairs]), interpret([v for _, v in pairs])
    size_of = sum(float(np.sum(np.abs(b * v))) for b, v in zip(gs, ds, strict=True))
    assert abs(float(forward) - float(sum(parts))) <= 1e-11 * (1 + size_of), rng
    roots = [along, *(b for b, _ in pairs)]
    c = number(roots)
    plan = plan_for(c)
    arrays = run(plan, c)
    for (place, shape), want in zip(plan.results, interpret(roots), strict=True):
        held = arrays[place]
        assert held is not None
        np.testing.assert_allclose(held.array.reshape(shape), want, 1e-9, 1e-9 * (1 + np.max(np.abs(want), initial=0)))


def test_a_wrong_derivative_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Off by 0.05%: of tanh, in the programs that have one."""
    right = PARTIALS[Op.TANH]

    def wrong(n: Node, *src: Node) -> Any:
        return (ir.mul(ir.const(1.0005, n.dtype, n.shape), ir.sub(ir.const(1.0, n.dtype, n.shape), ir.mul(n, n))),)

    assert right is not wrong
    monkeypatch.setitem(PARTIALS, Op.TANH, wrong)
    caught = 0
    for seed in range(240):
        f, at = function(seed, 6)
        y = f(*(ir.input(p.shape, FLOAT64) for p in at))
        if any(n.op is Op.TANH for n in ir.toposort([y])):
            try:
                check_all(seed, 6)
            except AssertionError:
                caught += 1
    assert caught >= 3


# linear programs ------------------------------------------------------------------------------------------------------
class LinearProgram(Generator):
    """Linear programs on integer-valued data, exact in float64."""

    def leaf(self, shape: Shape, dtype: DType) -> Node:
        """Nothing constant may be added: a multiple of the input."""
        if dtype.kind in "iu":
            return self.stored(shape, dtype, "plain")
        x = ir.reshape(self.pool[0], (self.pool[0].size,))
        n = math.prod(shape)
        at = ir.mod(ir.iota(n), ir.const(max(x.shape[0], 1), ir.INT64, (n,)))
        return ir.reshape(ir.gather(x, at, 0), shape) if x.shape[0] else ir.const(0.0, FLOAT64, shape)

    def want(self, shape: Shape, dtype: DType) -> Node:
        same = [n for n in self.pool if n.shape == shape and n.dtype is dtype]
        return self.one(same) if same and self.chance(0.7) else self.leaf(shape, dtype)

    def factor(self, shape: Shape) -> Node:
        values = self.data.integers(-2, 3, shape).astype(np.float64)
        n = self.stored(shape, FLOAT64)
        self.pool.pop()
        n.buffer.array[...] = values
        return n

    def act(self) -> None:
        a = self.one([n for n in self.pool if n.dtype is FLOAT64][-5:])
        b = self.want(a.shape, FLOAT64)
        pick = self.int(0, 10)
        if pick <= 1 or not a.ndim:
            custom = ir.custom(ir.neg(a), [a], [], lambda _, g: (ir.neg(g),))
            n = self.one([ir.neg(a), ir.add(a, b), ir.sub(a, b), ir.mul(a, self.factor(a.shape)), ir.fence(a),
                          ir.alias(a), ir.input(a.shape, a.dtype, a), custom,
                          ir.where(ir.eq(self.factor(a.shape), self.factor(a.shape)), a, b)])  # fmt: skip
        elif pick == 2:
            n = ir.sum_(a, [i for i in range(a.ndim) if self.chance(0.6)])
        elif pick == 3:
            axis = self.int(0, a.ndim - 1)
            n = ir.scan("sum", axis, a) if self.chance(0.5) else ir.scan("linrec", axis, self.signs(a.shape), a)
        elif pick == 4:
            n = self.scatter(self.one(("sum", "set")), a)
        elif pick == 5:
            m, k, p = self.int(1, 3), self.int(1, 4), self.int(1, 3)
            n = self.matmul(self.want((m, k), FLOAT64), self.factor((k, p)))
        else:
            n = self.movement(self.one(sorted(ir.MOVEMENT, key=lambda o: o.value)), a)
        if n.size <= 200 and n.ndim <= 5:
            self.pool.append(n)

    def signs(self, shape: Shape) -> Node:
        n = self.factor(shape)
        n.buffer.array[...] = np.sign(n.buffer.array)
        return n


def linear(seed: int, size: int) -> tuple[Callable[..., Node], list[Array]]:
    rng = np.random.default_rng(seed)
    shape = tuple(rng.choice([0, 1, 2, 3, 4], size=int(rng.integers(1, 4)), p=[0.04, 0.2, 0.26, 0.3, 0.2]).tolist())

    def f(x: Node) -> Node:
        g = LinearProgram(seed)
        g.pool = [x]
        for _ in range(size):
            g.act()
        return [n for n in g.pool if n.dtype is FLOAT64][-1]

    return f, [rng.integers(-5, 6, shape).astype(np.float64)]


@settings(program, max_examples=100)
@given(seed=st.integers(0, 2**32), size=st.integers(1, 8))
def test_adjoints_are_exact(seed: int, size: int) -> None:
    """<A x, u> = <x, Aᵀ u> to the bit: every sum is of integers below 2⁵³."""
    f, at = linear(seed, size)
    check_linear(f, at, seed % 1000)


def test_linear_programs_use_every_linear_operation() -> None:
    seen: set[object] = set()
    for seed in range(300):
        f, at = linear(seed, 8)
        for n in ir.toposort([f(ir.input(at[0].shape, FLOAT64))]):
            seen.add(n.arg[0] if n.op in (Op.SCAN, Op.SCATTER) else n.op)
    movement = ir.MOVEMENT | {Op.NEG, Op.ADD, Op.SUB, Op.MUL, Op.WHERE, Op.SUM, Op.FENCE, Op.CUSTOM, Op.INPUT}
    assert {*movement, "sum", "set", "linrec"} <= seen


# vmap -----------------------------------------------------------------------------------------------------------------
@settings(program, max_examples=60)
@given(seed=st.integers(0, 2**32), size=st.integers(0, 8), what=st.sampled_from(["value", "gradient", "tangent"]))
def test_vmap_is_a_loop(seed: int, size: int, what: str) -> None:
    """Of a program, of its gradient and of its tangent, over both inputs or the first alone."""
    f, at = function(seed, size)
    xs = [ir.input(p.shape, FLOAT64) for p in at]
    y = f(*xs)
    outputs: list[Node | None] = [y]
    if what == "gradient":
        outputs = gradient([y], xs, [ir.const(1.0, FLOAT64, y.shape)])
    elif what == "tangent":
        outputs = tangent([y], xs, xs)
    roots = [n for n in outputs if n is not None]
    if not roots:
        return
    rng = np.random.default_rng(seed)
    count = 3
    chosen = xs if seed % 2 else xs[:1]
    data = [at[i] + rng.uniform(-1e-4, 1e-4, (count, *at[i].shape)) for i in range(len(chosen))]
    leads = [ir.input(d.shape, FLOAT64) for d in data]
    out = batch(roots, chosen, leads, count)
    rest = dict(zip(xs[len(chosen) :], at[len(chosen) :], strict=True))
    got = interpret(out, dict(zip(leads, data, strict=True)) | rest)
    for k in range(count):
        want = interpret(roots, dict(zip(chosen, [np.asarray(d[k]) for d in data], strict=True)) | rest)
        for g, w in zip(got, want, strict=True):
            np.testing.assert_allclose(g[k], w, 1e-12, 1e-12 * (1 + np.max(np.abs(w), initial=0)))
