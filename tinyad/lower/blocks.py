"""Stages over blocks of rows: contractions and the passes over their rows, while a block of these is in cache.

    for each turn of the outer loops (heads, samples; what threads share):
      for each block of rows:
        stage by stage: a contraction of the block's rows into a tile, with passes over them; one whose results are
        the block's rows; or one that sums over the rows of all blocks, which goes on block by block
      the same for the rows that are left

What only the stages read lives in tiles, scratch memory of one block; the rest in its own arrays.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from codegen import index as ix
from codegen import loops as lo
from codegen.index import Index, Var

from ..ir import Node
from ..schedule.group import ROW, Nest, Pattern, Stage
from ..schedule.position import Loop, Position, current
from .bodies import close_loops, index_at, run_passes, store_sinks
from .contraction import contraction
from .domain import Readers
from .movement import scalar_type
from .walk import Lowering, Tile

PAD = 64  # bytes from the end of one row of a tile to the next: rows at a power of two would share a cache set


def nested(state: Lowering, nest: Nest) -> None:
    """Every stage of the nest, block by block."""
    whole, rest = divmod(nest.rows, nest.block)
    outer = [state.var(size, "i") for size in nest.outer]
    for v in outer:
        state.open(v)
    run = _Run(state, nest, outer)
    at_block = state.var(whole, "i")
    state.open(at_block)
    run.block(ix.of(at_block) * nest.block, nest.block)
    close_loops(state, [at_block])
    if rest:
        state.floor = state.open().depth  # a single row has no variable that would keep its values behind its tiles
        run.block(ix.constant(whole * nest.block), rest)
        body = state.close().body
        state.floor = 0
        state.scopes[-1].body += body
    close_loops(state, outer)


class _Run:
    """The stages of a nest under its open outer loops."""

    def __init__(self, state: Lowering, nest: Nest, outer: Sequence[Var]) -> None:
        self.state = state
        self.nest = nest
        self.outer = outer
        self.buffers: dict[int, tuple[lo.Buffer, int]] = {}
        self.begun: dict[Stage, lo.Contract] = {}  # statements that sum over the rows of all blocks
        self.start = ix.ZERO
        self.size = 0

    def block(self, start: Index, size: int) -> None:
        """Every stage for the rows ``[start, start + size)``."""
        state = self.state
        self.start, self.size = start, size
        state.tiles.clear()
        state.ready.clear()
        for n, pattern in self.nest.tiles:
            columns = [i for i, tag in enumerate(pattern) if tag is None and n.shape[i] > 1]
            self.tile(n, pattern.index(ROW), tuple(columns), self.start)
        for stage in self.nest.stages:
            group = stage.group
            state.own = {id(s.node) for s in group.sinks if s.target.into is s.node}
            if group.heavy is None:
                self.rows(stage)
            else:
                self.product(stage, group.heavy)
            state.ready |= state.own

    def tile(self, n: Node, row: int, columns: tuple[int, ...], start: Index) -> None:
        """Makes `n`, whose rows (from `start` on) and columns these axes are, live in scratch memory of one block."""
        shape = tuple([n.shape[i] for i in columns])
        if id(n) not in self.buffers:
            type = scalar_type(n.dtype)
            stride = math.prod(shape) + PAD // type.bytes if columns else 1
            buffer = lo.Buffer(type, self.nest.block * stride, "scratch", f"tile{len(self.state.kept)}")
            self.state.kept.append(buffer)
            self.buffers[id(n)] = buffer, stride
        buffer, stride = self.buffers[id(n)]
        self.state.tiles[id(n)] = Tile(buffer, row, start, columns, shape, stride)

    def places(self, stage: Stage, row: Index, loops: Mapping[Loop, Index]) -> list[Index]:
        """Where the loops of a stage's group are: outer ones, the row, and the rest."""
        out = []
        for loop in stage.group.loops:
            tag = stage.tags.get(loop)
            out.append(loops[loop] if tag is None else row if tag == ROW else ix.of(self.outer[tag]))
        return out

    def rows(self, stage: Stage) -> None:
        """Contractions of the block's rows into tiles, and the passes over them there."""
        state, group = self.state, stage.group
        for n, position in group.tiles:
            self.fill(stage, n, current(position))
        in_block = state.var(self.size, "i")
        inner = {v: state.var(v.extent, "i") for v in group.loops if v not in stage.tags}
        for v in (in_block, *inner.values()):
            state.open(v)
        state.main = len(state.scopes) - 1
        along = self.places(stage, self.start + ix.of(in_block), {v: ix.of(x) for v, x in inner.items()})
        run_passes(state, group, along)
        store_sinks(state, group, along)
        close_loops(state, tuple(inner.values()))
        for factor, pattern in stage.factors:
            self.factor(factor, pattern, self.start + ix.of(in_block))
        close_loops(state, [in_block])
        state.ready |= {id(factor) for factor, _ in stage.factors}

    def factor(self, n: Node, pattern: Pattern, row: Index) -> None:
        """Computes a row of a factor of later stages."""
        across = [i for i, tag in enumerate(pattern) if tag is None and n.shape[i] > 1]
        columns = {i: self.state.var(n.shape[i], "i") for i in across}
        idx = []
        for i, tag in enumerate(pattern):
            of_axis = ix.of(columns[i]) if i in columns else ix.ZERO
            idx.append(of_axis if tag is None else row if tag == ROW else ix.of(self.outer[tag]))
        for v in columns.values():
            self.state.open(v)
        value = self.state.value(n, tuple(idx))
        buffer, at = self.state.home(n, tuple(idx))
        self.state.scopes[-1].body.append(lo.Store(buffer, at, value))
        close_loops(self.state, tuple(columns.values()))

    def fill(self, stage: Stage, heavy: Node, position: Position) -> None:
        """Computes the block's rows of a contraction, with what follows element by element, into a tile."""
        state, group = self.state, stage.group
        c, along_row = state.contractions[id(heavy)], state.rows[id(heavy)]
        in_tile = state.var(self.size, "i")
        columns = [state.var(heavy.shape[i], "i") for i in along_row]
        across = tuple([() if i in along_row else axis for i, axis in enumerate(position)])
        inner = {v: ix.ZERO for v in group.loops if v not in stage.tags}
        idx = list(index_at(group, self.places(stage, self.start + ix.of(in_tile), inner), across))
        for i, v in zip(along_row, columns):
            idx[i] = ix.of(v)
        m, n = (columns, [in_tile]) if along_row == c.m else ([in_tile], columns)
        readers = Readers(state, group, heavy, (n for n, _ in stage.factors))
        path = readers.finished(heavy, tuple(idx))
        top = path.top
        if id(top) not in state.tiles and id(top) not in state.own:
            (row,) = (i for i, axis in enumerate(across) if any(stage.tags.get(v) == ROW for v in axis))
            start = path.index[path.axes[row]] + ix.of(in_tile) * -1  # outer loops may cut the axis of the rows, too
            self.tile(top, path.axes[row], tuple([path.axes[i] for i in along_row]), start)
        with contraction(state, heavy, tuple(idx), m, n, readers=readers) as acc:
            state.given[id(heavy)] = acc
            value = state.value(top, path.index)
            buffer, where = state.home(top, path.index)
            state.scopes[-1].body.append(lo.Store(buffer, where, value))
        del state.given[id(heavy)]
        state.ready.add(id(top))

    def product(self, stage: Stage, heavy: Node) -> None:
        """A contraction whose results are the block's rows, or that sums over them."""
        state, group = self.state, stage.group
        c, position = state.contractions[id(heavy)], current(group.position)
        row = state.var(self.size, "i")
        variables = {v: state.var(v.extent, "i") for v in group.loops if v not in stage.tags}
        along = self.places(stage, self.start + ix.of(row), {v: ix.of(x) for v, x in variables.items()})
        m, n, batch = (
            [row if stage.tags.get(v) == ROW else variables[v] for i in axes for v in position[i]
             if stage.tags.get(v, ROW) == ROW]
            for axes in (c.m, c.n, c.batch)
        )  # fmt: skip
        for v in batch:
            state.open(v)
        inside: dict[int, tuple[Var | None, Index]] = {}
        start, total = ix.ZERO, 1
        for axis, tag in stage.reduced:
            extent = self.nest.rows if tag == ROW else self.nest.outer[tag]
            start = start * extent + (self.start if tag == ROW else ix.of(self.outer[tag]))
            total *= extent
            inside[axis] = (row, self.start + ix.of(row)) if tag == ROW else (None, ix.of(self.outer[tag]))
        part = lo.Part(start, self.nest.block, total, self.begun.get(stage)) if inside else None
        idx = index_at(group, along, position)
        with contraction(state, heavy, idx, m, n, inside, part, Readers(state, group, heavy)) as acc:
            state.given[id(heavy)] = acc
            store_sinks(state, group, along)
        del state.given[id(heavy)]
        statement = state.scopes[-1].body[-1]
        if part is not None and isinstance(statement, lo.Contract):
            self.begun[stage] = statement
        close_loops(state, batch)
