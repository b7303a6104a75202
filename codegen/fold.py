"""Copies of loop IR in which what is decided is gone: masks that bounds decide, repeated values, dead values.

A `Fold` is a `Clone` that replaces loop variables and, on the way, drops what the replacement made plain. It changes
no bit: sums keep their terms, and a value is only left out where it is equal to another one or never read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .analysis import indices, operands
from .clone import Clone
from .index import Index, Var, unmask
from .loops import (
    Apply,
    Const,
    Contract,
    IndexValue,
    InRange,
    Load,
    Loop,
    Reduce,
    Stmt,
    Value,
)
from .scalar import B1


class Fold(Clone):
    """See the module's docstring. `known` maps the key of each value in scope to that value."""

    def __init__(self) -> None:
        super().__init__({})
        self.rename: dict[Var, Index] = {}
        self.known: dict[object, Value] = {}
        self.out: list[Stmt] = []

    # scopes -----------------------------------------------------------------------------------------------------
    def body(self, body: Sequence[Stmt]) -> list[Stmt]:
        """The statements as a body of their own: what it defines is known nowhere else."""
        return self.scoped(lambda: self.inline(body))

    def scoped(self, write: Callable[[], None]) -> list[Stmt]:
        """The body that `write` places statements in."""
        saved, known = self.out, self.known
        self.out, self.known = [], dict(known)
        write()
        result, self.out, self.known = self.out, saved, known
        return result

    def inline(self, body: Sequence[Stmt]) -> None:
        """Appends the statements to the body under construction."""
        for s in body:
            self.place(s)

    def place(self, s: Stmt) -> None:
        """Appends one statement, or makes its value known where that is there already."""
        match s:
            case Const():
                self.new[id(s)] = self.define(s)
            case Load():
                self.new[id(s)] = self._masked(s)
            case InRange():
                self.new[id(s)] = self._in_range(s)
            case IndexValue():
                self.new[id(s)] = self.define(IndexValue(s.type, self.index(s.index)))
            case Apply():
                self.new[id(s)] = self.apply(Apply(s.op, s.type, tuple(self.value(a) for a in s.args)))
            case _:
                self.out.append(self.statement(s))

    def define(self, value: Const | Load | Apply | IndexValue | InRange) -> Value:
        """`value`, or an equal one that is there already."""
        key = _key(value)
        found = self.known.get(key) if key is not None else None
        if found is not None:
            return found
        self.out.append(value)
        if key is not None:
            self.known[key] = value
        return value

    # values -----------------------------------------------------------------------------------------------------
    def _masked(self, s: Load) -> Value:
        e, mask = self.index(s.index), self.optional(s.mask)
        if isinstance(mask, Const):
            if not mask.value:
                zero: bool | int | float = {"b": False, "f": 0.0}.get(s.type.kind, 0)
                return self.define(Const(s.type, zero))
            e, mask = unmask(e), None
        return self.define(Load(s.type, s.buffer, e, mask))

    def _in_range(self, s: InRange) -> Value:
        e = self.index(s.index)
        plain = unmask(e)
        lo, hi = plain.bounds
        if hi < s.lo or lo >= s.hi:
            return self.define(Const(B1, False))
        step = s.step
        if step > 1 and all(c % step == 0 for c in plain.terms.values()):
            if plain.const % step:
                return self.define(Const(B1, False))
            step = 1
        if step == 1 and lo >= s.lo and hi < s.hi:
            return self.define(Const(B1, True))
        return self.define(InRange(B1, e, s.lo, s.hi, step))

    def apply(self, s: Apply) -> Value:
        """The value of a scalar operation, decided where its bool operands decide it."""
        return self._decided(s) or self.define(s)

    def _decided(self, s: Apply) -> Value | None:
        if s.op == "where":
            c, x, y = s.args
            if isinstance(c, Const):
                return x if c.value else y
            if x is y:
                return x
            if isinstance(x, Const) and isinstance(y, Const) and s.type is B1:
                return c if x.value else self.apply(Apply("not", B1, (c,)))
            if isinstance(x, Load) and x.mask is c and isinstance(y, Const) and is_zero(y):
                return x
            return None
        if s.type is not B1 or s.op not in ("and", "or", "not"):
            return None
        if s.op == "not":
            x = s.args[0]
            return self.define(Const(B1, not x.value)) if isinstance(x, Const) else None
        for x, y in (s.args, s.args[::-1]):
            if isinstance(x, Const):
                return y if bool(x.value) == (s.op == "and") else x
            if x is y:
                return x
        return None

    def _reduce(self, s: Reduce) -> Reduce:
        body = self.body(s.body)
        accumulators = tuple(map(self.accumulator, s.accumulators))
        new = self.reduces[id(s)] = Reduce(s.vars, body, accumulators, s.tree)
        return new


def is_zero(c: Const) -> bool:
    """Whether a constant is zero, of positive sign."""
    return c.value == 0 and str(c.value)[0] != "-"


def _key(s: Const | Load | Apply | IndexValue | InRange) -> object:
    """What makes two values equal; None for memory that the kernel may write."""
    match s:
        case Const():
            return Const, s.type, repr(float(s.value) if s.type.kind == "f" else s.value)
        case Load():
            return (Load, id(s.buffer), s.index, id(s.mask)) if s.buffer.role == "in" else None
        case Apply():
            return s.op, s.type, tuple(map(id, s.args))
        case IndexValue():
            return IndexValue, s.type, s.index
        case InRange():
            return InRange, s.index, s.lo, s.hi, s.step


def prune(body: Sequence[Stmt]) -> list[Stmt]:
    """The statements without the values that nothing reads."""
    return _prune(body, set())


def _prune(body: Sequence[Stmt], live: set[int]) -> list[Stmt]:
    out: list[Stmt] = []
    for s in reversed(body):
        if isinstance(s, (Const, Load, Apply, IndexValue, InRange)) and id(s) not in live:
            continue
        live.update(id(v) for v in operands(s))
        live.update(id(d.value) for e in indices(s) for d in e.data())
        match s:
            case Loop():
                s = Loop(s.var, _prune(s.body, live), s.carries)
            case Reduce():
                s.body = _prune(s.body, live)
            case Contract():
                s.epilogue = _prune(s.epilogue, live)
                s.a_body, s.b_body = _prune(s.a_body, live), _prune(s.b_body, live)
            case _:
                pass
        out.append(s)
    return out[::-1]
