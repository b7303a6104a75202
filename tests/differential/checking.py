"""Compiled code against the interpreter, kernel by kernel, and the coverage that the programs reached."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

import pytest
from programs import CELLS, Cell, Program, cell_class, label

import codegen.verify
from codegen import threads
from codegen.jit import Code
from codegen.loops import Reduce, Stmt
from tinyad.canonical import Canonical, Parameter, Slot, number, rebuild
from tinyad.compare import Checker, complain, licensed, results, same_bits
from tinyad.ir import SHORT, Node, Op, toposort
from tinyad.realize import run
from tinyad.schedule.group import Group
from tinyad.schedule.plan import Plan, plan_for
from tinyad.schedule.step import Step
from tinyad.text import dump, parse
from tinyad.verify import fault, verify


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


def repeat(p: Program, times: int = 20) -> None:
    """The fused plan gives the same bits every time on several threads, a race showing now and then only; and with the
    ranges that threads would share in another order."""
    c = number(p.roots)
    plan = plan_for(c, True)
    threads.use_threads(1)
    once = results(plan, run(plan, c))

    def same(what: str) -> None:
        for k, (x, y) in enumerate(zip(results(plan, run(plan, c)), once, strict=True)):
            assert same_bits(x, y).all(), f"root {k} differs {what}"

    with pytest.MonkeyPatch.context() as m:
        m.setattr(threads, "call", _last_range_first)
        same("with its last range first")
    for count in (2, 3):
        threads.use_threads(count)
        for _ in range(times):
            same(f"on {count} threads")


def _last_range_first(code: Code, table: int, params: int, status: int, _: int) -> None:
    """`threads.call` on one thread, from the last range of each function to the first."""
    for f in code.functions:
        cuts = [*range(0, f.outer, f.grain * -(-f.outer // (f.grain * 16))), f.outer]
        for begin, end in reversed(list(pairwise(cuts))):
            f.call(table, params, begin, end, status)


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
            complain(n, {}, x, y, ok, f"fused differs from unfused in root {k}:")
