"""Turns of a short loop that reduce the same rows are written out, so that `codegen.join` makes one reduction of them.

for q in 3 {
  y[q] = reduce row r in 56 { a[r] * b[r + q] }    ->    y[0], y[1], y[2] = reduce row r in 56 { three results }

This is what the gradient of a depthwise convolution's weights is made of: a loop over places of the window, around the
pixels of all images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from .analysis import is_leaf, statements
from .clone import Clone
from .index import Var, constant
from .join import most
from .loops import Check, Kernel, Load, Loop, Reduce, Stmt, Store, Update

TURNS: Final = 8  # of a loop that is written out, at most


def write_out(kernel: Kernel) -> Kernel:
    """The kernel with the turns of such loops written out."""
    if not any(isinstance(s, Loop) and 1 < s.var.extent <= TURNS for s in statements(kernel.body)):
        return kernel
    return replace(kernel, body=_Turns().body(kernel.body))


class _Turns(Clone):
    """The copy. Loops inside others only: the outermost one is what threads share."""

    def __init__(self) -> None:
        super().__init__({})
        self.inner = False

    def body(self, body: Sequence[Stmt]) -> list[Stmt]:
        out: list[Stmt] = []
        for s in body:
            if not isinstance(s, Loop):
                out.append(self.statement(s))
                continue
            saved, self.inner = self.inner, True
            new = self._loop(s)
            self.inner = saved
            if self.inner and _is_shared(new):
                for turn in range(s.var.extent):
                    out += Clone({new.var: constant(turn)}).body(new.body)
            else:
                out.append(new)
        return out


def _is_shared(s: Loop) -> bool:
    """Whether a loop does nothing but reductions of rows, all turns' at once, that load the same in each turn."""
    rows = [x for x in s.body if not is_leaf(x)]
    if s.carries or not 1 < s.var.extent <= TURNS or any(isinstance(x, (Check, Update)) for x in s.body):
        return False
    stored = {id(x.buffer) for x in s.body if isinstance(x, Store)}
    if any(isinstance(x, Load) and id(x.buffer) in stored for x in s.body):
        return False
    results = sum(len(x.accumulators) for x in rows if isinstance(x, Reduce)) * s.var.extent
    return bool(rows) and all(isinstance(x, Reduce) and _reads_again(x, s.var, results, stored) for x in rows)


def _reads_again(s: Reduce, var: Var, results: int, stored: set[int]) -> bool:
    """Whether a reduction of rows loads something that `var` does not show in, and fits `results` times."""
    loads = [x for x in s.body if isinstance(x, Load)]
    if s.tree != "row" or results > most(s) or any(not is_leaf(x) or isinstance(x, (Check, Store)) for x in s.body):
        return False
    again = any(var not in x.index.variables() and s.vars[-1] in x.index.variables() for x in loads)
    return again and not any(id(x.buffer) in stored or x.index.data() for x in loads)
