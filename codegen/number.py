"""Arithmetic notation over the Builder: formulas of `codegen.math` read as formulas, each operator one instruction.

A plain number beside a `Num` becomes a constant of its type. `<<` and `>>` shift bits (``>>`` brings in zeros);
`Num.gt` and the like are ordered comparisons, false with NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Union

from .builder import Builder, Ty, Val, const, ty

SPECS: Final = {32: (23, 127), 64: (52, 1023)}  # float width -> (fraction bits, exponent bias)


class Num:
    """An SSA value with operators."""

    __slots__ = ("b", "v")

    def __init__(self, b: Builder, v: Val) -> None:
        self.b = b
        self.v = v

    @property
    def ty(self) -> Ty:
        return self.v.ty

    def like(self, x: "Number") -> "Num":
        """`x` as a `Num` of this one's type."""
        return x if isinstance(x, Num) else Num(self.b, const(self.ty, x))

    def _binary(self, real: str, integer: str, y: "Number") -> "Num":
        name = real if self.ty.kind == "f" else integer
        return Num(self.b, self.b.binary(name, self.v, self.like(y).v))

    def __add__(self, y: "Number") -> "Num":
        return self._binary("fadd", "add", y)

    def __sub__(self, y: "Number") -> "Num":
        return self._binary("fsub", "sub", y)

    def __mul__(self, y: "Number") -> "Num":
        return self._binary("fmul", "mul", y)

    def __truediv__(self, y: "Num") -> "Num":
        return Num(self.b, self.b.binary("fdiv", self.v, y.v))

    def __rtruediv__(self, y: float) -> "Num":
        return self.like(y) / self

    def __neg__(self) -> "Num":
        return Num(self.b, self.b.fneg(self.v))

    def __and__(self, y: "Number") -> "Num":
        return Num(self.b, self.b.binary("and", self.v, self.like(y).v))

    def __or__(self, y: "Number") -> "Num":
        return Num(self.b, self.b.binary("or", self.v, self.like(y).v))

    def __xor__(self, y: "Number") -> "Num":
        return Num(self.b, self.b.binary("xor", self.v, self.like(y).v))

    def __invert__(self) -> "Num":
        return self ^ -1 if self.ty.bits > 1 else self ^ True

    def __lshift__(self, y: "Number") -> "Num":
        return Num(self.b, self.b.binary("shl", self.v, self.like(y).v))

    def __rshift__(self, y: "Number") -> "Num":
        return Num(self.b, self.b.binary("lshr", self.v, self.like(y).v))

    # comparisons and choice ---------------------------------------------------------------------------------------
    def _compare(self, real: str, integer: str, y: "Number") -> "Num":
        if self.ty.kind == "f":
            return Num(self.b, self.b.fcmp(real, self.v, self.like(y).v))
        return Num(self.b, self.b.icmp(integer, self.v, self.like(y).v))

    def lt(self, y: "Number") -> "Num":
        return self._compare("olt", "slt", y)

    def gt(self, y: "Number") -> "Num":
        return self._compare("ogt", "sgt", y)

    def eq(self, y: "Number") -> "Num":
        return self._compare("oeq", "eq", y)

    def ne(self, y: "Number") -> "Num":
        return self._compare("une", "ne", y)

    def below(self, y: "Number") -> "Num":
        """Unsigned integer comparison."""
        return Num(self.b, self.b.icmp("ult", self.v, self.like(y).v))

    def unordered(self, y: "Num") -> "Num":
        """Whether either is NaN."""
        return Num(self.b, self.b.fcmp("uno", self.v, y.v))

    def where(self, x: "Num", y: "Number") -> "Num":
        """`x` where this bool is true, else `y`."""
        return Num(self.b, self.b.select(self.v, x.v, x.like(y).v))

    def at_least(self, bound: float) -> "Num":
        """The larger of this and a constant, NaN staying NaN: one instruction on x86."""
        low = self.like(bound)
        return low.gt(self).where(low, self)

    def at_most(self, bound: "Number") -> "Num":
        """The smaller of this and a bound, NaN staying NaN: one instruction on x86."""
        high = self.like(bound)
        return high.lt(self).where(high, self)

    # bits, conversions --------------------------------------------------------------------------------------------
    def bits(self) -> "Num":
        """The bits of a float as an integer of its width."""
        return Num(self.b, self.b.convert("bitcast", self.v, self.ty.as_int()))

    def real(self) -> "Num":
        """The float with these bits."""
        t = self.ty
        return Num(self.b, self.b.convert("bitcast", self.v, ty("f", t.bits, t.lanes)))

    def convert(self, op: str, kind: str, bits: int) -> "Num":
        return Num(self.b, self.b.convert(op, self.v, ty(kind, bits, self.ty.lanes)))

    def abs(self) -> "Num":
        return Num(self.b, self.b.intrinsic("fabs", self.ty, self.v))

    def sqrt(self) -> "Num":
        return Num(self.b, self.b.intrinsic("sqrt", self.ty, self.v))

    def trunc(self) -> "Num":
        return Num(self.b, self.b.intrinsic("trunc", self.ty, self.v))

    def sign_of(self, x: "Num") -> "Num":
        """This magnitude with the sign of `x`."""
        return Num(self.b, self.b.copysign(self.v, x.v))


Number = Union[Num, int, float]


def fma(x: Num, y: "Number", z: "Number") -> Num:
    """x * y + z rounded once."""
    return Num(x.b, x.b.fma(x.v, x.like(y).v, x.like(z).v))


def horner(x: Num, coefficients: tuple[float, ...]) -> Num:
    """The polynomial of `x` with these coefficients, lowest power first."""
    *rest, last = coefficients
    y = x.like(last)
    for c in reversed(rest):
        y = fma(y, x, c)
    return y


def rarely(lanes: Num, y: Num, body: Callable[[], Num]) -> Num:
    """What `body` emits where `lanes` holds, else `y`; a block of its own that is entered only if a lane needs it."""
    b = y.b
    start, rare, done = b.block, b.fresh_label("rare"), b.fresh_label("done")
    b.rare_branch(b.any(lanes.v), rare, done)
    b.label(rare)
    mended = lanes.where(body(), y)
    end = b.block
    b.branch(done)
    b.label(done)
    result, place = b.phi(y.ty)
    b.set_phi(result, place, [(y.v, start), (mended.v, end)])
    return Num(b, result)
