"""Products: matmul, einsum and their kin, each an EXPAND of both operands, one MUL and one SUM.

The scheduler sees a contraction in that form whatever function wrote it, so nothing here is special to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Union

from .. import ir
from ..dtypes import promote
from ..errors import DTypeError, ShapeError
from ..ir import BOOL, Node, Op, Shape
from . import elementwise, movement, reductions
from .core import Axis, Operand, axes_of, axis_index, broadcast_shape, broadcast_to, drop_axes, like, node, origins
from .elementwise import safe_sqrt

_SIGNATURE = "(n?,k),(k,m?)->(n?,m?)"


def _sum_of_products(a: Node, b: Node, axes: Sequence[int]) -> Node:
    """Σ a·b over `axes`, which are dropped; for bools, any of and."""
    product = ir.mul(a, b)
    total = ir.reduce(Op.REDUCE_MAX if product.dtype is BOOL else Op.SUM, product, axes)
    return drop_axes(total, tuple(axes))


def _matrix_operands(x1: Operand, x2: Operand) -> tuple[Node, Node]:
    a, b = node(x1), node(x2)
    if a.dtype is not b.dtype:
        dtype = promote(a.dtype, b.dtype)
        a, b = ir.cast(a, dtype), ir.cast(b, dtype)
    return a, b


def matmul(x1: Operand, x2: Operand) -> Node:
    """The matrix product of the last two axes, leading ones broadcast; a vector is a row on the left, a column on
    the right.

    Shapes: x1 [.., M, K], x2 [.., K, N] -> [.., M, N]; x1 [K] or x2 [K] drop M or N.
    Raises: ShapeError if K differs or an operand has no axes.
    """
    a, b = _matrix_operands(x1, x2)
    for i, x in enumerate((a, b)):
        if not x.shape:
            raise ShapeError(
                f"matmul: Input operand {i} does not have enough dimensions (has 0, gufunc core with signature "
                f"{_SIGNATURE} requires 1) ({origins(a, b)}; a product with a number is written *)"
            )
    left, right = a.shape, b.shape
    if len(left) == 1:
        left = (1, *left)
    if len(right) == 1:
        right = (*right, 1)
    m, k, n = left[-2], left[-1], right[-1]
    if right[-2] != k:
        raise ShapeError(
            f"matmul: Input operand 1 has a mismatch in its core dimension 0, with gufunc signature {_SIGNATURE} "
            f"(size {right[-2]} is different from {k}) ({origins(a, b)})"
        )
    batch = left[:-2] if left[:-2] == right[:-2] else _batch(a, b, left[:-2], right[:-2])
    if (n == 1 and m > 1 and _is_turned(a)) or (m == 1 and n > 1 and _is_turned(b)):
        x, z = movement.matrix_transpose(ir.reshape(b, right)), movement.matrix_transpose(ir.reshape(a, left))
        y = movement.matrix_transpose(_matrices(x, z, batch))
    else:
        y = _matrices(ir.reshape(a, left), ir.reshape(b, right), batch)
    if len(a.shape) == 1 or len(b.shape) == 1:
        y = ir.reshape(y, batch + left[-2:-1] * (len(a.shape) > 1) + right[-1:] * (len(b.shape) > 1))
    return y


def _matrices(a: Node, b: Node, batch: Shape) -> Node:
    """The products of matrices [.., M, K] and [.., K, N] -> [*batch, M, N]."""
    (m, k), n, ones = a.shape[-2:], b.shape[-1], (1,) * len(batch)
    full = (*batch, m, k, n)
    wide_a = ir.expand(ir.reshape(a, (*ones[len(a.shape) - 2 :], *a.shape, 1)), full)
    wide_b = ir.expand(ir.reshape(b, (*ones[len(b.shape) - 2 :], *b.shape[:-2], 1, k, n)), full)
    return _sum_of_products(wide_a, wide_b, (len(batch) + 1,))


def _is_turned(x: Node) -> bool:
    """Whether a matrix is the transpose of one in memory: its product with a vector then is the vector's with that one,
    summed as it lies."""
    return x.op is Op.PERMUTE and x.arg[-2:] == (len(x.arg) - 1, len(x.arg) - 2)


def _batch(a: Node, b: Node, left: Shape, right: Shape) -> Shape:
    """The common shape of the leading axes."""
    try:
        return broadcast_shape(ir.const(0, BOOL, left), ir.const(0, BOOL, right))
    except ShapeError:
        raise ShapeError(
            f"operands could not be broadcast together with remapped shapes [original->remapped]: {a.shape} and "
            f"{b.shape}: the leading axes {left} and {right} differ ({origins(a, b)})"
        ) from None


def vecdot(x1: Operand, x2: Operand, axis: int = -1) -> Node:
    """Σ x1·x2 along `axis` of the broadcast operands."""
    a, b = _matrix_operands(x1, x2)
    i = axis_index(axis, min(len(a.shape), len(b.shape))) - min(len(a.shape), len(b.shape))
    if a.shape[i] != b.shape[i]:
        raise ShapeError(f"vecdot: the sizes along axis {axis} differ ({origins(a, b)})")
    shape = broadcast_shape(a, b)
    return _sum_of_products(broadcast_to(a, shape), broadcast_to(b, shape), (len(shape) + i,))


def outer(x1: Operand, x2: Operand) -> Node:
    """Every product of an element of x1 and one of x2, both flattened: [M], [N] -> [M, N]."""
    a, b = _matrix_operands(x1, x2)
    m, n = a.size, b.size
    return ir.mul(ir.expand(ir.reshape(a, (m, 1)), (m, n)), ir.expand(ir.reshape(b, (1, n)), (m, n)))


def tensordot(x1: Operand, x2: Operand, axes: Union[int, Sequence[Any]] = 2) -> Node:
    """Σ over pairs of axes: the last `axes` of x1 with the first of x2, or the two given sequences of axes."""
    a, b = _matrix_operands(x1, x2)
    if isinstance(axes, int):
        left = tuple(range(len(a.shape) - axes, len(a.shape)))
        right = tuple(range(axes))
        if axes < 0 or axes > min(len(a.shape), len(b.shape)):
            raise ShapeError(f"tensordot: expected at most the axes of both operands, got {axes} ({origins(a, b)})")
    else:
        left, right = axes_of(axes[0], len(a.shape)), axes_of(axes[1], len(b.shape))
    if [a.shape[i] for i in left] != [b.shape[i] for i in right]:
        raise ShapeError(f"shape-mismatch for sum: axes {left} and {right} differ in size ({origins(a, b)})")
    rows = [i for i in range(len(a.shape)) if i not in left]
    columns = [i for i in range(len(b.shape)) if i not in right]
    m, n = [a.shape[i] for i in rows], [b.shape[i] for i in columns]
    k = math.prod(a.shape[i] for i in left)
    a = ir.reshape(ir.permute(a, (*rows, *left)), (math.prod(m), k))
    b = ir.reshape(ir.permute(b, (*right, *columns)), (k, math.prod(n)))
    return ir.reshape(matmul(a, b), (*m, *n))


def dot(x1: Operand, x2: Operand) -> Node:
    """NumPy's dot: the sum over the last axis of x1 and the last but one of x2; a product if one has no axes."""
    a, b = _matrix_operands(x1, x2)
    if not a.shape or not b.shape:
        return elementwise.multiply(a, b)
    j = max(len(b.shape) - 2, 0)
    if a.shape[-1] != b.shape[j]:
        raise ShapeError(
            f"shapes {a.shape} and {b.shape} not aligned: {a.shape[-1]} (dim {len(a.shape) - 1}) != {b.shape[j]} "
            f"(dim {j}) ({origins(a, b)})"
        )
    return tensordot(a, b, ((-1,), (j,)))


