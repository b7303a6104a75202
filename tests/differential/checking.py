"""Compiled code against the interpreter, kernel by kernel, and the coverage that the programs reached."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np
from programs import CELLS, Cell, Program, cell_class, label

import codegen.verify
from codegen.loops import BLOCK, CONTRACT_BLOCK, Reduce, Stmt
from codegen.math import MAX_ULP
from tinyad.buffer import Buffer
from tinyad.canonical import Canonical, Parameter, Slot, number, rebuild
from tinyad.interpret import interpret
from tinyad.ir import FLOAT16, FLOAT32, FLOAT64, SHORT, Node, Op, toposort
from tinyad.realize import run
from tinyad.schedule.group import Group
from tinyad.schedule.plan import Plan, plan_for
from tinyad.schedule.step import Step
from tinyad.text import dump, parse
from tinyad.verify import fault, verify

Array = np.ndarray[Any, np.dtype[Any]]
Values = dict[Node, Array]

FUNCTIONS: Final = frozenset(Op(name) for name in MAX_ULP if name != "sqrt")
WIDE: Final = {FLOAT16: np.dtype(np.float64), FLOAT32: np.dtype(np.float64), FLOAT64: np.dtype(np.longdouble)}
UNSIGNED: Final = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
SIGNED: Final = {2: np.int16, 4: np.int32, 8: np.int64}


class Coverage:
    """Which cells, and which pairs of a cast, kernels were made of."""

    def __init__(self) -> None:
        self.cells: Counter[Cell] = Counter()
        self.casts: Counter[tuple[str, str]] = Counter()
        self.kernels: Counter[str] = Counter()
        self.programs = 0
        self.licensed = 0

    def missing(self) -> list[Cell]:
        return [cell for cell in CELLS if not self.cells[cell]]

    def note(self, plan: Plan) -> None:
        for step in (part for s in plan for part in s.kernels):
            group = step.group
            kinds = kernel_kinds(step, group)
            self.kernels.update(kinds)
            for n in computed(group, plan):
                self._count(n, kinds)
            for target in (s.target for s in group.sinks):
                if target.into.op is Op.CAT and target.into is not group.heavy:
                    self._count(target.into, kinds)

    def graph(self, roots: Sequence[Node]) -> None:
        """The operations that no kernel shows."""
        for n in toposort(roots):
            if n.op in (Op.DETACH, Op.CUSTOM, Op.INPUT, Op.BUFFER):
                self._count(n, {"graph"})

    def _count(self, n: Node, kinds: set[str]) -> None:
        name = label(n)
        if n.op is Op.CAST:
            self.casts[SHORT[n.src[0].dtype], SHORT[n.dtype]] += 1
        for kind in kinds:
            self.cells[name, cell_class(n), kind] += 1
            if n.op is Op.CONST and isinstance(n.arg, Parameter):
                self.cells["param", cell_class(n), kind] += 1

    def table(self) -> str:
        """Operation by class of dtype: the counts for each kind of kernel."""
        kinds = ["map", "row", "column", "contract", "scan", "scatter", "graph", "host"]
        lines = [f"{self.programs} programs, {sum(self.kernels.values())} kernels: {dict(self.kernels)}",
                 f"{'':16}" + "".join(f"{k:>9}" for k in kinds)]  # fmt: skip
        for name, c in dict.fromkeys((name, c) for name, c, _ in CELLS):
            cells = [(name, c, k) for k in kinds]
            row = [self.cells[x] if x in _REACHABLE or self.cells[x] else "." for x in cells]
            lines.append(f"{name:13} {c} " + "".join(f"{v:>9}" for v in row))
        return "\n".join(lines)


_REACHABLE: Final = frozenset(CELLS)


def kernel_kinds(step: Step, group: Group) -> set[str]:
    """The kinds of kernel that one step is: several if it reduces rows and columns."""
    if step.lowered is None:
        return {"host"}
    kinds = set()
    if group.heavy is not None:
        kinds.add("contract" if group.heavy.op is Op.SUM else group.heavy.op.value)
    kinds |= {s.tree for s in statements(step.lowered.kernel.body) if isinstance(s, Reduce)}
    return kinds or {"map"}


def statements(body: Sequence[Stmt]) -> Iterator[Stmt]:
    for s in body:
        yield s
        for name in ("body", "a_body", "b_body", "epilogue"):
            yield from statements(getattr(s, name, ()))


def computed(group: Group, plan: Plan) -> list[Node]:
    """The nodes whose values the group's kernel computes."""
    own = {s.node for s in group.sinks if s.target.into is s.node}
    stored = plan.partition.stored.keys() - {id(n) for n in own}
    order = toposort([s.node for s in group.sinks], lambda n: () if id(n) in stored else n.src)
    return [n for n in order if id(n) not in stored and n.op is not Op.BUFFER]


