"""The IR: an immutable graph of primitive operations on arrays, its constructors and its one walk.

A `Node` is (op, src, arg, shape, dtype). Constructors infer and check shape and dtype, so an invalid node cannot
exist; they raise `IRError`, because wrong user input is refused earlier, in the user's words. Identity is not value:
two equal expressions are two nodes until `canonical.number` merges them. All walks are iterative.

May import `errors` and NumPy. Nothing here computes, allocates arrays or knows of gradients.
"""

from __future__ import annotations

import ctypes
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from enum import Enum, unique
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from .errors import IRError

if TYPE_CHECKING:
    import weakref

Shape = tuple[int, ...]
DType = np.dtype[Any]

BOOL: Final[DType] = np.dtype(np.bool_)
INT32: Final[DType] = np.dtype(np.int32)
INT64: Final[DType] = np.dtype(np.int64)
FLOAT16: Final[DType] = np.dtype(np.float16)
FLOAT32: Final[DType] = np.dtype(np.float32)
FLOAT64: Final[DType] = np.dtype(np.float64)
DTYPES: Final[dict[str, DType]] = {
    name: np.dtype(full)
    for name, full in [("b1", "bool"), ("i8", "int8"), ("i16", "int16"), ("i32", "int32"), ("i64", "int64"),
                       ("u8", "uint8"), ("u16", "uint16"), ("u32", "uint32"), ("u64", "uint64"),
                       ("f16", "float16"), ("f32", "float32"), ("f64", "float64")]
}  # fmt: skip
SHORT: Final[dict[DType, str]] = {d: name for name, d in DTYPES.items()}


@unique
class Op(Enum):
    """Every primitive. The value is its name in the text form."""

    __hash__ = object.__hash__  # members are singletons; Enum's own hash is a Python call

    # leaf
    BUFFER = "buffer"
    CONST = "const"
    IOTA = "iota"
    INPUT = "input"
    # unary
    NEG = "neg"
    ABS = "abs"
    EXP = "exp"
    LOG = "log"
    EXPM1 = "expm1"
    LOG1P = "log1p"
    LOG2 = "log2"
    SQRT = "sqrt"
    CBRT = "cbrt"
    SIN = "sin"
    COS = "cos"
    TAN = "tan"
    SINH = "sinh"
    COSH = "cosh"
    TANH = "tanh"
    ASIN = "asin"
    ACOS = "acos"
    ATAN = "atan"
    ERF = "erf"
    ERFC = "erfc"
    LGAMMA = "lgamma"
    FLOOR = "floor"
    CEIL = "ceil"
    TRUNC = "trunc"
    ROUND = "round"
    NOT = "not"
    CAST = "cast"
    BITCAST = "bitcast"
    # binary, and WHERE
    ADD = "add"
    SUB = "sub"
    MUL = "mul"
    DIV = "div"
    IDIV = "idiv"
    MOD = "mod"
    POW = "pow"
    MAX = "max"
    MIN = "min"
    ATAN2 = "atan2"
    LT = "lt"
    EQ = "eq"
    AND = "and"
    OR = "or"
    XOR = "xor"
    SHL = "shl"
    SHR = "shr"
    WHERE = "where"
    # reduce
    SUM = "sum"
    PROD = "prod"
    REDUCE_MAX = "reduce_max"
    REDUCE_MIN = "reduce_min"
    SCAN = "scan"
    SCATTER = "scatter"
    # movement
    RESHAPE = "reshape"
    PERMUTE = "permute"
    EXPAND = "expand"
    PAD = "pad"
    SHRINK = "shrink"
    FLIP = "flip"
    SKEW = "skew"
    CAT = "cat"
    GATHER = "gather"
    # marker
    DETACH = "detach"
    FENCE = "fence"
    CUSTOM = "custom"
    # host
    CALL = "call"


