"""The combining operations of reductions, scans and updates: their scalar operation and their identities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from .builder import Val, const, register_type
from .frame import Frame
from .loops import Accumulator, Update
from .ops import emit_op
from .scalar import F32, Type

COMBINE: Final = {"sum": "add", "prod": "mul", "max": "max", "min": "min"}
COMBINE_BOOL: Final = {"sum": "or", "prod": "and", "max": "or", "min": "and"}


def wide_type(type: Type) -> Type:
    """The type a reduction accumulates in: float32 for float16, else its own."""
    return F32 if type.kind == "f" and type.bits < 32 else type


def is_ordered(op: str, type: Type) -> bool:
    """Whether the order of combination shows in the result."""
    return type.kind == "f" and op in ("sum", "prod")


def combine(f: Frame, op: str, type: Type, x: Val, y: Val) -> Val:
    """``op(x, y)`` with x the older, in the accumulation type."""
    name = (COMBINE_BOOL if type.kind == "b" else COMBINE)[op]
    t = wide_type(type)
    return emit_op(f.b, name, t, (t, t), (x, y))


def accumulate(f: Frame, s: Accumulator | Update, type: Type, old: Val, values: Sequence[Val]) -> Val:
    """`old` after one more element: what `analysis.added` says of `s`, in `values`."""
    if len(values) == 1:
        return combine(f, s.op, type, old, *values)
    return emit_op(f.b, "muladd", type, (type, type, type), (*values, old))


def identity(op: str, type: Type, lanes: int, empty: bool = False) -> Val:
    """What an absent element contributes (`empty`: the result when there are none at all)."""
    return const(register_type(type, lanes), _identity(op, type, empty))


def _identity(op: str, type: Type, empty: bool) -> bool | int | float:
    match op:
        case "sum":
            return -0.0 if type.kind == "f" and not empty else 0
        case "linrec":
            return 0
        case "prod":
            return 1
        case "max" | "min":
            low = op == "max"
            if type.kind == "f":
                return float("-inf") if low else float("inf")
            if type.kind == "i":
                return -(1 << (type.bits - 1)) if low else (1 << (type.bits - 1)) - 1
            return 0 if low else (1 << type.bits) - 1
        case _:
            raise AssertionError(f"reduction: expected sum, prod, max, min or linrec, got {op}")


