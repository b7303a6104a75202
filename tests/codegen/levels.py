"""The instruction sets that tests emit for, which of them this machine runs, and every operation of the table."""

from __future__ import annotations

from collections.abc import Iterator

from codegen import jit
from codegen.ops import CONVERSIONS, TABLE
from codegen.scalar import OPS, TYPES, Type

X86 = ("x86-64-v2", "x86-64-v3", "x86-64-v4")
LEVELS = (*X86, "aarch64")


def runnable_levels() -> list[str]:
    native = jit.target()
    have = {"x86-64-v2": True, "x86-64-v3": native.has_fma, "x86-64-v4": native.vector_bytes == 64}
    return [level for level in X86 if native.triple.startswith("x86_64") and have[level]]


def signatures() -> Iterator[tuple[str, Type, tuple[Type, ...]]]:
    """(op, result, operands) of everything the table has."""
    for op, kind in [*TABLE, *CONVERSIONS]:
        for t in TYPES.values():
            if t.kind != kind:
                continue
            operands = (t,) * OPS[op][0]
            if op == "where":
                yield op, t, (TYPES["b1"], t, t)
            elif op in ("lt", "eq"):
                yield op, TYPES["b1"], operands
            elif op == "cast":
                yield from ((op, to, operands) for to in TYPES.values())
            else:
                yield op, t, operands
