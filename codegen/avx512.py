"""Two instructions of AVX-512 that LLVM has no general name for. Each gives the bits of what other targets compute."""

from __future__ import annotations

from .builder import Builder, Ty, Val, const, ty

SMALLEST, WIDEST = 128, 512  # bits of a register
MAX = 0b0101  # the larger one, with its sign; -0 < +0
MIN = 0b0100
BOUND = 0b0010  # the one of smaller absolute value, with the sign of the first


def select(b: Builder, which: int, x: Val, y: Val) -> Val | None:
    """The larger or smaller of two floats; where one is NaN, the other one. None where there is no instruction."""
    return _pieces(b, "range", x, y, f", i32 {which}")


def serves(b: Builder, t: Ty) -> bool:
    """Whether there are instructions for vectors of this type."""
    bits = t.bits * t.lanes
    return b.module.has_avx512 and bits >= SMALLEST and not bits & (bits - 1)


def bounded(b: Builder, x: Val, bound: Val) -> Val:
    """x where ``|x| <= bound``, else the bound with some sign, for NaN too; for what `serves` says."""
    found = _pieces(b, "range", x, bound, f", i32 {BOUND}")
    assert found is not None
    return found


def scale(b: Builder, x: Val, n: Val) -> Val | None:
    """x * 2^n for n rounded down to an integer, the result rounded once. None where there is no instruction."""
    return _pieces(b, "scalef", x, n, "")


def _pieces(b: Builder, name: str, x: Val, y: Val, immediate: str) -> Val | None:
    t = x.ty
    bits = t.bits * t.lanes
    if not serves(b, t):
        return None
    if bits <= WIDEST:
        return _call(b, name, x, y, immediate)
    half = t.lanes // 2
    parts = []
    for lanes in (list(range(half)), list(range(half, t.lanes))):
        part = _pieces(b, name, b.shuffle(x, None, lanes), b.shuffle(y, None, lanes), immediate)
        assert part is not None
        parts.append(part)
    return b.shuffle(parts[0], parts[1], list(range(t.lanes)))


def _call(b: Builder, name: str, x: Val, y: Val, immediate: str) -> Val:
    t = x.ty
    bits = t.bits * t.lanes
    full = f"llvm.x86.avx512.mask.{name}.p{'s' if t.bits == 32 else 'd'}.{bits}"
    mask = ty("i", max(t.lanes, 8))
    rounding = ", i32 4" if bits == WIDEST else ""  # as MXCSR says
    types = f"{t.ll}, {t.ll}{', i32' if immediate else ''}, {t.ll}, {mask.ll}{', i32' if rounding else ''}"
    b.declare(full, t.ll, types)
    args = f"{x!r}, {y!r}{immediate}, {t.ll} zeroinitializer, {const(mask, -1)!r}{rounding}"
    return b.pure(t, f"call {t.ll} @{full}({args})")

