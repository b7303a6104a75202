"""Column reductions over rows in memory: a tile of columns at a time, rows streamed through it.

A loop over columns whose vectors each walk down all rows touches another page of memory at every step. Here a tile of
columns keeps its running sums in memory close by, and a few rows at a time are added to them from left to right, so
that memory is read as it lies (where a cache holds all rows, that is not needed). The tree is the same: blocks of
BLOCK rows, combined by a binary counter that all columns of a tile share.

    for tiles of columns:
      for each reduction:
        for blocks of BLOCK rows:
          sums = identity;  for groups of rows: for vectors of the tile: sums += each row in turn
          level = 0;        while bit `level` of the block's number is set: sums = slot[level] + sums;  level += 1
          slot[level] = sums
        sums = what the waiting slots come to, from the lowest up
      for vectors of the tile: what the loop does with the results

Threads share a wide loop by columns. Where there are few columns they share the rows: a unit is a run of 2^k blocks of
rows, whose subtree of each column goes to memory, as in `codegen.emit_partials`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Final

from .address import lane_step
from .ahead import lines
from .analysis import is_leaf, statements
from .builder import I64, Ty, Val, const, register_type, ty
from .combine import combine, identity, wide_type
from .emit_partials import UNITS, Units
from .emit_reduce import nest, rounded
from .frame import Frame, lanes_before
from .index import unmask
from .loops import BLOCK, Accumulator, Buffer, Check, Load, Loop, Reduce, Stmt, Store, Update
from .memory import store_vector
from .running import Running
from .scalar import B1
from .split import span, streaming
from .target import Target
from .vectorize import lanes_for

TILE: Final = 8192  # bytes of a row in a tile: two pages
STACK: Final = 128 << 10  # bytes that the sums and slots of a tile may take
ROWS: Final = 8  # rows added at once, of a small body
SIZE: Final = 32  # statements in the copies of a body for several rows
AHEAD: Final = 2 * ROWS  # rows after which memory is fetched: each is another page, where no prefetcher goes by itself
LEAST: Final = BLOCK  # rows from which tiles pay; so few are written out if they are walked down but once
NEAR: Final = 64 << 10  # bytes of rows that are walked down column by column, for a cache holds them
WIDE: Final = 8  # vectors from which a row is wide
NARROW: Final = 8 << 10  # bytes of a row up to which threads share the rows
UNIT: Final = 8  # blocks of rows that a unit has at least
LEAST_UNITS: Final = 4  # units from which a reduction is cut, and
LEAST_CUT: Final = 1 << 17  # elements


def is_tiled(loop: Loop, target: Target) -> bool:
    """Whether a loop over columns is done in tiles."""
    wide = loop.var.extent >= WIDE * target.vector_bytes // 4
    if not wide or lanes_for(loop, target) == 1 or not _reduces_rows(loop):
        return False
    if streaming(loop):
        return True
    return any(span(x, r) > NEAR for r in loop.body if isinstance(r, Reduce) for x in r.body if isinstance(x, Load))


def column_units(s: Stmt) -> Units | None:
    """How a loop that reduces rows to few columns is cut by rows; None if it is not."""
    if not isinstance(s, Loop) or s.carries or not _reduces_rows(s):
        return None
    r, *others = [x for x in s.body if isinstance(x, Reduce)]
    before = s.body[: s.body.index(r)]
    if others or len(r.vars) > 1 or r.tree != "column" or any(isinstance(x, Store) for x in before):
        return None
    if any(a.type.kind == "b" for a in r.accumulators):
        return None
    columns, rows = s.var.extent, r.vars[0].extent
    row_bytes = columns * max(wide_type(a.type).bytes for a in r.accumulators)
    blocks = -(-rows // BLOCK)
    if row_bytes > NARROW or columns * rows < LEAST_CUT or blocks < LEAST_UNITS * UNIT:
        return None
    size = UNIT
    while blocks > UNITS * size:
        size *= 2
    count = -(-blocks // size)
    return Units(False, size, size.bit_length() - 1, count, count, 1)


def _reduces_rows(loop: Loop) -> bool:
    """Whether a loop has nothing but straight code and reductions that read rows along it."""
    reduces = [s for s in loop.body if isinstance(s, Reduce)]
    simple = all(is_leaf(s) or isinstance(s, Reduce) for s in loop.body)
    if not reduces or not simple or any(isinstance(s, (Update, Check)) for s in statements(loop.body)):
        return False
    return all(_reads_rows(r, loop) for r in reduces)


def _reads_rows(r: Reduce, loop: Loop) -> bool:
    """Whether a reduction reads rows along the loop, in whole blocks."""
    inner = r.vars[-1]
    total = prod(v.extent for v in r.vars)
    if r.tree == "row" or total < LEAST or not (inner.extent % _height(r) == 0 or total == inner.extent):
        return False
    if not all(is_leaf(s) and not isinstance(s, Store) for s in r.body):
        return False
    rows = [unmask(s.index) for s in r.body if isinstance(s, Load)]
    return any(lane_step(e, loop.var, 0, lambda _: None) == 1 and inner in e.variables() for e in rows)


def far(r: Reduce, target: Target) -> list[Load]:
    """The loads of a reduction whose rows, from the first to the last, no cache holds."""

    return [x for x in r.body if isinstance(x, Load) and target.cache_bytes < 2 * span(x, r)]


def _height(r: Reduce) -> int:
    """The rows of a block."""
    return 1 if r.tree == "subtrees" else BLOCK


class Tile:
    """The columns ``[first, last)`` of a loop. Its memory is arrays of `room` columns for each accumulator.

    `arrays`: how many those of a reduction are; the first has, in the end, what the reduction comes to.
    """

    def __init__(self, f: Frame, loop: Loop, arrays: Callable[[Reduce], int]) -> None:
        self.f, self.loop = f, loop
        self.sums = {
            r: [Sums(k, a, arrays(r)) for k, a in enumerate(r.accumulators)] for r in loop.body if isinstance(r, Reduce)
        }
        every = [s for sums in self.sums.values() for s in sums]
        widest = max(s.wide.bytes for s in every)
        self.lanes = max(f.target.vector_bytes // widest, 1)
        room = min(TILE // widest, STACK // sum(s.arrays * s.wide.bytes for s in every))
        self.packed = any(s.wide is B1 for s in every)  # vectors of bools in memory, of which a single one is no part
        self.room = max(room // self.lanes, 1) * self.lanes
        for s in every:
            s.memory = f.alloca(s.wide_ty(1), s.arrays * self.room)
        self.waiting = {r: [RUNNING] for r in self.sums}  # the arrays that, combined, are what a reduction comes to
        self.first = self.last = const(I64, 0)

    def over(self, lo: Val, hi: Val, body: Callable[[], None]) -> None:
        """`body` for every tile of the columns ``[lo, hi)``."""
        f = self.f

        def one(first: Val, carried: list[Val]) -> list[Val]:
            self.first = first
            self.last = f.extreme("smin", f.b.binary("add", first, const(I64, self.room)), hi)
            body()
            return carried

        f.loop(lo, hi, self.room, [], one, "tiles")

    def each(self, body: Callable[[Val], None], exact: bool) -> None:
        """`body` at every vector of the tile. `exact`: columns past the last must not be touched."""
        f, b = self.f, self.f.b

        def vector(masked: bool, at: Val, carried: list[Val]) -> list[Val]:
            active = None
            if masked:
                active = lanes_before(f, b.binary("sub", self.last, at), self.lanes)
            with f.scope((self.loop.var, at)), f.vectorised(self.loop.var, self.lanes, active, aligned=False):
                body(at)
            return carried

        def single(at: Val, carried: list[Val]) -> list[Val]:
            with f.scope((self.loop.var, at)), f.vectorised(None, 1, None, aligned=False):
                body(at)
            return carried

        if f.target.masks or not (exact or self.packed):
            f.loop(self.first, self.last, self.lanes, [], partial(vector, exact), "tile", certain=True)
            return
        whole = b.binary("and", b.binary("sub", self.last, self.first), const(I64, -self.lanes))
        middle = b.binary("add", self.first, whole)
        f.loop(self.first, middle, self.lanes, [], partial(vector, False), "tile")
        f.loop(middle, self.last, 1, [], single, "column")

    def place(self, s: "Sums", array: Val, at: Val) -> Val:
        """The address of the column `at` in an array of `s`."""
        b = self.f.b
        column = b.binary("add", b.binary("mul", array, const(I64, self.room)), b.binary("sub", at, self.first))
        return b.gep(s.wide_ty(1), s.memory, column)

    def load(self, s: "Sums", array: Val, at: Val) -> Val:
        return self.f.b.load(s.wide_ty(self.f.lanes), self.place(s, array, at), s.wide.bytes)

    def store(self, s: "Sums", array: Val, at: Val, value: Val) -> None:
        self.f.b.store(value, self.place(s, array, at), s.wide.bytes)

    def total(self, r: Reduce, s: "Sums", at: Val) -> Val:
        """What a reduction has come to at the vector `at`."""
        lowest, *others = self.waiting[r]
        value = self.load(s, lowest, at)
        for slot in others:
            value = combine(self.f, s.acc.op, s.acc.type, self.load(s, slot, at), value)
        return value

    def given(self, at: Val, upto: Stmt | None) -> None:
        """The statements before `upto` at the vector `at`; what reductions came to is read from memory."""
        for s in self.loop.body:
            if s is upto:
                break
            if isinstance(s, Reduce):
                for sums in self.sums[s]:
                    self.f.results[s, sums.k] = rounded(self.f, sums.acc, self.total(s, sums, at))
            elif upto is None or not isinstance(s, Store):
                self.f.run([s])


RUNNING: Final = const(I64, 0)  # the array of running sums; the slots of the counter follow


class Sums:
    """The arrays of accumulator k of a reduction."""

    def __init__(self, k: int, acc: Accumulator, arrays: int) -> None:
        self.k, self.acc, self.arrays = k, acc, arrays
        self.wide = wide_type(acc.type)
        self.memory = RUNNING

    def wide_ty(self, lanes: int) -> Ty:
        return register_type(self.wide, lanes)


def _blocks(r: Reduce) -> int:
    return -(-prod(v.extent for v in r.vars) // _height(r))


def _arrays(r: Reduce) -> int:
    """The running sums, then a slot for each level of the counter."""
    return 1 + _blocks(r).bit_length()


def tiles(f: Frame, loop: Loop, lo: Val, hi: Val) -> None:
    """Emits the loop as the module's docstring says, for the columns ``[lo, hi)``."""
    tile = Tile(f, loop, _arrays)

    def body() -> None:
        for r in tile.sums:
            counter = _Counter(f, tile, r)
            whole = const(I64, 0), const(I64, r.vars[-1].extent)
            nest(f, r.vars[:-1], partial(counter.rows, *whole))
            counter.finish()
        tile.each(lambda at: tile.given(at, None), exact=True)

    tile.over(lo, hi, body)


