"""The first half of a large row reduction, for several threads: what complete subtrees of its tree come to.

The binary counter combines blocks 2^k i to 2^k (i + 1) - 1 among themselves before anything else, so these subtrees
can be computed in any order. A *unit*, one step of the range handed over, is a run of blocks that begins at a multiple
of 2^k; it leaves its subtrees, W lanes each, in memory. The last of all is completed by absent blocks, which change
nothing. A row reduction over the subtrees, each one block, then gives what the whole reduction is: `codegen.parts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from .builder import I64, Val, const
from .combine import identity, wide_type
from .emit_reduce import LEAVES, Counter, block_steps, groups, nest, row_blocks, row_lanes
from .frame import Frame
from .loops import BLOCK, Accumulator, Buffer, Reduce

UNIT = 1024  # steps in a unit, about
UNITS = 512  # from which units are larger, so that few subtrees are left
ROWS = 64  # turns of the outermost variable from which units are some of them
LEAST = 64  # blocks of an ordered reduction from which it is worth cutting


@dataclass(frozen=True, slots=True)
class Units:
    """How a row reduction is cut: `count` units of `size` turns of the outermost variable, if `rows`, else of `size`
    blocks of a row. `level` is k; there are `subtrees` in all.
    """

    rows: bool
    size: int
    level: int
    count: int
    subtrees: int
    lanes: int


def units(node: Reduce) -> Units | None:
    """The units of a reduction; None if it is too small or has no tree of rows alone."""
    if node.tree != "row" or len(groups(node)) > 1:
        return None
    *outer, inner = (v.extent for v in node.vars)
    lanes, steps = row_lanes(node, list(node.accumulators)), block_steps(node.accumulators)
    row = -(-inner // (steps * lanes))
    blocks = prod(outer) * row
    if prod(outer) * -(-inner // (BLOCK * lanes)) < LEAST:
        return None
    size = UNIT // steps
    while blocks > UNITS * size:
        size *= 2
    if outer and outer[0] >= ROWS:
        turn = blocks // outer[0]
        turns = max(size // (1 << (turn - 1).bit_length()), 1)
        level = _twos(turn * turns)
        return Units(True, turns, level, -(-outer[0] // turns), -(-blocks >> level), lanes)
    level = _twos(size) if prod(outer) == 1 else min(_twos(row), _twos(size))
    return Units(False, size, level, prod(outer) * -(-row // size), -(-blocks >> level), lanes)


def _twos(n: int) -> int:
    """How often 2 divides n."""
    return (n & -n).bit_length() - 1


class _Subtrees(Counter):
    """A counter of the blocks of one unit whose complete subtrees go to memory, the first as number `first`."""

    def __init__(self, f: Frame, accs: list[Accumulator], u: Units, into: Sequence[Buffer]) -> None:
        super().__init__(f, accs, u.lanes, 2 << u.level, min(LEAVES, 1 << u.level))
        self.level, self.lanes, self.into = u.level, u.lanes, into
        self.low = const(I64, (1 << u.level) - 1)
        self.first = const(I64, 0)

    def start(self, first: Val) -> None:
        self.first = first
        self.f.b.store(const(I64, 0), self.count, 8)

    def merging(self) -> Val:
        return self.f.b.binary("and", self.number, self.low)

    def put(self, values: list[Val], level: Val) -> None:
        b = self.f.b
        number = b.binary("add", self.first, b.binary("lshr", self.number, const(I64, self.level)))
        at = b.binary("mul", number, const(I64, self.lanes))
        complete = b.icmp("eq", level, const(I64, self.level))
        for slots, t, into, value in zip(self.slots, self.types, self.into, values, strict=True):
            subtree = b.gep(t.scalar(), self.f.buffers[into], at)
            where = b.select(complete, subtree, self.slot(slots, t, level))
            b.store(value, where, into.type.bytes)

    def complete(self) -> None:
        """Pushes absent blocks until nothing waits."""
        b = self.f.b
        test, pad, done = b.fresh_label("test"), b.fresh_label("pad"), b.fresh_label("done")
        b.branch(test)
        b.label(test)
        waiting = b.binary("and", b.load(I64, self.count, 8), self.low)
        b.cond_branch(b.icmp("ne", waiting, const(I64, 0)), pad, done)
        b.label(pad)
        self.push([identity(a.op, wide_type(a.type), self.lanes) for a in self.accs])
        b.branch(test)
        b.label(done)


def partials(f: Frame, node: Reduce, into: Sequence[Buffer], begin: Val, end: Val) -> None:
    """The subtrees of the units ``[begin, end)``, those of accumulator k to ``into[k]``."""
    u = units(node)
    assert u is not None
    b, accs = f.b, list(node.accumulators)
    *outer, inner = node.vars
    counter = _Subtrees(f, accs, u, into)
    block = block_steps(accs) * u.lanes
    row = -(-inner.extent // block)
    whole = const(I64, 0), const(I64, inner.extent)

    def begins_at(block: Val) -> None:
        counter.start(b.binary("lshr", block, const(I64, u.level)))

    def rows(unit: Val, carried: list[Val]) -> list[Val]:
        lo = b.binary("mul", unit, const(I64, u.size))
        hi = f.extreme("smin", b.binary("add", lo, const(I64, u.size)), const(I64, outer[0].extent))
        begins_at(b.binary("mul", lo, const(I64, prod(v.extent for v in outer[1:]) * row)))

        def turn(i: Val, carried: list[Val]) -> list[Val]:
            with f.scope((outer[0], i)):
                nest(f, tuple(outer[1:]), lambda: row_blocks(f, node, accs, u.lanes, counter, *whole))
            return carried

        f.loop(lo, hi, 1, [], turn, certain=True)
        counter.complete()
        return carried

    def blocks(unit: Val, carried: list[Val]) -> list[Val]:
        pieces = const(I64, -(-row // u.size))
        number = b.binary("udiv", unit, pieces)
        piece = b.binary("sub", unit, b.binary("mul", number, pieces))
        first = b.binary("mul", piece, const(I64, u.size))
        begins_at(b.binary("add", b.binary("mul", number, const(I64, row)), first))
        bound = []
        for v in reversed(outer):
            above = b.binary("udiv", number, const(I64, v.extent))
            bound.append((v, b.binary("sub", number, b.binary("mul", above, const(I64, v.extent)))))
            number = above
        lo = b.binary("mul", first, const(I64, block))
        hi = f.extreme("smin", b.binary("add", lo, const(I64, u.size * block)), whole[1])
        with f.scope(*bound):
            row_blocks(f, node, accs, u.lanes, counter, lo, hi)
        counter.complete()
        return carried

    f.loop(begin, end, 1, [], rows if u.rows else blocks)
