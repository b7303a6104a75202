"""Copies of loop IR with loop variables replaced by other indices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from .index import Atom, Datum, Index, Var, substitute
from .loops import (
    Acc,
    Accumulator,
    Advance,
    Apply,
    Buffer,
    Carry,
    Check,
    Const,
    Contract,
    IndexValue,
    InRange,
    Load,
    Loop,
    Reduce,
    Result,
    Stmt,
    Store,
    Update,
    Value,
)


class Clone:
    """A copy of statements: values cloned in order, indices and operands renamed on the way.

    `joins` is (outer, inner, joint): two adjacent variables of a nest, or of one statement, become one; `buffers` are
    exchanged. What stands outside the copied statements is kept as it is.
    """

    def __init__(
        self,
        rename: Mapping[Var, Index],
        joins: tuple[Var, Var, Var] | None = None,
        buffers: Mapping[Buffer, Buffer] | None = None,
    ) -> None:
        self.rename = rename
        self.joins = joins
        self.buffers = buffers or {}
        self.new: dict[int, Value] = {}
        self.reduces: dict[int, Reduce] = {}
        self.contracts: dict[int, Contract] = {}
        self.carries: dict[int, Carry] = {}

    def value(self, v: Value) -> Value:
        return self.new.get(id(v), v)

    def buffer(self, b: Buffer) -> Buffer:
        return self.buffers.get(b, b)

    def optional(self, v: Value | None) -> Value | None:
        return None if v is None else self.value(v)

    def index(self, e: Index) -> Index:
        def renamed(atom: Atom) -> Index | None:
            if isinstance(atom, Datum):
                return Index({Datum(self.value(atom.value), atom.n): 1}, 0)
            return self.rename.get(atom) if isinstance(atom, Var) else None

        return substitute(e, renamed)

    def body(self, body: Sequence[Stmt]) -> list[Stmt]:
        return [self.statement(s) for s in body]

    def statement(self, s: Stmt) -> Stmt:
        match s:
            case Loop():
                return self._loop(s)
            case Reduce():
                return self._reduce(s)
            case Store():
                return Store(self.buffer(s.buffer), self.index(s.index), self.value(s.value))
            case Update():
                where = self.buffer(s.buffer), self.index(s.index)
                return Update(s.op, *where, self.value(s.value), self.optional(s.factor))
            case Contract():
                return self.contract(s)
            case _:
                new = self._leaf(s)
                self.new[id(s)] = new
                return new

    def _leaf(
        self, s: Const | Load | Apply | IndexValue | InRange | Check | Result | Advance
    ) -> Const | Load | Apply | IndexValue | InRange | Check | Result | Advance:
        match s:
            case Const():
                return s
            case Load():
                return Load(s.type, self.buffer(s.buffer), self.index(s.index), self.optional(s.mask))
            case Apply():
                return Apply(s.op, s.type, tuple(self.value(a) for a in s.args))
            case IndexValue():
                return IndexValue(s.type, self.index(s.index))
            case InRange():
                return InRange(s.type, self.index(s.index), s.lo, s.hi, s.step)
            case Check():
                return Check(s.type, self.value(s.value), s.n, s.code, self.optional(s.mask))
            case Result():
                return Result(s.type, self.reduces.get(id(s.reduce), s.reduce), s.k)
            case Advance():
                return Advance(s.type, self.carries.get(id(s.carry), s.carry), tuple(self.value(a) for a in s.args))

    def _loop(self, s: Loop) -> Loop:
        for c in s.carries:
            self.carries[id(c)] = Carry(c.op, c.type)
        carries = tuple(self.carries[id(c)] for c in s.carries)
        if self.joins and s.var is self.joins[0] and isinstance(s.body[0], Loop):
            return Loop(self.joins[2], self.body(s.body[0].body))
        return Loop(s.var, self.body(s.body), carries)

    def _reduce(self, s: Reduce) -> Reduce:
        body = self.body(s.body)
        accumulators = tuple(map(self.accumulator, s.accumulators))
        new = self.reduces[id(s)] = Reduce(self.joined(s.vars), body, accumulators, s.tree)
        return new

    def accumulator(self, a: Accumulator) -> Accumulator:
        return Accumulator(a.op, a.type, self.value(a.value), self.optional(a.factor))

    def contract(self, s: Contract) -> Contract:
        a_body, b_body = self.body(s.a_body), self.body(s.b_body)
        acc = Acc(s.acc.type)
        self.new[id(s.acc)] = acc
        epilogue = self.body(s.epilogue)
        m, n, k = self.joined(s.m), self.joined(s.n), self.joined(s.k)
        a, b, domain = self.value(s.a), self.value(s.b), tuple([self.index(e) for e in s.domain])
        part = s.part
        if part is not None:
            after = part.after and self.contracts.get(id(part.after), part.after)
            part = replace(part, start=self.index(part.start), after=after)
        new = Contract(m, n, k, a_body, a, b_body, b, acc, epilogue, s.how, domain, part)
        self.contracts[id(s)] = new
        return new

    def joined(self, variables: tuple[Var, ...]) -> tuple[Var, ...]:
        if self.joins is None or self.joins[0] not in variables:
            return variables
        at = variables.index(self.joins[0])
        return (*variables[:at], self.joins[2], *variables[at + 2 :])
