"""Comparisons of positions as inequalities ``index >= 0``: what a bool tells where it is true or false."""

from __future__ import annotations

from .index import Index, constant, unmask
from .loops import Apply, Const, IndexValue, InRange, Value
from .scalar import Type


def implied(value: Value, wanted: bool) -> list[Index]:
    """Indices that all are >= 0 wherever `value` is `wanted`; none where nothing is known."""
    match value:
        case InRange(index=e, step=1) if wanted:
            e = unmask(e)
            return [e + -value.lo, e * -1 + (value.hi - 1)]
        case Apply(op="not"):
            return implied(value.args[0], not wanted)
        case Apply(op="and" | "or") if wanted == (value.op == "and"):
            return [e for a in value.args for e in implied(a, wanted)]
        case Apply(op="lt" | "eq"):
            x, y = map(position, value.args)
            if x is None or y is None:
                return []
            if value.op == "lt":
                return [y + x * -1 + -1] if wanted else [x + y * -1]
            return [x + y * -1, y + x * -1] if wanted else []
        case _:
            return []


def position(value: Value) -> Index | None:
    """The index expression that an integer is, if it is one that its type holds exactly."""
    e: Index | None = None
    match value:
        case Const() if value.type.kind in "iu":
            e = constant(int(value.value))
        case IndexValue():
            e = unmask(value.index)
        case Apply(op="add" | "sub" | "neg" | "cast"):
            parts = [position(a) for a in value.args]
            if all(a.type.kind in "iu" for a in value.args) and None not in parts:
                x, *rest = [p for p in parts if p is not None]
                e = x * -1 if value.op == "neg" else x
                for y in rest:
                    e = e + (y if value.op == "add" else y * -1)
        case _:
            pass
    return e if e is not None and _holds(value.type, e) else None


def _holds(type: Type, e: Index) -> bool:
    """Whether an integer type has room for every value of an index."""
    if type.kind not in "iu":
        return False
    low = -(1 << (type.bits - 1)) if type.kind == "i" else 0
    return low <= e.bounds[0] and e.bounds[1] < low + (1 << type.bits)
