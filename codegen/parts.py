"""A kernel as parts that run one after the other, so that each can have several threads.

A kernel of one loop is one part. Where several loops or large reductions follow one another, each is a part, and what
stands between them is one that a single thread runs. A loop over few very long rows, of which threads would not get
even shares, is written out row by row. A large reduction of rows leaves the subtrees of its tree in memory
(`codegen.emit_partials`); the part after it combines them. What reductions come to and later parts need is kept in
cells of memory that all threads share, other scalars are computed again. How a kernel is cut depends on its text alone
and shows in no bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Final

from .analysis import buffers, is_leaf, statements
from .clone import Clone
from .combine import wide_type
from .cost import turns
from .emit_columns import column_units
from .emit_partials import Units, units
from .fold import prune
from .index import ZERO, Index, Var, constant, of
from .loops import Accumulator, Apply, Buffer, Kernel, Load, Loop, Reduce, Result, Stmt, Store, Update, Value
from .ranges import independent, ranged
from .scalar import B1, U8
from .split import prepare

LEAST: Final = 1 << 16  # statements executed from which a loop is a part
LONG: Final = 1 << 19  # elements from which a row is very long
SHARES: Final = 4  # threads among which rows should go evenly,
UNEVEN: Final = 1.25  # and how many times as long as in even shares they may take


@lru_cache(64)
def parts(kernel: Kernel) -> tuple[Kernel, ...]:
    """The parts of a kernel, over its buffers and parameters; of one that is not cut, the kernel as it is emitted."""
    kernel = prepare(kernel)
    body = _rows_apart(kernel.body)
    narrow = any(column_units(s) for s in body)
    several = ranged(body) is None and any(map(_is_large, body))
    if not (narrow or several) or _reads_back(body):
        return (kernel,)
    return _cut(replace(kernel, body=body))


def _rows_apart(body: list[Stmt]) -> list[Stmt]:
    """A body in which loops over few very long rows are written out."""
    out: list[Stmt] = []
    for s in body:
        if isinstance(s, Loop) and independent(s) and _is_uneven(s.var.extent) and any(map(_is_long, s.body)):
            for turn in range(s.var.extent):
                out += Clone({s.var: constant(turn)}).body(s.body)
        else:
            out.append(s)
    return out


def _is_uneven(rows: int) -> bool:
    """Whether the busiest of `SHARES` threads would have much more of so many rows than its share."""
    return -(rows // -SHARES) * SHARES > UNEVEN * rows


def _is_long(s: Stmt) -> bool:
    return isinstance(s, Reduce) and len(s.vars) == 1 and s.vars[0].extent >= LONG and units(s) is not None


def _is_large(s: Stmt) -> bool:
    """Whether several threads should share a statement."""
    if isinstance(s, Reduce):
        return units(s) is not None
    return isinstance(s, Loop) and ranged([s]) is not None and turns(s) >= LEAST


def _reads_back(body: Sequence[Stmt]) -> bool:
    """Whether straight code reads what the kernel writes: it could not be repeated in later parts."""
    written = {id(s.buffer) for s in statements(body) if isinstance(s, (Store, Update))}
    return any(isinstance(s, Update) or (isinstance(s, Load) and id(s.buffer) in written) for s in body)


class _Halves(Clone):
    """A copy in which each large reduction leaves subtrees and another one, right after it, combines them.

    The results of every reduction of the outermost body stand right behind it. `partials`: where the subtrees of a
    reduction (by identity) go.
    """

    def __init__(self, rename: dict[Var, Index]) -> None:
        super().__init__(rename)
        self.partials: dict[int, tuple[Buffer, ...]] = {}
        self.known: dict[tuple[int, int], Value] = {}

    def body(self, body: Sequence[Stmt]) -> list[Stmt]:
        out = []
        for s in body:
            if isinstance(s, Result) and (id(s.reduce), s.k) in self.known:
                self.new[id(s)] = self.known[id(s.reduce), s.k]
            else:
                out.append(self.statement(s))
        return out

    def outermost(self, body: Sequence[Stmt]) -> list[Stmt]:
        """The copy of a kernel's body."""
        out: list[Stmt] = []
        for s in body:
            if isinstance(s, Loop) and (u := column_units(s)):
                out += self._columns(s, u)
                continue
            out += self.body([s])
            if isinstance(s, Reduce):
                done = self.reduces[id(s)]
                body, accumulators = _bools_as_bytes(done)
                if units(Reduce(done.vars, body, accumulators, done.tree)) is not None:
                    done.body, done.accumulators = body, accumulators
                    done = self._second(done)
                    out.append(done)
                out += self.results(s, done)
        return out

    def results(self, s: Reduce, done: Reduce) -> list[Stmt]:
        """The results of `done`, which compute those of `s`, in the types of `s`."""
        out: list[Stmt] = []
        for k, (old, new) in enumerate(zip(s.accumulators, done.accumulators, strict=True)):
            value: Result | Apply = Result(new.type, done, k)
            out.append(value)
            if old.type is not new.type:
                value = Apply("cast", old.type, (value,))
                out.append(value)
            self.known[id(s), k] = value
        return out

    def _columns(self, s: Loop, u: Units) -> list[Stmt]:
        """A loop over columns whose rows are shared: one loop for the subtrees, one that combines and uses them."""
        at = next(i for i, x in enumerate(s.body) if isinstance(x, Reduce))
        old = s.body[at]
        assert isinstance(old, Reduce)
        first = Loop(s.var, self._copy({}).body(s.body[: at + 1]))
        r = first.body[-1]
        assert isinstance(r, Reduce)
        column, subtree = Var(s.var.extent, s.var.name), Var(u.count, "subtree")
        types = [wide_type(a.type) for a in r.accumulators]
        into = tuple([Buffer(t, u.count * column.extent, "shared", "subtrees") for t in types])
        self.partials[id(first)] = into
        loads = [Load(b.type, b, of(subtree) * column.extent + of(column)) for b in into]
        sums = [Accumulator(a.op, x.type, x) for a, x in zip(r.accumulators, loads, strict=True)]
        done = Reduce((subtree,), [*loads], tuple(sums), "subtrees")
        copy = self._copy({s.var: of(column)})
        results = copy.results(old, done)
        return [first, Loop(column, [*copy.body(s.body[:at]), done, *results, *copy.body(s.body[at + 1 :])])]

    def _copy(self, rename: dict[Var, Index]) -> "_Halves":
        """A fresh copy that knows what this one has defined."""
        copy = _Halves(rename)
        copy.new.update(self.new)
        copy.known.update(self.known)
        return copy

    def _second(self, first: Reduce) -> Reduce:
        """The reduction of the subtrees of `first`: one row, and so one block, for each."""
        u = units(first)
        assert u is not None
        subtree, lane = Var(u.subtrees, "subtree"), Var(u.lanes, "lane")
        at = of(subtree) * u.lanes + of(lane)
        types = [wide_type(a.type) for a in first.accumulators]
        into = tuple([Buffer(t, u.subtrees * u.lanes, "shared", "subtrees") for t in types])
        self.partials[id(first)] = into
        loads = [Load(b.type, b, at) for b in into]
        sums = [Accumulator(a.op, x.type, x) for a, x in zip(first.accumulators, loads, strict=True)]
        return Reduce((subtree, lane), [*loads], tuple(sums))


