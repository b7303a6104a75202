"""A contraction as its emitters see it: one variable a group, the sides sorted into rows and columns."""

from __future__ import annotations

from math import prod

from .builder import Val, register_type
from .clone import Clone
from .epilogue import Epilogue
from .frame import Frame
from .index import Index, Var, of, unflatten
from .loops import Contract
from .pack import Side
from .tiling import STEP

PIECE = 16  # steps of k that pieces of it have at least


class Flat:
    """`rows` and `columns` (the vector side) in panels of `mr` and `nr`; `swapped`: the rows are n.

    `numbers`: the rows' panels are read number by number, at any distance.
    """

    def __init__(self, s: Contract, swapped: bool, mr: int, nr: int, numbers: bool = False) -> None:
        groups = {"m": s.m, "n": s.n, "k": s.k}
        flat = {name: Var(prod(v.extent for v in group), name) for name, group in groups.items()}
        replace: dict[Var, Index] = {}
        for name, group in groups.items():
            shape = tuple(max(v.extent, 1) for v in group)
            replace.update(zip(group, unflatten(of(flat[name]), shape), strict=True))
        pieces = None
        if len(s.k) > 1 and s.k[-1].extent >= PIECE and s.k[-1].extent % STEP:
            pieces = Var(prod(v.extent for v in s.k[:-1]), "k"), s.k[-1]
            shape = tuple(v.extent for v in s.k[:-1])
            replace.update(zip(s.k, (*unflatten(of(pieces[0]), shape), of(pieces[1])), strict=True))
        new = Clone(replace).contract(s)
        a, b = (flat["m"], new.a_body, new.a), (flat["n"], new.b_body, new.b)
        rows, columns = (b, a) if swapped else (a, b)
        self.k = flat["k"]
        self.rows = Side(rows[0], self.k, rows[1], rows[2], mr, numbers, pieces)
        self.columns = Side(columns[0], self.k, columns[1], columns[2], nr, pieces=pieces)
        self.acc = new.acc
        # tiles know k, not its pieces
        self.domain = [e for e in new.domain if not pieces or set(e.variables()).isdisjoint(pieces)]
        self.part = new.part
        self.ending = Epilogue(new.acc, new.epilogue, rows[0], columns[0])
        self.element = register_type(s.acc.type, 1)


def multiply_add(f: Frame, x: Val, y: Val, z: Val) -> Val:
    """x * y + z, rounded once."""
    if x.ty.kind == "f":
        return f.b.fma(x, y, z)
    return f.b.binary("add", f.b.binary("mul", x, y), z)
