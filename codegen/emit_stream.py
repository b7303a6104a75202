"""Contractions with few rows: the columns' factor goes by once, read where it lies, the sums wait in memory.

Such a contraction is as fast as its large factor can be read. Some steps of k at a time are multiplied into the sums of
all rows, which stay in cache; each number of the large factor is loaded, and computed, exactly once.

    pack the rows' factor for all of k                                     (stays in L2)
    for columns in blocks of NB:
      for k in blocks of CONTRACT_BLOCK:
        for k of the block, STEPS at a time, for panels of NR columns:
          load STEPS x NR numbers; for each row: sums += rows x columns    (stay in L2)
          in the last of the block: total += sums, sums = 0
      the epilogue on the total
"""

from __future__ import annotations

from functools import partial

from .ahead import prefetch
from .builder import I64, Val, const
from .combine import identity, wide_type
from .epilogue import Tile, run_epilogue
from .flat import Flat, multiply_add
from .frame import Frame, first_lanes
from .loops import CONTRACT_BLOCK, Contract
from .pack import pack
from .tiling import Stream

AHEAD = 8  # steps of k that are fetched ahead: each is another page, which hardware does not go on to


def contract_stream(f: Frame, s: Contract, begin: Val | None, end: Val | None, p: Stream) -> None:
    """Emits the contraction, for the panels ``[begin, end)`` of columns or all of them."""
    extent = const(I64, p.n)
    if begin is None or end is None:
        begin, end = const(I64, 0), extent
    else:
        begin, end = (f.b.binary("mul", x, const(I64, p.nr)) for x in (begin, end))
        end = f.extreme("smin", end, extent)
    _Stream(f, s, p).run(begin, end)


