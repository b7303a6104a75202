"""Derivatives of graphs already recorded: `gradients` towards any tensor, `backward` into the leaves' `grad`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

from .. import ir
from ..autodiff import gradient
from ..errors import GradError
from ..functions import core
from ..ir import GRAD, Node, Op
from ..tensor import Tensor
from .tracing import agreeing, filled, tensors


@overload
def gradients(outputs: Tensor | Sequence[Tensor], inputs: Tensor, grad_outputs: Any = None) -> Tensor: ...
@overload
def gradients(
    outputs: Tensor | Sequence[Tensor], inputs: Sequence[Tensor], grad_outputs: Any = None
) -> list[Tensor]: ...
def gradients(
    outputs: Tensor | Sequence[Tensor], inputs: Tensor | Sequence[Tensor], grad_outputs: Any = None
) -> Tensor | list[Tensor]:
    """The derivative of Σ <grad_output, output> by each input: a lazy tensor per input, of its shape and dtype.

    An input is any tensor, leaf or not; the derivative by it means that tensor, not another of equal value. The
    results are plain expressions, so they can be differentiated again. `grad_outputs` (one per output) may be left
    out, or be None, where the output has one element. An input that no output depends on gives zeros. For a single
    tensor as `inputs` the result is a single tensor.

    Raises:
        GradError: an output depended on an input, but was computed and its history dropped (the error names the line).
        TypeError: an output without `grad_outputs` has more than one element, or is not real-valued.
    """
    ys = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    xs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    for t in (*ys, *xs):
        if not isinstance(t, Tensor):
            raise TypeError(f"gradients: outputs and inputs must be tensors, got {type(t).__name__}")
    if grad_outputs is None:
        gs: list[Any] = [None] * len(ys)
    else:
        gs = [grad_outputs] if isinstance(outputs, Tensor) and not isinstance(grad_outputs, (list, tuple)) else (
            list(grad_outputs)
        )  # fmt: skip
        if len(gs) != len(ys):
            raise ValueError(f"gradients: expected {len(ys)} grad_outputs, one per output, got {len(gs)}")
    targets = [x.node for x in xs]
    for n in targets:
        if n.dtype.kind != "f":
            raise TypeError(
                "gradients requires real-valued inputs (input dtype that is a sub-dtype of np.floating), "
                f"but got {n.dtype.name} ({core.origins(n)})."
            )
    seeds = [seed(y.node, g, "gradients") for y, g in zip(ys, gs, strict=True)]
    found = tensors(filled(gradient([y.node for y in ys], targets, seeds), targets))
    return found[0] if isinstance(inputs, Tensor) else found


def seed(y: Node, g: Any, transform: str) -> Node:
    """The cotangent that `transform` starts with at `y`: `g`, or one for a `y` with one element."""
    if y.dtype.kind != "f":
        raise TypeError(
            f"{transform} requires real-valued outputs (output dtype that is a sub-dtype of np.floating), "
            f"but got {y.dtype.name} ({core.origins(y)})."
        )
    if g is not None:
        return agreeing(g, y, f"{transform}: gradient of the output")
    if y.size != 1:
        raise TypeError(
            f"Gradient only defined for scalar-output functions. Output had shape: {y.shape} ({core.origins(y)}); "
            "reduce it to one number, or say the gradient of the output"
        )
    return ir.const(1, y.dtype, y.shape)


def leaves_behind(root: Node) -> list[Node]:
    """The leaves made with ``requires_grad=True`` that `root` depends on and that a tensor still stands for.

    An assigned leaf that is not computed yet is a DETACH node with the trace of a leaf.
    """

    def sources(n: Node) -> tuple[Node, ...]:
        return () if n.op is Op.DETACH else tuple([s for s in n.src if s.trace is GRAD])

    return [
        n
        for n in ir.toposort([root], sources)
        if (not n.src or n.op is Op.DETACH) and n.trace is GRAD and n.handle is not None and n.handle() is not None
    ]


def backward(t: Tensor, gradient_of: Any = None, create_graph: bool = False) -> None:
    """Adds the derivative of `t` (of <t, gradient_of> if given) into `grad` of every `requires_grad` leaf behind it.

    What is added is detached unless `create_graph`. Leaves that are not reached keep the `grad` they had.

    Raises:
        GradError: no leaf made with ``requires_grad=True`` stands behind `t`.
        TypeError: `t` has more than one element and `gradient_of` is not given.
    """
    root = t.node
    if root.trace is not GRAD:
        raise GradError(
            f"backward: no tensor made with requires_grad=True stands behind this one ({core.origins(root)}); "
            "to differentiate by another tensor use ad.gradients(y, x) or ad.grad(f)"
        )
    start = seed(root, gradient_of, "backward")
    leaves = leaves_behind(root)
    for leaf, g in zip(leaves, gradient([root], leaves, [start]), strict=True):
        handle = leaf.handle() if leaf.handle is not None else None
        if g is None or handle is None:
            continue
        if not create_graph:
            g = ir.detach(g)
        new = Tensor._of(g)
        handle.grad = new if handle.grad is None else handle.grad + new