LEAF: Final = frozenset({Op.BUFFER, Op.CONST, Op.IOTA, Op.INPUT})
ELEMENTARY: Final = frozenset({
    Op.EXP, Op.LOG, Op.EXPM1, Op.LOG1P, Op.LOG2, Op.CBRT, Op.SIN, Op.COS, Op.TAN, Op.SINH, Op.COSH, Op.TANH, Op.ASIN,
    Op.ACOS, Op.ATAN, Op.ERF, Op.ERFC, Op.LGAMMA,
})  # fmt: skip
UNARY: Final = ELEMENTARY | {
    Op.NEG, Op.ABS, Op.SQRT, Op.FLOOR, Op.CEIL, Op.TRUNC, Op.ROUND, Op.NOT, Op.CAST, Op.BITCAST,
}  # fmt: skip
BINARY: Final = frozenset({Op.ADD, Op.SUB, Op.MUL, Op.DIV, Op.IDIV, Op.MOD, Op.POW, Op.MAX, Op.MIN, Op.ATAN2, Op.LT,
                           Op.EQ, Op.AND, Op.OR, Op.XOR, Op.SHL, Op.SHR})  # fmt: skip
ELEMENTWISE: Final = UNARY | BINARY | {Op.WHERE}
REDUCE: Final = frozenset({Op.SUM, Op.PROD, Op.REDUCE_MAX, Op.REDUCE_MIN})
MOVEMENT: Final = frozenset({Op.RESHAPE, Op.PERMUTE, Op.EXPAND, Op.PAD, Op.SHRINK, Op.FLIP, Op.SKEW, Op.CAT, Op.GATHER})
MARKER: Final = frozenset({Op.DETACH, Op.FENCE, Op.CUSTOM})
SCANS: Final = ("sum", "prod", "max", "min", "linrec")
SCATTERS: Final = ("sum", "max", "min", "set")


class Trace:
    """Why a computed node must keep its history: an open transform, or a `requires_grad` leaf (never closed).

    Of two reasons the outer one (smaller `level`) stays, because it closes last.
    """

    __slots__ = ("level", "open")

    def __init__(self, level: int) -> None:
        self.level = level
        self.open = True


GRAD: Final = Trace(-1)  # the trace of everything that depends on a `requires_grad` leaf


class Node:
    """One primitive operation. `op`, `src`, `arg`, `shape`, `dtype` are its meaning and never change.

    The rest is not meaning: `trace` (why its history is kept), `site` (the Python instruction or forward node it
    comes from), `buffer` (its value once computed), `plan` (what computed it: the plan and its number there), `handle`
    (weak reference to the Tensor that holds it), `cut` (when its history was dropped: weak references to the nodes of
    live tensors that stood behind it).
    """

    __slots__ = ("__weakref__", "arg", "buffer", "cut", "dtype", "handle", "op", "plan", "shape", "site", "src",
                 "trace")  # fmt: skip

    op: Op
    src: tuple["Node", ...]
    arg: Any
    shape: Shape
    dtype: DType
    trace: Trace | None
    site: Any
    buffer: Any
    handle: "weakref.ref[Any] | None"
    cut: Any
    plan: Any

    def __init__(self, op: Op, src: tuple["Node", ...], arg: Any, shape: Shape, dtype: DType) -> None:
        self.op = op
        self.src = src
        self.arg = arg
        self.shape = shape
        self.dtype = dtype
        trace = None
        for s in src:
            t = s.trace
            if t is not None and t is not trace and (trace is None or t.level < trace.level):
                trace = t
        self.trace = trace
        self.site = None
        self.buffer = None
        self.handle = None
        self.cut = None
        self.plan = None

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def __repr__(self) -> str:
        return f"<{self.op.value} {SHORT[self.dtype]}[{','.join(map(str, self.shape))}]>"


_new: Final = object.__new__


def computed(shape: Shape, dtype: DType, value: Any, site: Any, plan: Any, cut: Any) -> Node:
    """A stored array with what is known of its history, in one step: the result of a function under `jit`."""
    n = _new(Node)
    n.op = Op.BUFFER
    n.src = ()
    n.arg = n.trace = n.handle = None
    n.shape = shape
    n.dtype = dtype
    n.buffer = value
    n.site = site
    n.plan = plan
    n.cut = cut
    return n


class WeakNode(Node):
    """A 0-d node that stands for a Python number not known yet (an argument of `jit`): promotion treats it as one."""

    __slots__ = ()


def weak(a: Node) -> WeakNode:
    """The same value, weakly typed."""
    return WeakNode(Op.RESHAPE, (a,), None, a.shape, a.dtype)


def _fail(op: Op, why: str, *src: Node) -> IRError:
    return IRError(f"{op.value}: {why}; got {', '.join(map(repr, src)) or 'nothing'}")


# leaves -----------------------------------------------------------------------------------------------------------
_ids = itertools.count()


