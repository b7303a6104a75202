"""The rules a legal graph obeys, checked again and apart from the constructors: run after every pass in tests.

`RULES` says for each primitive which shape and dtype its sources and argument give. May import `ir` and `errors`, and
`text` to show where a fault lies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np

from .errors import IRError
from .ir import (
    BINARY,
    BOOL,
    DTYPES,
    LEAF,
    MARKER,
    MOVEMENT,
    OPERANDS,
    REDUCE,
    SCANS,
    SCATTERS,
    SHORT,
    UNARY,
    DType,
    HostFunction,
    Node,
    Op,
    Shape,
)

Type = tuple[Shape, DType]
Rule = Callable[..., Type]  # (node, *sources) -> the type the node must have

_MANY: Final = 1 << 30
ARITY: Final[dict[Op, tuple[int, int]]] = (
    dict.fromkeys(LEAF, (0, 0))
    | dict.fromkeys(UNARY | REDUCE | MOVEMENT | MARKER, (1, 1))
    | dict.fromkeys(BINARY, (2, 2))
    | {
        Op.INPUT: (0, 1),
        Op.WHERE: (3, 3),
        Op.SCAN: (1, 2),
        Op.SCATTER: (2, 2),
        Op.CAT: (1, _MANY),
        Op.GATHER: (2, 2),
        Op.CUSTOM: (1, _MANY),
        Op.CALL: (0, _MANY),
    }
)
"""The least and the greatest number of sources."""


class _Fault(Exception):
    """What is wrong with the node at hand."""


def _need(condition: bool, why: str) -> None:
    if not condition:
        raise _Fault(why)


def _is_ints(arg: Any, length: int | None = None) -> bool:
    return isinstance(arg, tuple) and all(type(v) is int for v in arg) and (length is None or len(arg) == length)


def _bare(n: Node) -> None:
    _need(n.arg is None, f"takes no argument, has {n.arg!r}")


def _axis(axis: Any, src: Node) -> int:
    _need(type(axis) is int and 0 <= axis < len(src.shape), f"axis {axis!r} is out of range")
    return int(axis)


def _replaced(shape: Shape, axis: int, size: int) -> Shape:
    return (*shape[:axis], size, *shape[axis + 1 :])


# leaves -----------------------------------------------------------------------------------------------------------
def _buffer(n: Node) -> Type:
    _bare(n)
    return n.shape, n.dtype


def _const(n: Node) -> Type:
    python = {"b": bool, "f": float}.get(n.dtype.kind, int)
    _need(type(n.arg) is python, f"value {n.arg!r} is no {python.__name__}")
    if python is int:
        limits = np.iinfo(n.dtype)
        _need(limits.min <= n.arg <= limits.max, f"value {n.arg} is out of range")
    elif python is float:
        with np.errstate(all="ignore"):
            rounded = float(n.dtype.type(n.arg))
        _need(rounded == n.arg or math.isnan(n.arg), f"value {n.arg!r} is not rounded to {n.dtype}")
    return n.shape, n.dtype


def _iota(n: Node) -> Type:
    _bare(n)
    _need(len(n.shape) == 1 and n.dtype.kind in "iu", "is a vector of integers")
    return n.shape, n.dtype


def _numbered(n: Node, *src: Node) -> Type:
    """INPUT and FENCE: an identity with a number of its own."""
    _need(type(n.arg) is int, f"its number is {n.arg!r}")
    return (src[0].shape, src[0].dtype) if src else (n.shape, n.dtype)


# elementwise ------------------------------------------------------------------------------------------------------
def _elementwise(n: Node, a: Node, *rest: Node) -> Type:
    _bare(n)
    _need(all(b.shape == a.shape and b.dtype is a.dtype for b in rest), "operands differ in type")
    _need(a.dtype.kind in OPERANDS[n.op], f"takes dtype kinds {OPERANDS[n.op]}")
    return a.shape, BOOL if n.op in (Op.LT, Op.EQ) else a.dtype


def _cast(n: Node, a: Node) -> Type:
    _bare(n)
    return a.shape, n.dtype


def _bitcast(n: Node, a: Node) -> Type:
    _bare(n)
    _need(a.dtype.itemsize == n.dtype.itemsize, "widths differ")
    _need(a.dtype is n.dtype or BOOL not in (a.dtype, n.dtype), "bool has no other form")
    return a.shape, n.dtype


def _where(n: Node, c: Node, a: Node, b: Node) -> Type:
    _bare(n)
    _need(c.dtype is BOOL, "its condition is no bool")
    _need(a.dtype is b.dtype and c.shape == a.shape == b.shape, "operands differ in type")
    return a.shape, a.dtype


# reductions -------------------------------------------------------------------------------------------------------
def _reduce(n: Node, a: Node) -> Type:
    axes = n.arg
    _need(_is_ints(axes) and axes != () and axes == tuple(sorted(set(axes))), f"axes are {axes!r}")
    _need(axes[0] >= 0 and axes[-1] < len(a.shape), f"axes {axes} are out of range")
    _need(n.op not in (Op.SUM, Op.PROD) or a.dtype is not BOOL, "takes numbers")
    return tuple([1 if i in axes else size for i, size in enumerate(a.shape)]), a.dtype


def _scan(n: Node, a: Node, *rest: Node) -> Type:
    _need(isinstance(n.arg, tuple) and len(n.arg) == 2 and n.arg[0] in SCANS, f"argument is {n.arg!r}")
    _axis(n.arg[1], a)
    _need(len(rest) == (n.arg[0] == "linrec"), f"{n.arg[0]} of {1 + len(rest)} sources")
    _need(a.dtype is not BOOL, "takes numbers")
    _need(all(b.shape == a.shape and b.dtype is a.dtype for b in rest), "operands differ in type")
    return a.shape, a.dtype


def _scatter(n: Node, g: Node, idx: Node) -> Type:
    _need(isinstance(n.arg, tuple) and len(n.arg) == 3 and n.arg[0] in SCATTERS, f"argument is {n.arg!r}")
    kind, axis, size = n.arg
    _axis(axis, g)
    _need(type(size) is int and size >= 0, f"size is {size!r}")
    _need(idx.dtype.kind in "iu" and idx.shape == g.shape, "its index is no integer array of the shape of its values")
    _need(kind != "sum" or g.dtype is not BOOL, "sum takes numbers")
    return _replaced(g.shape, axis, size), g.dtype


# movement ---------------------------------------------------------------------------------------------------------
def _reshape(n: Node, a: Node) -> Type:
    _bare(n)
    _need(math.prod(n.shape) == math.prod(a.shape), "the number of elements differs")
    return n.shape, a.dtype


def _permute(n: Node, a: Node) -> Type:
    _need(_is_ints(n.arg) and sorted(n.arg) == list(range(len(a.shape))), f"order is {n.arg!r}")
    return tuple([a.shape[i] for i in n.arg]), a.dtype


def _expand(n: Node, a: Node) -> Type:
    _bare(n)
    _need(len(n.shape) == len(a.shape), "the rank differs")
    _need(all(m in (1, size) for m, size in zip(a.shape, n.shape, strict=True)), "an axis is not of size 1")
    return n.shape, a.dtype


def _triples(n: Node, a: Node) -> None:
    good = isinstance(n.arg, tuple) and len(n.arg) == len(a.shape) and all(_is_ints(t, 3) for t in n.arg)
    _need(good, f"argument is {n.arg!r}")


def _pad(n: Node, a: Node) -> Type:
    _triples(n, a)
    _need(all(v >= 0 for part in n.arg for v in part), f"padding {n.arg!r} is negative")
    sizes = zip(a.shape, n.arg, strict=True)
    return tuple([lo + hi + (size + (size - 1) * inner if size else 0) for size, (lo, hi, inner) in sizes]), a.dtype


def _shrink(n: Node, a: Node) -> Type:
    _triples(n, a)
    for size, (start, stop, step) in zip(a.shape, n.arg, strict=True):
        _need(0 <= start <= stop <= size and step >= 1, f"{start}:{stop}:{step} of an axis of size {size}")
    return tuple([len(range(*part)) for part in n.arg]), a.dtype


def _flip(n: Node, a: Node) -> Type:
    _need(_is_ints(n.arg) and n.arg == tuple(sorted(set(n.arg))), f"axes are {n.arg!r}")
    _need(all(0 <= i < len(a.shape) for i in n.arg), f"axes {n.arg} are out of range")
    return a.shape, a.dtype


def _skew(n: Node, a: Node) -> Type:
    _need(_is_ints(n.arg, 5), f"argument is {n.arg!r}")
    i, k, _, _, size = n.arg
    _need(_axis(i, a) != _axis(k, a) and size >= 0, f"argument is {n.arg!r}")
    return _replaced(a.shape, i, size), a.dtype


def _cat(n: Node, a: Node, *rest: Node) -> Type:
    axis = _axis(n.arg, a)
    for b in rest:
        _need(b.dtype is a.dtype and len(b.shape) == len(a.shape), "operands differ in dtype or rank")
        _need(_replaced(b.shape, axis, 0) == _replaced(a.shape, axis, 0), f"operands differ beside axis {axis}")
    return _replaced(a.shape, axis, sum(b.shape[axis] for b in (a, *rest))), a.dtype


def _gather(n: Node, a: Node, idx: Node) -> Type:
    axis = _axis(n.arg, a)
    _need(idx.dtype.kind in "iu" and len(idx.shape) == len(a.shape), "its index is no integer array of its rank")
    _need(_replaced(a.shape, axis, 0) == _replaced(idx.shape, axis, 0), f"operands differ beside axis {axis}")
    return idx.shape, a.dtype


# markers and host calls -------------------------------------------------------------------------------------------
def _detach(n: Node, a: Node) -> Type:
    _bare(n)
    return a.shape, a.dtype


def _custom(n: Node, y: Node, *rest: Node) -> Type:
    _need(isinstance(n.arg, tuple) and len(n.arg) == 2 and type(n.arg[1]) is int, f"argument is {n.arg!r}")
    _need(0 <= n.arg[1] <= len(rest), f"says {n.arg[1]} arguments, has {len(rest)} sources for them")
    return y.shape, y.dtype


def _call(n: Node, *src: Node) -> Type:
    _need(isinstance(n.arg, HostFunction), f"argument is {n.arg!r}")
    return n.arg.shape(*(s.shape for s in src)), n.arg.dtype


RULES: Final[dict[Op, Rule]] = dict.fromkeys(UNARY | BINARY, _elementwise) | {
    Op.BUFFER: _buffer,
    Op.CONST: _const,
    Op.IOTA: _iota,
    Op.INPUT: _numbered,
    Op.CAST: _cast,
    Op.BITCAST: _bitcast,
    Op.WHERE: _where,
    Op.SUM: _reduce,
    Op.PROD: _reduce,
    Op.REDUCE_MAX: _reduce,
    Op.REDUCE_MIN: _reduce,
    Op.SCAN: _scan,
    Op.SCATTER: _scatter,
    Op.RESHAPE: _reshape,
    Op.PERMUTE: _permute,
    Op.EXPAND: _expand,
    Op.PAD: _pad,
    Op.SHRINK: _shrink,
    Op.FLIP: _flip,
    Op.SKEW: _skew,
    Op.CAT: _cat,
    Op.GATHER: _gather,
    Op.DETACH: _detach,
    Op.FENCE: _numbered,
    Op.CUSTOM: _custom,
    Op.CALL: _call,
}
"""For each primitive the type its sources and argument give."""


# the check --------------------------------------------------------------------------------------------------------
def _malformed(n: Node) -> str | None:
    """What keeps the node from being walked and printed, if anything."""
    if not isinstance(n.op, Op):
        return f"op is {n.op!r}"
    if not isinstance(n.src, tuple) or not all(isinstance(s, Node) for s in n.src):
        return "src is no tuple of nodes"
    return None


def fault(n: Node) -> str | None:
    """What is wrong with this node, given that its sources are legal; None if nothing is.

    A computed node that has dropped its sources is a leaf, whatever its op.
    """
    if not _is_ints(n.shape) or any(size < 0 for size in n.shape):
        return f"shape is {n.shape!r}"
    if not any(n.dtype is dtype for dtype in DTYPES.values()):
        return f"dtype {n.dtype!r} is none of the objects in DTYPES"
    array = getattr(n.buffer, "array", None)
    if array is not None and (array.shape != n.shape or array.dtype != n.dtype):
        return f"its buffer holds {array.dtype}{list(array.shape)}"
    if n.buffer is not None and not n.src and n.op not in LEAF:
        return None
    least, most = ARITY[n.op]
    if not least <= len(n.src) <= most:
        return f"has {len(n.src)} sources"
    try:
        shape, dtype = RULES[n.op](n, *n.src)
    except _Fault as e:
        return str(e)
    if shape != n.shape or dtype is not n.dtype:
        return f"its type should be {SHORT[dtype]}[{','.join(map(str, shape))}]"
    return None


def _walk(roots: Sequence[Node]) -> list[Node]:
    """Sources before users, as `ir.toposort`, but refusing cycles and nodes that cannot be walked."""
    order: list[Node] = []
    done: set[Node] = set()
    inside: set[Node] = set()  # the nodes on `path`
    path: list[tuple[Node, Iterator[Node]]] = []  # the nodes being visited, outermost first, and their sources to come
    for root in roots:
        n: Node | None = root
        while n is not None or path:
            if n is None:
                last, rest = path[-1]
                n = next(rest, None)
                if n is None:
                    path.pop()
                    inside.remove(last)
                    done.add(last)
                    order.append(last)
                continue
            if n in inside:
                nodes = [s for s, _ in path]
                cycle = " <- ".join(s.op.value for s in [*nodes[nodes.index(n) :], n][:10])
                raise IRError(f"{n.op.value}: depends on itself: {cycle}")
            if n not in done:
                why = _malformed(n)
                if why is not None:
                    raise IRError(f"{getattr(n.op, 'value', n.op)}: {why}")
                inside.add(n)
                path.append((n, iter(n.src)))
            n = None
    return order


def verify(roots: Sequence[Node]) -> None:
    """Raises IRError, with the lines of the dump around the fault, if the graph breaks a rule."""
    for n in _walk(roots):
        why = fault(n)
        if why is not None:
            from .text import excerpt  # text needs `fault` to parse

            raise IRError(f"{n.op.value}: {why}\n{excerpt(roots, n)}")
