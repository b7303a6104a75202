"""Each rewrite gives the same bits, on values chosen to break it; and what must not be rewritten is not."""

from __future__ import annotations

import numpy as np
import pytest

from tinyad import ir
from tinyad.interpret import interpret
from tinyad.ir import BOOL, FLOAT32, FLOAT64, INT32, Node, Op
from tinyad.simplify import RULES, simplify
from tinyad.verify import verify

SPECIAL = np.array([0.0, -0.0, 1.5, -2.0, np.inf, -np.inf, np.nan, 1e-45], np.float32)


def leaf(values: np.ndarray) -> Node:
    n = ir.input(values.shape, np.dtype(values.dtype))
    BOUND[n] = values
    return n


BOUND: dict[Node, np.ndarray] = {}
X = leaf(SPECIAL)
J = leaf(np.array([0, 1, -5, 2**31 - 1], np.int32))
C = leaf(np.array([True, False] * 4))
D = leaf(np.array([True, True, False, False] * 2))
M = leaf(np.arange(24, dtype=np.float32).reshape(2, 3, 4))


def const(value, dtype=FLOAT32, shape=SPECIAL.shape) -> Node:
    return ir.const(value, dtype, shape)


def positions(axis: int, shape=(4, 4)) -> Node:
    """The index along `axis`."""
    row = ir.reshape(ir.iota(shape[axis]), tuple(m if i == axis else 1 for i, m in enumerate(shape)))
    return ir.expand(row, shape)


def padded(x: Node, start: int, size: int = 20) -> Node:
    return ir.pad(x, [(start, size - start - x.shape[0], 0)])


T = const(True, BOOL)
REWRITTEN = {
    "pad + pad": ir.add(padded(X, 0, 16), padded(ir.neg(X), 8, 16)),
    "pad + pad, the later one first": ir.add(padded(X, 11), padded(ir.neg(X), 3)),
    "pad or pad": ir.or_(padded(C, 2), padded(C, 10)),
    "pad true or pad true": ir.or_(padded(T, 8, 16), padded(T, 0, 16)),
    "x * 1": ir.mul(X, const(1)),
    "1 * x": ir.mul(const(1), X),
    "x / 1": ir.div(X, const(1)),
    "x - 0": ir.sub(X, const(0.0)),
    "x + -0": ir.add(X, const(-0.0)),
    "i + 0": ir.add(J, const(0, INT32, (4,))),
    "i * 1": ir.mul(const(1, INT32, (4,)), J),
    "--x": ir.neg(ir.neg(X)),
    "not not c": ir.not_(ir.not_(C)),
    "max(x, x)": ir.maximum(X, X),
    "c and true": ir.and_(C, const(True, BOOL)),
    "c and false": ir.and_(const(False, BOOL), C),
    "c or true": ir.or_(C, const(True, BOOL)),
    "where(true)": ir.where(const(True, BOOL), X, ir.neg(X)),
    "where(false)": ir.where(const(False, BOOL), X, ir.neg(X)),
    "where(c, x, x)": ir.where(C, X, X),
    "any(i >= j)": ir.reduce(Op.REDUCE_MAX, ir.not_(ir.lt(positions(0), positions(1))), (1,)),
    "where(c, where(c or d, x, y), z)": ir.where(C, ir.where(ir.or_(C, D), X, const(7.0)), const(3.0)),
    "where(c, x, where(c and d, y, z))": ir.where(C, X, ir.where(ir.and_(D, C), const(7.0), const(3.0))),
    "where(c, where(not c, x, y), z)": ir.where(C, ir.where(ir.not_(C), X, const(7.0)), const(3.0)),
    "where(not c)": ir.where(ir.not_(C), X, const(7.0)),
    "f32 -> f64 -> f32": ir.cast(ir.cast(X, FLOAT64), FLOAT32),
    "bool -> f32 -> bool": ir.cast(ir.cast(C, FLOAT32), BOOL),
    "reshape of reshape": ir.reshape(ir.reshape(M, (6, 4)), (3, 8)),
    "reshape and back": ir.reshape(ir.reshape(M, (6, 4)), (2, 3, 4)),
    "permute of permute": ir.permute(ir.permute(M, (2, 0, 1)), (2, 1, 0)),
    "permute and back": ir.permute(ir.permute(M, (2, 0, 1)), (1, 2, 0)),
    "expand of expand": ir.expand(ir.expand(ir.reshape(X, (1, 8, 1)), (1, 8, 3)), (2, 8, 3)),
    "flip of flip": ir.flip(ir.flip(M, (0, 1)), (1, 2)),
    "shrink of shrink": ir.shrink(ir.shrink(M, [(0, 2, 1), (1, 3, 1), (0, 4, 2)]), [(1, 2, 1), (0, 2, 1), (1, 2, 1)]),
    "skew along one": ir.skew(ir.reshape(M, (2, 12, 1)), 1, 2, 5, 0, 12),
    "skew along one, shifted": ir.skew(ir.reshape(M, (2, 12, 1)), 1, 2, 5, -3, 20),
    "shrink of pad": ir.shrink(ir.pad(M, [(1, 2, 0), (0, 0, 2), (3, 1, 1)]), [(1, 3, 1), (0, 7, 3), (3, 10, 2)]),
}
KEPT = {
    "any(i < j)": ir.reduce(Op.REDUCE_MAX, ir.lt(positions(0), positions(1)), (1,)),
    "any(i >= j) over i": ir.reduce(Op.REDUCE_MAX, ir.not_(ir.lt(positions(0, (3, 4)), positions(1, (3, 4)))), (0,)),
    "x + 0": ir.add(X, const(0.0)),
    "x * 0": ir.mul(X, const(0.0)),
    "x - -0": ir.sub(X, const(-0.0)),
    "x - x": ir.sub(X, X),
    "f64 -> f32 -> f64": ir.cast(ir.cast(ir.cast(X, FLOAT64), FLOAT32), FLOAT64),
    "i -> f32 -> i": ir.cast(ir.cast(J, FLOAT32), INT32),
    "shrink inside pad": ir.shrink(ir.pad(M, [(1, 2, 0), (0, 0, 0), (0, 0, 0)]), [(0, 2, 1), (0, 3, 1), (0, 4, 1)]),
}


def bits(n: Node) -> np.ndarray:
    (value,) = interpret([n], BOUND)
    return np.where(np.isnan(value), np.nan, value) if value.dtype.kind == "f" else value


@pytest.mark.parametrize("name", REWRITTEN)
def test_a_rewrite_gives_the_same_bits(name: str):
    n = REWRITTEN[name]
    new = simplify(n)
    assert new is not n
    verify([new])
    a, b = bits(n), bits(new)
    assert a.dtype == b.dtype and a.shape == b.shape
    assert np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    if a.dtype.kind == "f":
        assert np.array_equal(np.signbit(a) & ~np.isnan(a), np.signbit(b) & ~np.isnan(b))


@pytest.mark.parametrize("name", KEPT)
def test_what_is_not_exact_is_not_rewritten(name: str):
    assert simplify(KEPT[name]) is KEPT[name]


def test_every_rule_is_tested():
    assert {n.op for n in REWRITTEN.values()} >= set(RULES) - {Op.MIN}
