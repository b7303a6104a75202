"""Contractions over windows: which they are, and how their factor is laid out so that no step of k needs a mask.

In a convolution the factor of the rows is a function of sums like ``s*y + d*dy`` of a variable of the rows and one of
k. Evaluated once per value of each such sum (an axis) and put in memory, masks and all, it can be read at
``position of the row + offset of k``: nothing is copied once per place in a window, and padding costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import gcd, prod

from .analysis import indices, is_leaf, statements
from .fold import Fold, is_zero
from .index import ZERO, Div, Index, Var, constant, flatten, floordiv, mod, of, unmask
from .loops import Apply, Buffer, Const, Contract, IndexValue, InRange, Load, Loop, Reduce, Stmt, Store, Update, Value
from .scalar import B1, F32, F64, Type
from .split import borders
from .vectorize import hidden

PIECES = 4  # elements apart that rows may be to be evaluated as vectors
SHARING = 1.25  # times that each element is read at least, on average, for an axis to be worth it
PARTS = 8  # independent parts that are worth smaller strips
SHARES = 4  # threads among which they should go evenly
LEAST_STRIP = 4  # rows of a strip that is that small,
LEAST_LINE = 64  # where a row is one place
STAGE = 384 << 10  # bytes of the evaluated factor that are kept at a time, where one row of windows does not need more


@dataclass(frozen=True, slots=True, eq=False)
class Axis:
    """The places ``(stride * written + step * tap + shift) / phases``. `tap` None: those of the row alone.

    Where the sum is no multiple of `phases` the factor is zero: so in the gradient of a strided convolution. There the
    variable `written` is ``phases * row + phase``, and for each phase only some taps count. If its extent is no
    multiple of `phases`, the last row is one of some phases only.
    """

    written: Var
    row: Var
    tap: Var | None
    stride: int
    step: int
    phases: int = 1
    shift: int = 0
    phase: Var | None = None

    @property
    def _sum(self) -> Index:
        """What of the sum does not come from `row`."""
        tap = ZERO if self.tap is None else of(self.tap) * self.step
        return tap + self.shift if self.phase is None else tap + of(self.phase) * self.stride + self.shift

    @property
    def place(self) -> Index:
        """The place of a tap that counts, from that of the row on, the least of all being 0."""
        return floordiv(self._sum, self.phases) + -self.low

    @property
    def low(self) -> int:
        return floordiv(self._sum, self.phases).bounds[0]

    @property
    def reach(self) -> int:
        """How far apart the taps of one row are."""
        low, high = floordiv(self._sum, self.phases).bounds
        return high - low

    @property
    def rest(self) -> Index:
        """Zero for the taps that count."""
        return mod(self._sum, self.phases)

    @property
    def ragged(self) -> bool:
        return self.written.extent % self.phases > 0

    @property
    def rows(self) -> Index:
        """How many rows there are, of a phase."""
        if self.phase is None:
            return constant(self.row.extent)
        return floordiv(of(self.phase) * -1 + (self.written.extent + self.phases - 1), self.phases)

    @property
    def places(self) -> int:
        """How many places there are for rows that exist."""
        tap = ZERO if self.tap is None else of(self.tap) * self.step
        return floordiv(of(self.written) * self.stride + tap + self.shift, self.phases).bounds[1] - self.low + 1

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
    def written(self) -> dict[Var, Index]:
        """The variables that stand for phases and rows, by these."""
        return {
            axis.written: of(axis.row) * axis.phases + of(axis.phase)
            for axis in self.axes
            if axis.phase is not None
        }

    @property
    def units(self) -> int:
        """Independent parts: strips of every outer row."""
        return prod(v.extent for v in self.outer) * self.strips

    @property
    def strides(self) -> tuple[int, ...]:
        """Elements from one place to the next along each dimension."""
        return tuple(prod(self.shape[i + 1 :]) for i in range(len(self.shape)))

    def offset(self, given: int = 0) -> Index:
        """Where the taps and channels of k lie, from the position of a row on; the first `given` channels left out."""
        steps = self.strides
        out = Index({}, 0)
        for v, step in list(zip(self.channels, steps, strict=False))[given:]:
            out = out + of(v) * step
        for axis, step in zip(self.axes, steps[len(self.channels) :], strict=True):
            out = out + axis.place * step
        return out

    def position(self) -> Index:
        """Where a row lies."""
        out = Index({}, 0)
        for i, (axis, step) in enumerate(zip(self.axes, self.strides[len(self.channels) :], strict=True)):
            row = of(axis.row) + of(self.first) * -1 if i == 0 else of(axis.row)
            out = out + row * (axis.stride * step)
        return out

    def evaluation(self, stage: Buffer, given: int = 0) -> list[Stmt]:
        """Loops that evaluate the factor into `stage`; the first `given` channels have a value."""
        shape = self.shape[given:]
        channels = [Var(v.extent, v.name) for v in self.channels[given:]]
        places = [Var(n, axis.row.name) for n, axis in zip(shape[len(channels) :], self.axes, strict=True)]
        found = [of(p) + axis.low for p, axis in zip(places, self.axes, strict=True)]
        found[0] = found[0] + of(self.first) * self.axes[0].stride
        sums = [e * axis.phases + -axis.shift for e, axis in zip(found, self.axes, strict=True)]
        there = [
            InRange(B1, e + -axis.low, 0, axis.places) for e, axis in zip(found, self.axes, strict=True) if axis.ragged
        ]
        fold = _Sums(self.axes, sums, there)
        fold.rename.update({v: of(new) for v, new in zip(self.channels[given:], channels, strict=True)})
        body = fold.body(self.body)
        dimensions = [*channels, *places]
        store = Store(stage, flatten(map(of, dimensions), shape), fold.value(self.value))
        body.append(store)
        for v in reversed(dimensions):
            body = [Loop(v, body)]
        return borders(body)


class _Sums(Fold):
    """A copy in which the axes are replaced by their sums, and what is loaded must be `there`."""

    def __init__(self, axes: Sequence[Axis], sums: Sequence[Index], there: Sequence[InRange]) -> None:
        super().__init__()
        self.sums = list(zip(axes, sums, strict=True))
        self.there = there

    def _masked(self, s: Load) -> Value:
        """What is not there no row that exists needs, but it might lie past the array."""
        mask = self.optional(s.mask)
        for place in self.there:
            inside = self.define(place)
            mask = inside if mask is None else self.apply(Apply("and", B1, (mask, inside)))
        return super()._masked(Load(s.type, s.buffer, s.index, mask))

    def index(self, e: Index) -> Index:
        plain = unmask(e)
        out = Index({}, plain.const)
        pairs = {id(v): None for axis, _ in self.sums for v in (axis.written, axis.tap)}
        for atom, c in plain.terms.items():
            if isinstance(atom, Div):
                out = out + floordiv(self.index(atom.index), atom.n) * c
            elif id(atom) not in pairs:
                out = out + super().index(Index({atom: c}, 0))
        for axis, total in self.sums:
            times = plain.coefficient(axis.written) // axis.stride
            out = out + total * times
        return out


class _Without(Fold):
    """A copy in which one mask is false."""

    def __init__(self, mask: InRange) -> None:
        super().__init__()
        self.mask = mask

    def _in_range(self, s: InRange) -> Value:
        return self.define(Const(B1, False)) if s is self.mask else super()._in_range(s)


def windows(s: Contract, strips: bool = True) -> Windows | None:
    """What makes the contraction one over windows; None if it is not, or is none that this layout helps.

    Without `strips` all of the first axis is evaluated at a time, however large.
    """
    lanewise = not any(isinstance(e, (Loop, Reduce, Contract, Update)) for e in statements(s.epilogue))
    if s.acc.type not in (F32, F64) or not lanewise or 0 in [v.extent for v in (*s.m, *s.n, *s.k)]:
        return None
    return _sided(s, False, strips) or _sided(s, True, strips)


def _sided(s: Contract, swapped: bool, strips: bool) -> Windows | None:
    rows, body, value = (s.n, s.b_body, s.b) if swapped else (s.m, s.a_body, s.a)
    simple = all(is_leaf(x) and isinstance(x, (Const, Load, Apply, InRange, IndexValue)) for x in body)
    if not simple or value.type is not s.acc.type:
        return None
    found = [unmask(e) for x in body for e in indices(x)]
    found += [atom.index for e in found for atom in e.terms if isinstance(atom, Div)]
    if any(not isinstance(atom, (Var, Div)) for e in found for atom in e.terms):
        return None
    axes: list[Axis] = []
    for row in rows:
        axes.append(_phased(_axis(row, s.k, found) or Axis(row, row, None, 1, 0), body, value))
    taps = [axis.tap for axis in axes if axis.tap is not None]
    if len(set(taps)) < len(taps) or (not taps and not _stands_apart(rows, s.k, found)):
        return None
    leading = next((i for i, axis in enumerate(axes) if axis.tap is not None), 1)
    axes = axes[leading:]
    channels = tuple(v for v in s.k if v not in taps)
    outer = (*rows[:leading], *(axis.phase for axis in axes if axis.phase is not None))
    w = Windows(
        swapped, s.acc.type, outer, tuple(axes), channels, axes[0].row.extent, Var(1, "first"), body, value
    )
    return _fitted(w) if strips else w


def _stands_apart(rows: Sequence[Var], k: Sequence[Var], found: Sequence[Index]) -> bool:
    """Whether rows are no line in memory, but pieces with a step that vectors can read, as pixels of several images."""
    steps = [abs(e.coefficient(rows[-1])) for e in found]
    near = all(0 <= step <= PIECES for step in steps) and any(steps)
    return len(rows) > 1 and near and not any(e.coefficient(v) == 1 for e in found for v in k)


def _axis(row: Var, k: Sequence[Var], found: Sequence[Index]) -> Axis | None:
    """The axis of a variable of the rows: with the variable of k, if any, that it shares the narrowest windows with."""
    best: Axis | None = None
    for tap in k:
        pairs = [(e.coefficient(row), e.coefficient(tap)) for e in found]
        x, y = next((pair for pair in pairs if pair[0] and pair[1]), (0, 0))
        if x == 0 or any(p * y != q * x for p, q in pairs):
            continue
        common = gcd(x, y) if x > 0 else -gcd(x, y)
        axis = Axis(row, row, tap, x // common, y // common)
        shares = SHARING * axis.size(row.extent) <= row.extent * tap.extent
        if shares and (best is None or axis.reach < best.reach):
            best = axis
    return best


def _phased(axis: Axis, body: Sequence[Stmt], value: Value) -> Axis:
    """The axis by its phases, where the factor is zero but for every so manyth of its places."""
    for s in body:
        if not isinstance(s, InRange) or s.step == 1:
            continue
        e = unmask(s.index)
        x, y = e.coefficient(axis.written), 0 if axis.tap is None else e.coefficient(axis.tap)
        rows = -(-axis.written.extent // s.step)
        if (x, y) != (axis.stride, axis.step) or len(e.terms) != 2 or rows < 2:
            continue
        fold = _Without(s)
        fold.body(body)
        if _vanishes(fold.value(value)):
            row, phase = Var(rows, axis.row.name), Var(s.step, "phase")
            return Axis(axis.written, row, axis.tap, axis.stride, axis.step, s.step, e.const, phase)
    return axis


def _vanishes(value: Value) -> bool:
    """Whether a value is zero whatever is chosen."""
    if isinstance(value, Apply) and value.op == "where":
        return all(_vanishes(x) for x in value.args[1:])
    return isinstance(value, Const) and value.type.kind == "f" and is_zero(value)


def _fitted(w: Windows) -> Windows | None:
    """As many rows of the first axis at a time as fit, or fewer, so that threads get even shares."""
    first, rows = w.axes[0], w.axes[0].row.extent
    one = prod(w.shape) // first.size(rows) * w.type.bytes
    fits = max((STAGE // one - 1 - first.reach) // first.stride + 1, 1) if len(w.axes) > 1 else rows
    least = LEAST_STRIP if len(w.axes) > 1 else LEAST_LINE
    strip = _strip(rows, min(least, rows), min(rows, fits), max(prod(v.extent for v in w.outer), 1))
    if one * first.size(strip) > 8 * STAGE:
        return None
    return replace(w, strip=strip, first=Var(rows - strip + 1, "first"))


def _strip(rows: int, least: int, most: int, outer: int) -> int:
    """The rows of a strip: some counts of strips are tried, from the one that leaves enough parts on. The last strip
    overlaps the one before it, so that all are as large."""

    def busiest(strip: int) -> int:
        """The rows that the busiest of `SHARES` threads has."""
        return -(outer * -(-rows // strip) // -SHARES) * strip

    fewest = max(-(-rows // most), -(-PARTS // outer))
    strips = [-(-rows // count) for count in range(fewest, fewest + SHARES)]
    return min([s for s in strips if s >= least] or [min(most, least)], key=busiest)


def knows_only_joint(e: Index, group: Sequence[Var]) -> bool:
    """Whether an index knows of the variables no more than their row-major joint number."""
    last = e.coefficient(group[-1])
    shape = [v.extent for v in group]
    plain = all(e.coefficient(v) == last * prod(shape[i + 1 :]) for i, v in enumerate(group))
    return plain and not any(hidden(e, v) for v in group)
