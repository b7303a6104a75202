"""The meaning of the IR: every primitive evaluated with NumPy, one at a time.

This is the oracle of the tests and shares no code with schedule, lowering or codegen; it may import `ir`, `errors`,
`sites` and NumPy only. Where NumPy leaves a case open (a shift by the width, x // 0, nan to int, max(-0, +0)) it is
decided here explicitly. Values are as exact as is practical: elementary functions are evaluated in a wider type and
rounded once, floating sums and products are accumulated in that type.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from .errors import IRError
from .ir import FLOAT16, FLOAT32, FLOAT64, DType, Node, Op, toposort
from .sites import line_of

Array = np.ndarray[Any, np.dtype[Any]]
Rule = Callable[..., Any]  # (node, *arrays of its sources) -> array

WIDE: Final[dict[DType, DType]] = {FLOAT16: FLOAT64, FLOAT32: FLOAT64, FLOAT64: np.dtype(np.longdouble)}
"""The type in which a function of this type is evaluated before it is rounded once."""


# leaves -----------------------------------------------------------------------------------------------------------
def _buffer(_: Node) -> Array:
    raise IRError("buffer: has neither a stored value nor a binding")


def _const(n: Node) -> Array:
    return np.broadcast_to(np.asarray(n.arg, n.dtype), n.shape)


def _iota(n: Node) -> Array:
    return np.arange(n.shape[0]).astype(n.dtype)


def _input(_: Node, *value: Array) -> Array:
    if not value:
        raise IRError("input: carries no value and has no binding")
    return value[0]


# elementwise ------------------------------------------------------------------------------------------------------
def _plain(f: Callable[..., Any]) -> Rule:
    """NumPy's own: exact or correctly rounded in the type of its operands (float16 by way of float32)."""
    return lambda _, *a: f(*a)


def _widened(f: Callable[..., Any]) -> Rule:
    """`f` in the wider type, rounded once."""
    return lambda n, *a: f(*(x.astype(WIDE[n.dtype]) for x in a)).astype(n.dtype)


def _in_double(f: Callable[[float], float]) -> Rule:
    """A function of the C library that NumPy has not, in float64 for every type."""

    def evaluate(n: Node, a: Array) -> Array:
        values = map(f, a.astype(np.float64).ravel().tolist())
        return np.fromiter(values, np.float64, a.size).reshape(a.shape).astype(n.dtype)

    return evaluate


def lgamma(x: float) -> float:
    """log |Γ(x)|; math.lgamma raises where the result is infinite."""
    try:
        return math.lgamma(x)
    except (ValueError, OverflowError):
        return math.inf


def _cast(n: Node, a: Array) -> Array:
    if n.dtype.kind == "b":
        return np.asarray(a != 0)
    if a.dtype.kind != "f" or n.dtype.kind == "f":
        return a.astype(n.dtype)
    limits = np.iinfo(n.dtype)
    whole = np.trunc(a.astype(np.float64))
    below, above = whole < float(limits.min), whole >= float(int(limits.max) + 1)  # both bounds are exact
    inside = np.where(below | above | np.isnan(whole), 0.0, whole).astype(n.dtype)
    return np.where(below, n.dtype.type(limits.min), np.where(above, n.dtype.type(limits.max), inside))


def _idiv(n: Node, a: Array, b: Array) -> Any:
    if n.dtype.kind == "f":
        return np.floor_divide(a, b)
    one = n.dtype.type(1)
    minus = b < 0 if n.dtype.kind == "u" else b == -1
    quotient = np.floor_divide(a, np.where((b == 0) | minus, one, b))
    return np.where(b == 0, n.dtype.type(0), np.where(minus, np.negative(a), quotient))


def _mod(n: Node, a: Array, b: Array) -> Any:
    if n.dtype.kind == "f":
        return np.remainder(a, b)
    zero = (b == 0) | (b < 0 if n.dtype.kind == "u" else b == -1)
    return np.where(zero, n.dtype.type(0), np.remainder(a, np.where(zero, n.dtype.type(1), b)))


def _pow(n: Node, a: Array, b: Array) -> Any:
    if n.dtype.kind == "f":
        return _widened(np.power)(n, a, b)
    zero, one = n.dtype.type(0), n.dtype.type(1)
    if n.dtype.kind == "u":
        return np.power(a, b)
    unit = np.where((a == 1) | ((a == -1) & (b & one == 0)), one, np.where(a == -1, -one, zero))
    return np.where(b < 0, unit, np.power(a, np.where(b < 0, zero, b)))