def _bools_as_bytes(r: Reduce) -> tuple[list[Stmt], tuple[Accumulator, ...]]:
    """The body and accumulators with bytes in place of bools, of which vectors have no place in memory."""
    body, out = [*r.body], []
    for a in r.accumulators:
        if a.type is B1:
            byte = Apply("cast", U8, (a.value,))
            body.append(byte)
            a = Accumulator({"sum": "max", "prod": "min"}.get(a.op, a.op), U8, byte)
        out.append(a)
    return body, tuple(out)


def _cut(kernel: Kernel) -> tuple[Kernel, ...]:
    halves = _Halves({})
    pieces = _pieces(halves.outermost(kernel.body), halves.partials)
    used = [set(buffers(piece)) for piece in pieces]
    passed = _passed(pieces, used)
    shared = {b: Buffer(b.type, b.size, "shared", b.name) for b in kernel.scratch if any(b in held for held in passed)}
    cells: dict[int, Buffer] = {}
    bodies = []
    before: list[Stmt] = []
    for piece, held in zip(pieces, passed, strict=True):
        bodies.append(_body(before, piece, cells, {b: new for b, new in shared.items() if b in held}))
        before += piece
    loaded = {s.buffer for body in bodies for s in statements(body) if isinstance(s, Load)}
    unread = {b for b in cells.values() if b not in loaded}
    bodies = [[s for s in body if not (isinstance(s, Store) and s.buffer in unread)] for body in bodies]
    into = [halves.partials.get(id(piece[0]), ()) for piece in pieces]
    common = (*shared.values(), *(b for b in cells.values() if b in loaded), *(b for found in into for b in found))
    out = []
    for body, found, held, partials in zip(bodies, used, passed, into, strict=True):
        private = tuple([b for b in kernel.scratch if b in found and b not in held])
        if partials or any(not is_leaf(s) or isinstance(s, Store) for s in body):
            k = Kernel(kernel.name, kernel.buffers, kernel.params, body, private, True, common, partials)
            out.append(k)
    return tuple(out)


