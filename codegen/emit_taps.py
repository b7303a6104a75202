"""Contractions over windows with few places and long sums, as the gradient of a convolution's weights.

The rows are taps of a window (with channels around), k goes over places and, outermost, over a batch. Iterations of
that outermost variable are taken one at a time: only their columns are packed, only their rows are put in memory as
`codegen.windows` says, and the tile of all taps reads both from the second cache.

    for outer rows in blocks of UNITS:
      for the outermost variable of k:
        for columns in blocks of NB:
          pack the columns' factor: panels of NR
          for outer rows of the block:
            evaluate the rows' factor
            for panels of columns, for tiles of taps: continue the chains of the tile
      the epilogue on all tiles

A chain of CONTRACT_BLOCK steps may go over several iterations: a tile keeps, beside its total, the chain that is not at
its end.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from math import prod

from . import address
from .analysis import indices, statements
from .builder import I64, Val, const, register_type, ty
from .clone import Clone
from .flat import multiply_add
from .frame import Frame, lanes_before
from .index import ZERO, Index, Var, of, unflatten
from .loops import CONTRACT_BLOCK, Buffer, Contract
from .pack import Side, pack
from .target import Target
from .tiling import MOST_VECTORS, chains_text, cycles, most_rows, panel_steps
from .vectorize import round_up_to_power
from .windows import Windows, knows_only_joint, windows

LONG = 2048  # steps of k from which this is worth it
SPAN = 64  # of which at least so many are taken at a time
MOST_ROWS = 14  # taps in a tile
PANELS = 1 << 20  # bytes of packed columns at a time
TILES = 1 << 20  # bytes of tiles at a time
FIT = 256  # bytes past the end of panels that vectors may reach


@dataclass(frozen=True, slots=True, eq=False)
class Taps:
    """Sizes: tiles of `mr` taps (of the innermost `inner` axes) by `nv` vectors; `span` steps of k at a time."""

    windows: Windows
    inner: int
    lanes: int
    mr: int
    nv: int
    nb: int
    n: int
    k: int
    span: int
    group: int

    @property
    def nr(self) -> int:
        return self.nv * self.lanes

    @property
    def taps(self) -> int:
        return prod(axis.row.extent for axis in self.windows.axes)

    @property
    def groups(self) -> int:
        """Tiles of the taps of one outer row."""
        return self.taps // self.mr

    @property
    def outer(self) -> int:
        return prod(v.extent for v in self.windows.outer)

    @property
    def units(self) -> int:
        """Independent parts: groups of taps of every outer row."""
        return self.outer * self.groups

    @property
    def panels(self) -> int:
        return -(-self.n // self.nr)

    @property
    def unit_tiles(self) -> int:
        """Elements of the tiles of one unit, chains and totals."""
        return 2 * self.panels * self.nr * self.taps

    @property
    def parts(self) -> tuple[int, int, int, int]:
        """Bytes of the panels, of the evaluated rows, of the offsets of k and of the tiles."""
        size = self.windows.type.bytes
        stage = prod(self.windows.shape[1:]) * size
        panels = self.nb * panel_steps(self.span) * size + FIT
        tiles = self.group * self.unit_tiles * size
        return _up(panels, 64), _up(stage, 64), _up(8 * self.span, 64), _up(tiles, 64)

    def __str__(self) -> str:
        """One line for people."""
        return (
            f"{self.outer}x{self.taps} taps x{self.n}x{self.k}{' swapped' * self.windows.swapped}: tile "
            f"{self.mr}x{self.nv}x{self.lanes}, {self.span} steps of k at a time, packs columns, {self.nb} at a time, "
            f"threads share {self.units} groups of taps, {chains_text(self.k)}"
        )


def _up(n: int, unit: int) -> int:
    return -(-n // unit) * unit


@lru_cache(16)
def taps(s: Contract, target: Target) -> Taps | None:
    """The sizes for a contraction over windows with few places and long sums; None for any other."""
    w = windows(s, strips=False)
    if w is None or not w.channels or w.channels[0] is not s.k[0] or len(s.k) != len(w.channels) + _tapped(w):
        return None
    n, k = (prod(v.extent for v in group) for group in (s.m if w.swapped else s.n, s.k))
    span = k // s.k[0].extent
    sizes = [axis.row.extent for axis in w.axes]
    inner = next((i for i in range(1, len(sizes) + 1) if prod(sizes[-i:]) > MOST_ROWS), len(sizes) + 1) - 1
    if k < LONG or span < SPAN or inner == 0 or prod(w.shape[1:]) * w.type.bytes > 8 * PANELS:
        return None
    mr = prod(sizes[-inner:])
    lanes = min(target.vector_bytes // w.type.bytes, round_up_to_power(n))
    sizes_of = [v for v in range(1, MOST_VECTORS + 1) if mr <= most_rows(v, target)]
    nv = min(sizes_of or [1], key=lambda v: cycles(mr, v) * -(-n // (v * lanes)))
    nr = nv * lanes
    nb = min(_up(n, nr), max(PANELS // (span * w.type.bytes) // nr, 1) * nr)
    each = 2 * _up(n, nr) * prod(sizes) * w.type.bytes
    group = min(max(TILES // each, 1), max(prod(v.extent for v in w.outer), 1))
    return Taps(w, inner, lanes, mr, nv, nb, n, k, span, group)


def _tapped(w: Windows) -> int:
    return sum(axis.tap is not None for axis in w.axes)


def contract_taps(f: Frame, s: Contract, begin: Val | None, end: Val | None, p: Taps) -> None:
    """Emits the contraction, for a range of its units or all of them."""
    if begin is None or end is None:
        begin, end = const(I64, 0), const(I64, p.units)
    _Taps(f, s, p).run(begin, end)


class _Taps:
    def __init__(self, f: Frame, s: Contract, p: Taps) -> None:
        self.f, self.p, self.w = f, p, p.windows
        self.t = register_type(s.acc.type, 1)
        self.vector = self.t.with_lanes(p.lanes)
        self.align = self.t.bits // 8
        w = p.windows
        columns, body, value = (s.m, s.a_body, s.a) if w.swapped else (s.n, s.b_body, s.b)
        n, k = Var(p.n, "n"), Var(p.k, "k")
        replace = dict(zip(columns, unflatten(of(n), tuple(v.extent for v in columns)), strict=True))
        joint = all(knows_only_joint(e, s.k[1:]) for x in statements(body) for e in indices(x))
        split = 1 if joint else len(s.k) - 1
        around, along = (Var(prod(v.extent for v in group), "k") for group in (s.k[:split], s.k[split:]))
        replace.update(zip(s.k[:split], unflatten(of(around), tuple(v.extent for v in s.k[:split])), strict=True))
        replace.update(zip(s.k[split:], (*[ZERO] * (len(s.k) - split - 1), of(along)), strict=True))
        clone = Clone(replace)
        packed = clone.body(body)
        self.columns = Side(n, k, packed, clone.value(value), p.nr, pieces=(around, along))
        clone.new[id(s.acc)] = s.acc
        self.acc, self.epilogue = s.acc, clone.body(s.epilogue)
        self.k = s.k
        self.panels, stage, self.offsets, self.tiles = f.areas(p.parts)
        self.stage = Buffer(w.type, prod(w.shape[1:]), "scratch", "rows")
        f.buffers[self.stage] = stage

    def product(self, a: Val, size: int) -> Val:
        return self.f.b.binary("mul", a, const(I64, size))

    def run(self, begin: Val, end: Val) -> None:
        f, b, p = self.f, self.f.b, self.p
        self._write_offsets()
        turns = const(I64, self.k[0].extent)

        groups = const(I64, p.groups)
        first = b.binary("udiv", begin, groups)
        last = b.binary("udiv", b.binary("add", end, const(I64, p.groups - 1)), groups)

        def units(u0: Val, carried: list[Val]) -> list[Val]:
            u1 = f.extreme("smin", b.binary("add", u0, const(I64, p.group)), last)
            self._clear(b.binary("sub", u1, u0))
            f.loop(const(I64, 0), turns, 1, [], partial(turn, (u0, u1)), "turn")
            f.loop(u0, u1, 1, [], partial(finish, u0), "finish")
            return carried

        def turn(u: tuple[Val, Val], at: Val, carried: list[Val]) -> list[Val]:
            f.loop(const(I64, 0), const(I64, p.n), p.nb, [], partial(columns, u, at), "columns")
            return carried

        def columns(u: tuple[Val, Val], at: Val, n0: Val, carried: list[Val]) -> list[Val]:
            n1 = f.extreme("smin", b.binary("add", n0, const(I64, p.nb)), const(I64, p.n))
            k0 = self.product(at, p.span)
            k1 = b.binary("add", k0, const(I64, p.span))
            pack(f, self.columns, self.panels, n0, n1, k0, k1, panel_steps(p.span))
            f.loop(*u, 1, [], partial(unit, u[0], at, (n0, n1)), "unit")
            return carried

        def unit(u0: Val, at: Val, n: tuple[Val, Val], u: Val, carried: list[Val]) -> list[Val]:
            with f.scope(*self._outer(u), (self.k[0], at), (self.w.first, const(I64, 0))):
                f.run(self.w.evaluation(self.stage, given=1))
            tiles = b.gep(self.t, self.tiles, self.product(b.binary("sub", u, u0), p.unit_tiles))
            f.loop(*n, p.nr, [], partial(panel, tiles, at, n[0], groups_of(u)), "panel")
            return carried

        def groups_of(u: Val) -> tuple[Val, Val]:
            """Which groups of taps of an outer row are in the range."""
            start = self.product(u, p.groups)
            lo = f.extreme("smax", b.binary("sub", begin, start), const(I64, 0))
            return lo, f.extreme("smin", b.binary("sub", end, start), const(I64, p.groups))

        def panel(tiles: Val, at: Val, n0: Val, which: tuple[Val, Val], n: Val, carried: list[Val]) -> list[Val]:
            number = self.product(b.binary("sub", n, n0), panel_steps(p.span))
            self._panel(b.gep(self.t, self.panels, number), self._of_panel(tiles, n), at, which)
            return carried

        def finish(u0: Val, u: Val, carried: list[Val]) -> list[Val]:
            tiles = b.gep(self.t, self.tiles, self.product(b.binary("sub", u, u0), p.unit_tiles))
            with f.scope(*self._outer(u)):
                lo, hi = (self.product(g, p.mr) for g in groups_of(u))
                f.loop(const(I64, 0), const(I64, p.n), p.lanes, [], partial(self._finish, tiles, (lo, hi)), "epilogue")
            return carried

        f.loop(first, last, p.group, [], units, "units")

    def _of_panel(self, tiles: Val, n: Val) -> Val:
        """Where the tiles of the panel at column n are: the totals of all taps, then their chains."""
        return self.f.b.gep(self.t, tiles, self.product(n, 2 * self.p.taps))

    def _outer(self, u: Val) -> list[tuple[Var, Val]]:
        b, bound, rest = self.f.b, [], u
        for var in reversed(self.w.outer):
            size = const(I64, var.extent)
            bound.append((var, b.binary("urem", rest, size)))
            rest = b.binary("udiv", rest, size)
        return bound

    def _write_offsets(self) -> None:
        """Writes where each step of k lies from a row's position on, in bytes."""
        f, b = self.f, self.f.b
        shape = [v.extent for v in self.k[1:]]
        k = Var(self.p.span, "k")
        places = dict(zip(self.k[1:], unflatten(of(k), tuple(shape)), strict=True))
        offset = Clone(places).index(self.w.offset(given=1)) * self.w.type.bytes

        def one(at: Val, carried: list[Val]) -> list[Val]:
            with f.scope((k, at)):
                b.store(address.scalar(f, offset), b.gep(I64, self.offsets, at), 8)
            return carried

        f.loop(const(I64, 0), const(I64, self.p.span), 1, [], one, "offset")

    def _clear(self, units: Val) -> None:
        """Totals begin as -0.0, chains as 0.0."""
        b, p = self.f.b, self.p
        half = p.nr * p.taps

        def one(i: Val, carried: list[Val]) -> list[Val]:
            place = b.gep(self.t, self.tiles, i)
            for start, value in ((0, -0.0), (half, 0.0)):
                for at in range(start, start + half, p.lanes):
                    b.store(const(self.vector, value), b.gep(self.t, place, const(I64, at)), self.align)
            return carried

        self.f.loop(const(I64, 0), self.product(units, p.unit_tiles), 2 * half, [], one, "clear")

    def _panel(self, panel: Val, tiles: Val, at: Val, groups: tuple[Val, Val]) -> None:
        """Continues the chains of some groups of taps over the steps of k of iteration `at`."""
        f, b, p = self.f, self.f.b, self.p
        first = self.product(at, p.span)
        last = b.binary("add", first, const(I64, p.span))
        block = const(I64, CONTRACT_BLOCK)
        around = [axis.row for axis in self.w.axes[: -p.inner]]
        inner = [axis.row for axis in self.w.axes[-p.inner :]]
        which = Var(p.groups, "taps")
        places = dict(zip(around, unflatten(of(which), tuple(v.extent for v in around)), strict=True))
        position = Clone({**places, **dict.fromkeys(inner, ZERO)}).index(self.w.position())
        shape = tuple(v.extent for v in inner)
        displacements = []
        for r in range(p.mr):
            at_tap = dict(zip(inner, unflatten(Index({}, r), shape), strict=True))
            e = Clone({**dict.fromkeys(around, ZERO), **at_tap, self.w.first: ZERO}).index(self.w.position())
            displacements.append(e.const)

        def group(g: Val, carried: list[Val]) -> list[Val]:
            totals = b.gep(self.t, tiles, self.product(g, p.mr * p.nr))
            with f.scope((which, g), (self.w.first, const(I64, 0))):
                base = address.pointer(f, self.stage, position, self.t)
            start = b.binary("sdiv", first, block)
            stop = b.binary("sdiv", b.binary("add", last, const(I64, CONTRACT_BLOCK - 1)), block)
            f.loop(start, stop, 1, [], partial(chain, totals, base), "block", certain=True)
            return carried

        def chain(totals: Val, base: Val, q: Val, carried: list[Val]) -> list[Val]:
            begin = b.binary("mul", q, block)
            end = b.binary("add", begin, block)
            lo = b.binary("sub", f.extreme("smax", begin, first), first)
            hi = b.binary("sub", f.extreme("smin", end, last), first)
            reached = b.binary("or", b.icmp("sle", end, last), b.icmp("eq", last, const(I64, p.k)))
            done = b.splat(reached, p.lanes)
            chains = b.gep(self.t, totals, const(I64, p.taps * p.nr))
            offsets = range(0, p.mr * p.nr, p.lanes)
            sums = [b.load(self.vector, b.gep(self.t, chains, const(I64, i)), self.align) for i in offsets]
            sums = f.loop(lo, hi, 1, sums, partial(step, base), "chain", certain=True)
            for i, v in zip(offsets, sums, strict=True):
                place = b.gep(self.t, totals, const(I64, i))
                old = b.load(self.vector, place, self.align)
                b.store(b.binary("fadd", old, b.select(done, v, const(self.vector, -0.0))), place, self.align)
                rest = b.select(done, const(self.vector, 0), v)
                b.store(rest, b.gep(self.t, chains, const(I64, i)), self.align)
            return carried

        def step(base: Val, k: Val, sums: list[Val]) -> list[Val]:
            row = b.gep(ty("i", 8), base, b.load(I64, b.gep(I64, self.offsets, k), 8))
            line = b.gep(self.t, panel, self.product(k, p.nr))
            ys = [b.load(self.vector, b.gep(self.t, line, const(I64, v * p.lanes)), self.align) for v in range(p.nv)]
            out = []
            for r, d in enumerate(displacements):
                x = b.splat(b.load(self.t, b.gep(self.t, row, const(I64, d)), self.align), p.lanes)
                mine = sums[r * p.nv : (r + 1) * p.nv]
                out += [multiply_add(f, x, y, z) for y, z in zip(ys, mine, strict=True)]
            return out

        f.loop(*groups, 1, [], group, "taps")

    def _finish(self, tiles: Val, taps: tuple[Val, Val], n: Val, carried: list[Val]) -> list[Val]:
        """The epilogue for a vector of columns from n on, tap by tap."""
        f, b, p = self.f, self.f.b, self.p
        inside = b.binary("urem", n, const(I64, p.nr))
        totals = b.gep(self.t, self._of_panel(tiles, b.binary("sub", n, inside)), inside)
        which = Var(p.taps, "tap")
        rows = [axis.row for axis in self.w.axes]
        places = unflatten(of(which), tuple(v.extent for v in rows))

        def tap(i: Val, carried: list[Val]) -> list[Val]:
            acc = b.load(self.vector, b.gep(self.t, totals, self.product(i, p.nr)), self.align)
            with f.scope((which, i)):
                bound = [(v, address.scalar(f, e)) for v, e in zip(rows, places, strict=True)]
                with f.scope(*bound, (self.columns.var, n)):
                    mask = None
                    if p.n % p.lanes:
                        mask = lanes_before(f, b.binary("sub", const(I64, p.n), n), p.lanes)
                    with f.vectorised(self.columns.var, p.lanes, mask, aligned=True):
                        f.values[self.acc] = acc
                        f.run(self.epilogue)
            return carried

        f.loop(*taps, 1, [], tap, "tap")
        return carried
