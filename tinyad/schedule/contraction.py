"""Sums of products, and contractions: those whose free axes split in two, each varying in one factor only."""

from __future__ import annotations

from dataclasses import dataclass

from ..axes import Axes, repeated
from ..ir import FLOAT32, FLOAT64, Node, Op


@dataclass(frozen=True, slots=True)
class Contraction:
    """The axes of the product a·b under a SUM: `batch` vary in both, `m` in a only, `n` in b only, `k` are summed."""

    product: Node
    batch: tuple[int, ...]
    m: tuple[int, ...]
    n: tuple[int, ...]
    k: tuple[int, ...]


def operands(n: Node) -> tuple[Node, ...]:
    """What `n` is computed from: its sources, or both factors of a product that a SUM adds unrounded.

    Such a product is a part of the sum, whoever else needs or stores it, so that the bits do not depend on that.
    """
    unrounded = n.op is Op.SUM and n.src[0].op is Op.MUL and n.dtype in (FLOAT32, FLOAT64) and n.size < n.src[0].size
    return n.src[0].src if unrounded else n.src


def contraction(r: Node, memo: dict[int, Axes]) -> Contraction | None:
    """How `r` contracts, or None if it is not a contraction."""
    if r.op is not Op.SUM or r.src[0].op is not Op.MUL:
        return None
    product = r.src[0]
    a, b = product.src
    same_a, same_b = repeated(a, memo), repeated(b, memo)
    free = [i for i, size in enumerate(product.shape) if size > 1 and i not in r.arg]
    m = tuple(i for i in free if i in same_b and i not in same_a)
    n = tuple(i for i in free if i in same_a and i not in same_b)
    k = tuple(i for i in r.arg if product.shape[i] > 1)
    if not m or not n or not k:
        return None
    return Contraction(product, tuple(i for i in free if i not in m and i not in n), m, n, k)
