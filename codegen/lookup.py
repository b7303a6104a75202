"""One of eight constants for each lane, by the low bits of an integer there.

A table of eight fits into one or two registers, and where an instruction permutes these by an index of each lane, it
looks up all lanes: doubles as two words where it knows words only. Elsewhere constants are selected bit by bit.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from .builder import Builder, Ty, Val, const, ty
from .number import Num

COUNT: Final = 8
_PERMUTE: Final = {  # (bytes of a register, bits of a lane) -> intrinsic, and its suffix
    (16, 32): ("aarch64.neon.tbl2", "v16i8"),
    (32, 32): ("x86.avx2", "permd"),
    (64, 32): ("x86.avx512.permvar.si", "512"),
    (64, 64): ("x86.avx512.permvar.di", "512"),
}


def lookup(table: Sequence[float], index: Num) -> Num:
    """``table[i]`` as a float of the width of `index`, an integer, for i its low three bits."""
    form = {32: "<f", 64: "<d"}[index.ty.bits]
    return _bits([int.from_bytes(struct.pack(form, x), "little") for x in table], index).real()


def _bits(table: Sequence[int], index: Num) -> Num:
    b, t = index.b, index.ty
    widest = b.module.table_bytes
    if not widest:
        return _selected([index.like(x) for x in table], index)
    lanes = [8 * size // bits for size, bits in _PERMUTE if bits == t.bits and min(widest, 32) <= size <= widest]
    if lanes:
        return Num(b, _pieces(table, b, index.v, next((n for n in lanes if n >= t.lanes), lanes[-1])))
    n = 2 * t.lanes
    both = b.shuffle(b.convert("bitcast", index.v, ty("i", 32, n)), None, [i & ~1 for i in range(n)])
    low, high = (_bits([x >> shift & 0xFFFFFFFF for x in table], Num(b, both)).v for shift in (0, 32))
    return Num(b, b.convert("bitcast", b.shuffle(low, high, [i + n * (i & 1) for i in range(n)]), t))


def _selected(table: Sequence[Num], index: Num) -> Num:
    bit = 1
    while len(table) > 1:
        odd = (index & bit).ne(0)
        table = [odd.where(y, x) for x, y in zip(table[::2], table[1::2], strict=True)]
        bit *= 2
    return table[0]


def _pieces(table: Sequence[int], b: Builder, index: Val, lanes: int) -> Val:
    """Vectors of another length than a register: its halves, or part of one."""
    n = index.ty.lanes
    if n == lanes:
        return _permuted(table, b, index)
    if n > lanes:
        low, high = (_pieces(table, b, b.shuffle(index, None, [*range(k, k + n // 2)]), lanes) for k in (0, n // 2))
        return b.shuffle(low, high, [*range(n)])
    wide = b.splat(index, lanes) if n == 1 else b.shuffle(index, None, [i % n for i in range(lanes)])
    found = _permuted(table, b, wide)
    return b.extract(found, 0) if n == 1 else b.shuffle(found, None, [*range(n)])


def _permuted(table: Sequence[int], b: Builder, index: Val) -> Val:
    t = index.ty
    size = t.bits * t.lanes // 8
    name, suffix = _PERMUTE[size, t.bits]
    if size > 16:
        return b.intrinsic(name, t, _literal(t, [*table] * (t.lanes // COUNT)), index, suffix=suffix)
    places = (Num(b, index) & COUNT - 1) * 0x04040404 + 0x03020100
    vector = ty("i", 8, 16)
    low, high, at = (
        b.convert("bitcast", v, vector) for v in (_literal(t, table[:4]), _literal(t, table[4:]), places.v)
    )
    return b.convert("bitcast", b.intrinsic(name, vector, low, high, at, suffix=suffix), t)


def _literal(t: Ty, values: Sequence[int]) -> Val:
    return Val(f"<{', '.join(repr(const(t.scalar(), x)) for x in values)}>", t)