class _Stream:
    def __init__(self, f: Frame, s: Contract, p: Stream) -> None:
        self.f, self.p = f, p
        self.c = Flat(s, p.swapped, p.m, p.nr)
        self.t = self.c.element
        self.vector = self.t.with_lanes(p.lanes)
        self.align = self.t.bits // 8
        self.rows, self.sums, self.total = f.areas(p.parts)

    def run(self, begin: Val, end: Val) -> None:
        f, b, p = self.f, self.f.b, self.p
        depth = const(I64, p.k)
        pack(f, self.c.rows, self.rows, const(I64, 0), const(I64, p.m), const(I64, 0), depth, p.stride)

        def inside(n: tuple[Val, Val], k: Val, carried: list[Val]) -> list[Val]:
            self._panels(n, k, p.steps, closes=False)
            return carried

        def columns(n0: Val, carried: list[Val]) -> list[Val]:
            n1 = f.extreme("smin", b.binary("add", n0, const(I64, p.nb)), end)
            size = b.binary("mul", b.binary("sub", n1, n0), const(I64, p.m))
            whole = b.binary("add", size, const(I64, p.m * p.nr - 1))
            used = b.binary("mul", b.binary("udiv", whole, const(I64, p.m * p.nr)), const(I64, p.m * p.nr))
            if p.chains > 1:
                self._fill(self.total, identity("sum", wide_type(self.c.acc.type), p.lanes), used)
            self._fill(self.sums, const(self.vector, 0), used)

            def block(k0: Val, carried: list[Val]) -> list[Val]:
                k1 = f.extreme("smin", b.binary("add", k0, const(I64, CONTRACT_BLOCK)), depth)
                rest = p.k % p.steps
                ends = b.icmp("eq", k1, depth)
                last = b.binary("sub", k1, b.select(ends, const(I64, rest or p.steps), const(I64, p.steps)))
                f.loop(k0, last, p.steps, [], partial(inside, (n0, n1)), "chain")
                panels = partial(self._panels, (n0, n1), last, closes=p.chains > 1)
                if rest:
                    f.choose(ends, lambda: panels(rest), lambda: panels(p.steps))
                else:
                    panels(p.steps)
                return carried

            f.loop(const(I64, 0), depth, CONTRACT_BLOCK, [], block, "block")
            f.loop(n0, n1, p.nr, [], partial(self._finish, n0), "panel")
            return carried

        f.loop(begin, end, p.nb, [], columns, "columns")

    def _fill(self, area: Val, value: Val, size: Val) -> None:
        b = self.f.b

        def one(i: Val, carried: list[Val]) -> list[Val]:
            b.store(value, b.gep(self.t, area, i), self.align)
            return carried

        self.f.loop(const(I64, 0), size, self.p.lanes, [], one, "fill")

    def _tile(self, area: Val, n0: Val, n: Val) -> Val:
        b = self.f.b
        return b.gep(self.t, area, b.binary("mul", b.binary("sub", n, n0), const(I64, self.p.m)))

    def _finish(self, n0: Val, n: Val, carried: list[Val]) -> list[Val]:
        p = self.p
        tile = Tile(self._tile(self.total if p.chains > 1 else self.sums, n0, n), p.nr, p.lanes, const(I64, 0), n)
        run_epilogue(self.f, self.c.ending, tile, (const(I64, 0), const(I64, p.m)), n)
        return carried

    def _panels(self, n: tuple[Val, Val], k: Val, steps: int, closes: bool) -> None:
        """All panels of a block of columns at `steps` consecutive k, which may be the last of a chain."""
        f, b, p = self.f, self.f.b, self.p
        numbers = b.gep(self.t, self.rows, b.binary("mul", k, const(I64, p.m)))
        add = "fadd" if self.t.kind == "f" else "add"

        def panel(count: int, at: Val, carried: list[Val]) -> list[Val]:
            ys = [self._vectors(b.binary("add", k, const(I64, u)), at, count) for u in range(steps)]
            tile, total = (self._tile(area, n[0], at) for area in (self.sums, self.total))

            def row(r: Val, carried: list[Val]) -> list[Val]:
                offset = b.binary("mul", r, const(I64, p.nr))
                line = b.gep(self.t, tile, offset)
                places = [b.gep(self.t, line, const(I64, v)) for v in range(0, count, p.lanes)]
                sums = [b.load(self.vector, place, self.align) for place in places]
                mine = b.gep(self.t, numbers, r)
                for u in range(steps):
                    x = b.splat(b.load(self.t, b.gep(self.t, mine, const(I64, u * p.m)), self.align), p.lanes)
                    sums = [multiply_add(f, x, y, z) for y, z in zip(ys[u], sums, strict=True)]
                if closes:
                    line = b.gep(self.t, total, offset)
                    for i, v in enumerate(sums):
                        place = b.gep(self.t, line, const(I64, i * p.lanes))
                        b.store(b.binary(add, b.load(self.vector, place, self.align), v), place, self.align)
                    sums = [const(self.vector, 0)] * len(sums)
                for v, place in zip(sums, places, strict=True):
                    b.store(v, place, self.align)
                return carried

            f.loop(const(I64, 0), const(I64, p.m), 1, [], row, "row")
            return carried

        whole = p.n // p.nr * p.nr
        f.loop(n[0], f.extreme("smin", n[1], const(I64, whole)), p.nr, [], partial(panel, p.nr), "panel")
        if whole < p.n:
            f.loop(f.extreme("smax", n[0], const(I64, whole)), n[1], p.nr, [], partial(panel, p.n - whole), "panel")

    def _vectors(self, k: Val, at: Val, count: int) -> list[Val]:
        """The `count` columns of a panel at one k; asks for those of a later k."""
        f, b, p = self.f, self.f.b, self.p
        side, out = self.c.columns, []
        for v in range(0, count, p.lanes):
            mask = None if v + p.lanes <= count else first_lanes(count - v, p.lanes)
            with f.scope((side.k, k), (side.var, b.binary("add", at, const(I64, v)))):
                prefetch(f, side.body, side.var, side.k, AHEAD)
                with f.vectorised(side.var, p.lanes, mask, aligned=False):
                    f.run(side.body)
                    out.append(f.wide(f.values[side.value]))
        return out