def buffer(shape: Shape, dtype: DType, value: Any) -> Node:
    """A stored array; `value` is its `Buffer`."""
    n = Node(Op.BUFFER, (), None, shape, dtype)
    n.buffer = value
    return n


def const(value: bool | int | float, dtype: DType, shape: Shape = ()) -> Node:
    """An array whose elements all are `value`, rounded or wrapped to `dtype` as NumPy would."""
    kind = dtype.kind
    if kind == "f":
        value = float(value)
        if dtype is FLOAT32:
            value = ctypes.c_float(value).value  # rounds as C does, in a tenth of the time of np.errstate
        elif dtype is FLOAT16:
            with np.errstate(all="ignore"):
                value = float(dtype.type(value))
    elif kind == "b":
        value = bool(value)
    else:
        bits = dtype.itemsize * 8
        value = int(value) & ((1 << bits) - 1)
        if kind == "i" and value >> (bits - 1):
            value -= 1 << bits
    return Node(Op.CONST, (), value, shape, dtype)


def iota(n: int, dtype: DType = INT64) -> Node:
    """0, 1, ..., n-1 as a vector."""
    if dtype.kind not in "iu" or n < 0:
        raise IRError(f"iota: takes a size and an integer dtype, got {n}, {dtype}")
    return Node(Op.IOTA, (), None, (n,), dtype)


def input(shape: Shape, dtype: DType, value: Node | None = None, trace: Trace | None = None) -> Node:
    """A fresh variable of a transform; with `value` it carries the argument it stands for."""
    n = Node(Op.INPUT, () if value is None else (value,), next(_ids), shape, dtype)
    if trace is not None and (n.trace is None or trace.level < n.trace.level):
        n.trace = trace
    return n


# elementwise ------------------------------------------------------------------------------------------------------
_ANY, _NUMERIC, _FLOAT, _INTEGER, _BITS = "biuf", "iuf", "f", "iu", "biu"
OPERANDS: Final[dict[Op, str]] = {
    Op.NEG: _NUMERIC, Op.ABS: _NUMERIC, Op.NOT: _BITS,
    Op.SQRT: _FLOAT, **dict.fromkeys(ELEMENTARY, _FLOAT),
    Op.FLOOR: _FLOAT, Op.CEIL: _FLOAT, Op.TRUNC: _FLOAT, Op.ROUND: _FLOAT,
    Op.ADD: _ANY, Op.SUB: _NUMERIC, Op.MUL: _ANY, Op.DIV: _FLOAT, Op.IDIV: _NUMERIC, Op.MOD: _NUMERIC,
    Op.POW: _NUMERIC, Op.MAX: _ANY, Op.MIN: _ANY, Op.ATAN2: _FLOAT, Op.LT: _ANY, Op.EQ: _ANY,
    Op.AND: _BITS, Op.OR: _BITS, Op.XOR: _BITS, Op.SHL: _INTEGER, Op.SHR: _INTEGER,
}  # fmt: skip
"""The dtype kinds each elementwise operation takes (CAST and BITCAST take all; WHERE selects between any)."""


def unary(op: Op, a: Node) -> Node:
    """`op` of every element."""
    if a.dtype.kind not in OPERANDS[op]:
        raise _fail(op, f"takes dtype kinds {OPERANDS[op]}", a)
    return Node(op, (a,), None, a.shape, a.dtype)


def binary(op: Op, a: Node, b: Node) -> Node:
    """`op` of corresponding elements; shapes and dtypes must be equal."""
    dtype = a.dtype
    if a.shape != b.shape or dtype is not b.dtype or dtype.kind not in OPERANDS[op]:
        raise _fail(op, f"takes two of one shape and one dtype of kinds {OPERANDS[op]}", a, b)
    return Node(op, (a, b), None, a.shape, BOOL if op is Op.LT or op is Op.EQ else dtype)


def _unary(op: Op) -> Callable[[Node], Node]:
    return lambda a: unary(op, a)


def _binary(op: Op) -> Callable[[Node, Node], Node]:
    return lambda a, b: binary(op, a, b)


