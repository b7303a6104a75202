"""Whether a compiled value is one that the interpreter allows: for each operation, the errors it may have.

Everything but elementary functions and sums is the same to the bit. Functions are within their measured bounds
(`codegen.math.MAX_ULP`), sums within the roundings of the documented tree, and (but for sums of products) equal to that
tree to the bit; a contraction may leave out terms that a mask makes zero, whatever their other factor is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import numpy as np

from codegen.loops import BLOCK, CONTRACT_BLOCK
from codegen.math import MAX_ULP

from .buffer import Buffer
from .canonical import Canonical, Parameter, value_of
from .errors import IRError
from .interpret import WIDE, interpret, lgamma
from .ir import FLOAT16, FLOAT32, SHORT, Node, Op, toposort
from .schedule.contraction import operands
from .schedule.group import Group
from .schedule.plan import Plan
from .schedule.step import Step

Array = np.ndarray[Any, np.dtype[Any]]
Values = dict[Node, Array]

FUNCTIONS: Final = frozenset(Op(name) for name in MAX_ULP if name != "sqrt")
UNSIGNED: Final[dict[int, type[np.unsignedinteger[Any]]]] = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
_OWN: Final[dict[Op, float]] = {Op.ERF: 1.5, Op.ERFC: 1.5, Op.LGAMMA: 6.0}
"""Errors of the interpreter, which has these functions in float64 only."""
SIGNED: Final[dict[int, type[np.signedinteger[Any]]]] = {2: np.int16, 4: np.int32, 8: np.int64}


def same_bits(got: Array, want: Array) -> Array:
    """Where two arrays agree to the bit; any NaN equals any NaN."""
    bits = UNSIGNED[got.dtype.itemsize]
    out = np.ascontiguousarray(got).view(bits) == np.ascontiguousarray(want).view(bits)
    if got.dtype.kind == "f":
        out |= np.isnan(got) & np.isnan(want)
    return np.asarray(out)


def ulps(got: Array, want: Array) -> Array:
    """The distance in last places; 0 for two NaNs, infinite for one and for zeros of different sign."""
    bits = SIGNED[got.dtype.itemsize]

    def key(a: Array) -> Array:
        k = a.view(bits).astype(np.float64 if bits is not np.int64 else np.longdouble)
        raw = a.view(bits)
        magnitude = (raw & np.iinfo(bits).max).astype(k.dtype)
        return np.asarray(np.where(raw < 0, -magnitude, magnitude))

    out = np.abs(key(np.ascontiguousarray(got)) - key(np.ascontiguousarray(want)))
    nan_got, nan_want = np.isnan(got), np.isnan(want)
    out = np.where(nan_got & nan_want, 0, np.where(nan_got | nan_want, np.inf, out))
    zeros = (got == 0) & (want == 0) & (np.signbit(got) != np.signbit(want))
    return np.where(zeros, np.inf, out)


def allowed_ulps(n: Node) -> float:
    """How far a function's value may be from the interpreter's, which is rounded once: half a place on its own."""
    if n.dtype is FLOAT16:
        return 1.0
    own = 0.5 if n.dtype is FLOAT32 else _OWN.get(n.op, 0.5)
    return max(float(math.floor(MAX_ULP[n.op.value][SHORT[n.dtype]] + own)), 1.0)


def tree_reduce(terms: Array, row: bool, op: Callable[[Array, Array], Array], empty: float) -> Array:
    """The documented tree of `codegen.loops.Reduce` over axes 0 (rows) and 1 (elements of one) of `terms`."""
    rows, extent = terms.shape[:2]
    rest = terms.shape[2:]
    blocks = []
    if row:
        lanes = 64 // terms.dtype.itemsize
        whole = BLOCK * lanes
        for r in range(rows):
            for start in range(0, extent, whole):
                part = terms[r, start : start + whole]
                steps = -(-len(part) // lanes)
                full = np.full((steps * lanes, *rest), empty, terms.dtype)
                full[: len(part)] = part
                acc = [np.full((lanes, *rest), empty, terms.dtype) for _ in range(4)]
                for s in range(steps):
                    acc[s % 4] = op(acc[s % 4], full[s * lanes : (s + 1) * lanes])
                blocks.append(op(op(acc[0], acc[1]), op(acc[2], acc[3])))
    else:
        flat = terms.reshape(rows * extent, *rest)
        for start in range(0, len(flat), BLOCK):
            value = np.full(rest, empty, terms.dtype)
            for x in flat[start : start + BLOCK]:
                value = op(value, x)
            blocks.append(value)
    slots: dict[int, Array] = {}
    for value in blocks:
        level = 0
        while level in slots:
            value = op(slots.pop(level), value)
            level += 1
        slots[level] = value
    out = None
    for level in sorted(slots):
        out = slots[level] if out is None else op(slots[level], out)
    assert out is not None
    if row:
        while len(out) > 1:
            half = len(out) // 2
            out = op(out[:half], out[half:])
        out = out[0]
    return out


def by_tree(n: Node, a: Array) -> Array:
    """The value of a floating SUM or PROD to the bit, from the documented tree."""
    kept = [i for i, size in enumerate(a.shape) if size > 1 and i not in n.arg]
    axes = [i for i in n.arg if a.shape[i] > 1]
    last = max((i for i, size in enumerate(a.shape) if size > 1), default=-1)
    trailing = [i for i in axes if all(j in axes or a.shape[j] == 1 for j in range(i, last + 1))]
    leading = [i for i in axes if i not in trailing]
    if not axes:
        return a.reshape(n.shape)
    sizes = [math.prod(a.shape[i] for i in group) for group in (leading, trailing)]
    ones = [i for i, size in enumerate(a.shape) if size == 1]
    terms = a.transpose([*leading, *trailing, *kept, *ones]).reshape(*sizes, -1)
    wide = terms.astype(np.float32) if a.dtype == np.float16 else terms
    op, empty = (np.add, -0.0) if n.op is Op.SUM else (np.multiply, 1.0)
    if not trailing:
        wide = wide.reshape(1, sizes[0], -1)
    return np.asarray(tree_reduce(wide, bool(trailing), op, empty).astype(a.dtype).reshape(n.shape))


def within_sum(n: Node, terms: Array, got: Array, depth: float, masked: Array | None) -> Array:
    """Where ``got`` is within depth·u·Σ|terms| of the sum; `terms` are wide, in the shape of the SUM's source.

    `masked`: terms which a contraction may skip.
    """
    dtype = got.dtype
    info = np.finfo(dtype)
    inner = np.finfo(np.float32) if dtype == np.float16 else info
    total = np.sum(terms, axis=n.arg, keepdims=True)
    size = np.sum(np.abs(terms), axis=n.arg, keepdims=True)
    count = terms.size // max(total.size, 1)
    u = float(inner.eps) / 2
    bound = depth * u * size * (1 + 1e-3) + count * float(inner.smallest_subnormal)
    if dtype == np.float16:
        bound = bound + float(info.eps) / 2 * np.abs(total) + float(info.smallest_subnormal)
    ok = np.abs(got - total) <= bound
    ok |= np.isnan(got) & np.isnan(total)
    ok |= got == total
    ok |= (size > float(info.max) / 2) & ~np.isnan(total)  # it may overflow on the way
    if masked is not None:
        rest = np.where(masked, 0, terms)
        total = np.sum(rest, axis=n.arg, keepdims=True)
        ok |= np.isnan(got) & np.any(masked & ~np.isfinite(terms), axis=n.arg, keepdims=True)
        ok |= np.any(masked, axis=n.arg, keepdims=True) & (
            (np.abs(got - total) <= bound) | (got == total) | (np.isnan(got) & np.isnan(total))
        )
    return np.asarray(ok)


def depth_of(n: Node, contraction: bool) -> float:
    """The most roundings on a path of the documented tree."""
    count: int = math.prod(n.src[0].shape[i] for i in n.arg)
    if contraction:
        return float(min(count, CONTRACT_BLOCK)) + count / CONTRACT_BLOCK + 1
    return 64 + math.log2(max(count, 1))


def masks(n: Node) -> bool:
    """Whether something in the graph of `n` selects or fills with zeros."""
    return any(m.op in (Op.PAD, Op.SKEW, Op.WHERE, Op.MUL, Op.CAST) for m in toposort([n]))


class Mismatch(IRError):
    """A compiled value that the interpreter's does not allow: of `node`, computed from `values`, at element `at`."""

    def __init__(self, text: str, node: Node, values: Mapping[Node, Array], at: tuple[int, ...]) -> None:
        super().__init__(text)
        self.node = node
        self.values = values
        self.at = at


