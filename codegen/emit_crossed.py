"""Row reductions whose rows lie across memory: a tile of rows at a time, neighbours in memory being the vector.

One such row alone would touch another line of memory, often another page, with each of its elements. The tree of a row
sum has W lanes of UNROLL accumulators; here each of them is an array over the rows of the tile, and memory is read as
it lies, some steps of a lane at a time. The tree is the same to the bit.

    for tiles of rows:
      for each reduction:
        for blocks of BLOCK·W elements, for lanes j < W:
          for u < UNROLL:  part[u] = identity;  part[u] += element j + s·W of the block, for every s = u mod UNROLL
          sums = (part[0] + part[1]) + (part[2] + part[3])
          level = 0;       while bit `level` of the block's number is set: sums = slot[level, j] + sums;  level += 1
          slot[level, j] = sums
        for lanes j: sums[j] = what the waiting slots come to, from the lowest up
        sums = the lanes pairwise
      for vectors of the tile: what the loop does with the results

Lanes and accumulators that have no element at all are left out.
"""

from __future__ import annotations

from functools import partial
from math import prod
from typing import Final

from .address import lane_step
from .ahead import lines
from .analysis import is_leaf, statements
from .builder import I64, Val, const, ty
from .combine import combine, identity
from .emit_columns import ROWS, RUNNING, SIZE, Sums, Tile, far
from .emit_reduce import groups, nest, row_lanes
from .frame import Frame
from .index import Atom, Index, Var, of, substitute, unmask
from .loops import BLOCK, UNROLL, Check, Load, Loop, Reduce, Store, Update
from .running import Running
from .vectorize import hidden, is_lanewise

LEAST_ROWS: Final = 8  # of the loop: fewer side by side are read as they are


def is_crossed(loop: Loop) -> bool:
    """Whether a loop has nothing but straight code and row reductions that all lie across memory."""
    reduces = [s for s in loop.body if isinstance(s, Reduce)]
    if not reduces or loop.var.extent < LEAST_ROWS or not all(is_leaf(s) or isinstance(s, Reduce) for s in loop.body):
        return False
    if any(isinstance(s, (Update, Check)) for s in statements(loop.body)):
        return False
    return all(_lies_across(r, loop.var) for r in reduces) and is_lanewise(loop)


def _lies_across(r: Reduce, var: Var) -> bool:
    """Whether the elements of a row are far apart, and those of neighbouring rows side by side."""
    inner = r.vars[-1]
    if r.tree != "row" or prod(v.extent for v in r.vars) < 2 or len(groups(r)) > 1:
        return False
    if not all(is_leaf(s) and not isinstance(s, Store) for s in r.body):
        return False
    found = [unmask(s.index) for s in r.body if isinstance(s, Load)]
    both = [e for e in found if var in e.variables() and inner in e.variables()]
    steps = [lane_step(e, var, 0, lambda _: None) for e in both]
    plain = not any(hidden(e, inner) for e in both)
    near = any(e.coefficient(inner) == 1 for e in both)
    return plain and bool(both) and all(step == 1 for step in steps) and not near


def crossed(f: Frame, loop: Loop, lo: Val, hi: Val) -> None:
    """Emits the loop as the module's docstring says, for the rows ``[lo, hi)``."""
    tile = Tile(f, loop, lambda r: _Shape(r).arrays)

    def body() -> None:
        for r in tile.sums:
            lanes = _Lanes(f, tile, r)
            nest(f, r.vars[:-1], lanes.row)
            lanes.finish()
        tile.each(lambda at: tile.given(at, None), exact=True)

    tile.over(lo, hi, body)


