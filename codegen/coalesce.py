"""Loop nests that walk memory as one line become one loop, so that vectors are full and tails few.

A rewritten kernel is a copy: values are cloned in order, indices and operands renamed on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .analysis import indices, statements
from .index import Atom, Datum, Div, Index, Masked, Mod, Var, substitute
from .loops import (
    Acc,
    Accumulator,
    Advance,
    Apply,
    Carry,
    Check,
    Const,
    Contract,
    IndexValue,
    InRange,
    Kernel,
    Load,
    Loop,
    Reduce,
    Result,
    Stmt,
    Store,
    Update,
    Value,
)


def coalesce(kernel: Kernel) -> Kernel:
    """The kernel with nests ``for i in I { for j in J {..} }`` merged where every index knows only ``i*J + j``.

    Column reductions, whose order is row-major over all their variables, merge the same way; row reductions keep
    their variables, since their blocks end where a row ends.
    """
    while (pair := _find(kernel.body)) is not None:
        outer, inner = pair
        joint = Var(outer.extent * inner.extent, inner.name)
        position = Index({joint: 1}, 0)

        def replace(atom: Atom, outer: Var = outer, inner: Var = inner, position: Index = position) -> Index | None:
            if atom is outer:
                return Index({}, 0)
            return position if atom is inner else None

        clone = _Clone(replace, outer, inner, joint)
        kernel = Kernel(kernel.name, kernel.buffers, kernel.params, clone.body(kernel.body), kernel.scratch)
    return kernel


def _find(body: Sequence[Stmt]) -> tuple[Var, Var] | None:
    """Two adjacent variables that can be merged."""
    for s in statements(body):
        match s:
            case Loop(body=[Loop() as inner]) if not s.carries and not inner.carries:
                if _merges(inner.body, s.var, inner.var):
                    return s.var, inner.var
            case Reduce(tree="column") if len(s.vars) > 1:
                for outer, inner_var in zip(s.vars, s.vars[1:], strict=False):
                    if _merges(s.body, outer, inner_var):
                        return outer, inner_var
            case _:
                pass
    return None


def _merges(body: Sequence[Stmt], outer: Var, inner: Var) -> bool:
    if outer.extent < 1 or inner.extent < 1:
        return False
    return all(_knows_only_joint(e, outer, inner) for s in statements(body) for e in indices(s))


def _knows_only_joint(e: Index, outer: Var, inner: Var) -> bool:
    if e.coefficient(outer) != (e.coefficient(inner) * inner.extent if outer.extent > 1 else 0):
        return False
    return all(
        _knows_only_joint(atom.index, outer, inner) for atom in e.terms if isinstance(atom, (Div, Mod, Masked))
    )


class _Clone:
    """A copy of statements with atoms replaced, `outer` and `inner` loops becoming one over `joint`."""

    def __init__(self, replace: Callable[[Atom], Index | None], outer: Var, inner: Var, joint: Var) -> None:
        self.rename = replace
        self.outer, self.inner, self.joint = outer, inner, joint
        self.new: dict[int, Value] = {}
        self.reduces: dict[int, Reduce] = {}
        self.carries: dict[int, Carry] = {}

    def value(self, v: Value) -> Value:
        return self.new.get(id(v), v)

    def optional(self, v: Value | None) -> Value | None:
        return None if v is None else self.value(v)

    def index(self, e: Index) -> Index:
        def replace(atom: Atom) -> Index | None:
            if isinstance(atom, Datum):
                return Index({Datum(self.value(atom.value), atom.n): 1}, 0)
            return self.rename(atom)

        return substitute(e, replace)

    def body(self, body: Sequence[Stmt]) -> list[Stmt]:
        return [self.statement(s) for s in body]

    def statement(self, s: Stmt) -> Stmt:
        match s:
            case Loop():
                return self._loop(s)
            case Reduce():
                return self._reduce(s)
            case Store():
                return Store(s.buffer, self.index(s.index), self.value(s.value))
            case Update():
                return Update(s.op, s.buffer, self.index(s.index), self.value(s.value))
            case Contract():
                return self._contract(s)
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
                return Load(s.type, s.buffer, self.index(s.index), self.optional(s.mask))
            case Apply():
                return Apply(s.op, s.type, tuple(self.value(a) for a in s.args))
            case IndexValue():
                return IndexValue(s.type, self.index(s.index))
            case InRange():
                return InRange(s.type, self.index(s.index), s.lo, s.hi, s.step)
            case Check():
                return Check(s.type, self.value(s.value), s.n, s.code, self.optional(s.mask))
            case Result():
                return Result(s.type, self.reduces[id(s.reduce)], s.k)
            case Advance():
                return Advance(s.type, self.carries[id(s.carry)], tuple(self.value(a) for a in s.args))

    def _loop(self, s: Loop) -> Loop:
        for c in s.carries:
            self.carries[id(c)] = Carry(c.op, c.type)
        carries = tuple(self.carries[id(c)] for c in s.carries)
        if s.var is self.outer and isinstance(s.body[0], Loop):
            return Loop(self.joint, self.body(s.body[0].body))
        return Loop(s.var, self.body(s.body), carries)

    def _reduce(self, s: Reduce) -> Reduce:
        body = self.body(s.body)
        accumulators = tuple(Accumulator(a.op, a.type, self.value(a.value)) for a in s.accumulators)
        variables = s.vars
        if self.outer in variables:
            at = variables.index(self.outer)
            variables = (*variables[:at], self.joint, *variables[at + 2 :])
        new = self.reduces[id(s)] = Reduce(variables, body, accumulators, s.tree)
        return new

    def _contract(self, s: Contract) -> Contract:
        a_body, b_body = self.body(s.a_body), self.body(s.b_body)
        acc = Acc(s.acc.type)
        self.new[id(s.acc)] = acc
        epilogue = self.body(s.epilogue)
        return Contract(s.m, s.n, s.k, a_body, self.value(s.a), b_body, self.value(s.b), acc, epilogue)