def complain(n: Node, values: Mapping[Node, Array], got: Array, want: Array, ok: Array, what: str) -> None:
    """Raises `Mismatch` unless all is `ok`, naming the element that is farthest off."""
    if bool(np.all(ok)):
        return
    with np.errstate(all="ignore"):
        distance = np.where(ok, -1.0, np.abs(got.astype(np.float64) - want.astype(np.float64)))
    distance = np.where(ok | ~np.isnan(distance), distance, np.inf)
    at = tuple(int(i) for i in np.unravel_index(int(np.argmax(distance)), ok.shape))
    raise Mismatch(
        f"{n!r} {'' if n.arg is None else f'{n.arg!r} '}of {[repr(s) for s in n.src]} at {at}: {what} {got[at]!r}, "
        f"expected {want[at]!r} ({int(np.sum(~ok))} of {ok.size} elements differ)",
        n,
        values,
        at,
    )


def written(group: Group, plan: Plan, arrays: list[Buffer | None]) -> Iterator[tuple[Node, Array]]:
    """The nodes that a kernel has stored, each with its value (not those that a composed kernel only passes on)."""
    for sink in group.sinks:
        n, target = sink.node, sink.target
        held = arrays[plan.place_of[id(target.into)]]
        if held is None:
            continue
        got = held.array.reshape(target.into.shape)
        if target.into is not n:
            part = slice(target.offset, target.offset + n.shape[target.axis])
            got = got[(*[slice(None)] * target.axis, part)]
        yield n, got