neg, abs_, sqrt, cbrt, exp, expm1 = map(_unary, (Op.NEG, Op.ABS, Op.SQRT, Op.CBRT, Op.EXP, Op.EXPM1))
log, log1p, log2, sin, cos, tan = map(_unary, (Op.LOG, Op.LOG1P, Op.LOG2, Op.SIN, Op.COS, Op.TAN))
sinh, cosh, tanh, asin, acos, atan = map(_unary, (Op.SINH, Op.COSH, Op.TANH, Op.ASIN, Op.ACOS, Op.ATAN))
erf, erfc, lgamma = map(_unary, (Op.ERF, Op.ERFC, Op.LGAMMA))
floor, ceil, trunc, round_, not_ = map(_unary, (Op.FLOOR, Op.CEIL, Op.TRUNC, Op.ROUND, Op.NOT))
add, sub, mul, div, idiv, mod = map(_binary, (Op.ADD, Op.SUB, Op.MUL, Op.DIV, Op.IDIV, Op.MOD))
pow_, maximum, minimum, atan2, lt, eq = map(_binary, (Op.POW, Op.MAX, Op.MIN, Op.ATAN2, Op.LT, Op.EQ))
and_, or_, xor, shl, shr = map(_binary, (Op.AND, Op.OR, Op.XOR, Op.SHL, Op.SHR))


def cast(a: Node, dtype: DType) -> Node:
    """`a` converted to `dtype`; `a` itself if it has it."""
    if dtype not in SHORT:
        raise _fail(Op.CAST, f"unknown dtype {dtype}", a)
    dtype = DTYPES[SHORT[dtype]]  # longlong equals int64 but is another object
    if a.dtype is dtype:
        return a
    if a.op is Op.CONST and not (a.dtype.kind == "f" and dtype.kind in "iu"):
        value = a.arg != 0 if dtype.kind == "b" else a.arg
        if dtype is FLOAT32 and a.dtype.kind in "iu":
            value = float(np.asarray(value, a.dtype).astype(dtype))  # by way of float64 it would be rounded twice
        return const(value, dtype, a.shape)
    return Node(Op.CAST, (a,), None, a.shape, dtype)


def bitcast(a: Node, dtype: DType) -> Node:
    """The bits of `a` read as `dtype`, which has the same width."""
    if dtype.itemsize != a.dtype.itemsize or (BOOL in (a.dtype, dtype) and a.dtype is not dtype):
        raise _fail(Op.BITCAST, f"to {dtype} needs equal widths", a)
    return a if a.dtype is dtype else Node(Op.BITCAST, (a,), None, a.shape, dtype)


def where(c: Node, a: Node, b: Node) -> Node:
    """`a` where `c`, else `b`."""
    if c.dtype is not BOOL or a.dtype is not b.dtype or c.shape != a.shape or a.shape != b.shape:
        raise _fail(Op.WHERE, "takes bool, T, T of one shape", c, a, b)
    return Node(Op.WHERE, (c, a, b), None, a.shape, a.dtype)


# reductions -------------------------------------------------------------------------------------------------------
def reduce(op: Op, a: Node, axes: Iterable[int]) -> Node:
    """`op` over `axes`, which stay with size 1; no axes: `a` itself."""
    axes = tuple(sorted(set(axes)))
    if op not in REDUCE or any(not 0 <= i < len(a.shape) for i in axes):
        raise _fail(op, f"axes {axes} out of range", a)
    if a.dtype is BOOL and op in (Op.SUM, Op.PROD):
        raise _fail(op, "takes numbers", a)
    if not axes:
        return a
    return Node(op, (a,), axes, tuple(1 if i in axes else n for i, n in enumerate(a.shape)), a.dtype)


def sum_(a: Node, axes: Iterable[int]) -> Node:
    """Sum over `axes`, kept with size 1. A sum over axes of size 1 is the array itself."""
    return reduce(Op.SUM, a, axes)


def scan(kind: str, axis: int, *src: Node) -> Node:
    """Running sum, prod, max or min along `axis`; ``linrec``: y_k = a_k·y_{k-1} + b_k with y_{-1} = 0."""
    first = src[0]
    if kind not in SCANS or len(src) != (2 if kind == "linrec" else 1) or not 0 <= axis < len(first.shape):
        raise _fail(Op.SCAN, f"{kind} along {axis}", *src)
    if any(s.shape != first.shape or s.dtype is not first.dtype or s.dtype is BOOL for s in src):
        raise _fail(Op.SCAN, "takes numbers of one shape and dtype", *src)
    return Node(Op.SCAN, src, (kind, axis), first.shape, first.dtype)


