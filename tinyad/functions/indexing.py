"""Reading and writing parts of arrays by index, as NumPy does, and the functions built on GATHER and SCATTER.

Ints and slices are movement. Integer arrays become one GATHER over one axis: the indexed axes are brought together
and flattened, and so are the indices. Writing is WHERE(written, PAD or SCATTER of the values, old). Static indices
are checked when the operation is written, computed ones when it runs; negative ones count from the end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, Union

import numpy as np

from .. import ir
from ..dtypes import DEFAULT_FLOAT, as_dtype
from ..errors import DTypeError, ShapeError
from ..ir import BOOL, INT64, HostFunction, Node, Op, Shape
from . import core, movement
from .core import Operand, axis_index, broadcast_to, like, located, node, origins
from .logic import less, less_equal
from .reductions import along
from .reductions import sum as total

Index = Any  # int, slice, None, Ellipsis, NumPy array of ints or bools, node of ints; or a tuple of them
Array = np.ndarray[Any, Any]
Places = Union[Array, Node]  # where to read or write along one axis: known now, or computed

_INVALID: Final = (
    "only integers, slices (`:`), ellipsis (`...`), numpy.newaxis (`None`) and integer or boolean arrays are valid "
    "indices"
)


@dataclass
class _Plan:
    """An index resolved against a shape.

    `spec`: per axis of the array (start, stop, step) with step > 0, kept with size 1 for an int; `flipped`: the axes
    read backwards; `items`: what stands in the index, in order: ("new", -1), ("gap", -1) for an ellipsis of no axes,
    ("slice", axis), ("int", axis) or ("array", axis); `arrays`: the places of each "array" axis, in order.
    """

    spec: list[tuple[int, int, int]]
    flipped: list[int]
    items: list[tuple[str, int]]
    arrays: list[Places]

    def axes(self, kind: str) -> list[int]:
        return [i for k, i in self.items if k == kind]


def _out_of_bounds(i: int, axis: int, n: int, x: Node) -> IndexError:
    return IndexError(f"index {i} is out of bounds for axis {axis} with size {n} ({origins(x)})")


def _entries(x: Node, index: Index) -> list[Any]:
    """The items of an index, `...` written out and boolean masks replaced by the places that are true."""
    given = list(index) if isinstance(index, tuple) else [index]
    rank = len(x.shape)
    items: list[Any] = []
    used = 0
    dots = -1
    for e in given:
        if e is Ellipsis:
            if dots >= 0:
                raise IndexError("an index can only have a single ellipsis ('...')")
            dots = len(items)
        elif e is None:
            items.append(None)
        elif isinstance(e, (bool, np.bool_)):
            items.append(_Scalar(bool(e)))
        elif isinstance(e, np.ndarray) and e.dtype.kind == "b":
            for j, n in enumerate(e.shape):
                if used + j < rank and n != x.shape[used + j] and dots < 0:
                    raise _mask_mismatch(used + j, x.shape[used + j], n, x)
            items.extend([_Masked(e, j) for j in range(e.ndim)] if e.ndim else [_Scalar(bool(e))])
            used += e.ndim
        else:
            items.append(e)
            used += 1
    if used > rank:
        raise IndexError(
            f"too many indices for array: array is {rank}-dimensional, but {used} were indexed ({origins(x)})"
        )
    at = len(items) if dots < 0 else dots
    gap = [_GAP] if dots >= 0 and used == rank else []  # an ellipsis for no axes still separates index arrays
    return items[:at] + [slice(None)] * (rank - used) + gap + items[at:]


def _mask_mismatch(axis: int, n: int, m: int, x: Node) -> IndexError:
    return IndexError(
        f"boolean index did not match indexed array along axis {axis}; size of axis is {n} but size of corresponding "
        f"boolean axis is {m} ({origins(x)})"
    )


_GAP: Final = object()
_PLAIN: Final = frozenset({int, slice})


class _Scalar:
    """A single bool as an index: a new axis of size 1 or 0."""

    def __init__(self, value: bool) -> None:
        self.places = np.zeros(int(value), np.int64)


class _Masked:
    """Axis `j` of a boolean mask."""

    def __init__(self, mask: Array, j: int) -> None:
        self.mask = mask
        self.j = j


def _resolve(x: Node, index: Index) -> tuple[Node, _Plan]:
    """The index against the array; the array comes back with an axis of size 1 for every single bool."""
    items = _entries(x, index)
    places = [k for k, e in enumerate(e for e in items if e is not None and e is not _GAP) if isinstance(e, _Scalar)]
    if places:
        sizes = list(x.shape)
        for k in places:
            sizes.insert(k, 1)
        x = ir.reshape(x, tuple(sizes))
    plan = _Plan([], [], [], [])
    nonzero: dict[int, tuple[Array, ...]] = {}
    axis = 0
    for e in items:
        if e is None or e is _GAP:
            plan.items.append(("new" if e is None else "gap", -1))
            continue
        n = x.shape[axis]
        if isinstance(e, slice):
            part, backwards = _strided(e, n)
            if backwards:
                plan.flipped.append(axis)
            plan.spec.append(part)
            plan.items.append(("slice", axis))
        elif isinstance(e, (_Scalar, _Masked, np.ndarray, Node)):
            plan.spec.append((0, n, 1))
            plan.items.append(("array", axis))
            if isinstance(e, _Scalar):
                plan.arrays.append(e.places)
            elif isinstance(e, _Masked):
                if e.mask.shape[e.j] != n:
                    raise _mask_mismatch(axis, n, e.mask.shape[e.j], x)
                found = nonzero.get(id(e.mask))
                if found is None:
                    found = nonzero[id(e.mask)] = np.nonzero(e.mask)
                plan.arrays.append(found[e.j])
            else:
                plan.arrays.append(_places(e, axis, n, x))
        else:
            plan.spec.append(_single(e, axis, n, x))
            plan.items.append(("int", axis))
        axis += 1
    return x, plan


def _single(e: Any, axis: int, n: int, x: Node) -> tuple[int, int, int]:
    if not hasattr(e, "__index__"):
        raise IndexError(f"{_INVALID}; got {type(e).__name__}")
    i = e.__index__()
    if not -n <= i < n:
        raise _out_of_bounds(i, axis, n, x)
    i %= n
    return (i, i + 1, 1)


def _places(e: Places, axis: int, n: int, x: Node) -> Places:
    """Index values in [0, n): known ones are checked now, computed ones when they are used."""
    if e.dtype.kind not in "iu":
        raise IndexError(f"arrays used as indices must be of integer (or boolean) type, not {e.dtype.name}")
    if isinstance(e, Node):
        counting = e
        while counting.op in (Op.RESHAPE, Op.CAST) and counting.src[0].dtype.kind in "iu":
            counting = counting.src[0]
        if counting.op is not Op.IOTA:
            return wrapped(e, n)
        e = np.arange(counting.size).reshape(e.shape)  # ad.arange is known before it is computed
    bad = (e < -n) | (e >= n)
    if bad.any():
        raise _out_of_bounds(int(e[bad].flat[0]), axis, n, x)
    return np.where(e < 0, e.astype(np.int64) + n, e.astype(np.int64))


def wrapped(index: Node, n: int) -> Node:
    """Negative indices counted from the end of an axis of size n, as int64."""
    if index.dtype.kind == "u":
        return ir.cast(index, INT64)
    i = ir.cast(index, INT64)
    return ir.where(ir.lt(i, like(0, i)), ir.add(i, like(n, i)), i)


def _flat_places(plan: _Plan, x: Node) -> tuple[Node, Shape]:
    """One vector of places in the flattened indexed axes, and the shape the index arrays broadcast to."""
    try:
        shape = np.broadcast_shapes(*(p.shape for p in plan.arrays))
    except ValueError:
        shapes = " ".join(str(p.shape).replace(" ", "") for p in plan.arrays)
        raise IndexError(
            f"shape mismatch: indexing arrays could not be broadcast together with shapes {shapes} ({origins(x)})"
        ) from None
    sizes = [x.shape[i] for i in plan.axes("array")]
    if all(isinstance(p, np.ndarray) for p in plan.arrays):
        flat: Array = np.zeros(shape, np.int64)
        for p, n in zip(plan.arrays, sizes, strict=True):
            flat = flat * n + p
        return core.array(flat.reshape(-1)), shape
    total: Node | None = None
    inside: Node | None = None
    for p, n in zip(plan.arrays, sizes, strict=True):
        known = isinstance(p, np.ndarray)
        i = broadcast_to(core.array(p) if isinstance(p, np.ndarray) else p, shape)
        total = i if total is None else ir.add(ir.mul(total, like(n, i)), i)
        if not known and len(sizes) > 1:
            ok = ir.and_(ir.not_(ir.lt(i, like(0, i))), ir.lt(i, like(n, i)))
            inside = ok if inside is None else ir.and_(inside, ok)
    assert total is not None
    if inside is not None:  # one axis out of range must not be made good by another
        total = ir.where(inside, total, like(math.prod(sizes), total))
    return ir.reshape(total, (total.size,)), shape


def _counts(p: Places, n: int, rank: int) -> int | None:
    """The axis, of `rank` axes that `p` is broadcast to, along which `p` is 0, 1, ... n - 1; None if there is none."""
    long = [i for i, size in enumerate(p.shape) if size != 1]
    if isinstance(p, Node) or n < 2 or len(long) != 1 or p.size != n or not np.array_equal(p.ravel(), np.arange(n)):
        return None
    return rank - len(p.shape) + long[0]


def _gathered(part: Node, plan: _Plan) -> tuple[Node, Shape]:
    """The elements at the index arrays, [their axes, slices], and the shape the arrays broadcast to.

    An array that counts through its axis, as in ``x[arange(n), labels]``, picks nothing: its axis runs along with the
    other arrays, and the gather stays within rows.
    """
    flat, shape = _flat_places(plan, part)
    axes = plan.axes("array")
    order, rest = _front(part, plan)
    along_axis: dict[int, int] = {}  # axis of the result -> axis of the array
    for i, p in zip(axes, plan.arrays, strict=True):
        k = _counts(p, part.shape[i], len(shape))
        if k is not None and k not in along_axis:
            along_axis[k] = i
    if not along_axis or 0 in part.shape:
        rows = ir.reshape(ir.permute(part, order), (math.prod(part.shape[i] for i in axes), *rest))
        out = located(ir.gather(rows, along(flat, 0, (flat.shape[0], *rest)), 0))
        return ir.reshape(out, (*shape, *rest)), shape
    picked = [i for i in axes if i not in along_axis.values()]
    first = [along_axis[k] for k in sorted(along_axis)]
    length = math.prod(part.shape[i] for i in picked)
    own = tuple(n if k in along_axis else 1 for k, n in enumerate(shape))
    rows = ir.reshape(ir.permute(part, [*first, *picked, *order[len(axes) :]]), (*own, length, *rest))
    rows = ir.expand(rows, (*shape, length, *rest))
    if picked:
        arrays = [p for i, p in zip(axes, plan.arrays, strict=True) if i in picked]
        items = [item for item in plan.items if item[0] != "array" or item[1] in picked]
        flat, inner = _flat_places(_Plan(plan.spec, plan.flipped, items, arrays), part)
        places = broadcast_to(ir.reshape(flat, inner), shape)
        places = ir.reshape(places, (*shape, 1, *[1] * len(rest)))
        rows = located(ir.gather(rows, ir.expand(places, (*shape, 1, *rest)), len(shape)))
    return ir.reshape(rows, (*shape, *rest)), shape


def _adjacent(plan: _Plan) -> bool:
    """Whether all ints and arrays stand side by side: then the result has their axes in that place, else first."""
    marks = [k in ("int", "array") for k, _ in plan.items]
    first, last = marks.index(True), len(marks) - 1 - marks[::-1].index(True)
    return all(marks[first : last + 1])


def _front(x: Node, plan: _Plan) -> tuple[list[int], Shape]:
    """The order of axes that brings the indexed ones first, the ints next and the slices last; the slices' sizes."""
    slices = plan.axes("slice")
    return [*plan.axes("array"), *plan.axes("int"), *slices], tuple(x.shape[i] for i in slices)


