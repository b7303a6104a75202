"""Functions that move elements and compute nothing: shapes, axes, joining, cutting, repeating."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final, Union

from .. import ir
from ..errors import AxisError, ShapeError
from ..ir import BOOL, Node, Shape
from . import core
from .core import Operand, axes_of, axis_index, broadcast_shape, node, origins, result_type
from .core import broadcast_to as _broadcast_to
from .reductions import along

Axes = Union[int, Sequence[int]]


def shape_of(shape: Any) -> Shape:
    """A shape given as an int or a sequence of ints."""
    if isinstance(shape, (tuple, list)):
        return tuple([n.__index__() for n in shape])
    return (shape.__index__(),)


def cut(x: Node, axis: int, start: int, stop: int, step: int = 1) -> Node:
    """``x[.., start:stop:step, ..]`` along `axis`, with 0 <= start <= stop <= size and step >= 1."""
    spec = [(0, n, 1) for n in x.shape]
    spec[axis] = (start, stop, step)
    return ir.shrink(x, spec)


# shape ------------------------------------------------------------------------------------------------------------
def reshape(x: Node, shape: Axes, *, copy: bool | None = None) -> Node:
    """The same elements in row-major order under another shape, in which one size may be -1 (what is left).

    Raises ShapeError if the sizes do not agree.
    """
    del copy
    target = shape_of(shape)
    if target.count(-1) == 1:
        rest = math.prod(n for n in target if n != -1)
        size = x.size
        if rest > 0 and size % rest == 0:
            target = tuple([size // rest if n == -1 else n for n in target])
    if any(n < 0 for n in target) or math.prod(target) != x.size:
        given = tuple(shape_of(shape))
        raise ShapeError(f"cannot reshape array of size {x.size} into shape {given} ({origins(x)})")
    return ir.reshape(x, target)


def _from_varargs(args: tuple[Any, ...]) -> Any:
    return args[0] if len(args) == 1 else args


def reshape_method(x: Node, *shape: Any, order: str = "C", copy: bool | None = None) -> Node:
    """`reshape`, whose sizes may also be given one by one."""
    if order != "C":
        raise ValueError(f"reshape: expected order 'C', got {order!r}")
    return reshape(x, _from_varargs(shape), copy=copy)


def flatten(x: Node, start_axis: int = 0, end_axis: int = -1) -> Node:
    """The axes from `start_axis` to `end_axis` as one; all axes unless said."""
    rank = len(x.shape)
    if not rank:
        return ir.reshape(x, (1,))
    i, j = axis_index(start_axis, rank), axis_index(end_axis, rank)
    if i > j:
        raise ValueError(f"flatten: start_axis {start_axis} is after end_axis {end_axis} ({origins(x)})")
    return ir.reshape(x, (*x.shape[:i], math.prod(x.shape[i : j + 1]), *x.shape[j + 1 :]))


def ravel(x: Node) -> Node:
    """All elements as a vector."""
    return ir.reshape(x, (x.size,))


def expand_dims(x: Node, axis: Axes = 0) -> Node:
    """New axes of size 1 at the places `axis` of the result."""
    places = (axis,) if not isinstance(axis, (tuple, list)) else tuple(axis)
    rank = len(x.shape) + len(places)
    at = axes_of(places, rank)
    old = iter(x.shape)
    return ir.reshape(x, tuple(1 if i in at else next(old) for i in range(rank)))


def squeeze(x: Node, axis: Axes | None = None) -> Node:
    """`x` without the given axes, which have size 1 (None: all that have); ValueError if one has not."""
    if axis is None:
        return ir.reshape(x, tuple(n for n in x.shape if n != 1))
    axes = axes_of(axis, len(x.shape))
    if any(x.shape[i] != 1 for i in axes):
        raise ShapeError(f"cannot select an axis to squeeze out which has size not equal to one ({origins(x)})")
    return core.drop_axes(x, axes)


# order of axes ----------------------------------------------------------------------------------------------------
def permute_dims(x: Node, axes: Sequence[int]) -> Node:
    """Axis i of the result is axis axes[i] of `x`."""
    if len(axes) != len(x.shape):
        raise ShapeError(f"axes don't match array: expected {len(x.shape)} axes, got {tuple(axes)} ({origins(x)})")
    order = tuple(axis_index(a, len(x.shape)) for a in axes)
    if len(set(order)) != len(order):
        raise ShapeError(f"repeated axis in transpose: {tuple(axes)} ({origins(x)})")
    return ir.permute(x, order)


def transpose(x: Node, axes: Sequence[int] | None = None) -> Node:
    """The axes in the given order; reversed unless said."""
    return ir.permute(x, range(len(x.shape))[::-1]) if axes is None else permute_dims(x, axes)


def permute_method(x: Node, *axes: Any) -> Node:
    """`permute_dims`, whose axes may also be given one by one."""
    return permute_dims(x, axes[0] if len(axes) == 1 and isinstance(axes[0], (tuple, list)) else axes)


def transpose_method(x: Node, *axes: Any) -> Node:
    """`transpose`, whose axes may also be given one by one."""
    if not axes or axes == (None,):
        return transpose(x)
    return permute_method(x, *axes)


def matrix_transpose(x: Node) -> Node:
    """The last two axes swapped; ShapeError if there are not two."""
    rank = len(x.shape)
    if rank < 2:
        raise ShapeError(f"matrix transpose with ndim < 2 is undefined ({origins(x)})")
    return ir.permute(x, (*range(rank - 2), rank - 1, rank - 2))


def swapaxes(x: Node, axis1: int, axis2: int) -> Node:
    """Two axes swapped."""
    order = list(range(len(x.shape)))
    i, j = axis_index(axis1, len(order)), axis_index(axis2, len(order))
    order[i], order[j] = order[j], order[i]
    return ir.permute(x, order)


def moveaxis(x: Node, source: Axes, destination: Axes) -> Node:
    """The axes `source` put at the places `destination`; the others keep their order."""
    rank = len(x.shape)
    src, dst = axes_of(source, rank), axes_of(destination, rank)
    if len(src) != len(dst):
        raise ValueError("`source` and `destination` arguments must have the same number of elements")
    order = [i for i in range(rank) if i not in src]
    for d, s in sorted(zip(dst, src, strict=True)):
        order.insert(d, s)
    return ir.permute(x, order)


def flip(x: Node, axis: Axes | None = None) -> Node:
    """The order of the elements along the axes reversed (None: all)."""
    return ir.flip(x, axes_of(axis, len(x.shape)))


def roll(x: Node, shift: Axes, axis: Axes | None = None) -> Node:
    """Elements moved by `shift` along `axis`, those that leave coming in at the other end; None: as if flattened."""
    if axis is None:
        return ir.reshape(roll(ir.reshape(x, (x.size,)), shift, 0), x.shape)
    places = (axis,) if not isinstance(axis, (tuple, list)) else tuple(axis)
    shifts = (shift,) if not isinstance(shift, (tuple, list)) else tuple(shift)
    if len(shifts) == 1:
        shifts *= len(places)
    if len(places) == 1:
        places *= len(shifts)
    if len(places) != len(shifts):
        raise ShapeError(f"roll: {len(shifts)} shifts for {len(places)} axes")
    for a, s in zip(places, shifts, strict=True):
        i = axis_index(a, len(x.shape))
        n = x.shape[i]
        k = s % n if n else 0
        if k:
            x = ir.cat((cut(x, i, n - k, n), cut(x, i, 0, n - k)), i)
    return x


def rot90(x: Node, k: int = 1, axes: tuple[int, int] = (0, 1)) -> Node:
    """Turned by k·90° in the plane of two axes, from the first towards the second."""
    i, j = axes_of(axes, len(x.shape))
    k %= 4
    if k == 2:
        return ir.flip(x, (i, j))
    if k == 1:
        return swapaxes(ir.flip(x, (j,)), i, j)
    return ir.flip(swapaxes(x, i, j), (j,)) if k == 3 else x


# broadcasting -----------------------------------------------------------------------------------------------------
def broadcast_to(x: Node, shape: Axes) -> Node:
    """`x` repeated along its axes of size 1 and along new leading ones; ShapeError if it does not fit."""
    target = shape_of(shape)
    extra = len(target) - len(x.shape)
    if extra < 0 or any(m != n and m != 1 for m, n in zip(x.shape, target[extra:], strict=True)):
        raise ShapeError(
            f"operands could not be broadcast together with remapped shapes [original->remapped]: {x.shape} "
            f"and requested shape {target} ({origins(x)})"
        )
    return _broadcast_to(x, target)


def expand_method(x: Node, *shape: Any) -> Node:
    """`broadcast_to`, whose sizes may be given one by one; -1 keeps a size."""
    target = shape_of(_from_varargs(shape))
    extra = len(target) - len(x.shape)
    if extra >= 0:
        old = (0,) * extra + x.shape
        target = tuple(m if n == -1 and i >= extra else n for i, (m, n) in enumerate(zip(old, target, strict=True)))
    return broadcast_to(x, target)


def broadcast_arrays(*arrays: Operand) -> list[Node]:
    """The arrays repeated to their common shape; each keeps its dtype."""
    shape = broadcast_shape(*arrays)
    return [_broadcast_to(x, shape) for x in arrays]


# joining and cutting ----------------------------------------------------------------------------------------------
def concat(arrays: Sequence[Operand], axis: int | None = 0) -> Node:
    """The arrays one after the other along `axis` (None: flattened), of their common dtype."""
    if not len(arrays):
        raise ValueError("need at least one array to concatenate")
    dtype = result_type(*arrays)
    nodes = [node(x, dtype) for x in arrays]
    if axis is None:
        return ir.cat([ravel(x) for x in nodes], 0)
    first = nodes[0]
    if not first.shape:
        raise ShapeError(f"zero-dimensional arrays cannot be concatenated ({origins(*nodes)})")
    i = axis_index(axis, len(first.shape))
    for k, x in enumerate(nodes):
        if len(x.shape) != len(first.shape):
            raise ShapeError(
                "all the input array dimensions except for the concatenation axis must match exactly, but the array at "
                f"index 0 has {len(first.shape)} dimension(s) and the array at index {k} has {len(x.shape)} "
                f"dimension(s) ({origins(first, x)})"
            )
        for j, (m, n) in enumerate(zip(first.shape, x.shape, strict=True)):
            if j != i and m != n:
                raise ShapeError(
                    "all the input array dimensions except for the concatenation axis must match exactly, but along "
                    f"dimension {j}, the array at index 0 has size {m} and the array at index {k} has size {n} "
                    f"({origins(first, x)})"
                )
    return ir.cat(nodes, i)


def stack(arrays: Sequence[Operand], axis: int = 0) -> Node:
    """The arrays, all of one shape, along a new axis; of their common dtype."""
    if not len(arrays):
        raise ValueError("need at least one array to stack")
    dtype = result_type(*arrays)
    nodes = [node(x, dtype) for x in arrays]
    if any(x.shape != nodes[0].shape for x in nodes):
        raise ShapeError(f"all input arrays must have the same shape ({origins(*nodes)})")
    i = axis_index(axis, len(nodes[0].shape) + 1)
    return ir.cat([expand_dims(x, i) for x in nodes], i)


def unstack(x: Node, *, axis: int = 0) -> tuple[Node, ...]:
    """The parts of `x` along `axis`, which they do not have any more."""
    if not x.shape:
        raise AxisError(axis, 0)
    i = axis_index(axis, len(x.shape))
    return tuple(core.drop_axes(cut(x, i, k, k + 1), (i,)) for k in range(x.shape[i]))


def split(x: Node, indices_or_sections: Any, axis: int = 0) -> list[Node]:
    """`x` cut along `axis`: into equal parts, or at the given indices."""
    i = axis_index(axis, len(x.shape))
    n = x.shape[i]
    if isinstance(indices_or_sections, (tuple, list)):
        places = [0, *(_place(int(k), n) for k in indices_or_sections), n]
    else:
        parts = indices_or_sections.__index__()
        if parts <= 0:
            raise ValueError("number sections must be larger than 0.")
        if n % parts:
            raise ShapeError(f"array split does not result in an equal division: {n} into {parts} ({origins(x)})")
        places = [k * (n // parts) for k in range(parts + 1)]
    return [cut(x, i, a, max(a, b)) for a, b in pairwise(places)]


def _place(k: int, n: int) -> int:
    return min(max(k + n if k < 0 else k, 0), n)


def chunk(x: Node, chunks: int, axis: int = 0) -> list[Node]:
    """`x` cut along `axis` into at most `chunks` parts of one size, the last of which may be smaller."""
    i = axis_index(axis, len(x.shape))
    if chunks < 1:
        raise ValueError(f"chunk: expected at least 1 chunk, got {chunks}")
    n = x.shape[i]
    size = max(-(-n // chunks), 1)
    return [cut(x, i, k, min(k + size, n)) for k in range(0, max(n, 1), size)]


# repeating and padding --------------------------------------------------------------------------------------------
def repeat(x: Node, repeats: Any, axis: int | None = None) -> Node:
    """Each element `repeats` times along `axis` (None: flattened); `repeats` is an int or one int per element."""
    if axis is None:
        x, axis = ravel(x), 0
    i = axis_index(axis, len(x.shape))
    n = x.shape[i]
    if isinstance(repeats, (list, tuple)) or (hasattr(repeats, "ndim") and repeats.ndim):
        counts = [int(k) for k in repeats]
        if len(counts) == 1:
            counts *= n
        if len(counts) != n:
            raise ShapeError(f"operands could not be broadcast together with shape ({n},) ({len(counts)},)")
        if min(counts, default=0) < 0:
            raise ValueError("repeats may not contain negative values.")
        import numpy as np

        places = core.array(np.repeat(np.arange(n), counts))
        shape = (*x.shape[:i], places.shape[0], *x.shape[i + 1 :])
        return ir.gather(x, along(places, i, shape), i)
    k = int(repeats)
    if k < 0:
        raise ValueError("repeats may not contain negative values.")
    head, tail = x.shape[:i], x.shape[i + 1 :]
    wide = ir.expand(ir.reshape(x, (*head, n, 1, *tail)), (*head, n, k, *tail))
    return ir.reshape(wide, (*head, n * k, *tail))


def tile(x: Node, repetitions: Axes) -> Node:
    """`x` laid side by side, repetitions[i] times along axis i."""
    times = shape_of(repetitions)
    rank = max(len(times), len(x.shape))
    times = (1,) * (rank - len(times)) + times
    shape = (1,) * (rank - len(x.shape)) + x.shape
    if min(times, default=1) < 0:
        raise ValueError("negative dimensions are not allowed")
    pairs = [v for t, n in zip(times, shape, strict=True) for v in (t, n)]
    ones = [v for n in shape for v in (1, n)]
    wide = ir.expand(ir.reshape(x, tuple(ones)), tuple(pairs))
    return ir.reshape(wide, tuple(t * n for t, n in zip(times, shape, strict=True)))


def _widths(pad_width: Any, rank: int) -> list[tuple[int, int]]:
    """NumPy's forms of pad_width as (before, after) per axis."""
    if isinstance(pad_width, (tuple, list)):
        pairs = [tuple(p) if isinstance(p, (tuple, list)) else p for p in pad_width]
        if all(isinstance(p, tuple) for p in pairs):
            if len(pairs) == 1:
                pairs *= rank
            out = [(p[0], p[-1]) for p in pairs]
        elif len(pairs) == 2:
            out = [(pairs[0], pairs[1])] * rank
        else:
            out = [(p, p) for p in pairs * (rank if len(pairs) == 1 else 1)]
    else:
        out = [(pad_width, pad_width)] * rank
    if len(out) != rank:
        raise ShapeError(f"pad: expected pad_width for {rank} axes, got {pad_width!r}")
    widths = [(int(a), int(b)) for a, b in out]
    if any(v < 0 for p in widths for v in p):
        raise ValueError("index can't contain negative values")
    return widths


