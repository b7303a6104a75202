"""Reverse mode of Python functions: `grad`, `value_and_grad`, `vjp`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from .. import ir, pytree
from ..autodiff import gradient
from ..tensor import Tensor
from .tracing import (
    Body,
    agreeing,
    as_node,
    differentiable,
    filled,
    holes_for,
    inputs_for,
    picked,
    replaced,
    split_aux,
    tensors,
    tracing,
)


def value_and_grad(
    f: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Callable[..., tuple[Any, Any]]:
    """The function that returns ``(f(*args), its gradient)``; `f` returns one number as a 0-d tensor.

    The gradient has the structure, shapes and dtypes of argument `argnums` (a tuple of them: a tuple of gradients);
    arguments are pytrees of tensors, NumPy arrays or floats. With `has_aux`, `f` returns ``(number, aux)`` and the
    value is that pair. Inside `f` the values of its arguments can be read.

    Raises:
        TypeError: `f` does not return one real number, or an argument to differentiate by is not real-valued.
    """

    @functools.wraps(f)
    def with_gradient(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        positions = picked(argnums, len(args), "grad")
        leaves, structure = pytree.flatten([args[i] for i in positions])
        with tracing() as trace:
            inputs = inputs_for(differentiable(leaves, "grad"), trace)
            out = f(*replaced(args, positions, structure.unflatten(tensors(inputs))), **kwargs)
            out, aux = split_aux(out, has_aux, "grad")
            y = _number(out)
            seed = ir.const(1, y.dtype)
            grads = filled(gradient([y], inputs, [seed]), inputs)
        del out
        result = structure.unflatten(tensors(grads))
        value = Tensor._of(y)
        return ((value, aux) if has_aux else value), (result[0] if isinstance(argnums, int) else tuple(result))

    return with_gradient


def grad(f: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable[..., Any]:
    """The gradient of `f` as a function of the same arguments (see `value_and_grad`); with `has_aux`, (it, aux)."""
    both = value_and_grad(f, argnums, has_aux)

    @functools.wraps(f)
    def gradient_of(*args: Any, **kwargs: Any) -> Any:
        value, result = both(*args, **kwargs)
        return (result, value[1]) if has_aux else result

    return gradient_of


def vjp(f: Callable[..., Any], *primals: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """``(f(*primals), pull)``, where ``pull(cotangent)`` is a tuple with the cotangent of each primal.

    A cotangent has the structure and shapes of f's result. `pull` is linear, can be called any number of times and
    differentiated. With `has_aux`, `f` returns ``(result, aux)`` and a third value, aux, is returned.

    Raises TypeError if a primal is not real-valued.
    """
    leaves, structure = pytree.flatten(primals)
    with tracing() as trace:
        inputs = inputs_for(differentiable(leaves, "vjp"), trace)
        out, aux = split_aux(f(*structure.unflatten(tensors(inputs))), has_aux, "vjp")
        results, out_structure = pytree.flatten(out)
        ys = [as_node(r, "vjp: results of the function") for r in results]
        holes = holes_for(ys)
        seeds = [h if h.dtype.kind == "f" else None for h in holes]
        body = Body(filled(gradient(ys, inputs, seeds), inputs), holes)
    del out, results

    def pull(cotangent: Any) -> tuple[Any, ...]:
        """The cotangents of the primals for this cotangent of the result."""
        given = out_structure.flatten_like(cotangent, "cotangent")
        values = [agreeing(g, y, "vjp: cotangent") for g, y in zip(given, holes, strict=True)]
        result: tuple[Any, ...] = structure.unflatten(tensors(body.on(values)))
        return result

    value = out_structure.unflatten(tensors(ys))
    return (value, pull, aux) if has_aux else (value, pull)


def _number(out: Any) -> ir.Node:
    """The node of a result that must be one real number."""
    if out is None or pytree.flatten(out)[1] != pytree.LEAF:
        raise TypeError(f"Gradient only defined for scalar-output functions. Output was: {type(out).__name__}.")
    y = as_node(out, "grad: results of the function")
    if y.shape:
        raise TypeError(f"Gradient only defined for scalar-output functions. Output had shape: {y.shape}.")
    if y.dtype.kind != "f":
        raise TypeError(
            "grad requires real-valued outputs (output dtype that is a sub-dtype of np.floating), "
            f"but got {y.dtype.name}."
        )
    return y
