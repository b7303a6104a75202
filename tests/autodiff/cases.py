"""One case or more for every differentiable operation: a function of IR nodes and points away from its kinks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from tinyad import ir
from tinyad.ir import FLOAT32, FLOAT64, INT64, Node, Op

Array = np.ndarray[Any, np.dtype[Any]]


class Case(NamedTuple):
    name: str
    f: Callable[..., Node]
    points: Sequence[Array]
    ops: frozenset[Op]
    linear: bool = False

    def __repr__(self) -> str:
        return self.name


def array(*shape: int, low: float = -2.0, high: float = 2.0, seed: int = 0) -> Array:
    return np.random.default_rng(seed).uniform(low, high, shape)


def integers(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(-9, 10, shape).astype(np.float64)


def fixed(values: Array | Sequence[Any], shape: tuple[int, ...]) -> Node:
    """Given integers in [0, 8) as a node without a buffer: the digits of a constant, by a sum of selected constants."""
    flat = np.asarray(values, np.int64).reshape(-1)
    parts = [ir.const(int(v), INT64, (1,)) for v in flat]
    return ir.reshape(ir.cat(parts, 0) if parts else ir.const(0, INT64, (0,)), shape)


def like(a: Node, value: float) -> Node:
    return ir.const(value, a.dtype, a.shape)


def _scalar(op: Op, low: float, high: float) -> Case:
    return Case(op.value, partial(ir.unary, op), [array(2, 3, low=low, high=high)], frozenset({op}))


def _binary(op: Op, a: tuple[float, float], b: tuple[float, float], name: str = "") -> Case:
    points = [array(2, 3, low=a[0], high=a[1]), array(2, 3, low=b[0], high=b[1], seed=1)]
    return Case(name or op.value, partial(ir.binary, op), points, frozenset({op}))


def _one(name: str, op: Op, f: Callable[..., Node], *shapes: tuple[int, ...]) -> Case:
    return Case(name, f, [integers(*s, seed=i) for i, s in enumerate(shapes)], frozenset({op}), linear=True)


def _windows(a: Node) -> Node:
    """Every second window of three."""
    return ir.shrink(ir.skew(ir.expand(a, (7, 3)), 0, 1, 1, 0, 5), [(0, 5, 2), (0, 3, 1)])


def _where(a: Node, b: Node) -> Node:
    return ir.where(ir.lt(like(a, 0.3), ir.mul(a, b)), ir.exp(a), ir.mul(b, b))


def _custom(a: Node, b: Node) -> Node:
    """A product and its own rule, through residuals."""
    return ir.custom(ir.mul(a, b), [a, b], [a, b], lambda res, g: (ir.mul(g, res[1]), ir.mul(g, res[0])))


SCALAR = [
    _scalar(Op.NEG, -2, 2), _scalar(Op.ABS, 0.5, 2), _scalar(Op.EXP, -2, 2), _scalar(Op.LOG, 0.5, 3),
    _scalar(Op.EXPM1, -2, 2), _scalar(Op.LOG1P, -0.5, 2), _scalar(Op.SQRT, 0.5, 3), _scalar(Op.SIN, -3, 3),
    _scalar(Op.COS, -3, 3), _scalar(Op.TANH, -2, 2), _scalar(Op.ATAN, -3, 3), _scalar(Op.ERF, -2, 2),
    _scalar(Op.LOG2, 0.5, 3), _scalar(Op.CBRT, 0.5, 3), _scalar(Op.TAN, -1, 1), _scalar(Op.SINH, -2, 2),
    _scalar(Op.COSH, -2, 2), _scalar(Op.ASIN, -0.8, 0.8), _scalar(Op.ACOS, -0.8, 0.8), _scalar(Op.ERFC, -2, 2),
    _scalar(Op.LGAMMA, 0.5, 4),
    _scalar(Op.FLOOR, 0.1, 0.9), _scalar(Op.CEIL, 0.1, 0.9), _scalar(Op.TRUNC, 0.1, 0.9), _scalar(Op.ROUND, 0.1, 0.4),
    _binary(Op.ADD, (-2, 2), (-2, 2)), _binary(Op.SUB, (-2, 2), (-2, 2)), _binary(Op.MUL, (-2, 2), (-2, 2)),
    _binary(Op.DIV, (-2, 2), (0.5, 2)), _binary(Op.IDIV, (4.1, 4.9), (1.1, 1.3)),
    _binary(Op.MOD, (4.1, 4.9), (1.7, 1.9)),
    _binary(Op.POW, (0.5, 2), (-2, 3)), _binary(Op.MAX, (-2, 0), (0.1, 2)), _binary(Op.MAX, (0.1, 2), (-2, 0), "max2"),
    _binary(Op.MIN, (-2, 0), (0.1, 2)), _binary(Op.ATAN2, (-2, 2), (0.5, 2)),
    Case("where", _where, [array(3, 3), array(3, 3, seed=1)], frozenset({Op.WHERE})),
    Case("abs of negative", ir.abs_, [array(4, low=-2, high=-0.5)], frozenset({Op.ABS})),
    Case("pow to a constant", lambda a: ir.pow_(a, like(a, 3.0)), [array(4)], frozenset({Op.POW})),
    Case("custom", _custom, [array(2, 2), array(2, 2, seed=1)], frozenset({Op.CUSTOM})),
]  # fmt: skip

_REPEATED = [[0, 2, 2], [1, 1, 0]]
_IDX = fixed(_REPEATED, (2, 3))
_DISTINCT = np.array([[0.1, 2.0, 1.1, -0.4, 0.7], [3.0, -1.0, 0.4, 0.9, -2.0]])

WEIGHTED = [
    Case(f"{op.value} over {axes}", partial(lambda op, axes, a: ir.reduce(op, a, axes), op, axes),
         [array(2, 3, 2, low=0.5, seed=3)], frozenset({op}))
    for op in (Op.PROD, Op.REDUCE_MAX, Op.REDUCE_MIN) for axes in ((0,), (1,), (0, 2), (0, 1, 2))
] + [
    Case(f"scan {kind} {axis}", partial(ir.scan, kind, axis), [_DISTINCT], frozenset({Op.SCAN}))
    for kind in ("prod", "max", "min") for axis in (0, 1)
] + [
    Case(f"scan linrec {axis}", partial(ir.scan, "linrec", axis), [array(3, 4), array(3, 4, seed=1)],
         frozenset({Op.SCAN}))
    for axis in (0, 1)
] + [
    Case(f"scatter {kind}", lambda g, kind=kind: ir.scatter(kind, g, _IDX, 1, 3), [array(2, 3)],
         frozenset({Op.SCATTER}))
    for kind in ("max", "min")
]  # fmt: skip
for i, case in enumerate(WEIGHTED):
    if "scatter m" in case.name:  # places nothing goes to hold an infinity: look at the others
        WEIGHTED[i] = case._replace(
            f=lambda g, f=case.f: ir.where(ir.lt(ir.abs_(f(g)), like(f(g), 1e9)), f(g), like(f(g), 0.0))
        )

LINEAR = [
    _one("sum", Op.SUM, lambda a: ir.sum_(a, (0, 2)), (2, 3, 2)),
    _one("sum of empty", Op.SUM, lambda a: ir.sum_(a, (1,)), (2, 0)),
    _one("cumsum", Op.SCAN, lambda a: ir.scan("sum", 1, a), (2, 5)),
    _one("scatter sum", Op.SCATTER, lambda a: ir.scatter("sum", a, _IDX, 1, 4), (2, 3)),
    _one("scatter set", Op.SCATTER, lambda a: ir.scatter("set", a, _IDX, 1, 4), (2, 3)),
    _one("scatter of none", Op.SCATTER, lambda a: ir.scatter("sum", a, fixed([], (2, 0)), 1, 4), (2, 0)),
    _one("reshape", Op.RESHAPE, lambda a: ir.reshape(a, (3, 4)), (2, 3, 2)),
    _one("permute", Op.PERMUTE, lambda a: ir.permute(a, (2, 0, 1)), (2, 3, 4)),
    _one("expand", Op.EXPAND, lambda a: ir.expand(a, (3, 2, 4)), (3, 1, 1)),
    _one("expand to none", Op.EXPAND, lambda a: ir.expand(a, (3, 0)), (3, 1)),
    _one("pad", Op.PAD, lambda a: ir.pad(a, [(1, 2, 0), (0, 3, 2)]), (2, 3)),
    _one("pad of empty", Op.PAD, lambda a: ir.pad(a, [(1, 2, 3), (0, 1, 1)]), (0, 3)),
    _one("pad of one", Op.PAD, lambda a: ir.pad(a, [(1, 2, 3)]), (1,)),
    _one("shrink", Op.SHRINK, lambda a: ir.shrink(a, [(1, 3, 1), (0, 5, 2)]), (4, 5)),
    _one("shrink with a remainder", Op.SHRINK, lambda a: ir.shrink(a, [(1, 6, 4), (2, 7, 3)]), (7, 8)),
    _one("shrink to none", Op.SHRINK, lambda a: ir.shrink(a, [(2, 2, 1)]), (4,)),
    _one("shrink to none by steps", Op.SHRINK, lambda a: ir.shrink(a, [(2, 2, 3), (0, 1, 5)]), (4, 3)),
    _one("flip", Op.FLIP, lambda a: ir.flip(a, (0, 1)), (3, 2)),
    _one("skew", Op.SKEW, lambda a: ir.skew(a, 0, 1, 1, 0, 4), (6, 3)),
    _one("skew backwards", Op.SKEW, lambda a: ir.skew(a, 1, 0, -2, 1, 7), (3, 4)),
    _one("skew of none", Op.SKEW, lambda a: ir.skew(a, 0, 1, 1, 1, 3), (0, 2)),
    _one("cat", Op.CAT, lambda a, b, c: ir.cat([a, b, c, a], 1), (2, 3), (2, 0), (2, 1)),
    _one("cat with a constant", Op.CAT, lambda a: ir.cat([ir.const(0.0, FLOAT64, (2, 2)), a], 1), (2, 3)),
    _one("gather", Op.GATHER, lambda a: ir.gather(a, _IDX, 1), (2, 4)),
    _one("gather of the other axis", Op.GATHER, lambda a: ir.gather(a, _IDX, 0), (3, 3)),
    _one("gather none", Op.GATHER, lambda a: ir.gather(a, fixed([], (2, 0)), 1), (2, 4)),
    _one("cast", Op.CAST, lambda a: ir.cast(ir.cast(a, FLOAT32), FLOAT64), (3,)),
    _one("fence", Op.FENCE, ir.fence, (3,)),
    _one("alias", Op.RESHAPE, ir.alias, (3,)),
    _one("input", Op.INPUT, lambda a: ir.input(a.shape, a.dtype, a), (3,)),
    _one("windows", Op.SKEW, _windows, (7, 1)),
]  # fmt: skip

ALL = [*SCALAR, *WEIGHTED, *LINEAR]