# comparing ----------------------------------------------------------------------------------------------------------
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
        return np.where(raw < 0, -magnitude, magnitude)

    out = np.abs(key(np.ascontiguousarray(got)) - key(np.ascontiguousarray(want)))
    nan_got, nan_want = np.isnan(got), np.isnan(want)
    out = np.where(nan_got & nan_want, 0, np.where(nan_got | nan_want, np.inf, out))
    zeros = (got == 0) & (want == 0) & (np.signbit(got) != np.signbit(want))
    return np.where(zeros, np.inf, out)


def allowed_ulps(n: Node) -> float:
    """How far a function's value may be from the interpreter's, which is rounded once: half a place on its own."""
    if n.dtype is FLOAT16:
        return 1.0
    own = 1.5 if n.op is Op.ERF and n.dtype is FLOAT64 else 0.5  # the interpreter has erf in float64 only
    return max(math.floor(MAX_ULP[n.op.value][SHORT[n.dtype]] + own), 1)


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
    count = math.prod(n.src[0].shape[i] for i in n.arg)
    if contraction:
        return min(count, CONTRACT_BLOCK) + count / CONTRACT_BLOCK + 1
    return 64 + math.log2(max(count, 1))


def masks(n: Node) -> bool:
    """Whether something in the graph of `n` selects or fills with zeros."""
    return any(m.op in (Op.PAD, Op.SKEW, Op.WHERE, Op.MUL, Op.CAST) for m in toposort([n]))


class Mismatch(AssertionError):
    """A compiled value that the interpreter's does not allow."""


def _complain(plan: Plan, n: Node, got: Array, want: Array, ok: Array, what: str) -> None:
    if bool(np.all(ok)):
        return
    at = tuple(int(i) for i in np.argwhere(~ok)[0])
    number_of = plan.number_of[id(n)]
    sources = [f"%{plan.number_of[id(s)]} {s!r}" for s in n.src]
    raise Mismatch(
        f"%{number_of} {n!r} {n.arg!r} of {sources} at {at}: {what} {got[at]!r}, expected {want[at]!r} "
        f"({int(np.sum(~ok))} of {ok.size} elements differ)"
    )