def _shift(f: Callable[..., Any], fill: Callable[[Array], Any]) -> Rule:
    """`f`; where the distance is negative or at least the width, `fill` of the first operand."""

    def evaluate(n: Node, a: Array, b: Array) -> Any:
        out = (b < 0) | (b >= n.dtype.itemsize * 8)
        return np.where(out, fill(a).astype(n.dtype), f(a, np.where(out, n.dtype.type(0), b)))

    return evaluate


# max and min ------------------------------------------------------------------------------------------------------
_EXTREMUM: Final[dict[str, np.ufunc]] = {"max": np.maximum, "min": np.minimum}
_BITS: Final[dict[int, DType]] = {2: np.dtype(np.int16), 4: np.dtype(np.int32), 8: np.dtype(np.int64)}


def _identity(kind: str, dtype: DType) -> Array:
    """What `kind` (sum, max, min, prod) over nothing gives."""
    if kind in ("sum", "prod"):
        return np.asarray(kind == "prod", dtype)
    if dtype.kind == "f":
        return np.asarray(-np.inf if kind == "max" else np.inf, dtype)
    if dtype.kind == "b":
        return np.asarray(kind == "min", dtype)
    limits = np.iinfo(dtype)
    return np.asarray(limits.min if kind == "max" else limits.max, dtype)


def _extremum(kind: str, run: Callable[..., Any], *arrays: Array) -> Any:
    """``run(np.maximum or np.minimum, *arrays)`` in the order -inf < ... < -0 < +0 < ... < inf, in which nan wins.

    Floats are compared by integer keys: their bits, the magnitude complemented for negative ones. The greatest key
    (least for min) is no number's and is given to every nan; it decodes to a nan.
    """
    dtype = arrays[0].dtype
    if dtype.kind != "f":
        return run(_EXTREMUM[kind], *arrays)
    bits = _BITS[dtype.itemsize]
    limits = np.iinfo(bits)
    magnitude = bits.type(limits.max)
    nan = bits.type(limits.max if kind == "max" else limits.min)

    def flip(key: Array) -> Array:
        return np.where(key < 0, key ^ magnitude, key)

    keys = (np.where(np.isnan(a), nan, flip(a.view(bits))) for a in arrays)
    return flip(np.asarray(run(_EXTREMUM[kind], *keys))).view(dtype)


def _pairwise(kind: str) -> Rule:
    return lambda _, a, b: _extremum(kind, lambda f, x, y: f(x, y), a, b)


def _reduce_extremum(kind: str) -> Rule:
    return lambda n, a: _extremum(
        kind,
        lambda f, x, start: f.reduce(x, axis=n.arg, keepdims=True, initial=start[()]),
        a,
        _identity(kind, n.dtype),
    )


# sums, products, scans --------------------------------------------------------------------------------------------
def _reduce(f: np.ufunc) -> Rule:
    return lambda n, a: f.reduce(a, axis=n.arg, dtype=WIDE.get(n.dtype, n.dtype), keepdims=True).astype(n.dtype)


def _carry(dtype: DType) -> DType:
    """The type of a running value: the type itself, float32 for float16."""
    return FLOAT32 if dtype is FLOAT16 else dtype


def _accumulate(f: np.ufunc) -> Rule:
    return lambda n, a: f.accumulate(a, axis=n.arg[1], dtype=_carry(n.dtype)).astype(n.dtype)


def _scan_extremum(kind: str) -> Rule:
    return lambda n, a: _extremum(kind, lambda f, x: f.accumulate(x, axis=n.arg[1]), a)


def _linrec(n: Node, a: Array, b: Array) -> Array:
    carry = _carry(n.dtype)
    out = np.empty(n.shape, carry)
    rows = np.moveaxis(out, n.arg[1], 0)
    value = np.zeros(rows.shape[1:], carry)
    for k, (x, y) in enumerate(zip(np.moveaxis(a, n.arg[1], 0), np.moveaxis(b, n.arg[1], 0), strict=True)):
        value = np.asarray(np.asarray(x.astype(carry) * value) + y.astype(carry))
        rows[k] = value
    return out.astype(n.dtype)


_SCAN: Final[dict[str, Rule]] = {
    "sum": _accumulate(np.add),
    "prod": _accumulate(np.multiply),
    "max": _scan_extremum("max"),
    "min": _scan_extremum("min"),
    "linrec": _linrec,
}


# indices ----------------------------------------------------------------------------------------------------------
def _checked(n: Node, idx: Array, axis: int, size: int) -> Array:
    """`idx` as intp, C-contiguous; IndexError names the first index outside ``[0, size)`` and the user's line."""
    bad = (idx < 0) | (idx >= size)
    if bad.any():
        first = idx.ravel()[int(np.argmax(bad))]
        line = line_of(n)
        where = "" if line is None else f" ({line})"
        raise IndexError(f"index {first} is out of bounds for axis {axis} with size {size}{where}")
    return np.array(idx, np.intp, order="C")


