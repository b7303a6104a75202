"""What every transform is made with: the trace it opens, its arguments as fresh inputs, its results as nodes.

Inputs of `grad`, `vjp` and `jvp` carry the argument they stand for, so their values can be read while the function
runs. What is computed meanwhile keeps its history until the trace is closed.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np

from .. import ir
from ..functions import core
from ..ir import Node, Op, Trace
from ..tensor import Tensor, _state, lift

_CLOSED: Final = sys.maxsize  # a closed trace never stays when an open one is a reason too


class _Depth(threading.local):
    """Per thread: how many traces are open, and how many of them without values."""

    traces = 0
    valueless = 0


_depth = _Depth()


class tracing:
    """Context in which one transform runs a function: derivatives pass (an outer `no_grad` acts on the results only)
    and computed nodes keep their history. With ``values=False`` its inputs have no values (`vmap`).
    """

    def __init__(self, values: bool = True) -> None:
        self._valueless = not values

    def __enter__(self) -> Trace:
        self._grad_off, _state.grad_off = _state.grad_off, 0
        self._trace = Trace(_depth.traces)
        _depth.traces += 1
        _depth.valueless += self._valueless
        return self._trace

    def __exit__(self, *exc: object) -> None:
        _depth.valueless -= self._valueless
        _depth.traces -= 1
        self._trace.open = False
        self._trace.level = _CLOSED
        _state.grad_off = self._grad_off


def valueless() -> bool:
    """Whether a function is being traced on inputs without values, so that nothing should be computed now."""
    return _depth.valueless > 0


def as_node(x: Any, what: str) -> Node:
    """The node of a tensor, NumPy array or number; TypeError for anything else, in the words `what`."""
    if isinstance(x, Tensor):
        return x.node
    if isinstance(x, (bool, int, float, np.ndarray, np.generic)):
        return core.node(lift(x))
    raise TypeError(f"{what} must be tensors, NumPy arrays or numbers, got {type(x).__name__}")


def differentiable(leaves: Iterable[Any], transform: str) -> list[Node]:
    """The nodes of arguments that `transform` differentiates by; TypeError unless all are floats."""
    nodes = [as_node(x, f"{transform}: arguments to differentiate by") for x in leaves]
    for n in nodes:
        if n.dtype.kind != "f":
            raise TypeError(
                f"{transform} requires real-valued inputs (input dtype that is a sub-dtype of np.floating), "
                f"but got {n.dtype.name}."
            )
    return nodes


def inputs_for(nodes: Iterable[Node], trace: Trace) -> list[Node]:
    """Fresh inputs that carry `nodes` as their values."""
    return [ir.input(n.shape, n.dtype, n, trace) for n in nodes]


def holes_for(nodes: Iterable[Node]) -> list[Node]:
    """Fresh inputs without values, of the shapes and dtypes of `nodes`."""
    return [ir.input(n.shape, n.dtype) for n in nodes]


def tensors(nodes: Iterable[Node]) -> list[Tensor]:
    """New handles on `nodes`."""
    return [Tensor._of(n) for n in nodes]


def zeros_like(n: Node) -> Node:
    """A constant of n's shape and dtype."""
    return ir.const(0, n.dtype, n.shape)


def filled(nodes: Sequence[Node | None], like: Sequence[Node]) -> list[Node]:
    """`nodes` with zeros for what is None."""
    return [zeros_like(x) if n is None else n for n, x in zip(nodes, like, strict=True)]


def agreeing(x: Any, n: Node, what: str) -> Node:
    """`x`, a (co)tangent of `n`, as a node of n's dtype; ValueError unless its shape is n's."""
    g = as_node(x, what)
    if g.shape != n.shape:
        raise ValueError(f"{what}: expected shape {n.shape}, got {g.shape}")
    if g.dtype.kind != "f" and n.dtype.kind == "f" and not isinstance(x, (bool, int)):
        raise TypeError(f"{what}: expected dtype {n.dtype.name}, got {g.dtype.name}")
    return ir.cast(g, n.dtype)


def picked(argnums: int | Sequence[int], count: int, transform: str) -> tuple[int, ...]:
    """Non-negative positions of the arguments meant by `argnums`; ValueError if one does not exist."""
    out = []
    for i in (argnums,) if isinstance(argnums, int) else argnums:
        if not -count <= i < count:
            raise ValueError(f"{transform}: argnums={argnums} needs more positional arguments than the {count} given")
        out.append(i % count)
    return tuple(out)


def replaced(args: Sequence[Any], positions: Sequence[int], values: Sequence[Any]) -> list[Any]:
    """`args` with `values` at `positions`."""
    out = list(args)
    for i, v in zip(positions, values, strict=True):
        out[i] = v
    return out


def split_aux(out: Any, has_aux: bool, transform: str) -> tuple[Any, Any]:
    """The result of a function and its aux; TypeError unless it returned a pair when it should."""
    if not has_aux:
        return out, None
    if not isinstance(out, tuple) or len(out) != 2:
        got = f"a tuple of {len(out)}" if isinstance(out, tuple) else type(out).__name__
        raise TypeError(f"{transform} with has_aux=True: the function must return (result, aux), got {got}")
    return out


class Body:
    """Roots as a function of some inputs, the holes: the graph between them can be put on other nodes."""

    def __init__(self, roots: Sequence[Node], holes: Sequence[Node]) -> None:
        self._roots = roots
        self._holes = holes
        inside = set(holes)
        self._order: list[tuple[Node, tuple[Node, ...]]] = []  # with sources, which a node drops when it is computed
        for n in ir.toposort(roots):
            if n not in inside and not inside.isdisjoint(n.src):
                inside.add(n)
                self._order.append((n, n.src))

    def on(self, values: Sequence[Node]) -> list[Node]:
        """The roots with `values` in the holes. What does not depend on a hole is shared, not copied."""
        new = dict(zip(self._holes, values, strict=True))
        for n, src in self._order:
            m = Node(n.op, tuple([new.get(s, s) for s in src]), n.arg, n.shape, n.dtype)
            m.site = n.site
            if n.op is Op.DETACH:
                m.trace = None
            new[n] = m
        return [new.get(r, r) for r in self._roots]

    def depends(self, root: Node) -> bool:
        """Whether `root` is a hole or made from one."""
        return root in self._holes or any(n is root for n, _ in self._order)

    def free(self) -> list[Node]:
        """The nodes the roots need beside the holes, themselves independent of them; constants left out."""
        known = {*self._holes, *(n for n, _ in self._order)}
        met = dict.fromkeys(s for _, src in self._order for s in src)
        met.update(dict.fromkeys(self._roots))
        return [n for n in met if n not in known and n.op is not Op.CONST and n.op is not Op.IOTA]
