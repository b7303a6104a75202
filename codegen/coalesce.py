"""Loop nests that walk memory as one line become one loop, so that vectors are full and tails few."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from .analysis import indices, statements
from .clone import Clone
from .index import ZERO, Div, Index, Masked, Mod, Var, of
from .loops import Contract, Kernel, Loop, Reduce, Stmt


def coalesce(kernel: Kernel) -> Kernel:
    """The kernel with nests ``for i in I { for j in J {..} }`` merged where every index knows only ``i*J + j``.

    Column reductions and the variables of contractions, whose order is row-major over all of them, merge the same
    way; row reductions keep their variables, since their blocks end where a row ends.
    """
    while (pair := _find(kernel.body)) is not None:
        outer, inner = pair
        joint = Var(outer.extent * inner.extent, inner.name)
        if inner.extent == 1:
            replace = {outer: of(joint), inner: ZERO}
        else:
            replace = {outer: ZERO, inner: of(joint)}
        body = Clone(replace, (outer, inner, joint)).body(kernel.body)
        kernel = Kernel(kernel.name, kernel.buffers, kernel.params, body, kernel.scratch)
    return kernel


def _find(body: Sequence[Stmt]) -> tuple[Var, Var] | None:
    """Two adjacent variables that can be merged."""
    candidates: list[tuple[tuple[Var, Var], tuple[list[Stmt], ...]]]
    for s in statements(body):
        match s:
            case Loop(body=[Loop() as inner]) if not s.carries and not inner.carries:
                candidates = [((s.var, inner.var), (inner.body,))]
            case Reduce(tree="column"):
                candidates = [(pair, (s.body,)) for pair in pairwise(s.vars)]
            case Contract():
                candidates = [
                    *((pair, (s.a_body, s.epilogue)) for pair in pairwise(s.m)),
                    *((pair, (s.b_body, s.epilogue)) for pair in pairwise(s.n)),
                    *((pair, (s.a_body, s.b_body)) for pair in pairwise(s.k)),
                ]
            case _:
                candidates = []
        for (outer, inner_var), bodies in candidates:
            if _merges(bodies, outer, inner_var) and all(_knows_only_joint(e, outer, inner_var) for e in indices(s)):
                return outer, inner_var
    return None


def _merges(bodies: Sequence[Sequence[Stmt]], outer: Var, inner: Var) -> bool:
    if outer.extent == 1 or inner.extent == 1:
        return True
    return all(_knows_only_joint(e, outer, inner) for body in bodies for s in statements(body) for e in indices(s))


def _knows_only_joint(e: Index, outer: Var, inner: Var) -> bool:
    if e.coefficient(outer) != e.coefficient(inner) * inner.extent:
        return False
    return all(
        _knows_only_joint(atom.index, outer, inner) for atom in e.terms if isinstance(atom, (Div, Mod, Masked))
    )
