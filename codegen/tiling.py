"""How a contraction is cut up: tile, blocks, what is packed, what threads share. A cost model, no search.

The tile of accumulators is `mr` rows by `nv` vectors of columns; one step of k loads the vectors and one number a row.
A factor is *packed* (copied in the order in which the tiles read it, so that no two of its lines fight for one place in
the first cache) or read where it lies, if its lines do not do so and copying would cost more than it saves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from math import prod

from .analysis import indices, statements
from .combine import wide_type
from .index import Datum, Var, unmask
from .loops import CONTRACT_BLOCK, Const, Contract, Load, Loop, Reduce, Stmt, Store, Update, Value
from .scalar import Type
from .target import Target
from .vectorize import hidden, round_up_to_power

L1_LINE, L1_SETS, L1_WAYS = 64, 64, 8  # the first cache
L2_ROWS = 384 << 10  # bytes of one block of rows
L3_COLUMNS = 4 << 20  # bytes of one block of columns
DEPTH = 4 * CONTRACT_BLOCK  # steps of k that are packed at a time
TILES = 4 << 20  # bytes of unfinished tiles
STEP = 16  # steps of k that a panel's depth is a multiple of: the most that one vector along k may write
FMA_LATENCY = 8  # sums in flight that keep the multipliers busy
OVERHEAD = 0.4  # cycles that one step of k costs besides its loads and multiplications
ENDING = 1.5  # cycles that one vector of a tile costs after its last step of k
BROKEN = 3.2  # cycles more in a tile that is not whole
PACK = 0.15  # cycles to pack one number
TRANSPOSE = 0.25  # cycles more for one that stands across the vectors
FAR = 0.5  # cycles more for one that comes from far memory: packing waits for it, multiplying does not
L3 = 8 << 20  # bytes that are not far
STREAMS = 8  # rows of far memory that are well read side by side
MOST_VECTORS = 6  # of a tile's columns
MOST_SUMS = 24  # of a tile: more leave no registers to load ahead
ACROSS = 1.5  # cycles to store one result where the epilogue stores across its vectors
SHARES = 4  # threads among which panels should go evenly
FEW_ROWS = 24  # rows up to which a large factor is read once, in place
FEW_ROWS_FAR = 128  # the same for a factor in far memory: packing would wait for it
FEW_COLUMNS = 256  # columns from which they stream well
LARGE = 256 << 10  # bytes from which a factor is large
WAITING_ROWS = 8  # rows up to which a large factor is waited for: more steps of it are then read side by side
SUMS = 128 << 10  # bytes of running sums of a contraction with few rows
DIRECT_ROWS = 256  # rows up to which columns are better read where they are than packed


@dataclass(frozen=True, slots=True)
class Direct:
    """Which of the two factors are read where they are."""

    rows: bool
    columns: bool


@dataclass(frozen=True, slots=True)
class Tiling:
    """Sizes of one contraction. `swapped`: the rows are n and the columns (the vector side) m.

    `along_columns`: what threads share are panels of columns, else of rows. `depth` steps of k are packed at a time.
    """

    swapped: bool
    lanes: int
    mr: int
    nv: int
    mc: int
    nb: int
    mb: int
    depth: int
    m: int
    n: int
    k: int
    element_bytes: int
    along_columns: bool
    direct: Direct

    @property
    def nr(self) -> int:
        return self.nv * self.lanes

    @property
    def blocks(self) -> int:
        """Blocks of k that are packed one after another."""
        return max(-(-self.k // self.depth), 1)

    @property
    def whole_rows(self) -> int:
        """The rows of all tiles."""
        return _up(self.m, self.mr)

    @property
    def running(self) -> int:
        """Bytes of the sums of all tiles, where parts of k go on with them."""
        return _up(self.whole_rows * _up(self.n, self.nr) * self.element_bytes + 64, 64)

    @property
    def units(self) -> int:
        """Panels that threads share."""
        return -(-self.n // self.nr) if self.along_columns else -(-self.m // self.mr)

    @property
    def stride(self) -> int:
        """Steps of k from one panel to the next."""
        return panel_steps(min(self.depth, self.k))

    @property
    def parts(self) -> tuple[int, int, int]:
        """Bytes of the packed rows, of the packed columns and of the unfinished tiles."""
        size = self.element_bytes
        rows = 0 if self.direct.rows else self.mc * self.stride * size + 256
        columns = 0 if self.direct.columns else self.nb * self.stride * size + 256
        tiles = self.mb * self.nb if self.blocks > 1 else self.mr * self.nr
        return _up(rows, 64), _up(columns, 64), _up(tiles * size + 64, 64)

    def __str__(self) -> str:
        """One line for people."""
        packed = {(False, False): "both", (False, True): "rows", (True, False): "columns", (True, True): "neither"}
        blocks = f"blocks {self.mc}x{self.nb}x{min(self.depth, self.k)}"
        side = "columns" if self.along_columns else "rows"
        return (
            f"{self.m}x{self.n}x{self.k}{' swapped' * self.swapped}: tile {self.mr}x{self.nv}x{self.lanes}, {blocks}, "
            f"packs {packed[self.direct.rows, self.direct.columns]}, threads share {self.units} panels of {side}, "
            f"{chains_text(self.k)}"
        )


@dataclass(frozen=True, slots=True)
class Stream:
    """Sizes of a contraction with few rows (`codegen.emit_stream`). `swapped`: the rows are n."""

    swapped: bool
    lanes: int
    nv: int
    steps: int
    nb: int
    m: int
    n: int
    k: int
    element_bytes: int

    @property
    def nr(self) -> int:
        return self.nv * self.lanes

    @property
    def units(self) -> int:
        return -(-self.n // self.nr)

    @property
    def chains(self) -> int:
        return -(-self.k // CONTRACT_BLOCK)

    @property
    def stride(self) -> int:
        return _up(self.k, STEP) + 1

    @property
    def parts(self) -> tuple[int, int, int]:
        """Bytes of the packed rows, of the running sums and of the totals."""
        sums = _up(self.m * self.nb * self.element_bytes, 64)
        rows = _up(self.m * self.stride * self.element_bytes + 256, 64)
        return rows, sums, sums if self.chains > 1 else 0

    def __str__(self) -> str:
        return (
            f"{self.m}x{self.n}x{self.k}{' swapped' * self.swapped}: columns stream by, "
            f"{self.steps}x{self.nv}x{self.lanes} at a time, blocks {self.m}x{self.nb}x{min(self.k, CONTRACT_BLOCK)}, "
            f"packs rows, threads share {self.units} panels of columns, {chains_text(self.k)}"
        )


def panel_steps(k: int) -> int:
    """Steps from one panel of `k` steps to the next: a vector more, for what is wider than its place is written over
    what follows, and rows at powers of two would fight for the same lines."""
    return _up(k, STEP) + STEP


def chains_text(k: int) -> str:
    """How a sum over k is added up, for people."""
    return f"chains of {min(k, CONTRACT_BLOCK)}, rounding depth {depth(k)}"


def depth(k: int) -> int:
    """How many roundings a term of a sum over k meets at most."""
    return min(k, CONTRACT_BLOCK) + -(-k // CONTRACT_BLOCK)


def _up(n: int, unit: int) -> int:
    return -(-n // unit) * unit


def most_rows(nv: int, target: Target) -> int:
    """The rows of a tile with `nv` vectors: besides the sums, registers hold the vectors, one number and one spare."""
    if not target.has_fma:
        return max(4 // nv, 1)
    return max((target.registers - nv - 2) // nv, 1)


def cycles(mr: int, nv: int) -> float:
    """What one step of k of a tile takes."""
    return max(mr * nv, mr + nv, FMA_LATENCY) + OVERHEAD


@dataclass(frozen=True, slots=True)
class Access:
    """How a factor lies in memory: bytes from one element to the next along its own variable and along k."""

    own: int
    k: int


def access(body: Sequence[Stmt], value: Value, own: Sequence[Var], k: Sequence[Var], type: Type) -> Access | None:
    """The steps of a factor that is one load at an affine place; None for any other."""
    loads = [s for s in body if not isinstance(s, Const)]
    if wide_type(type) is not type or type.kind == "b":
        return None
    if len(own) != 1 or len(k) != 1 or len(loads) != 1 or loads[0] is not value or not isinstance(value, Load):
        return None
    if value.mask is not None or value.type is not type or any(isinstance(a, Datum) for a in value.index.terms):
        return None
    e = unmask(value.index)
    if hidden(e, own[0]) or hidden(e, k[0]):
        return None
    return Access(e.coefficient(own[0]) * type.bytes, e.coefficient(k[0]) * type.bytes)


@cache
def _crowd(step: int, count: int) -> int:
    """The most of `count` places at this distance whose lines share a set of the first cache."""
    return max(Counter(i * step // L1_LINE % L1_SETS for i in range(count)).values())


def _rows_direct(a: Access | None, mr: int, k: int) -> bool:
    """Whether the lines of a tile's rows stay in the first cache while k passes."""
    if a is None:
        return False
    if abs(a.k) <= 8:  # a line of each row serves several steps of k
        return _crowd(a.own, mr) <= (L1_WAYS if mr <= L1_WAYS else L1_WAYS // 2)
    return abs(a.own) <= 8 and _crowd(a.k, min(k, CONTRACT_BLOCK)) <= L1_WAYS // 2


def _columns_direct(a: Access | None, k: int, size: int) -> bool:
    """Whether vectors can be read in place without their lines driving each other out."""
    return a is not None and a.own == size and _crowd(a.k, min(k, CONTRACT_BLOCK)) <= L1_WAYS


def stream(s: Contract, target: Target) -> Stream | None:
    """Sizes for a contraction with few rows and a large factor contiguous along the columns; None for any other."""
    m, n, k = (prod(v.extent for v in group) for group in (s.m, s.n, s.k))
    swapped = n < m
    rows, columns = (n, m) if swapped else (m, n)
    group, body = (s.m, s.a_body) if swapped else (s.n, s.b_body)
    size = wide_type(s.acc.type).bytes
    lanes = max(target.vector_bytes // size, 1)
    large = columns * k * size
    if rows > (FEW_ROWS_FAR if large > L3 else FEW_ROWS) or large < LARGE or columns < FEW_COLUMNS or len(group) != 1:
        return None
    if lanes > 16 or not _straight(s.epilogue) or not _along(body, group[0], s.k):
        return None
    nv = 2 if rows <= WAITING_ROWS else 4
    nr = nv * lanes
    nb = min(_up(columns, nr), max(SUMS // (rows * size) // nr, 2) * nr)
    return Stream(swapped, lanes, nv, max(target.registers // (2 * nv), 1), nb, rows, columns, k, size)


def _straight(body: Sequence[Stmt]) -> bool:
    return not any(isinstance(s, (Loop, Reduce, Contract, Update)) for s in body)


def _along(body: Sequence[Stmt], var: Var, k: Sequence[Var]) -> bool:
    """Whether a factor is straight-line code whose loads all are vectors along `var`, one of them affine in k."""
    found = [unmask(s.index) for s in body if isinstance(s, Load)]
    steps = [e.coefficient(var) for e in found]
    plain = not any(hidden(e, v) for e in found for v in (var, *k))
    return _straight(body) and plain and 1 in steps and set(steps) <= {0, 1}


@dataclass(frozen=True, slots=True)
class _Case:
    """All that decides a tiling: extents, bytes of an element, `prefers_rows`, the places in memory and the target."""

    m: int
    n: int
    k: int
    size: int
    row_wise: bool
    a: Access | None
    b: Access | None
    target: Target


def _case(s: Contract, target: Target) -> _Case:
    m, n, k = (max(prod(v.extent for v in group), 1) for group in (s.m, s.n, s.k))
    k = k if s.part is None else s.part.step
    a = access(s.a_body, s.a, s.m, s.k, s.acc.type)
    b = access(s.b_body, s.b, s.n, s.k, s.acc.type)
    return _Case(m, n, k, wide_type(s.acc.type).bytes, prefers_rows(s), a, b, target)


def tiling(s: Contract, target: Target) -> Tiling:
    """The sizes that should cost least, or those that `s` names."""
    return _tiling(_case(s, target), s.how)


def tilings(s: Contract, target: Target) -> list[str]:
    """The names of all tilings, the one that should cost least first."""
    return [c.name for c in _choices(_case(s, target))]


@dataclass(frozen=True, slots=True)
class _Choice:
    """A tile with what it costs: cycles of all multiplications and of packing, for each step of k."""

    cost: float
    swapped: bool
    lanes: int
    mr: int
    nv: int
    direct: Direct

    @property
    def name(self) -> str:
        return f"tiles {self.mr}x{self.nv}{' swapped' * self.swapped}"


@cache
def _choices(c: _Case) -> list[_Choice]:
    """Every register tile, the cheapest first."""
    straight = _tiles(c.m, c.n, c.k, c.size, False, c.a, c.b, c.target)
    crossed = _tiles(c.n, c.m, c.k, c.size, True, c.b, c.a, c.target)
    across = ACROSS * c.m * c.n / c.k
    return sorted((*straight, *crossed), key=lambda x: x.cost + (across if x.swapped != c.row_wise else 0))


@cache
def _tiling(c: _Case, how: str) -> Tiling:
    best = next(x for x in _choices(c) if how in ("", x.name))
    m, n, k, size = c.m, c.n, c.k, c.size
    rows, columns = (n, m) if best.swapped else (m, n)
    mr, nr, direct = best.mr, best.nv * best.lanes, best.direct
    once = rows <= mr and not direct.columns  # what is packed is used once
    deep = CONTRACT_BLOCK if once else min(_up(k, CONTRACT_BLOCK), DEPTH)
    taken = min(_up(k, STEP), deep) * size
    mc = min(_up(rows, mr), max(L2_ROWS // taken // mr, 1) * mr)
    nb = nr if once else min(_up(columns, nr), max(L3_COLUMNS // taken // nr, 1) * nr)
    mb = _up(rows, mr) if k <= deep else min(_up(rows, mr), max(TILES // (nb * size) // mc, 1) * mc)
    by_columns = _share(columns, nr) * rows / best.lanes + (0 if direct.rows else rows * PACK)
    by_rows = _share(rows, mr) * columns / best.lanes + (0 if direct.columns else columns * PACK)
    share_columns = by_columns <= by_rows
    return Tiling(
        best.swapped, best.lanes, mr, best.nv, mc, nb, mb, deep, rows, columns, k, size, share_columns, direct
    )


def _tiles(
    rows: int, columns: int, k: int, size: int, swapped: bool, a: Access | None, b: Access | None, target: Target
) -> Iterator[_Choice]:
    """The register tiles with these rows and columns."""
    lanes = min(max(target.vector_bytes // size, 1), round_up_to_power(columns), 32)
    columns_direct = rows <= DIRECT_ROWS and _columns_direct(b, k, size)
    far = rows * k * size > L3
    crossing = b is None or (b.own != size and b.k == size)
    pack_rows, pack_columns = (extent * (PACK + (FAR if extent * k * size > L3 else 0)) for extent in (rows, columns))
    pack_columns += columns * (TRANSPOSE if crossing else 0)
    for nv in range(1, MOST_VECTORS + 1):
        if nv > 1 and (nv - 1) * lanes >= columns:
            break
        nr = nv * lanes
        for mr in range(1, min(most_rows(nv, target), MOST_SUMS // nv, rows) + 1):
            tiles = -(-rows // mr) * -(-columns // nr)
            broken = tiles - rows // mr * (columns // nr)
            ending = (ENDING * tiles + BROKEN * broken) * mr * nv / k
            direct = Direct(_rows_direct(a, mr, k) and not (far and mr > STREAMS), columns_direct)
            packing = (0 if direct.rows else pack_rows) + (0 if direct.columns else pack_columns)
            yield _Choice(cycles(mr, nv) * tiles + ending + packing, swapped, lanes, mr, nv, direct)


def _share(extent: int, width: int) -> int:
    """What one of `SHARES` threads computes of an extent in panels."""
    return -(extent // -width // SHARES) * width


def prefers_rows(s: Contract) -> bool:
    """Whether the epilogue's memory is contiguous along m and not along n."""

    def contiguous(group: tuple[Var, ...]) -> bool:
        return any(
            isinstance(e, Store) and i.coefficient(v) == 1 and not hidden(i, v)
            for e in statements(s.epilogue)
            for i in indices(e)
            for v in group
        )

    return contiguous(s.m) and not contiguous(s.n)