def scatter(kind: str, g: Node, idx: Node, axis: int, size: int) -> Node:
    """Zeros (the identity of max, min) of g's shape with `axis` of length `size`; g goes to idx along `axis`.

    ``out[.., idx[.., j, ..], ..] = kind(out[..], g[.., j, ..])`` in order of j; ``set``: the last one wins.
    """
    if kind not in SCATTERS or g.shape != idx.shape or idx.dtype.kind not in "iu" or not 0 <= axis < len(g.shape):
        raise _fail(Op.SCATTER, f"{kind} along {axis}", g, idx)
    if (g.dtype is BOOL and kind == "sum") or size < 0:
        raise _fail(Op.SCATTER, f"{kind} of {size} places; sum takes numbers", g, idx)
    shape = (*g.shape[:axis], size, *g.shape[axis + 1 :])
    return Node(Op.SCATTER, (g, idx), (kind, axis, size), shape, g.dtype)


# movement ---------------------------------------------------------------------------------------------------------
def reshape(a: Node, shape: Shape) -> Node:
    """The same elements in row-major order under another shape."""
    if shape == a.shape:
        return a
    if math.prod(shape) != math.prod(a.shape) or any(n < 0 for n in shape):
        raise _fail(Op.RESHAPE, f"to {shape}", a)
    if a.op is Op.CONST:
        return Node(Op.CONST, (), a.arg, shape, a.dtype)
    return Node(Op.RESHAPE, (a,), None, shape, a.dtype)


def permute(a: Node, order: Sequence[int]) -> Node:
    """Axis i of the result is axis order[i] of `a`."""
    order = tuple(order)
    if sorted(order) != list(range(len(a.shape))):
        raise _fail(Op.PERMUTE, f"order {order}", a)
    if order == tuple(range(len(order))):
        return a
    shape = tuple([a.shape[i] for i in order])
    if a.op is Op.CONST:
        return Node(Op.CONST, (), a.arg, shape, a.dtype)
    return Node(Op.PERMUTE, (a,), order, shape, a.dtype)


def expand(a: Node, shape: Shape) -> Node:
    """Axes of size 1 repeated to the sizes of `shape`; the rank stays."""
    if shape == a.shape:
        return a
    if len(shape) != len(a.shape) or any(m != n and (m != 1 or n < 0) for m, n in zip(a.shape, shape)):
        raise _fail(Op.EXPAND, f"to {shape}", a)
    if a.op is Op.CONST:
        return Node(Op.CONST, (), a.arg, shape, a.dtype)
    return Node(Op.EXPAND, (a,), None, shape, a.dtype)


def pad(a: Node, spec: Sequence[tuple[int, int, int]]) -> Node:
    """Zeros put before, after and `interior` many between the elements of each axis: spec[i] = (lo, hi, interior)."""
    spec = tuple(spec)
    if len(spec) != len(a.shape) or any(v < 0 for s in spec for v in s):
        raise _fail(Op.PAD, f"by {spec}", a)
    if all(lo == hi == 0 and (inner == 0 or n <= 1) for (lo, hi, inner), n in zip(spec, a.shape)):
        return a
    shape = tuple(lo + hi + n + max(n - 1, 0) * inner for (lo, hi, inner), n in zip(spec, a.shape))
    return Node(Op.PAD, (a,), spec, shape, a.dtype)


