"""Whole derivative matrices: each is `vmap` of a linear map over the unit vectors; nothing loops in Python."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from .. import ir, pytree
from ..functions import core
from ..ir import INT64, Node
from ..tensor import Tensor
from .reverse import grad, vjp
from .tangents import jvp, linearize
from .tracing import differentiable, picked, replaced
from .vectorize import vmap


def _unit_vectors(nodes: Sequence[Node]) -> list[Tensor]:
    """The unit vectors of the space of all elements of `nodes`: for each node, [total, *shape]."""
    total = sum(n.size for n in nodes)
    row = ir.reshape(ir.iota(total), (total, 1))
    start = 0
    out = []
    for n in nodes:
        column = ir.add(ir.iota(n.size), ir.const(start, INT64, (n.size,)))
        hit = ir.eq(ir.expand(row, (total, n.size)), ir.expand(ir.reshape(column, (1, n.size)), (total, n.size)))
        out.append(Tensor._of(ir.reshape(ir.cast(hit, n.dtype), (total, *n.shape))))
        start += n.size
    return out


def _rows(stacked: Tensor, nodes: Sequence[Node], last: bool) -> list[Tensor]:
    """`stacked` [total, *rest] cut into one tensor per node: [*shape, *rest], or [*rest, *shape] if `last`."""
    rest = stacked.shape[1:]
    start = 0
    out = []
    for n in nodes:
        part = ir.shrink(stacked.node, [(start, start + n.size, 1), *((0, m, 1) for m in rest)])
        part = ir.reshape(part, (*n.shape, *rest))
        if last:
            k = len(n.shape)
            part = ir.permute(part, [*range(k, part.ndim), *range(k)])
        out.append(Tensor._of(part))
        start += n.size
    return out


def _of_arguments(
    f: Callable[..., Any], argnums: int | Sequence[int], transform: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Callable[..., Any], list[Any]]:
    """`f` as a function of the chosen arguments alone, and these."""
    positions = picked(argnums, len(args), transform)
    return (lambda *chosen: f(*replaced(args, positions, chosen), **kwargs)), [args[i] for i in positions]


def jacfwd(f: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable[..., Any]:
    """The Jacobian of `f` by forward mode: right for few inputs and many outputs.

    For every leaf of the result a tree like argument `argnums`, each leaf ``[*result.shape, *argument.shape]``.
    """

    @functools.wraps(f)
    def jacobian(*args: Any, **kwargs: Any) -> Any:
        of_chosen, chosen = _of_arguments(f, argnums, "jacfwd", args, kwargs)
        leaves, structure = pytree.flatten(tuple(chosen))
        nodes = differentiable(leaves, "jacfwd")
        _, push, *aux = linearize(of_chosen, *chosen, has_aux=has_aux)
        columns = vmap(push)(*structure.unflatten(_unit_vectors(nodes)))

        def tree(column: Tensor) -> Any:
            made = structure.unflatten(_rows(column, nodes, last=True))
            return made[0] if isinstance(argnums, int) else made

        result = pytree.map(tree, columns)
        return (result, aux[0]) if has_aux else result

    return jacobian


def jacrev(f: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable[..., Any]:
    """The Jacobian of `f` by reverse mode: right for many inputs and few outputs. The result is that of `jacfwd`.

    Raises TypeError if a result of `f` is not real-valued.
    """

    @functools.wraps(f)
    def jacobian(*args: Any, **kwargs: Any) -> Any:
        of_chosen, chosen = _of_arguments(f, argnums, "jacrev", args, kwargs)
        y, pull, *aux = vjp(of_chosen, *chosen, has_aux=has_aux)
        results, out_structure = pytree.flatten(y)
        nodes = [r.node for r in results]
        for n in nodes:
            if n.dtype.kind != "f":
                raise TypeError(
                    "jacrev requires real-valued outputs (output dtype that is a sub-dtype of np.floating), "
                    f"but got {n.dtype.name} ({core.origins(n)})."
                )
        stacked, structure = pytree.flatten(vmap(pull)(out_structure.unflatten(_unit_vectors(nodes))))
        cut = [_rows(s, nodes, last=False) for s in stacked]  # [argument leaf][result leaf]
        trees = []
        for i in range(len(nodes)):
            made = structure.unflatten([rows[i] for rows in cut])
            trees.append(made[0] if isinstance(argnums, int) else made)
        result = out_structure.unflatten(trees)
        return (result, aux[0]) if has_aux else result

    return jacobian


def hessian(f: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable[..., Any]:
    """The second derivatives of `f`, forward over reverse: ``[*argument.shape, *argument.shape]`` for a scalar `f`."""
    return jacfwd(jacrev(f, argnums, has_aux), argnums, has_aux)


def hvp(f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
    """The Hessian of the scalar function `f` at `primals` times `tangents`, without the Hessian.

    The result has the structure of the primals; for one primal, of that primal.
    """
    every = tuple(range(len(primals)))
    result: tuple[Any, ...] = jvp(grad(f, argnums=every), primals, tangents)[1]
    return result[0] if len(result) == 1 else result
