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
is computed twice is stored once.
"""

from __future__ import annotations

from functools import partial

from .builder import I64, Val, const, ty
from .combine import identity, wide_type
from .epilogue import Tile, finish_sums, is_short, run_epilogue
from .flat import Flat, multiply_add
from .frame import Frame, first_lanes
from .loops import CONTRACT_BLOCK, Contract
from .pack import Side, is_by_rows, pack
from .tiling import Tiling


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
        self.absent = identity("sum", wide_type(s.acc.type), p.lanes)
        self.row_panels, self.column_panels, self.tiles = f.areas(p.parts)

    def at(self, base: Val, offset: int) -> Val:
        return self.f.b.gep(self.t, base, const(I64, offset))

    def beyond(self, start: Val, step: int, end: Val) -> Val:
        """Where a block of at most `step` from `start` on ends."""
        return self.f.extreme("smin", self.f.b.binary("add", start, const(I64, step)), end)

    # blocks ---------------------------------------------------------------------------------------------------
    def run(self, begin: Val | None, end: Val | None) -> None:
        f, b, p = self.f, self.f.b, self.p
        rows, columns = ((const(I64, 0), const(I64, side.var.extent)) for side in (self.rows, self.columns))
        if begin is not None and end is not None:
            side = self.columns if p.along_columns else self.rows
            lo = b.binary("mul", begin, const(I64, side.width))
            hi = f.extreme("smin", b.binary("mul", end, const(I64, side.width)), const(I64, side.var.extent))
            rows, columns = (rows, (lo, hi)) if p.along_columns else ((lo, hi), columns)

        def column_block(n0: Val, carried: list[Val]) -> list[Val]:
            n = n0, self.beyond(n0, p.nb, columns[1])
            f.loop(*rows, p.mb, [], partial(row_block, n), "rows")
            return carried

        def row_block(n: tuple[Val, Val], m0: Val, carried: list[Val]) -> list[Val]:
            m = m0, self.beyond(m0, p.mb, rows[1])
            f.loop(const(I64, 0), const(I64, max(self.k.extent, 1)), p.depth, [], partial(k_block, n, m), "k")
            return carried

        def k_block(n: tuple[Val, Val], m: tuple[Val, Val], k0: Val, carried: list[Val]) -> list[Val]:
            k = k0, self.beyond(k0, p.depth, const(I64, self.k.extent))
            if not p.direct.columns:
                pack(f, self.columns, self.column_panels, *n, *k, p.stride)
            f.loop(*m, p.mc, [], partial(rows_block, n, m, k), "rows")
            return carried

        def rows_block(
            n: tuple[Val, Val], m: tuple[Val, Val], k: tuple[Val, Val], i0: Val, carried: list[Val]
        ) -> list[Val]:
            i = i0, self.beyond(i0, p.mc, m[1])
            if not p.direct.rows:
                pack(f, self.rows, self.row_panels, *i, *k, p.stride)
            self._tiles(n, m[0], i, k)
            return carried

        f.loop(*columns, p.nb, [], column_block, "columns")

    def _tiles(self, n: tuple[Val, Val], m0: Val, i: tuple[Val, Val], k: tuple[Val, Val]) -> None:
        """All tiles of a block of rows against a block of columns."""
        f, b, p = self.f, self.f.b, self.p

        def across(at: Val, carried: list[Val]) -> list[Val]:
            column = b.binary("sub", at, n[0])
            panel = b.gep(self.t, self.column_panels, b.binary("mul", column, const(I64, p.stride)))
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
            if self.k.extent > CONTRACT_BLOCK:
                self._sums(tile, panels, (first, start), k)
                run_epilogue(f, self.c.ending, Tile(tile, p.nr, p.lanes, first, start), (m, end), at)
                return carried
            sums = self._chain(panels, (first, start), k[0], k)

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

    def _inside(self, side: Side, at: Val) -> Val:
        """Where a tile that is not packed starts: so that all of it exists."""
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
        if self.columns.var.extent % p.nr:
            fits = b.icmp("sle", n, const(I64, self.columns.var.extent - p.nr))
            out = fits if out.ref == "true" else b.binary("and", out, fits)
        return out

    # one tile ---------------------------------------------------------------------------------------------------
    def _sums(self, tile: Val, panels: tuple[Val, Val], start: tuple[Val, Val], k: tuple[Val, Val]) -> None:
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
            sums = self._chain(panels, start, k[0], (k0, self.beyond(k0, CONTRACT_BLOCK, k[1])))
            for at, v in zip(self.places, sums, strict=True):
                where = self.at(tile, at)
                old = b.load(v.ty, where, self.align)
                b.store(b.binary("fadd" if self.t.kind == "f" else "add", old, v), where, self.align)
            return carried

        f.loop(*k, CONTRACT_BLOCK, [], block, "block", certain=True)

    def _chain(self, panels: tuple[Val, Val], start: tuple[Val, Val], base: Val, k: tuple[Val, Val]) -> list[Val]:
        """The accumulators of a tile, row by row, after the k of one block, from zero. Panels begin at k = `base`."""
        f, b, p = self.f, self.f.b, self.p

        def step(at: Val, sums: list[Val]) -> list[Val]:
            number = b.binary("sub", at, base)
            with f.scope((self.k, at)):
                ys = self._vectors(panels[1], start[1], number)
                xs = self._numbers(panels[0], start[0], number)
                return [multiply_add(f, xs[i // p.nv], ys[i % p.nv], z) for i, z in enumerate(sums)]

        zeros = [const(self.vector, 0)] * (p.mr * p.nv)
        return f.loop(*k, 1, zeros, step, "chain", certain=self.k.extent > 0)

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
