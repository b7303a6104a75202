"""Attention: two products with a softmax between them, in the words of any other composition.

Nothing downstream knows the name. What a mask forbids is zero by a selection, so products over it are contractions of a
masked factor, and the scheduler keeps blocks of score rows in cache for whatever is written this way.
"""

from __future__ import annotations

import math

from .. import ir
from ..errors import DTypeError, ShapeError
from ..ir import BOOL, Node, Op, Shape
from .core import Operand, broadcast_shape, broadcast_to, like, node, origins, result_type
from .linear import matmul
from .movement import matrix_transpose


def scaled_dot_product_attention(
    query: Operand,
    key: Operand,
    value: Operand,
    attn_mask: Operand | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Node:
    """softmax(query·keyᵀ·scale + mask)·value; `scale` is 1/√E unless given.

    `attn_mask`: bools that are true where a query may look, or floats that are added to the scores; `is_causal`: query
    i looks at the keys j <= i. A query that may look nowhere gives zeros. With `enable_gqa` the heads (axis -3) of the
    query are a multiple of those of key and value, and consecutive ones share a head.
    Shapes: query [.., L, E], key [.., S, E], value [.., S, V], attn_mask broadcast to [.., L, S] -> [.., L, V].
    Source: Vaswani et al. 2017.
    """
    dtype = result_type(query, key, value)
    if dtype.kind != "f":
        raise DTypeError(f"scaled_dot_product_attention: expected floats ({origins(query, key, value)})")
    q, k, v = node(query, dtype), node(key, dtype), node(value, dtype)
    _check(q, k, v, attn_mask, dropout_p, is_causal)
    groups = _groups(q, k, v) if enable_gqa else 1
    if groups > 1:
        q = ir.reshape(q, _by_head(q.shape, groups))
        k, v = (ir.reshape(x, (*x.shape[:-2], 1, *x.shape[-2:])) for x in (k, v))
    scaled = ir.mul(q, like(1 / math.sqrt(max(q.shape[-1], 1)) if scale is None else scale, q))
    scores = matmul(scaled, matrix_transpose(k))
    allowed: Node | None = None
    if is_causal:
        rows, columns = scores.shape[-2:]
        i, j = ir.reshape(ir.iota(rows), (rows, 1)), ir.reshape(ir.iota(columns), (1, columns))
        both = (rows, columns)
        allowed = broadcast_to(ir.not_(ir.lt(ir.expand(i, both), ir.expand(j, both))), scores.shape)
    elif attn_mask is not None:
        mask = node(attn_mask)
        if groups > 1 and len(mask.shape) > 2:
            mask = ir.reshape(mask, _by_head(mask.shape, groups if mask.shape[-3] > 1 else 1))
        shape = broadcast_shape(scores, mask)
        scores = broadcast_to(scores, shape)
        if mask.dtype is BOOL:
            allowed = broadcast_to(mask, shape)
        else:
            scores = ir.add(scores, broadcast_to(mask, shape, dtype))
    if allowed is not None:
        scores = ir.where(allowed, scores, like(-math.inf, scores))
    y = matmul(_weights(scores, allowed, attn_mask is not None), v)
    if groups > 1:
        y = ir.reshape(y, (*y.shape[:-4], y.shape[-4] * y.shape[-3], *y.shape[-2:]))
    return y


def _weights(scores: Node, allowed: Node | None, may_be_empty: bool) -> Node:
    """The softmax of the scores' rows, zero where not `allowed` and in rows that are -inf throughout."""
    axes = (len(scores.shape) - 1,)
    top = ir.reduce(Op.REDUCE_MAX, ir.detach(scores), axes)
    if may_be_empty:
        top = ir.where(ir.eq(top, like(-math.inf, top)), like(0, top), top)
    e = ir.exp(ir.sub(scores, ir.expand(top, scores.shape)))
    total = ir.sum_(e, axes)
    if may_be_empty:
        total = ir.where(ir.eq(total, like(0, total)), like(1, total), total)
    p = ir.mul(e, ir.expand(ir.div(like(1, total), total), e.shape))
    return p if allowed is None else ir.where(allowed, p, like(0, p))


def _check(q: Node, k: Node, v: Node, mask: Operand | None, dropout_p: float, is_causal: bool) -> None:
    """Refuses operands without rows, sizes that differ and options that exclude each other."""
    name = "scaled_dot_product_attention"
    if min(len(x.shape) for x in (q, k, v)) < 2:
        raise ShapeError(f"{name}: expected query, key and value with at least 2 axes ({origins(q, k, v)})")
    if q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise ShapeError(f"{name}: expected query [.., L, E], key [.., S, E], value [.., S, V] ({origins(q, k, v)})")
    if is_causal and mask is not None:
        raise ValueError(f"{name}: attn_mask should not be set when is_causal=True")
    if dropout_p != 0:
        raise ValueError(f"{name}: dropout_p must be 0, got {dropout_p}; use nn.Dropout on softmax(scores)")
    if isinstance(mask, Node) and mask.dtype.kind not in "bf":
        raise DTypeError(f"{name}: expected a mask of bools or floats ({origins(mask)})")


def _groups(q: Node, k: Node, v: Node) -> int:
    """How many heads of the query share one of key and value."""
    heads = [x.shape[-3] if len(x.shape) > 2 else 1 for x in (q, k, v)]
    if heads[1] != heads[2] or not heads[1] or heads[0] % heads[1]:
        raise ShapeError(
            "scaled_dot_product_attention: expected the query's heads to be a multiple of those of key and value "
            f"({origins(q, k, v)})"
        )
    return heads[0] // heads[1]


def _by_head(shape: Shape, groups: int) -> Shape:
    """The shape with its heads (axis -3) in groups."""
    return (*shape[:-3], shape[-3] // groups, groups, *shape[-2:])
