"""Which values of a canonical graph are stored, and which kernel computes each: one walk from the results back.

Walking backwards, everything that reads a node is decided before the node. A node is then either computed inside each
place that needs it, or stored: by a group (a kernel to be) of its own, or as one more output of the group that
reads it element for element. Reductions are computed inside a group when they depend on a prefix of its loops, or on
all of them. Each decision keeps its reason, with its numbers, for the dump.

A *use* says where a node's value is needed: the group, the reduction around it (None: the group's main body) and the
*position*, which names for each axis the loops it follows (None: any other index).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

from codegen.loops import BLOCK

from .. import ir
from ..ir import ELEMENTARY, ELEMENTWISE, MOVEMENT, REDUCE, Node, Op
from .contraction import Contraction, contraction, operands
from .group import ROW_BYTES, THREADS, Group, Sink, Target, Use, block, in_order, matched, reaches
from .nests import Decided, nested
from .position import Loop, Position, current, laid_over, resolved
from .tails import share_rows
from .through import THROUGH, repeats, unknown, writes_row

CAP: Final = 300  # operations in one kernel: LLVM costs about 45 µs a vector instruction
PARTS: Final = 4  # more parts of a CAT than these write themselves into its memory instead of being selected from
PLACES: Final = 4  # needed in more places than this, a value is stored (in 4 times as many, if it is cheap)
LOAD: Final = 4  # cost of reading a stored value again, in units of an addition
STORE: Final = 24  # cost of writing and first reading it
AGAIN_ROW: Final = 3  # what computing a value again in another pass over a row may cost before it is kept in scratch
CACHE: Final = 1 << 20  # bytes that stay in the second cache
SERIAL: Final = 1 << 14  # elements from which several threads are faster than one
VECTORS: Final = 64  # elements of the outermost loops that run side by side

_COST: Final[dict[Op, int]] = {
    **dict.fromkeys(ELEMENTWISE, 1),
    **dict.fromkeys(ELEMENTARY, 12), Op.ATAN2: 12,
    Op.POW: 40, Op.LGAMMA: 40, Op.DIV: 4, Op.SQRT: 4, Op.IDIV: 8, Op.MOD: 20, Op.GATHER: 4,
}  # fmt: skip
"""Rough cost of an operation in units of an addition."""


_COPIED: Final = frozenset({Op.BUFFER, Op.SCATTER, Op.CALL})
"""What cannot write itself into a part of a CAT: another kernel copies it there."""
_READ: Final = REDUCE | {Op.BUFFER, Op.SCAN}
"""What whoever needs it reads from memory, or has from a pass."""
HEAVY: Final = REDUCE | {Op.SCAN, Op.SCATTER, Op.CALL}
"""What is computed apart from the elements around it."""


@dataclass(slots=True)
class Partition:
    """The decision: groups in an order in which they can run, stored nodes, views, and the reasons."""

    groups: list[Group]
    stored: dict[int, Node]
    views: dict[int, Node]  # results that are a reshaped stored node or leaf
    contractions: dict[int, Contraction]
    scratch: dict[int, tuple[int, ...]]  # values kept for a row: the axes that run along it
    partial: dict[int, Node]  # reductions whose parts another kernel leaves, and these
    reasons: dict[int, str]


class _Partitioner:
    """The state of one backwards walk."""

    def __init__(self, order: Sequence[Node], roots: Iterable[Node], parts: Mapping[int, Node], fuse: bool) -> None:
        self.order = order
        self.parts = parts
        self.fuse = fuse
        self.place = {id(n): i for i, n in enumerate(order)}
        self.uses: dict[int, dict[Use, None]] = {id(n): {} for n in order}
        self.forced: dict[int, str] = {}
        self.targets: dict[int, list[Target]] = {}
        self.contractions: dict[int, Contraction] = {}
        self.cost: dict[int, float] = {}  # of computing an element again, where what it reads is in cache
        self.loads: dict[int, float] = {}  # of reading that
        self.stored: dict[int, Node] = {}
        self.views: dict[int, Node] = {}
        self.scratch: dict[int, tuple[int, ...]] = {}
        self.reasons: dict[int, str] = {}
        self.groups: list[Group] = []
        self.light: set[int] = set()  # made of leaves by elementwise operations and movement alone
        self.positions: set[int] = set()  # made of positions and constants alone, in less time than a load takes
        self.by_parts: set[int] = set()  # CATs that are written part by part
        self.cat_readers: dict[int, set[Group]] = {}
        self.cap = CAP
        self._prepare(roots)

    def _prepare(self, roots: Iterable[Node]) -> None:
        for n in roots:
            while n.op is Op.RESHAPE and n.size:
                self.views[id(n)] = n.src[0]
                n = n.src[0]
            self.forced[id(n)] = "stored: you hold it"
        varying: dict[int, frozenset[int]] = {}
        for n in self.order:
            if n.op is Op.SUM:
                c = contraction(n, varying)
                if c is not None:
                    self.contractions[id(n)] = c
            light = all(s.op is Op.BUFFER or id(s) in self.light for s in n.src)
            if n.op is Op.CAT and not (light and len(n.src) <= PARTS):
                self.by_parts.add(id(n))
            elif light and n.op not in HEAVY:
                self.light.add(id(n))
            if id(n) in self.by_parts or n.op is Op.CALL or (n.op is Op.SCATTER and not writes_row(n)):
                self.forced[id(n)] = f"stored: {n.op.value} writes memory"
            if n.op is Op.CALL:
                for s in n.src:
                    self.forced.setdefault(id(s), "stored: read by host code")
            self._measure(n)
            made = n.op in ELEMENTWISE or (n.op in MOVEMENT and n.op is not Op.GATHER) or n.op in (Op.IOTA, Op.CONST)
            if made and self.cost[id(n)] <= LOAD and all(id(s) in self.positions for s in n.src):
                self.positions.add(id(n))
        if not self.fuse:
            summed = {id(n.src[0]) for n in self.order if n.op is Op.SUM and len(operands(n)) > 1}
            summed.update(id(c.product) for c in self.contractions.values())
            for n in self.order:
                if n.op not in MOVEMENT and n.op is not Op.FENCE and id(n) not in summed:
                    self.forced.setdefault(id(n), "stored: fusion is off")
        self.cap = strip(self.order)

    def _measure(self, n: Node) -> None:
        """Notes what an element of `n` costs, as far as is known before the walk."""
        again = loads = 0.0
        for s in n.src:
            share = 1.0 if s.shape == n.shape else min(s.size / max(n.size, 1), 1.0)
            if s.op in _READ or id(s) in self.forced:
                loads += LOAD * share
            else:
                again += self.cost[id(s)] * (share if n.op is Op.EXPAND else 1)
                loads += self.loads[id(s)] * share
        self.cost[id(n)] = min(again + _COST.get(n.op, 0), 10 * CAP)
        self.loads[id(n)] = min(loads, 10 * CAP)

    # the walk ---------------------------------------------------------------------------------------------------
    def run(self) -> Partition:
        for n in reversed(self.order):
            if n.size == 0:
                continue
            if n.op in ir.LEAF:
                if n.op is Op.BUFFER:
                    self._merge_readers(n)
                if id(n) in self.targets or (n.op is not Op.BUFFER and id(n) in self.forced):
                    self._store(n)
                continue
            self._merge_readers(n)
            reason = self._why_stored(n)
            if reason is None:
                self._inline(n)
            else:
                self.reasons[id(n)] = reason
                self._store(n)
        groups = [g for g in self.groups if g.merged is None]
        shared = share_rows(groups, self.uses, self.order, self.stored, self.parts) if self.fuse else {}
        for key, p in shared.items():
            self.stored[id(p)] = p
            reason = self.reasons.get(key, "inside")
            self.reasons[key] = f"{reason}; summed {BLOCK} rows at a time by the kernel that has them"
        decided = Decided(self.uses, self.contractions, self.scratch, self.stored, self.forced, self.reasons)
        order = nested(in_order(groups), decided)
        partial = {**(self._given(groups) if self.fuse else {}), **shared}
        return Partition(order, self.stored, self.views, self.contractions, self.scratch, partial, self.reasons)

    def _given(self, groups: Iterable[Group]) -> dict[int, Node]:
        """The reductions of which blocks are stored anyway, by groups that need not wait for theirs."""
        writers = {id(s.node): g for g in groups for s in g.sinks}
        out = {}
        for g in groups:
            for n, _ in g.passes:
                parts = self.parts.get(id(n))
                writer = writers.get(id(parts), g)
                if parts is not None and writer is not g and not reaches(g, writer):
                    out[id(n)] = parts
                    self.reasons[id(n)] += "; added up from its blocks, which are stored"
                    writer.readers.add(g)
        return out

    def _why_stored(self, n: Node) -> str | None:
        """The reason to store `n`, or None to compute it where it is needed."""
        forced = self.forced.get(id(n))
        if forced is not None:
            return forced
        uses = self._places(n)
        if id(n) in self.targets:
            return "stored: a part of cat"
        if not uses:
            return None  # a product that is summed
        groups = list(dict.fromkeys(u.group.find() for u in uses))
        if n.op in REDUCE or n.op is Op.SCAN:
            if len(groups) > 1:
                return f"stored: read by {len(groups)} kernels"
            if self._fits(n, uses, groups[0]):
                self.reasons[id(n)] = f"fused: once for each of {n.size} rows, {n.src[0].size} elements read there"
                return None
            row = self._tile(n, uses)
            if not row:
                return "stored: its reader's loops differ"
            self._keep_row(n, row, groups[0], uses)
            self.reasons[id(n)] = f"tile scratch: {len(uses)} passes read its rows"
            return None
        cost = self.cost[id(n)]
        if len(uses) > (PLACES if cost > LOAD else 4 * PLACES) and cost:
            return f"stored: needed in {len(uses)} places, {cost:.3g} operations each"
        if (n.op in MOVEMENT and n.op is not Op.GATHER) or id(n) in self.positions:
            return None
        times = sum(u.times for u in uses)
        if cost * (times - 1) > AGAIN_ROW and len(uses) > 1 and len(groups) == 1:
            row = self._row(n, uses)
            size = math.prod(n.shape[i] for i in row) * n.dtype.itemsize
            if row and size <= ROW_BYTES:
                self._keep_row(n, row, groups[0], uses)
                self.reasons[id(n)] = f"row scratch: {len(uses)} passes, {size} bytes, {cost:.3g} operations each"
                return None
        if len(groups) > 1:
            cost += self.loads[id(n)]
        read = sum(0 if id(u.context) in self.contractions else LOAD * u.times for u in uses)
        if cost * times - read > cost + STORE:  # contractions load their factors either way
            kernels = "1 kernel needs" if len(groups) == 1 else f"{len(groups)} kernels need"
            return f"stored: {kernels} each element {times:.3g} times, {cost:.3g} operations each"
        if any(g.operations >= self.cap for g in groups):
            return f"stored: a kernel ends at {self.cap} operations"
        if len(uses) > 1 and cost:
            moved = n.size * n.dtype.itemsize * (1 + len(groups))
            self.reasons[id(n)] = (
                f"recomputed: {len(uses)} places, {cost:.3g} operations each; storing it would move {moved} bytes"
            )
        return None

    def _places(self, n: Node) -> list[Use]:
        """The uses of `n`, those at one place in one kernel as one: it is computed there once."""
        uses = self.uses[id(n)]
        if len(uses) < 2:
            return list(uses)
        found: dict[tuple[Group, Node | None, Position | None], Use] = {}
        for u in uses:
            g = u.group.find()
            p = None if u.position is None else current(u.position)
            old = found.get((g, u.context, p))
            if old is None or old.times < u.times:
                found[g, u.context, p] = Use(g, u.context, p, u.times)
        return list(found.values())

    def _row(self, n: Node, uses: list[Use]) -> tuple[int, ...]:
        """The axes of `n` that run along a row which passes of one kernel go through; () if it is no row.

        All uses must follow the same outermost loops of the group, and on the other axes, which are the last ones,
        loops of the same extents. One use at least must be in a pass, and each turn of that pass another element.
        """
        group = uses[0].group.find()
        positions = [current(u.position) for u in uses if u.position is not None]
        if group.heavy or len(positions) < len(uses) or all(u.context is None for u in uses):
            return ()
        place = {loop: i for i, loop in enumerate(resolved(group.loops))}
        inner = next(p for p, u in zip(positions, uses) if u.context is not None)
        row = tuple([i for i, axis in enumerate(inner) if any(v.inner for v in axis)])
        depth = len({v for i, axis in enumerate(inner) if i not in row for v in axis})
        last = [i for i, axis in enumerate(inner) if axis]
        if not row or last[-len(row) :] != list(row) or any(not v.inner for i in row for v in inner[i]):
            return ()
        passes = {id(r): p for r, p in group.passes}
        for u in uses:
            if u.context is not None:
                outer = passes.get(id(u.context))
                turns = math.prod(u.context.src[0].shape[i] for i in u.context.arg)
                if outer is None or len({*chain(*current(outer))}) != depth:
                    return ()
                if turns != math.prod(n.shape[i] for i in row):
                    return ()
        for p in positions:
            for i, axis in enumerate(p):
                if i in row:
                    if any(place.get(v, depth) < depth for v in axis):
                        return ()
                elif axis != inner[i] or any(place.get(v, depth) >= depth for v in axis):
                    return ()
        return row

    def _keep_row(self, n: Node, row: tuple[int, ...], group: Group, uses: list[Use]) -> None:
        """Keeps rows of `n` in scratch memory: the loops around a row stay where they are."""
        self.scratch[id(n)] = row
        position = next(u.position for u in uses if u.position is not None)
        group.lead(v for i, axis in enumerate(position) if i not in row for v in axis)

    def _tile(self, n: Node, uses: list[Use]) -> tuple[int, ...]:
        """The axes of the contraction `n` that run along a row, if blocks of whole rows of it can stay in scratch
        memory until the passes of the kernel that reads them are over; else ().
        """
        c = self.contractions.get(id(n))
        row = self._row(n, uses) if c is not None else ()
        if c is None or row not in (c.m, c.n):
            return ()
        rows = c.n if row == c.m else c.m
        first = self._first_pass(uses)
        assert first.position is not None
        outer = [current(first.position)[i] for i in rows]
        loops = resolved(first.group.loops)
        depth = sum(len(axis) for i, axis in enumerate(current(first.position)) if i not in row)
        if not depth or outer[-1][-1] not in loops[:depth]:
            return ()
        others = (current(p) for _, p in first.group.tiles)
        if any(sum(not v.inner for axis in p for v in axis) != depth for p in others):
            return ()
        turns = outer[-1][-1].extent
        size = math.prod(n.shape[i] for i in row) * n.dtype.itemsize
        return row if block(turns, size) else ()

    def _fits(self, n: Node, uses: list[Use], group: Group) -> bool:
        """Whether `group` can compute `n` once for every turn of some of its outermost loops (or of all of them).

        A contraction or scan needs all loops and a group that has nothing else but elementwise work.
        """
        positions = {None if u.position is None else current(u.position) for u in uses}
        (position,) = positions if len(positions) == 1 else (None,)
        if position is None or group.operations >= self.cap:
            return False
        loops = {loop for axis in position for loop in axis}
        depth = len(loops)
        if not self._may_lead(group, loops, n):
            return False
        domain = group.domain
        if id(n) in self.contractions or n.op is Op.SCAN:
            alone = not group.heavy and not group.tiles and not group.passes and all(u.context is None for u in uses)
            return alone and depth == len(domain) and (n.op is not Op.SCAN or all(len(a) < 2 for a in position))
        if n.op in REDUCE:
            return group.heavy is None
        return group.heavy is None or (depth == len(group.domain) and group.heavy.op not in (Op.CALL, Op.SCATTER))

    def _may_lead(self, group: Group, loops: set[Loop], n: Node) -> bool:
        """Whether `loops` can be the outermost ones of `group` without harm.

        Another order than that of memory pays if what runs inside stays in the second cache, and if there is enough
        outside for several threads. Without any loop outside, what is inside runs on one thread: little work only.
        """
        order = group.led_by(loops)
        if order is None or ((group.heavy or group.tiles) and order != group.loops):
            return False
        inside = math.prod(loop.extent for loop in order[len(loops) :])
        if order and not loops:
            return inside <= SERIAL
        if order == resolved(group.loops):
            return True
        outside = math.prod(loop.extent for loop in loops)
        last = resolved(group.loops)[-1]
        together = min(VECTORS, last.extent) if last in loops else 1
        return inside * n.dtype.itemsize * together <= CACHE and (outside >= THREADS or inside <= SERIAL)

    def _store(self, n: Node) -> None:
        """Makes `n` a sink: of the group that reads it element for element if that is safe, else of a new one."""
        uses = self.uses[id(n)]
        parts = self.targets.get(id(n), [])
        if parts and (n.op in _COPIED or id(n) in self.by_parts):
            copy = self._new(n)
            position = self._write(copy, n, parts, None)
            uses[Use(copy, None, position)] = None
            parts = []
        readers = dict.fromkeys(u.group.find() for u in uses)
        if id(n) in self.by_parts:
            self._store_parts(n, set(readers))
        elif n.op is not Op.BUFFER:
            own = [Target(n)] if readers or id(n) in self.forced or not parts else []
            group = None if parts else self._pass_host(n, uses, list(readers))
            if group is not None:
                group.sinks.append(Sink(n, Target(n), None))
                self.stored[id(n)] = n
                group.readers |= set(readers) - {group}
                self._enter(n, self._first_pass(u for u in uses if u.group.find() is group))
                return
            waiting = [g.find() for t in parts for g in self.cat_readers[id(t.into)]]
            group = self._host(n, uses, list(readers), waiting)
            place = next((u.position for u in uses if u.group.find() is group), None)
            group = group or self._new(n)
            position = self._write(group, n, own + parts, place)
            group.readers |= set(readers) - {group}
            self._enter(n, Use(group, None, position))

    def _first_pass(self, uses: Iterable[Use]) -> Use:
        """The use in the reduction that runs first, with its group as it is now."""
        u = min((u for u in uses if u.context), key=lambda u: self.place[id(u.context)])
        return Use(u.group.find(), u.context, u.position, u.times)

    def _new(self, n: Node) -> Group:
        """A new group over the elements of `n`."""
        loops = tuple([Loop(size) for size in n.shape if size != 1])
        self.groups.append(Group(len(self.groups), loops))
        return self.groups[-1]

    def _write(self, group: Group, n: Node, targets: list[Target], position: Position | None) -> Position:
        """Adds sinks (at `position`, or along all loops); who reads a CAT must wait for the writers of its parts."""
        place = laid_over(group.loops, n.shape) if position is None else position
        assert place is not None
        group.lead(v for axis in place for v in axis)
        for t in targets:
            group.sinks.append(Sink(n, t, place))
            if t.into is n:
                self.stored[id(n)] = n
            else:
                group.readers |= self.cat_readers[id(t.into)]
        return place

    def _store_parts(self, n: Node, readers: set[Group]) -> None:
        """A CAT is written part by part, each by whichever kernel computes that part."""
        self.stored[id(n)] = n
        self.cat_readers[id(n)] = readers
        offset = 0
        for s in n.src:
            self.targets.setdefault(id(s), []).append(Target(n, n.arg, offset))
            offset += s.shape[n.arg]

    def _host(
        self, n: Node, uses: dict[Use, None], readers: list[Group], waiting: Sequence[Group]
    ) -> Group | None:
        """A group that can store `n` on its way, making no cycle. `waiting`: who reads a CAT of which `n` is a part."""
        if not self.fuse or n.op in (Op.CALL, Op.SCATTER, Op.SCAN):
            return None
        for g in readers:
            mine = [u for u in uses if u.group.find() is g]
            later = [h for h in readers if h is not g] + [*waiting]
            if g not in waiting and self._fits(n, mine, g) and not any(reaches(h, g) for h in later):
                return g
        return None

    def _pass_host(self, n: Node, uses: dict[Use, None], readers: list[Group]) -> Group | None:
        """A group with a pass that goes through all of `n`, which can store it there for later passes and kernels."""
        contracts = id(n) in self.contractions
        if not self.fuse or n.op in (Op.CALL, Op.SCATTER, Op.SCAN) or (n.op in REDUCE and not contracts):
            return None
        for g in readers:
            mine = [u for u in uses if u.group.find() is g]
            if g.operations < self.cap:
                row = self._tile(n, mine) if contracts else self._row(n, mine)
                if row and not any(reaches(h, g) for h in readers if h is not g):
                    self._keep_row(n, row, g, mine)
                    return g
        return None

    def _inline(self, n: Node) -> None:
        uses = list(self.uses[id(n)])
        if id(n) in self.scratch:  # computed by the first pass only
            uses = [self._first_pass(uses)]
        elif n.op in REDUCE:
            uses = uses[:1]  # the same value everywhere
        for u in uses:
            self._enter(n, Use(u.group.find(), u.context, u.position, u.times))

    def _enter(self, n: Node, u: Use) -> None:
        """Computes `n` at use `u`: passes the use on to its sources."""
        g = u.group
        g.loops = resolved(g.loops)
        p = u.position
        g.operations += n.op not in MOVEMENT
        if id(n) in self.contractions:
            assert p is not None
            if id(n) in self.scratch:
                g.tiles.append((n, p))
            else:
                g.heavy, g.position = n, p
            for factor in self.contractions[id(n)].product.src:
                packed = factor.src[0].size / factor.size if factor.op is Op.EXPAND else 1.0
                self._use(factor, Use(g, n, None, packed))
        elif n.op in REDUCE:
            inner: Position | None = None
            if p is not None:
                g.passes.append((n, p))
                g.lead(v for axis in p for v in axis)
                old = n.src[0].shape
                inner = tuple([(Loop(old[i], True),) if i in n.arg and old[i] > 1 else v for i, v in enumerate(p)])
            for s in operands(n):
                self._use(s, Use(g, n, inner))
        elif n.op in (Op.SCAN, Op.CALL) or (n.op is Op.SCATTER and not writes_row(n)):
            g.heavy, g.position = n, p or ()
            for s in n.src:
                self._use(s, Use(g, u.context, p if n.op is Op.SCAN else None))
        else:
            passes_on = THROUGH.get(n.op, unknown)
            spread = n.op is Op.EXPAND or n.op is Op.SCATTER
            once = n.op in ELEMENTWISE or n.op in (Op.PAD, Op.CAT) or (spread and not repeats(n, p, g.loops))
            for s, place in zip(n.src, passes_on(n, p)):
                times = u.times if once or s.shape == n.shape else u.times * n.size / max(s.size, 1)
                self._use(s, Use(g, u.context, place, times))

    def _use(self, s: Node, u: Use) -> None:
        self.uses[id(s)][u] = None

    def _merge_readers(self, n: Node) -> None:
        """Groups that read a value at the same place become one kernel if neither needs the other's result.

        First those that go through memory alike; those that need another order of loops only where all that read the
        same memory are known.
        """
        uses = self.uses[id(n)]
        if not self.fuse or not n.shape or len(uses) < 2:
            return
        places = [(u.group, u.position) for u in list(uses)[:16] if u.position is not None]
        for reorder in (False, True) if n.op is Op.BUFFER or n.op in REDUCE else (False,):
            found: list[tuple[Group, Position]] = []
            for group, position in places:
                g = group.find()
                if g.heavy is not None or g.tiles or any(g is other.find() for other, _ in found):
                    continue
                for i, (other, place) in enumerate(found):
                    first = other.find()
                    shaped = first.heavy is not None or first.tiles
                    if first is g or shaped or first.operations + g.operations > self.cap:
                        continue
                    if self._merge(first, place, g, position, n, reorder):
                        break
                    if self._merge(g, position, first, place, n, reorder):
                        found[i] = g, position
                        break
                else:
                    found.append((g, position))

    def _merge(
        self, first: Group, place: Position, other: Group, position: Position, n: Node, reorder: bool
    ) -> bool:
        """Makes `other` a part of `first` if it can be one. They read `n` at these positions."""
        pairs = matched(first, place, other, position)
        if pairs is None or not self._may_lead(first, set(pairs.values()), n):
            return False
        sets = [pairs.values(), *([pairs[v] for v in resolved(loops)] for loops in other.leading)]
        if not reorder and first.led_by(*sets) != resolved(first.loops):
            return False
        if reaches(first, other) or reaches(other, first):
            return False
        first.absorb(other, pairs)
        first.shared.append(n)
        return True


def strip(order: Sequence[Node]) -> int:
    """The operations after which a long chain is cut: a multiple of its period, so that equal strips share code.

    The period is the smallest p for which each of the last operations repeats the one p before it (by op, arg and
    distance to its sources), found by the failure function of Knuth, Morris and Pratt over the last `CAP` of them.
    """
    if len(order) <= CAP:
        return CAP
    place = {id(n): i for i, n in enumerate(order)}
    window = order[-2 * CAP : -CAP // 2] if len(order) > 3 * CAP else order[-CAP:]
    signs = [
        (n.op, n.arg if n.op is not Op.CONST else None,
         tuple(0 if s.op in ir.LEAF else place[id(n)] - place[id(s)] for s in n.src))
        for n in window
        if n.op not in ir.LEAF
    ]  # fmt: skip
    failure = [0] * len(signs)
    k = 0
    for i in range(1, len(signs)):
        while k and signs[i] != signs[k]:
            k = failure[k - 1]
        k += signs[i] == signs[k]
        failure[i] = k
    period = len(signs) - failure[-1] if signs else CAP
    return CAP // period * period if period <= CAP // 2 else CAP


def partition(order: Sequence[Node], roots: Iterable[Node], parts: Mapping[int, Node], fuse: bool) -> Partition:
    """Decides what of the canonical graph `order` (sources first) is stored and which kernel computes it.

    `parts`: sums over blocks of rows that there are in the graph, by the reductions that may add them up.
    """
    return _Partitioner(order, roots, parts, fuse).run()
