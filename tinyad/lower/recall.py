"""Groups that are alike are lowered once: a network of ten thousand equal layers has a handful of kernels.

The signature of a group is all that its kernel depends on: the nodes it computes, numbered as they are met, its loops,
passes and sinks. What differs between alike groups (arrays, parameters, Python lines) is bound anew.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from ..canonical import Parameter
from ..ir import Node, Op
from ..schedule.contraction import operands
from ..schedule.group import Group
from ..schedule.partition import Partition
from ..schedule.position import Position, current
from .kernels import lower
from .views import base
from .walk import Argument, Lowered

Place = tuple[Node, int]  # an array, and the number of an element there


@dataclass(slots=True)
class _Signature:
    """`key`, and what the numbers in it stand for: nodes, arrays read and written from some element on, parameters."""

    key: Hashable
    nodes: list[Node]
    reads: list[Place]
    writes: list[Place]
    parameters: list[Parameter]


class Recall:
    """The kernels of one plan so far, by signature."""

    def __init__(self, partition: Partition) -> None:
        self.partition = partition
        self.known: dict[Hashable, tuple[Lowered, _Signature]] = {}

    def lower(self, group: Group) -> Lowered:
        """The kernel that computes every sink of `group`."""
        if group.nest is not None:
            return lower(group, self.partition)
        mine = self._signature(group)
        found = self.known.get(mine.key)
        if found is None:
            lowered = lower(group, self.partition)
            self.known[mine.key] = lowered, mine
            return lowered
        first, its = found
        arguments = []
        for a, buffer in zip(first.arguments, first.kernel.buffers):
            old, new = (its.reads, mine.reads) if buffer.role == "in" else (its.writes, mine.writes)
            arguments.append(Argument(*new[old.index((a.node, a.offset))]))
        number = {n: i for i, n in enumerate(its.nodes)}
        checks = [mine.nodes[number[n]] for n in first.checks]
        parameters = [mine.parameters[its.parameters.index(p)] for p in first.parameters]
        return Lowered(first.kernel, arguments, parameters, checks)

    def _signature(self, group: Group) -> _Signature:
        p = self.partition
        own = {id(s.node) for s in group.sinks if s.target.into is s.node}
        extents = group.domain
        loops = {loop: i for i, loop in enumerate(group.loops)}
        numbers: dict[int, int] = {}
        nodes: list[Node] = []
        sources: list[tuple[Node, ...]] = []
        reads: dict[Place, int] = {}
        writes: dict[Place, int] = {}
        parameters: dict[Parameter, int] = {}
        entries: list[Hashable] = []

        def loaded(n: Node) -> bool:
            return n.op is Op.BUFFER or (id(n) in p.stored and id(n) not in own and n not in group.tails)

        def kept(n: Node) -> bool:
            return id(n) in own or id(n) in p.scratch

        def place(position: Position | None) -> Hashable:
            at = position and current(position)  # the position of a tile has inner loops too
            return at and tuple([tuple([(loops.setdefault(v, len(loops)), v.extent) for v in axis]) for axis in at])

        stack = [s.node for s in group.sinks] + [n for n, _ in group.passes] + group.tails
        if group.heavy is not None:
            stack.append(group.heavy)
        while stack:
            n = stack.pop()
            if id(n) in numbers:
                continue
            numbers[id(n)] = len(nodes)
            nodes.append(n)
            found = base(n, loaded, kept)
            if found is not None:
                at = reads.setdefault(found, len(reads))
                entries.append((at, n.dtype, _steps(n, found[0])))
                sources.append(())
                continue
            arg: Hashable = n.arg
            if n.op is Op.CONST:
                constant = isinstance(arg, Parameter)
                arg = parameters.setdefault(n.arg, len(parameters)) if constant else (type(arg), repr(arg))
            elif n.op is Op.FENCE:
                arg = None
            c = p.contractions.get(id(n))
            axes = c and (c.batch, c.m, c.n, c.k)
            entries.append((n.op, arg, n.shape, n.dtype, p.scratch.get(id(n)), axes))
            parts = p.partial.get(id(n))
            src = (parts,) if parts is not None else operands(n) if c is None else c.product.src
            entries.append(parts is None)
            sources.append(src)
            stack.extend(src)
        edges = tuple([tuple([numbers[id(s)] for s in src]) for src in sources])
        sinks = []
        for s in group.sinks:
            at = writes.setdefault((s.target.into, s.target.start), len(writes))
            sinks.append((numbers[id(s.node)], id(s.node) in own, at, s.target.into.shape, place(s.position)))
        tails = tuple([(numbers[id(n)], writes.setdefault((n, 0), len(writes))) for n in group.tails])
        passes = tuple([(numbers[id(n)], place(position)) for n, position in group.passes])
        heavy = None if group.heavy is None else (numbers[id(group.heavy)], place(group.position))
        key = (extents, tuple(entries), edges, tuple(sinks), tails, passes, heavy)
        return _Signature(key, nodes, list(reads), list(writes), list(parameters))


def _steps(n: Node, leaf: Node) -> Hashable:
    """What a view of `leaf` is, but for where it begins."""
    out: list[Hashable] = []
    while n is not leaf:
        out.append((n.op, tuple([step for _, _, step in n.arg]) if n.op is Op.SHRINK else n.arg, n.shape))
        n = n.src[0]
    return (*out, leaf.shape)
