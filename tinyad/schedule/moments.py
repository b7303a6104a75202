"""Sums of squares about a mean, down columns that no cache holds, with one read of memory.

    m = Σ x / n;  Σ (x - m)²

reads x twice, for m is not known before all of x has been read. In blocks of `BLOCK` rows with means m_b the second sum
is

    Σ_b (q_b + (m_b - m) (2 r_b + BLOCK (m_b - m))),  q_b = Σ_{x in b} (x - m_b)²,  r_b = Σ_{x in b} (x - m_b)

(Chan, Golub and LeVeque, "Algorithms for computing the sample variance", 1983), and a block is still in cache when its
mean is known. Nothing large cancels, and r_b, which would be zero if m_b had no error, keeps that out of the result. It
holds for any m, so nothing is asked of m but that it is computed from the sum of the same columns; that is then made of
the blocks' sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from codegen.loops import BLOCK

from .. import ir
from ..ir import Node, Op
from .tails import FAR, blocked

STEPS: Final = 64  # nodes between a sum and what is computed of it, at most


def one_pass(nodes: Sequence[Node]) -> tuple[list[Node], dict[int, Node]]:
    """Nodes of the same values, sources first, with such sums in blocks; and the sums of blocks of what their means are
    computed from, by the whole sums."""
    squares = {id(n): found for n in nodes if n.op is Op.SUM and (found := _about_mean(n)) is not None}
    if not squares:
        return list(nodes), {}
    totals = {id(total) for total, _ in squares.values()}
    parts: dict[int, Node] = {}
    new: dict[int, Node] = {}
    for n in nodes:
        src = tuple([new[id(s)] for s in n.src])
        if id(n) in squares:
            total, mean = squares[id(n)]
            out = ir.reshape(_squares(parts[id(new[id(total)])], new[id(mean)]), n.shape)
        elif all(a is b for a, b in zip(src, n.src)):
            out = n
        else:
            out = Node(n.op, src, n.arg, n.shape, n.dtype)
        if out.site is None:
            out.site = n.site
        if id(n) in totals:
            sums = blocked(out)
            assert sums is not None
            parts[id(out)] = sums
        new[id(n)] = out
    return [new[id(n)] for n in nodes], parts


def _about_mean(n: Node) -> tuple[Node, Node] | None:
    """The sum of the same columns, and what is subtracted, if `n` adds up squares of x less what that sum decides."""
    product = n.src[0]
    far = n.dtype.kind == "f" and product.size * n.dtype.itemsize >= FAR
    if not far or product.op is not Op.MUL or product.src[0] is not product.src[1] or blocked(n) is None:
        return None
    d = product.src[0]
    if d.op is not Op.SUB:
        return None
    for x, spread in (d.src, d.src[::-1]):
        if spread.op is Op.EXPAND and spread.src[0].shape == n.shape:
            total = _total(spread.src[0], x, n.arg)
            if total is not None:
                return total, spread.src[0]
    return None


def _total(mean: Node, x: Node, axes: tuple[int, ...]) -> Node | None:
    """The sum of `x` over `axes` that `mean` is computed from."""
    seen = {id(mean)}
    waiting = [mean]
    for n in waiting:
        if n.op is Op.SUM and n.src[0] is x and n.arg == axes:
            return n
        for s in n.src:
            if s.size <= mean.size and id(s) not in seen and len(seen) < STEPS:
                seen.add(id(s))
                waiting.append(s)
    return None


def _squares(sums: Node, mean: Node) -> Node:
    """The sum of squares of what these are sums over blocks of, less `mean`."""

    def times(a: Node, factor: float) -> Node:
        return ir.binary(Op.MUL, a, ir.const(factor, a.dtype, a.shape))

    x, own = sums.src[0], times(sums, 1 / BLOCK)
    d = ir.binary(Op.SUB, x, ir.expand(own, x.shape))
    squares, rest = ir.sum_(ir.binary(Op.MUL, d, d), (1,)), ir.sum_(d, (1,))
    away = ir.binary(Op.SUB, own, ir.expand(ir.reshape(mean, (1, *sums.shape[1:])), sums.shape))
    between = ir.binary(Op.MUL, away, ir.binary(Op.ADD, times(rest, 2), times(away, BLOCK)))
    return ir.sum_(ir.binary(Op.ADD, squares, between), (0,))
