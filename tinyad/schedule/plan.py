"""A plan: the kernels and host calls that compute the roots of one canonical graph, in order, ready to run.

A plan depends on the canonical key only, so it is made once and run for every equal graph. Values live in numbered
places: the slots of the leaves first, then one for each stored node.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from .. import ir
from ..canonical import Canonical, rebuild
from ..collection import uncollected
from ..config import config
from ..ir import DType, Node, Op, Shape, toposort
from ..lower import Recall
from ..sites import line_of
from .compose import compose
from .group import Group
from .moments import one_pass
from .partition import Partition, partition
from .step import Step

_KEPT: Final = 500_000  # nodes of the plans remembered together


@dataclass(eq=False, slots=True, repr=False)
class Plan:
    """Kernels in order. `places` gives shape and dtype of every place, the first `leaves` of which are given."""

    steps: list[Step]
    places: list[tuple[Shape, DType]]
    leaves: int
    results: list[tuple[int, Shape]]
    nodes: list[Node]
    partition: Partition
    number_of: dict[int, int] = field(default_factory=dict)  # node of the merged graph -> value number
    place_of: dict[int, int] = field(default_factory=dict)  # leaf or stored node of the merged graph -> place

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Any:
        return iter(self.steps)

    def __getitem__(self, i: int) -> Step:
        return self.steps[i]

    @property
    def flops(self) -> int:
        return sum(s.flops for s in self.steps)

    @property
    def bytes(self) -> int:
        return sum(s.bytes for s in self.steps)

    @property
    def peak_bytes(self) -> int:
        """The most bytes that results and intermediate arrays of this plan take at one time (leaves not counted)."""
        live = peak = 0
        for step in self.steps:
            live += sum(_nbytes(self.places[p]) for p in step.allocates)
            peak = max(peak, live)
            kept = {old for _, old in step.replaces}
            live -= sum(_nbytes(self.places[p]) for p in step.releases if p >= self.leaves and p not in kept)
        return peak

    def explain(self) -> str:
        """The reason for every value that is stored, computed again or fused, with its numbers and the Python line that
        wrote it, in the order they are computed; then for every kernel that several have become."""
        joined = [f"k{i} {reason}" for i, step in enumerate(self.steps) for reason in self._joined(step)]
        return "\n".join([*self._reasons(self.partition.reasons), *joined])

    def _reasons(self, keys: Iterable[int]) -> list[str]:
        """A line for each value."""
        lines = []
        for key in sorted(keys, key=lambda key: self.number_of[key]):
            i = self.number_of[key]
            n = self.nodes[i]
            line = line_of(n)
            where = f" ({line})" if line else ""
            lines.append(f"%{i} {_type(n)} = {n.op.value}{where}: {self.partition.reasons[key]}")
        return lines

    def _joined(self, step: Step) -> list[str]:
        """Why the step is one, where it might have been several."""
        out = []
        for n in dict.fromkeys(n for part in step.kernels if part.group for n in part.group.shared):
            value = f"%{self.number_of[id(n)]} {_type(n)}"
            out.append(f"fused: what reads {value} at the same place; {n.size * n.dtype.itemsize} bytes read once")
        if step.length:
            turns = f"{step.length} turn{'s' if step.length > 1 else ''}"
            out.append(f"strips: {len(step.parts)} kernels in turn, {turns} each; what both read is read once")
        elif step.passed:
            passed = len({v for mine in step.passed for v in mine if v is not None})
            out.append(f"strips: {len(step.parts)} kernels in turn; {passed} values passed on in cache, never stored")
        elif step.parts:
            out.append(f"segments: {len(step.parts)} equal bodies over different arrays")
        return out

    def __str__(self) -> str:
        kernels = f"{len(self)} kernel{'s' if len(self) != 1 else ''}"
        out = [f"plan: {kernels}, {self.bytes} bytes moved, {self.flops} operations, {self.peak_bytes} bytes at most"]
        for i, step in enumerate(self.steps):
            stored = ", ".join(f"%{self.number_of[id(n)]} {_type(n)}" for n in step.sinks)
            out.append(f"k{i} {step.name}: {stored}; reads {step.reads} bytes, writes {step.writes} bytes")
            for n in step.sinks:
                reason = self.partition.reasons.get(id(n))
                if reason:
                    out.append(f"  %{self.number_of[id(n)]} {n.op.value} {reason}")
            out += [f"  {reason}" for reason in self._joined(step)]
            out += [f"  contract {text}" for text in step.contractions]
        inside = self.partition.reasons.keys() - self.partition.stored.keys()
        return "\n".join([*out, *self._reasons(inside)])


def _type(n: Node) -> str:
    return f"{ir.SHORT[n.dtype]}[{','.join(map(str, n.shape))}]"


_plans: OrderedDict[Any, Plan] = OrderedDict()
_nodes = 0  # in them


def clear() -> None:
    """Forgets every plan."""
    global _nodes
    _plans.clear()
    _nodes = 0


def plan_for(c: Canonical, fuse: bool = True, donated: frozenset[int] = frozenset()) -> Plan:
    """The plan of a canonical graph, made at its first need; those used longest ago are forgotten.

    `donated`: slots whose arrays nobody needs afterwards.
    """
    global _nodes
    key = (c.key, fuse, donated)
    found = _plans.get(key)
    if found is not None:
        _plans.move_to_end(key)
        return found
    found = _plans[key] = make_plan(c, fuse, donated)
    _nodes += len(found.nodes)
    while _nodes > _KEPT and len(_plans) > 1:
        _, old = _plans.popitem(last=False)
        _nodes -= len(old.nodes)
    return found


@uncollected
def make_plan(c: Canonical, fuse: bool = True, donated: frozenset[int] = frozenset()) -> Plan:
    """Partition, lowering, order and lifetimes for a canonical graph."""
    nodes, parts = one_pass(rebuild(c))
    roots = [nodes[i] for i in c.roots]
    order = toposort(roots)
    decided = partition(order, roots, parts, fuse)
    number_of: dict[int, int] = {}
    for i, n in enumerate(nodes):
        number_of.setdefault(id(n), i)
    for n in order:  # what a rewrite put between
        if id(n) not in number_of:
            number_of[id(n)] = len(nodes)
            nodes.append(n)
    places: list[tuple[Shape, DType]] = [(b.shape, b.dtype) for b in c.leaves]
    place_of: dict[int, int] = {}
    for n in order:
        if n.op is Op.BUFFER:
            place_of[id(n)] = n.arg.index
        elif id(n) in decided.stored or (n.size == 0 and id(n) in {id(r) for r in roots}):
            place_of[id(n)] = len(places)
            places.append((n.shape, n.dtype))
    for n in decided.partial.values():
        if id(n) not in place_of:
            place_of[id(n)] = len(places)
            places.append((n.shape, n.dtype))
    results = []
    for n in roots:
        base = n
        while id(base) in decided.views:
            base = decided.views[id(base)]
        results.append((place_of[id(base)], n.shape))
    recall = Recall(decided)
    kept = {p for p, _ in results}
    steps = [_step(g, recall, place_of) for g in decided.groups]
    if fuse and not config.bounds:  # composed kernels do not know the sizes of their arrays
        steps = compose(steps, kept, [dtype.itemsize for _, dtype in places])
    _lifetimes(steps, places, kept, len(c.leaves), donated)
    return Plan(steps, places, len(c.leaves), results, nodes, decided, number_of, place_of)


def _step(group: Group, recall: Recall, place_of: dict[int, int]) -> Step:
    sinks = tuple(s.node for s in group.sinks)
    if group.heavy is not None and group.heavy.op is Op.CALL:
        n = group.heavy
        places = [*(place_of[id(s)] for s in n.src), place_of[id(n)]]
        return Step(n.arg.name, (n,), call=n, group=group, arguments=tuple((p, 0) for p in places))
    lowered = recall.lower(group)
    arguments = tuple((place_of[id(a.node)], a.offset * a.node.dtype.itemsize) for a in lowered.arguments)
    parameters = tuple(p.index for p in lowered.parameters)
    return Step(lowered.kernel.name, sinks, lowered, None, group, arguments, parameters)


def _lifetimes(
    steps: Sequence[Step],
    places: Sequence[tuple[Shape, DType]],
    results: set[int],
    leaves: int,
    donated: frozenset[int],
) -> None:
    """Notes where each place is first written and last used, and where one can take the memory of another.

    Leaves stay as they are but for the `donated` ones.
    """
    uses: dict[int, int] = {}
    last: dict[int, Step] = {}
    begun: set[int] = set()
    for step in steps:
        fresh = []
        for place in dict.fromkeys(p for p, _ in step.arguments):
            uses[place] = uses.get(place, 0) + 1
            if place >= leaves and place not in begun:
                begun.add(place)
                fresh.append(place)
            last[place] = step
        step.allocates = tuple(fresh)
    ending: dict[Step, list[int]] = {}
    for place, step in last.items():
        if place not in results and (place >= leaves or place in donated):
            ending.setdefault(step, []).append(place)
    for step, old in ending.items():
        step.releases = tuple(old)
        if not step.allocates:
            continue
        free, wanted = set(old), set(step.allocates)
        taken: dict[int, int] = {}
        for new, place in step.in_place():
            if new in wanted and place in free and _nbytes(places[new]) == _nbytes(places[place]):
                taken[new] = place
                free.discard(place)
                wanted.discard(new)
        step.replaces = tuple(taken.items())
        step.allocates = tuple([p for p in step.allocates if p in wanted])


def _nbytes(place: tuple[Shape, DType]) -> int:
    shape, dtype = place
    return math.prod(shape) * dtype.itemsize
