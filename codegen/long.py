"""64-bit integers in vectors: conversions and division by way of doubles, and floats to integers of any width.

Few targets convert whole vectors of 64-bit integers (AVX-512, aarch64: `Module.has_long`); elsewhere the two halves are
written into the low bits of a double's fraction, or read from there. Scalars have their instructions everywhere.
"""

from __future__ import annotations

import struct
from typing import Final

from .builder import Builder, Ty, Val
from .number import Num

_TWO52: Final = 2.0**52
_SIGNED52: Final = 1.5 * 2.0**52  # the low bits of a sum with it are the other term in two's complement


def to_double(b: Builder, x: Val, signed: bool) -> Val:
    """The nearest double."""
    wide = Num(b, x)
    if x.ty.lanes == 1 or b.module.has_long:
        return wide.convert("sitofp" if signed else "uitofp", "f", 64).v
    low = ((wide & 0xFFFFFFFF) | _bits(_TWO52)).real()
    high = wide >> 32
    base = 2.0**84
    if signed:  # with the sign bit flipped, the high half counts from -2^31
        high, base = high ^ (1 << 31), 2.0**84 + 2.0**63
    return ((high | _bits(2.0**84)).real() - (base + _TWO52) + low).v


def to_single(b: Builder, x: Val, signed: bool) -> Val:
    """The nearest float32. Of numbers beyond 53 bits the last bit that a double keeps says whether any below it is set:
    the second rounding is then right."""
    wide = Num(b, x)
    if x.ty.lanes == 1:
        return wide.convert("sitofp" if signed else "uitofp", "f", 32).v
    sticky = (((wide & 0x7FF) + 0x7FF) | wide) & ~0x7FF
    if signed:
        small = (wide + (1 << 53)).below(1 << 54)
    else:
        small = wide.below(1 << 53)
    return Num(b, to_double(b, small.where(wide, sticky).v, signed)).convert("fptrunc", "f", 32).v


def _from_double(b: Builder, x: Num, signed: bool) -> Num:
    """A double of integral value, within the range of the 64-bit integers, as one."""
    if b.module.has_long:
        return x.convert("fptosi" if signed else "fptoui", "i", 64)
    high = Num(b, b.intrinsic("floor", x.ty, (x * 2.0**-32).v))
    low = x - high * 2.0**32
    return ((high + _SIGNED52).bits() << 32) | ((low + _TWO52).bits() & 0xFFFFFFFF)


def saturated(b: Builder, v: Val, to: Ty, signed: bool) -> Val:
    """A float truncated to an integer: the nearest one there is, 0 for NaN."""
    if v.ty.lanes == 1:
        return b.intrinsic("fptosi.sat" if signed else "fptoui.sat", to, v, suffix=f"{to.suffix}.{v.ty.suffix}")
    x = Num(b, v)
    x = x.unordered(x).where(x.like(0.0), x)
    if to.bits == 64 and x.ty.bits == 32:
        x = x.convert("fpext", "f", 64)
    digits = 53 if x.ty.bits == 64 else 24
    magnitude = to.bits - 1 if signed else to.bits
    lowest, highest = -(2 ** (to.bits - 1)) if signed else 0, 2**magnitude - 1
    largest = highest if magnitude <= digits else 2**magnitude - 2 ** (magnitude - digits)
    inside = x.at_least(float(lowest)).at_most(float(largest))
    if to.bits == 64:
        y = _from_double(b, inside.trunc(), signed)
    elif to.bits == 32 and not signed and x.ty.bits == 64:
        y = (inside.trunc() + _TWO52).bits().convert("trunc", "i", 32)
    else:
        y = inside.convert("fptosi" if signed or to.bits < 32 else "fptoui", "i", 32)
        y = y if to.bits == 32 else y.convert("trunc", "i", to.bits)
    if largest != highest:
        y = x.lt(2.0**magnitude).where(y, highest)
    return y.v


def quotient(b: Builder, v: Val, w: Val, signed: bool) -> Val:
    """x / y towards zero, for y != 0 and no overflow."""
    x, y = Num(b, v), Num(b, w)
    if not signed:
        return _unsigned(b, x, y).v
    negative = (x ^ y).lt(0)
    q = _unsigned(b, _magnitude(x), _magnitude(y))
    return negative.where(q.like(0) - q, q).v


def _magnitude(x: Num) -> Num:
    return x.lt(0).where(x.like(0) - x, x)


def _unsigned(b: Builder, x: Num, y: Num) -> Num:
    """The quotient of doubles is right to some 2^12 units; what is left is divided again, and that is right to one.

    Divisors from 2^63 on, whose remainders need not fit a signed number, go at most once.
    """
    divisor = Num(b, to_double(b, y.v, False))
    first = Num(b, to_double(b, x.v, False)) / divisor
    q = _from_double(b, first.at_most(2.0**64 - 2048.0).trunc(), False)
    left = x - q * y
    second = _from_double(b, (Num(b, to_double(b, left.v, True)) / divisor).trunc(), True)
    q = q + second
    left = left - second * y
    q = left.lt(0).where(q - 1, q)
    q = left.gt(y - 1).where(q + 1, q)
    return y.lt(0).where((~x.below(y)).convert("zext", "i", 64), q)


def _bits(value: float) -> int:
    return int.from_bytes(struct.pack("<d", value), "little")
