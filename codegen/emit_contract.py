"""Contractions: packed panels, a tile of accumulators in registers, the epilogue tile by tile.

Whatever the tiling, an element is a chain of fused multiply-adds per CONTRACT_BLOCK consecutive k, from zero, and the
blocks are added in order; so tile sizes and the choice of the vector side never show in the bits.

    for columns in blocks of NB:
      for rows in blocks of MB:
        for k in blocks of CONTRACT_BLOCK:
          pack the columns' factor: panels of NR                       (stays in L2)
          for rows in blocks of MC:
            pack the rows' factor: panels of MR                        (stays in L2)
            for each panel of columns (stays in L1), for each panel of rows:
              tile = chain over the block's k; added to the block before, if any
              after the last block: the epilogue on the tile
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import prod

from .analysis import indices, statements
from .builder import I64, Ty, Val, const, register_type
from .clone import Clone
from .combine import identity, wide_type
from .frame import Frame, first_lanes
from .index import Index, Var, of, unflatten
from .loops import CONTRACT_BLOCK, Acc, Contract, Loop, Reduce, Stmt, Store, Update
from .ops import to_memory, to_register
from .pack import STEP, Side, pack
from .scalar import Type
from .target import Target
from .vectorize import hidden, round_up_to_power

L1_PANEL = 32 << 10  # bytes of one panel of columns
L2_ROWS = 192 << 10  # bytes of one block of packed rows
L2_COLUMNS = 1 << 20  # bytes of one block of packed columns
TILES = 4 << 20  # bytes of unfinished tiles
UNIT = 96  # rows m that one step of a split outer range covers: a multiple of every panel width
FMA_LATENCY = 4
OVERHEAD = 0.75  # cycles that one step of k costs besides its loads and multiplications


@dataclass(frozen=True, slots=True)
class Plan:
    """Block sizes of one contraction. `swapped`: the rows are n and the columns (the vector side) m."""

    swapped: bool
    lanes: int
    mr: int
    nv: int
    mc: int
    nb: int
    mb: int
    depth: int
    blocks: int
    element_bytes: int

    @property
    def nr(self) -> int:
        return self.nv * self.lanes

    @property
    def tile(self) -> int:
        """Elements of one tile."""
        return self.mr * self.nr

    @property
    def row_bytes(self) -> int:
        return _up(self.mc * self.depth * self.element_bytes + 256, 64)

    @property
    def column_bytes(self) -> int:
        return self.nb * self.depth * self.element_bytes + 256

    @property
    def bytes(self) -> int:
        tiles = self.mb * self.nb if self.blocks > 1 else self.tile
        return _up(self.row_bytes + self.column_bytes + tiles * self.element_bytes, 64)


def _up(n: int, unit: int) -> int:
    return -(-n // unit) * unit


def _shape(target: Target, element_bytes: int, rows: int, columns: int) -> tuple[float, int, int, int]:
    """The cheapest register tile: (cost in cycles per k, lanes, rows, vectors)."""
    lanes = min(max(target.vector_bytes // element_bytes, 1), round_up_to_power(columns), 32)
    budget = 4 if not target.has_fma else 24 if target.registers == 32 else 12
    best: tuple[float, int, int, int] | None = None
    for nv in range(1, 9):
        if nv > 1 and (nv - 1) * lanes >= columns:
            break
        if UNIT % (nv * lanes):
            continue
        for mr in (d for d in range(1, min(max(budget // nv, 1), max(rows, 1)) + 1) if UNIT % d == 0):
            step = max(mr * nv / 2, (mr + nv) / 2, FMA_LATENCY)
            if nv * lanes * element_bytes * CONTRACT_BLOCK > L1_PANEL:
                step *= 1.1
            cost = (step + OVERHEAD) * -(-rows // mr) * -(-columns // (nv * lanes))
            if best is None or cost < best[0]:
                best = cost, lanes, mr, nv
    assert best is not None
    return best


def plan(s: Contract, target: Target) -> Plan:
    """Tile and block sizes by the extents and the target alone."""
    m, n, k = (max(prod(v.extent for v in group), 1) for group in (s.m, s.n, s.k))
    return _plan(m, n, k, wide_type(s.acc.type).bytes, prefers_rows(s), target)


@cache
def _plan(m: int, n: int, k: int, size: int, prefers_rows: bool, target: Target) -> Plan:
    straight, crossed = _shape(target, size, m, n), _shape(target, size, n, m)
    penalty = 1 / 1.15 if prefers_rows else 1.15
    swapped = crossed[0] * penalty < straight[0]
    _, lanes, mr, nv = crossed if swapped else straight
    rows, columns = (n, m) if swapped else (m, n)
    depth = min(CONTRACT_BLOCK, _up(k, STEP)) + 1  # a row over: the last one is stored as whole vectors
    blocks = -(-k // CONTRACT_BLOCK)
    mc = min(_up(rows, mr), max(L2_ROWS // (depth * size) // mr, 1) * mr)
    nr = nv * lanes
    nb = min(_up(columns, nr), max(L2_COLUMNS // (depth * size) // nr, 1) * nr)
    mb = _up(rows, mr) if blocks == 1 else min(_up(rows, mr), max(TILES // (nb * size) // mc, 1) * mc)
    return Plan(swapped, lanes, mr, nv, mc, nb, mb, depth, blocks, size)


def prefers_rows(s: Contract) -> bool:
    """Whether the epilogue's memory is contiguous along m and not along n."""

    def contiguous(group: tuple[Var, ...]) -> bool:
        return any(
            isinstance(e, Store) and i.coefficient(v) == 1 and not hidden(i, v)
            for e in statements(s.epilogue)
            for i in indices(e)
            for v in group
        )

    return contiguous(s.m) and not contiguous(s.n)