class Checker:
    """Observes an unfused plan and compares every kernel's outputs with the interpreter's on what it read."""

    def __init__(self, plan: Plan, c: Canonical) -> None:
        self.plan = plan
        self.constants: Values = {}
        for n in plan.nodes:
            if n.op is Op.CONST and isinstance(n.arg, Parameter):
                raw = np.array(c.parameters[n.arg.index], np.uint64).astype(UNSIGNED[n.dtype.itemsize])
                self.constants[n] = np.full(n.shape, raw.view(n.dtype))

    def __call__(self, step: Step, arrays: list[Buffer | None]) -> None:
        values = dict(self.constants)
        group = step.group
        own = {s.node for s in group.sinks if s.target.into is s.node}  # others may be copied into a part of cat
        written = {s.target.into for s in group.sinks}
        for n in self.plan.nodes:
            place = self.plan.place_of.get(id(n))
            stored = arrays[place] if place is not None else None
            if stored is not None and n not in own:
                values[n] = stored.array.reshape(n.shape)
        readable = {n: v for n, v in values.items() if n not in written or n in self.constants}
        for n, target in ((s.node, s.target) for s in group.sinks):
            place = self.plan.place_of[id(target.into)]
            held = arrays[place]
            assert held is not None
            got = held.array.reshape(target.into.shape)
            if target.into is not n:
                part = slice(target.offset, target.offset + n.shape[target.axis])
                got = got[(*[slice(None)] * target.axis, part)]
            self.sink(n, got, readable)

    def sink(self, n: Node, got: Array, values: Values) -> None:
        with np.errstate(all="ignore"):
            if n.op in (Op.SUM, Op.PROD) and n.dtype.kind == "f":
                self.sum(n, got, values)
                return
            if n in values:  # copied into a part of cat
                want = values[n]
            else:
                (want,) = interpret([n], values)
            if n.op in FUNCTIONS and n.dtype.kind == "f":
                far = ulps(got, want)
                _complain(self.plan, n, got, want, far <= allowed_ulps(n), f"{float(np.max(far, initial=0))} ulp:")
            else:
                _complain(self.plan, n, got, want, same_bits(got, want), "bits:")

    def sum(self, n: Node, got: Array, values: Values) -> None:
        contraction = self.plan.partition.contractions.get(id(n))
        if contraction is not None:
            a, b = (x.astype(WIDE[n.dtype]) for x in interpret(contraction.product.src, values))
            masked = (a == 0) | (b == 0) if any(map(masks, contraction.product.src)) else None
            terms = a * b
            ok = within_sum(n, terms, got, depth_of(n, True), masked)
            _complain(self.plan, n, got, np.sum(terms, axis=n.arg, keepdims=True), ok, "contraction")
            return
        (a,) = interpret(n.src, values)
        want = by_tree(n, a)
        if n.op is Op.SUM:
            terms = a.astype(WIDE[n.dtype])
            ok = within_sum(n, terms, got, depth_of(n, False), None)
            _complain(self.plan, n, got, np.sum(terms, axis=n.arg, keepdims=True), ok, "sum")
        _complain(self.plan, n, got, want, same_bits(got, want), "documented tree:")


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


def check_text(roots: Sequence[Node]) -> None:
    """The graph is legal, and its text is read back as an equal graph."""
    verify(roots)
    text = dump(roots, sites=False)
    if any(n.op in (Op.CALL, Op.CUSTOM) for n in toposort(roots)):
        return  # Python functions have no text
    again = parse(text)
    verify(again)
    assert dump(again, sites=False) == text


def check(p: Program, other: Program | None = None, coverage: Coverage | None = None) -> None:
    """Everything that is promised of one program; `other` is the same program with other data."""
    check_text(p.roots)
    c = number(p.roots)
    for n in rebuild(c):
        if not isinstance(n.arg, (Slot, Parameter)):
            assert fault(n) is None, f"{n!r}: {fault(n)}"
    plans = {fuse: plan_for(c, fuse) for fuse in (False, True)}
    for plan in plans.values():
        for step in (part for s in plan for part in s.kernels):
            if step.lowered is not None:
                codegen.verify.verify(step.lowered.kernel)
    compare(c, plans[False], plans[True], coverage)
    if coverage is not None:
        coverage.programs += 1
        coverage.graph(p.roots)
        for plan in plans.values():
            coverage.note(plan)
    if other is not None:
        again = number(other.roots)
        if again.key == c.key:  # parameters may have become equal
            assert plan_for(again, True) is plans[True]
            compare(again, plans[False], plans[True], coverage)


def compare(c: Canonical, unfused: Plan, fused: Plan, coverage: Coverage | None) -> None:
    """Every kernel of the unfused plan against the interpreter, then the fused plan against the unfused one."""
    checker = Checker(unfused, c)
    plain = results(unfused, run(unfused, c, checker))
    joined = results(fused, run(fused, c))
    free: set[int] | None = None
    for k, (x, y) in enumerate(zip(joined, plain, strict=True)):
        ok = same_bits(x, y)
        if not ok.all():
            if free is None:
                free = licensed(unfused, c, checker)
            if c.roots[k] in free:
                if coverage is not None:
                    coverage.licensed += 1
                continue
            n = unfused.nodes[c.roots[k]]
            _complain(unfused, n, x, y, ok, f"fused differs from unfused in root {k}:")
