"""What every public function is made with: operands as nodes, promotion, broadcasting, axes, and errors.

The functions of this package map nodes to nodes; `tinyad.tensor.public` wraps them for tensors. An operand is a node or
a Python scalar, which is weakly typed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Union

import numpy as np

from .. import buffer, ir
from ..dtypes import DEFAULT_FLOAT, as_dtype, default_of, promote, with_scalar
from ..errors import AxisError, DTypeError, ShapeError
from ..ir import DType, Node, Shape, WeakNode
from ..sites import capture, line_of

Operand = Union[Node, bool, int, float]
Axis = Union[int, Sequence[int], None]


def origins(*operands: Operand) -> str:
    """The shapes of the operands and the lines that made them, for error messages."""
    parts = []
    for x in operands:
        if isinstance(x, Node):
            line = line_of(x)
            parts.append(f"{ir.SHORT[x.dtype]}[{','.join(map(str, x.shape))}]" + (f" made at {line}" if line else ""))
        else:
            parts.append(repr(x))
    return "; ".join(parts)


def node(x: Operand, dtype: DType | None = None) -> Node:
    """`x` as a node, of `dtype` if given."""
    if isinstance(x, Node):
        if type(x) is WeakNode and dtype is None:
            dtype = result_type(x)
        return x if dtype is None else ir.cast(x, dtype)
    return ir.const(x, dtype or default_of(x))


def result_type(*operands: Operand) -> DType:
    """The common dtype: arrays by promotion, Python scalars weak."""
    dtype: DType | None = None
    scalars: list[bool | int | float] = []
    for x in operands:
        if not isinstance(x, Node):
            scalars.append(x)
        elif type(x) is WeakNode:
            scalars.append(0.0 if x.dtype.kind == "f" else 0)
        else:
            dtype = x.dtype if dtype is None else promote(dtype, x.dtype)
    for s in scalars:
        dtype = default_of(s) if dtype is None else with_scalar(dtype, s)
    assert dtype is not None
    return dtype


def float_type(*operands: Operand) -> DType:
    """The common dtype, the default float where it would be bool or integer."""
    dtype = result_type(*operands)
    return dtype if dtype.kind == "f" else DEFAULT_FLOAT


def broadcast_shape(*operands: Operand) -> Shape:
    """The common shape by NumPy's rules; ShapeError with NumPy's sentence if there is none."""
    shapes = [x.shape for x in operands if isinstance(x, Node)]
    rank = max(map(len, shapes), default=0)
    out = [1] * rank
    for shape in shapes:
        for i, n in enumerate(shape, rank - len(shape)):
            if n != 1 and out[i] != n:
                if out[i] != 1:
                    names = " ".join("(" + ",".join(map(str, s)) + ("," if len(s) == 1 else "") + ")" for s in shapes)
                    raise ShapeError(
                        f"operands could not be broadcast together with shapes {names} ({origins(*operands)})"
                    )
                out[i] = n
    return tuple(out)


def broadcast_to(x: Operand, shape: Shape, dtype: DType | None = None) -> Node:
    """`x` with size-1 and missing leading axes repeated to `shape`, which is known to fit."""
    if not isinstance(x, Node):
        return ir.const(x, dtype or default_of(x), shape)
    if dtype is not None and x.dtype is not dtype:
        x = ir.cast(x, dtype)
    if x.shape == shape:
        return x
    if len(x.shape) < len(shape):
        x = ir.reshape(x, (1,) * (len(shape) - len(x.shape)) + x.shape)
    return ir.expand(x, shape)


def together(*operands: Operand, dtype: DType | None = None) -> list[Node]:
    """The operands as nodes of one shape and one dtype (the promoted one unless given)."""
    dtype = dtype or result_type(*operands)
    shape = broadcast_shape(*operands)
    return [broadcast_to(x, shape, dtype) for x in operands]


def binary(op: ir.Op, x: Operand, y: Operand, dtype: DType | None = None) -> Node:
    """`op` on two broadcast operands; DTypeError if it has no meaning for their dtype."""
    a: Node
    b: Node
    if dtype is None and type(x) is Node and type(y) is Node and x.dtype is y.dtype and x.shape == y.shape:
        a, b = x, y
    elif dtype is None and type(x) is Node and not isinstance(y, Node) and x.dtype.kind == "f":
        a, b = x, ir.const(y, x.dtype, x.shape)
    elif dtype is None and type(y) is Node and not isinstance(x, Node) and y.dtype.kind == "f":
        a, b = ir.const(x, y.dtype, y.shape), y
    else:
        a, b = together(x, y, dtype=dtype)
    if a.dtype.kind not in ir.OPERANDS[op]:
        raise DTypeError(f"'{op.value}' is not defined for dtype {a.dtype.name} ({origins(x, y)})")
    return Node(op, (a, b), None, a.shape, ir.BOOL if op is ir.Op.LT or op is ir.Op.EQ else a.dtype)


def floating(op: ir.Op, x: Operand) -> Node:
    """`op`, defined for floats, of an operand of any dtype (bool and integers become the default float)."""
    return ir.unary(op, node(x, float_type(x)))


def axis_index(axis: int, ndim: int) -> int:
    """A non-negative axis; AxisError with NumPy's sentence if it is out of range."""
    i = axis.__index__()
    if not -ndim <= i < ndim:
        raise AxisError(i, ndim)
    return i % ndim


def axes_of(axis: Axis, ndim: int) -> tuple[int, ...]:
    """The axes a reduction runs over, non-negative: None means all; ValueError for a repeated one."""
    if axis is None:
        return tuple(range(ndim))
    if isinstance(axis, (tuple, list)):
        axes = tuple(axis_index(a, ndim) for a in axis)
        if len(set(axes)) != len(axes):
            raise ValueError("duplicate value in 'axis'")
        return axes
    return (axis_index(axis, ndim),)  # type: ignore[arg-type]


def like(value: bool | int | float, x: Node) -> Node:
    """A constant of x's shape and dtype."""
    return ir.const(value, x.dtype, x.shape)


def drop_axes(x: Node, axes: Sequence[int]) -> Node:
    """`x` without the given axes, which have size 1."""
    return ir.reshape(x, tuple(n for i, n in enumerate(x.shape) if i not in axes))


def array(values: Any) -> Node:
    """A leaf holding a copy of a NumPy array."""
    a = np.asarray(values)
    return ir.buffer(a.shape, as_dtype(a.dtype), buffer.copy(a))


def located(n: Node) -> Node:
    """`n` with the user's line as its site, for operations whose errors appear when they are computed."""
    if n.site is None:
        n.site = capture()
    return n
