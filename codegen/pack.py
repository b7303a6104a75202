"""Packing one side of a contraction: its factor, evaluated for a block, as panels that the inner kernel reads in order.

A panel holds `width` consecutive elements of the side's variable for each k: ``panel[k][r]``. The factor is evaluated
in vectors along the side's variable; or, where memory is contiguous along k only, along k, the vectors of a panel's
rows being transposed in registers. A panel whose numbers are read one by one needs no transposition: there it is
``panel[r][k]``. What lies past the end of the variable is never read; its place holds anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .address import lane_step
from .ahead import prefetch
from .analysis import statements
from .builder import I64, Ty, Val, const, register_type
from .frame import Frame, first_lanes, lanes_before
from .index import Index, Var, unmask
from .loops import Contract, Load, Loop, Reduce, Stmt, Update, Value
from .memory import MAX_STRIDE
from .tiling import L3, STEP
from .vectorize import round_up_to_power

STRIP = 8  # steps of k packed for all panels before the next: memory is read in long rows, as many as a cache set holds


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One factor: `value` is defined by `body` from `var` (a row or column number) and `k`.

    `numbers`: it is read number by number, not in vectors along `var`. `pieces`: memory along k is a line in pieces
    only; then the body knows k as ``pieces[0] * pieces[1].extent + pieces[1]``.
    """

    var: Var
    k: Var
    body: Sequence[Stmt]
    value: Value
    width: int
    numbers: bool = False
    pieces: tuple[Var, Var] | None = None

    @property
    def along(self) -> Var:
        """The variable that steps with k, within a piece."""
        return self.k if self.pieces is None else self.pieces[1]

    def at(self, f: Frame, k: Val) -> list[tuple[Var, Val]]:
        """What the variables of k are at `k`."""
        if self.pieces is None:
            return [(self.k, k)]
        around, along = self.pieces
        size = const(I64, along.extent)
        return [(around, f.b.binary("udiv", k, size)), (along, f.b.binary("urem", k, size))]

    @property
    def element(self) -> Ty:
        return register_type(self.value.type, 1)


def pack(f: Frame, side: Side, panels: Val, lo: Val, hi: Val, k0: Val, k1: Val, depth: int) -> None:
    """Fills the panels of ``[lo, hi)`` for k in ``[k0, k1)``; `lo` is a multiple of the width, `depth` k a panel."""
    b = f.b
    extent, width = side.var.extent, side.width
    full = extent // width * width

    def panel(count: int, x: Val, start: Val, end: Val, carried: list[Val]) -> list[Val]:
        offset = b.binary("mul", b.binary("sub", x, lo), const(I64, depth))
        _panel(f, side, b.gep(side.element, panels, offset), x, count, (k0, start, end), depth)
        return carried

    def panels_of(k0: Val, k1: Val) -> None:
        if full:
            f.loop(
                lo, f.extreme("smin", hi, const(I64, full)), width, [], lambda x, c: panel(width, x, k0, k1, c), "pack"
            )
        if full < extent:
            start = f.extreme("smax", lo, const(I64, full))
            f.loop(start, hi, width, [], lambda x, c: panel(extent - full, x, k0, k1, c), "pack")

    def strip(k: Val, carried: list[Val]) -> list[Val]:
        panels_of(k, f.extreme("smin", b.binary("add", k, const(I64, STRIP)), k1))
        return carried

    if _goes_along_k(f, side):
        panels_of(k0, k1)
    else:
        f.loop(k0, k1, STRIP, [], strip, "strip")


def is_by_rows(f: Frame, side: Side) -> bool:
    """Whether panels are ``panel[r][k]``, with the panel's depth from row to row."""
    return side.numbers and _goes_along_k(f, side)


def _panel(f: Frame, side: Side, panel: Val, x: Val, count: int, k: tuple[Val, Val, Val], depth: int) -> None:
    """Part of a panel that starts at k[0]: what lies in ``[k[1], k[2])``."""
    lanes = _lanes(f, side)
    if is_by_rows(f, side):
        _by_rows(f, side, panel, x, count, k, lanes, depth)
    elif _is_nested(side):
        _along_var(f, side, panel, x, count, k, 1)
    elif _goes_along_k(f, side):
        _along_k(f, side, panel, x, count, k, lanes)
    else:
        _along_var(f, side, panel, x, count, k, min(lanes, round_up_to_power(side.width)))


