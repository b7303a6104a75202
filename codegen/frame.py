"""The state of emitting one kernel: what is defined, which loops are open, which of them is a vector.

Every open loop body is a `Scope`. It owns a *head*, a place at its very start, where anything that depends on loop
variables alone may be written late: the head dominates everything in the scope, so a cached term stays valid
throughout it, and address arithmetic ends up in the outermost loop it belongs to.

While `vector` is a variable, the code stands for `lanes` consecutive values of it, from the scalar ``vars[vector]``
on; `active` (if any) tells which of them exist. A value with one lane is uniform and is splatted where it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING

from .builder import I64, PTR, Builder, Module, Ty, Val, const, ty
from .index import Index, Var
from .loops import Buffer, Carry, Contract, Kernel, Reduce, Stmt, Value
from .target import Target

if TYPE_CHECKING:
    from .keep import Kept

MASK_BITS = 64  # lanes up to which a mask is made in a general register, beside what vectors do
ON_STACK = 16 << 10  # bytes of panels and tiles up to which they are on the stack


class Scope:
    """A region that its head dominates: an open loop body, an unrolled copy, or the function itself."""

    __slots__ = ("cache", "head", "known", "place")

    def __init__(self, place: int, known: dict[str, Val]) -> None:
        self.place = place
        self.head: list[str] = []
        self.known = known  # `Builder.known` of the head
        self.cache: dict[object, Val] = {}


class Frame:
    """See the module's docstring. `run` emits a list of statements here (set by `codegen.emit`)."""

    def __init__(self, kernel: Kernel, target: Target, module: Module, run: "Callable[[Frame, Sequence[Stmt]], None]"):
        self.kernel = kernel
        self.target = target
        self.module = module
        self.b = Builder(module)
        self._run = run
        self.values: dict[Value, Val] = {}
        self.known: dict[Value, Val] = {}  # loads whose values are there already
        self.results: dict[tuple[Reduce, int], Val] = {}
        self.vars: dict[Var, Val] = {}
        self.depth: dict[Var, int] = {}
        self.scopes: list[Scope] = []
        self.vector: Var | None = None
        self.lanes = 1
        self.active: Val | None = None
        self.full: Val | None = None  # whether all lanes are active, if that is known only when the code runs
        self.aligned = False
        self.private: Collection[Buffer] = ()
        self.buffers: dict[Buffer, Val] = {}
        self.streamed: set[Buffer] = set()  # that are written past the caches
        self.carries: dict[Carry, Val] = {}
        self.prefixes: dict[Carry, Val] = {}  # carries of a sequential loop that is a vector, in every lane
        self.ahead: dict[int, list[tuple[Buffer, Index]]] = {}  # what passes fetch: `codegen.ahead`
        self.arena: Val | None = None
        self.kept: dict[tuple[str, Contract], Kept] = {}  # what contractions keep from turn to turn, and where
        self.kept_areas: dict[tuple[str, Contract], Val] = {}
        self.starts: dict[Var, Val] = {}  # where loops begin
        self.ranged: Stmt | None = None  # the statement that does only the range handed over
        self._zero: Val | None = None
        self.open()

    def run(self, body: Sequence[Stmt]) -> None:
        self._run(self, body)

    # scopes -----------------------------------------------------------------------------------------------------
    def open(self) -> Scope:
        self.b.lines.append("")
        scope = Scope(len(self.b.lines) - 1, dict(self.b.known))
        self.scopes.append(scope)
        return scope

    def close(self) -> None:
        scope = self.scopes.pop()
        self.b.lines[scope.place] = "\n".join(scope.head)

    @contextmanager
    def scope(self, *bound: tuple[Var, Val]) -> Iterator[None]:
        """A new scope in which variables have these (starting) values; code is appended in place."""
        before = [(var, self.vars.get(var), self.depth.get(var)) for var, _ in bound]
        self.open()
        for var, value in bound:
            self.vars[var] = value
            self.depth[var] = len(self.scopes) - 1
        yield
        self.close()
        for var, old, depth in before:
            if old is None or depth is None:
                del self.vars[var], self.depth[var]
            else:
                self.vars[var], self.depth[var] = old, depth

    @contextmanager
    def at(self, depth: int | None) -> Iterator[None]:
        """Appends to the head of the scope at `depth`; None and the innermost scope's own lines: in place."""
        if depth is None:
            yield
            return
        b, scope = self.b, self.scopes[depth]
        lines, known, before = b.lines, b.known, len(scope.known)
        b.lines, b.known = scope.head, scope.known
        yield
        b.lines, b.known = lines, known
        known.update(islice(scope.known.items(), before, None))

    @contextmanager
    def vectorised(
        self, var: Var | None, lanes: int, active: Val | None, aligned: bool, private: Collection[Buffer] = ()
    ) -> Iterator[None]:
        """Makes `var` the vector (None: scalar code); `aligned` if it starts at a multiple of the lanes.

        Of the scratch buffers `private` each lane has its own copy: they lie lane by lane, element by element.
        """
        saved = self.vector, self.lanes, self.active, self.aligned, self.private
        self.vector, self.lanes, self.active, self.aligned = (var if lanes > 1 else None), lanes, active, aligned
        self.private = private if lanes > 1 else ()
        yield
        self.vector, self.lanes, self.active, self.aligned, self.private = saved

    def alloca(self, t: Ty, count: int = 1, align: int = 64) -> Val:
        """Stack memory for `count` values, taken once at entry."""
        with self.at(0):
            return self.b.emit(PTR, f"alloca {t.ll}, i64 {count}, align {align}")

    def areas(self, sizes: Sequence[int]) -> list[Val]:
        """Memory of these sizes, multiples of 64 bytes: on the stack if it is little, else from the arena."""
        assert self.vector is None
        at = self.arena
        if sum(sizes) <= ON_STACK:
            at = self.alloca(ty("i", 8), sum(sizes), 64)
        assert at is not None
        out = []
        for size in sizes:
            out.append(at)
            at = self.b.gep(ty("i", 8), at, const(I64, size))
        return out

    def zero(self) -> Val:
        """The address of 8 zero bytes on the stack: where masked scalar loads read."""
        if self._zero is None:
            self._zero = self.alloca(I64)
            with self.at(0):
                self.b.store(const(I64, 0), self._zero, 8)
        return self._zero

    # values -----------------------------------------------------------------------------------------------------
    def wide(self, v: Val) -> Val:
        """`v` in every lane of the current vector."""
        return self.b.splat(v, self.lanes) if v.ty.lanes == 1 else v

    def agree(self, *args: Val) -> tuple[Val, ...]:
        """The values, splatted if any of them is a vector."""
        if all(a.ty.lanes == 1 for a in args):
            return args
        return tuple(self.wide(a) for a in args)

    def mask(self, extra: Val | None) -> Val | None:
        """`active` and `extra` together; None when neither restricts."""
        if extra is None or self.active is None:
            return extra if self.active is None else self.active
        x, y = self.agree(extra, self.active)
        return self.b.binary("and", x, y)

    # control ----------------------------------------------------------------------------------------------------
    def loop(
        self,
        lo: Val,
        hi: Val,
        step: int,
        init: list[Val],
        body: Callable[[Val, list[Val]], list[Val]],
        hint: str = "loop",
        certain: bool = False,
    ) -> list[Val]:
        """``for i in range(lo, hi, step): carried = body(i, carried)``; the last carried values.

        `certain`: lo < hi is known (with literal bounds it is seen).

            entry: guard (unless certain)  ->  body | done
            body:  i = phi, carried = phi, ...  i < hi  ->  body | done
            done:  carried = phi (unless there is no guard)
        """
        b = self.b
        literal = is_literal(lo) and is_literal(hi)
        if literal and int(lo.ref) >= int(hi.ref):
            return init
        if literal and int(lo.ref) + step >= int(hi.ref):
            return body(lo, init)
        head, done = b.fresh_label(hint), b.fresh_label("done")
        before = b.block
        certain = certain or literal
        if certain:
            b.branch(head)
        else:
            b.cond_branch(b.icmp("slt", lo, hi), head, done)
        b.label(head)
        i, place = b.phi(I64)
        phis = [b.phi(v.ty) for v in init]
        after = body(i, [v for v, _ in phis])
        following = b.opaque(b.binary("add", i, const(I64, step)))
        b.set_phi(i, place, [(lo, before), (following, b.block)])
        for (phi, where), first, last in zip(phis, init, after, strict=True):
            b.set_phi(phi, where, [(first, before), (last, b.block)])
        latch = b.block
        b.cond_branch(b.icmp("slt", following, hi), head, done)
        b.label(done)
        if certain:
            return after
        out = []
        for first, last in zip(init, after, strict=True):
            v, where = b.phi(first.ty)
            b.set_phi(v, where, [(first, before), (last, latch)])
            out.append(v)
        return out

    def choose(
        self,
        condition: Val,
        yes: Callable[[], list[Val] | None],
        no: Callable[[], list[Val] | None],
        rare: bool = False,
    ) -> list[Val]:
        """``yes() if condition else no()``, the first of which may be hardly ever so; a literal is no branch."""
        if condition.ref in ("true", "false"):
            return (yes if condition.ref == "true" else no)() or []
        b = self.b
        labels = [b.fresh_label(hint) for hint in ("yes", "no", "chosen")]
        (b.rare_branch if rare else b.cond_branch)(condition, labels[0], labels[1])
        found = []
        for label, body in zip(labels, (yes, no), strict=False):
            b.label(label)
            with self.scope():
                values = body() or []
            found.append([(v, b.block) for v in values])
            b.branch(labels[2])
        b.label(labels[2])
        out = []
        for incoming in zip(*found, strict=True):
            v, place = b.phi(incoming[0][0].ty)
            b.set_phi(v, place, list(incoming))
            out.append(v)
        return out

    def extreme(self, op: str, x: Val, y: Val) -> Val:
        """``smin`` or ``smax`` of two i64; of literals, a literal."""
        if is_literal(x) and is_literal(y):
            return const(I64, (min if op == "smin" else max)(int(x.ref), int(y.ref)))
        return self.b.intrinsic(op, x.ty, x, y)


