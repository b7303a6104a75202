"""Loss functions. `reduction`: mean, sum or none."""

from __future__ import annotations

from typing import Final

from .. import ir
from ..dtypes import promote
from ..errors import DTypeError, ShapeError
from ..ir import Node
from . import activations, elementwise, reductions
from .core import Operand, axis_index, drop_axes, float_type, like, located, origins, together

_REDUCTIONS: Final = ("mean", "sum", "none")


def _reduced(loss: Node, reduction: str) -> Node:
    if reduction not in _REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(_REDUCTIONS)}; got {reduction!r}")
    return loss if reduction == "none" else reductions.mean(loss) if reduction == "mean" else reductions.sum(loss)


def _refuse_integers(name: str, x: Node) -> None:
    if x.dtype.kind != "f":
        raise DTypeError(f"{name}: expected scores of a floating point dtype, got {x.dtype.name} ({origins(x)})")


def _picked(log_probabilities: Node, target: Node, i: int, name: str) -> Node:
    """-log_probabilities[.., target, ..] along axis i; target has the other axes."""
    rest = (*log_probabilities.shape[:i], *log_probabilities.shape[i + 1 :])
    if target.shape != rest:
        raise ShapeError(
            f"{name}: expected labels of shape {rest} for the classes along axis {i}, got {target.shape} "
            f"({origins(log_probabilities, target)})"
        )
    index = ir.reshape(target, (*rest[:i], 1, *rest[i:]))
    return ir.neg(drop_axes(located(ir.gather(log_probabilities, index, i)), (i,)))


def nll_loss(log_probabilities: Node, target: Node, axis: int = -1, reduction: str = "mean") -> Node:
    """-log_probabilities[target] along `axis`, averaged; `target` holds integer labels in [0, classes)."""
    if target.dtype.kind not in "iu":
        raise DTypeError(f"nll_loss: expected integer labels ({origins(target)})")
    _refuse_integers("nll_loss", log_probabilities)
    i = axis_index(axis, len(log_probabilities.shape))
    return _reduced(_picked(log_probabilities, target, i, "nll_loss"), reduction)


def cross_entropy(logits: Node, target: Node, axis: int = -1, reduction: str = "mean",
                  label_smoothing: float = 0.0) -> Node:  # fmt: skip
    """-log softmax(logits) at the labels along `axis`, averaged.

    `target` holds integer labels in [0, classes), with the shape of the logits without `axis`; or class
    probabilities of the logits' shape and a float dtype. `label_smoothing` mixes in the uniform distribution.
    """
    i = axis_index(axis, len(logits.shape))
    _refuse_integers("cross_entropy", logits)
    if target.dtype.kind == "b":
        raise DTypeError(f"cross_entropy: expected integer labels or class probabilities ({origins(target)})")
    logp = activations.log_softmax(logits, i)
    if target.dtype.kind == "f":
        if target.shape != logits.shape:
            raise ShapeError(
                f"cross_entropy: expected class probabilities of the logits' shape ({origins(logits, target)})"
            )
        dtype = promote(logp.dtype, target.dtype)
        product = ir.mul(ir.cast(logp, dtype), ir.cast(target, dtype))
        loss = ir.neg(drop_axes(ir.sum_(product, (i,)), (i,)))
    else:
        loss = _picked(logp, target, i, "cross_entropy")
    if label_smoothing:
        uniform = ir.neg(drop_axes(reductions.mean(logp, i, keepdims=True), (i,)))
        uniform = ir.cast(uniform, loss.dtype)
        keep, mix = like(1 - label_smoothing, loss), like(label_smoothing, loss)
        loss = ir.add(ir.mul(keep, loss), ir.mul(mix, uniform))
    return _reduced(loss, reduction)


def mse_loss(prediction: Operand, target: Operand, reduction: str = "mean") -> Node:
    """(prediction - target)², averaged."""
    a, b = together(prediction, target, dtype=float_type(prediction, target))
    return _reduced(elementwise.square(ir.sub(a, b)), reduction)


def l1_loss(prediction: Operand, target: Operand, reduction: str = "mean") -> Node:
    """|prediction - target|, averaged."""
    a, b = together(prediction, target, dtype=float_type(prediction, target))
    return _reduced(ir.abs_(ir.sub(a, b)), reduction)


def binary_cross_entropy_with_logits(logits: Operand, target: Operand, reduction: str = "mean") -> Node:
    """-(t·log σ(x) + (1 - t)·log(1 - σ(x))) = softplus(x) - t·x, averaged; `target` t lies in [0, 1]."""
    x, t = together(logits, target, dtype=float_type(logits, target))
    zero = like(0, x)
    below = ir.lt(x, zero)  # softplus(x) - t·x, written so that large |x| cancel exactly
    linear = ir.mul(ir.sub(ir.where(below, zero, like(1, x)), t), x)
    tail = ir.log1p(ir.exp(ir.where(below, x, ir.neg(x))))
    return _reduced(ir.add(linear, tail), reduction)


def hinge_loss(prediction: Operand, target: Operand, margin: float = 1.0, reduction: str = "mean") -> Node:
    """relu(margin - prediction·target), averaged; `target` is -1 or 1. The derivative at the corner is 0."""
    a, b = together(prediction, target, dtype=float_type(prediction, target))
    return _reduced(activations.relu(ir.sub(like(margin, a), ir.mul(a, b))), reduction)


def huber_loss(prediction: Operand, target: Operand, delta: float = 1.0, reduction: str = "mean") -> Node:
    """½d² where |d| <= delta, else delta·(|d| - ½delta), averaged; d = prediction - target."""
    a, b = together(prediction, target, dtype=float_type(prediction, target))
    d = ir.sub(a, b)
    size, limit, half = ir.abs_(d), like(delta, d), like(0.5, d)
    far = ir.mul(limit, ir.sub(size, ir.mul(half, limit)))
    return _reduced(ir.where(ir.lt(limit, size), far, ir.mul(half, ir.mul(d, d))), reduction)
