"""What a reduction keeps in registers while it runs: one value for each accumulator, or two.

The maximum of floats is NaN once an element was. Where there is an instruction for the larger of two floats that lets
NaN go, it is quicker to take that, and to note in a mask beside it which lanes met NaN: two short chains, of one
instruction each, in place of a long one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from . import avx512
from .analysis import added
from .builder import Ty, Val, const
from .combine import accumulate, combine, identity, wide_type
from .frame import Frame
from .loops import Accumulator

_WHICH = {"max": avx512.MAX, "min": avx512.MIN}


def _is_noted(f: Frame, acc: Accumulator, t: Ty) -> bool:
    """Whether NaN is noted beside a running value of this type."""
    return acc.op in _WHICH and t.kind == "f" and avx512.serves(f.b, t)


def _select(f: Frame, acc: Accumulator, x: Val, y: Val) -> Val:
    """The larger or smaller of two floats; where one is NaN, the other one."""
    found = avx512.select(f.b, _WHICH[acc.op], x, y)
    assert found is not None
    return found


class Running:
    """The values that a reduction with these accumulators carries, in a flat list: its *state*."""

    def __init__(self, f: Frame, accs: Sequence[Accumulator], lanes: int) -> None:
        self.f, self.accs = f, accs
        self.absent = [identity(a.op, wide_type(a.type), lanes) for a in accs]
        self.noted = [_is_noted(f, a, v.ty) for a, v in zip(accs, self.absent, strict=True)]

    def fresh(self) -> list[Val]:
        """The state before any element."""
        out = []
        for v, noted in zip(self.absent, self.noted, strict=True):
            out += [v, const(v.ty.as_bool(), False)] if noted else [v]
        return out

    def resume(self, values: Sequence[Val]) -> list[Val]:
        """The state that has come to these values."""
        out = []
        for v, noted in zip(values, self.noted, strict=True):
            out += [v, self.f.b.fcmp("uno", v, v)] if noted else [v]
        return out

    def add(self, state: Sequence[Val], mask: Val | None = None) -> list[Val]:
        """The state after what the body has come to, where `mask`; after the first element, that element."""
        f, out = self.f, []
        for acc, absent, old in zip(self.accs, self.absent, self._each(state), strict=True):
            x, *factor = values = [f.wide(f.values[v]) for v in added(acc)]
            if old[0].ref == absent.ref:
                first = f.b.binary("fmul", x, *factor) if factor else x
                new = [first, f.b.fcmp("uno", x, x)] if len(old) == 2 else [first]
            elif len(old) == 2:
                new = [_select(f, acc, old[0], x), f.b.binary("or", old[1], f.b.fcmp("uno", x, x))]
            else:
                new = [accumulate(f, acc, acc.type, old[0], values)]
            out += new if mask is None else [f.b.select(mask, y, z) for y, z in zip(new, old, strict=True)]
        return out

    def join(self, older: Sequence[Val], newer: Sequence[Val]) -> list[Val]:
        """Both states in one; of one that is literally fresh, the other."""
        f, out = self.f, []
        for acc, absent, a, b in zip(self.accs, self.absent, self._each(older), self._each(newer), strict=True):
            if absent.ref in (a[0].ref, b[0].ref):
                out += a if b[0].ref == absent.ref else b
            elif len(a) == 2:
                out += [_select(f, acc, a[0], b[0]), f.b.binary("or", a[1], b[1])]
            else:
                out.append(combine(f, acc.op, acc.type, a[0], b[0]))
        return out

    def settle(self, state: Sequence[Val]) -> list[Val]:
        """One value for each accumulator."""
        return [
            v[0] if len(v) == 1 else self.f.b.select(v[1], const(v[0].ty, float("nan")), v[0])
            for v in self._each(state)
        ]

    def _each(self, state: Sequence[Val]) -> list[list[Val]]:
        values = iter(state)
        return [list(islice(values, 1 + noted)) for noted in self.noted]


def across(f: Frame, acc: Accumulator, v: Val) -> Val:
    """The lanes combined pairwise: lane j with lane j + half, until one is left."""
    b, t = f.b, v.ty
    noted = _is_noted(f, acc, t)
    met_nan = b.any(b.fcmp("uno", v, v)) if noted else None
    while v.ty.lanes > 1:
        half = v.ty.lanes // 2
        if not noted and half == 1:
            return combine(f, acc.op, acc.type, b.extract(v, 0), b.extract(v, 1))
        if noted and t.bits * half < avx512.SMALLEST:  # the first `left` lanes go on in a vector of this length
            left = v.ty.lanes
            while left > 1:
                left //= 2
                v = _select(f, acc, v, b.shuffle(v, None, [(j + left) % v.ty.lanes for j in range(v.ty.lanes)]))
            v = b.extract(v, 0)
            break
        low, high = (b.shuffle(v, None, list(range(k * half, (k + 1) * half))) for k in (0, 1))
        v = _select(f, acc, low, high) if noted else combine(f, acc.op, acc.type, low, high)
    return v if met_nan is None else b.select(met_nan, const(v.ty, float("nan")), v)
