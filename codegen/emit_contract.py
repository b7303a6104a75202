"""Contractions: panels, a tile of accumulators in registers, the epilogue tile by tile.

Whatever the tiling, an element is a chain of fused multiply-adds per CONTRACT_BLOCK consecutive k, from zero, and the
blocks are added in order; so tile sizes and the choice of the vector side never show in the bits.

    for columns in blocks of NB:
      for rows in blocks of MB:
        for k in blocks of DEPTH:
          pack the columns' factor: panels of NR                       (stays in L3)
          for rows in blocks of MC:
            pack the rows' factor: panels of MR                        (stays in L2)
            for each panel of columns (stays in L2), for each panel of rows:
              for k in blocks of CONTRACT_BLOCK: tile += chain over the block
              after the last k: the epilogue on the tile

A factor that `codegen.tiling` leaves where it is is read there; its last tile then ends where the factor does, and what
is computed twice is stored once. A factor of columns that is the same in all turns of the loop around is packed in the
first of them (`codegen.keep`).

If k is a part of a longer sum, a tile's sums go on with what the part before left in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from . import address, domain
from .ahead import fetch_share, shares
from .builder import I64, Val, const, ty
from .combine import identity, wide_type
from .epilogue import Tile, finish_sums, is_short, run_epilogue
from .flat import Flat, multiply_add
from .frame import Frame, first_lanes
from .loops import CONTRACT_BLOCK, Contract, Part
from .pack import Side, is_by_rows, pack
from .tiling import Tiling


class _Running:
    """The sums of which a contraction's k are a part: where they are, and which ends of chains the part meets."""

    def __init__(self, f: Frame, part: Part, steps: int, memory: Val, size: int) -> None:
        b = f.b
        self.total = part.total
        self.chains, self.sums = memory, b.gep(ty("i", 8), memory, const(I64, size))
        start = address.scalar(f, part.start)
        end = b.binary("add", start, const(I64, steps))
        inside = const(I64, CONTRACT_BLOCK - 1)
        self.fresh = b.icmp("eq", b.binary("and", start, inside), const(I64, 0))
        self.first = b.icmp("slt", start, const(I64, CONTRACT_BLOCK))
        self.ends = b.icmp("eq", end, const(I64, part.total))
        self.closes = b.binary("or", self.ends, b.icmp("eq", b.binary("and", end, inside), const(I64, 0)))


def contract_tiles(f: Frame, s: Contract, begin: Val | None, end: Val | None, p: Tiling) -> None:
    """Emits the loop nest of the module's docstring, for the panels ``[begin, end)`` that threads share or all."""
    _Nest(f, s, p).run(begin, end)