def _result_layout(plan: _Plan, sizes: Shape, shape: Shape) -> tuple[list[int], Shape]:
    """From [index axes, slices] to NumPy's result: the order of axes, and the shape with the new axes in."""
    together = _adjacent(plan)
    count, before = len(shape), 0
    if together:
        first = next(i for i, (k, _) in enumerate(plan.items) if k in ("int", "array"))
        before = sum(k == "slice" for k, _ in plan.items[:first])
    order = [*range(count, count + before), *range(count), *range(count + before, count + len(sizes))]
    final = [] if together else list(shape)
    placed = not together
    left = iter(sizes)
    for kind, _ in plan.items:
        if kind == "new":
            final.append(1)
        elif kind == "slice":
            final.append(next(left))
        elif kind != "gap" and not placed:
            final.extend(shape)
            placed = True
    return order, tuple(final)


def _strided(e: slice, n: int) -> tuple[tuple[int, int, int], bool]:
    """A slice of an axis of size n as (start, stop, step) with step > 0, and whether it is read backwards."""
    start, stop, step = e.indices(n)
    count = len(range(start, stop, step))
    backwards = step < 0
    if backwards:
        start, step = start + (count - 1) * step, -step
    return ((start, start + (count - 1) * step + 1, step) if count else (0, 0, 1)), backwards