class _Shape:
    """Of a reduction's tree: the lanes, those that have elements, the accumulators that have some, the blocks."""

    def __init__(self, r: Reduce) -> None:
        extent = r.vars[-1].extent
        self.lanes = row_lanes(r, list(r.accumulators))
        self.used = min(self.lanes, extent)
        self.parts = min(UNROLL, -(-extent // self.lanes))
        self.blocks = prod(v.extent for v in r.vars[:-1]) * -(-extent // (BLOCK * self.lanes))
        self.levels = self.blocks.bit_length()

    @property
    def arrays(self) -> int:
        """The parts, then for each level of the counter a slot for each lane."""
        return UNROLL + self.levels * self.used


class _Lanes:
    """The lanes of one reduction for all rows of a tile."""

    def __init__(self, f: Frame, tile: Tile, r: Reduce) -> None:
        self.f, self.tile, self.r = f, tile, r
        self.sums = tile.sums[r]
        self.shape = _Shape(r)
        self.far = far(r, f.target)
        self.count = f.alloca(I64)
        f.b.store(const(I64, 0), self.count, 8)

    def slot(self, level: Val, lane: Val) -> Val:
        b = self.f.b
        first = b.binary("add", b.binary("mul", level, const(I64, self.shape.used)), const(I64, UNROLL))
        return b.binary("add", first, lane)

    def row(self) -> None:
        """Adds and pushes the blocks of the innermost variable."""
        f, b, shape = self.f, self.f.b, self.shape
        extent, size = const(I64, self.r.vars[-1].extent), BLOCK * shape.lanes

        def block(start: Val, carried: list[Val]) -> list[Val]:
            end = f.extreme("smin", b.binary("add", start, const(I64, size)), extent)
            c = b.load(I64, self.count, 8)
            b.store(b.binary("add", c, const(I64, 1)), self.count, 8)
            level = b.intrinsic("cttz", I64, b.binary("xor", c, const(I64, -1)), const(ty("i", 1), False))
            f.loop(const(I64, 0), const(I64, shape.used), 1, [], partial(self._lane, start, end, level), "lane")
            return carried

        f.loop(const(I64, 0), extent, size, [], block, "block")

    def _lane(self, start: Val, end: Val, level: Val, lane: Val, carried: list[Val]) -> list[Val]:
        """The sums of one lane of a block, pushed up to `level`."""
        f, b, tile, shape = self.f, self.f.b, self.tile, self.shape
        first = b.binary("add", start, lane)
        f.loop(const(I64, 0), const(I64, shape.parts), 1, [], partial(self._part, first, end), "part")

        def join(into: Val, at: Val) -> None:
            for s in self.sums:
                parts = [tile.load(s, const(I64, u), at) if u < shape.parts else None for u in range(UNROLL)]
                while len(parts) > 1:
                    parts = [self._join(s, x, y) for x, y in zip(parts[::2], parts[1::2], strict=True)]
                tile.store(s, into, at, _some(parts[0]))

        def merge(n: Val, carried: list[Val]) -> list[Val]:
            tile.each(partial(self._add, self.slot(n, lane), RUNNING), exact=False)
            return carried

        if shape.blocks == 1:
            tile.each(partial(join, self.slot(const(I64, 0), lane)), exact=False)
            return carried
        tile.each(partial(join, RUNNING), exact=False)
        f.loop(const(I64, 0), level, 1, [], merge, "merge")
        into = self.slot(level, lane)

        def keep(at: Val) -> None:
            for s in self.sums:
                tile.store(s, into, at, tile.load(s, RUNNING, at))

        tile.each(keep, exact=False)
        return carried

    def _add(self, older: Val, array: Val, at: Val) -> None:
        """array = older + array."""
        for s in self.sums:
            x, y = (self.tile.load(s, a, at) for a in (older, array))
            self.tile.store(s, array, at, combine(self.f, s.acc.op, s.acc.type, x, y))

    def _part(self, first: Val, end: Val, part: Val, carried: list[Val]) -> list[Val]:
        """One accumulator of a lane: every UNROLL-th step, the first of them at `first`, some at once."""
        f, b, shape = self.f, self.f.b, self.shape
        step = UNROLL * shape.lanes
        group = 1 << min(ROWS, BLOCK // UNROLL, max(SIZE // len(self.r.body), 1)).bit_length() - 1

        def clear(at: Val) -> None:
            for s in self.sums:
                self.tile.store(s, part, at, identity(s.acc.op, s.wide, f.lanes))

        self.tile.each(clear, exact=False)
        begin = b.binary("add", first, b.binary("mul", part, const(I64, shape.lanes)))
        left = f.extreme("smax", b.binary("sub", end, begin), const(I64, 0))
        steps = b.binary("udiv", b.binary("add", left, const(I64, step - 1)), const(I64, step))
        whole = b.binary("and", steps, const(I64, -group))
        middle = b.binary("add", begin, b.binary("mul", whole, const(I64, step)))
        f.loop(begin, middle, group * step, [], partial(self._steps, part, group), "steps")
        f.loop(middle, f.extreme("smax", end, middle), step, [], partial(self._steps, part, 1), "step")
        return carried

    def _steps(self, part: Val, count: int, start: Val, carried: list[Val]) -> list[Val]:
        """Adds `count` elements of a lane to one of its accumulators."""
        f, tile = self.f, self.tile
        step = UNROLL * self.shape.lanes
        places = [start, *(f.b.binary("add", start, const(I64, n * step)) for n in range(1, count))]

        def add(at: Val) -> None:
            tile.given(at, self.r)
            running = Running(f, self.r.accumulators, f.lanes)
            state = running.resume([tile.load(s, part, at) for s in self.sums])
            for place in places:
                with f.scope((self.r.vars[-1], place)):
                    f.run(self.r.body)
                    state = running.add(state)
                    for x in self.far:
                        lines(f, x.buffer, substitute(x.index, self._ahead))
            for s, value in zip(self.sums, running.settle(state), strict=True):
                tile.store(s, part, at, value)

        tile.each(add, exact=True)
        return carried

    def finish(self) -> None:
        """What all blocks and lanes combine to, in the first array."""
        f, tile, shape = self.f, self.tile, self.shape
        levels = [level for level in range(shape.levels) if shape.blocks >> level & 1]
        lowest = levels[0]

        def wait(lane: Val, carried: list[Val]) -> list[Val]:
            slots = [self.slot(const(I64, level), lane) for level in levels]

            def columns(at: Val) -> None:
                for s in self.sums:
                    value = tile.load(s, slots[0], at)
                    for slot in slots[1:]:
                        value = combine(f, s.acc.op, s.acc.type, tile.load(s, slot, at), value)
                    tile.store(s, slots[0], at, value)

            tile.each(columns, exact=False)
            return carried

        if len(levels) > 1:
            f.loop(const(I64, 0), const(I64, shape.used), 1, [], wait, "wait")

        def across(at: Val) -> None:
            for s in self.sums:
                tile.store(s, RUNNING, at, self._pairwise(s, at, const(I64, lowest)))

        tile.each(across, exact=False)

    def _pairwise(self, s: Sums, at: Val, level: Val) -> Val:
        """Lane j with lane j + half, until one is left."""
        lanes = self.shape.lanes
        slots = [self.slot(level, const(I64, j)) for j in range(self.shape.used)]
        values: list[Val | None] = [self.tile.load(s, slot, at) for slot in slots]
        values += [None] * (lanes - len(values))
        while len(values) > 1:
            half = len(values) // 2
            values = [self._join(s, low, high) for low, high in zip(values[:half], values[half:], strict=True)]
        return _some(values[0])

    def _join(self, s: Sums, x: Val | None, y: Val | None) -> Val | None:
        """x and y combined; of one that has no element, the other."""
        return x if y is None else combine(self.f, s.acc.op, s.acc.type, _some(x), y)

    def _ahead(self, a: Atom) -> Index | None:
        """The elements of the next accumulator of a lane."""
        return of(a) + self.shape.lanes if a is self.r.vars[-1] else None


def _some(x: Val | None) -> Val:
    assert x is not None
    return x
