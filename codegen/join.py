"""Reductions that go over the same elements become one statement, so that memory goes by once for all of them.

    reduce row r in 4096 { load x[i, r]; sum }              reduce row r in 4096 { load x[i, r]; sum; max }
    reduce row s in 4096 { load x[i, s]; max }      ->

Two of one body are joined if they have the same extents, tree and types, read an array at the same place, and the later
one needs nothing that comes of the earlier one. What else it needs moves before the joint statement. Each result
keeps the tree that its own extents and type give it, so no bit changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from .analysis import dominating_bytes, indices, operands, statements
from .clone import Clone
from .combine import wide_type
from .index import Index, Var, of, unmask
from .loops import UNROLL, Accumulator, Buffer, Check, Contract, Kernel, Load, Loop, Reduce, Result, Stmt, Store, Update

MOST: Final = 4  # results of a joint reduction whose rows keep `loops.UNROLL` vectors of each in registers


def join(kernel: Kernel) -> Kernel:
    """The kernel with the reductions of each body joined where that saves reading memory again."""
    return replace(kernel, body=_Joined({}).body(kernel.body)) if _concerned(kernel.body) else kernel


def _concerned(body: Sequence[Stmt]) -> bool:
    """Whether there is a body somewhere with reductions to join."""
    reductions = [s for s in body if isinstance(s, Reduce)]
    if len(reductions) > 1 and any(len(g) > 1 for g in _Order(body).group.values()):
        return True
    return any(_concerned(s.body) for s in body if isinstance(s, (Loop, Reduce)))


def most(s: Reduce) -> int:
    """How many results like those of `s` one reduction has at most: more, where a row is fewer vectors."""
    lanes = 64 // max(wide_type(a.type).bytes for a in s.accumulators)
    vectors = -(-s.vars[-1].extent // lanes) if s.tree == "row" else UNROLL
    return MOST * UNROLL // min(max(vectors, 1), UNROLL)


class _Joined(Clone):
    """The copy. `first`: of each reduction, by identity, the number of its first result in what it is part of."""

    def __init__(self, rename: dict[Var, Index]) -> None:
        super().__init__(rename)
        self.first: dict[int, int] = {}

    def body(self, body: Sequence[Stmt]) -> list[Stmt]:
        return [self._joint(x) if isinstance(x, list) else self.statement(x) for x in _Order(body).in_turn()]

    def _joint(self, members: list[Reduce]) -> Reduce:
        inner, accumulators = list[Stmt](), list[Accumulator]()
        variables = members[0].vars
        for s in members:
            self.rename = {**self.rename, **dict(zip(s.vars, map(of, variables), strict=True))}
            inner += self.body(s.body)
            self.first[id(s)] = len(accumulators)
            accumulators += map(self.accumulator, s.accumulators)
        joint = Reduce(variables, inner, tuple(accumulators), members[0].tree)
        self.reduces.update((id(s), joint) for s in members)
        return joint

    def statement(self, s: Stmt) -> Stmt:
        if not isinstance(s, Result) or id(s.reduce) not in self.first:
            return super().statement(s)
        new = self.new[id(s)] = Result(s.type, self.reduces[id(s.reduce)], s.k + self.first[id(s.reduce)])
        return new


class _Order:
    """The statements of a body in an order that lets reductions stand together.

    `needs`: of each statement, by number, those that come before it: what it reads, and what touches the same memory.
    `group`: the reductions that stand together, at the number of the first; `at` is that number for each statement.
    """

    def __init__(self, body: Sequence[Stmt]) -> None:
        self.body = body
        self.at = list(range(len(body)))
        self.needs = _needs(body)
        self.group: dict[int, list[Reduce]] = {}
        if any(isinstance(s, Contract) for s in body):
            return
        for i, s in enumerate(body):
            if isinstance(s, Reduce):
                into = next((g for g, old in self.group.items() if _alike(old, s) and not self._follows(i, g)), i)
                self.at[i] = into
                self.group.setdefault(into, []).append(s)
                if into != i:
                    self.needs[into] |= self.needs[i]

    def _follows(self, i: int, g: int) -> bool:
        """Whether statement `i` needs, by whatever way, what the group `g` comes to."""
        seen, waiting = {i}, [i]
        while waiting:
            for n in self.needs[waiting.pop()]:
                n = self.at[n]
                if n == g:
                    return True
                if n not in seen:
                    seen.add(n)
                    waiting.append(n)
        return False

    def in_turn(self) -> Iterator[Stmt | list[Reduce]]:
        """The statements, each after what it needs; a list stands for the reductions that become one."""
        done = set[int]()
        for i in range(len(self.body)):
            waiting = [self.at[i]]
            while waiting:
                n = waiting[-1]
                missing = sorted({self.at[m] for m in self.needs[n]} - done) if n not in done else []
                if missing:
                    waiting += reversed(missing)
                    continue
                waiting.pop()
                if n not in done:
                    done.add(n)
                    group = self.group.get(n, [])
                    yield group if len(group) > 1 else self.body[n]


def _needs(body: Sequence[Stmt]) -> list[set[int]]:
    at = {id(s): i for i, s in enumerate(body)}
    readers: dict[int, list[int]] = {}
    writer: dict[int, int] = {}
    out: list[set[int]] = []
    for i, s in enumerate(body):
        values = set[int]()
        memory = dict[int, bool]()  # by identity, whether it is written
        for x in statements([s]):
            values.update(id(v) for v in operands(x))
            values.update(id(d.value) for e in indices(x) for d in e.data())
            match x:
                case Result():
                    values.add(id(x.reduce))
                case Check():
                    memory[0] = True  # the status word
                case Store() | Update():
                    memory[id(x.buffer)] = True
                case Load() if x.buffer.role != "in":
                    memory.setdefault(id(x.buffer), False)
                case _:
                    pass
        found = {at[v] for v in values if v in at} - {i}
        for b, written in memory.items():
            if b in writer:
                found.add(writer[b])
            if written:
                found.update(readers.pop(b, ()))
                writer[b] = i
            else:
                readers.setdefault(b, []).append(i)
        out.append(found)
    return out


def _alike(group: Sequence[Reduce], s: Reduce) -> bool:
    """Whether `s` goes over the elements that the `group` goes over."""
    r = group[0]
    extents = [v.extent for v in s.vars]
    if s.tree != r.tree or [v.extent for v in r.vars] != extents or 0 in extents:
        return False
    every = [a for x in (*group, s) for a in x.accumulators]
    if len(every) > most(s) or len({wide_type(a.type).bytes for a in every}) > 1:
        return False
    if dominating_bytes(r.body) != dominating_bytes(s.body):
        return False
    places = dict(zip(s.vars, map(of, r.vars), strict=True))
    read = {p for x in group for p in _read(x, {})}
    return not read.isdisjoint(_read(s, places))


def _read(s: Reduce, places: dict[Var, Index]) -> Iterator[tuple[Buffer, Index]]:
    """What a reduction loads, and where, once its variables are renamed."""
    for x in s.body:
        if isinstance(x, Load):
            yield x.buffer, Clone(places).index(unmask(x.index))
