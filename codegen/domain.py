"""The domain of a contraction, tile by tile: which k a tile of sums needs at all.

A condition ``e >= 0`` of the domain is affine in row, column and k. For a tile it is taken where it is widest, so what
is left out is masked for every element of the tile: its k range becomes shorter, or empty.
"""

from __future__ import annotations

from collections.abc import Sequence

from . import address
from .builder import I64, Val, const
from .frame import Frame
from .index import Index, Var, unmask
from .pack import Side
from .vectorize import hidden


def cuts(domain: Sequence[Index], rows: Side, columns: Side, k: Var) -> list[Index]:
    """The conditions that can cut the k of a tile: affine in all three, with single steps of k."""
    found = [unmask(e) for e in domain]
    every = rows.var, columns.var, k
    return [e for e in found if abs(e.coefficient(k)) <= 1 and not any(hidden(e, v) for v in every)]


def limited(
    f: Frame, conditions: Sequence[Index], rows: Side, columns: Side, k: Var, at: tuple[Val, Val], ks: tuple[Val, Val]
) -> tuple[Val, Val]:
    """What the tile at row and column `at` needs of ``[ks[0], ks[1])``."""
    b = f.b
    lo, hi = ks
    for e in conditions:
        places = []
        for side, start in zip((rows, columns), at, strict=True):
            most = side.width - 1 if e.coefficient(side.var) > 0 else 0
            places.append((side.var, b.binary("add", start, const(I64, most))))
        step = e.coefficient(k)
        with f.scope(*places):
            left = address.scalar(f, e + Index({k: -step}) if step else e)
        if step > 0:
            lo = f.extreme("smax", lo, b.binary("sub", const(I64, 0), left))
        elif step < 0:
            hi = f.extreme("smin", hi, b.binary("add", left, const(I64, 1)))
        else:
            hi = b.select(b.icmp("sge", left, const(I64, 0)), hi, lo)
    return lo, hi