def _passed(pieces: Sequence[Sequence[Stmt]], used: Sequence[set[Buffer]]) -> list[set[Buffer]]:
    """For each piece the buffers through which it and others pass values on. One that the next to use it writes anew
    is passed to nobody."""
    out: list[set[Buffer]] = [set() for _ in pieces]
    last: dict[Buffer, int] = {}
    for i, piece in enumerate(pieces):
        for b in _read_first(piece):
            out[i].add(b)
            if b in last:
                out[last[b]].add(b)
        last.update(dict.fromkeys(used[i], i))
    return out


def _read_first(piece: Sequence[Stmt]) -> set[Buffer]:
    """The buffers of which a piece reads what one before it wrote. What it writes first is its own, for each thread."""
    first: dict[Buffer, Stmt] = {}
    for s in statements(piece):
        if isinstance(s, (Load, Store, Update)):
            first.setdefault(s.buffer, s)
    return {b for b, s in first.items() if not isinstance(s, Store)}


def _pieces(body: Sequence[Stmt], partials: dict[int, tuple[Buffer, ...]]) -> list[list[Stmt]]:
    """The body cut around its large statements."""
    out: list[list[Stmt]] = [[]]
    for s in body:
        if id(s) in partials or (isinstance(s, Loop) and _is_large(s)):
            out += [[s], []]
        else:
            out[-1].append(s)
    return [piece for piece in out if piece]


def _body(
    before: Sequence[Stmt], piece: Sequence[Stmt], cells: dict[int, Buffer], shared: dict[Buffer, Buffer]
) -> list[Stmt]:
    """One part: scalars of the parts before it, its own statements, its reductions' results into their cells."""
    copy = Clone({}, None, shared)
    body: list[Stmt] = []
    for s in before:
        if isinstance(s, Result):
            load = Load(s.type, cells[id(s)], ZERO)
            copy.new[id(s)] = load
            body.append(load)
        elif is_leaf(s) and not isinstance(s, Store):
            body.append(copy.statement(s))
    body += copy.body(piece)
    for s in piece:
        if isinstance(s, Result):
            cell = cells[id(s)] = Buffer(s.type, 1, "shared", "cell")
            body.append(Store(cell, ZERO, copy.value(s)))
    return prune(body)
