"""Loops split where masks, divisions and moduli are decided, so that the hot loop has none of them.

Two rewritings of loop IR, each bit for bit the same kernel:

* `_Phases` writes out small reductions, term by term in the order of their tree, and short inner loops, and turns a
  loop whose variable stands under a division, modulus or step of s into one over q with the s bodies
  ``var = s*q + r``.
* `_Borders` cuts a loop's range where a mask on it changes from undecided to decided. The loop that becomes a vector
  is cut at multiples of `VECTOR` only, so that no piece but the last has a tail.

The outermost loop keeps being one loop: ranges of it are what threads get. Sums over several blocks keep their loops:
there an absent term would show in the tree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from math import gcd, lcm, prod

from .analysis import added, indices, is_leaf, sole, statements
from .coalesce import coalesce
from .combine import COMBINE, COMBINE_BOOL, wide_type
from .fold import Fold, is_zero, prune
from .index import Div, Index, Mod, Var, constant, of, unmask
from .jam import Jam, rows_of
from .join import join
from .loops import (
    BLOCK,
    Accumulator,
    Apply,
    Check,
    Const,
    Contract,
    InRange,
    Kernel,
    Load,
    Loop,
    Reduce,
    Result,
    Stmt,
    Store,
    Update,
    Value,
)
from .turns import write_out
from .vectorize import hidden

VECTOR = 16  # lanes that cuts of a vector loop are multiples of
TERMS = 2 * BLOCK  # terms up to which a reduction over windows is written out; others up to one block
STATEMENTS = 600  # statements that a reduction or a body of phases may grow to
PHASES = 4  # steps up to which a loop is split into its phases
PIECES = 3  # pieces that a loop is cut into at every cut; with more, only the largest is freed of its masks
LATE = 16  # stores of a body that wait for its end
FAR = 4 << 10  # bytes from the first to the last of rows from which they are not walked down twice
MIN_SCALAR = 4  # extent that the piece without masks of a loop around others has at least


@lru_cache(64)
def prepare(kernel: Kernel) -> Kernel:
    """The kernel as it is emitted: reductions written out and joined, nests coalesced, loops split."""
    if kernel.prepared:
        return kernel
    kernel = coalesce(join(write_out(kernel)))
    inner = sole(kernel.body) is None
    for split in (_Phases(inner), _Borders(inner)) if _concerned(kernel.body) else (Fold(),):
        kernel = replace(kernel, body=prune(split.body(kernel.body)))
    return replace(kernel, body=_stored_late(Jam().body(kernel.body)), prepared=True)


def borders(body: Sequence[Stmt]) -> list[Stmt]:
    """A body of loops that may all be cut where masks are decided."""
    return prune(_Borders(True).body(body))


def _concerned(body: Sequence[Stmt]) -> bool:
    """Whether there is anything to split or to write out."""
    if not any(isinstance(s, Loop) for s in body):
        return False
    return any(
        (isinstance(s, Loop) and any(isinstance(x, Loop) and _is_short(x) for x in s.body))
        or isinstance(s, InRange)
        or (isinstance(s, Reduce) and _is_small(s))
        or any(True for e in indices(s) for _ in _small_steps(e))
        for s in statements(body)
    )


def _is_small(s: Reduce) -> bool:
    """Whether a reduction fits to be written out: it is one block, or few whose chains would wait between rows."""
    total = prod(v.extent for v in s.vars)
    if not 0 < total <= (TERMS if len(s.vars) > 1 else BLOCK) or total * len(s.body) > STATEMENTS:
        return False
    return s.tree == "column" and all(is_leaf(x) and not isinstance(x, (Store, Update, Check)) for x in s.body)


def streaming(s: Loop) -> set[Reduce]:
    """The reductions of a loop over columns if several walk down the same rows: a tile of columns at a time
    (`codegen.emit_columns`), these are read from memory as they lie, and then again from cache."""
    found = [r for r in s.body if isinstance(r, Reduce) and r.tree == "column" and len(r.vars) == 1]
    rows = Counter(
        b for r in found for b in {x.buffer for x in r.body if isinstance(x, Load) and span(x, r) >= FAR}
    )  # fmt: skip
    return set(found) if any(n > 1 for n in rows.values()) else set()


def _is_short(s: Loop) -> bool:
    """Whether a loop inside others is written out: then the one around it can be the vector."""
    if s.carries or s.var.extent > PHASES or not _movable(s.body) or s.var.extent * _size(s.body) > STATEMENTS:
        return False
    return all(is_leaf(x) or (isinstance(x, Loop) and _is_short(x)) for x in s.body)


def span(x: Load, r: Reduce) -> int:
    """The bytes from a reduction's first row to its last."""
    e = unmask(x.index)
    return sum(abs(e.coefficient(v)) * v.extent for v in r.vars) * x.type.bytes


