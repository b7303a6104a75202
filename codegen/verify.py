"""Legal loop IR: every rule an emitter relies on, checked, with the text around the fault in the message."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Final, NoReturn

from .analysis import added
from .index import Div, Index, Masked, Mod, Var, unmask
from .loops import (
    CONTRACT_BLOCK,
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
    Kernel,
    Load,
    Loop,
    Part,
    Reduce,
    Result,
    Stmt,
    Store,
    Update,
    Value,
)
from .scalar import B1, ELEMENTARY, F32, F64, OPS, Type
from .text import Text

CONTEXT: Final = 5  # lines of text shown on either side of a fault

FUNCTIONS: Final = (*ELEMENTARY, "sqrt", "div", "atan2")
ROUNDINGS: Final = ("floor", "ceil", "trunc", "round")
KINDS: Final[dict[str, str]] = {  # operation -> the kinds of its operands' common type
    **dict.fromkeys((*FUNCTIONS, *ROUNDINGS), "f"),
    **dict.fromkeys(("neg", "abs", "sub", "idiv", "mod", "pow"), "iuf"),
    "muladd": "f",
    **dict.fromkeys(("not", "and", "or", "xor"), "biu"),
    **dict.fromkeys(("shl", "shr"), "iu"),
    **dict.fromkeys(("add", "mul", "max", "min", "lt", "eq", "cast", "bitcast", "where"), "biuf"),
}


class LoopError(AssertionError):
    """Illegal loop IR: a mistake of whoever built it."""


def verify(kernel: Kernel) -> None:
    """Nothing, if the kernel is legal. Raises: LoopError."""
    _Verifier(kernel).kernel()


class _Verifier:
    def __init__(self, kernel: Kernel) -> None:
        self.k = kernel
        self.at: object = kernel
        self.defined: set[int] = {id(p) for p in kernel.params}
        self.vars: set[Var] = set()
        self.written: set[int] = set()
        self.dead = False  # inside a loop that never runs, where bounds mean nothing
        self.pending: set[int] = set()  # carries of the innermost loop that still wait for their Advance

    def fail(self, message: str) -> NoReturn:
        text = Text(self.k, named=True)
        text.kernel()
        lines = [i for i, origin in enumerate(text.origin) if origin is self.at]
        at = lines[0] if lines else 0
        shown = [
            f"{'>' if i == at else ' '} {line}"
            for i, line in enumerate(text.lines)
            if abs(i - at) <= CONTEXT
        ]
        raise LoopError("\n".join([f"{self.k.name}: {message}", *shown]))

    def need(self, condition: bool, message: str) -> None:
        if not condition:
            self.fail(message)

    # the kernel and its scopes ----------------------------------------------------------------------------------
    def kernel(self) -> None:
        for buffers, roles in ((self.k.buffers, ("in", "out", "inout")), (self.k.scratch, ("scratch",))):
            for buffer in buffers:
                expected = " or ".join(roles)
                self.need(buffer.role in roles, f"buffer {buffer.name}: expected role {expected}, got {buffer.role}")
                self.need(buffer.size >= 0, f"buffer {buffer.name}: expected a size >= 0, got {buffer.size}")
        every = [*self.k.buffers, *self.k.scratch]
        self.need(len({id(b) for b in every}) == len(every), "buffers: expected each once")
        self.buffers = {id(b) for b in every}
        self.body(self.k.body)

    @contextmanager
    def scope(self, *variables: Var) -> Iterator[None]:
        defined, dead = set(self.defined), self.dead
        for var in variables:
            self.need(var not in self.vars, f"variable {var.name}: already in scope")
            self.vars.add(var)
            self.dead = self.dead or var.extent <= 0
        yield
        self.vars -= set(variables)
        self.defined, self.dead = defined, dead

    def body(self, body: Sequence[Stmt]) -> None:
        for s in body:
            self.at = s
            self.statement(s)
            self.at = s
            if not isinstance(s, (Store, Update, Loop, Contract)):
                self.defined.add(id(s))

    # what statements are made of --------------------------------------------------------------------------------
    def operand(self, value: Value, what: str) -> None:
        self.need(id(value) in self.defined, f"{what}: expected a value defined before, in an enclosing scope")

    def typed(self, value: Value, type: Type, what: str) -> None:
        self.operand(value, what)
        self.need(value.type is type, f"{what}: expected {type}, got {value.type}")

    def index(self, e: Index) -> None:
        for var in e.variables():
            self.need(var in self.vars, f"index {e!r}: variable {var.name} is not in scope")
        for datum in e.data():
            self.operand(datum.value, f"index {e!r}")
            self.need(
                isinstance(datum.value, Check) and datum.value.n <= datum.n,
                f"index {e!r}: expected data checked to lie in [0, {datum.n})",
            )

    def access(self, buffer: Buffer, e: Index, what: str) -> None:
        self.need(id(buffer) in self.buffers, f"{what}: {buffer.name} is not a buffer of the kernel")
        self.index(e)

    def inside(self, buffer: Buffer, e: Index, what: str) -> None:
        lo, hi = unmask(e).bounds
        self.need(
            self.dead or (lo >= 0 and hi < buffer.size),
            f"{what}: index in [{lo}, {hi}] leaves {buffer.name}, which has {buffer.size} elements",
        )

    def writable(self, buffer: Buffer, what: str) -> None:
        self.need(buffer.role != "in", f"{what}: {buffer.name} is only read")

    def readable(self, buffer: Buffer, what: str) -> None:
        self.need(
            buffer.role in ("in", "inout") or id(buffer) in self.written,
            f"{what}: {buffer.name} ({buffer.role}) is read before it is written",
        )

    # statements -------------------------------------------------------------------------------------------------
    def statement(self, s: Stmt) -> None:
        match s:
            case Const():
                self._const(s)
            case Load():
                self._load(s)
            case Apply():
                self._apply(s)
            case IndexValue():
                self.index(s.index)
                self.need(s.type.kind != "b", "index: expected an integer or float type, got b1")
            case InRange():
                self.index(s.index)
                self.need(s.type is B1 and s.step >= 1, f"inrange: expected b1 and a step >= 1, got {s.type}, {s.step}")
            case Check():
                self._check(s)
            case Reduce():
                self._reduce(s)
            case Result():
                self.need(id(s.reduce) in self.defined, "result: expected a reduction that stands before")
                self.need(0 <= s.k < len(s.reduce.accumulators), f"result: there is no number {s.k}")
                expected = s.reduce.accumulators[s.k].type
                self.need(s.type is expected, f"result: expected {expected}, got {s.type}")
            case Advance():
                self._advance(s)
            case Loop():
                self._loop(s)
            case Store():
                self.access(s.buffer, s.index, "store")
                self.inside(s.buffer, s.index, "store")
                self.writable(s.buffer, "store")
                self.typed(s.value, s.buffer.type, "store")
                self.written.add(id(s.buffer))
            case Update():
                self.need(s.op in ("sum", "max", "min", "set"), f"update: expected sum, max, min or set, got {s.op}")
                self.access(s.buffer, s.index, "update")
                self.inside(s.buffer, s.index, "update")
                self.writable(s.buffer, "update")
                self._added(s, s.buffer.type)
                if s.op != "set":
                    self.readable(s.buffer, "update")
                self.written.add(id(s.buffer))
            case Contract():
                self._contract(s)

    def _const(self, s: Const) -> None:
        expected = {"b": (bool,), "i": (int,), "u": (int,), "f": (float, int)}[s.type.kind]
        fits = isinstance(s.value, expected) and (s.type.kind == "b" or not isinstance(s.value, bool))
        if fits and s.type.kind in "iu":
            low = -(1 << (s.type.bits - 1)) if s.type.kind == "i" else 0
            fits = low <= s.value < low + (1 << s.type.bits)
        self.need(fits, f"constant: {s.value!r} is no {s.type}")

    def _load(self, s: Load) -> None:
        self.access(s.buffer, s.index, "load")
        self.need(s.type is s.buffer.type, f"load: expected {s.buffer.type}, got {s.type}")
        self.readable(s.buffer, "load")
        if s.mask is not None:
            self.typed(s.mask, B1, "load mask")
            return
        guarded = any(isinstance(a, Masked) for a in _atoms(s.index))
        self.need(not guarded, f"load: {s.index!r} is guarded but there is no mask")
        self.inside(s.buffer, s.index, "load")

    def _apply(self, s: Apply) -> None:
        self.need(s.op in OPS, f"{s.op}: no such operation")
        arity = OPS[s.op][0]
        self.need(len(s.args) == arity, f"{s.op}: expected {arity} operands, got {len(s.args)}")
        for a in s.args:
            self.operand(a, s.op)
        types = [a.type for a in s.args]
        if s.op == "where":
            self.need(types[0] is B1, f"where: expected a b1 condition, got {types[0]}")
            types = types[1:]
        common = types[0]
        self.need(all(t is common for t in types), f"{s.op}: expected operands of one type, got {types}")
        self.need(common.kind in KINDS[s.op], f"{s.op}: not defined for {common}")
        match s.op:
            case "cast":
                pass
            case "bitcast":
                same = common.bits == s.type.bits and "b" not in (common.kind, s.type.kind)
                self.need(same, f"bitcast: expected types of one width, got {common} and {s.type}")
            case "lt" | "eq":
                self.need(s.type is B1, f"{s.op}: expected b1, got {s.type}")
            case _:
                self.need(s.type is common, f"{s.op}: expected {common}, got {s.type}")

    def _check(self, s: Check) -> None:
        self.operand(s.value, "check")
        self.need(s.value.type.kind in "iu", f"check: expected an integer, got {s.value.type}")
        self.need(s.type is s.value.type, f"check: expected {s.value.type}, got {s.type}")
        self.need(s.code != 0, "check: expected a status other than 0")
        if s.mask is not None:
            self.typed(s.mask, B1, "check mask")

    def _reduce(self, s: Reduce) -> None:
        self.need(bool(s.vars) and bool(s.accumulators), "reduce: expected variables and accumulators")
        self.need(s.tree in ("row", "column", "subtrees"), f"reduce: expected row, column or subtrees, got {s.tree}")
        with self.scope(*s.vars), self._carries(()):
            self.body(s.body)
            for a in s.accumulators:
                self.at = a
                self._accumulator(a)

    def _accumulator(self, a: Accumulator) -> None:
        self.need(a.op in ("sum", "prod", "max", "min"), f"reduce: expected sum, prod, max or min, got {a.op}")
        self._added(a, a.type)

    def _added(self, s: Accumulator | Update, type: Type) -> None:
        if s.factor is not None:
            self.need(s.op == "sum" and type in (F32, F64), f"{s.op} of {type}: expected no factor")
        for value in added(s):
            self.typed(value, type, s.op)

    @contextmanager
    def _carries(self, carries: tuple[Carry, ...]) -> Iterator[None]:
        before, self.pending = self.pending, {id(c) for c in carries}
        yield
        self.pending = before

    def _loop(self, s: Loop) -> None:
        for c in s.carries:
            known = c.op in ("sum", "prod", "max", "min", "linrec")
            self.need(known, f"carry: expected sum, prod, max, min or linrec, got {c.op}")
        with self.scope(s.var), self._carries(s.carries):
            self.body(s.body)
            self.at = s
            self.need(not self.pending, "loop: a carry is not advanced")

    def _advance(self, s: Advance) -> None:
        self.need(id(s.carry) in self.pending, "advance: expected a carry of the loop around, not advanced yet")
        self.pending.discard(id(s.carry))
        self.need(s.type is s.carry.type, f"advance: expected {s.carry.type}, got {s.type}")
        arity = 2 if s.carry.op == "linrec" else 1
        self.need(len(s.args) == arity, f"advance: expected {arity} operands, got {len(s.args)}")
        for a in s.args:
            self.typed(a, s.type, "advance")

    def _contract(self, s: Contract) -> None:
        for name, variables, body, value in (("a", s.m, s.a_body, s.a), ("b", s.n, s.b_body, s.b)):
            with self.scope(*variables, *s.k), self._carries(()):
                self.body(body)
                self.at = s
                self.typed(value, s.acc.type, f"contract {name}")
        self.need(s.acc.type.kind != "b", "contract: expected numbers, got b1")
        with self.scope(*s.m, *s.n, *s.k):
            for e in s.domain:
                self.index(e)
        if s.part is not None:
            self._part(s, s.part)
        with self.scope(*s.m, *s.n), self._carries(()):
            self.defined.add(id(s.acc))
            self.body(s.epilogue)

    def _part(self, s: Contract, p: Part) -> None:
        step = prod(v.extent for v in s.k)
        lo, hi = p.start.bounds
        self.index(p.start)
        self.need(lo >= 0 and hi + step <= p.total, f"part: [{lo}, {hi + step}) leaves [0, {p.total})")
        self.need(step <= p.step <= CONTRACT_BLOCK, f"part: expected at most {p.step} steps, got {step}")
        self.need(p.total <= CONTRACT_BLOCK or CONTRACT_BLOCK % p.step == 0, f"part: chains end inside {p.step} steps")


def _atoms(e: Index) -> Iterator[object]:
    for atom in e.terms:
        yield atom
        if isinstance(atom, (Div, Mod, Masked)):
            yield from _atoms(atom.index)