def inner(x1: Operand, x2: Operand) -> Node:
    """The sum over the last axes of both; a product if one has no axes."""
    a, b = _matrix_operands(x1, x2)
    return tensordot(a, b, ((-1,), (-1,))) if a.shape and b.shape else elementwise.multiply(a, b)


def kron(x1: Operand, x2: Operand) -> Node:
    """The Kronecker product: blocks x1[i, j, ..]·x2."""
    a, b = _matrix_operands(x1, x2)
    rank = max(len(a.shape), len(b.shape))
    m = (1,) * (rank - len(a.shape)) + a.shape
    n = (1,) * (rank - len(b.shape)) + b.shape
    full = tuple(v for pair in zip(m, n, strict=True) for v in pair)
    wide_a = ir.expand(ir.reshape(a, tuple(v for s in m for v in (s, 1))), full)
    wide_b = ir.expand(ir.reshape(b, tuple(v for s in n for v in (1, s))), full)
    return ir.reshape(ir.mul(wide_a, wide_b), tuple(s * t for s, t in zip(m, n, strict=True)))


# einsum -----------------------------------------------------------------------------------------------------------
Term = tuple[Node, str]  # an array and one distinct label per axis


def einsum(subscripts: str, *operands: Operand) -> Node:
    """Sums of products in Einstein's notation: ``einsum("ij,jk->ik", a, b)``.

    A label repeated in one operand takes its diagonal; ``...`` stands for broadcast axes; without ``->`` the result
    has the labels that occur once, sorted. More than two operands are contracted pairwise, the cheapest pair first.
    """
    nodes = [node(x) for x in operands]
    if not nodes:
        raise ValueError("einsum: must specify the einstein sum subscripts string and at least one operand")
    dtype = nodes[0].dtype
    for x in nodes:
        dtype = promote(dtype, x.dtype)
    inputs, output = _parse(subscripts, nodes)
    terms = [_diagonals(ir.cast(x, dtype), labels) for x, labels in zip(nodes, inputs, strict=True)]
    sizes = _sizes(terms, nodes)
    while len(terms) > 1:
        i, j = _cheapest(terms, output, sizes)
        right, left = terms.pop(j), terms.pop(i)
        kept = set(output).union(*(labels for _, labels in terms))
        terms.append(_contract(left, right, kept, sizes))
    x, labels = _without(terms[0], set(output))
    return ir.permute(x, [labels.index(c) for c in output])