def pad(x: Node, pad_width: Any, mode: str = "constant", *, constant_values: bool | int | float = 0) -> Node:
    """`x` surrounded by (before, after) elements per axis.

    Modes: constant; edge (the border repeated); reflect and symmetric (mirrored at, or after, the border); wrap.
    """
    widths = _widths(pad_width, len(x.shape))
    if mode not in _PADDED:
        raise ValueError(f"mode '{mode}' is not supported; expected one of {', '.join(_PADDED)}")
    if mode == "constant":
        spec = [(a, b, 0) for a, b in widths]
        y = ir.pad(x, spec)
        if constant_values == 0 or y is x:
            return y
        inside = ir.pad(ir.const(True, BOOL, x.shape), spec)
        return ir.where(inside, y, core.like(constant_values, y))
    for i, (a, b) in enumerate(widths):
        n = x.shape[i]
        if not a and not b:
            continue
        if not n:
            raise ShapeError(f"can't extend empty axis {i} using modes other than 'constant' ({origins(x)})")
        import numpy as np

        places = core.array(np.pad(np.arange(n), (a, b), mode=mode))  # type: ignore[call-overload]
        x = ir.gather(x, along(places, i, (*x.shape[:i], n + a + b, *x.shape[i + 1 :])), i)
    return x