def _lanes(f: Frame, side: Side) -> int:
    return min(f.target.vector_bytes * 8 // side.element.bits, STEP)


def _is_nested(side: Side) -> bool:
    return any(isinstance(s, (Loop, Reduce, Contract, Update)) for s in side.body)


def _goes_along_k(f: Frame, side: Side) -> bool:
    lanes = _lanes(f, side)
    return not _is_nested(side) and side.k.extent >= lanes and _contiguous_in_k(side, lanes)


def _contiguous_in_k(side: Side, lanes: int) -> bool:
    """Whether some load steps by one along k, and none does along the side's own variable."""

    def near(e: Index, var: Var, lanes: int, most: int = 1) -> bool:
        return (lane_step(e, var, lanes, lambda _: None) or 0) in range(1, most + 1)

    loads = [unmask(s.index) for s in statements(side.body) if isinstance(s, Load)]
    across = lanes if side.width % lanes == 0 else 0
    if any(near(e, side.var, across) for e in loads):
        return False
    if side.pieces is None:
        return any(near(e, side.k, lanes) for e in loads)
    return any(near(e, side.along, 0, MAX_STRIDE) for e in loads)


def _along_var(f: Frame, side: Side, panel: Val, x: Val, count: int, ks: tuple[Val, Val, Val], lanes: int) -> None:
    """For each k a few vectors, written in order: one that is wider than its place is overwritten by what follows."""
    b, t = f.b, side.element
    first, k0, k1 = ks
    aligned = side.width % lanes == 0

    def step(k: Val, carried: list[Val]) -> list[Val]:
        row = b.gep(t, panel, b.binary("mul", b.binary("sub", k, first), const(I64, side.width)))
        with f.scope(*side.at(f, k)):
            for start in range(0, count, lanes):
                left = count - start
                mask = None if left >= lanes else first_lanes(left, lanes)
                at = b.binary("add", x, const(I64, start))
                with f.scope((side.var, at)), f.vectorised(side.var, lanes, mask, aligned):
                    f.run(side.body)
                    value = f.wide(f.values[side.value])
                b.store(value, b.gep(t, row, const(I64, start)), t.bits // 8)
        return carried

    with f.scope((side.var, x)):
        f.loop(k0, k1, 1, [], step, "pack")


def _by_rows(
    f: Frame, side: Side, panel: Val, x: Val, count: int, ks: tuple[Val, Val, Val], lanes: int, depth: int
) -> None:
    """Each row as it is, one after another."""
    b, t = f.b, side.element
    first, k0, k1 = ks

    def row(r: Val, carried: list[Val]) -> list[Val]:
        line = b.gep(t, panel, b.binary("mul", r, const(I64, depth)))

        def vector(k: Val, mask: Val | None) -> None:
            with f.scope(*side.at(f, k)), f.vectorised(side.along, lanes, mask, aligned=side.pieces is None):
                f.run(side.body)
                value = f.wide(f.values[side.value])
            b.store(value, b.gep(t, line, b.binary("sub", k, first)), t.bits // 8)

        with f.scope((side.var, b.binary("add", x, r))):
            _vectors(f, side, (k0, k1), lanes, vector)
        return carried

    f.loop(const(I64, 0), const(I64, count), 1, [], row, "pack")


def _vectors(
    f: Frame, side: Side, ks: tuple[Val, Val], lanes: int, body: Callable[[Val, Val | None], None], large: bool = False
) -> None:
    """``body(k, mask)`` for vectors along k. The last one, of each piece, is masked, and what it yields past its end is
    anything: what comes next overwrites it. A `large` body is written once, with a mask for all."""
    b = f.b
    (k0, k1), extent = ks, side.k.extent
    large = large and f.target.masks

    def until(end: Val) -> Callable[[Val], Val]:
        return lambda k: lanes_before(f, b.binary("sub", end, k), lanes)

    def loop(lo: Val, hi: Val, mask: Callable[[Val], Val | None]) -> None:
        def step(k: Val, carried: list[Val]) -> list[Val]:
            body(k, mask(k))
            return carried

        f.loop(lo, hi, lanes, [], step, "pack")

    if side.pieces is None:
        whole = extent // lanes * lanes
        if large and whole < extent:
            loop(k0, k1, until(k1))
            return
        if whole:
            loop(k0, f.extreme("smin", k1, const(I64, whole)), lambda _: None)
        if whole < extent:
            loop(f.extreme("smax", k0, const(I64, whole)), k1, lambda _: first_lanes(extent - whole, lanes))
        return
    size = const(I64, side.along.extent)

    def piece(q: Val, carried: list[Val]) -> list[Val]:
        start = b.binary("mul", q, size)
        lo, hi = f.extreme("smax", start, k0), f.extreme("smin", b.binary("add", start, size), k1)
        if large:
            loop(lo, hi, until(hi))
            return carried
        middle = b.binary("add", lo, b.binary("and", b.binary("sub", hi, lo), const(I64, -lanes)))
        loop(lo, middle, lambda _: None)
        loop(middle, hi, until(hi))
        return carried

    past = b.binary("udiv", b.binary("add", k1, const(I64, side.along.extent - 1)), size)
    f.loop(b.binary("udiv", k0, size), past, 1, [], piece, "piece")


def _along_k(f: Frame, side: Side, panel: Val, x: Val, count: int, ks: tuple[Val, Val, Val], lanes: int) -> None:
    """Squares of `lanes` rows and as many k: rows are loaded, their transpose is stored.

    A panel of one row is stored as it is. Squares that fill the panel are done one after the other, each for all k: no
    more rows are read side by side than one has. The columns of others are stored k by k over all squares, so that one
    that is wider than its place is overwritten by what follows.
    """
    b, t = f.b, side.element
    first, k0, k1 = ks
    far = side.var.extent * side.k.extent * t.bits // 8 > L3

    def square(k: Val, mask: Val | None, start: Val, rows: int) -> list[Val]:
        loaded: list[Val] = []
        places, aligned = side.at(f, k), side.pieces is None
        for r in range(rows):
            at = b.binary("add", b.binary("add", x, start), const(I64, r))
            with f.scope((side.var, at), *places), f.vectorised(side.along, lanes, mask, aligned):
                if far:
                    prefetch(f, side.body, side.along, side.var, lanes)
                f.run(side.body)
                loaded.append(f.wide(f.values[side.value]))
        return transpose(f, loaded) if side.width > 1 else loaded

    def write(k: Val, squares: list[tuple[Val, list[Val]]]) -> None:
        place = b.gep(t, panel, b.binary("mul", b.binary("sub", k, first), const(I64, side.width)))
        for j in range(lanes if side.width > 1 else 1):
            for start, columns in squares:
                where = b.gep(t, b.gep(t, place, start), const(I64, j * side.width))
                b.store(columns[j], where, t.bits // 8)

    def strip(starts: Sequence[tuple[Val, int]]) -> None:
        def vectors(k: Val, mask: Val | None) -> None:
            write(k, [(start, square(k, mask, start, rows)) for start, rows in starts])

        _vectors(f, side, (k0, k1), lanes, vectors, large=True)

    def one(start: Val, carried: list[Val]) -> list[Val]:
        strip([(start, lanes)])
        return carried

    looped = count // lanes * lanes if side.width % lanes == 0 else 0
    f.loop(const(I64, 0), const(I64, looped), lanes, [], one, "square")
    if looped < count:
        strip([(const(I64, s), min(count - s, lanes)) for s in range(looped, count, lanes)])


def transpose(f: Frame, rows: list[Val]) -> list[Val]:
    """Column j of the rows (at most as many as lanes), for every lane j; rows that are missing give anything.

    Butterflies: at distance d, rows r and r + d exchange the blocks of d lanes off the diagonal.
    """
    b = f.b
    lanes = rows[0].ty.lanes
    grid = [*rows, *[Val("poison", rows[0].ty)] * (lanes - len(rows))]
    d = 1
    while d < lanes:
        for r in range(lanes):
            if r & d or grid[r].ref == "poison":
                continue
            x, y = grid[r], grid[r + d]
            low = [i if not i & d else lanes + i - d for i in range(lanes)]
            high = [i + d if not i & d else lanes + i for i in range(lanes)]
            grid[r], grid[r + d] = b.shuffle(x, y, low), b.shuffle(x, y, high)
        d *= 2
    return grid