def _parse(subscripts: str, nodes: list[Node]) -> tuple[list[str], str]:
    """One label per axis of each operand and of the result; the axes of ``...`` get labels of their own."""
    text = subscripts.replace(" ", "")
    left, arrow, right = text.partition("->")
    inputs = left.split(",")
    if len(inputs) != len(nodes):
        raise ValueError(
            f"einsum: {len(inputs)} subscripts for {len(nodes)} operands in {subscripts!r} ({origins(*nodes)})"
        )
    for part in (*inputs, right):
        if any(not c.isalpha() for c in part.replace("...", "")):
            raise ValueError(f"einsum: invalid subscript in {subscripts!r}: only letters, ',', '->' and '...' are")
    extra = [len(x.shape) - len(part.replace("...", "")) for x, part in zip(nodes, inputs, strict=True)]
    most = max((k for k, part in zip(extra, inputs, strict=True) if "..." in part), default=0)
    dots = "".join(chr(0xE000 + i) for i in range(max(most, 0)))  # private use: not letters
    named = []
    for k, x, part in zip(extra, nodes, inputs, strict=True):
        if k < 0 or (k and "..." not in part):
            raise ShapeError(
                f"einsum: operand has {len(x.shape)} axes, but its subscript {part!r} names {len(x.shape) - k} "
                f"({origins(x)})"
            )
        named.append(part.replace("...", dots[len(dots) - k :] if k else ""))
    if arrow:
        output = right.replace("...", dots)
    else:
        every = "".join(part.replace("...", "") for part in inputs)
        output = dots + "".join(c for c in sorted(set(every)) if every.count(c) == 1)
    if len(set(output)) != len(output):
        raise ValueError(f"einsum: a label of the output {right!r} occurs twice")
    unknown = {c for c in output if not any(c in part for part in named)}
    if unknown:
        raise ValueError(f"einsum: output label {sorted(unknown)[0]!r} never occurs in an operand of {subscripts!r}")
    return named, output