_PADDED: Final = ("constant", "edge", "reflect", "symmetric", "wrap")


# parts of matrices ------------------------------------------------------------------------------------------------
def _grid(x: Node) -> tuple[Node, Node]:
    """Row and column number of every element of the last two axes."""
    rank = len(x.shape)
    return along(ir.iota(x.shape[-2]), rank - 2, x.shape), along(ir.iota(x.shape[-1]), rank - 1, x.shape)


def _matrix(x: Node, name: str) -> Node:
    if len(x.shape) < 2:
        raise ShapeError(f"{name}: expected an array with at least 2 dimensions ({origins(x)})")
    return x


def tril(x: Node, k: int = 0) -> Node:
    """`x` with zeros above the k-th diagonal of the last two axes."""
    row, column = _grid(_matrix(x, "tril"))
    return ir.where(ir.lt(ir.add(row, core.like(k, row)), column), core.like(0, x), x)


def triu(x: Node, k: int = 0) -> Node:
    """`x` with zeros below the k-th diagonal of the last two axes."""
    row, column = _grid(_matrix(x, "triu"))
    return ir.where(ir.lt(column, ir.add(row, core.like(k, row))), core.like(0, x), x)


def diagonal(x: Node, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Node:
    """The elements with index_2 - index_1 = offset of two axes, as a new last axis."""
    _matrix(x, "diagonal")
    i, j = axes_of((axis1, axis2), len(x.shape))
    x = ir.permute(x, [*(a for a in range(len(x.shape)) if a not in (i, j)), i, j])
    m, n = x.shape[-2:]
    rows, columns = max(-offset, 0), max(offset, 0)
    length = max(min(m - rows, n - columns), 0)
    rank = len(x.shape)
    if not length:
        return ir.reshape(cut(cut(x, rank - 2, 0, 0), rank - 1, 0, 0), (*x.shape[:-2], 0))
    x = cut(cut(x, rank - 2, rows, rows + length), rank - 1, columns, columns + length)
    flat = ir.reshape(x, (*x.shape[:-2], length * length))  # the diagonal is every (length+1)-th element
    return cut(flat, rank - 2, 0, length * length, length + 1)


def diag(x: Node, k: int = 0) -> Node:
    """The k-th diagonal of a matrix, or the matrix with the vector `x` there and zeros elsewhere."""
    if len(x.shape) == 2:
        return diagonal(x, k)
    if len(x.shape) != 1:
        raise ShapeError(f"Input must be 1- or 2-d. ({origins(x)})")
    length = x.shape[0]
    n = length + (k if k > 0 else -k)
    if not length:
        return ir.const(0, x.dtype, (n, n))
    rows, columns = max(-k, 0), max(k, 0)
    square = ir.pad(ir.reshape(x, (length, 1)), [(0, 0, 0), (0, length, 0)])  # [length, length+1], diagonal first
    square = cut(ir.reshape(square, (length * (length + 1),)), 0, 0, length * length)
    return ir.pad(
        ir.reshape(square, (length, length)), [(rows, n - length - rows, 0), (columns, n - length - columns, 0)]
    )
