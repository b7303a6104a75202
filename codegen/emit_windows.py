"""Contractions over windows: rows read where `codegen.windows` puts them, columns packed once, tiles in registers.

    for columns in blocks of NB:
      pack the columns' factor for all of k: panels of NR               (stays in L2)
      for outer rows, for strips of rows:
        evaluate the rows' factor                                       (stays in L2)
        for rows of the strip, for panels of columns, for MR consecutive rows of the innermost axis:
          for k in blocks of CONTRACT_BLOCK: tile = chain over the block; added to the blocks before
          the epilogue on the tile, along whichever side its memory is contiguous

The last MR rows of an axis end where the axis does: some are computed twice, none is stored twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod

from . import address
from .analysis import indices, statements
from .builder import I64, Ty, Val, const, register_type, ty
from .clone import Clone
from .emit_contract import FMA_LATENCY, L2_COLUMNS, OVERHEAD, multiply_add, prefers_rows
from .frame import Frame, first_lanes, lane_numbers
from .index import ZERO, Index, Var, flatten, of, unflatten
from .loops import CONTRACT_BLOCK, Buffer, Contract
from .pack import STEP, Side, pack, transpose
from .target import Target
from .vectorize import hidden, round_up_to_power
from .windows import Windows, windows

FIT = 256  # bytes past the end of panels and tiles that vectors may reach


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Sizes of one contraction over windows: `mr` rows by `nv` vectors of `lanes` columns in registers."""

    windows: Windows
    lanes: int
    mr: int
    nv: int
    nb: int
    depth: int
    size: int

    @property
    def nr(self) -> int:
        return self.nv * self.lanes

    @property
    def parts(self) -> tuple[int, int, int, int]:
        """Bytes of the panels, of the evaluated rows, of the offsets of k and of one tile."""
        panels = self.nb * self.depth * self.size + FIT
        stage = prod(self.windows.shape) * self.size
        tile = self.nr * max(self.mr, self.lanes) * self.size
        return _up(panels), _up(stage), _up(8 * self.depth), _up(tile + FIT)


