"""How the walk of a kernel passes through each operation that is not arithmetic: the index and mask of its source.

Each row is a generator: it yields the (node, index, mask) whose value it needs and returns its own value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from codegen import index as ix
from codegen import loops as lo
from codegen.index import Index
from codegen.scalar import B1, I64, TYPES, Type

from ..canonical import identity as identity_of
from ..ir import SHORT, DType, Node, Op, Shape
from ..schedule.group import squeezed

if TYPE_CHECKING:
    from .walk import Lowering, Walk


def scalar_type(dtype: DType) -> Type:
    """The loop IR's type of a dtype."""
    return TYPES[SHORT[dtype]]


def _iota(self: Lowering, n: Node, idx: tuple[Index, ...], _mask: "lo.Value | None") -> Walk:
    e = ix.unmask(idx[0])
    return self.place(lo.IndexValue(scalar_type(n.dtype), e), self.depth_of_index(e))
    yield


def _const(self: Lowering, n: Node, _idx: tuple[Index, ...], _mask: "lo.Value | None") -> Walk:
    return self.constant(n)
    yield


def _same(_: Lowering, n: Node, idx: tuple[Index, ...], mask: "lo.Value | None") -> Walk:
    return (yield n.src[0], idx, mask)


def _reshape(_: Lowering, n: Node, idx: tuple[Index, ...], mask: "lo.Value | None") -> Walk:
    old = n.src[0].shape
    if squeezed(old) == squeezed(n.shape):
        kept = iter([e for e, m in zip(idx, n.shape) if m != 1])
        return (yield n.src[0], tuple(ix.ZERO if m == 1 else next(kept) for m in old), mask)
    return (yield n.src[0], regroup(idx, n.shape, old), mask)


def regroup(idx: tuple[Index, ...], new: Shape, old: Shape) -> tuple[Index, ...]:
    """The index into `old` of what stands at `idx` in `new`, over the shortest runs of axes that match in size."""
    out: list[Index] = []
    i = j = 0
    while i < len(new) or j < len(old):
        a, b = i, j
        left = new[i] if i < len(new) else 1
        right = old[j] if j < len(old) else 1
        i += i < len(new)
        j += j < len(old)
        while left != right:
            if left < right:
                left *= new[i]
                i += 1
            else:
                right *= old[j]
                j += 1
        position = ix.recombined(ix.flatten(idx[a:i], new[a:i]))
        out += ix.unflatten(position, old[b:j])
    return tuple(out)


def _permute(_: Lowering, n: Node, idx: tuple[Index, ...], mask: "lo.Value | None") -> Walk:
    inner: list[Index] = [ix.ZERO] * len(idx)
    for i, axis in enumerate(n.arg):
        inner[axis] = idx[i]
    return (yield n.src[0], tuple(inner), mask)


def _expand(_: Lowering, n: Node, idx: tuple[Index, ...], mask: "lo.Value | None") -> Walk:
    return (yield n.src[0], tuple(ix.ZERO if m == 1 else e for e, m in zip(idx, n.src[0].shape)), mask)


def _pad(self: Lowering, n: Node, idx: tuple[Index, ...], mask: "lo.Value | None") -> Walk:
    inner: list[Index] = []
    conditions = []
    for e, (low, _, interior), size in zip(idx, n.arg, n.src[0].shape):
        e = e + -low
        step = interior + 1
        conditions.append((e, 0, (size - 1) * step + 1, step if size > 1 else 1))
        inner.append(ix.masked(ix.floordiv(e, step) if size > 1 else e, size))
    here = self.in_range(conditions, mask)
    x = yield n.src[0], tuple(inner), here
    return self.select(mask, here, x)


def _cat(self: Lowering, n: Node, idx: tuple[Index, ...], mask: "lo.Value | None") -> Walk:
    """A selection among the parts, each read where it lies only; loops are cut where one ends (`codegen.split`)."""
    axis, stop = n.arg, n.shape[n.arg]
    parts = []
    for part in reversed(n.src):
        size = part.shape[axis]
        start = stop - size
        here = self.in_range([(idx[axis], start, stop, 1)], mask)
        x = yield part, (*idx[:axis], ix.masked(idx[axis] + -start, size), *idx[axis + 1 :]), here
        parts.append((here, x))
        stop = start
    out = parts[0][1]
    for here, x in parts[1:]:
        if here is None or here is mask:
            out = x
        else:
            out = self.place(lo.Apply("where", x.type, (here, x, out)), self.value_depth(here, x, out))
    return out


def _skew(self: Lowering, n: Node, idx: tuple[Index, ...], mask: "lo.Value | None") -> Walk:
    i, k, d, off, _ = n.arg
    size = n.src[0].shape[i]
    e = idx[i] + idx[k] * d + off
    here = self.in_range([(e, 0, size, 1)], mask)
    x = yield n.src[0], (*idx[:i], ix.masked(e, size), *idx[i + 1 :]), here
    return self.select(mask, here, x)


def _shrink(_: Lowering, n: Node, idx: tuple[Index, ...], mask: "lo.Value | None") -> Walk:
    return (yield n.src[0], tuple(e * step + start for e, (start, _, step) in zip(idx, n.arg)), mask)


def _scatter_row(self: Lowering, n: Node, idx: tuple[Index, ...], mask: "lo.Value | None") -> Walk:
    """One element of each row along the axis is the update, the others are the identity."""
    kind, axis, size = n.arg
    row = (*idx[:axis], ix.ZERO, *idx[axis + 1 :])
    position = self.checked(n, (yield n.src[1], row, mask), size, mask).value
    g = yield n.src[0], row, mask
    empty = self.place(lo.Const(g.type, identity_of(kind, n.dtype)), 0)
    if kind in ("sum", "max", "min"):
        op = "add" if kind == "sum" else kind
        g = self.place(lo.Apply(op, g.type, (empty, g)), self.value_depth(g))
    here = self.place(lo.IndexValue(I64, ix.unmask(idx[axis])), self.depth_of_index(idx[axis]))
    chosen = self.place(lo.Apply("eq", B1, (here, position)), self.value_depth(here, position))
    return self.place(lo.Apply("where", g.type, (chosen, g, empty)), self.value_depth(chosen, g))


def _flip(_: Lowering, n: Node, idx: tuple[Index, ...], mask: "lo.Value | None") -> Walk:
    inner = tuple(e * -1 + (size - 1) if i in n.arg else e for i, (e, size) in enumerate(zip(idx, n.shape)))
    return (yield n.src[0], inner, mask)


def _gather(self: Lowering, n: Node, idx: tuple[Index, ...], mask: "lo.Value | None") -> Walk:
    position = yield n.src[1], idx, mask
    datum = self.checked(n, position, n.src[0].shape[n.arg], mask)
    return (yield n.src[0], (*idx[: n.arg], ix.of(datum), *idx[n.arg + 1 :]), mask)


THROUGH: Final[dict[Op, Callable[[Any, Node, tuple[Index, ...], "lo.Value | None"], "Walk"]]] = {
    Op.IOTA: _iota, Op.CONST: _const, Op.FENCE: _same, Op.RESHAPE: _reshape, Op.PERMUTE: _permute,
    Op.EXPAND: _expand, Op.PAD: _pad, Op.SKEW: _skew, Op.SHRINK: _shrink, Op.FLIP: _flip, Op.GATHER: _gather,
    Op.SCATTER: _scatter_row, Op.CAT: _cat,
}  # fmt: skip
