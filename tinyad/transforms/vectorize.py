"""`vmap`: a function of one example as a function of many at once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from .. import ir, pytree
from ..autodiff import batch
from ..ir import Node
from ..tensor import Tensor
from .tracing import Body, as_node, tracing


def vmap(f: Callable[..., Any], in_axes: Any = 0, out_axes: Any = 0) -> Callable[..., Any]:
    """`f` mapped over an axis of its arguments, as one graph: the results stack up along `out_axes`.

    `in_axes` is an int (for every argument), or a tuple or list with one entry per positional argument; an entry is an
    int, None (the argument is the same for all) or a pytree of these matching a front part of the argument. Keyword
    arguments are mapped over axis 0. `out_axes` is likewise for the results; None demands a result that does not
    depend on mapped arguments. Inside `f` values cannot be read: control flow on them raises TraceError.

    Raises:
        ValueError: nothing is mapped, mapped axes differ in size or do not exist, or `in_axes` does not fit.
    """

    @functools.wraps(f)
    def mapped(*args: Any, **kwargs: Any) -> Any:
        if isinstance(in_axes, (tuple, list)) and len(in_axes) != len(args):
            raise ValueError(f"vmap: in_axes has {len(in_axes)} entries for {len(args)} positional arguments")
        leaves, structure = pytree.flatten(args)
        named, named_structure = pytree.flatten(kwargs)
        axes = [*structure.broadcast(in_axes, "in_axes"), *[0] * len(named)]
        leaves += named
        holes: list[Node] = []
        stacked: list[Node] = []
        for i, axis in enumerate(axes):
            if axis is None:
                continue
            n = as_node(leaves[i], "vmap: mapped arguments")
            k = _axis(axis, n.ndim, "in_axes")
            front = ir.permute(n, (k, *(j for j in range(n.ndim) if j != k)))
            stacked.append(front)
            hole = ir.input(front.shape[1:], n.dtype)
            holes.append(hole)
            leaves[i] = hole
        size = _size(stacked)
        with tracing(values=False):
            values = [Tensor._of(x) if isinstance(x, Node) else x for x in leaves]
            count = structure.count
            out = f(*structure.unflatten(values[:count]), **named_structure.unflatten(values[count:]))
            results, out_structure = pytree.flatten(out)
            ys = [as_node(r, "vmap: results of the function") for r in results]
            places = out_structure.broadcast(out_axes, "out_axes")
            made = batch(ys, holes, stacked, size)
        del out, results, values
        outputs = [_placed(y, b, axis, holes) for y, b, axis in zip(ys, made, places, strict=True)]
        return out_structure.unflatten([Tensor._of(n) for n in outputs])

    return mapped


def _axis(axis: Any, ndim: int, what: str) -> int:
    """A non-negative axis; ValueError in the words of vmap if there is none."""
    if not isinstance(axis, int):
        raise TypeError(f"vmap: {what} must hold ints and None, got {type(axis).__name__}")
    if not -ndim <= axis < ndim:
        raise ValueError(f"vmap: {what}={axis} is out of bounds for an array of dimension {ndim}")
    k: int = axis % ndim
    return k


def _size(stacked: list[Node]) -> int:
    """The number of examples, which all mapped arguments agree on."""
    sizes = [*dict.fromkeys(n.shape[0] for n in stacked)]
    if not sizes:
        raise ValueError("vmap: at least one argument must be mapped, but in_axes is None for all")
    if len(sizes) > 1:
        raise ValueError(f"vmap got inconsistent sizes for array axes to be mapped: {', '.join(map(str, sizes))}")
    return sizes[0]


def _placed(y: Node, b: Node, axis: Any, holes: list[Node]) -> Node:
    """The batched result `b` of `y` with its new axis 0 moved to `axis`."""
    if axis is None:
        if Body([y], holes).depends(y):
            raise ValueError("vmap: out_axes is None for a result that depends on mapped arguments")
        return y
    k = _axis(axis, b.ndim, "out_axes")
    order = [*range(1, b.ndim)]
    order.insert(k, 0)
    return ir.permute(b, order)
