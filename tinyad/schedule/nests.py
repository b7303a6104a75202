"""Kernels that go through blocks of the same rows and pass them on, as stages of one kernel.

A contraction whose rows passes follow (`Partitioner._tile`) begins a nest: its loops are outer ones, rows, and what is
inside. Later kernels join while everything they read of the nest lies along the same outer loops and rows: contractions
of finished rows, further rows with passes, and contractions that sum over the rows. What nobody else reads is a tile
in scratch memory.

Done after the partition, where it is known who stores and who reads what.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from codegen.loops import CONTRACT_BLOCK

from ..ir import ELEMENTARY, ELEMENTWISE, REDUCE, Node, Op
from .contraction import Contraction, operands
from .group import MOST_ROWS, ROW, ROW_BYTES, THREADS, Group, Nest, Pattern, Stage, Use, block, in_order
from .position import Loop, Position, current, resolved
from .through import THROUGH, unknown

FAR: Final = 4 << 20  # bytes of an array from which rows are better computed again than written and read
WIDE: Final = 256  # columns of a product from which its rows may as well come from memory: the time is in the product
PRODUCTS: Final = 16  # contractions of a nest at most: code of bounded size, which layers that are alike share

Tags = dict[Loop, int]


@dataclass(frozen=True, slots=True)
class Decided:
    """What the partition has decided: see there."""

    uses: Mapping[int, Mapping[Use, None]]
    contractions: Mapping[int, Contraction]
    scratch: dict[int, tuple[int, ...]]
    stored: dict[int, Node]
    forced: Mapping[int, str]
    reasons: dict[int, str]


def nested(order: Sequence[Group], d: Decided) -> list[Group]:
    """The groups, which come in an order in which they can run, with those joined that can be."""
    groups = list(order)
    buildings: list[_Building] = []
    while (seed := next((g for g in groups if g.tiles), None)) is not None:
        building = _Building(d, seed, buildings)
        building.extend(groups)
        buildings.append(building)
        groups = in_order([*(g for g in groups if g not in building.members), building.joined()])
    for building in buildings:
        building.keep_factors()
    found = [building.tiles(buildings) for building in buildings]
    for building, tiles in zip(buildings, found, strict=True):
        building.finish(tiles)
    return groups


class _Building:
    """A nest under construction. `passed`: arrays that later stages can read; `closed`: those they cannot."""

    def __init__(self, d: Decided, seed: Group, before: "Sequence[_Building]") -> None:
        self.d = d
        self.members: dict[Group, None] = {}
        self.group = Group(seed.number, ())  # what the stages become
        self.stages: list[Stage] = []
        self.passed: dict[int, tuple[Node, Pattern]] = {}
        self.closed: set[int] = set()
        self.unread: set[int] = set()  # of `passed`, what no other stage reads
        self.writer: dict[int, int] = {}  # the number of the stage that computes an array, or rows in a tile
        around, row = self.around(seed)
        self.outer, self.rows = tuple([v.extent for v in around]), row.extent
        tags = {**{v: i for i, v in enumerate(around)}, row: ROW}
        for other in before:
            self.repeat(other, seed, tags)
        self.add(Stage(seed, tags))

    def around(self, g: Group) -> tuple[tuple[Loop, ...], Loop]:
        """The loops around the rows of a contraction that passes follow, and the loop over these."""
        n, p = g.tiles[0]
        along_row, c = self.d.scratch[id(n)], self.d.contractions[id(n)]
        position = current(p)
        row = position[(c.n if along_row == c.m else c.m)[-1]][-1]
        depth = sum(len(axis) for i, axis in enumerate(position) if i not in along_row)
        g.loops = resolved(g.loops)
        return tuple([v for v in g.loops[:depth] if v is not row]), row

    def repeat(self, other: "_Building", seed: Group, tags: Tags) -> None:
        """Computes rows of another nest again where `seed` could read them from far memory only."""
        every = [ROW, *range(len(self.outer))]
        for n, pattern in other.passed.values():
            stage = other.stages[other.writer[id(n)]]
            far = n.size * n.dtype.itemsize >= FAR
            if not far or id(n) in self.passed or stage.again or not stage.group.tiles or other.reads_before(stage):
                continue
            for u in self.d.uses[id(n)]:
                if not _belongs(u, seed) or u.position is None:
                    continue
                axes = [(tag, axis[0]) for tag, axis in zip(pattern, current(u.position)) if tag is not None and axis]
                here = {tag: tags[v] for tag, v in axes if v in tags}
                if sorted(here) == sorted(here.values()) == every and here[ROW] == ROW:
                    self.add(Stage(stage.group, {v: here[tag] for v, tag in stage.tags.items()}, again=True))
                    break

    def reads_before(self, stage: Stage) -> bool:
        """Whether a stage reads what others of the nest have computed."""
        others = self.passed.keys() - {id(s.node) for s in stage.group.sinks}
        return any(_belongs(u, stage.group) for key in others for u in self.d.uses[key])

    def add(self, stage: Stage) -> None:
        """Makes a stage the last one; notes what it writes."""
        if not stage.again:
            self.members[stage.group] = None
        self.writer.update((id(n), len(self.stages)) for n, _ in stage.group.tiles)
        self.stages.append(stage)
        for sink in stage.group.sinks:
            n, position = sink.node, sink.position
            if position is None:  # written by a pass
                mine = (u for u in self.d.uses[id(n)] if _belongs(u, stage.group))
                position = next(u.position for u in mine if u.position is not None)
            pattern = self.pattern(position, stage.tags)
            if pattern is None or stage.reduced or sink.target.into is not n:
                self.closed.add(id(sink.target.into))
            else:
                self.passed[id(n)] = n, pattern
                self.writer[id(n)] = len(self.stages) - 1

    def pattern(self, position: Position, tags: Tags) -> Pattern | None:
        """How an array lies in the nest; None if a part of it is not one row, or not one turn of the outer loops."""
        out: list[int | None] = []
        for axis in current(position):
            found = [tags[v] for v in axis if v in tags]
            if found and len(axis) > 1:
                return None
            out.append(found[0] if found else None)
        every = sorted(tag for tag in out if tag is not None)
        return tuple(out) if every == [ROW, *range(len(self.outer))] else None

    # joining ----------------------------------------------------------------------------------------------------
    def extend(self, order: Sequence[Group]) -> None:
        """Adds every group that can be a stage, if no kernel between has to wait for the nest and it for that."""
        before: dict[Group, set[Group]] = {g: set() for g in order}
        for g in order:
            for r in g.readers:
                if r.find() in before:
                    before[r.find()].add(g)
        after: set[Group] = set()  # groups outside that need a result of the nest
        for h in order:
            waits = not before[h].isdisjoint(self.members.keys() | after)
            if h in self.members or not (waits or self.is_read(h)):
                continue
            stage = None if before[h] & after else self.stage(h)
            if stage is not None:
                self.add(stage)
            elif waits:
                after.add(h)

    def is_read(self, h: Group) -> bool:
        """Whether `h` reads what the nest computes again."""
        return any(_belongs(u, h) for key in self.passed for u in self.d.uses[key])

    def stage(self, h: Group) -> Stage | None:
        """`h` as the next stage; None if it cannot be one."""
        products = h.tiles or ([] if h.heavy is None else [(h.heavy, h.position)])
        if not products or any(id(n) not in self.d.contractions for n, _ in products):
            return None
        if len(products) + sum(len(s.group.tiles) or 1 for s in self.stages) > PRODUCTS:
            return None
        c = self.d.contractions[id(products[0][0])]
        k = {axis: Loop(c.product.shape[axis], True) for axis in c.k}
        reads = self.reads(h, products, k)
        tags = None if reads is None else self.tags(reads)
        if tags is None or any(v.parts for v in tags):
            return None
        h.loops = resolved(h.loops)
        reduced = tuple([(axis, tags[v]) for axis, v in k.items() if v in tags])
        if reduced:  # finished after the last block, which is too late for passes
            if h.heavy is None:
                return None
            batch = [v for i in c.batch for v in current(h.position)[i]]
            fits = len(reduced) == len(k) and all(v in tags for v in batch) and self.in_order(reduced)
            return Stage(h, tags, reduced) if fits else None
        if any(v not in h.loops for v in tags):
            return None
        if h.heavy is not None and h.heavy.size > WIDE * math.prod(self.outer) * self.rows:
            return None
        if h.tiles:
            around, row = self.around(h)
            if tags.get(row) != ROW or any(v not in tags for v in around):
                return None
        return Stage(h, tags)

    def in_order(self, reduced: Sequence[tuple[int, int]]) -> bool:
        """Whether the turns of the nest's loops come in the order of a sum, and enough threads can share the rest."""
        around = len(self.outer) - len(reduced) + 1
        if [tag for _, tag in reduced] != [*range(around, len(self.outer)), ROW]:
            return False
        total = math.prod(self.outer[around:]) * self.rows
        whole = around == len(self.outer) or self.rows % MOST_ROWS == 0 or total <= CONTRACT_BLOCK
        return whole and math.prod(self.outer[:around]) >= THREADS

    def tags(self, reads: Iterable[tuple[Node, Position]]) -> Tags | None:
        """Which loops are those of the nest where arrays are read at these positions; None if not all rows fit."""
        tags: Tags = {}
        for n, position in reads:
            for tag, axis in zip(self.passed[id(n)][1], current(position), strict=True):
                if tag is not None and (len(axis) != 1 or tags.setdefault(axis[0], tag) != tag):
                    return None
        extents = {tag: v.extent for v, tag in tags.items()}
        wanted = {**dict(enumerate(self.outer)), ROW: self.rows}
        return tags if extents == wanted and len(tags) == len(wanted) else None

    def reads(
        self, h: Group, products: Iterable[tuple[Node, Position]], k: Mapping[int, Loop]
    ) -> list[tuple[Node, Position]] | None:
        """The arrays of the nest that `h` reads, and at which positions; None if that is not known.

        `k`: the summed axes of the first product, as loops.
        """
        contracted = {id(n) for n, _ in products}
        out: list[tuple[Node, Position]] = []
        for key in self.closed:
            if any(_belongs(u, h) for u in self.d.uses.get(key, ())):
                return None
        for n, _ in self.passed.values():
            for u in self.d.uses[id(n)]:
                if _belongs(u, h) and (u.position is not None or id(u.context) not in contracted):
                    if u.position is None:
                        return None
                    out.append((n, u.position))
        stack: list[tuple[Node, Position | None]] = []
        for n, p in products:
            c = self.d.contractions[id(n)]
            if len(contracted) > 1:
                k = {i: Loop(c.product.shape[i], True) for i in c.k}
            stack += [(s, _of_product(p, k)) for s in c.product.src]
        seen: set[tuple[int, Position | None]] = set()
        while stack:
            n, position = stack.pop()
            if (id(n), position) in seen:
                continue
            seen.add((id(n), position))
            if id(n) in self.passed:
                if position is None:
                    return None
                out.append((n, position))
            elif id(n) not in self.d.stored and n.src:
                if n.op in REDUCE:
                    inner = position and tuple([(Loop(m, True),) if i in n.arg and m > 1 else v
                             for i, (m, v) in enumerate(zip(n.src[0].shape, position))])  # fmt: skip
                    stack += [(s, inner) for s in operands(n)]
                else:
                    stack += zip(n.src, THROUGH.get(n.op, unknown)(n, position))
        return out

    # factors ----------------------------------------------------------------------------------------------------
    def keep_factors(self) -> None:
        """Has factors computed with the rows they are made of, so that stages need not do it while they pack."""
        found: dict[int, tuple[Node, Pattern, list[int]]] = {}
        for number, stage in enumerate(self.stages):
            h = stage.group
            if h.heavy is None:
                continue
            c = self.d.contractions[id(h.heavy)]
            k = {i: Loop(c.product.shape[i], True) for i in c.k}
            loops = {tag: v for v, tag in stage.tags.items()}
            k.update((axis, loops[tag]) for axis, tag in stage.reduced)
            for factor in c.product.src:
                n = factor
                position: Position | None = _of_product(h.position, k)
                while n.op in (Op.EXPAND, Op.RESHAPE, Op.PERMUTE) and position is not None:
                    (position,), (n,) = THROUGH[n.op](n, position), n.src
                if position is None or n.op not in ELEMENTWISE or id(n) in self.d.stored:
                    continue
                pattern = self.pattern(position, stage.tags)
                if pattern is not None:
                    found.setdefault(id(n), (n, pattern, []))[2].append(number)
        for n, pattern, readers in found.values():
            inside, host = self.made_of(n)
            if host is not None and host < readers[0] and self.stages[host].group.tiles:
                self.stages[host].factors.append((n, pattern))
                self.d.reasons[id(n)] = f"tile scratch: a factor of {len(readers)} stages"
                self.keep_rows(inside, self.stages[host].group)

    def made_of(self, n: Node) -> tuple[list[Node], int | None]:
        """What `n` is computed of, nearest first, and the last stage whose results are among that."""
        inside, seen, host = [], {id(n)}, None
        stack = [n]
        while stack:
            n = stack.pop()
            if id(n) in self.writer:
                host = max(self.writer[id(n)], host or 0)
            elif id(n) not in self.d.stored:
                inside.append(n)
                stack += [s for s in operands(n) if id(s) not in seen]
                seen.update(map(id, operands(n)))
        return inside, host

    def keep_rows(self, inside: Sequence[Node], group: Group) -> None:
        """Keeps the first value with an elementary function that a pass computes too."""
        for n in inside:
            passes = [u for u in self.d.uses[id(n)] if u.context and _belongs(u, group) and u.position is not None]
            if n.op in ELEMENTARY and passes and passes[0].position is not None:
                row = tuple([i for i, axis in enumerate(current(passes[0].position)) if any(v.inner for v in axis)])
                if math.prod(n.shape[i] for i in row) * n.dtype.itemsize <= ROW_BYTES:
                    self.d.scratch[id(n)] = row
                return

    def needed(self) -> set[int]:
        """The arrays that stages read of others, now that factors are kept."""
        out: set[int] = set()
        hosts = {id(n): i for i, s in enumerate(self.stages) for n, _ in s.factors}
        for number, stage in enumerate(self.stages):
            group = stage.group
            products = [n for n, _ in group.tiles] + ([] if group.heavy is None else [group.heavy])
            stack = [s for n in products for s in self.d.contractions[id(n)].product.src]
            stack += [*(s.node for s in group.sinks), *(n for n, _ in group.passes), *(n for n, _ in stage.factors)]
            seen: set[int] = set()
            while stack:
                n = stack.pop()
                if id(n) in seen:
                    continue
                seen.add(id(n))
                writer = self.writer.get(id(n), number)
                if writer != number:
                    out.add(id(n))
                elif hosts.get(id(n), number) == number and (id(n) in self.writer or id(n) not in self.d.stored):
                    stack += operands(n)
        return out

    # the result -------------------------------------------------------------------------------------------------
    def tiles(self, buildings: "Sequence[_Building]") -> tuple[tuple[Node, Pattern], ...]:
        """Arrays that only the stages need, or others that compute them again."""
        out = []
        for n, pattern in self.passed.values():
            readers = {u.group.find() for u in self.d.uses[id(n)]}
            for other in buildings:
                if other is self or (id(n) in other.passed and other.stages[other.writer[id(n)]].again):
                    readers.discard(other.group)
            if self.stages[self.writer[id(n)]].again or not (readers or id(n) in self.d.forced):
                out.append((n, pattern))
        needed = self.needed()
        self.unread = {id(n) for n, _ in out if id(n) not in needed}
        return (*out, *(factor for s in self.stages for factor in s.factors))

    def joined(self) -> Group:
        """The stages as one group, for whoever reads it."""
        for g in self.members:
            self.group.readers |= g.readers
            self.group.operations += g.operations
            self.group.shared += g.shared
            g.merged = self.group
        return self.group

    def finish(self, tiles: tuple[tuple[Node, Pattern], ...]) -> None:
        """Makes the group compute the stages; what became a tile is no longer stored."""
        inside = {id(n) for n, _ in tiles}
        rows = [n for s in self.stages for n, _ in s.group.tiles]
        bytes_of_row = max(math.prod(n.shape[i] for i in self.d.scratch[id(n)]) * n.dtype.itemsize for n in rows)
        stages = []
        for s in self.stages:
            sinks = [sink for sink in s.group.sinks if id(sink.target.into) not in self.unread]
            stages.append(replace(s, group=replace(s.group, sinks=sinks)))
            if not s.again:
                self.group.sinks += [sink for sink in sinks if id(sink.node) not in inside]
        read = tuple([(n, pattern) for n, pattern in tiles if id(n) not in self.unread])
        self.group.heavy = rows[0]
        size = block(self.rows, bytes_of_row, math.prod(self.outer))
        self.group.nest = Nest(self.outer, self.rows, size, tuple(stages), read)
        for n, _ in tiles:
            if not self.stages[self.writer.get(id(n), 0)].again:
                self.d.stored.pop(id(n), None)
                self.d.reasons[id(n)] = "tile scratch: the stages of a kernel pass it on, block by block of rows"


def _belongs(u: Use, g: Group) -> bool:
    """Whether a use is one of `g`, or of what became part of it."""
    at: Group | None = u.group
    while at is not None and at is not g:
        at = at.merged
    return at is g


def _of_product(p: Position, k: Mapping[int, Loop]) -> Position:
    """The position of a contraction's product: its own, and the summed axes along `k`."""
    return tuple([(k[i],) if i in k else axis for i, axis in enumerate(current(p))])