class _Nest:
    """A contraction and where its panels are."""

    def __init__(self, f: Frame, s: Contract, p: Tiling) -> None:
        self.f, self.p = f, p
        self.c = c = Flat(s, p.swapped, p.mr, p.nr, numbers=True)
        self.by_rows = is_by_rows(f, c.rows)
        self.k, self.rows, self.columns, self.t = c.k, c.rows, c.columns, c.element
        self.vector = self.t.with_lanes(p.lanes)
        self.align = self.t.bits // 8
        self.places = range(0, p.mr * p.nr, p.lanes)
        self.zeros = [const(self.vector, 0)] * (p.mr * p.nv)
        self.absent = identity("sum", wide_type(s.acc.type), p.lanes)
        kept = f.kept.get(("panels", s))
        self.first: Val | None = None  # whether this turn is the first of a loop that keeps the columns
        row_bytes, _, tile_bytes = p.parts
        if kept is not None:
            assert kept.loop is not None
            self.first = f.b.icmp("eq", f.vars[kept.loop], f.starts[kept.loop])
            self.row_panels, self.tiles = f.areas((row_bytes, tile_bytes))
            self.column_panels = f.kept_areas["panels", s]
        else:
            self.row_panels, self.column_panels, self.tiles = f.areas(p.parts)
        self.shares = [x for side in (self.rows, self.columns) for x in shares(side.body, (side.var, self.k))]
        self.conditions = domain.cuts(c.domain, c.rows, c.columns, c.k)
        self.part: _Running | None = None
        if c.part is not None:
            self.part = _Running(f, c.part, self.k.extent, f.kept_areas["sums", c.part.after or s], p.running)

    def at(self, base: Val, offset: int) -> Val:
        return self.f.b.gep(self.t, base, const(I64, offset))

    def beyond(self, start: Val, step: int, end: Val, most: int | None = None) -> Val:
        """Where a block of at most `step` from `start` on ends; `most`: of so many in all."""
        if most is not None and most <= step:
            return end
        return self.f.extreme("smin", self.f.b.binary("add", start, const(I64, step)), end)

    def blocks(self, lo: Val, hi: Val, step: int, most: int, body: Callable[[Val, Val], None], hint: str) -> None:
        """`body` with the begin and end of each block of `step`; no loop if ``[lo, hi)``, at most `most`, is one."""

        def one(start: Val, carried: list[Val]) -> list[Val]:
            body(start, self.beyond(start, step, hi, most))
            return carried

        if most <= step:
            body(lo, hi)
        else:
            self.f.loop(lo, hi, step, [], one, hint)

    # blocks ---------------------------------------------------------------------------------------------------
    def run(self, begin: Val | None, end: Val | None) -> None:
        f, b, p = self.f, self.f.b, self.p
        rows, columns = ((const(I64, 0), const(I64, side.var.extent)) for side in (self.rows, self.columns))
        if begin is not None and end is not None:
            side = self.columns if p.along_columns else self.rows
            lo = b.binary("mul", begin, const(I64, side.width))
            hi = f.extreme("smin", b.binary("mul", end, const(I64, side.width)), const(I64, side.var.extent))
            rows, columns = (rows, (lo, hi)) if p.along_columns else ((lo, hi), columns)

        def column_block(n0: Val, n1: Val) -> None:
            self.blocks(*rows, p.mb, self.rows.var.extent, partial(row_block, (n0, n1)), "rows")

        def row_block(n: tuple[Val, Val], m0: Val, m1: Val) -> None:
            steps = max(self.k.extent, 1)
            self.blocks(const(I64, 0), const(I64, steps), p.depth, steps, partial(k_block, n, (m0, m1)), "k")

        def k_block(n: tuple[Val, Val], m: tuple[Val, Val], k0: Val, k1: Val) -> None:
            k = k0, self.f.extreme("smin", k1, const(I64, self.k.extent))
            panels = self.column_panels
            if self.first is not None:
                number = b.binary("udiv", k0, const(I64, p.depth))
                panels = b.gep(ty("i", 8), panels, b.binary("mul", number, const(I64, p.parts[1])))
                f.choose(self.first, lambda: pack(f, self.columns, panels, *n, *k, p.stride), lambda: None)
            elif not p.direct.columns:
                pack(f, self.columns, panels, *n, *k, p.stride)
            self.blocks(*m, p.mc, min(self.rows.var.extent, p.mb), partial(rows_block, n, m, k, panels), "rows")

        def rows_block(
            n: tuple[Val, Val], m: tuple[Val, Val], k: tuple[Val, Val], panels: Val, i0: Val, i1: Val
        ) -> None:
            if not p.direct.rows:
                pack(f, self.rows, self.row_panels, i0, i1, *k, p.stride)
            self._tiles(n, m[0], (i0, i1), k, panels)

        self.blocks(*columns, p.nb, self.columns.var.extent, column_block, "columns")

    def _tiles(
        self, n: tuple[Val, Val], m0: Val, i: tuple[Val, Val], k: tuple[Val, Val], column_panels: Val
    ) -> None:
        """All tiles of a block of rows against a block of columns."""
        f, b, p = self.f, self.f.b, self.p

        def across(at: Val, carried: list[Val]) -> list[Val]:
            column = b.binary("sub", at, n[0])
            panel = b.gep(self.t, column_panels, b.binary("mul", column, const(I64, p.stride)))
            f.loop(*i, p.mr, [], partial(down, at, column, panel), "tile")
            return carried

        def down(at: Val, column: Val, columns: Val, m: Val, carried: list[Val]) -> list[Val]:
            row = b.binary("mul", b.binary("sub", m, i[0]), const(I64, p.stride))
            tile, end = self.tiles, self.beyond(m, p.mr, i[1])
            if p.blocks > 1:
                number = b.binary("mul", b.binary("sub", m, m0), const(I64, p.nr))
                tile = b.gep(self.t, tile, b.binary("add", b.binary("mul", column, const(I64, p.mb)), number))
                last = b.icmp("eq", k[1], const(I64, self.k.extent))
                end = b.select(last, end, m)
            first = self._inside(self.rows, m) if p.direct.rows else m
            start = self._inside(self.columns, at) if p.direct.columns else at
            panels = b.gep(self.t, self.row_panels, row), columns
            needed = domain.limited(f, self.conditions, self.rows, self.columns, self.k, (m, at), k)
            if self.part is not None:
                self._continue(self.part, panels, Tile(tile, p.nr, p.lanes, first, start), (m, end), at, k[0], needed)
                return carried
            if self.k.extent > CONTRACT_BLOCK:
                self._sums(tile, panels, (first, start), k, needed)
                run_epilogue(f, self.c.ending, Tile(tile, p.nr, p.lanes, first, start), (m, end), at)
                return carried
            self._ahead(n[0], at, i[0], m)
            sums = self._chain(panels, (first, start), k[0], needed, self.zeros)

            def part() -> None:
                for place, v in zip(self.places, sums, strict=True):
                    b.store(v, self.at(tile, place), self.align)
                run_epilogue(f, self.c.ending, Tile(tile, p.nr, p.lanes, first, start), (m, end), at)

            whole = self.whole(m, end, at)
            if whole is None:
                part()
            else:
                f.choose(whole, lambda: finish_sums(f, self.c.ending, sums, p.nv, m, at), part)
            return carried

        f.loop(*n, p.nr, [], across, "panel")

    def _ahead(self, n0: Val, n: Val, m0: Val, m: Val) -> None:
        """Fetches what falls to a tile of the factors of the next turn of a loop around."""
        b, p = self.f.b, self.p
        if self.shares and p.blocks == 1 and p.nb >= self.columns.var.extent and p.mc >= self.rows.var.extent:
            down = -(-self.rows.var.extent // p.mr)
            panel = b.binary("udiv", b.binary("sub", n, n0), const(I64, p.nr))
            row = b.binary("udiv", b.binary("sub", m, m0), const(I64, p.mr))
            number = b.binary("add", b.binary("mul", panel, const(I64, down)), row)
            for x, around in self.shares:
                fetch_share(self.f, x, around, number, down * -(-self.columns.var.extent // p.nr))

    def _inside(self, side: Side, at: Val) -> Val:
        """Where a tile that is not packed starts: so that all of it exists."""
        if side.var.extent % side.width == 0:
            return at
        return self.f.extreme("smin", at, const(I64, max(side.var.extent - side.width, 0)))

    def whole(self, m: Val, end: Val, n: Val) -> Val | None:
        """Whether a tile from m (to `end`) and n on is whole, so that its sums need not go through memory; None where
        they do anyway."""
        b, p = self.f.b, self.p
        if not is_short(self.c.ending, p.mr * p.nv):
            return None
        out = const(ty("i", 1), True)
        if self.rows.var.extent % p.mr:
            out = b.icmp("eq", b.binary("sub", end, m), const(I64, p.mr))
        if self.columns.var.extent % p.nr and not (self.columns.var.extent < p.nr and self.f.target.masks):
            fits = b.icmp("sle", n, const(I64, self.columns.var.extent - p.nr))
            out = fits if out.ref == "true" else b.binary("and", out, fits)
        return out

    # one tile ---------------------------------------------------------------------------------------------------
    def _sums(
        self, tile: Val, panels: tuple[Val, Val], start: tuple[Val, Val], k: tuple[Val, Val], needed: tuple[Val, Val]
    ) -> None:
        """Adds the chains over k to a tile, which the first of them begins."""
        f, b, p = self.f, self.f.b, self.p

        def clear(i: Val, carried: list[Val]) -> list[Val]:
            b.store(self.absent, b.gep(self.t, tile, i), self.align)
            return carried

        size = const(I64, p.mr * p.nr)
        if p.blocks > 1:
            size = b.select(b.icmp("eq", k[0], const(I64, 0)), size, const(I64, 0))
        f.loop(const(I64, 0), size, p.lanes, [], clear, "clear")

        def block(k0: Val, carried: list[Val]) -> list[Val]:
            chain = f.extreme("smax", k0, needed[0]), self.beyond(k0, CONTRACT_BLOCK, needed[1])
            sums = self._chain(panels, start, k[0], chain, self.zeros)
            for at, v in zip(self.places, sums, strict=True):
                where = self.at(tile, at)
                old = b.load(v.ty, where, self.align)
                b.store(b.binary("fadd" if self.t.kind == "f" else "add", old, v), where, self.align)
            return carried

        first = needed[0] if not self.conditions else b.binary("and", needed[0], const(I64, -CONTRACT_BLOCK))
        f.loop(first, needed[1], CONTRACT_BLOCK, [], block, "block", certain=not self.conditions)

    def _continue(
        self,
        part: "_Running",
        panels: tuple[Val, Val],
        tile: Tile,
        rows: tuple[Val, Val],
        column: Val,
        base: Val,
        needed: tuple[Val, Val],
    ) -> None:
        """Goes on with the chains of a tile; at the end of a block these are added to the blocks before, at the end of
        all the epilogue runs."""
        f, b, p = self.f, self.f.b, self.p
        place = b.binary("mul", column, const(I64, p.whole_rows))
        place = b.binary("add", place, b.binary("mul", rows[0], const(I64, p.nr)))
        chains, totals = (b.gep(self.t, area, place) for area in (part.chains, part.sums))
        fresh = b.splat(part.fresh, p.lanes)
        align = self.t.bits // 8

        def work() -> None:
            old = [b.load(self.vector, self.at(chains, i), align) for i in self.places]
            new = self._chain(panels, (tile.first_row, tile.first_column), base, needed,
                              [b.select(fresh, z, x) for z, x in zip(self.zeros, old, strict=True)])  # fmt: skip
            f.choose(part.closes, lambda: close(new), lambda: keep(chains, new))

        def keep(at: Val, sums: Sequence[Val]) -> None:
            for i, v in zip(self.places, sums, strict=True):
                b.store(v, self.at(at, i), align)

        def close(chain: Sequence[Val]) -> None:
            if part.total > CONTRACT_BLOCK:
                first = b.splat(part.first, p.lanes)
                before = [b.load(self.vector, self.at(totals, i), align) for i in self.places]
                before = [b.select(first, self.absent, x) for x in before]
                op = "fadd" if self.t.kind == "f" else "add"
                chain = [b.binary(op, x, y) for x, y in zip(before, chain, strict=True)]
            keep(totals, chain)
            f.choose(part.ends, end, lambda: None)

        def end() -> None:
            run_epilogue(f, self.c.ending, replace(tile, place=totals), rows, column)

        if not self.conditions:
            work()
            return
        some = b.icmp("slt", *needed)
        f.choose(b.binary("or", some, b.binary("or", part.fresh, part.closes)), work, lambda: None)

    def _chain(
        self, panels: tuple[Val, Val], start: tuple[Val, Val], base: Val, k: tuple[Val, Val], sums: list[Val]
    ) -> list[Val]:
        """The accumulators of a tile, row by row, after the k of one block, from `sums`. Panels begin at k = `base`."""
        f, b, p = self.f, self.f.b, self.p

        def step(at: Val, sums: list[Val]) -> list[Val]:
            number = b.binary("sub", at, base)
            with f.scope((self.k, at)):
                ys = self._vectors(panels[1], start[1], number)
                xs = self._numbers(panels[0], start[0], number)
                return [multiply_add(f, xs[i // p.nv], ys[i % p.nv], z) for i, z in enumerate(sums)]

        return f.loop(*k, 1, sums, step, "chain", certain=self.k.extent > 0 and not self.conditions)

    def _vectors(self, panel: Val, start: Val, k: Val) -> list[Val]:
        """The columns of a tile at one step of k."""
        f, b, p = self.f, self.f.b, self.p
        if not p.direct.columns:
            line = b.gep(self.t, panel, b.binary("mul", k, const(I64, p.nr)))
            return [b.load(self.vector, self.at(line, v * p.lanes), self.t.bits // 8) for v in range(p.nv)]
        side, out = self.columns, []
        for v in range(p.nv):
            left = side.var.extent - v * p.lanes
            mask = first_lanes(left, p.lanes) if side.var.extent < p.nr and left < p.lanes else None
            at = b.binary("add", start, const(I64, v * p.lanes))
            with f.scope((side.var, at)), f.vectorised(side.var, p.lanes, mask, aligned=False):
                f.run(side.body)
                out.append(f.wide(f.values[side.value]))
        return out

    def _numbers(self, panel: Val, start: Val, k: Val) -> list[Val]:
        """The rows of a tile at one step of k, each in every lane."""
        f, b, p = self.f, self.f.b, self.p
        one, step = (p.stride, 1) if self.by_rows else (1, p.mr)
        column = b.gep(self.t, panel, b.binary("mul", k, const(I64, step)))
        out = []
        for r in range(p.mr):
            if p.direct.rows:
                with f.scope((self.rows.var, b.binary("add", start, const(I64, r)))):
                    f.run(self.rows.body)
                    x = f.values[self.rows.value]
            else:
                x = b.load(self.t, self.at(column, r * one), self.t.bits // 8)
            out.append(b.splat(x, p.lanes))
        return out