def _diagonals(x: Node, labels: str) -> Term:
    """The diagonal of every label that is repeated."""
    for c in dict.fromkeys(labels):
        while labels.count(c) > 1:
            i = labels.index(c)
            j = labels.index(c, i + 1)
            if x.shape[i] != x.shape[j]:
                raise ShapeError(f"einsum: label {c!r} has sizes {x.shape[i]} and {x.shape[j]} ({origins(x)})")
            x = movement.diagonal(x, 0, i, j)
            labels = labels[:i] + labels[i + 1 : j] + labels[j + 1 :] + c
    return x, labels


def _sizes(terms: list[Term], nodes: list[Node]) -> dict[str, int]:
    """The size of every label; sizes of 1 are broadcast."""
    sizes: dict[str, int] = {}
    for x, labels in terms:
        for c, n in zip(labels, x.shape, strict=True):
            if sizes.setdefault(c, n) != n and n != 1:
                if sizes[c] != 1:
                    raise ShapeError(
                        f"einsum: operands could not be broadcast together: label {c!r} has sizes {sizes[c]} and {n} "
                        f"({origins(*nodes)})"
                    )
                sizes[c] = n
    return sizes


def _cheapest(terms: list[Term], output: str, sizes: dict[str, int]) -> tuple[int, int]:
    """The pair whose contraction grows memory least, then costs least; the first one of equals."""

    def cost(i: int, j: int) -> tuple[int, int]:
        labels = set(terms[i][1]) | set(terms[j][1])
        kept = set(output).union(*(t[1] for k, t in enumerate(terms) if k not in (i, j)))
        result = math.prod(sizes[c] for c in labels & kept)
        return result - terms[i][0].size - terms[j][0].size, math.prod(sizes[c] for c in labels)

    pairs = [(i, j) for i in range(len(terms)) for j in range(i + 1, len(terms))]
    return min(pairs, key=lambda p: cost(*p)) if len(pairs) > 1 else pairs[0]


def _without(term: Term, kept: set[str]) -> Term:
    """The labels that nobody needs any more summed away."""
    x, labels = term
    gone = [i for i, c in enumerate(labels) if c not in kept]
    if not gone:
        return term
    total = ir.reduce(Op.REDUCE_MAX if x.dtype is BOOL else Op.SUM, x, gone)
    return drop_axes(total, gone), "".join(c for c in labels if c in kept)


def _contract(left: Term, right: Term, kept: set[str], sizes: dict[str, int]) -> Term:
    """Σ left·right over the labels not in `kept`, in the order of a matrix product: batch, rows, summed, columns.

    With a vector, in the order in which the matrix lies.
    """
    a, p = _without(left, kept | set(right[1]))
    b, q = _without(right, kept | set(left[1]))
    batch = [c for c in p if c in q and c in kept]
    rows = [c for c in p if c not in q]
    summed = [c for c in p if c in q and c not in kept]
    columns = [c for c in q if c not in p]
    order = [*batch, *rows, *summed, *columns]
    if not rows or not columns:
        order = [*batch, *(c for c in (p if rows else q) if c not in batch)]
    full = tuple(sizes[c] for c in order)
    y = _sum_of_products(_laid(a, p, order, full), _laid(b, q, order, full), [order.index(c) for c in summed])
    return y, "".join(c for c in order if c not in summed)


def _laid(x: Node, labels: str, order: list[str], full: Shape) -> Node:
    """`x` with its axes in the order of `order`, repeated along those it does not have."""
    x = ir.permute(x, [labels.index(c) for c in order if c in labels])
    own = iter(x.shape)
    return ir.expand(ir.reshape(x, tuple(next(own) if c in labels else 1 for c in order)), full)


# linalg without LAPACK --------------------------------------------------------------------------------------------
def trace(x: Node, offset: int = 0, dtype: Any = None) -> Node:
    """The sum of the diagonal of the last two axes."""
    movement.matrix_transpose(x)
    return reductions.sum(movement.diagonal(x, offset, -2, -1), -1, dtype)