def _movable(body: Sequence[Stmt]) -> bool:
    """Whether a loop's iterations may be copied and taken in another order."""
    return not any(isinstance(s, (Update, Check, Contract)) for s in statements(body))


def _small_steps(e: Index) -> Iterator[tuple[Index, int]]:
    """The indices inside that are divided by something small."""
    for atom in e.terms:
        if isinstance(atom, (Div, Mod)):
            if atom.n <= PHASES:
                yield atom.index, atom.n
            yield from _small_steps(atom.index)


class _Split(Fold):
    """What both rewritings share: where a loop stands. `inner`: inside another loop, so that it may fall apart."""

    def __init__(self, inner: bool) -> None:
        super().__init__()
        self.inner = inner

    def place(self, s: Stmt) -> None:
        if isinstance(s, Loop):
            self.loop(s)
        else:
            super().place(s)

    def loop(self, s: Loop) -> None:
        raise NotImplementedError

    def under(self, s: Loop, values: Sequence[Index]) -> list[Stmt]:
        """The body of a loop that has a copy of the body of `s` for each of the values of its variable."""

        def copies() -> None:
            for value in values:
                self.at(s, value)

        saved, self.inner = self.inner, True
        body = self.scoped(copies)
        self.inner = saved
        return body

    def at(self, s: Loop, value: Index) -> None:
        """The body of `s` in place, for one value of its variable."""
        self.rename[s.var] = value
        self.inline(s.body)
        del self.rename[s.var]

    def whole(self, s: Loop) -> None:
        """The loop in one piece, with what is inside rewritten."""
        saved, self.inner = self.inner, True
        self.out.append(self._loop(s))
        self.inner = saved


