"""Groups, the kernels to be: what they store and where, what they compute inside, who reads them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from ..ir import Node, Shape
from .position import Loop, Position, aligned, resolved

SEARCH: Final = 500  # groups visited at most to prove that a merge makes no cycle
ROW_BYTES: Final = 16 << 10  # scratch memory of one row: a third of the first cache
TILE_BYTES: Final = 1 << 18  # rows of a contraction that wait for their passes: a part of the second cache
MOST_TILE_BYTES: Final = 1 << 20  # long rows may have more, so that a block has `FEW_ROWS`
MOST_ROWS: Final = 64  # of a block, a power of two: chains of a contraction end with a block
FEW_ROWS: Final = 16
THREADS: Final = 4  # turns of the outermost loops that keep the threads busy
ROW: Final = -1  # marks the loop of a nest over rows


@dataclass(frozen=True, slots=True)
class Target:
    """Where a sink is written: the array of node `into` (its own, or a CAT's), shifted by `offset` along `axis`."""

    into: Node
    axis: int = 0
    offset: int = 0

    @property
    def start(self) -> int:
        """The number of the first element in the array."""
        return self.offset * math.prod(self.into.shape[self.axis + 1 :])


@dataclass(frozen=True, slots=True)
class Sink:
    """A node that a group stores, where in memory, and at which of its loops (None: in the pass that computes it)."""

    node: Node
    target: Target
    position: Position | None


@dataclass(eq=False, slots=True)
class Group:
    """A kernel to be: nodes to store that share one loop nest."""

    number: int
    loops: tuple[Loop, ...]
    sinks: "list[Sink]" = field(default_factory=list)
    heavy: Node | None = None  # a contraction, scan, scatter or call that shapes the whole kernel
    position: Position = ()  # of the heavy node
    tiles: list[tuple[Node, Position]] = field(default_factory=list)  # contractions, computed by blocks of whole rows
    passes: list[tuple[Node, Position]] = field(default_factory=list)  # reductions inside, users before sources
    leading: "list[tuple[Loop, ...]]" = field(default_factory=list)  # sets of loops that stay the outermost ones
    tails: list[Node] = field(default_factory=list)  # sums over blocks of rows, which each row is added to
    rows: int = 0  # how many of the outermost loops make the rows that `tails` sum up
    shared: list[Node] = field(default_factory=list)  # what made several kernels one: they read it at the same place
    nest: "Nest | None" = None  # stages over blocks of rows, which the whole kernel then is
    operations: int = 0
    readers: "set[Group]" = field(default_factory=set)
    merged: "Group | None" = None

    @property
    def domain(self) -> Shape:
        """The extents of the loops, none of them 1."""
        self.loops = resolved(self.loops)
        return tuple([loop.extent for loop in self.loops])

    def led_by(self, *sets: Iterable[Loop]) -> "tuple[Loop, ...] | None":
        """The loops in an order in which each of the sets, and each of `leading`, comes first; None if there is none.

        There is one if any two of the sets are one inside the other. Loops that no set tells apart keep their order.
        """
        loops = resolved(self.loops)
        chain = sorted({frozenset(resolved(s)) for s in (*self.leading, *sets)}, key=len)
        if any(not a < b for a, b in pairwise([*chain, frozenset(loops)]) if len(b) < len(loops) or a != b):
            return None
        return tuple(sorted(loops, key=lambda loop: sum(loop not in s for s in chain)))

    def lead(self, loops: Iterable[Loop]) -> None:
        """Makes the loops the outermost ones, for good."""
        loops = tuple(loops)
        order = self.led_by(loops)
        assert order is not None
        self.loops = order
        self.leading.append(loops)

    def find(self) -> "Group":
        """The group this one has become part of."""
        g = self
        while g.merged is not None:
            g = g.merged
        return g

    def absorb(self, other: "Group", pairs: dict[Loop, Loop]) -> None:
        """Makes `other` a part of this group; `pairs` says which loop here each of its loops is."""
        for its, mine in pairs.items():
            its.parts = (mine,)
        self.sinks += other.sinks
        self.readers |= other.readers
        self.operations += other.operations
        self.passes += other.passes
        self.shared += other.shared
        self.leading += [*other.leading, tuple(pairs.values())]
        order = self.led_by()
        assert order is not None
        self.loops = order
        other.merged = self


Pattern = tuple["int | None", ...]
"""For each axis of an array the loop of a nest that it follows: an outer one's number, `ROW`, or None for columns."""


@dataclass(frozen=True, eq=False, slots=True)
class Stage:
    """A group as a stage of a nest.

    `tags`: for its loops that are those of the nest the number of the outer one, or `ROW`. `reduced`: the axes of the
    contraction's product that are summed and run along loops of the nest, the rows at last, with these loops' tags
    (none: the rows are its own). `factors`: values that later stages multiply by, computed at the end of each row.
    `again`: another kernel does this, too, and stores what is held; here all of it is a tile.
    """

    group: Group
    tags: dict[Loop, int]
    reduced: tuple[tuple[int, int], ...] = ()
    factors: list[tuple[Node, Pattern]] = field(default_factory=list)
    again: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class Nest:
    """Stages that run one after the other for each block of rows.

    `outer`: extents of the loops around; `tiles`: values that only the stages need.
    """

    outer: tuple[int, ...]
    rows: int
    block: int
    stages: tuple[Stage, ...]
    tiles: tuple[tuple[Node, Pattern], ...]


@dataclass(frozen=True, slots=True)
class Use:
    """A place that needs a node's value: see the module's text."""

    group: Group
    context: Node | None
    position: Position | None
    times: float = 1.0  # evaluations there, as a multiple of the node's size


def squeezed(shape: Shape) -> Shape:
    """The sizes other than 1: a kernel's loops."""
    return tuple([n for n in shape if n != 1])


def block(turns: int, row_bytes: int, around: int = THREADS) -> int:
    """How many rows of a contraction are computed at a time when passes over them follow; 0 if rows are too long.

    Fewer where otherwise the loops `around` and the blocks together leave threads without work.
    """
    rows = MOST_ROWS
    while rows > FEW_ROWS and (rows * row_bytes > TILE_BYTES or around * -(-turns // rows) < THREADS):
        rows //= 2
    return 0 if rows * row_bytes > MOST_TILE_BYTES else min(rows, turns)


def matched(first: Group, place: Position, other: Group, position: Position) -> dict[Loop, Loop] | None:
    """Which loop of `first` each loop of `other` is, where they read one array at these positions; None if they differ.

    `first` may have more loops. The order of loops may differ if one order suits the reductions inside both.
    """
    pairs: dict[Loop, Loop] = {}
    for axis, old in zip(place, position, strict=True):
        together = aligned(axis, old)
        if together is None:
            return None
        mine, its = resolved(first.loops), resolved(other.loops)
        for a, b in together:
            if b in its:
                if a not in mine:
                    return None
                pairs[b] = a
    mine, its = (tuple([v for v in resolved(g.loops) if v not in known]) for g, known in (
        (first, set(pairs.values())), (other, pairs.keys())))  # fmt: skip
    if its:  # the array is the same along what is left: they may be any loops of the same extents
        rest = aligned(mine, its) if pairs else None
        if rest is None:
            return None
        pairs.update((b, a) for a, b in rest)
    if len(set(pairs.values())) != len(pairs):
        return None
    sets = [[pairs[v] for v in resolved(loops)] for loops in other.leading]
    return None if first.led_by(pairs.values(), *sets) is None else pairs


def reaches(a: Group, b: Group) -> bool:
    """Whether something that reads `a`, directly or not, is `b`; True when the search grows too long."""
    seen = {a}
    stack = [a]
    while stack:
        for reader in stack.pop().readers:
            r = reader.find()
            if r is b:
                return True
            if r not in seen:
                if len(seen) > SEARCH:
                    return True
                seen.add(r)
                stack.append(r)
    return False


def in_order(groups: Iterable[Group]) -> list[Group]:
    """The groups with every one before its readers; else in reverse order of their creation, which walks back."""
    waiting = dict.fromkeys(groups, 0)
    edges = {g: {r.find() for r in g.readers} - {g} for g in waiting}
    for readers in edges.values():
        for r in readers:
            waiting[r] += 1
    ready = [g for g in waiting if not waiting[g]]
    out = []
    while ready:
        g = ready.pop()
        out.append(g)
        for r in sorted(edges[g], key=lambda r: r.number):
            waiting[r] -= 1
            if not waiting[r]:
                ready.append(r)
    assert len(out) == len(waiting), "the kernels depend on each other in a cycle"
    return out
