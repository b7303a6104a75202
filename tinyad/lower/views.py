"""Views: parts of a stored array that are read in place, from another first element on.

A chain of SHRINK, PERMUTE, EXPAND and RESHAPE (of axes of size 1) over a stored array differs from the array in steps
and in the first element only. The latter is no part of a kernel's code but of the address it is given, so that the
same work on every row of an array is one kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from codegen import index as ix
from codegen.index import Index

from ..ir import Node, Op


def base(n: Node, is_loaded: Callable[[Node], bool], is_kept: Callable[[Node], bool]) -> tuple[Node, int] | None:
    """The stored array that `n` is a view of, and the number of its first element there; None if `n` is computed.

    A value that the kernel itself keeps (`is_kept`) is computed, be it only by movement.
    """
    leaf, cut = n, False
    while not is_loaded(leaf):
        if is_kept(leaf):
            return None
        if leaf.op is Op.SHRINK:
            cut = True
        elif leaf.op is not Op.PERMUTE and leaf.op is not Op.EXPAND and not _squeezes(leaf):
            return None
        leaf = leaf.src[0]
    return leaf, ix.flatten(through(n, leaf, [ix.ZERO] * len(n.shape)), leaf.shape).const if cut else 0


def _squeezes(n: Node) -> bool:
    """Whether `n` only adds or drops axes of size 1."""
    return n.op is Op.RESHAPE and [m for m in n.shape if m != 1] == [m for m in n.src[0].shape if m != 1]


def through(n: Node, leaf: Node, idx: Sequence[Index]) -> list[Index]:
    """The index into `leaf` of what stands at `idx` in its view `n`."""
    out = list(idx)
    while n is not leaf:
        source = n.src[0]
        if n.op is Op.SHRINK:
            out = [e * step + start for e, (start, _, step) in zip(out, n.arg)]
        elif n.op is Op.PERMUTE:
            moved = dict(zip(n.arg, out))
            out = [moved[i] for i in range(len(out))]
        elif n.op is Op.EXPAND:
            out = [ix.ZERO if m == 1 else e for e, m in zip(out, source.shape)]
        else:
            kept = iter([e for e, m in zip(out, n.shape) if m != 1])
            out = [ix.ZERO if m == 1 else next(kept) for m in source.shape]
        n = source
    return out
