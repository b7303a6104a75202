"""Contractions over windows: rows read where `codegen.windows` puts them, columns packed once, tiles in registers.

    for columns in blocks of NB:
      pack the columns' factor for all of k: panels of NR               (stays in L2)
      for outer rows, for strips of rows:
        evaluate the rows' factor                                       (stays in L2)
        for rows of the strip, for panels of columns, for MR consecutive rows of the innermost axis:
          for k in blocks of CONTRACT_BLOCK: tile = chain over the block; added to the blocks before
          the epilogue on the tile, along whichever side its memory is contiguous

The last MR rows of an axis end where the axis does: some are computed twice, none is stored twice. Where columns are
few the vectors are along the rows (`across`), for they can be read at any place. Where axes have phases, each unit is
of one phase and goes by a list of the k that count in it; chains end where they end in all of k.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod

from . import address
from .analysis import indices, statements
from .builder import I64, Ty, Val, const, register_type, ty
from .clone import Clone
from .epilogue import Epilogue, Tile, run_epilogue
from .flat import multiply_add
from .frame import Frame, first_lanes, lanes_before
from .index import ZERO, Index, Var, flatten, floordiv, of, unflatten
from .loops import CONTRACT_BLOCK, Buffer, Contract
from .pack import Side, pack, transpose
from .target import Target
from .tiling import OVERHEAD, chains_text, cycles, most_rows, panel_steps, prefers_rows
from .vectorize import round_up_to_power
from .windows import PARTS, Axis, Windows, knows_only_joint, windows

L2_COLUMNS = 1 << 20  # bytes of one block of packed columns
FIT = 256  # bytes past the end of panels and tiles that vectors may reach


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Sizes of one contraction over windows: `mr` rows by `nv` vectors of `lanes` columns in registers.

    `across`: `nv` vectors of rows by `mr` columns.
    """

    windows: Windows
    across: bool
    lanes: int
    mr: int
    nv: int
    nb: int
    n: int
    k: int
    depth: int
    size: int

    @property
    def nr(self) -> int:
        return self.nv * self.lanes

    @property
    def width(self) -> int:
        """Columns of a tile."""
        return self.mr if self.across else self.nr

    @property
    def rows(self) -> int:
        """Rows of a tile."""
        return self.nr if self.across else self.mr

    @property
    def along_columns(self) -> bool:
        """Whether threads share panels of columns, each evaluating all rows, for there are few strips of these."""
        return self.windows.units < min(PARTS, -(-self.n // self.width))

    @property
    def units(self) -> int:
        """Into how many parts the contraction can be split."""
        return -(-self.n // self.width) if self.along_columns else self.windows.units

    @property
    def parts(self) -> tuple[int, int, int, int]:
        """Bytes of the panels, of the evaluated rows, of the offsets of k and of one tile."""
        panels = self.nb * self.depth * self.size + FIT
        stage = (prod(self.windows.shape) + self.nr) * self.size + FIT
        tile = self.nr * (max(self.mr, self.lanes) + 1) * self.size
        table = 16 * self.depth + 8 * (self.depth // CONTRACT_BLOCK + 1) if self.windows.written else 8 * self.depth
        return _up(panels), _up(stage), _up(table), _up(tile + FIT)


    def __str__(self) -> str:
        """One line for people."""
        w, side = self.windows, "panels of columns" if self.along_columns else "strips"
        return (
            f"windows over {len(w.axes)} axes{' swapped' * w.swapped}: tile {self.mr}x{self.nv}x{self.lanes}"
            f"{' across' * self.across}, {w.strip} of {w.axes[0].row.extent} rows at a time as "
            f"{'x'.join(map(str, w.shape))}, packs columns, {self.nb} at a time, threads share {self.units} {side}, "
            f"{chains_text(self.k)}"
        )


def _up(n: int) -> int:
    return -(-n // 64) * 64


@lru_cache(16)
def layout(s: Contract, target: Target, how: str = "") -> Layout | None:
    """The sizes for a contraction over windows; None for any other contraction. `how`: one of `layouts`."""
    w = windows(s)
    if w is None:
        return None
    n, k = (prod(v.extent for v in group) for group in (s.m if w.swapped else s.n, s.k))
    _, across, lanes, mr, nv = next(c for c in _choices(s, w, target) if how in ("", _name(c)))
    depth = panel_steps(k)
    width = mr if across else nv * lanes
    nb = min(-(-n // width) * width, max(L2_COLUMNS // (depth * w.type.bytes) // width, 1) * width)
    return Layout(w, across, lanes, mr, nv, nb, n, k, depth, w.type.bytes)


def layouts(s: Contract, target: Target) -> list[str]:
    """The names of all layouts, the one that should cost least first; none for a contraction without windows."""
    w = windows(s)
    return [] if w is None else [_name(c) for c in _choices(s, w, target)]


_Choice = tuple[float, bool, int, int, int]  # cost, `across`, lanes, rows, vectors of a tile


def _name(choice: _Choice) -> str:
    _, across, _, mr, nv = choice
    return f"windows {mr}x{nv}{' across' * across}"


def _choices(s: Contract, w: Windows, target: Target) -> list[_Choice]:
    n, x = prod(v.extent for v in (s.m if w.swapped else s.n)), w.axes[-1].row.extent
    full = target.vector_bytes // w.type.bytes
    choices = list(_along_columns(n, x, full, target))
    if w.axes[-1].stride == 1:
        choices += _across(n, x, full, target)
    return sorted(choices)


def _along_columns(n: int, x: int, full: int, target: Target) -> Iterator[_Choice]:
    """Tiles with vectors of columns."""
    lanes = min(full, round_up_to_power(n))
    for nv in range(1, 5):
        for mr in range(1, min(most_rows(nv, target), x, lanes) + 1):
            yield cycles(mr, nv) * -(-x // mr) * -(-n // (nv * lanes)), False, lanes, mr, nv


def _across(n: int, x: int, full: int, target: Target) -> Iterator[_Choice]:
    """Tiles with vectors of rows, which are read at any place in memory: cost, `across`, lanes, columns, vectors."""
    lanes = min(full, round_up_to_power(x))
    for nv in range(1, 7):
        for mr in range(1, min(most_rows(nv, target), n) + 1):
            step = max(cycles(mr, nv), mr + 2 * nv + OVERHEAD)
            yield step * -(-n // mr) * -(-x // (nv * lanes)), True, lanes, mr, nv


class _Emitter:
    """What the loops of the module's docstring share."""

    def __init__(self, f: Frame, s: Contract, p: Layout) -> None:
        self.f, self.p, self.w = f, p, p.windows
        self.t: Ty = register_type(s.acc.type, 1)
        w = p.windows
        columns, body, value = (s.m, s.a_body, s.a) if w.swapped else (s.n, s.b_body, s.b)
        flat = {"n": Var(prod(v.extent for v in columns), "n"), "k": Var(prod(v.extent for v in s.k), "k")}
        replace: dict[Var, Index] = {}
        for name, group in (("n", columns), ("k", s.k)):
            joint = name == "k" and all(knows_only_joint(e, group) for x in statements(body) for e in indices(x))
            shape = tuple(v.extent for v in group)
            places = [*[ZERO] * (len(group) - 1), of(flat[name])] if joint else unflatten(of(flat[name]), shape)
            replace.update(zip(group, places, strict=True))
        replace.update(w.written)
        clone = Clone(replace)
        packed = clone.body(body)
        self.columns = Side(flat["n"], flat["k"], packed, clone.value(value), p.width)
        clone.new[id(s.acc)] = s.acc
        self.acc, self.epilogue = s.acc, clone.body(s.epilogue)
        self.ending = Epilogue(self.acc, self.epilogue, w.axes[-1].row, flat["n"])
        self.along_rows = not p.across and prefers_rows(s) != w.swapped
        self.k = s.k
        self.panels, stage, self.offsets, self.tile = f.areas(p.parts)
        self.stage = Buffer(w.type, prod(w.shape), "scratch", "rows")
        f.buffers[self.stage] = stage

    def loops(self, variables: tuple[Var, ...], body: Callable[[], None]) -> None:
        """Scalar loops over the variables, outermost first."""
        if not variables:
            body()
            return

        def step(i: Val, carried: list[Val]) -> list[Val]:
            with self.f.scope((variables[0], i)):
                self.loops(variables[1:], body)
            return carried

        self.f.loop(const(I64, 0), const(I64, variables[0].extent), 1, [], step)

    def run(self, begin: Val, end: Val) -> None:
        """The units ``[begin, end)``."""
        f, b, p = self.f, self.f.b, self.p
        if not self.w.written:
            self._offsets()
        lo, hi = const(I64, 0), const(I64, p.n)
        if p.along_columns:
            lo, hi = (b.binary("mul", x, const(I64, p.width)) for x in (begin, end))
            hi = f.extreme("smin", hi, const(I64, p.n))
            begin, end = const(I64, 0), const(I64, p.windows.units)

        def block(n0: Val, carried: list[Val]) -> list[Val]:
            n1 = f.extreme("smin", b.binary("add", n0, const(I64, p.nb)), hi)
            pack(f, self.columns, self.panels, n0, n1, const(I64, 0), const(I64, self.columns.k.extent), p.depth)

            def unit(u: Val, carried: list[Val]) -> list[Val]:
                self._unit(u, n0, n1)
                return carried

            f.loop(begin, end, 1, [], unit, "unit")
            return carried

        f.loop(lo, hi, p.nb, [], block, "columns")

    def _offsets(self) -> None:
        """Writes where each k lies from a row's position on, in bytes."""
        f, b = self.f, self.f.b
        number = flatten(map(of, self.k), [v.extent for v in self.k])
        offset = self.w.offset() * self.p.size

        def one() -> None:
            b.store(address.scalar(f, offset), b.gep(I64, self.offsets, address.scalar(f, number)), 8)

        self.loops(self.k, one)

    def _counted(self) -> None:
        """Writes of each k that counts in this phase where it lies from a row's position on and where in a panel.

        Chains end where they end in all of k: how many count until then is written behind.
        """
        f, b, p = self.f, self.f.b, self.p
        number = flatten(map(of, self.k), [v.extent for v in self.k])
        line = number * (p.width * p.size)
        count = f.alloca(I64)
        b.store(const(I64, 0), count, 8)

        def one() -> None:
            old = b.load(I64, count, 8)
            entry = b.gep(I64, self.offsets, b.binary("mul", old, const(I64, 2)))
            b.store(address.scalar(f, self.w.offset() * p.size), entry, 8)
            b.store(address.scalar(f, line), b.gep(I64, entry, const(I64, 1)), 8)
            taken = const(I64, 1)
            for axis in self.w.axes:
                if axis.phase is not None:
                    counts = b.icmp("eq", address.scalar(f, axis.rest), const(I64, 0))
                    taken = b.binary("and", taken, b.convert("zext", counts, I64))
            new = b.binary("add", old, taken)
            b.store(new, count, 8)
            block = address.scalar(f, floordiv(number, CONTRACT_BLOCK))
            b.store(new, b.gep(I64, self.offsets, b.binary("add", block, const(I64, 2 * p.depth))), 8)

        self.loops(self.k, one)

    def _unit(self, u: Val, n0: Val, n1: Val) -> None:
        """One strip of one outer row: evaluated, then multiplied."""
        f, b, w = self.f, self.f.b, self.w
        rest, strips = u, const(I64, w.strips)
        bound = []
        if w.strips > 1:
            rest, strip = b.binary("udiv", u, strips), b.binary("urem", u, strips)
            y0 = b.binary("mul", strip, const(I64, w.strip))
        else:
            y0 = const(I64, 0)
        for var in reversed(w.outer):
            size = const(I64, var.extent)
            bound.append((var, b.binary("urem", rest, size)))
            rest = b.binary("udiv", rest, size)
        axis = w.axes[0].row
        first = f.extreme("smin", y0, const(I64, axis.extent - w.strip))
        with f.scope(*bound, (w.first, first)):
            f.run(w.evaluation(self.stage))
            if w.written:
                self._counted()
            if len(w.axes) == 1:
                self._panels(n0, n1, y0)
                return
            y1 = f.extreme("smin", b.binary("add", y0, const(I64, w.strip)), address.scalar(f, w.axes[0].rows))
            self._rows(w.axes[:-1], (y0, y1), lambda: self._panels(n0, n1, const(I64, 0)))

    def _rows(self, axes: Sequence[Axis], some: tuple[Val, Val], body: Callable[[], None]) -> None:
        """Loops over `some` rows of the first axis and all of the others, outermost first."""

        def step(y: Val, carried: list[Val]) -> list[Val]:
            with self.f.scope((axes[0].row, y)):
                if len(axes) == 1:
                    body()
                else:
                    self._rows(axes[1:], (const(I64, 0), address.scalar(self.f, axes[1].rows)), body)
            return carried

        self.f.loop(*some, 1, [], step, "row")

    def _panels(self, n0: Val, n1: Val, x0: Val) -> None:
        """Every panel of columns against a line of rows along the innermost axis."""
        f, b, p = self.f, self.f.b, self.p
        x = self.w.axes[-1].row
        end = address.scalar(f, self.w.axes[-1].rows)
        if len(self.w.axes) == 1:
            end = f.extreme("smin", b.binary("add", x0, const(I64, self.w.strip)), end)

        def across(n: Val, carried: list[Val]) -> list[Val]:
            panel = b.gep(self.t, self.panels, b.binary("mul", b.binary("sub", n, n0), const(I64, p.depth)))

            def tile(at: Val, carried: list[Val]) -> list[Val]:
                start = f.extreme("smin", at, const(I64, max(x.extent - p.rows, 0)))
                self._tile(panel, start)
                stop = f.extreme("smin", b.binary("add", at, const(I64, p.rows)), end)
                if p.across:
                    self._epilogue_across(n, n1, start, at, stop)
                elif self.along_rows:
                    self._epilogue_along_rows(n, n1, start, at, stop)
                else:
                    run_epilogue(f, self.ending, Tile(self.tile, p.nr, p.lanes, start, n), (at, stop), n)
                return carried

            f.loop(x0, end, p.rows, [], tile, "tile")
            return carried

        f.loop(n0, n1, p.width, [], across, "panel")

    def _tile(self, panel: Val, start: Val) -> None:
        """The sums of MR rows from `start` on, left in memory: row by row, or column by column."""
        f, b, p = self.f, self.f.b, self.p
        last = self.w.axes[-1]
        with f.scope((last.row, start)):
            base = address.pointer(f, self.stage, self.w.position(), self.t)
        vector, align = self.t.with_lanes(p.lanes), p.size
        steps = self.columns.k.extent
        byte = ty("i", 8)

        def step(k: Val, sums: list[Val]) -> list[Val]:
            if self.w.written:
                entry = b.gep(I64, self.offsets, b.binary("mul", k, const(I64, 2)))
                offset = b.load(I64, entry, 8)
                line = b.gep(byte, panel, b.load(I64, b.gep(I64, entry, const(I64, 1)), 8))
            else:
                offset = b.load(I64, b.gep(I64, self.offsets, k), 8)
                line = b.gep(self.t, panel, b.binary("mul", k, const(I64, p.width)))
            row = b.gep(byte, base, offset)
            vectors, numbers, stride = (row, line, 1) if p.across else (line, row, last.stride)
            ys = [b.load(vector, b.gep(self.t, vectors, const(I64, v * p.lanes)), align) for v in range(p.nv)]
            out = []
            for r in range(p.mr):
                x = b.splat(b.load(self.t, b.gep(self.t, numbers, const(I64, r * stride)), align), p.lanes)
                mine = sums[r * p.nv : (r + 1) * p.nv]
                out += [multiply_add(f, x, y, z) for y, z in zip(ys, mine, strict=True)]
            return out

        zeros = [const(vector, 0)] * (p.mr * p.nv)
        if steps <= CONTRACT_BLOCK:
            self._keep(f.loop(*self._block(const(I64, 0)), 1, zeros, step, "chain"))
            return

        def block(k0: Val, carried: list[Val]) -> list[Val]:
            sums = f.loop(*self._block(k0), 1, zeros, step, "chain", certain=not self.w.written)
            for i, v in enumerate(sums):
                where = b.gep(self.t, self.tile, const(I64, i * p.lanes))
                b.store(b.binary("fadd", b.load(vector, where, align), v), where, align)
            return carried

        for i in range(p.mr * p.nv):
            b.store(const(vector, -0.0), b.gep(self.t, self.tile, const(I64, i * p.lanes)), align)

        f.loop(const(I64, 0), const(I64, steps), CONTRACT_BLOCK, [], block, "k")
        if self.along_rows:
            whole = range(p.mr * p.nv)
            self._keep([b.load(vector, b.gep(self.t, self.tile, const(I64, i * p.lanes)), align) for i in whole])

    def _block(self, k0: Val) -> tuple[Val, Val]:
        """From which step to which the chain goes that starts at k0."""
        f, b = self.f, self.f.b
        if not self.w.written:
            end = b.binary("add", k0, const(I64, CONTRACT_BLOCK))
            return k0, f.extreme("smin", end, const(I64, self.columns.k.extent))
        ends = b.gep(I64, self.offsets, const(I64, 2 * self.p.depth))
        block = b.binary("udiv", k0, const(I64, CONTRACT_BLOCK))
        previous = f.extreme("smax", b.binary("sub", block, const(I64, 1)), const(I64, 0))
        before = b.load(I64, b.gep(I64, ends, previous), 8)
        start = b.select(b.icmp("eq", block, const(I64, 0)), const(I64, 0), before)
        return start, b.load(I64, b.gep(I64, ends, block), 8)

    def _keep(self, sums: list[Val]) -> None:
        b, p = self.f.b, self.p
        if not self.along_rows:
            for i, v in enumerate(sums):
                b.store(v, b.gep(self.t, self.tile, const(I64, i * p.lanes)), p.size)
            return
        for number in range(p.nv):
            for j, column in enumerate(transpose(self.f, sums[number :: p.nv])):
                b.store(column, b.gep(self.t, self.tile, const(I64, (number * p.lanes + j) * p.lanes)), p.size)

    def _whole(self, rows: int) -> bool:
        """Whether all tiles of so many rows are whole."""
        last = self.w.axes[-1]
        return not last.ragged and last.row.extent % rows == 0 and (len(self.w.axes) > 1 or self.w.strips == 1)

    def _epilogue_across(self, n: Val, n1: Val, start: Val, at: Val, stop: Val) -> None:
        """For each column of the tile the rows ``[at, stop)`` in vectors."""
        f, b, p = self.f, self.f.b, self.p
        x = self.w.axes[-1].row
        whole = self._whole(p.nr)
        skipped = b.binary("sub", at, start)
        left = b.binary("sub", stop, at)

        def column(j: Val, carried: list[Val]) -> list[Val]:
            line = b.binary("mul", b.binary("sub", j, n), const(I64, p.nr))
            places = b.gep(self.t, self.tile, b.binary("add", line, skipped))
            for i in range(0, p.nr, p.lanes):
                mask = None
                if not whole:
                    here = f.extreme("smax", b.binary("sub", left, const(I64, i)), const(I64, 0))
                    mask = lanes_before(f, here, p.lanes)
                acc = b.load(self.t.with_lanes(p.lanes), b.gep(self.t, places, const(I64, i)), p.size)
                row = b.binary("add", at, const(I64, i))
                with f.scope((self.columns.var, j), (x, row)), f.vectorised(x, p.lanes, mask, aligned=False):
                    f.values[self.acc] = acc
                    f.run(self.epilogue)
            return carried

        f.loop(n, f.extreme("smin", b.binary("add", n, const(I64, p.width)), n1), 1, [], column, "epilogue")

    def _epilogue_along_rows(self, n: Val, n1: Val, start: Val, at: Val, stop: Val) -> None:
        """For each column of the tile the rows ``[at, stop)`` as one vector."""
        f, b, p = self.f, self.f.b, self.p
        x = self.w.axes[-1].row
        skipped = b.binary("sub", at, start)
        whole = self._whole(p.mr)
        if whole:
            mask = None if p.mr == p.lanes else first_lanes(p.mr, p.lanes)
        else:
            mask = lanes_before(f, b.binary("sub", stop, at), p.lanes)

        def column(j: Val, carried: list[Val]) -> list[Val]:
            line = b.binary("mul", b.binary("sub", j, n), const(I64, p.lanes))
            where = b.gep(self.t, self.tile, b.binary("add", line, skipped))
            acc = b.load(self.t.with_lanes(p.lanes), where, p.size)
            with f.scope((self.columns.var, j)), f.scope((x, at)), f.vectorised(x, p.lanes, mask, aligned=False):
                f.values[self.acc] = acc
                f.run(self.epilogue)
            return carried

        f.loop(n, f.extreme("smin", b.binary("add", n, const(I64, p.nr)), n1), 1, [], column, "epilogue")


def contract_windows(f: Frame, s: Contract, begin: Val | None, end: Val | None, p: Layout) -> None:
    """Emits the contraction, for a range of its units or all of them."""
    if begin is None or end is None:
        begin, end = const(I64, 0), const(I64, p.units)
    _Emitter(f, s, p).run(begin, end)
