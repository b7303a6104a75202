"""Rows of a stencil computed side by side, so that what they share is loaded once ("unroll and jam").

for i in 26 {                                      for q in 13 {
  for j in 28 {                                      for j in 28 {
    y[i, j] = x[i, j] + x[i+1, j] + x[i+2, j]   ->     y[2q, j] = ...
                                                       y[2q+1, j] = ...        (four loads, not six)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from .analysis import is_leaf
from .clone import Clone
from .fold import Fold
from .index import Index, Var, of, unmask
from .loops import Check, Load, Loop, Stmt, Store, Update

ROWS: Final = (4, 3, 2)  # how many side by side
STATEMENTS: Final = 420  # in their joint body, at most
SHARE: Final = 0.7  # of the loads that are left, at most
LEAST: Final = 8  # columns of a row


class Jam(Fold):
    """The copy. Loops inside others only: the outermost one is what threads share."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = False

    def place(self, s: Stmt) -> None:
        if not isinstance(s, Loop):
            super().place(s)
            return
        rows = _rows(s) if self.inner else 1
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
        """A loop over `var` whose inner loop has the body for each of the values of the variable of `s`."""
        *before, inner = s.body
        assert isinstance(inner, Loop)

        def copies() -> None:
            for value in values:
                self.rename[s.var] = value
                self.inline(before)
                self.inline(inner.body)
            del self.rename[s.var]

        self.out.append(Loop(var, [Loop(inner.var, self.scoped(copies))]))


def _rows(s: Loop) -> int:
    """How many turns of a loop share enough loads to be done side by side; 1 if none."""
    *before, inner = s.body
    if not isinstance(inner, Loop) or s.carries or inner.carries or inner.var.extent < LEAST:
        return 1
    body = [*before, *inner.body]
    if any(isinstance(x, (Update, Check)) or not is_leaf(x) for x in body) or any(isinstance(x, Store) for x in before):
        return 1
    one = len(set(_loads(body, s.var, inner.var, 1)))
    left = {
        rows: len(set(_loads(body, s.var, inner.var, rows))) / (rows * max(one, 1))
        for rows in ROWS
        if rows * len(body) <= STATEMENTS and s.var.extent >= (rows if s.var.extent % rows == 0 else 4 * rows)
    }
    best = min(left, key=lambda rows: (s.var.extent % rows > 0, left[rows]), default=1)
    return best if left.get(best, 1) <= SHARE else 1


def _loads(body: Sequence[Stmt], outer: Var, inner: Var, rows: int) -> Iterator[object]:
    """What is loaded anew in each turn of the inner loop, by as many turns of the outer one."""
    for x in body:
        if isinstance(x, Load) and inner in x.index.variables():
            for r in range(rows):
                yield x.buffer, Clone({outer: of(outer) + r}).index(unmask(x.index))
