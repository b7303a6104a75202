"""Contractions: a SUM of a product whose free axes split into two groups, each varying in one factor only."""

from __future__ import annotations

from dataclasses import dataclass

from ..ir import ELEMENTWISE, Node, Op


@dataclass(frozen=True, slots=True)
class Contraction:
    """The axes of the product a·b under a SUM: `batch` vary in both, `m` in a only, `n` in b only, `k` are summed."""

    product: Node
    batch: tuple[int, ...]
    m: tuple[int, ...]
    n: tuple[int, ...]
    k: tuple[int, ...]


def varies(n: Node, memo: dict[int, frozenset[int]]) -> frozenset[int]:
    """The axes along which `n` may change, by the shape of its IR: an EXPAND repeats, a constant never changes."""
    stack = [n]
    while stack:
        x = stack[-1]
        if id(x) in memo:
            stack.pop()
            continue
        looks_through = x.op in ELEMENTWISE or x.op in (Op.EXPAND, Op.PERMUTE)
        todo = [s for s in x.src if id(s) not in memo] if looks_through else []
        if todo:
            stack.extend(todo)
            continue
        stack.pop()
        if x.op is Op.CONST:
            axes: frozenset[int] = frozenset()
        elif x.op in ELEMENTWISE:
            axes = frozenset().union(*(memo[id(s)] for s in x.src))
        elif x.op is Op.EXPAND:
            axes = frozenset(i for i in memo[id(x.src[0])] if x.src[0].shape[i] > 1)
        elif x.op is Op.PERMUTE:
            source = memo[id(x.src[0])]
            axes = frozenset(i for i, p in enumerate(x.arg) if p in source)
        else:
            axes = frozenset(i for i, size in enumerate(x.shape) if size > 1)
        memo[id(x)] = axes
    return memo[id(n)]


def contraction(r: Node, memo: dict[int, frozenset[int]]) -> Contraction | None:
    """How `r` contracts, or None if it is not a contraction."""
    if r.op is not Op.SUM or r.src[0].op is not Op.MUL:
        return None
    product = r.src[0]
    a, b = product.src
    in_a, in_b = varies(a, memo), varies(b, memo)
    free = [i for i, size in enumerate(product.shape) if size > 1 and i not in r.arg]
    m = tuple(i for i in free if i in in_a and i not in in_b)
    n = tuple(i for i in free if i in in_b and i not in in_a)
    k = tuple(i for i in r.arg if product.shape[i] > 1)
    if not m or not n or not k:
        return None
    return Contraction(product, tuple(i for i in free if i not in m and i not in n), m, n, k)
