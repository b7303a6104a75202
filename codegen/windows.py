"""Contractions over windows: which they are, and how their factor is laid out so that no step of k needs a mask.

In a convolution the factor of the rows is a function of sums like ``s*y + d*dy`` of a variable of the rows and one of
k. Evaluated once per value of each such sum (an axis) and put in memory, masks and all, it can be read at
``position of the row + offset of k``: nothing is copied once per place in a window, and padding costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd, prod

from .analysis import indices, is_leaf, statements
from .fold import Fold
from .index import Index, Var, flatten, of, unmask
from .loops import Apply, Buffer, Const, Contract, IndexValue, InRange, Load, Loop, Reduce, Stmt, Store, Update, Value
from .scalar import F32, F64, Type
from .split import borders
from .vectorize import round_up_to_power

VECTOR_BYTES = 64  # of the widest vectors: fewer columns would not fill one
SHARING = 1.25  # times that each element is read at least, on average, for an axis to be worth it
STAGE = 384 << 10  # bytes of the evaluated factor that are kept at a time, where one row of windows does not need more


@dataclass(frozen=True, slots=True, eq=False)
class Axis:
    """The values of ``stride * row + step * tap``, the smallest being `low`. `tap` None: those of the row alone."""

    row: Var
    tap: Var | None
    stride: int
    step: int

    @property
    def reach(self) -> int:
        """How far apart the taps of one row are."""
        return 0 if self.tap is None else abs(self.step) * (self.tap.extent - 1)

    @property
    def low(self) -> int:
        return min(self.step, 0) * self.reach // max(abs(self.step), 1)

    def size(self, rows: int) -> int:
        return self.stride * (rows - 1) + self.reach + 1


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """A contraction over windows. `swapped`: its rows are n.

    `outer` rows are loops around; `strip` rows of the first axis are evaluated at a time, from row `first` on, into
    an array with the dimensions `channels` (variables of k) and `axes`.
    """

    swapped: bool
    type: Type
    outer: tuple[Var, ...]
    axes: tuple[Axis, ...]
    channels: tuple[Var, ...]
    strip: int
    first: Var
    body: Sequence[Stmt]
    value: Value

    @property
    def shape(self) -> tuple[int, ...]:
        sizes = [axis.size(axis.row.extent) for axis in self.axes[1:]]
        return (*(v.extent for v in self.channels), self.axes[0].size(self.strip), *sizes)

    @property
    def strips(self) -> int:
        return -(-self.axes[0].row.extent // self.strip)

    @property
    def units(self) -> int:
        """Independent parts: strips of every outer row."""
        return prod(v.extent for v in self.outer) * self.strips

    @property
    def strides(self) -> tuple[int, ...]:
        """Elements from one place to the next along each dimension."""
        return tuple(prod(self.shape[i + 1 :]) for i in range(len(self.shape)))

    def offset(self) -> Index:
        """Where the taps and channels of k lie, from the position of a row on."""
        steps = self.strides
        out = Index({}, 0)
        for v, step in zip(self.channels, steps, strict=False):
            out = out + of(v) * step
        for axis, step in zip(self.axes, steps[len(self.channels) :], strict=True):
            if axis.tap is not None:
                out = out + (of(axis.tap) * axis.step + -axis.low) * step
        return out

    def position(self) -> Index:
        """Where a row lies."""
        out = Index({}, 0)
        for i, (axis, step) in enumerate(zip(self.axes, self.strides[len(self.channels) :], strict=True)):
            row = of(axis.row) + of(self.first) * -1 if i == 0 else of(axis.row)
            out = out + row * (axis.stride * step)
        return out

    def evaluation(self, stage: Buffer) -> list[Stmt]:
        """Loops that evaluate the factor into `stage`."""
        channels = [Var(v.extent, v.name) for v in self.channels]
        places = [Var(n, axis.row.name) for n, axis in zip(self.shape[len(channels) :], self.axes, strict=True)]
        sums = [of(p) + axis.low for p, axis in zip(places, self.axes, strict=True)]
        sums[0] = sums[0] + of(self.first) * self.axes[0].stride
        fold = _Sums(self.axes, sums)
        fold.rename.update({v: of(new) for v, new in zip(self.channels, channels, strict=True)})
        body = fold.body(self.body)
        dimensions = [*channels, *places]
        store = Store(stage, flatten(map(of, dimensions), self.shape), fold.value(self.value))
        body.append(store)
        for v in reversed(dimensions):
            body = [Loop(v, body)]
        return borders(body)


class _Sums(Fold):
    """A copy in which the axes are replaced by their sums."""

    def __init__(self, axes: Sequence[Axis], sums: Sequence[Index]) -> None:
        super().__init__()
        self.sums = list(zip(axes, sums, strict=True))

    def index(self, e: Index) -> Index:
        plain = unmask(e)
        out = Index({}, plain.const)
        pairs = {id(v): None for axis, _ in self.sums for v in (axis.row, axis.tap)}
        for atom, c in plain.terms.items():
            if id(atom) not in pairs:
                out = out + super().index(Index({atom: c}, 0))
        for axis, total in self.sums:
            times = plain.coefficient(axis.row) // axis.stride
            out = out + total * times
        return out


def windows(s: Contract) -> Windows | None:
    """What makes the contraction one over windows; None if it is not, or is none that this layout helps."""
    lanewise = not any(isinstance(e, (Loop, Reduce, Contract, Update)) for e in statements(s.epilogue))
    if s.acc.type not in (F32, F64) or not lanewise or 0 in [v.extent for v in (*s.m, *s.n, *s.k)]:
        return None
    return _sided(s, False) or _sided(s, True)


def _sided(s: Contract, swapped: bool) -> Windows | None:
    rows, body, value = (s.n, s.b_body, s.b) if swapped else (s.m, s.a_body, s.a)
    columns = prod(v.extent for v in (s.m if swapped else s.n))
    if round_up_to_power(columns) * s.acc.type.bytes < VECTOR_BYTES:
        return None
    simple = all(is_leaf(x) and isinstance(x, (Const, Load, Apply, InRange, IndexValue)) for x in body)
    if not simple or value.type is not s.acc.type:
        return None
    found = [unmask(e) for x in body for e in indices(x)]
    if any(not isinstance(atom, Var) for e in found for atom in e.terms):
        return None
    axes: list[Axis] = []
    for row in rows:
        axes.append(_axis(row, s.k, found) or Axis(row, None, 1, 0))
    taps = [axis.tap for axis in axes if axis.tap is not None]
    if not taps or len(set(taps)) < len(taps):
        return None
    leading = next(i for i, axis in enumerate(axes) if axis.tap is not None)
    axes = axes[leading:]
    channels = tuple(v for v in s.k if v not in taps)
    return _fitted(swapped, s.acc.type, tuple(rows[:leading]), tuple(axes), channels, body, value)


def _axis(row: Var, k: Sequence[Var], found: Sequence[Index]) -> Axis | None:
    """The axis of a variable of the rows: with the variable of k, if any, that it shares the narrowest windows with."""
    best: Axis | None = None
    for tap in k:
        pairs = [(e.coefficient(row), e.coefficient(tap)) for e in found]
        x, y = next((pair for pair in pairs if pair[0] and pair[1]), (0, 0))
        if x == 0 or any(p * y != q * x for p, q in pairs):
            continue
        common = gcd(x, y) if x > 0 else -gcd(x, y)
        axis = Axis(row, tap, x // common, y // common)
        shares = SHARING * axis.size(row.extent) <= row.extent * tap.extent
        if shares and (best is None or axis.reach < best.reach):
            best = axis
    return best


def _fitted(
    swapped: bool,
    type: Type,
    outer: tuple[Var, ...],
    axes: tuple[Axis, ...],
    channels: tuple[Var, ...],
    body: Sequence[Stmt],
    value: Value,
) -> Windows | None:
    """As many rows of the first axis at a time as fit; all of them where it is the only axis."""
    rows = axes[0].row.extent
    one = prod(v.extent for v in channels) * prod(axis.size(axis.row.extent) for axis in axes[1:]) * type.bytes
    strip = rows
    if len(axes) > 1:
        fits = (STAGE // one - 1 - axes[0].reach) // axes[0].stride + 1
        strip = max(min(rows, fits), 1)
        strip = -(-rows // -(-rows // strip))
    if one * axes[0].size(strip) > 8 * STAGE:
        return None
    return Windows(swapped, type, outer, axes, channels, strip, Var(rows - strip + 1, "first"), body, value)
