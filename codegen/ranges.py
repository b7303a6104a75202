"""What a call's ``[begin, end)`` ranges over, so that several threads can share one kernel.

That is the one loop of the body, if its iterations are independent, or a longer one inside, if they are not or are
few; the parts of its one contraction, alone or in few loops; or the units of a reduction that only leaves its subtrees
(`codegen.emit_partials`). What stands beside or around it (scalars that the loop uses or that are stored beside its
results) is done again by every range.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod

from .analysis import sole, statements
from .contract import method
from .emit_columns import column_units
from .emit_partials import units
from .index import Index, Var
from .loops import Contract, Kernel, Loop, Reduce, Stmt, Store, Update
from .split import prepare
from .target import Target
from .vectorize import hidden

LARGE = 64 * 64  # results of a contraction that several threads share
ENOUGH = 16  # iterations of an outer loop that are enough for the threads, so that an inner one need not be shared


def ranged(body: Sequence[Stmt]) -> Loop | Contract | None:
    """The statement of which a call does the range it is given; None if every call does everything."""
    s = sole(body)
    if isinstance(s, Contract) and s.part is None and not any(isinstance(x, Update) for x in statements(body)):
        return s
    if not isinstance(s, Loop) or s.carries:
        return None
    inner = None if any(isinstance(x, Store) for x in s.body) else ranged(s.body)
    if isinstance(inner, Contract) and _around(s) < ENOUGH and _is_large(inner):
        return inner
    if not isinstance(inner, Loop):
        return s if independent(s) else None
    few = s.var.extent < ENOUGH and inner.var.extent >= ENOUGH * s.var.extent
    return inner if few or not independent(s) else s


@lru_cache(64)
def range_of(kernel: Kernel) -> Loop | Contract | None:
    """`ranged` of a prepared kernel."""
    return ranged(kernel.body)


def extent(kernel: Kernel, target: Target) -> int:
    """How many iterations ``[begin, end)`` ranges over; 1 where it is ignored.

    A contraction packs its columns once per call: few long ranges are better there than many short ones.
    """
    prepared = prepare(kernel)
    if kernel.partials:
        return sum(u.count for s in prepared.body if (u := units(s) if isinstance(s, Reduce) else column_units(s)))
    s = range_of(prepared)
    if isinstance(s, Contract):
        return method(s, target).units
    return 1 if s is None else s.var.extent


def _around(s: Loop) -> int:
    """How many times over a contraction inside is done."""
    inner = sole(s.body)
    return s.var.extent * (_around(inner) if isinstance(inner, Loop) else 1)


def _is_large(s: Contract) -> bool:
    """Whether a contraction has enough parts for several threads."""
    return prod(v.extent for v in (*s.m, *s.n)) >= LARGE


def independent(loop: Loop) -> bool:
    """Whether ranges of a loop may run at once: no two of its iterations update one element or add to one sum."""
    if loop.carries:
        return False
    for s in statements(loop.body):
        if isinstance(s, Update) and not _distinct(s.index, loop.var):
            return False
        if isinstance(s, Contract) and s.part and loop.var in s.part.start.variables():
            return False
    return True


def _distinct(e: Index, var: Var) -> bool:
    """Whether `e` tells the value of `var`: all else is less than a step of it, or steps over its whole range."""
    coef = e.coefficient(var)
    if not coef or hidden(e, var):
        return False
    rest = e + Index({var: -coef})
    lo, hi = rest.bounds
    return hi - lo < abs(coef) or all(c % (coef * var.extent) == 0 for c in rest.terms.values())