def _up(n: int) -> int:
    return -(-n // 64) * 64


@lru_cache(16)
def layout(s: Contract, target: Target) -> Layout | None:
    """The sizes for a contraction over windows; None for any other contraction."""
    w = windows(s)
    if w is None:
        return None
    n, k = (prod(v.extent for v in group) for group in (s.m if w.swapped else s.n, s.k))
    x = w.axes[-1].row.extent
    full = target.vector_bytes // w.type.bytes
    lanes = min(full, round_up_to_power(n))
    budget = 4 if not target.has_fma else 28 if target.registers == 32 else 12
    best: tuple[float, int, int] | None = None
    for nv in range(1, 5):
        for mr in range(1, min(max(budget // nv, 1), x, lanes) + 1):
            step = max(mr * nv / 2, (mr + nv) / 2, FMA_LATENCY) + OVERHEAD
            cost = step * -(-x // mr) * -(-n // (nv * lanes))
            if best is None or cost < best[0]:
                best = cost, mr, nv
    assert best is not None
    _, mr, nv = best
    depth = -(-k // STEP) * STEP
    nr = nv * lanes
    nb = min(-(-n // nr) * nr, max(L2_COLUMNS // (depth * w.type.bytes) // nr, 1) * nr)
    return Layout(w, lanes, mr, nv, nb, depth, w.type.bytes)


def _knows_only_joint(e: Index, group: Sequence[Var]) -> bool:
    """Whether an index knows of the variables no more than their row-major joint number."""
    last = e.coefficient(group[-1])
    shape = [v.extent for v in group]
    plain = all(e.coefficient(v) == last * prod(shape[i + 1 :]) for i, v in enumerate(group))
    return plain and not any(hidden(e, v) for v in group)


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
            joint = name == "k" and all(_knows_only_joint(e, group) for x in statements(body) for e in indices(x))
            shape = tuple(v.extent for v in group)
            places = [*[ZERO] * (len(group) - 1), of(flat[name])] if joint else unflatten(of(flat[name]), shape)
            replace.update(zip(group, places, strict=True))
        clone = Clone(replace)
        packed = clone.body(body)
        self.columns = Side(flat["n"], flat["k"], packed, clone.value(value), p.nr)
        clone.new[id(s.acc)] = s.acc
        self.acc, self.epilogue = s.acc, clone.body(s.epilogue)
        self.along_rows = prefers_rows(s) != w.swapped
        self.k = s.k
        arena = f.arena
        assert arena is not None and f.vector is None
        areas = []
        for part in p.parts:
            areas.append(arena)
            arena = f.b.gep(ty("i", 8), arena, const(I64, part))
        self.panels, stage, self.offsets, self.tile = areas
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
        self._offsets()
        extent = self.columns.var.extent

        def block(n0: Val, carried: list[Val]) -> list[Val]:
            n1 = f.extreme("smin", b.binary("add", n0, const(I64, p.nb)), const(I64, extent))
            pack(f, self.columns, self.panels, n0, n1, const(I64, 0), const(I64, self.columns.k.extent), p.depth)

            def unit(u: Val, carried: list[Val]) -> list[Val]:
                self._unit(u, n0, n1)
                return carried

            f.loop(begin, end, 1, [], unit, "unit")
            return carried

        f.loop(const(I64, 0), const(I64, extent), p.nb, [], block, "columns")

    def _offsets(self) -> None:
        """Writes where each k lies from a row's position on, in bytes."""
        f, b = self.f, self.f.b
        number = flatten(map(of, self.k), [v.extent for v in self.k])
        offset = self.w.offset() * self.p.size

        def one() -> None:
            b.store(address.scalar(f, offset), b.gep(I64, self.offsets, address.scalar(f, number)), 8)

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
            if len(w.axes) == 1:
                self._panels(n0, n1, y0)
                return
            y1 = f.extreme("smin", b.binary("add", y0, const(I64, w.strip)), const(I64, axis.extent))

            def row(y: Val, carried: list[Val]) -> list[Val]:
                with f.scope((axis, y)):
                    self.loops(tuple(a.row for a in w.axes[1:-1]), lambda: self._panels(n0, n1, const(I64, 0)))
                return carried

            f.loop(y0, y1, 1, [], row, "row")

    def _panels(self, n0: Val, n1: Val, x0: Val) -> None:
        """Every panel of columns against a line of rows along the innermost axis."""
        f, b, p = self.f, self.f.b, self.p
        x = self.w.axes[-1].row
        end = const(I64, x.extent)
        if len(self.w.axes) == 1:
            end = f.extreme("smin", b.binary("add", x0, const(I64, self.w.strip)), end)

        def across(n: Val, carried: list[Val]) -> list[Val]:
            panel = b.gep(self.t, self.panels, b.binary("mul", b.binary("sub", n, n0), const(I64, p.depth)))

            def tile(at: Val, carried: list[Val]) -> list[Val]:
                start = f.extreme("smin", at, const(I64, x.extent - p.mr))
                self._tile(panel, start)
                stop = f.extreme("smin", b.binary("add", at, const(I64, p.mr)), end)
                if self.along_rows:
                    self._epilogue_along_rows(n, n1, start, at, stop)
                else:
                    self._epilogue_along_columns(n, start, at, stop)
                return carried

            f.loop(x0, end, p.mr, [], tile, "tile")
            return carried

        f.loop(n0, n1, p.nr, [], across, "panel")

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
            offset = b.load(I64, b.gep(I64, self.offsets, k), 8)
            row = b.gep(byte, base, offset)
            line = b.gep(self.t, panel, b.binary("mul", k, const(I64, p.nr)))
            factors = [b.load(vector, b.gep(self.t, line, const(I64, v * p.lanes)), align) for v in range(p.nv)]
            out = []
            for r in range(p.mr):
                factor = b.splat(b.load(self.t, b.gep(self.t, row, const(I64, r * last.stride)), align), p.lanes)
                mine = sums[r * p.nv : (r + 1) * p.nv]
                out += [multiply_add(f, factor, y, z) for y, z in zip(factors, mine, strict=True)]
            return out

        zeros = [const(vector, 0)] * (p.mr * p.nv)
        if steps <= CONTRACT_BLOCK:
            self._keep(f.loop(const(I64, 0), const(I64, steps), 1, zeros, step, "chain"))
            return

        def block(k0: Val, carried: list[Val]) -> list[Val]:
            k1 = f.extreme("smin", b.binary("add", k0, const(I64, CONTRACT_BLOCK)), const(I64, steps))
            sums = f.loop(k0, k1, 1, zeros, step, "chain", certain=True)
            first = b.icmp("eq", k0, const(I64, 0))
            for i, v in enumerate(sums):
                where = b.gep(self.t, self.tile, const(I64, i * p.lanes))
                old = b.select(first, const(vector, -0.0), b.load(vector, where, align))
                b.store(b.binary("fadd", old, v), where, align)
            return carried

        f.loop(const(I64, 0), const(I64, steps), CONTRACT_BLOCK, [], block, "k")
        if self.along_rows:
            whole = range(p.mr * p.nv)
            self._keep([b.load(vector, b.gep(self.t, self.tile, const(I64, i * p.lanes)), align) for i in whole])

    def _keep(self, sums: list[Val]) -> None:
        b, p = self.f.b, self.p
        if not self.along_rows:
            for i, v in enumerate(sums):
                b.store(v, b.gep(self.t, self.tile, const(I64, i * p.lanes)), p.size)
            return
        for number in range(p.nv):
            for j, column in enumerate(transpose(self.f, sums[number :: p.nv])):
                b.store(column, b.gep(self.t, self.tile, const(I64, (number * p.lanes + j) * p.lanes)), p.size)

    def _epilogue_along_rows(self, n: Val, n1: Val, start: Val, at: Val, stop: Val) -> None:
        """For each column of the tile the rows ``[at, stop)`` as one vector."""
        f, b, p = self.f, self.f.b, self.p
        x = self.w.axes[-1].row
        skipped = b.binary("sub", at, start)
        whole = x.extent % p.mr == 0 and (len(self.w.axes) > 1 or self.w.strips == 1)
        if whole:
            mask = None if p.mr == p.lanes else first_lanes(p.mr, p.lanes)
        else:
            left = b.splat(b.binary("sub", stop, at), p.lanes)
            mask = b.icmp("slt", lane_numbers(ty("i", 64, p.lanes)), left)

        def column(j: Val, carried: list[Val]) -> list[Val]:
            line = b.binary("mul", b.binary("sub", j, n), const(I64, p.lanes))
            where = b.gep(self.t, self.tile, b.binary("add", line, skipped))
            acc = b.load(self.t.with_lanes(p.lanes), where, p.size)
            with f.scope((self.columns.var, j)), f.scope((x, at)), f.vectorised(x, p.lanes, mask, aligned=False):
                f.values[self.acc] = acc
                f.run(self.epilogue)
            return carried

        f.loop(n, f.extreme("smin", b.binary("add", n, const(I64, p.nr)), n1), 1, [], column, "epilogue")

    def _epilogue_along_columns(self, n: Val, start: Val, at: Val, stop: Val) -> None:
        """For each of the rows ``[at, stop)`` the columns of the tile in vectors."""
        f, b, p = self.f, self.f.b, self.p
        var, x = self.columns.var, self.w.axes[-1].row
        full = var.extent // p.lanes * p.lanes

        def row(i: Val, carried: list[Val]) -> list[Val]:
            line = b.gep(self.t, self.tile, b.binary("mul", b.binary("sub", i, start), const(I64, p.nr)))

            def vectors(mask: Val | None) -> Callable[[Val, list[Val]], list[Val]]:
                def one(j: Val, carried: list[Val]) -> list[Val]:
                    where = b.gep(self.t, line, b.binary("sub", j, n))
                    acc = b.load(self.t.with_lanes(p.lanes), where, p.size)
                    with f.scope((var, j)), f.vectorised(var, p.lanes, mask, aligned=True):
                        f.values[self.acc] = acc
                        f.run(self.epilogue)
                    return carried

                return one

            end = b.binary("add", n, const(I64, p.nr))
            with f.scope((x, i)):
                if full:
                    upto = f.extreme("smin", end, const(I64, full))
                    f.loop(n, upto, p.lanes, [], vectors(None), "epilogue")
                if full < var.extent:
                    mask = first_lanes(var.extent - full, p.lanes)
                    upto = f.extreme("smin", end, const(I64, var.extent))
                    f.loop(f.extreme("smax", n, const(I64, full)), upto, p.lanes, [], vectors(mask), "epilogue")
            return carried

        f.loop(at, stop, 1, [], row, "epilogue")


def contract_windows(f: Frame, s: Contract, p: Layout, begin: Val | None, end: Val | None) -> None:
    """Emits the contraction, for a range of its units or all of them."""
    if begin is None or end is None:
        begin, end = const(I64, 0), const(I64, p.windows.units)
    _Emitter(f, s, p).run(begin, end)
