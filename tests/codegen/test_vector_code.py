"""Every operation of the table, on every dtype and instruction set, is vectors of the full width all the way.

Facts are read from the assembly of a loop of whole vectors: registers of the full width occur, and no instruction
works on a single lane, outside of the functions for rare lanes (huge arguments of sin, FMA without hardware).
"""

from __future__ import annotations

import re

import pytest
from kernel_tools import buffer
from levels import LEVELS, signatures

from codegen import jit
from codegen.assemble import assembly
from codegen.index import Var, of
from codegen.loops import Apply, Kernel, Load, Loop, Store
from codegen.scalar import I32, Type

ROWS = 300  # enough for threads to share the rows, not the elements of one
SLOW = {"x86-64-v2", "x86-64-v4"}
WIDE = {"x86-64-v2": r"%xmm", "x86-64-v3": r"%ymm", "x86-64-v4": r"%zmm", "aarch64": r"\bv\d+\.(16b|8h|4s|2d)|\bq\d+"}
RARE = re.compile(r"huge|fma|inverse_pi")
LANE = {  # instructions on one lane: division, conversion, moves between lanes and general registers
    "x86": re.compile(
        r"\s(i?div[bwlq]|v?cvtt?s[sd]2u?si[lq]?|v?cvtu?si2s[sd][lq]?|v?pinsr[bwdq])\s"
        r"|\sv?pextr[bwdq]\s+\$(?!0, %xmm\d+, -?\d*\()"  # but the lowest lanes may be stored
    ),
    "aarch64": re.compile(r"\s([su]div|fcvtz[su]\s+[wx]\d+|[su]cvtf\s+[sd]\d+|[us]?mov\s+[wx]\d+, v\d+)"),
}
# NEON does not multiply 64-bit integers.
MISSING = {("aarch64", op, 64) for op in ("mul", "idiv", "mod", "pow", "cbrt")}


def whole(op: str, result: Type, operands: tuple[Type, ...], count: int = 256) -> Kernel:
    """Rows of whole vectors, with gaps between them so that they stay rows: an inner loop without a tail."""
    gap = 2 * count
    sources = [buffer(t, ROWS * gap, "in", f"x{k}") for k, t in enumerate(operands)]
    y = buffer(result, ROWS * gap, "out", "y")
    b, i = Var(ROWS), Var(count)
    loads = [Load(t, x, of(b) * gap + of(i)) for t, x in zip(operands, sources, strict=True)]
    value = Apply(op, result, tuple(loads))
    return Kernel("f", (*sources, y), (), [Loop(b, [Loop(i, [*loads, value, Store(y, of(b) * gap + of(i), value)])])])


def functions(assembly: str) -> dict[str, str]:
    """The text of each function by its name."""
    parts = re.split(r"^\"?([\w.]+)\"?:.*@.*$|^\"?([a-zA-Z][\w.]*)\"?:\s*(?:[#/].*)?$", assembly, flags=re.M)
    found, name = {}, ""
    for k in range(1, len(parts), 3):
        name = parts[k] or parts[k + 1]
        found[name] = parts[k + 2]
    return found


@pytest.mark.parametrize("level", [pytest.param(v, marks=pytest.mark.slow if v in SLOW else ()) for v in LEVELS])
def test_every_operation_is_vectors_of_the_full_width(level: str) -> None:
    target = jit.target(level)
    lane = LANE["aarch64" if level == "aarch64" else "x86"]
    faults = []
    for op, result, operands in signatures():
        if op in ("cast", "bitcast") and operands == (result,):
            continue
        text = jit.emit(whole(op, result, operands), target, "f")
        code = functions(assembly(text, target))
        name = f"{op} {result} of {', '.join(map(str, operands))}"
        lanes = target.vector_bytes // max(t.bytes for t in (result, *operands))
        narrowing = op in ("cast", "bitcast") and f"<{lanes} x " in text  # its parts may be narrower than the registers
        if not narrowing and not re.search(WIDE[level], code["f"]):
            faults.append(f"{name}: no vector of the full width")
        scalar = [m.group().strip() for key, text in code.items() if not RARE.search(key) for m in lane.finditer(text)]
        if scalar and (level, op, result.bits) not in MISSING:
            faults.append(f"{name}: {', '.join(sorted(set(scalar)))} ({len(scalar)})")
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("level", [level for level in LEVELS if not jit.target(level).masks])
def test_scalar_code_is_seen(level: str) -> None:
    """In the tail of a loop, where there are no masks."""
    target, x, y, i = jit.target(level), buffer(I32, 1000), buffer(I32, 1000, "out"), Var(1000)
    a = Load(I32, x, of(i))
    out = Apply("idiv", I32, (a, a))
    text = jit.emit(Kernel("f", (x, y), (), [Loop(i, [a, out, Store(y, of(i), out)])]), target, "f")
    code = functions(assembly(text, target))
    assert LANE["aarch64" if level == "aarch64" else "x86"].search(code["f"])