def shrink(a: Node, spec: Sequence[tuple[int, int, int]]) -> Node:
    """The part ``start:stop:step`` of each axis, 0 <= start <= stop <= size, step >= 1."""
    spec = tuple(spec)
    if len(spec) != len(a.shape) or any(not (0 <= b <= e <= n and s >= 1) for (b, e, s), n in zip(spec, a.shape)):
        raise _fail(Op.SHRINK, f"to {spec}", a)
    shape = tuple(-(-(e - b) // s) for b, e, s in spec)
    if shape == a.shape:
        return a
    if a.op is Op.CONST:
        return Node(Op.CONST, (), a.arg, shape, a.dtype)
    return Node(Op.SHRINK, (a,), spec, shape, a.dtype)


def flip(a: Node, axes: Iterable[int]) -> Node:
    """The order of the elements along `axes` reversed."""
    axes = tuple(sorted(set(axes)))
    if any(not 0 <= i < len(a.shape) for i in axes):
        raise _fail(Op.FLIP, f"axes {axes}", a)
    if a.op is Op.CONST or all(a.shape[i] == 1 for i in axes):
        return a
    return Node(Op.FLIP, (a,), axes, a.shape, a.dtype)


def skew(a: Node, i: int, k: int, d: int, off: int, n: int) -> Node:
    """``out[.., j, .., k, ..] = a[.., j + d·k + off, .., k, ..]`` for j < n on axis i, 0 where that is out of range."""
    if i == k or not (0 <= i < len(a.shape) and 0 <= k < len(a.shape)) or n < 0:
        raise _fail(Op.SKEW, f"{(i, k, d, off, n)}", a)
    return Node(Op.SKEW, (a,), (i, k, d, off, n), (*a.shape[:i], n, *a.shape[i + 1 :]), a.dtype)


def cat(src: Sequence[Node], axis: int) -> Node:
    """The arrays one after the other along `axis`; all else agrees."""
    src = tuple(src)
    if not src or not 0 <= axis < len(src[0].shape):
        raise _fail(Op.CAT, f"along {axis}", *src)
    first = src[0]
    rest = first.shape[:axis], first.shape[axis + 1 :]
    if any(
        s.dtype is not first.dtype or len(s.shape) != len(first.shape) or (s.shape[:axis], s.shape[axis + 1 :]) != rest
        for s in src
    ):
        raise _fail(Op.CAT, f"along {axis}", *src)
    if len(src) == 1:
        return first
    return Node(Op.CAT, src, axis, rest[0] + (sum(s.shape[axis] for s in src),) + rest[1], first.dtype)


def gather(a: Node, idx: Node, axis: int) -> Node:
    """``out[.., j, ..] = a[.., idx[.., j, ..], ..]`` along `axis`; all other axes of a and idx agree.

    Indices lie in ``[0, size of the axis)``; one outside raises IndexError when the value is computed.
    """
    if idx.dtype.kind not in "iu" or len(idx.shape) != len(a.shape) or not 0 <= axis < len(a.shape):
        raise _fail(Op.GATHER, f"along {axis}", a, idx)
    if any(m != n for i, (m, n) in enumerate(zip(a.shape, idx.shape)) if i != axis):
        raise _fail(Op.GATHER, f"along {axis}: other axes differ", a, idx)
    return Node(Op.GATHER, (a, idx), axis, idx.shape, a.dtype)


# markers and host calls -------------------------------------------------------------------------------------------
def alias(a: Node) -> Node:
    """The same value as a variable of its own."""
    return Node(Op.RESHAPE, (a,), None, a.shape, a.dtype)


def detach(a: Node) -> Node:
    """The same value; no derivative passes, and history ends here."""
    n = Node(Op.DETACH, (a,), None, a.shape, a.dtype)
    n.trace = None
    return n


def fence(a: Node) -> Node:
    """The same value, never merged with an equal expression: what is behind it is computed again."""
    return Node(Op.FENCE, (a,), next(_ids), a.shape, a.dtype)


def custom(y: Node, args: Sequence[Node], residuals: Sequence[Node], rule: Any) -> Node:
    """The value of `y`; its derivative towards `args` is `rule`, a function of the residuals and the cotangent."""
    return Node(Op.CUSTOM, (y, *args, *residuals), (rule, len(args)), y.shape, y.dtype)


class HostFunction:
    """An opaque NumPy function ``fn(*arrays) -> array`` with the shape and dtype of what it returns."""

    __slots__ = ("dtype", "fn", "name", "shape")

    def __init__(self, name: str, fn: Callable[..., Any], shape: Callable[..., Shape], dtype: DType) -> None:
        self.name = name
        self.fn = fn
        self.shape = shape
        self.dtype = dtype


def call(f: HostFunction, *src: Node) -> Node:
    """`f` applied on the host; not differentiable."""
    return Node(Op.CALL, src, f, f.shape(*(s.shape for s in src)), f.dtype)


# walks ------------------------------------------------------------------------------------------------------------
def toposort(roots: Iterable[Node], sources: Callable[[Node], Iterable[Node]] = lambda n: n.src) -> list[Node]:
    """Every node reachable from `roots`, sources before users; depth first, deterministic, iterative."""
    done: set[int] = set()
    order: list[Node] = []
    stack: list[Node] = list(roots)[::-1]
    while stack:
        n = stack[-1]
        if id(n) in done:
            stack.pop()
            continue
        pending = [s for s in sources(n) if id(s) not in done]
        if pending:
            stack.extend(reversed(pending))
        else:
            stack.pop()
            done.add(id(n))
            order.append(n)
    return order