class Checker:
    """Observes an unfused plan and compares every kernel's outputs with the interpreter's on what it read."""

    def __init__(self, plan: Plan, c: Canonical) -> None:
        self.plan = plan
        self.constants: Values = {}
        for n in plan.nodes:
            if n.op is Op.CONST and isinstance(n.arg, Parameter):
                self.constants[n] = np.full(n.shape, value_of(c.parameters[n.arg.index], n.dtype), n.dtype)

    def __call__(self, step: Step, arrays: list[Buffer | None]) -> None:
        group = step.group
        assert group is not None
        own = {s.node for s in group.sinks if s.target.into is s.node}  # others may be copied into a part of cat
        into = {s.target.into for s in group.sinks}
        values = dict(self.constants)
        for n in self.plan.nodes:
            place = self.plan.place_of.get(id(n))
            stored = arrays[place] if place is not None else None
            if stored is not None and n not in own and n not in into:
                values[n] = stored.array.reshape(n.shape)
        for n, got in written(group, self.plan, arrays):
            self.sink(n, got, values)

    def sink(self, n: Node, got: Array, values: Values) -> None:
        """Raises `Mismatch` unless `got` is a value that `n` may have."""
        with np.errstate(all="ignore"):
            if n.op in (Op.SUM, Op.PROD) and n.dtype.kind == "f":
                self._sum(n, got, values)
                return
            if n in values:  # copied into a part of cat
                want = values[n]
            else:
                (want,) = interpret([n], values)
            if n.op in FUNCTIONS and n.dtype.kind == "f":
                far = ulps(got, want)
                ok = far <= allowed_ulps(n)
                if n.op is Op.LGAMMA:
                    ok |= _near_zeros(n, got, want, values)
                complain(n, values, got, want, ok, f"{float(np.max(np.where(ok, 0, far), initial=0))} ulp:")
            else:
                complain(n, values, got, want, same_bits(got, want), "bits:")

    def _sum(self, n: Node, got: Array, values: Values) -> None:
        contraction = self.plan.partition.contractions.get(id(n))
        factors = operands(n) if contraction is None else contraction.product.src
        if len(factors) > 1:
            a, b = (x.astype(WIDE[n.dtype]) for x in interpret(factors, values))
            masked = (a == 0) | (b == 0) if contraction and any(map(masks, factors)) else None
            terms = a * b
            ok = within_sum(n, terms, got, depth_of(n, contraction is not None), masked)
            complain(n, values, got, np.sum(terms, axis=n.arg, keepdims=True), ok, "sum of products")
            return
        (a,) = interpret(n.src, values)
        if n.op is Op.SUM:
            terms = a.astype(WIDE[n.dtype])
            ok = within_sum(n, terms, got, depth_of(n, False), None)
            complain(n, values, got, np.sum(terms, axis=n.arg, keepdims=True), ok, "sum")
        want = by_tree(n, a)
        complain(n, values, got, want, same_bits(got, want), "documented tree:")


def _near_zeros(n: Node, got: Array, want: Array, values: Values) -> Array:
    """For lgamma, near whose zeros the interpreter loses digits: within as many units of the numbers it subtracts."""
    (x,) = interpret(n.src, values)
    evaluate = np.vectorize(lgamma, otypes=[float])
    unit = float(np.finfo(n.dtype).eps) * (np.abs(evaluate(np.abs(x))) + np.abs(want.astype(np.float64)) + 1)
    return np.asarray(np.abs(got.astype(np.float64) - want.astype(np.float64)) <= allowed_ulps(n) * unit)


def results(plan: Plan, arrays: list[Buffer | None]) -> list[Array]:
    """A copy of every root's value."""
    out = []
    for place, shape in plan.results:
        held = arrays[place]
        assert held is not None
        out.append(held.array.reshape(shape).copy())
    return out


def licensed(plan: Plan, c: Canonical, checker: Checker) -> set[int]:
    """Numbers of the values behind a contraction that may give 0 or NaN: a masked factor and one that is not finite."""
    leaves = dict(checker.constants)
    for n in plan.nodes:
        if n.op is Op.BUFFER:
            leaves[n] = c.leaves[n.arg.index].array.reshape(n.shape)
    tainted: set[Node] = set()
    for n in toposort([plan.nodes[i] for i in c.roots]):
        if any(s in tainted for s in n.src):
            tainted.add(n)
            continue
        found = plan.partition.contractions.get(id(n))
        if found is not None and n.dtype.kind == "f":
            a, b = interpret(found.product.src, leaves)
            if not (np.isfinite(a).all() and np.isfinite(b).all()):
                tainted.add(n)
    return {i for i, n in enumerate(plan.nodes) if n in tainted}


