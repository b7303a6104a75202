"""Forward mode of Python functions: `jvp` and `linearize`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .. import pytree
from ..autodiff import tangent
from .tracing import (
    Body,
    agreeing,
    as_node,
    differentiable,
    filled,
    holes_for,
    inputs_for,
    split_aux,
    tensors,
    tracing,
)


def jvp(
    f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool = False
) -> tuple[Any, ...]:
    """``(f(*primals), its derivative in the direction of tangents)``; a tangent has the structure of its primal.

    Results that do not depend on the primals have zero tangents. With `has_aux`, `f` returns ``(result, aux)`` and a
    third value, aux, is returned.

    Raises TypeError if a primal is not real-valued.
    """
    leaves, structure = pytree.flatten(tuple(primals))
    given = structure.flatten_like(tuple(tangents), "tangents")
    with tracing() as trace:
        nodes = differentiable(leaves, "jvp")
        ts = [agreeing(t, n, "jvp: tangent") for t, n in zip(given, nodes, strict=True)]
        inputs = inputs_for(nodes, trace)
        out, aux = split_aux(f(*structure.unflatten(tensors(inputs))), has_aux, "jvp")
        results, out_structure = pytree.flatten(out)
        ys = [as_node(r, "jvp: results of the function") for r in results]
        pushed = filled(tangent(ys, inputs, ts), ys)
    del out, results
    both = out_structure.unflatten(tensors(ys)), out_structure.unflatten(tensors(pushed))
    return (*both, aux) if has_aux else both


def linearize(f: Callable[..., Any], *primals: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """``(f(*primals), push)``, where ``push(*tangents)`` is the derivative in their direction.

    `f` is traced once; `push` is linear, can be called any number of times and differentiated. With `has_aux`, `f`
    returns ``(result, aux)`` and a third value, aux, is returned.

    Raises TypeError if a primal is not real-valued.
    """
    leaves, structure = pytree.flatten(primals)
    with tracing() as trace:
        inputs = inputs_for(differentiable(leaves, "linearize"), trace)
        out, aux = split_aux(f(*structure.unflatten(tensors(inputs))), has_aux, "linearize")
        results, out_structure = pytree.flatten(out)
        ys = [as_node(r, "linearize: results of the function") for r in results]
        holes = holes_for(inputs)
        body = Body(filled(tangent(ys, inputs, holes), ys), holes)
    del out, results

    def push(*tangents: Any) -> Any:
        """The tangent of the result for these tangents of the primals."""
        given = structure.flatten_like(tangents, "tangents")
        values = [agreeing(t, n, "linearize: tangent") for t, n in zip(given, holes, strict=True)]
        return out_structure.unflatten(tensors(body.on(values)))

    value = out_structure.unflatten(tensors(ys))
    return (value, push, aux) if has_aux else (value, push)
