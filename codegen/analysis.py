"""Facts about pieces of loop IR: which variables a value depends on, which types a body handles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .index import Index, Var
from .loops import (
    Accumulator,
    Advance,
    Apply,
    Buffer,
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
from .scalar import F32, Type


def statements(body: Sequence[Stmt]) -> Iterator[Stmt]:
    """Every statement of a body and of the bodies inside, in order."""
    for s in body:
        yield s
        if isinstance(s, Contract):
            for inner in (s.a_body, s.b_body, s.epilogue):
                yield from statements(inner)
        elif isinstance(s, (Loop, Reduce)):
            yield from statements(s.body)


def indices(s: Stmt) -> tuple[Index, ...]:
    """The index expressions that a statement holds itself."""
    match s:
        case Load() | Store() | Update() | IndexValue() | InRange():
            return (s.index,)
        case Contract():
            return s.domain if s.part is None else (*s.domain, s.part.start)
        case _:
            return ()


def buffers(body: Sequence[Stmt]) -> Iterator[Buffer]:
    """The buffer of every access, as often as there are accesses."""
    for s in statements(body):
        if isinstance(s, (Load, Store, Update)):
            yield s.buffer


def operands(s: Stmt) -> tuple[Value, ...]:
    """The values that a statement reads itself, those inside its index left out."""
    match s:
        case Load(mask=mask):
            return () if mask is None else (mask,)
        case Apply(args=args) | Advance(args=args):
            return args
        case Check(value=value, mask=mask):
            return (value,) if mask is None else (value, mask)
        case Store(value=value):
            return (value,)
        case Update() as update:
            return added(update)
        case Reduce(accumulators=accumulators):
            return tuple(v for a in accumulators for v in added(a))
        case Contract(a=a, b=b):
            return (a, b)
        case Const() | IndexValue() | InRange() | Result() | Loop():
            return ()


def added(s: Accumulator | Update) -> tuple[Value, ...]:
    """What is added up: one value, or two whose product it is."""
    return (s.value,) if s.factor is None else (s.value, s.factor)


class Dependence:
    """The loop variables each value depends on, memoised. A carry's value depends on its loop."""

    def __init__(self, body: Sequence[Stmt]) -> None:
        self.known: dict[int, frozenset[Var]] = {}
        self._walk(body)

    def of(self, value: Value | Stmt) -> frozenset[Var]:
        return self.known.get(id(value), frozenset())

    def index(self, e: Index) -> frozenset[Var]:
        found = frozenset(e.variables())
        for datum in e.data():
            found |= self.of(datum.value)
        return found

    def _walk(self, body: Sequence[Stmt]) -> frozenset[Var]:
        everything: frozenset[Var] = frozenset()
        for s in body:
            found: frozenset[Var] = frozenset()
            for e in indices(s):
                found |= self.index(e)
            match s:
                case Loop():
                    found |= self._walk(s.body) - {s.var}
                case Reduce():
                    found |= self._walk(s.body) - set(s.vars)
                case Contract():
                    for inner in (s.a_body, s.b_body):
                        found |= self._walk(inner)
                    self.known[id(s.acc)] = found - set(s.k)
                    found |= self._walk(s.epilogue)
                    found -= {*s.m, *s.n, *s.k}
                case Result():
                    found |= self.known[id(s.reduce)]
                case _:
                    for value in operands(s):
                        found |= self.of(value)
            self.known[id(s)] = found
            everything |= found
        return everything


def dominating_bytes(body: Sequence[Stmt]) -> int:
    """Bytes of the largest float a body computes with (float16 in float32), else of the largest type it moves."""
    floats: list[int] = []
    others: list[int] = []

    def note(t: Type) -> None:
        (floats if t.kind == "f" else others).append(max(t.bytes, F32.bytes) if t.kind == "f" else t.bytes)

    for s in statements(body):
        match s:
            case Load() | Store() | Update():
                note(s.buffer.type)
            case Apply() | Advance() | IndexValue() | Check() | Result():
                note(s.type)
            case _:
                pass
    return max(floats or others or [4])


def is_leaf(s: Stmt) -> bool:
    """Whether a statement has no body of its own."""
    return not isinstance(s, (Loop, Reduce, Contract))


def sole(body: Sequence[Stmt]) -> Stmt | None:
    """The only statement with a body of its own, if all others may be repeated.

    They read nothing written here, and write nothing that is updated here.
    """
    found = [s for s in body if not is_leaf(s)]
    if len(found) != 1:
        return None
    beside = [s for s in body if isinstance(s, (Load, Store, Update))]
    if not beside:
        return found[0]
    updated = {id(s.buffer) for s in statements(body) if isinstance(s, Update)}
    written = updated | {id(s.buffer) for s in statements(body) if isinstance(s, Store)}
    for s in beside:
        if isinstance(s, Update) or (isinstance(s, Load) and id(s.buffer) in written):
            return None
        if isinstance(s, Store) and id(s.buffer) in updated:
            return None
    return found[0]
