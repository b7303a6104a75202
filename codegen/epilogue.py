"""The epilogue of a contraction on a tile of sums in memory: row by row, in vectors along the columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from .builder import I64, Val, const, register_type
from .combine import wide_type
from .frame import Frame, first_lanes, lanes_before
from .index import Var
from .loops import Acc, Contract, Loop, Reduce, Stmt, Update
from .ops import to_memory, to_register

WRITTEN = 64  # statements up to which an epilogue is written out for a tile in registers
UNROLLED = 24  # statements up to which a row of a tile is written out


@dataclass(frozen=True, slots=True, eq=False)
class Epilogue:
    """What is done with each sum `acc` of a contraction, by its row and column."""

    acc: Acc
    body: Sequence[Stmt]
    rows: Var
    columns: Var


@dataclass(frozen=True, slots=True)
class Tile:
    """Sums in memory: rows of `width` from row and column `first_row` and `first_column` on."""

    place: Val
    width: int
    lanes: int
    first_row: Val
    first_column: Val


def _is_lanewise(c: Epilogue) -> bool:
    return not any(isinstance(s, (Loop, Reduce, Contract, Update)) for s in c.body)


def run_epilogue(f: Frame, c: Epilogue, tile: Tile, rows: tuple[Val, Val], n: Val) -> None:
    """The epilogue for the rows ``[rows[0], rows[1])`` and the `width` columns from n, a multiple of the lanes, on."""
    b, t, var = f.b, register_type(c.acc.type, 1), c.columns
    lanes = tile.lanes if _is_lanewise(c) else 1
    full = var.extent // lanes * lanes
    end = b.binary("add", n, const(I64, tile.width))

    def vector(line: Val, mask: Val | None, j: Val, carried: list[Val]) -> list[Val]:
        place = b.gep(t, line, b.binary("sub", j, tile.first_column))
        acc = b.load(t.with_lanes(lanes), place, t.bits // 8)
        if wide_type(c.acc.type) is not c.acc.type:
            acc = to_register(b, c.acc.type, to_memory(b, c.acc.type, acc))
        with f.scope((var, j)), f.vectorised(var, lanes, mask, aligned=True):
            f.values[c.acc] = acc
            f.run(c.body)
        return carried

    unrolled = range(0, tile.width, lanes)
    short = len(unrolled) * len(c.body) <= UNROLLED

    def row(i: Val, carried: list[Val]) -> list[Val]:
        line = b.gep(t, tile.place, b.binary("mul", b.binary("sub", i, tile.first_row), const(I64, tile.width)))
        with f.scope((c.rows, i)):
            if short and var.extent % tile.width == 0:
                for offset in unrolled:
                    vector(line, None, b.binary("add", n, const(I64, offset)), carried)
                return carried
            if full < var.extent and f.target.masks:
                last = f.extreme("smin", end, const(I64, var.extent))

                def some(j: Val, carried: list[Val]) -> list[Val]:
                    return vector(line, lanes_before(f, b.binary("sub", last, j), lanes), j, carried)

                f.loop(n, last, lanes, [], some, "epilogue", certain=True)
                return carried
            if full:
                f.loop(n, f.extreme("smin", end, const(I64, full)), lanes, [], partial(vector, line, None), "epilogue")
            if full < var.extent:
                mask = first_lanes(var.extent - full, lanes)
                begin = f.extreme("smax", n, const(I64, full))
                stop = f.extreme("smin", end, const(I64, var.extent))
                f.loop(begin, stop, lanes, [], partial(vector, line, mask), "epilogue")
        return carried

    f.loop(*rows, 1, [], row, "epilogue")


def is_short(c: Epilogue, vectors: int) -> bool:
    """Whether the epilogue may be written out for each of `vectors` vectors of sums, as they are in registers."""
    return wide_type(c.acc.type) is c.acc.type and _is_lanewise(c) and vectors * len(c.body) <= WRITTEN


def finish_sums(f: Frame, c: Epilogue, sums: Sequence[Val], vectors: int, m: Val, n: Val) -> None:
    """The epilogue for a tile in registers: rows from m on, each `vectors` vectors of columns from n on.

    All of it, or where a tile is wider than all columns what there is of them.
    """
    b = f.b
    for i, v in enumerate(sums):
        r, j = divmod(i, vectors)
        lanes, left = v.ty.lanes, c.columns.extent - j * v.ty.lanes
        mask = first_lanes(left, lanes) if left < lanes else None
        row, column = b.binary("add", m, const(I64, r)), b.binary("add", n, const(I64, j * lanes))
        with f.scope((c.rows, row), (c.columns, column)), f.vectorised(c.columns, lanes, mask, aligned=True):
            f.values[c.acc] = v
            f.run(c.body)
