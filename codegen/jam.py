"""Rows of a stencil computed side by side, so that what they share is loaded once ("unroll and jam").

for i in 26 {                                      for q in 13 {
  for j in 28 {                                      for j in 28 {
    y[i, j] = x[i, j] + x[i+1, j] + x[i+2, j]   ->     y[2q, j] = ...
                                                       y[2q+1, j] = ...        (four loads, not six)

Of a small image it is all rows: then each of their masks is decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from .analysis import is_leaf
from .fold import Fold
from .index import Index, Var, of, unmask
from .loops import Apply, Buffer, Check, InRange, Load, Loop, Stmt, Store, Update
from .scalar import B1
from .vectorize import hidden

ROWS: Final = (4, 3, 2)  # how many side by side
FEW: Final = 7  # rows up to which it may be all of them
SMALL: Final = 14, 32  # rows and columns up to which it is, if their masks are decided so
STATEMENTS: Final = 1200  # in their joint body, at most
SHARE: Final = 0.7  # of the loads that are left, at most


class Jam(Fold):
    """The copy. Loops inside others only: the outermost one is what threads share."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = False

    def place(self, s: Stmt) -> None:
        if not isinstance(s, Loop):
            super().place(s)
            return
        rows = rows_of(s) if self.inner else 1
        if rows == 1:
            saved, self.inner = self.inner, True
            self.out.append(self._loop(s))
            self.inner = saved
            return
        count, rest = divmod(s.var.extent, rows)
        q = Var(count, s.var.name)
        self._jammed(s, q, [of(q) * rows + r for r in range(rows)])
        if rest:
            last = Var(rest, s.var.name)
            self._jammed(s, last, [of(last) + count * rows])

    def _jammed(self, s: Loop, var: Var, values: Sequence[Index]) -> None:
        """A loop over `var` whose inner loop has the body for each of the values of the variable of `s`.

        Statement by statement, so that no chain of operations is waited for.
        """
        *before, inner = s.body
        assert isinstance(inner, Loop)

        def copies() -> None:
            outside = self.new
            rows = [dict(outside) for _ in values]
            for x in (*before, *inner.body):
                for self.rename[s.var], self.new in zip(values, rows, strict=True):
                    self.place(x)
            self.new = outside
            del self.rename[s.var]

        self.out.append(Loop(var, [Loop(inner.var, self.scoped(copies))]))


def rows_of(s: Loop) -> int:
    """How many turns of a loop are to be done side by side; 1 if they share too few loads."""
    *before, inner = s.body
    if not isinstance(inner, Loop) or s.carries or inner.carries:
        return 1
    body = [*before, *inner.body]
    if any(isinstance(x, (Update, Check)) or not is_leaf(x) or _is_private(x) for x in body):
        return 1
    if any(isinstance(x, Store) for x in before):
        return 1
    extent = s.var.extent
    loads = _Loads(body, s.var, inner.var)
    others = sum(isinstance(x, Store) or (isinstance(x, Apply) and x.type is not B1) for x in body)

    def fits(rows: int) -> bool:
        return rows * others + loads.of(rows) <= STATEMENTS

    masked = any(isinstance(x, InRange) and s.var in x.index.variables() for x in body)
    if masked and extent <= SMALL[0] and inner.var.extent <= SMALL[1] and fits(extent):
        return extent
    left = {
        rows: loads.of(rows) / (rows * max(loads.of(1), 1))
        for rows in (ROWS if extent > FEW else (*ROWS, extent))
        if fits(rows) and (extent % rows == 0 or extent >= 4 * rows)
    }
    best = min(left, key=lambda rows: (extent % rows > 0, left[rows]), default=1)
    return best if left.get(best, 1) <= SHARE else 1


def _is_private(s: Stmt) -> bool:
    """Whether a statement stores what each turn may have to itself, so that turns cannot be interleaved."""
    return isinstance(s, Store) and s.buffer.role == "scratch"


class _Loads:
    """What is loaded anew in each turn of the inner loop, by as many turns of the outer one."""

    def __init__(self, body: Sequence[Stmt], outer: Var, inner: Var) -> None:
        self.outer = outer
        self.places: dict[tuple[Buffer, Index], set[int]] = {}  # by what is the same in all turns
        for x in body:
            if isinstance(x, Load) and inner in x.index.variables():
                e = unmask(x.index)
                self.places.setdefault((x.buffer, e + -e.const), set()).add(e.const)

    def of(self, rows: int) -> int:
        return sum(
            rows * len(places)
            if hidden(e, self.outer)
            else len({place + row * e.coefficient(self.outer) for place in places for row in range(rows)})
            for (_, e), places in self.places.items()
        )