def column_partials(f: Frame, loop: Loop, into: Sequence[Buffer], begin: Val, end: Val) -> None:
    """The subtrees of the units ``[begin, end)`` for all columns: row u of the matrix ``into[k]`` for unit u."""
    u = column_units(loop)
    assert u is not None
    tile = Tile(f, loop, _arrays)
    (r,) = tile.sums
    rows = u.size * BLOCK

    def unit(number: Val, carried: list[Val]) -> list[Val]:
        lo = f.b.binary("mul", number, const(I64, rows))
        hi = f.extreme("smin", f.b.binary("add", lo, const(I64, rows)), const(I64, r.vars[0].extent))

        def body() -> None:
            counter = _Counter(f, tile, r, _Subtrees(into, u.level, number))
            counter.rows(lo, hi)
            counter.complete()

        tile.over(const(I64, 0), const(I64, loop.var.extent), body)
        return carried

    f.loop(begin, end, 1, [], unit)


@dataclass(frozen=True, slots=True)
class _Subtrees:
    """Where a subtree of 2^`level` blocks goes: row `number` of the matrices `into`."""

    into: Sequence[Buffer]
    level: int
    number: Val


class _Counter:
    """The binary counter of one reduction for all columns of a tile.

    A block is added up in the slot of the level where it will wait, which is free when the block begins.
    """

    def __init__(self, f: Frame, tile: Tile, r: Reduce, subtrees: _Subtrees | None = None) -> None:
        self.f, self.tile, self.r, self.subtrees = f, tile, r, subtrees
        self.sums = tile.sums[r]
        self.far = far(r, f.target)
        self.count = f.alloca(I64)
        f.b.store(const(I64, 0), self.count, 8)

    def rows(self, lo: Val, hi: Val) -> None:
        """Adds and pushes the blocks of the rows ``[lo, hi)`` of the innermost variable."""
        f, b = self.f, self.f.b
        height = _height(self.r)
        group = 1 << min(ROWS, height, max(SIZE // len(self.r.body), 1)).bit_length() - 1
        exact = self.r.vars[-1].extent % group == 0

        def block(start: Val, carried: list[Val]) -> list[Val]:
            end = f.extreme("smin", b.binary("add", start, const(I64, height)), hi)
            level = self._begin()
            slot = b.binary("add", level, const(I64, 1))
            middle = end
            if not exact:
                left = b.binary("and", b.binary("sub", end, start), const(I64, group - 1))
                middle = b.binary("sub", end, left)
            f.loop(start, middle, group, [], partial(self._group, slot, group), "rows", certain=exact)
            if not exact:
                f.loop(middle, end, 1, [], partial(self._group, slot, 1), "row")
            self._push(level, slot)
            return carried

        f.loop(lo, hi, height, [], block, "block")

    def _begin(self) -> Val:
        """The level where the next block will wait; its slot is cleared."""
        b = self.f.b
        c = b.load(I64, self.count, 8)
        b.store(b.binary("add", c, const(I64, 1)), self.count, 8)
        merging = c if self.subtrees is None else b.binary("and", c, const(I64, (1 << self.subtrees.level) - 1))
        level = b.intrinsic("cttz", I64, b.binary("xor", merging, const(I64, -1)), const(ty("i", 1), False))
        slot = b.binary("add", level, const(I64, 1))

        def clear(at: Val) -> None:
            for s in self.sums:
                self.tile.store(s, slot, at, identity(s.acc.op, s.wide, self.f.lanes))

        self.tile.each(clear, exact=False)
        return level

    def _group(self, slot: Val, count: int, start: Val, carried: list[Val]) -> list[Val]:
        """Adds `count` rows from `start` on to the sums in a slot."""
        f, tile = self.f, self.tile
        rows = [start, *(f.b.binary("add", start, const(I64, n)) for n in range(1, count))]

        def add(at: Val) -> None:
            tile.given(at, self.r)
            running = Running(f, self.r.accumulators, f.lanes)
            state = running.resume([tile.load(s, slot, at) for s in self.sums])
            for row in rows:
                with f.scope((self.r.vars[-1], row)):
                    f.run(self.r.body)
                    state = running.add(state)
                if self.far:
                    with f.scope((self.r.vars[-1], f.b.binary("add", row, const(I64, AHEAD)))):
                        for x in self.far:
                            lines(f, x.buffer, x.index)
            for s, value in zip(self.sums, running.settle(state), strict=True):
                tile.store(s, slot, at, value)

        tile.each(add, exact=True)
        return carried

    def _push(self, level: Val, slot: Val) -> None:
        """Merges what waits below `level` with the sums in its slot, which wait there or leave."""
        f, b, tile = self.f, self.f.b, self.tile

        def merge(below: Val, carried: list[Val]) -> list[Val]:
            def columns(at: Val) -> None:
                for s in self.sums:
                    older = tile.load(s, b.binary("add", below, const(I64, 1)), at)
                    tile.store(s, slot, at, combine(f, s.acc.op, s.acc.type, older, tile.load(s, slot, at)))

            tile.each(columns, exact=False)
            return carried

        f.loop(const(I64, 0), level, 1, [], merge, "merge")
        if self.subtrees is not None:
            top = b.icmp("eq", level, const(I64, self.subtrees.level))
            f.choose(top, lambda: tile.each(partial(self._leave, slot), exact=True), lambda: None)

    def _leave(self, slot: Val, at: Val) -> None:
        f, b = self.f, self.f.b
        assert self.subtrees is not None
        columns = const(I64, self.tile.loop.var.extent)
        place = b.binary("add", b.binary("mul", self.subtrees.number, columns), at)
        for s, into in zip(self.sums, self.subtrees.into, strict=True):
            where = b.gep(s.wide_ty(1), f.buffers[into], place)
            store_vector(f, self.tile.load(s, slot, at), where, s.wide.bytes, f.active)

    def complete(self) -> None:
        """Pushes absent blocks until nothing waits."""
        assert self.subtrees is not None
        b = self.f.b
        test, pad, done = b.fresh_label("test"), b.fresh_label("pad"), b.fresh_label("done")
        b.branch(test)
        b.label(test)
        waiting = b.binary("and", b.load(I64, self.count, 8), const(I64, (1 << self.subtrees.level) - 1))
        b.cond_branch(b.icmp("ne", waiting, const(I64, 0)), pad, done)
        b.label(pad)
        level = self._begin()
        self._push(level, b.binary("add", level, const(I64, 1)))
        b.branch(test)
        b.label(done)

    def finish(self) -> None:
        """What all blocks combine to; where later reductions read it again and again, as running sums."""
        tile, blocks = self.tile, _blocks(self.r)
        tile.waiting[self.r] = [const(I64, 1 + level) for level in range(blocks.bit_length()) if blocks >> level & 1]

        def columns(at: Val) -> None:
            for s in self.sums:
                tile.store(s, RUNNING, at, tile.total(self.r, s, at))

        if self.r is not list(tile.sums)[-1]:
            tile.each(columns, exact=False)
            tile.waiting[self.r] = [RUNNING]
