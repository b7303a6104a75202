"""A small typed emitter of LLVM IR text: one function at a time, explicit vectors, no passes.

A `Val` is an SSA name (or literal) with a `Ty`; methods append one instruction and return its `Val`. Intrinsics are
declared as they are used. Nothing here chooses anything: what is asked for is what is written.
"""

from __future__ import annotations

import operator
import struct
from collections.abc import Callable
from functools import cache, lru_cache
from math import copysign
from typing import Final

from .scalar import Type


class Ty:
    """An LLVM value type: `kind` is ``i`` (any integer, i1 included), ``f`` or ``p``; `lanes` 1 means scalar."""

    __slots__ = ("bits", "kind", "lanes", "ll", "suffix")

    def __init__(self, kind: str, bits: int, lanes: int) -> None:
        self.kind = kind
        self.bits = bits
        self.lanes = lanes
        name = {"i": f"i{bits}", "f": {16: "half", 32: "float", 64: "double"}.get(bits, ""), "p": "ptr"}[kind]
        self.ll = name if lanes == 1 else f"<{lanes} x {name}>"
        short = {"i": f"i{bits}", "f": f"f{bits}", "p": "p0"}[kind]
        self.suffix = short if lanes == 1 else f"v{lanes}{short}"

    def scalar(self) -> "Ty":
        return ty(self.kind, self.bits, 1)

    def with_lanes(self, lanes: int) -> "Ty":
        return ty(self.kind, self.bits, lanes)

    def as_int(self) -> "Ty":
        return ty("i", self.bits, self.lanes)

    def as_bool(self) -> "Ty":
        return ty("i", 1, self.lanes)

    def __repr__(self) -> str:
        return self.ll


@cache
def ty(kind: str, bits: int, lanes: int = 1) -> Ty:
    """The unique `Ty` of these fields."""
    return Ty(kind, bits, lanes)


def register_type(type: Type, lanes: int) -> Ty:
    """How a value of a scalar type is held in registers: float16 as float32, bool as i1, the rest as stored."""
    if type.kind == "f":
        return ty("f", max(type.bits, 32), lanes)
    return ty("i", type.bits, lanes)


PTR = ty("p", 64)
I1 = ty("i", 1)
I64 = ty("i", 64)


class Val:
    """An LLVM value: its text and its type. Of a sum with a literal also what was added to what: `plus` to `base`, for
    an address in bytes."""

    __slots__ = ("base", "plus", "ref", "ty")

    def __init__(self, ref: str, ty: Ty, base: "Val | None" = None, plus: int = 0) -> None:
        self.ref = ref
        self.ty = ty
        self.base = base
        self.plus = plus

    def __repr__(self) -> str:
        return f"{self.ty.ll} {self.ref}"


def float_literal(bits: int, value: float) -> str:
    """The LLVM spelling of a float constant of the given width, every bit exact."""
    if bits == 64:
        return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"
    if bits == 32:
        try:
            rounded = struct.unpack("<f", struct.pack("<f", value))[0]
        except OverflowError:
            rounded = float("inf") if value > 0 else float("-inf")
        return f"0x{struct.unpack('<Q', struct.pack('<d', rounded))[0]:016X}"
    return f"0xH{struct.unpack('<H', struct.pack('<e', value))[0]:04X}"


def const(t: Ty, value: bool | int | float) -> Val:
    """A literal of type `t`, the same in every lane. Integers are taken modulo 2^bits."""
    return _const(t, value, t.kind == "f" and copysign(1.0, value))


@lru_cache(4096)
def _const(t: Ty, value: bool | int | float, _sign: float) -> Val:
    """`const`, kept; zeros are equal whatever their sign."""
    if t.kind == "f":
        text = float_literal(t.bits, float(value))
    elif t.bits == 1:
        text = "true" if value else "false"
    else:
        text = str(((int(value) + (1 << (t.bits - 1))) % (1 << t.bits)) - (1 << (t.bits - 1)))
    return Val(text if t.lanes == 1 else f"splat ({t.scalar().ll} {text})", t)


_FOLDED: Final = {"add": operator.add, "sub": operator.sub, "mul": operator.mul, "and": operator.and_}
_COMPARED: Final = {"eq": operator.eq, "sle": operator.le, "slt": operator.lt}


def split(v: Val) -> tuple[Val | None, int]:
    """A value as another one, if there is one, and a literal that is added to it."""
    if v.base is not None:
        return v.base, v.plus
    return (None, int(v.ref)) if v.ref[0] != "%" and v.ty is I64 else (v, 0)