def _basic(x: Node, items: tuple[Any, ...]) -> Node:
    """``x[items]`` of ints and slices: the common case of `get_item`."""
    spec, flipped, kept = [], [], []
    for axis, n in enumerate(x.shape):
        e = items[axis] if axis < len(items) else None
        if e is None:
            part = (0, n, 1)
        elif type(e) is int:
            spec.append(_single(e, axis, n, x))
            continue
        else:
            part, backwards = _strided(e, n)
            if backwards:
                flipped.append(axis)
        spec.append(part)
        kept.append(-(-(part[1] - part[0]) // part[2]))
    y = ir.shrink(x, spec)
    return ir.reshape(ir.flip(y, flipped) if flipped else y, tuple(kept))


def get_item(x: Node, index: Index) -> Node:
    """``x[index]`` as in NumPy; its derivative is the matching write.

    Raises: IndexError for an index that is out of bounds (a computed one: when the value is read) or of a wrong kind.
    """
    items = index if type(index) is tuple else (index,)
    if len(items) <= len(x.shape) and _PLAIN.issuperset(map(type, items)):
        return _basic(x, items)
    x, plan = _resolve(x, index)
    part = ir.flip(ir.shrink(x, plan.spec), plan.flipped)
    if not plan.arrays:
        return ir.reshape(
            part, tuple(1 if k == "new" else part.shape[i] for k, i in plan.items if k not in ("int", "gap"))
        )
    out, shape = _gathered(part, plan)
    order, final = _result_layout(plan, out.shape[len(shape) :], shape)
    return ir.reshape(ir.permute(out, order), final)


def _into(value: Operand, shape: Shape, x: Node) -> Node:
    """`value` in the dtype of `x`, broadcast to the shape of the part that is written."""
    v = node(value, x.dtype if not isinstance(value, Node) else None)
    if v.dtype is not x.dtype:
        v = ir.cast(v, x.dtype)
    extra = len(v.shape) - len(shape)
    if extra > 0 and all(n == 1 for n in v.shape[:extra]):
        v = ir.reshape(v, v.shape[extra:])
    skip = len(shape) - len(v.shape)
    if skip < 0 or any(m != n and m != 1 for m, n in zip(v.shape, shape[skip:], strict=True)):
        raise ShapeError(
            f"could not broadcast input array from shape {v.shape} into shape {shape} ({origins(value, x)})"
        )
    return broadcast_to(v, shape)


def set_item(x: Node, index: Index, value: Operand) -> Node:
    """`x` with ``x[index]`` replaced by `value`, which is cast and broadcast; of equal places the last one wins.

    Raises: IndexError as `get_item`; ShapeError if the value does not fit.
    """
    if isinstance(index, np.ndarray) and index.dtype.kind == "b":
        plain = masked(x, core.array(index), value)
        if plain is not None:
            return plain
    shape = x.shape
    x, plan = _resolve(x, index)
    part = ir.flip(ir.shrink(x, plan.spec), plan.flipped)
    if not plan.arrays:
        target = tuple(1 if k == "new" else part.shape[i] for k, i in plan.items if k not in ("int", "gap"))
        v = ir.reshape(_into(value, target, x), part.shape)
    else:
        v = _scattered(part, plan, value, x)
    return ir.reshape(_put(x, plan, ir.flip(v, plan.flipped)), shape)


def masked(x: Node, mask: Node, value: Operand) -> Node | None:
    """`x` with `value` where `mask`, over leading axes, is true; nothing is computed to know how many places that are.

    None if `mask` is no mask of `x`, or the value has an axis for the places.
    """
    rank = len(mask.shape)
    if mask.dtype is not BOOL or not rank or mask.shape != x.shape[:rank]:
        return None
    rest = x.shape[rank:]
    if isinstance(value, Node) and len(value.shape) > len(rest):
        return None
    v = broadcast_to(_into(value, rest, x), x.shape)
    c = ir.expand(ir.reshape(mask, mask.shape + (1,) * len(rest)), x.shape)
    return ir.where(c, v, x)


def _scattered(part: Node, plan: _Plan, value: Operand, x: Node) -> Node:
    """`part` with the places of the index arrays overwritten."""
    flat, shape = _flat_places(plan, part)
    order, rest = _front(part, plan)
    length = math.prod(part.shape[i] for i in plan.axes("array"))
    rows = ir.reshape(ir.permute(part, order), (length, *rest))
    back, final = _result_layout(plan, rest, shape)
    v = _into(value, final, x)
    laid = (*shape, *rest)
    v = ir.reshape(v, tuple(laid[i] for i in back))
    v = ir.reshape(ir.permute(v, np.argsort(back).tolist()), (flat.shape[0], *rest))
    new = located(ir.scatter("set", v, along(flat, 0, v.shape), 0, length))
    hit = located(ir.scatter("set", ir.const(True, BOOL, flat.shape), flat, 0, length))
    rows = ir.where(along(hit, 0, rows.shape), new, rows)
    moved = ir.reshape(rows, tuple(part.shape[i] for i in order))
    return ir.permute(moved, np.argsort(order).tolist())


def _put(x: Node, plan: _Plan, v: Node) -> Node:
    """`x` with the region of ints and slices replaced by `v`."""
    if v.shape == x.shape and all(s == (0, n, 1) for s, n in zip(plan.spec, x.shape, strict=True)):
        return v
    if 0 in v.shape:
        return ir.alias(x)
    spec = [
        (b, n - (b + (m - 1) * step + 1), step - 1)
        for (b, _, step), n, m in zip(plan.spec, x.shape, v.shape, strict=True)
    ]
    if v.shape == x.shape:
        return v
    return ir.where(ir.pad(ir.const(True, BOOL, v.shape), spec), ir.pad(v, spec), x)


# functions --------------------------------------------------------------------------------------------------------
def _integers(indices: Node, x: Node) -> Node:
    if indices.dtype.kind not in "iu":
        raise DTypeError(f"expected integer indices, got {indices.dtype.name} ({origins(x, indices)})")
    return indices


def take(x: Node, indices: Node, axis: int | None = None) -> Node:
    """``x[.., indices, ..]`` along `axis` (None: of the flattened array); the axes of `indices` take its place."""
    if axis is None:
        x, axis = movement.ravel(x), 0
    i = axis_index(axis, len(x.shape))
    flat = wrapped(ir.reshape(_integers(indices, x), (indices.size,)), x.shape[i])
    out = located(ir.gather(x, along(flat, i, (*x.shape[:i], indices.size, *x.shape[i + 1 :])), i))
    return ir.reshape(out, (*x.shape[:i], *indices.shape, *x.shape[i + 1 :]))


def take_along_axis(x: Node, indices: Node, axis: int | None = -1) -> Node:
    """``out[.., j, ..] = x[.., indices[.., j, ..], ..]`` along `axis`; the other axes are broadcast."""
    if axis is None:
        x, axis = movement.ravel(x), 0
    _integers(indices, x)
    if len(indices.shape) != len(x.shape):
        raise ShapeError(f"`indices` and `arr` must have the same number of dimensions ({origins(x, indices)})")
    i = axis_index(axis, len(x.shape))
    rest = core.broadcast_shape(
        ir.const(0, BOOL, (*x.shape[:i], 1, *x.shape[i + 1 :])),
        ir.const(0, BOOL, (*indices.shape[:i], 1, *indices.shape[i + 1 :])),
    )
    a = ir.expand(x, (*rest[:i], x.shape[i], *rest[i + 1 :]))
    idx = ir.expand(indices, (*rest[:i], indices.shape[i], *rest[i + 1 :]))
    return located(ir.gather(a, wrapped(idx, x.shape[i]), i))


gather = take_along_axis


def scatter_add(x: Node, indices: Node, values: Operand, axis: int = 0) -> Node:
    """`x` with ``x[.., indices[.., j, ..], ..] += values[.., j, ..]`` along `axis`; equal places add up.

    `indices` is a vector (the same for all other axes) or has the shape of `values`, which is broadcast to it.
    """
    i = axis_index(axis, len(x.shape))
    _integers(indices, x)
    if x.dtype is BOOL:
        raise DTypeError(f"scatter_add is not defined for dtype bool ({origins(x)})")
    if len(indices.shape) == 1:
        idx = along(indices, i, (*x.shape[:i], indices.shape[0], *x.shape[i + 1 :]))
    else:
        idx = indices
        if len(idx.shape) != len(x.shape) or any(
            m != n for j, (m, n) in enumerate(zip(idx.shape, x.shape, strict=True)) if j != i
        ):
            raise ShapeError(f"scatter_add: the axes other than {axis} differ ({origins(x, indices)})")
    v = _into(values, idx.shape, x)
    return ir.add(x, located(ir.scatter("sum", v, wrapped(idx, x.shape[i]), i, x.shape[i])))


def segment_sum(x: Node, segment_ids: Node, num_segments: int, axis: int = 0) -> Node:
    """``out[s] = Σ x[j] where segment_ids[j] == s`` along `axis`, for s < num_segments."""
    i = axis_index(axis, len(x.shape))
    _integers(segment_ids, x)
    if segment_ids.shape != (x.shape[i],):
        raise ShapeError(f"segment_sum: expected one id for each of {x.shape[i]} elements ({origins(x, segment_ids)})")
    v = ir.cast(x, INT64) if x.dtype is BOOL else x
    return located(ir.scatter("sum", v, along(segment_ids, i, v.shape), i, num_segments))


def one_hot(x: Node, num_classes: int, dtype: Any = None) -> Node:
    """1 at the class x, 0 elsewhere, along a new last axis; all 0 where x is not a class."""
    _integers(x, x)
    shape = (*x.shape, num_classes)
    labels = ir.expand(ir.reshape(ir.cast(x, INT64), (*x.shape, 1)), shape)
    hit = ir.eq(labels, along(ir.iota(num_classes), len(x.shape), shape))
    return ir.cast(hit, DEFAULT_FLOAT if dtype is None else as_dtype(dtype))


# order ------------------------------------------------------------------------------------------------------------
def _argsort_host(x: Array) -> Array:
    return np.argsort(x, axis=-1, kind="stable").astype(np.int64)


ARGSORT: Final = HostFunction("argsort", _argsort_host, lambda shape: shape, INT64)


def argsort(x: Node, axis: int = -1, descending: bool = False, stable: bool = True) -> Node:
    """The places of the elements in sorted order along `axis`, int64; equal elements keep their order. NaN is last
    (first if descending)."""
    del stable  # always is
    i = axis_index(axis, len(x.shape))
    order = [*(k for k in range(len(x.shape)) if k != i), i]
    last = len(order) - 1
    rows = ir.detach(ir.permute(x, order))
    if descending:
        found = ir.call(ARGSORT, ir.flip(rows, (last,)))
        found = ir.flip(ir.sub(like(x.shape[i] - 1, found), found), (last,))
    else:
        found = ir.call(ARGSORT, rows)
    return ir.permute(found, np.argsort(order).tolist())


def sort(x: Node, axis: int = -1, descending: bool = False, stable: bool = True) -> Node:
    """The elements in sorted order along `axis`; NaN is last (first if descending)."""
    i = axis_index(axis, len(x.shape))
    return ir.gather(x, argsort(x, i, descending, stable), i)


def topk(x: Node, k: int, axis: int = -1, largest: bool = True) -> tuple[Node, Node]:
    """The k largest (or smallest) elements along `axis`, in order, and their places."""
    i = axis_index(axis, len(x.shape))
    if not 0 <= k <= x.shape[i]:
        raise ValueError(f"topk: expected 0 <= k <= {x.shape[i]}, got {k} ({origins(x)})")
    places = movement.cut(argsort(x, i, largest), i, 0, k)
    return ir.gather(x, places, i), places


def searchsorted(x1: Node, x2: Node, side: str = "left") -> Node:
    """How many elements of the sorted vector x1 are less than x2 (``right``: not greater), int64."""
    if len(x1.shape) != 1:
        raise ShapeError(f"searchsorted: object too deep for desired array: expected a vector ({origins(x1)})")
    if side not in ("left", "right"):
        raise ValueError(f"side must be 'left' or 'right' (got {side!r})")
    compare = less if side == "left" else less_equal
    column = ir.reshape(x2, (*x2.shape, 1))
    return total(compare(x1, column), -1)
