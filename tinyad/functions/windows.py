"""Convolution and pooling: sliding windows are EXPAND, SKEW and a stepped SHRINK; the rest is a product or reduction.

An axis of size S, repeated K times along a new axis, becomes
``out[.., k, .., j, ..] = in[.., stride·j + dilation·k, ..]``.
Layouts are channels first: x [N, C, *S], weight [O, C/groups, *K] with one or two window axes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Union

import numpy as np

from .. import ir
from ..dtypes import DEFAULT_FLOAT, promote
from ..errors import DTypeError, ShapeError
from ..ir import BOOL, Node, Op, Shape
from .core import drop_axes, like, origins

Sizes = Union[int, Sequence[int]]


def _sizes(value: Sizes, rank: int, name: str, least: int) -> Shape:
    """One int for each window axis."""
    out = (value,) * rank if isinstance(value, int) else tuple(value)
    if len(out) != rank or min(out) < least:
        raise ValueError(f"{name}: expected an int or {rank} ints >= {least}, got {value!r}")
    return out


def _windows(x: Node, kernel: Shape, stride: Shape, dilation: Shape, name: str, cut: bool = False) -> Node:
    """[*lead, S1, .., Sr] to [*lead, K1, J1, .., Kr, Jr] with J the number of window positions.

    `cut`: an axis whose windows lie side by side is cut up, so that what is made of a window can stay with it.
    """
    lead = len(x.shape) - len(kernel)
    for r, (k, s, d) in enumerate(zip(kernel, stride, dilation, strict=True)):
        axis = lead + 2 * r
        size = x.shape[axis]
        span = d * (k - 1) + 1
        if size < span:
            raise ShapeError(f"{name}: the window spans {span} elements of an axis of {size} ({origins(x)})")
        count = (size - span) // s + 1
        if cut and s == span == k:
            x = ir.shrink(x, [(0, count * k if i == axis else n, 1) for i, n in enumerate(x.shape)])
            x = ir.reshape(x, (*x.shape[:axis], count, k, *x.shape[axis + 1 :]))
            x = ir.permute(x, [*range(axis), axis + 1, axis, *range(axis + 2, len(x.shape))])
            continue
        shape = (*x.shape[:axis], 1, *x.shape[axis:])
        x = ir.reshape(x, shape)
        x = ir.expand(x, (*shape[:axis], k, *shape[axis + 1 :]))
        x = ir.skew(x, axis + 1, axis, d, 0, (count - 1) * s + 1)
        x = ir.shrink(x, [(0, n, s if i == axis + 1 else 1) for i, n in enumerate(x.shape)])
    return x


def _padding(
    padding: Union[Sizes, str], kernel: Shape, stride: Shape, dilation: Shape, name: str
) -> list[tuple[int, int]]:
    """(before, after) per window axis; ``same`` keeps the size (stride 1), ``valid`` is none."""
    if padding == "valid":
        return [(0, 0)] * len(kernel)
    if padding == "same":
        if any(s != 1 for s in stride):
            raise ValueError(f"{name}: padding='same' needs stride 1, got {stride}")
        return [((d * (k - 1)) // 2, d * (k - 1) - (d * (k - 1)) // 2) for k, d in zip(kernel, dilation, strict=True)]
    if isinstance(padding, str):
        raise ValueError(f"{name}: padding must be ints, 'same' or 'valid', got {padding!r}")
    return [(p, p) for p in _sizes(padding, len(kernel), f"{name}: padding", 0)]


def _pad_spec(x: Node, widths: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
    return [(0, 0, 0)] * (len(x.shape) - len(widths)) + [(a, b, 0) for a, b in widths]


def _conv(name: str, rank: int, x: Node, weight: Node, bias: Node | None, stride: Sizes, padding: Union[Sizes, str],
          dilation: Sizes, groups: int) -> Node:  # fmt: skip
    batched = len(x.shape) == rank + 2
    if not batched and len(x.shape) == rank + 1:
        x = ir.reshape(x, (1, *x.shape))
    if len(x.shape) != rank + 2 or len(weight.shape) != rank + 2:
        raise ShapeError(f"{name}: expected x and weight with {rank + 2} axes ({origins(x, weight)})")
    channels, outputs = x.shape[1], weight.shape[0]
    if groups < 1 or channels != weight.shape[1] * groups or outputs % groups:
        raise ShapeError(
            f"{name}: expected weight [O, C/groups, *K] for {channels} channels in {groups} group(s) "
            f"({origins(x, weight)})"
        )
    kernel = weight.shape[2:]
    s, d = _sizes(stride, rank, f"{name}: stride", 1), _sizes(dilation, rank, f"{name}: dilation", 1)
    dtype = promote(x.dtype, weight.dtype)
    if bias is not None:
        if bias.shape != (outputs,):
            raise ShapeError(f"{name}: expected bias of shape ({outputs},) ({origins(bias)})")
        dtype = promote(dtype, bias.dtype)
    if dtype is BOOL:
        raise DTypeError(f"{name} is not defined for dtype bool ({origins(x, weight)})")
    x, weight = ir.cast(x, dtype), ir.cast(weight, dtype)
    inner = channels // groups
    g = (groups,) if groups > 1 else ()
    n, per = x.shape[0], outputs // groups
    x = ir.reshape(x, (n, *g, inner, *x.shape[2:]))  # groups are an axis of the derivatives, too
    x = ir.pad(x, _pad_spec(x, _padding(padding, kernel, s, d, name)))
    win = _windows(x, kernel, s, d, name)
    spans = win.shape[2 + len(g) :]
    count = tuple(spans[1::2])
    full = (n, *g, per, inner, *spans)
    wide_x = ir.expand(ir.reshape(win, (n, *g, 1, inner, *spans)), full)
    taps = tuple(v for k in kernel for v in (k, 1))
    wide_w = ir.expand(ir.reshape(weight, (1, *g, per, inner, *taps)), full)
    first = 2 + len(g)  # the axis of inner channels; taps follow, alternating with positions
    axes = (first, *(first + 1 + 2 * r for r in range(rank)))
    y = ir.reshape(ir.sum_(ir.mul(wide_x, wide_w), axes), (n, outputs, *count))
    if bias is not None:
        wide_b = ir.reshape(ir.cast(bias, dtype), (1, outputs, *(1,) * rank))
        y = ir.add(y, ir.expand(wide_b, y.shape))
    return y if batched else ir.reshape(y, y.shape[1:])


def conv1d(x: Node, weight: Node, bias: Node | None = None, stride: Sizes = 1, padding: Union[Sizes, str] = 0,
           dilation: Sizes = 1, groups: int = 1) -> Node:  # fmt: skip
    """Σ weight[o, c, k]·x[n, c, stride·j + dilation·k - padding] + bias[o].

    Shapes: x [N, C, L] or [C, L], weight [O, C/groups, K], bias [O] -> [N, O, J]. Padding may be "same" or "valid".
    """
    return _conv("conv1d", 1, x, weight, bias, stride, padding, dilation, groups)


def conv2d(x: Node, weight: Node, bias: Node | None = None, stride: Sizes = 1, padding: Union[Sizes, str] = 0,
           dilation: Sizes = 1, groups: int = 1) -> Node:  # fmt: skip
    """The correlation of images with a bank of filters.

    Shapes: x [N, C, H, W] or [C, H, W], weight [O, C/groups, KH, KW], bias [O] -> [N, O, JH, JW]. Stride, padding and
    dilation are ints or pairs; padding may be "same" or "valid".
    """
    return _conv("conv2d", 2, x, weight, bias, stride, padding, dilation, groups)


def _lowest(x: Node) -> bool | int | float:
    """The identity of max in the dtype of `x`."""
    if x.dtype.kind == "f":
        return -math.inf
    return False if x.dtype is BOOL else int(np.iinfo(x.dtype).min)


def _pool(name: str, rank: int, x: Node, kernel_size: Sizes, stride: Sizes | None, padding: Sizes, dilation: Sizes,
          fill: bool) -> tuple[Node, tuple[int, ...]]:  # fmt: skip
    """The windows of the last axes and the axes to reduce."""
    if len(x.shape) < rank + 1:
        raise ShapeError(f"{name}: expected at least {rank + 1} axes ({origins(x)})")
    kernel = _sizes(kernel_size, rank, f"{name}: kernel_size", 1)
    s = kernel if stride is None else _sizes(stride, rank, f"{name}: stride", 1)
    d = _sizes(dilation, rank, f"{name}: dilation", 1)
    p = _sizes(padding, rank, f"{name}: padding", 0)
    if any(2 * a > k for a, k in zip(p, kernel, strict=True)):
        raise ValueError(f"{name}: padding {p} is more than half of the window {kernel}")
    spec = _pad_spec(x, [(a, a) for a in p])
    padded = ir.pad(x, spec)
    if fill and padded is not x:
        inside = ir.pad(ir.const(True, BOOL, x.shape), spec)
        padded = ir.where(inside, padded, like(_lowest(x), padded))
    win = _windows(padded, kernel, s, d, name, cut=True)
    lead = len(x.shape) - rank
    return win, tuple(lead + 2 * r for r in range(rank))


def _max_pool(name: str, rank: int, x: Node, kernel_size: Sizes, stride: Sizes | None, padding: Sizes,
              dilation: Sizes) -> Node:  # fmt: skip
    win, axes = _pool(name, rank, x, kernel_size, stride, padding, dilation, fill=True)
    return drop_axes(ir.reduce(Op.REDUCE_MAX, win, axes), axes)


def max_pool1d(x: Node, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0,
               dilation: Sizes = 1) -> Node:  # fmt: skip
    """The maximum of each window of the last axis; stride is kernel_size unless said. Padding never wins.

    Shapes: x [.., L] -> [.., J]. Ties share the derivative evenly.
    """
    return _max_pool("max_pool1d", 1, x, kernel_size, stride, padding, dilation)


def max_pool2d(x: Node, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0,
               dilation: Sizes = 1) -> Node:  # fmt: skip
    """The maximum of each window of the last two axes; stride is kernel_size unless said. Padding never wins.

    Shapes: x [.., H, W] -> [.., JH, JW]. Ties share the derivative evenly.
    """
    return _max_pool("max_pool2d", 2, x, kernel_size, stride, padding, dilation)


def _avg_pool(name: str, rank: int, x: Node, kernel_size: Sizes, stride: Sizes | None, padding: Sizes,
              count_include_pad: bool) -> Node:  # fmt: skip
    if x.dtype.kind != "f":
        x = ir.cast(x, DEFAULT_FLOAT)
    win, axes = _pool(name, rank, x, kernel_size, stride, padding, 1, fill=False)
    total = drop_axes(ir.sum_(win, axes), axes)
    if count_include_pad:
        return ir.div(total, like(math.prod(win.shape[i] for i in axes), total))
    ones, _ = _pool(name, rank, like(1, x), kernel_size, stride, padding, 1, fill=False)
    return ir.div(total, drop_axes(ir.sum_(ones, axes), axes))


def avg_pool1d(x: Node, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0,
               count_include_pad: bool = True) -> Node:  # fmt: skip
    """The mean of each window of the last axis; stride is kernel_size unless said; padding counts as zeros.

    Shapes: x [.., L] -> [.., J].
    """
    return _avg_pool("avg_pool1d", 1, x, kernel_size, stride, padding, count_include_pad)


def avg_pool2d(x: Node, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0,
               count_include_pad: bool = True) -> Node:  # fmt: skip
    """The mean of each window of the last two axes; stride is kernel_size unless said; padding counts as zeros.

    Shapes: x [.., H, W] -> [.., JH, JW].
    """
    return _avg_pool("avg_pool2d", 2, x, kernel_size, stride, padding, count_include_pad)