def matrix_diagonal(x: Node, *, offset: int = 0) -> Node:
    """The diagonal of the last two axes, as the last axis."""
    movement.matrix_transpose(x)
    return movement.diagonal(x, offset, -2, -1)


def cross(x1: Operand, x2: Operand, axis: int = -1) -> Node:
    """The vector product along `axis`, which has size 3."""
    a, b = _matrix_operands(x1, x2)
    if a.dtype is BOOL:
        raise DTypeError(f"cross is not defined for dtype bool ({origins(a, b)})")
    shape = broadcast_shape(a, b)
    a, b = broadcast_to(a, shape), broadcast_to(b, shape)
    i = axis_index(axis, len(shape))
    if shape[i] != 3:
        raise ShapeError(f"cross: incompatible dimensions for cross product: expected size 3 ({origins(a, b)})")
    roll = movement.roll
    return ir.sub(ir.mul(roll(a, -1, i), roll(b, -2, i)), ir.mul(roll(a, -2, i), roll(b, -1, i)))


def matrix_power(x: Node, n: int) -> Node:
    """`x` @ .. @ `x`, n >= 0 times."""
    movement.matrix_transpose(x)
    if x.shape[-1] != x.shape[-2]:
        raise ShapeError(f"matrix_power: expected square matrices ({origins(x)})")
    if n < 0:
        raise ValueError(f"matrix_power: expected n >= 0, got {n}")
    result: Node | None = None
    while n:
        if n & 1:
            result = x if result is None else matmul(result, x)
        n >>= 1
        if n:
            x = matmul(x, x)
    if result is not None:
        return result
    row = reductions.along(ir.iota(x.shape[-2]), len(x.shape) - 2, x.shape)
    column = reductions.along(ir.iota(x.shape[-1]), len(x.shape) - 1, x.shape)
    return ir.cast(ir.eq(row, column), x.dtype)


def vector_norm(x: Node, *, axis: Axis = None, keepdims: bool = False, ord: float = 2) -> Node:
    """(Σ|x|^ord)^(1/ord) over `axis`; ord ±inf: the largest or smallest |x|; 0: how many are not 0.

    The derivative at x = 0 is 0.
    """
    x = x if x.dtype.kind == "f" else elementwise._float(x)
    if ord == math.inf:
        return reductions.max(ir.abs_(x), axis, keepdims)
    if ord == -math.inf:
        return reductions.min(ir.abs_(x), axis, keepdims)
    if ord == 0:
        return ir.cast(reductions.count_nonzero(x, axis, keepdims), x.dtype)
    if ord == 1:
        return reductions.sum(ir.abs_(x), axis, keepdims=keepdims)
    if ord == 2:
        return safe_sqrt(reductions.sum(ir.mul(x, x), axis, keepdims=keepdims))
    total = reductions.sum(_safe_power(ir.abs_(x), ord), axis, keepdims=keepdims)
    return _safe_power(total, 1 / ord)


def _safe_power(x: Node, n: float) -> Node:
    """x^n for x >= 0, with derivative 0 at 0."""
    at_zero = ir.eq(x, like(0, x))
    inner = ir.where(at_zero, like(1, x), x)
    return ir.where(at_zero, like(0 if n > 0 else math.inf, x), elementwise.pow(inner, n))


def matrix_norm(x: Node, *, keepdims: bool = False, ord: Union[float, str] = "fro") -> Node:
    """A norm of the last two axes: fro, 1 and -1 (column sums), inf and -inf (row sums)."""
    movement.matrix_transpose(x)
    if ord == "fro":
        return vector_norm(x, axis=(-2, -1), keepdims=keepdims)
    if ord not in (1, -1, math.inf, -math.inf):
        raise ValueError(f"matrix_norm: expected ord 'fro', 1, -1, inf or -inf, got {ord!r}")
    x = x if x.dtype.kind == "f" else elementwise._float(x)
    axis = -2 if abs(ord) == 1 else -1
    sums = reductions.sum(ir.abs_(x), axis, keepdims=True)
    best = (reductions.max if ord > 0 else reductions.min)(sums, (-2, -1), keepdims)
    return best