class _Phases(_Split):
    def place(self, s: Stmt) -> None:
        if isinstance(s, Reduce) and _is_small(s) and s not in self.streaming:
            self.write_out(s)
        elif isinstance(s, Result) and (id(s.reduce), s.k) in self.written:
            self.new[id(s)] = self.written[id(s.reduce), s.k]
        else:
            super().place(s)

    def __init__(self, inner: bool) -> None:
        super().__init__(inner)
        self.written: dict[tuple[int, int], Value] = {}
        self.streaming: set[Reduce] = set()

    def write_out(self, s: Reduce) -> None:
        """Blocks, each a chain in row-major order; its first element is added to -0.0, which changes nothing."""
        blocks = []
        for n in range(prod(v.extent for v in s.vars)):
            if n % BLOCK == 0:
                blocks.append([_Chain(self, a) for a in s.accumulators])
            r = n
            for var in reversed(s.vars):
                r, at = divmod(r, var.extent)
                self.rename[var] = constant(at)
            self.inline(s.body)
            for chain, a in zip(blocks[-1], s.accumulators, strict=True):
                chain.add(*map(self.value, added(a)))
        for var in s.vars:
            del self.rename[var]
        for k, chains in enumerate(zip(*blocks, strict=True)):
            self.written[id(s), k] = chains[0].joined(chains[1:])

    def loop(self, s: Loop) -> None:
        if self.inner and _is_short(s):
            for k in range(s.var.extent):
                self.at(s, constant(k))
            return
        self.streaming |= streaming(s)
        step = self.step(s)
        extent = s.var.extent
        if step == 1 or (not self.inner and extent % step):
            self.whole(s)
            return
        q = Var(extent // step, s.var.name)
        body = self.under(s, [of(q) * step + r for r in range(step)])
        self.out.append(Loop(q, body))
        for r in range(extent - extent % step, extent):
            self.at(s, constant(r))

    def step(self, s: Loop) -> int:
        """The number of phases that decide every small division of the loop's variable; 1 to leave it alone."""
        if s.carries or not _movable(s.body):
            return 1
        small = {v for x in statements(s.body) if isinstance(x, Reduce) and _is_small(x) for v in x.vars}
        out = 1
        for x in statements(s.body):
            for written in indices(x):
                e = self.index(written)
                found = list(_small_steps(e))
                if isinstance(x, InRange) and 1 < x.step <= PHASES:
                    found.append((unmask(e), x.step))
                for inside, n in found:
                    others = [c for a, c in inside.terms.items() if a is not s.var and a not in small]
                    if all(c % n == 0 for c in others):
                        out = lcm(out, n // gcd(n, inside.coefficient(s.var)))
        fits = out <= PHASES and out * _size(s.body) <= 2 * STATEMENTS and s.var.extent >= 2 * out
        return out if fits else 1


class _Chain:
    """One accumulator of a reduction that is written out."""

    def __init__(self, fold: Fold, accumulator: Accumulator) -> None:
        self.fold = fold
        self.type = accumulator.type
        self.wide = wide_type(accumulator.type)
        self.op = (COMBINE_BOOL if self.wide.kind == "b" else COMBINE)[accumulator.op]
        self.old: Value | None = None
        self.settled = False  # the chain is no -0.0: another +0.0 changes nothing

    def add(self, x: Value, *factor: Value) -> None:
        if factor:
            op, old = ("mul", ()) if self.old is None else ("muladd", (self.old,))
            self.old = self.fold.apply(Apply(op, self.wide, (x, *factor, *old)))
            return
        absent = self.op == "add" and self.wide.kind == "f" and isinstance(x, Const) and is_zero(x)
        if self.wide is not self.type:
            x = self.fold.apply(Apply("cast", self.wide, (x,)))
        if self.old is None:
            self.old = x
        elif not (absent and self.settled):
            self.old = self.fold.apply(Apply(self.op, self.wide, (self.old, x)))
        self.settled = self.settled or absent

    def joined(self, others: Sequence["_Chain"]) -> Value:
        """The result of this and at most one other chain, the block that follows."""
        assert self.old is not None
        out = self.old
        for other in others:
            assert other.old is not None
            out = self.fold.apply(Apply(self.op, self.wide, (out, other.old)))
        return out if self.wide is self.type else self.fold.apply(Apply("cast", self.type, (out,)))


def _size(body: Sequence[Stmt]) -> int:
    """Statements of a body once its small reductions are written out."""
    total = 0
    for s in body:
        match s:
            case Loop():
                total += _size(s.body)
            case Reduce():
                total += len(s.body) * (prod(v.extent for v in s.vars) if _is_small(s) else 1)
            case _:
                total += 1
    return total


def _stored_late(body: list[Stmt]) -> list[Stmt]:
    """The body with the stores of its loops where `_stores_last` puts them."""
    return [Loop(s.var, _stores_last(_stored_late(s.body)), s.carries) if isinstance(s, Loop) else s for s in body]


def _stores_last(body: list[Stmt]) -> list[Stmt]:
    """Straight-line code with the stores at its end, buffer by buffer: neighbours in memory side by side.

    A load that follows a store to another page at the same offset would wait for it. Where there are more values than
    registers, each is stored as soon as it is computed and the loads at its own index are done, which may be of the
    same memory (`streams.in_place`).
    """
    if not all(is_leaf(s) for s in body):
        return body
    stores = [s for s in body if isinstance(s, Store)]
    written = {id(s.buffer) for s in stores}
    if any(isinstance(s, Load) and id(s.buffer) in written for s in body):
        return body
    if len(stores) > LATE:
        return _stores_soon(body)
    order = {key: i for i, key in enumerate(dict.fromkeys(id(s.buffer) for s in stores))}
    stores.sort(key=lambda s: order[id(s.buffer)])
    return [*(s for s in body if not isinstance(s, Store)), *stores]


def _stores_soon(body: list[Stmt]) -> list[Stmt]:
    """Straight-line code with each store after its value and the loads at its index that it followed, no later."""
    place: dict[int, int] = {}  # of each value
    loaded: dict[tuple[int, Index], int] = {}  # the place of the last load so far of so many bytes, by its index
    after: list[list[Stmt]] = [[] for _ in range(len(body) + 1)]
    for at, s in enumerate(body, 1):
        if isinstance(s, Store):
            key = s.buffer.type.bytes, s.index
            after[max(place.get(id(s.value), 0), loaded.get(key, 0))].append(s)
            continue
        place[id(s)] = at
        if isinstance(s, Load):
            loaded[s.buffer.type.bytes, unmask(s.index)] = at
        after[at].append(s)
    return [s for some in after for s in some]


class _Borders(_Split):
    """`hot`: not at the border of an outer loop, where cutting inner loops would only be more code."""

    def __init__(self, inner: bool) -> None:
        super().__init__(inner)
        self.hot = True

    def loop(self, s: Loop) -> None:
        cuts = self.cuts(s) if self.inner and self.hot and not s.carries and _movable(s.body) else []
        if not cuts:
            self.whole(s)
            return
        pieces = list(pairwise([0, *cuts, s.var.extent]))
        most = max(hi - lo for lo, hi in pieces)
        for lo, hi in pieces:
            self.hot = 2 * (hi - lo) >= most
            if hi - lo == 1:
                self.at(s, constant(lo))
                continue
            var = Var(hi - lo, s.var.name)
            self.out.append(Loop(var, self.under(s, [of(var) + lo])))
        self.hot = True

    def cuts(self, s: Loop) -> list[int]:
        """Where to cut the range of a loop; nowhere, if that does not pay or its turns will all stand side by side."""
        extent = s.var.extent
        vector = not any(isinstance(x, (Loop, Contract)) for x in statements(s.body))
        points: set[int] = set()
        for x in statements(s.body):
            if isinstance(x, InRange) and x.step == 1:
                points.update(_decided(unmask(self.index(x.index)), x.lo, x.hi, s.var))
        if vector:
            points = {p // VECTOR * VECTOR for p in points} | {-(-p // VECTOR) * VECTOR for p in points}
        cuts = sorted(p for p in points if 0 < p < extent)
        pieces = list(pairwise([0, *cuts, extent]))
        lo, hi = max(pieces, key=lambda piece: piece[1] - piece[0])
        if hi - lo < (2 * VECTOR if vector else max(extent // 2, MIN_SCALAR)):
            return []
        if len(pieces) > PIECES:
            cuts = [p for p in (lo, hi) if 0 < p < extent]
        return cuts if (len(cuts) + 1) * _size(s.body) <= 2 * STATEMENTS and rows_of(s) < extent else []


def _decided(e: Index, lo: int, hi: int, var: Var) -> tuple[int, ...]:
    """The first and the end of the values of `var` for which ``lo <= e < hi`` whatever else varies."""
    c = e.coefficient(var)
    if c == 0 or hidden(e, var):
        return ()
    low, high = (e + Index({var: -c})).bounds
    if c > 0:
        first, end = -((low - lo) // c), (hi - 1 - high) // c + 1
    else:
        first, end = (high - hi) // -c + 1, (low - lo) // -c + 1
    return (first, end) if first < end else ()