def is_literal(v: Val) -> bool:
    """Whether an integer is written out."""
    return v.ref.lstrip("-").isdigit()


def lane_numbers(t: Ty) -> Val:
    """0, 1, 2, ... in the lanes of an integer vector type."""
    if t.lanes == 1:
        return const(t, 0)
    parts = ", ".join(f"{t.scalar().ll} {i}" for i in range(t.lanes))
    return Val(f"<{parts}>", t)


def lanes_before(f: "Frame", left: Val, lanes: int) -> Val:
    """A mask: true in the first `left` lanes, at least 0, of `lanes`."""
    return some_lanes(f, f.extreme("smin", left, const(I64, lanes)), lanes)


def some_lanes(f: "Frame", count: Val, lanes: int) -> Val:
    """A mask: true in the first `count` lanes, at most all of them."""
    b = f.b
    if is_literal(count):
        return first_lanes(int(count.ref), lanes)
    if not f.target.masks or lanes > MASK_BITS:
        return b.icmp("slt", lane_numbers(ty("i", 64, lanes)), b.splat(count, lanes))
    ones = b.intrinsic("x86.bmi.bzhi", I64, const(I64, -1), count, suffix="64")
    return b.convert("bitcast", b.convert("trunc", ones, ty("i", lanes)), ty("i", 1, lanes))


def first_lanes(count: int, lanes: int) -> Val:
    """A literal mask: true in the first `count` lanes."""
    if lanes == 1:
        return const(ty("i", 1), count > 0)
    parts = ", ".join("i1 true" if i < count else "i1 false" for i in range(lanes))
    return Val(f"<{parts}>", ty("i", 1, lanes))
