"""Functions with a derivative of their own: `custom_vjp`, `checkpoint`; and `stop_gradient`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import ir, pytree
from ..autodiff import gradient
from ..errors import GradError
from ..functions import core
from ..ir import Node, Op
from ..tensor import Tensor, _state
from .tracing import Body, as_node, inputs_for, tensors, tracing

Rule = Callable[[Sequence[Node], list[Node]], Sequence[Node | None]]  # (residuals, cotangents) -> one per argument


def stop_gradient(tree: Any) -> Any:
    """The same values; no derivative passes through them. Leaves that are not tensors stay as they are."""
    return pytree.map(lambda x: x.detach() if isinstance(x, Tensor) else x, tree)


def _attach(ys: Sequence[Node], args: Sequence[Node], residuals: Sequence[Node], rule: Rule) -> list[Node]:
    """`ys` as functions of `args` whose derivative is `rule`.

    A CUSTOM node has one output, so the real-valued results of one dtype are packed into one vector; results of
    several dtypes have a CUSTOM node each dtype, whose rule sees zeros for the others. Results that are not
    real-valued are cut off.
    """
    out = [ir.detach(y) for y in ys]
    shapes = [y.shape for y in ys]
    like = [(y.shape, y.dtype) for y in ys]
    for dtype in dict.fromkeys(y.dtype for y in ys if y.dtype.kind == "f"):
        group = [i for i, y in enumerate(ys) if y.dtype is dtype]
        sizes = [shapes[i] for i in group]

        def packed(res: Sequence[Node], g: Node, group: list[int] = group, sizes: Any = sizes) -> Sequence[Node | None]:
            cotangents = [ir.const(0, d, s) for s, d in like]
            for i, part in zip(group, _unpack(g, sizes), strict=True):
                cotangents[i] = part
            return rule(res, cotangents)

        whole = ir.custom(_pack([ys[i] for i in group]), args, residuals, packed)
        for i, part in zip(group, _unpack(whole, sizes), strict=True):
            out[i] = part
    return out


def _pack(parts: Sequence[Node]) -> Node:
    """One node as it is, several as one vector."""
    if len(parts) == 1:
        return parts[0]
    return ir.cat([ir.reshape(p, (p.size,)) for p in parts], 0)


def _unpack(n: Node, shapes: Sequence[ir.Shape]) -> list[Node]:
    """The parts of what `_pack` made of nodes of these shapes."""
    if len(shapes) == 1:
        return [n]
    out = []
    start = 0
    for shape in shapes:
        stop = start + int(np.prod(shape, dtype=np.int64))
        out.append(ir.reshape(ir.shrink(n, [(start, stop, 1)]), shape))
        start = stop
    return out


def _is_array(x: Any) -> bool:
    return isinstance(x, (Tensor, np.ndarray, np.generic)) or type(x) is float


def checkpoint(f: Callable[..., Any]) -> Callable[..., Any]:
    """`f`, whose intermediate values are computed again for its derivative instead of being kept.

    Values and derivatives of any order are those of `f`. Tensors that `f` uses without being given them (the
    parameters of a module) are differentiated too; what `f` makes of them alone is kept.
    """

    @functools.wraps(f)
    def recomputed(*args: Any, **kwargs: Any) -> Any:
        leaves, structure = pytree.flatten((args, kwargs))
        places = [i for i, x in enumerate(leaves) if _is_array(x)]
        values = [as_node(leaves[i], "checkpoint: arguments") for i in places]
        with tracing() as trace:
            inputs = inputs_for(values, trace)
            for i, t in zip(places, tensors(inputs), strict=True):
                leaves[i] = t
            new_args, new_kwargs = structure.unflatten(leaves)
            leaves.clear()
            results, out_structure = pytree.flatten(f(*new_args, **new_kwargs))
            ys = [as_node(r, "checkpoint: results of the function") for r in results]
            free = Body(ys, inputs).free()
            body = Body(ys, [*inputs, *free])
            kept = [*values, *free]
            real = [i for i, n in enumerate(kept) if n.dtype.kind == "f"]

            def rule(residuals: Sequence[Node], cotangents: list[Node]) -> Sequence[Node | None]:
                fenced = [ir.fence(r) for r in residuals]
                again = body.on(fenced)
                wanted = [g if y.dtype.kind == "f" else None for y, g in zip(again, cotangents, strict=True)]
                return gradient(again, [fenced[i] for i in real], wanted)

            attached = _attach(ys, [kept[i] for i in real], kept, rule)
        return out_structure.unflatten(tensors(attached))

    return recomputed


class custom_vjp:
    """Decorator: a function whose reverse derivative is given by `defvjp`.

    ``fwd(*args)`` returns (result, residuals); ``bwd(residuals, cotangent)`` returns one cotangent per argument, each
    of the argument's structure, or None for zero. Both work on tensors, so what `bwd` computes is differentiated like
    anything else. Arguments are pytrees; leaves that are not arrays or floats are passed on as they are. Inside
    ``ad.no_grad()`` the function itself is called.

    Raises GradError if `fwd` uses a tensor that derivatives pass through and that it was not given.
    """

    def __init__(self, f: Callable[..., Any]) -> None:
        functools.update_wrapper(self, f)
        self._f = f
        self._fwd: Callable[..., Any] | None = None
        self._bwd: Callable[..., Any] | None = None

    def defvjp(self, fwd: Callable[..., Any], bwd: Callable[..., Any]) -> None:
        """Sets the forward and backward functions."""
        self._fwd = fwd
        self._bwd = bwd

    @property
    def _name(self) -> str:
        return getattr(self._f, "__name__", repr(self._f))

    def __call__(self, *args: Any) -> Any:
        if self._fwd is None or self._bwd is None:
            raise GradError(f"custom_vjp: {self._name} has no derivative yet: call {self._name}.defvjp(fwd, bwd)")
        if _state.grad_off:
            return self._f(*args)
        leaves, structure = pytree.flatten(args)
        places = [i for i, x in enumerate(leaves) if _is_array(x)]
        values = [as_node(leaves[i], "custom_vjp: arguments") for i in places]
        with tracing() as trace:
            inputs = inputs_for(values, trace)
            for i, t in zip(places, tensors(inputs), strict=True):
                leaves[i] = t
            made = self._fwd(*structure.unflatten(leaves))
            leaves.clear()
            if not isinstance(made, tuple) or len(made) != 2:
                raise TypeError(f"custom_vjp: fwd of {self._name} must return (result, residuals)")
            results, out_structure = pytree.flatten(made[0])
            kept, kept_structure = pytree.flatten(made[1])
            del made
            ys = [as_node(r, f"custom_vjp: results of {self._name}") for r in results]
            self._check_closed(ys, inputs)
            stored = [i for i, x in enumerate(kept) if isinstance(x, (Tensor, np.ndarray))]
            residuals = [as_node(kept[i], "custom_vjp: residuals") for i in stored]
            statics = [None if i in set(stored) else x for i, x in enumerate(kept)]
            real = [k for k, n in enumerate(values) if n.dtype.kind == "f"]
            bwd = functools.partial(
                self._pull, structure, out_structure, kept_structure, statics, stored, [places[k] for k in real]
            )
            like = [values[k] for k in real]
            attached = _attach(ys, like, residuals, lambda res, gs: bwd(like, res, gs))
        return out_structure.unflatten(tensors(attached))

    def _pull(
        self,
        structure: pytree.Structure,
        out_structure: pytree.Structure,
        kept_structure: pytree.Structure,
        statics: list[Any],
        stored: list[int],
        places: list[int],
        like: list[Node],
        residuals: Sequence[Node],
        cotangents: list[Node],
    ) -> Sequence[Node | None]:
        """`bwd` as a function of nodes: the cotangents of the real leaves, which stand at `places`."""
        assert self._bwd is not None
        kept = list(statics)
        for i, t in zip(stored, tensors(residuals), strict=True):
            kept[i] = t
        made = self._bwd(kept_structure.unflatten(kept), out_structure.unflatten(tensors(cotangents)))
        count = len(structure.children)
        if not isinstance(made, tuple) or len(made) != count:
            got = f"a tuple of {len(made)}" if isinstance(made, tuple) else type(made).__name__
            raise TypeError(
                f"custom_vjp: bwd of {self._name} must return a tuple of {count}, one cotangent for each argument, "
                f"got {got}"
            )
        found: list[Any] = []
        for k, (child, c) in enumerate(zip(structure.children, made, strict=True)):
            what = f"custom_vjp: cotangent of argument {k} from bwd of {self._name}"
            found.extend([None] * child.count if c is None else child.flatten_like(c, what))
        out: list[Node | None] = []
        for i, n in zip(places, like, strict=True):
            out.append(None if found[i] is None else self._cotangent(found[i], n))
        return out

    def _cotangent(self, c: Any, n: Node) -> Node:
        """What `bwd` returned for an argument like `n`: of its shape, or a Python number."""
        if isinstance(c, (bool, int, float)):
            return ir.const(c, n.dtype, n.shape)
        g = as_node(c, f"custom_vjp: cotangents from bwd of {self._name}")
        if g.shape != n.shape:
            raise ValueError(
                f"custom_vjp: bwd of {self._name} must return a cotangent of shape {n.shape}, got {g.shape} "
                f"({core.origins(g)})"
            )
        return ir.cast(g, n.dtype)

    def _check_closed(self, ys: Sequence[Node], inputs: Sequence[Node]) -> None:
        """Raises if a derivative would be lost because the results use a traced tensor that is no argument."""
        given = set(inputs)

        def sources(n: Node) -> tuple[Node, ...]:
            return () if n in given or n.op is Op.DETACH or n.trace is None else n.src

        for n in ir.toposort(ys, sources):
            if n not in given and n.trace is not None and n.trace.open and (not n.src or n.op in (Op.INPUT, Op.DETACH)):
                raise GradError(
                    f"custom_vjp: {self._name} uses a tensor that derivatives pass through and that is not one of its "
                    f"arguments ({core.origins(n)}); pass it as an argument, or detach it"
                )
