"""`edges`: one step of the chain rule, to be looked at and called by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from .. import history, ir
from ..autodiff import gradient
from ..ir import Node
from ..tensor import Tensor
from .tracing import agreeing, filled


class Edge(NamedTuple):
    """From a tensor to one it was made of: `pull` maps a derivative by the former to its share of that by `parent`.

    Between numbers ``pull(1.0)`` is the local derivative.
    """

    parent: Tensor
    pull: Callable[[Any], Tensor]


def edges(t: Tensor) -> list[Edge]:
    """The edges from `t` to the operands of the operation that made it; none for a leaf, nor for a computed tensor
    whose history was dropped.

    The derivative by any tensor behind `t` is the sum, over all paths of edges to it, of their pulls in sequence.
    `parent` is the tensor you hold, if you hold it.
    """
    n = t.node
    inputs = [ir.input(s.shape, s.dtype, s) for s in n.src]
    copy = Node(n.op, tuple(inputs), n.arg, n.shape, n.dtype)

    def pull_to(i: int) -> Callable[[Any], Tensor]:
        def pull(g: Any) -> Tensor:
            made = gradient([copy], [inputs[i]], [agreeing(g, n, "edge: derivative")])
            return Tensor._of(filled(made, [inputs[i]])[0])

        return pull

    return [Edge(_holder(s), pull_to(i)) for i, s in enumerate(n.src)]


def _holder(n: Node) -> Tensor:
    """The live tensor that stands for `n`, or a new one."""
    t = n.handle() if n.handle is not None and history.held(n) else None
    return t if isinstance(t, Tensor) else Tensor._of(n)
