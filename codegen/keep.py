"""What contractions keep from one turn of the loop around them to the next, in memory of their own.

A factor of columns that is the same in every turn is packed in the first one; and the chains of a sum whose parts the
turns are (`loops.Part`) go on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from .analysis import Dependence, indices, operands, statements
from .contract import method
from .index import Var
from .loops import Acc, Contract, Kernel, Load, Loop, Param, Result, Stmt, Store, Update, Value
from .target import Target


@dataclass(frozen=True, slots=True)
class Kept:
    """An area of memory: columns packed in the first turn of `loop`, or (None) running sums."""

    loop: Var | None
    bytes: int


@lru_cache(64)
def kept(kernel: Kernel, target: Target) -> dict[tuple[str, Contract], Kept]:
    """What the contractions of a prepared kernel keep: ``panels``, and ``sums`` by the first statement of a sum."""
    written = {id(s.buffer) for s in statements(kernel.body) if isinstance(s, (Store, Update))}
    dependence = Dependence(kernel.body)
    out: dict[tuple[str, Contract], Kept] = {}
    for loop, s in _inside(kernel.body, None):
        p = method(s, target).tiling
        if p is None:
            continue
        factor = s.a if p.swapped else s.b
        same = loop is not None and not any(
            loop in dependence.of(x) or (isinstance(x, Load) and id(x.buffer) in written) for x in _made_of(factor)
        )
        if same and p.n <= p.nb and not p.direct.columns:
            out["panels", s] = Kept(loop, p.parts[1] * p.blocks)
        if s.part is not None and s.part.after is None:
            out["sums", s] = Kept(None, 2 * p.running)
    return out


def _made_of(value: Value) -> Iterator[Stmt]:
    """Every definition behind a value, in whatever body it stands."""
    seen: set[int] = set()
    stack: list[Value | Stmt] = [value]
    while stack:
        x = stack.pop()
        if id(x) in seen or isinstance(x, (Param, Acc)):
            continue
        seen.add(id(x))
        yield x
        stack += [x.reduce] if isinstance(x, Result) else operands(x)
        stack += [d.value for e in indices(x) for d in e.data()]


def _inside(body: Sequence[Stmt], loop: Var | None) -> Iterator[tuple[Var | None, Contract]]:
    """Every contraction, with the variable of the loop whose body it stands in."""
    for s in body:
        if isinstance(s, Contract):
            yield loop, s
        elif isinstance(s, Loop):
            yield from _inside(s.body, s.var)
