"""The text form of a kernel: deterministic, one statement a line, values numbered in order of definition."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from .analysis import added
from .index import Atom, Datum, Div, Index, Masked, Mod, Var
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


def dump(kernel: Kernel) -> str:
    """The kernel as people read it, with the names of its buffers, parameters and variables."""
    return Text(kernel, named=True).kernel()


def canonical(kernel: Kernel) -> str:
    """The kernel with every name replaced by a number: equal texts are equal code."""
    return Text(kernel, named=False).kernel()


class Text:
    """Writes one kernel. `lines` is kept together with the statement each line came from, for the verifier."""

    def __init__(self, kernel: Kernel, named: bool) -> None:
        self.k = kernel
        self.named = named
        self.lines: list[str] = []
        self.origin: list[object] = []
        self.names: dict[int, str] = {}
        self.used: set[str] = set()
        self.count = 0
        self.vars = 0
        self.carries = 0

    # names ------------------------------------------------------------------------------------------------------
    def unique(self, wanted: str, fallback: str) -> str:
        name = wanted if self.named and wanted else fallback
        if name in self.used:
            n = 1
            while f"{name}_{n}" in self.used:
                n += 1
            name = f"{name}_{n}"
        self.used.add(name)
        return name

    def define(self, value: object) -> str:
        name = self.names[id(value)] = f"%{self.count}"
        self.count += 1
        return name

    def ref(self, value: object) -> str:
        return self.names.get(id(value), "%?")

    def bind(self, var: Var) -> str:
        self.vars += 1
        name = self.names[id(var)] = self.unique(var.name, f"i{self.vars - 1}")
        return f"{name} in {var.extent}"

    # pieces -----------------------------------------------------------------------------------------------------
    def atom(self, a: Atom) -> str:
        match a:
            case Var():
                return self.names.get(id(a), f"?{a.name}")
            case Div():
                return f"({self.index(a.index)})//{a.n}"
            case Mod():
                return f"({self.index(a.index)})%{a.n}"
            case Masked():
                return f"<{self.index(a.index)}>{a.n}"
            case Datum():
                return f"[{self.ref(a.value)}]{a.n}"

    def index(self, e: Index) -> str:
        out = ""
        for a, coef in e.terms.items():
            text = self.atom(a) if abs(coef) == 1 else f"{self.atom(a)}*{abs(coef)}"
            out += (" - " if coef < 0 else " + ") + text if out else ("-" if coef < 0 else "") + text
        if e.const or not out:
            sign = " - " if e.const < 0 else " + "
            out = f"{out}{sign}{abs(e.const)}" if out else str(e.const)
        return out

    def constant(self, c: Const) -> str:
        if c.type.kind != "f":
            return str(c.value)
        value = float(c.value)
        if value == value:
            return repr(value)
        return f"nan:{struct.unpack('<Q', struct.pack('<d', value))[0]:x}"

    def where(self, mask: Value | None) -> str:
        return "" if mask is None else f" if {self.ref(mask)}"

    def element(self, buffer: Buffer, e: Index) -> str:
        return f"{self.names.get(id(buffer), '?' + buffer.name)}[{self.index(e)}]"

    def added(self, s: Accumulator | Update) -> str:
        return " * ".join(map(self.ref, added(s)))

    # statements -------------------------------------------------------------------------------------------------
    def line(self, depth: int, text: str, origin: object) -> None:
        self.lines.append("  " * depth + text)
        self.origin.append(origin)

    def kernel(self) -> str:
        k = self.k
        arguments = []
        for i, buffer in enumerate(k.buffers):
            name = self.names[id(buffer)] = self.unique(buffer.name, f"b{i}")
            arguments.append(f"{buffer.role} {name}: {buffer.type}*{buffer.size}")
        for i, param in enumerate(k.params):
            name = self.names[id(param)] = self.unique(param.name, f"p{i}")
            arguments.append(f"{name}: {param.type}")
        self.line(0, f"kernel {k.name if self.named else 'k'}({', '.join(arguments)}) {{", k)
        for i, buffer in enumerate(k.scratch):
            name = self.names[id(buffer)] = self.unique(buffer.name, f"t{i}")
            self.line(1, f"scratch {name}: {buffer.type}*{buffer.size}", buffer)
        self.body(k.body, 1)
        self.line(0, "}", k)
        return "\n".join(self.lines) + "\n"

    def body(self, body: Sequence[Stmt], depth: int) -> None:
        for s in body:
            self.statement(s, depth)

    def statement(self, s: Stmt, depth: int) -> None:
        match s:
            case Loop():
                self._loop(s, depth)
            case Reduce():
                self._reduce(s, depth)
            case Contract():
                self._contract(s, depth)
            case Store():
                self.line(depth, f"store {self.element(s.buffer, s.index)}, {self.ref(s.value)}", s)
            case Update():
                self.line(depth, f"update {s.op} {self.element(s.buffer, s.index)}, {self.added(s)}", s)
            case _:
                text = self._leaf(s)
                self.line(depth, f"{self.define(s)}: {s.type} = {text}", s)

    def _leaf(self, s: Const | Load | Apply | IndexValue | InRange | Check | Result | Advance) -> str:
        match s:
            case Const():
                return self.constant(s)
            case Load():
                return f"load {self.element(s.buffer, s.index)}{self.where(s.mask)}"
            case Apply():
                return f"{s.op} {', '.join(self.ref(a) for a in s.args)}"
            case IndexValue():
                return f"index {self.index(s.index)}"
            case InRange():
                step = f" step {s.step}" if s.step > 1 else ""
                return f"inrange {self.index(s.index)} in {s.lo}..{s.hi}{step}"
            case Check():
                return f"check {self.ref(s.value)} < {s.n} else {s.code}{self.where(s.mask)}"
            case Result():
                return f"result {self.ref(s.reduce)}.{s.k}"
            case Advance():
                return f"advance {self.ref(s.carry)}, {', '.join(self.ref(a) for a in s.args)}"

    def _carry(self, c: Carry) -> str:
        name = self.names[id(c)] = self.unique("", f"c{self.carries}")
        self.carries += 1
        return f"{name} {c.op}: {c.type}"

    def _loop(self, s: Loop, depth: int) -> None:
        carries = f" carry {', '.join(self._carry(c) for c in s.carries)}" if s.carries else ""
        self.line(depth, f"for {self.bind(s.var)}{carries} {{", s)
        self.body(s.body, depth + 1)
        self.line(depth, "}", s)

    def _reduce(self, s: Reduce, depth: int) -> None:
        name = self.define(s)
        self.line(depth, f"{name} = reduce {s.tree} {', '.join(self.bind(v) for v in s.vars)} {{", s)
        self.body(s.body, depth + 1)
        for a in s.accumulators:
            self.line(depth + 1, f"{a.op} {self.added(a)}: {a.type}", a)
        self.line(depth, "}", s)

    def _contract(self, s: Contract, depth: int) -> None:
        groups = "; ".join(
            f"{name} {', '.join(self.bind(v) for v in variables)}".rstrip()
            for name, variables in (("m", s.m), ("n", s.n), ("k", s.k))
        )
        part = "" if s.part is None else self._part(s.part)
        if part:
            part = f" as {self.names.setdefault(id(s), f'sums{len(self.names)}')}{part}"
        self.line(depth, f"contract {groups}{part}{f' by {s.how}' * bool(s.how)} {{", s)
        for e in s.domain:
            self.line(depth + 1, f"where {self.index(e)} >= 0", s)
        self.body(s.a_body, depth + 1)
        self.line(depth + 1, f"a {self.ref(s.a)}", s)
        self.body(s.b_body, depth + 1)
        self.line(depth + 1, f"b {self.ref(s.b)}", s)
        self.line(depth, f"}} then {self._accumulated(s.acc)} {{", s)
        self.body(s.epilogue, depth + 1)
        self.line(depth, "}", s)

    def _part(self, p: Part) -> str:
        after = "" if p.after is None else f" after {self.names[id(p.after)]}"
        return f" from {self.index(p.start)} step {p.step} of {p.total}{after}"

    def _accumulated(self, acc: Acc) -> str:
        return f"{self.define(acc)}: {acc.type}"


