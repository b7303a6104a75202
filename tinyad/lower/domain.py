"""Selections around a contraction that leave some of its terms without effect, for `codegen.loops.Contract.domain`.

A factor ``where(c, x, 0)`` is zero where c is false; a result that is only read as ``where(c, f(acc), y)`` is not used
there. Where c compares positions (IOTA), the contraction is told.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from codegen.conditions import implied
from codegen.index import Index

from ..canonical import Parameter
from ..ir import ELEMENTWISE, MOVEMENT, Node, Op
from ..schedule.contraction import operands
from ..schedule.group import Group, squeezed
from .movement import THROUGH
from .walk import Lowering


@dataclass(frozen=True, slots=True)
class Condition:
    """The bool node `test` is `wanted` at `index` wherever a term counts."""

    test: Node
    wanted: bool
    index: tuple[Index, ...]


@dataclass(frozen=True, slots=True)
class Path:
    """What becomes of a contraction's results element by element before anything else reads them: `top`, at `index`.

    `axes`: the axis of `top` that each axis of the contraction is.
    """

    top: Node
    index: tuple[Index, ...]
    axes: tuple[int, ...]


class Readers:
    """Who reads the values that a kernel computes from a contraction. `factors` of other stages are read as well."""

    def __init__(self, state: Lowering, group: Group, heavy: Node, factors: Iterable[Node] = ()) -> None:
        self.state = state
        stack = [*(s.node for s in group.sinks), *(n for n, _ in group.passes), *factors]
        self.ends = set(map(id, stack))
        stored_by_passes = {id(s.node) for s in group.sinks if s.position is None}
        self.others = {id(n) for n, _ in group.tiles if n is not heavy} | stored_by_passes
        self.of: dict[int, list[Node]] = {}
        self.known: dict[int, tuple[Index, ...]] = {}
        seen: set[int] = set()
        while stack:
            n = stack.pop()
            if id(n) in seen or n is heavy or state.is_loaded(n) or id(n) in state.ready:
                continue
            seen.add(id(n))
            for s in operands(n):
                self.of.setdefault(id(s), []).append(n)
                stack.append(s)

    def finished(self, heavy: Node, idx: tuple[Index, ...]) -> Path:
        """The elementwise work on each result of `heavy`, at `idx`, up to where several read it or it has to wait."""
        n, axes = heavy, tuple(range(len(heavy.shape)))
        while id(n) not in self.ends and len(self.of.get(id(n), ())) == 1:
            (reader,) = self.of[id(n)]
            at = _at(reader, n, idx)
            if at is None or self._waits(reader, n):
                break
            if reader.op is Op.RESHAPE:
                kept = [i for i, m in enumerate(reader.shape) if m != 1]
                moved = dict(zip([i for i, m in enumerate(n.shape) if m != 1], kept))
                axes = tuple([moved.get(i, 0) for i in axes])
            n, idx = reader, at
        return Path(n, idx, axes)

    def _waits(self, reader: Node, n: Node) -> bool:
        """Whether what `reader` reads besides `n` is made of another contraction, which is no tile yet, or of what a
        pass is to store."""
        seen = {id(n)}
        stack = [*reader.src]
        while stack:
            m = stack.pop()
            if id(m) in seen or self.state.is_loaded(m) or id(m) in self.state.ready:
                continue
            if id(m) in self.others:
                return True
            seen.add(id(m))
            stack += operands(m)
        return False

    def unused(self, n: Node, idx: tuple[Index, ...]) -> tuple[Index, ...]:
        """Inequalities without which nobody reads `n` at `idx`: what all its readers have in common, in their order."""
        if id(n) in self.known:
            return self.known[id(n)]
        self.known[id(n)] = ()
        if id(n) in self.ends:
            return ()
        common: tuple[Index, ...] | None = None
        for reader in self.of.get(id(n), ()):
            at = _at(reader, n, idx)
            if at is None:
                return ()
            found = self.unused(reader, at)
            if reader.op is Op.WHERE and reader.src[0] is not n:
                mine = inequalities(self.state, [Condition(reader.src[0], reader.src[1] is n, at)])
                found = (*found, *(e for e in mine if e not in found))
            common = found if common is None else tuple([e for e in common if e in found])
            if not common:
                break
        self.known[id(n)] = common or ()
        return self.known[id(n)]


def _at(reader: Node, n: Node, idx: tuple[Index, ...]) -> tuple[Index, ...] | None:
    """Where `reader` has the element that it makes of `n` at `idx`; None if it is no such element."""
    if reader.op in ELEMENTWISE:
        return idx
    if reader.op is not Op.RESHAPE or squeezed(reader.shape) != squeezed(n.shape):
        return None
    kept = iter([e for e, m in zip(idx, n.shape) if m != 1])
    return tuple([Index({}) if m == 1 else next(kept) for m in reader.shape])


def zeros(state: Lowering, n: Node, idx: tuple[Index, ...]) -> Iterator[Condition]:
    """Conditions without which the factor `n` is zero at `idx`, as far as it is computed here.

    What is loaded is a leaf: kernels that read alike are one kernel (`recall.py`), whoever wrote the arrays.
    """
    while not state.is_loaded(n):
        if n.op in (Op.RESHAPE, Op.EXPAND, Op.PERMUTE):
            n, idx, _ = next(THROUGH[n.op](state, n, idx, None))
        elif n.op is Op.NEG:
            n = n.src[0]
        elif n.op is Op.MUL and any(s.op is Op.CONST for s in n.src):
            factor, rest = n.src if n.src[0].op is Op.CONST else n.src[::-1]
            if not isinstance(factor.arg, Parameter) and not math.isfinite(factor.arg):
                return
            n = rest
        elif n.op is Op.WHERE and (_is_zero(n.src[1]) or _is_zero(n.src[2])):
            wanted = _is_zero(n.src[2])
            yield Condition(n.src[0], wanted, idx)
            n = n.src[1 if wanted else 2]
        else:
            return


def _is_zero(n: Node) -> bool:
    return n.op is Op.CONST and not isinstance(n.arg, Parameter) and n.arg == 0


def inequalities(state: Lowering, conditions: Iterable[Condition]) -> list[Index]:
    """What the conditions say of the loops that are open."""
    found: dict[Index, None] = {}
    for c in conditions:
        if _is_of_positions(state, c.test):
            with state.draft():
                found.update(dict.fromkeys(implied(state.value(c.test, c.index), c.wanted)))
    return [e for e in found if e.bounds[0] < 0]


def _is_of_positions(state: Lowering, n: Node) -> bool:
    """Whether a value is computed here from positions and known constants alone."""
    seen: set[int] = set()
    stack = [n]
    while stack:
        n = stack.pop()
        if id(n) not in seen:
            seen.add(id(n))
            if state.is_loaded(n) or isinstance(n.arg, Parameter):
                return False
            if n.op not in ELEMENTWISE and n.op not in MOVEMENT and n.op not in (Op.IOTA, Op.CONST):
                return False
            stack.extend(n.src)
    return True