def _gather(n: Node, a: Array, idx: Array) -> Array:
    return np.take_along_axis(a, _checked(n, idx, n.arg, a.shape[n.arg]), n.arg)


def _places(idx: Array, axis: int) -> tuple[Array, ...]:
    """The index tuple that names ``[.., idx[.., j, ..], ..]``."""
    grid: list[Array] = list(np.indices(idx.shape, sparse=True))
    grid[axis] = idx
    return tuple(grid)


def _scatter_sum(n: Node, g: Array, idx: Array) -> Array:
    out = np.zeros(n.shape, _carry(n.dtype))
    np.add.at(out, _places(idx, n.arg[1]), g.astype(out.dtype))
    return out.astype(n.dtype)


def _scatter_extremum(kind: str) -> Rule:
    def evaluate(n: Node, g: Array, idx: Array) -> Any:
        def run(f: np.ufunc, out: Array, x: Array) -> Array:
            f.at(out, _places(idx, n.arg[1]), x)
            return out

        return _extremum(kind, run, np.full(n.shape, _identity(kind, n.dtype)), g)

    return evaluate


def _scatter_set(n: Node, g: Array, idx: Array) -> Array:
    """Each place takes the g of its last writer; one without a writer is 0."""
    axis = n.arg[1]
    out = np.zeros(n.shape, n.dtype)
    if not g.size:
        return out
    last = np.full(n.shape, -1, np.intp)
    np.maximum.at(last, _places(idx, axis), np.indices(idx.shape, sparse=True)[axis])
    return np.where(last < 0, out, np.take_along_axis(g, np.maximum(last, 0), axis))


_SCATTER: Final[dict[str, Rule]] = {
    "sum": _scatter_sum,
    "max": _scatter_extremum("max"),
    "min": _scatter_extremum("min"),
    "set": _scatter_set,
}


def _scatter(n: Node, g: Array, idx: Array) -> Any:
    kind, axis, size = n.arg
    return _SCATTER[kind](n, g, _checked(n, idx, axis, size))


# movement ---------------------------------------------------------------------------------------------------------
def _pad(n: Node, a: Array) -> Array:
    out = np.zeros(n.shape, n.dtype)
    out[tuple(slice(lo, lo + m + (m - 1) * inner if m else lo, inner + 1)
              for (lo, _, inner), m in zip(n.arg, a.shape, strict=True))] = a  # fmt: skip
    return out


def _shrink(n: Node, a: Array) -> Array:
    return np.asarray(a[tuple(slice(*part) for part in n.arg)])


def _skew(n: Node, a: Array) -> Array:
    i, k, d, off, _ = n.arg
    old = a.shape[i]
    if not old:
        return np.zeros(n.shape, n.dtype)
    grid = np.indices([m if axis in (i, k) else 1 for axis, m in enumerate(n.shape)], sparse=True)
    place = grid[i] + d * grid[k] + off
    inside = (place >= 0) & (place < old)
    return np.where(inside, np.take_along_axis(a, np.clip(place, 0, old - 1), i), n.dtype.type(0))


# host -------------------------------------------------------------------------------------------------------------
def _call(n: Node, *a: Array) -> Array:
    out = np.asarray(n.arg.fn(*a))
    if out.shape != n.shape or out.dtype != n.dtype:
        raise IRError(f"call: {n.arg.name} returned {out.dtype}{list(out.shape)}, promised {n!r}")
    return out


def _same(_: Node, a: Array) -> Array:
    return a


