"""Nonlinearities of neural networks and the softmax family."""

from __future__ import annotations

import math

from .. import ir
from ..ir import Node, Op
from . import elementwise, reductions
from .core import Axis, Operand, axes_of, float_type, like, node


def _float(x: Operand) -> Node:
    return node(x, float_type(x))


def relu(x: Operand) -> Node:
    """max(x, 0) as where(x <= 0, 0, x): NaN stays NaN; the derivative at 0 is 0."""
    n = node(x)
    zero = like(0, n)
    positive = ir.or_(ir.lt(n, zero), ir.eq(n, zero)) if n.dtype.kind == "f" else ir.not_(ir.lt(zero, n))
    return ir.where(positive, zero, n)


def leaky_relu(x: Operand, negative_slope: float = 0.01) -> Node:
    """x where x > 0, else negative_slope·x (also the derivative at 0)."""
    n = _float(x)
    return ir.where(ir.lt(like(0, n), n), n, ir.mul(n, like(negative_slope, n)))


def elu(x: Operand, alpha: float = 1.0) -> Node:
    """x where x > 0, else alpha·(e^x - 1)."""
    n = _float(x)
    return ir.where(ir.lt(like(0, n), n), n, ir.mul(like(alpha, n), ir.expm1(n)))


def selu(x: Operand) -> Node:
    """scale·elu(x, alpha) with the fixed point of mean 0 and variance 1. Source: Klambauer et al. 2017."""
    n = elu(x, 1.6732632423543772)
    return ir.mul(like(1.0507009873554805, n), n)


def _minus_magnitude(x: Node) -> Node:
    """-|x|, with derivative -1 at 0, as the branch x >= 0 has."""
    return ir.where(ir.lt(x, like(0, x)), x, ir.neg(x))


def sigmoid(x: Operand) -> Node:
    """1 / (1 + e^-x), accurate in both tails."""
    n = _float(x)
    one = like(1, n)
    t = ir.exp(_minus_magnitude(n))
    return ir.div(ir.where(ir.lt(n, like(0, n)), t, one), ir.add(one, t))


def log_sigmoid(x: Operand) -> Node:
    """log sigmoid(x) = -softplus(-x)."""
    return ir.neg(softplus(ir.neg(_float(x))))


def softplus(x: Operand) -> Node:
    """log(1 + e^x) = max(x, 0) + log1p(e^-|x|)."""
    n = _float(x)
    zero = like(0, n)
    return ir.add(ir.where(ir.lt(n, zero), zero, n), ir.log1p(ir.exp(_minus_magnitude(n))))


def softsign(x: Operand) -> Node:
    """x / (1 + |x|)."""
    n = _float(x)
    return ir.div(n, ir.sub(like(1, n), _minus_magnitude(n)))


def silu(x: Operand) -> Node:
    """x·sigmoid(x)."""
    n = _float(x)
    return ir.mul(n, sigmoid(n))


def gelu(x: Operand, approximate: str = "none") -> Node:
    """x·Φ(x) with Φ the normal distribution function; ``approximate="tanh"`` is the usual formula with tanh.

    Source: Hendrycks and Gimpel 2016.
    """
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}")
    n = _float(x)
    half, one = like(0.5, n), like(1, n)
    if approximate == "none":
        inner = ir.erf(ir.mul(n, like(math.sqrt(0.5), n)))
    else:
        cubic = ir.mul(like(0.044715, n), ir.mul(n, ir.mul(n, n)))
        inner = ir.tanh(ir.mul(like(math.sqrt(2 / math.pi), n), ir.add(n, cubic)))
    return ir.mul(ir.mul(half, n), ir.add(one, inner))


def _centered(x: Operand, axis: Axis) -> tuple[Node, tuple[int, ...]]:
    """x minus its maximum over `axis`, which is a constant for derivatives: it cancels from the result."""
    n = _float(x)
    axes = axes_of(axis, len(n.shape))
    top = ir.reduce(Op.REDUCE_MAX, ir.detach(n), axes)
    return ir.sub(n, ir.expand(top, n.shape)), axes


def softmax(x: Operand, axis: Axis = -1) -> Node:
    """e^x / Σ e^x over `axis`, without overflow; NaN where all are -inf.

    One division a row: the sum is at least 1, so a product with its reciprocal is as good, and so are the derivatives.
    """
    z, axes = _centered(x, axis)
    e = ir.exp(z)
    total = ir.sum_(e, axes)
    return ir.mul(e, ir.expand(ir.div(like(1, total), total), e.shape))


def log_softmax(x: Operand, axis: Axis = -1) -> Node:
    """log softmax(x) over `axis`, accurate where softmax is tiny."""
    z, axes = _centered(x, axis)
    return ir.sub(z, ir.expand(ir.log(ir.sum_(ir.exp(z), axes)), z.shape))


tanh = elementwise.tanh
logsumexp = reductions.logsumexp