def contract_scratch(s: Contract, target: Target) -> int:
    """Bytes of scratch memory that panels and unfinished tiles take."""
    return plan(s, target).bytes


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """A contraction over single variables, its sides sorted out."""

    rows: Side
    columns: Side
    k: Var
    acc: Acc
    epilogue: list[Stmt]
    plan: Plan
    element: Ty


def _flat(s: Contract, p: Plan) -> Operation:
    """The contraction with each group of variables flattened to one."""
    flat = {name: Var(prod(v.extent for v in group), name) for name, group in (("m", s.m), ("n", s.n), ("k", s.k))}
    replace: dict[Var, Index] = {}
    for name, group in (("m", s.m), ("n", s.n), ("k", s.k)):
        shape = tuple(max(v.extent, 1) for v in group)
        replace.update(zip(group, unflatten(of(flat[name]), shape), strict=True))
    clone = Clone(replace)
    new = clone.contract(s)
    element = register_type(s.acc.type, 1)
    m, n, k = flat["m"], flat["n"], flat["k"]
    a, b = (m, new.a_body, new.a), (n, new.b_body, new.b)
    rows, columns = (b, a) if p.swapped else (a, b)
    return Operation(
        Side(rows[0], k, rows[1], rows[2], p.mr),
        Side(columns[0], k, columns[1], columns[2], p.nr),
        k,
        new.acc,
        new.epilogue,
        p,
        element,
    )