EVALUATE: Final[dict[Op, Rule]] = {
    Op.BUFFER: _buffer,
    Op.CONST: _const,
    Op.IOTA: _iota,
    Op.INPUT: _input,
    # unary
    Op.NEG: _plain(np.negative),
    Op.ABS: _plain(np.abs),
    Op.EXP: _widened(np.exp),
    Op.LOG: _widened(np.log),
    Op.EXPM1: _widened(np.expm1),
    Op.LOG1P: _widened(np.log1p),
    Op.LOG2: _widened(np.log2),
    Op.SQRT: _plain(np.sqrt),
    Op.CBRT: _widened(np.cbrt),
    Op.SIN: _widened(np.sin),
    Op.COS: _widened(np.cos),
    Op.TAN: _widened(np.tan),
    Op.SINH: _widened(np.sinh),
    Op.COSH: _widened(np.cosh),
    Op.TANH: _widened(np.tanh),
    Op.ASIN: _widened(np.arcsin),
    Op.ACOS: _widened(np.arccos),
    Op.ATAN: _widened(np.arctan),
    Op.ERF: _in_double(math.erf),
    Op.ERFC: _in_double(math.erfc),
    Op.LGAMMA: _in_double(lgamma),
    Op.FLOOR: _plain(np.floor),
    Op.CEIL: _plain(np.ceil),
    Op.TRUNC: _plain(np.trunc),
    Op.ROUND: _plain(np.rint),
    Op.NOT: _plain(np.invert),
    Op.CAST: _cast,
    Op.BITCAST: lambda n, a: a.view(n.dtype),
    # binary, and WHERE
    Op.ADD: _plain(np.add),
    Op.SUB: _plain(np.subtract),
    Op.MUL: _plain(np.multiply),
    Op.DIV: _plain(np.divide),
    Op.IDIV: _idiv,
    Op.MOD: _mod,
    Op.POW: _pow,
    Op.MAX: _pairwise("max"),
    Op.MIN: _pairwise("min"),
    Op.ATAN2: _widened(np.arctan2),
    Op.LT: _plain(np.less),
    Op.EQ: _plain(np.equal),
    Op.AND: _plain(np.bitwise_and),
    Op.OR: _plain(np.bitwise_or),
    Op.XOR: _plain(np.bitwise_xor),
    Op.SHL: _shift(np.left_shift, np.zeros_like),
    Op.SHR: _shift(np.right_shift, lambda a: np.where(a < 0, -1, 0)),
    Op.WHERE: _plain(np.where),
    # reduce
    Op.SUM: _reduce(np.add),
    Op.PROD: _reduce(np.multiply),
    Op.REDUCE_MAX: _reduce_extremum("max"),
    Op.REDUCE_MIN: _reduce_extremum("min"),
    Op.SCAN: lambda n, *a: _SCAN[n.arg[0]](n, *a),
    Op.SCATTER: _scatter,
    # movement
    Op.RESHAPE: lambda n, a: a.reshape(n.shape),
    Op.PERMUTE: lambda n, a: a.transpose(n.arg),
    Op.EXPAND: lambda n, a: np.broadcast_to(a, n.shape),
    Op.PAD: _pad,
    Op.SHRINK: _shrink,
    Op.FLIP: lambda n, a: np.flip(a, n.arg),
    Op.SKEW: _skew,
    Op.CAT: lambda n, *a: np.concatenate(a, n.arg),
    Op.GATHER: _gather,
    # marker
    Op.DETACH: _same,
    Op.FENCE: _same,
    Op.CUSTOM: _same,
    # host
    Op.CALL: _call,
}
"""The meaning of each primitive: its node and the values of its sources to its value. Run under `np.errstate`."""


def interpret(roots: Sequence[Node], bindings: Mapping[Node, Array] | None = None) -> list[Array]:
    """The values of `roots`, each a fresh C-contiguous array.

    A node in `bindings` has that value; else one with a buffer has the buffer's; any other is evaluated. A value is
    freed after its last use.

    Raises: IndexError for an index out of range in GATHER or SCATTER; IRError for a leaf without a value.
    """
    given: dict[Node, Array] = {}
    for n, value in (bindings or {}).items():
        given[n] = _agreeing(n, value, "binding")

    def sources(n: Node) -> tuple[Node, ...]:
        if n in given or n.buffer is not None:
            return ()
        return n.src[:1] if n.op is Op.CUSTOM else n.src

    order = toposort(roots, sources)
    uses = dict.fromkeys(order, 0)
    for n in order:
        for s in sources(n):
            uses[s] += 1
    for n in roots:
        uses[n] += 1

    values: dict[Node, Array] = {}
    with np.errstate(all="ignore"):
        for n in order:
            if n in given:
                values[n] = given[n]
            elif n.buffer is not None:
                values[n] = _agreeing(n, n.buffer.array, "buffer")
            else:
                values[n] = _agreeing(n, np.asarray(EVALUATE[n.op](n, *[values[s] for s in sources(n)])), "value")
            for s in sources(n):
                uses[s] -= 1
                if not uses[s]:
                    del values[s]
    return [np.array(values[n], order="C") for n in roots]


def _agreeing(n: Node, value: Any, what: str) -> Array:
    if not isinstance(value, np.ndarray) or value.shape != n.shape or value.dtype != n.dtype:
        got = f"{value.dtype}{list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__
        raise IRError(f"{n.op.value}: the {what} of {n!r} is {got}")
    return value
