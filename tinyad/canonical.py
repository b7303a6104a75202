"""Value numbering: the canonical form of a graph, under which equal graphs over other buffers are recognised.

`number` walks the pending graph of some roots once. Equal values get one number (this is all the common
subexpression elimination there is); markers that do not compute vanish; stored nodes become numbered slots; float
constants other than 0, ±1, ±2, ½ and non-finite ones become numbered parameters, so that a changed learning rate is
the same graph. `rebuild` makes the merged graph from the key, as IR whose leaves are slots and parameters.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from . import ir
from .buffer import Buffer
from .collection import uncollected
from .errors import TraceError
from .history import sources
from .ir import Node, Op, toposort
from .simplify import simplify

_LITERAL: Final = frozenset({0.0, 1.0, -1.0, 2.0, -2.0, 0.5})
_TRANSPARENT: Final = frozenset({Op.DETACH, Op.INPUT, Op.CUSTOM})
_PACK: Final = {"f2": "<e", "f4": "<f", "f8": "<d"}

Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Slot:
    """Leaf number `index` of a canonical graph: `arg` of its BUFFER nodes. There is one for each number."""

    index: int


@dataclass(frozen=True, slots=True, eq=False)
class Parameter:
    """Parameter number `index` of a canonical graph: `arg` of CONST nodes whose value is given at each run. There is
    one for each number."""

    index: int


_slot: Final = cache(Slot)
_parameter: Final = cache(Parameter)


@dataclass(slots=True)
class Canonical:
    """A numbered graph: its `key`, and what this instance of it binds to slots, parameters and numbers."""

    key: Key
    leaves: list[Buffer]
    parameters: list[int]  # the bits of each parameter
    origin: list[Node]  # the first node of each value number
    roots: list[int]  # the value number of each root


def bits_of(value: float, dtype: ir.DType) -> int:
    """The bit pattern of a float constant, zero-extended."""
    code = _PACK[dtype.str[1:]]
    return int.from_bytes(struct.pack(code, value), "little")


def value_of(bits: int, dtype: ir.DType) -> float:
    """The float constant with this bit pattern."""
    value: float = struct.unpack(_PACK[dtype.str[1:]], bits.to_bytes(dtype.itemsize, "little"))[0]
    return value


@uncollected
def number(roots: Sequence[Node], order: Sequence[Node] | None = None) -> Canonical:
    """The canonical form of the pending graph of `roots`, whose `order` may be given; ≤ 3 µs a node."""
    numbers: dict[int, int] = {}
    table: dict[Key, int] = {}
    slots: dict[int, int] = {}
    leaves: list[Buffer] = []
    parameters: list[int] = []
    places: dict[tuple[int, ir.DType], int] = {}
    origin: list[Node] = []
    fences = 0
    for n in toposort(roots, sources) if order is None else order:
        op = n.op
        key: Key
        if n.buffer is not None:
            b = n.buffer
            slot = slots.setdefault(id(b), len(leaves))
            if slot == len(leaves):
                leaves.append(b)
            key = (Op.BUFFER, _slot(slot), n.shape, n.dtype)
        elif op is Op.CONST:
            value = n.arg
            if n.dtype.kind != "f":
                key = (op, (type(value), value), n.shape, n.dtype)
            elif value in _LITERAL or not math.isfinite(value):
                key = (op, (float, repr(value)), n.shape, n.dtype)
            else:
                bits = bits_of(value, n.dtype)
                place = places.setdefault((bits, n.dtype), len(parameters))
                if place == len(parameters):
                    parameters.append(bits)
                key = (op, _parameter(place), n.shape, n.dtype)
        elif op in _TRANSPARENT or (op is Op.RESHAPE and n.shape == n.src[0].shape):
            if not n.src:
                raise open_input(n)
            numbers[id(n)] = numbers[id(n.src[0])]
            continue
        else:
            arg = n.arg
            if op is Op.FENCE:
                arg = fences
                fences += 1
            elif op is Op.BUFFER:
                raise ValueError(
                    "this tensor was donated to a function under jit (donate_argnums), which has taken its memory; "
                    "use what the function returned"
                )
            key = (op, arg, n.shape, n.dtype, *[numbers[id(s)] for s in n.src])
        at = table.setdefault(key, len(origin))
        if at == len(origin):
            origin.append(n)
        numbers[id(n)] = at
    found = [numbers[id(n)] for n in roots]
    return Canonical((*table, tuple(found)), leaves, parameters, origin, found)


def open_input(n: Node) -> TraceError:
    """The error of reading a value inside `vmap` or `jit`."""
    from .sites import line_of

    line = line_of(n)
    return TraceError(
        "the value of this tensor is not known while vmap or jit traces the function"
        + (f" (traced at {line})" if line else "")
        + "; keep the computation in tensors, e.g. ad.where(c, a, b) instead of `if`, or make the "
        "argument of jit static (static_argnums)"
    )


def rebuild(c: Canonical) -> list[Node]:
    """The merged and simplified graph, one node per value number, sources first.

    Arrays without elements reach no computation.
    """
    out: list[Node] = []
    for key, old in zip(c.key, c.origin):
        op, arg, shape, dtype, *src = key
        if op is Op.CONST and not isinstance(arg, Parameter):
            n = Node(op, (), old.arg, shape, dtype)
        else:
            n = simplify(_folded(Node(op, tuple([out[i] for i in src]), arg, shape, dtype)))
        if n.site is None:
            n.site = old.site
        out.append(n)
    return out


def identity(kind: str, dtype: ir.DType) -> bool | int | float:
    """The identity element of sum, prod, max, min (set: 0) in `dtype`."""
    import numpy as np

    if kind in ("sum", "prod", "set", "linrec"):
        one = kind == "prod"
        return one if dtype.kind == "b" else int(one)
    if dtype.kind == "f":
        return -math.inf if kind == "max" else math.inf
    if dtype.kind == "b":
        return kind == "min"
    info = np.iinfo(dtype)
    return int(info.min if kind == "max" else info.max)


_REDUCE_KIND: Final = {Op.SUM: "sum", Op.PROD: "prod", Op.REDUCE_MAX: "max", Op.REDUCE_MIN: "min"}


def reduce_kind(op: Op) -> str:
    """The reduction's name: sum, prod, max or min."""
    return _REDUCE_KIND[op]


_UNIFORM: Final = frozenset({Op.RESHAPE, Op.PERMUTE, Op.EXPAND, Op.SHRINK, Op.FLIP})


def _folded(n: Node) -> Node:
    """`n`, or a constant if it moves one, or if it has elements but none of its sources' elements can reach it."""
    if n.op in _UNIFORM and n.src[0].op is Op.CONST:
        return Node(Op.CONST, (), n.src[0].arg, n.shape, n.dtype)
    if not n.src or 0 in n.shape or not any(0 in s.shape for s in n.src):
        return n
    if n.op in ir.REDUCE:
        value = identity(reduce_kind(n.op), n.dtype)
    elif n.op is Op.SCATTER:
        value = identity(n.arg[0], n.dtype)
    elif n.op is Op.CAT:
        full = [s for s in n.src if 0 not in s.shape]
        return full[0] if len(full) == 1 else Node(Op.CAT, tuple(full), n.arg, n.shape, n.dtype)
    elif n.op is Op.CALL:
        return n
    else:  # PAD and SKEW fill with zeros
        value = 0
    return ir.const(value, n.dtype, n.shape)