class Module:
    """LLVM module text under construction: intrinsic declarations, globals and finished functions.

    `has_fma` and `has_f16c` say what the target does in hardware; without them a fused multiply-add and conversions
    to and from half would become calls of a C library, so code with the same bits is written out instead.
    `has_avx512`: it has what `codegen.avx512` offers. `has_long`: vectors of 64-bit integers are converted to and from
    doubles by single instructions. `table_bytes`: of the widest registers `codegen.lookup` knows an instruction for.
    """

    def __init__(
        self,
        has_fma: bool = True,
        has_f16c: bool = True,
        has_avx512: bool = False,
        has_long: bool = True,
        table_bytes: int = 0,
    ) -> None:
        self.has_fma = has_fma
        self.has_f16c = has_f16c
        self.has_avx512 = has_avx512
        self.has_long = has_long
        self.table_bytes = table_bytes
        self.declared: dict[str, str] = {}
        self.globals: list[str] = []
        self.functions: list[str] = []
        self.helpers: set[str] = set()
        self.outlined: set[str] = set()  # operations that are called, not written out at every place

    def text(self) -> str:
        return "\n".join([*self.globals, *self.declared.values(), *self.functions, ""])


class Builder:
    """Appends instructions to the current basic block of one function."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.lines: list[str] = []
        self.known: dict[str, Val] = {}  # what `pure` has computed in this block
        self.possible: dict[str, int] = {}  # of masks, the lanes that may be true, as bits; of others it may be all
        self.count = 0
        self.block = "entry"

    # names, blocks ----------------------------------------------------------------------------------------------
    def name(self) -> str:
        self.count += 1
        return f"%t{self.count}"

    def fresh_label(self, hint: str) -> str:
        self.count += 1
        return f"{hint}{self.count}"

    def label(self, label: str) -> None:
        """Starts basic block `label`; the previous one must have ended in a branch."""
        self.lines.append(f"{label}:")
        self.known = {}
        self.block = label

    def branch(self, label: str) -> None:
        self.lines.append(f"  br label %{label}")

    def cond_branch(self, c: Val, then: str, other: str) -> None:
        self.lines.append(f"  br i1 {c.ref}, label %{then}, label %{other}")

    def rare_branch(self, c: Val, rare: str, usual: str) -> None:
        """As `cond_branch`, with `rare` laid out and spilled for as a path that is hardly ever taken."""
        self.module.declared.setdefault("!rare", '!1000 = !{!"branch_weights", i32 1, i32 100000}')
        self.lines.append(f"  br i1 {c.ref}, label %{rare}, label %{usual}, !prof !1000")

    def phi(self, t: Ty) -> tuple[Val, int]:
        """A phi to be completed by `set_phi`; returns its value and its place."""
        v = Val(self.name(), t)
        self.lines.append("")
        return v, len(self.lines) - 1

    def set_phi(self, v: Val, place: int, incoming: list[tuple[Val, str]]) -> None:
        parts = ", ".join(f"[ {x.ref}, %{block} ]" for x, block in incoming)
        self.lines[place] = f"  {v.ref} = phi {v.ty.ll} {parts}"

    # instructions -----------------------------------------------------------------------------------------------
    def emit(self, t: Ty, text: str) -> Val:
        self.count += 1
        ref = f"%t{self.count}"
        self.lines.append(f"  {ref} = {text}")
        return Val(ref, t)

    def pure(self, t: Ty, text: str) -> Val:
        """The result of an instruction that depends on its operands alone: within a block it is written once."""
        found = self.known.get(text)
        if found is None:
            found = self.known[text] = self.emit(t, text)
        return found

    def binary(self, op: str, x: Val, y: Val) -> Val:
        """`op` is an LLVM two-operand instruction: fadd, add, and, shl, ..."""
        if x.ty is I64 and op in _FOLDED:
            found = self._folded(op, x, y)
            if found is not None:
                return found
        out = self.pure(x.ty, f"{op} {x.ty.ll} {x.ref}, {y.ref}")
        if op == "and" and x.ty.bits == 1:
            self.possible[out.ref] = self.lanes(x) & self.lanes(y)
        return out

    def lanes(self, mask: Val) -> int:
        """The lanes of a mask that may be true, as bits."""
        if mask.ref[0] == "<":
            return sum(1 << i for i, text in enumerate(mask.ref[1:-1].split(",")) if text.endswith("true"))
        return self.possible.get(mask.ref, (1 << mask.ty.lanes) - 1)

    def _folded(self, op: str, x: Val, y: Val) -> Val | None:
        """A sum, difference or product of i64 as far as literals decide it; literals that are added in a row are added
        here. What adds only a literal to another value knows that (`Val.base`)."""
        (a, m), (b, n) = split(x), split(y)
        if a is None and b is None:
            return const(I64, _FOLDED[op](m, n))
        if op == "mul":
            return x if b is None and n == 1 else None
        if op == "sub" and b is not None:
            return const(I64, m - n) if a is not None and a.ref == b.ref else None
        if op == "and" or (a is not None and b is not None):
            return None
        return self.plus(a or b, m - n if op == "sub" else m + n)

    def plus(self, base: Val | None, n: int) -> Val:
        """``base + n``, of i64; without a base the literal."""
        if base is None or n == 0:
            return base or const(I64, n)
        found = self.pure(I64, f"add i64 {base.ref}, {n}")
        found.base, found.plus = base, n
        return found

    def opaque(self, x: Val) -> Val:
        """`x`, which LLVM does not look through: a loop counter's step, so that no time goes into rewriting a loop that
        is as it should be (up to a third of all)."""
        return self.emit(x.ty, f"freeze {x.ty.ll} {x.ref}")

    def fneg(self, x: Val) -> Val:
        return self.pure(x.ty, f"fneg {x.ty.ll} {x.ref}")

    def icmp(self, predicate: str, x: Val, y: Val) -> Val:
        if x.ty is I64 and predicate in _COMPARED:
            (a, m), (b, n) = split(x), split(y)
            if a is None and b is None:
                return const(I1, _COMPARED[predicate](m, n))
        return self.pure(x.ty.as_bool(), f"icmp {predicate} {x.ty.ll} {x.ref}, {y.ref}")

    def fcmp(self, predicate: str, x: Val, y: Val) -> Val:
        return self.pure(x.ty.as_bool(), f"fcmp {predicate} {x.ty.ll} {x.ref}, {y.ref}")

    def select(self, c: Val, x: Val, y: Val) -> Val:
        return self.pure(x.ty, f"select {c.ty.ll} {c.ref}, {x.ty.ll} {x.ref}, {y.ty.ll} {y.ref}")

    def convert(self, op: str, x: Val, to: Ty) -> Val:
        """`op`: zext sext trunc fpext fptrunc sitofp uitofp fptosi fptoui bitcast."""
        if x.ty is to:
            return x
        return self.pure(to, f"{op} {x.ty.ll} {x.ref} to {to.ll}")

    def declare(self, name: str, result: str, args: str) -> None:
        if name not in self.module.declared:
            self.module.declared[name] = f"declare {result} @{name}({args})"

    def intrinsic(self, name: str, result: Ty, *args: Val, suffix: str | None = None) -> Val:
        """Calls ``llvm.<name>.<suffix of the result type>``."""
        full = f"llvm.{name}.{suffix or result.suffix}"
        self.declare(full, result.ll, ", ".join(a.ty.ll for a in args))
        return self.pure(result, f"call {result.ll} @{full}({', '.join(f'{a.ty.ll} {a.ref}' for a in args)})")

    def helper(self, name: str, result: Ty, args: tuple[Val, ...], body: "HelperBody") -> Val:
        """Calls the module's internal function `name`; `body` writes it the first time. `name` decides the types."""
        module = self.module
        if name not in module.helpers:
            module.helpers.add(name)
            inner = Builder(module)
            params = tuple(Val(f"%a{i}", a.ty) for i, a in enumerate(args))
            y = body(inner, params)
            head = f"define internal {result.ll} @{name}({', '.join(map(repr, params))}) nounwind {{\nentry:"
            module.functions.append("\n".join([head, *inner.lines, f"  ret {y!r}", "}"]))
        return self.emit(result, f"call {result.ll} @{name}({', '.join(map(repr, args))})")

    def copysign(self, x: Val, sign: Val) -> Val:
        """The magnitude of `x` with the sign of `sign`.

        A scalar's is made of bits: LLVM 22 takes the sign from before conversions and the conversion of the result to
        half through it, and then converts a double to half for its sign, by a call of a C library.
        """
        if x.ty.lanes > 1:
            return self.intrinsic("copysign", x.ty, x, sign)
        bits = x.ty.as_int()
        top = const(bits, -1 << (bits.bits - 1))
        taken = self.binary("and", self.convert("bitcast", sign, bits), top)
        rest = self.convert("bitcast", self.intrinsic("fabs", x.ty, x), bits)
        return self.convert("bitcast", self.binary("or", rest, taken), x.ty)

    def any(self, mask: Val) -> Val:
        """Whether any lane of a vector of bools is true."""
        return mask if mask.ty.lanes == 1 else self.intrinsic("vector.reduce.or", I1, mask, suffix=mask.ty.suffix)

    def fma(self, x: Val, y: Val, z: Val) -> Val:
        """x * y + z rounded once, on every target."""
        if not self.module.has_fma:
            from .soft import fma  # written with this class

            return fma(self, x, y, z)
        return self.intrinsic("fma", x.ty, x, y, z)

    def muladd(self, x: Val, y: Val, z: Val) -> Val:
        """x * y + z, rounded once where there is an instruction for it."""
        if not self.module.has_fma:
            return self.binary("fadd", self.binary("fmul", x, y), z)
        return self.fma(x, y, z)

    def splat(self, x: Val, lanes: int) -> Val:
        """A scalar in every lane."""
        if lanes == 1:
            return x
        t = x.ty.with_lanes(lanes)
        if x.ref[0] != "%":
            return Val(f"splat ({x.ty.ll} {x.ref})", t)
        v = self.pure(t, f"insertelement {t.ll} poison, {x.ty.ll} {x.ref}, i32 0")
        return self.pure(t, f"shufflevector {t.ll} {v.ref}, {t.ll} poison, <{lanes} x i32> zeroinitializer")

    def shuffle(self, x: Val, y: Val | None, lanes: list[int]) -> Val:
        t = x.ty.with_lanes(len(lanes))
        mask = ", ".join(f"i32 {i}" for i in lanes)
        other = y.ref if y else "poison"
        return self.pure(t, f"shufflevector {x.ty.ll} {x.ref}, {x.ty.ll} {other}, <{len(lanes)} x i32> <{mask}>")

    def extract(self, x: Val, lane: int) -> Val:
        return self.pure(x.ty.scalar(), f"extractelement {x.ty.ll} {x.ref}, i32 {lane}")

    def insert(self, x: Val, y: Val, lane: int) -> Val:
        return self.pure(x.ty, f"insertelement {x.ty.ll} {x.ref}, {y.ty.ll} {y.ref}, i32 {lane}")

    # memory -----------------------------------------------------------------------------------------------------
    def gep(self, element: Ty, base: Val, offset: Val) -> Val:
        """Address of element `offset` (i64) from `base`, in units of `element`."""
        if offset.ty.lanes > 1:
            t = PTR.with_lanes(offset.ty.lanes)
            return self.pure(t, f"getelementptr {element.ll}, ptr {base.ref}, {offset.ty.ll} {offset.ref}")
        return self.offset(element, base, *split(offset))

    def offset(self, element: Ty, base: Val, over: Val | None, plus: int) -> Val:
        """Address of element ``over + plus`` from `base`: where only `plus` differs, code differs by a literal."""
        start, bytes = split(base)
        assert start is not None
        if over is not None:
            start = self.pure(PTR, f"getelementptr {element.ll}, ptr {start.ref}, i64 {over.ref}")
        bytes += plus * -(-element.bits * element.lanes // 8)
        if not bytes:
            return start
        found = self.pure(PTR, f"getelementptr i8, ptr {start.ref}, i64 {bytes}")
        found.base, found.plus = start, bytes
        return found

    def load(self, t: Ty, address: Val, align: int) -> Val:
        return self.emit(t, f"load {t.ll}, ptr {address.ref}, align {align}")

    def store(self, x: Val, address: Val, align: int) -> None:
        self.lines.append(f"  store {x.ty.ll} {x.ref}, ptr {address.ref}, align {align}")

    def stream(self, x: Val, address: Val, align: int) -> None:
        """A store past the caches, to an address that is aligned to the vector."""
        self.module.declared.setdefault("!stream", "!1001 = !{i32 1}")
        self.lines.append(f"  store {x.ty.ll} {x.ref}, ptr {address.ref}, align {align}, !nontemporal !1001")

    def fence(self) -> None:
        """Orders stores past the caches before what follows."""
        self.declare("llvm.x86.sse.sfence", "void", "")
        self.lines.append("  call void @llvm.x86.sse.sfence()")

    def prefetch(self, address: Val) -> None:
        """Asks for the line at `address`, which need not exist, to be brought to the second cache."""
        self.declare("llvm.prefetch.p0", "void", "ptr, i32, i32, i32")
        self.lines.append(f"  call void @llvm.prefetch.p0({address!r}, i32 0, i32 2, i32 1)")

    def ret(self) -> None:
        self.lines.append("  ret void")


HelperBody = Callable[[Builder, tuple[Val, ...]], Val]