def contract_units(s: Contract) -> int:
    """How many steps of `UNIT` rows m a contraction has."""
    return -(-prod(v.extent for v in s.m) // UNIT)


def contract(f: Frame, s: Contract, begin: Val | None = None, end: Val | None = None) -> None:
    """Emits the loop nest of the module's docstring, for the units ``[begin, end)`` of m or all of it."""
    p = plan(s, f.target)
    op = _flat(s, p)
    b = f.b
    arena = f.arena
    assert arena is not None and f.vector is None
    byte = register_type(Type("u8", "u", 8), 1)
    a_panels = arena
    b_panels = b.gep(byte, arena, const(I64, p.row_bytes))
    tiles = b.gep(byte, b_panels, const(I64, p.column_bytes))
    depth = op.k.extent
    ranges = {side: (const(I64, 0), const(I64, side.var.extent)) for side in (op.rows, op.columns)}
    if begin is not None and end is not None:
        side = op.columns if p.swapped else op.rows
        stop = b.binary("mul", end, const(I64, UNIT))
        ranges[side] = (
            b.binary("mul", begin, const(I64, UNIT)),
            f.extreme("smin", stop, const(I64, side.var.extent)),
        )
    (row_lo, row_hi), (column_lo, column_hi) = ranges[op.rows], ranges[op.columns]

    def column_block(n0: Val, carried: list[Val]) -> list[Val]:
        n1 = f.extreme("smin", b.binary("add", n0, const(I64, p.nb)), column_hi)

        def row_block(m0: Val, carried: list[Val]) -> list[Val]:
            m1 = f.extreme("smin", b.binary("add", m0, const(I64, p.mb)), row_hi)

            def k_block(k0: Val, carried: list[Val]) -> list[Val]:
                k1 = f.extreme("smin", b.binary("add", k0, const(I64, CONTRACT_BLOCK)), const(I64, depth))
                pack(f, op.columns, b_panels, n0, n1, k0, k1, p.depth)

                def rows_block(i0: Val, carried: list[Val]) -> list[Val]:
                    i1 = f.extreme("smin", b.binary("add", i0, const(I64, p.mc)), m1)
                    pack(f, op.rows, a_panels, i0, i1, k0, k1, p.depth)
                    _tiles(f, op, a_panels, b_panels, tiles, (n0, n1), (m0, i0, i1), (k0, k1))
                    return carried

                f.loop(m0, m1, p.mc, [], rows_block, "rows")
                return carried

            f.loop(const(I64, 0), const(I64, max(depth, 1)), CONTRACT_BLOCK, [], k_block, "k")
            return carried

        f.loop(row_lo, row_hi, p.mb, [], row_block, "rows")
        return carried

    f.loop(column_lo, column_hi, p.nb, [], column_block, "columns")


def _tiles(
    f: Frame,
    op: Operation,
    a_panels: Val,
    b_panels: Val,
    tiles: Val,
    columns: tuple[Val, Val],
    rows: tuple[Val, Val, Val],
    k: tuple[Val, Val],
) -> None:
    """All tiles of a block of packed rows against a block of packed columns."""
    b, p, t = f.b, op.plan, op.element
    (n0, n1), (m0, i0, i1), (k0, k1) = columns, rows, k
    steps = b.binary("sub", k1, k0)

    def across(n: Val, carried: list[Val]) -> list[Val]:
        b_panel = b.gep(t, b_panels, b.binary("mul", b.binary("sub", n, n0), const(I64, p.depth)))
        column = b.binary("mul", b.binary("sub", n, n0), const(I64, p.mb))

        def down(m: Val, carried: list[Val]) -> list[Val]:
            a_panel = b.gep(t, a_panels, b.binary("mul", b.binary("sub", m, i0), const(I64, p.depth)))
            sums = _chains(f, op, a_panel, b_panel, steps)
            tile = tiles
            rows_left = f.extreme("smin", b.binary("add", m, const(I64, p.mr)), i1)
            if p.blocks > 1:
                row = b.binary("mul", b.binary("sub", m, m0), const(I64, p.nr))
                tile = b.gep(t, tiles, b.binary("add", column, row))
                sums = _added(f, op, tile, sums, b.icmp("eq", k0, const(I64, 0)))
                last = b.icmp("eq", k1, const(I64, op.k.extent))
                rows_left = b.select(last, rows_left, m)
            for i, v in enumerate(sums):
                b.store(v, b.gep(t, tile, const(I64, i * p.lanes)), t.bits // 8)
            _epilogue(f, op, tile, m, rows_left, n)
            return carried

        f.loop(i0, i1, p.mr, [], down, "tile")
        return carried

    f.loop(n0, n1, p.nr, [], across, "panel")


def _chains(f: Frame, op: Operation, a_panel: Val, b_panel: Val, steps: Val) -> list[Val]:
    """The accumulators of a tile, row by row, after one block of k from zero."""
    b, p, t = f.b, op.plan, op.element
    vector = t.with_lanes(p.lanes)
    align = t.bits // 8

    def step(k: Val, sums: list[Val]) -> list[Val]:
        row = b.gep(t, b_panel, b.binary("mul", k, const(I64, p.nr)))
        column = b.gep(t, a_panel, b.binary("mul", k, const(I64, p.mr)))
        factors = [b.load(vector, b.gep(t, row, const(I64, v * p.lanes)), align) for v in range(p.nv)]
        out = []
        for r in range(p.mr):
            x = b.splat(b.load(t, b.gep(t, column, const(I64, r)), align), p.lanes)
            out += [multiply_add(f, x, y, z) for y, z in zip(factors, sums[r * p.nv : (r + 1) * p.nv], strict=True)]
        return out

    zeros = [const(vector, 0)] * (p.mr * p.nv)
    return f.loop(const(I64, 0), steps, 1, zeros, step, "chain", certain=op.k.extent > 0)


def multiply_add(f: Frame, x: Val, y: Val, z: Val) -> Val:
    if x.ty.kind == "f":
        return f.b.fma(x, y, z)
    return f.b.binary("add", f.b.binary("mul", x, y), z)


def _added(f: Frame, op: Operation, tile: Val, sums: list[Val], first: Val) -> list[Val]:
    """The sums added to those of the blocks before; to -0.0, which changes nothing, in the first block."""
    b, t = f.b, op.element
    out = []
    for i, v in enumerate(sums):
        old = b.load(v.ty, b.gep(t, tile, const(I64, i * op.plan.lanes)), t.bits // 8)
        old = b.select(first, identity("sum", wide_type(op.acc.type), v.ty.lanes), old)
        out.append(b.binary("fadd" if t.kind == "f" else "add", old, v))
    return out


def _epilogue(f: Frame, op: Operation, tile: Val, m: Val, m_end: Val, n: Val) -> None:
    """The epilogue for rows ``[m, m_end)`` of a tile and its columns from n on, in vectors where it allows them."""
    b, p, t = f.b, op.plan, op.element
    extent = op.columns.var.extent
    lanewise = not any(isinstance(s, (Loop, Reduce, Contract, Update)) for s in op.epilogue)
    lanes = p.lanes if lanewise else 1
    full = extent // lanes * lanes

    def row(i: Val, carried: list[Val]) -> list[Val]:
        line = b.gep(t, tile, b.binary("mul", b.binary("sub", i, m), const(I64, p.nr)))

        def vector(j: Val, width: int, mask: Val | None) -> None:
            where = b.gep(t, line, b.binary("sub", j, n))
            acc = b.load(t.with_lanes(width), where, t.bits // 8)
            if wide_type(op.acc.type) is not op.acc.type:
                acc = to_register(b, op.acc.type, to_memory(b, op.acc.type, acc))
            with f.scope((op.columns.var, j)), f.vectorised(op.columns.var, width, mask, aligned=True):
                f.values[op.acc] = acc
                f.run(op.epilogue)

        def whole(j: Val, carried: list[Val]) -> list[Val]:
            vector(j, lanes, None)
            return carried

        def last(j: Val, carried: list[Val]) -> list[Val]:
            vector(j, lanes, first_lanes(extent - full, lanes))
            return carried

        end = b.binary("add", n, const(I64, p.nr))
        with f.scope((op.rows.var, i)):
            if full:
                f.loop(n, f.extreme("smin", end, const(I64, full)), lanes, [], whole, "epilogue")
            if full < extent:
                start = f.extreme("smax", n, const(I64, full))
                f.loop(start, f.extreme("smin", end, const(I64, extent)), lanes, [], last, "epilogue")
        return carried

    f.loop(m, m_end, 1, [], row, "epilogue")
