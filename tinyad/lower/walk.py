"""The walk of a kernel: from its loop variables towards the leaves, rewriting the index tuple on the way.

What reaches a leaf is an index expression and a mask. Masks are facts: an index behind a mask is an atom bounded by its
axis. Every value is put at the outermost loop that has all it depends on, so what is the same for a whole row is
computed once a row. The walk is memoised on (node, index tuple, mask) and runs on a trampoline: any depth of graph.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from codegen import index as ix
from codegen import loops as lo
from codegen.index import Datum, Index, Var
from codegen.scalar import B1, I64, Type

from ..canonical import Parameter, reduce_kind
from ..ir import ELEMENTWISE, REDUCE, Node, Op, Shape
from ..schedule.contraction import operands
from ..schedule.partition import Partition
from .movement import THROUGH, scalar_type
from .views import base, through

V = TypeVar("V")
_TEST: Final = "test"  # marks the memo keys of masks

Key = tuple[Node, tuple[Index, ...], "lo.Value | None"]
Walk = Generator[Key, lo.Value, lo.Value]


@dataclass(slots=True)
class Argument:
    """One pointer of a kernel: the array of `node` (a stored node or leaf), from element `offset` on."""

    node: Node
    offset: int


@dataclass(slots=True)
class Lowered:
    """A kernel and what its arguments, parameters and status codes stand for."""

    kernel: lo.Kernel
    arguments: list[Argument]
    parameters: list[Parameter]
    checks: list[Node]  # status code c + 1 is raised by checks[c]


@dataclass(frozen=True, slots=True)
class Tile:
    """A value of one block of rows in scratch memory: which axes are the row and the columns, and where rows begin."""

    buffer: lo.Buffer
    row: int
    start: Index
    columns: tuple[int, ...]
    shape: Shape
    stride: int

    def at(self, idx: Sequence[Index]) -> Index:
        """Where the element at `idx` is."""
        line = idx[self.row] + self.start * -1
        return line * self.stride + ix.flatten([idx[i] for i in self.columns], self.shape)


class Scope:
    """A body under construction: its statements, and the memo entries that end with it."""

    __slots__ = ("body", "depth", "keys")

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.body: list[lo.Stmt] = []
        self.keys: list[Key] = []


class Lowering:
    """The state of lowering one group."""

    def __init__(self, partition: Partition) -> None:
        self.stored = partition.stored
        self.contractions = partition.contractions
        self.rows = partition.scratch
        self.partial = partition.partial
        self.scratch: dict[tuple[int, tuple[Index, ...]], lo.Buffer] = {}  # rows that are complete
        self.filling: dict[tuple[int, tuple[Index, ...]], lo.Buffer] = {}  # rows that the open pass stores
        self.kept: list[lo.Buffer] = []
        self.tiles: dict[int, Tile] = {}  # values that live in tiles of a block of rows
        self.ready: set[int] = set()  # values that stages before have computed
        self.main = 0  # depth of the main loops' innermost body
        self.floor = 0  # depth of a body that is written in order: what has an index stays inside
        self.own: set[int] = set()  # stored nodes that this kernel computes itself
        self.scopes = [Scope(0)]
        self.depth_of: dict[Any, int] = {}  # of a Var or the id of a value
        self.memo: dict[Key, lo.Value] = {}
        self.buffers: dict[tuple[int, str, int], tuple[lo.Buffer, Argument]] = {}
        self.params: dict[Parameter, lo.Param] = {}
        self.checks: list[Node] = []
        self.given: dict[int, lo.Value] = {}  # the heavy node's value inside its own kernel
        self.names = 0
        self.drafting = False

    # scopes and places ------------------------------------------------------------------------------------------
    def var(self, extent: int, prefix: str) -> Var:
        self.names += 1
        return Var(extent, f"{prefix}{self.names - 1}")

    def open(self, *variables: Var) -> Scope:
        """Enters a deeper body, which `variables` belong to."""
        scope = Scope(self.scopes[-1].depth + 1)
        self.scopes.append(scope)
        for v in variables:
            self.depth_of[v] = scope.depth
        return scope

    def close(self) -> Scope:
        """Leaves the deepest body; what was computed in it is forgotten."""
        scope = self.scopes.pop()
        for key in scope.keys:
            self.memo.pop(key, None)
        return scope

    @contextmanager
    def draft(self) -> Iterator[None]:
        """What is computed inside leaves no trace in the kernel."""
        known = dict(self.depth_of)
        self.open()
        self.drafting = True
        yield
        self.drafting = False
        self.close()
        self.depth_of = known

    def depth_of_index(self, e: Index) -> int:
        depth = self.floor
        for v in e.variables():
            depth = max(depth, self.depth_of[v])
        for d in e.data():
            depth = max(depth, self.depth_of[id(d.value)])
        return depth

    def place(self, value: V, depth: int) -> V:
        """Puts a definition into the body of `depth`, which must be open."""
        depth = len(self.scopes) - 1 if self.drafting else depth
        self.scopes[depth].body.append(value)  # type: ignore[arg-type]
        self.depth_of[id(value)] = depth
        return value

    def value_depth(self, *values: "lo.Value | None") -> int:
        return max((self.depth_of.get(id(v), 0) for v in values if v is not None), default=0)

    # the walk ---------------------------------------------------------------------------------------------------
    def value(self, n: Node, idx: tuple[Index, ...], mask: "lo.Value | None" = None) -> lo.Value:
        """The value of `n` at `idx` (where `mask`), computed in the open bodies."""
        stack: list[tuple[Key, Walk]] = []
        key: Key = (n, idx, mask)
        result = self.memo.get(key)
        if result is None:
            stack.append((key, self.walk(key)))
        send: lo.Value | None = None
        while stack:
            key, walk = stack[-1]
            try:
                wanted = next(walk) if send is None else walk.send(send)
            except StopIteration as stop:
                stack.pop()
                send = result = stop.value
                self.memo[key] = stop.value
                self.scopes[self.value_depth(stop.value)].keys.append(key)
                continue
            send = self.memo.get(wanted)
            if send is None:
                stack.append((wanted, self.walk(wanted)))
        assert result is not None
        return result

    def walk(self, key: Key) -> Walk:
        """One node: yields the (node, index, mask) whose values it needs, returns its own."""
        n, idx, mask = key
        given = self.given.get(id(n))
        if given is not None:
            return given
        if id(n) in self.ready:
            buffer, at = self.home(n, idx)
            depth = max(self.depth_of_index(at), self.value_depth(mask))
            return self.place(lo.Load(buffer.type, buffer, at, mask), depth)
        found = base(n, self.is_loaded, self.is_kept)
        if found is not None:
            return self.load(*found, idx, n, mask)
        row = self.rows.get(id(n))
        if row is not None and mask is None:
            return (yield from self.row(n, idx, row))
        return (yield from self.compute(n, idx, mask))

    def compute(self, n: Node, idx: tuple[Index, ...], mask: "lo.Value | None") -> Walk:
        if n.op in ELEMENTWISE:
            args = []
            for s in n.src:
                args.append((yield s, idx, mask))
            value = lo.Apply(n.op.value, scalar_type(n.dtype), tuple(args))
            return self.place(value, self.value_depth(*args))
        if n.op in REDUCE:
            return (yield from self.reduce(n, idx, mask))
        return (yield from THROUGH[n.op](self, n, idx, mask))

    def row(self, n: Node, idx: tuple[Index, ...], axes: tuple[int, ...]) -> Walk:
        """A value kept for a row: the first pass over the row computes and stores it, passes after that load it.

        It is kept in scratch memory, or in its own array if it is stored anyway.
        """
        key = id(n), tuple(ix.ZERO if i in axes else e for i, e in enumerate(idx))
        own = id(n) in self.own
        shape = [n.shape[i] for i in axes]
        done = self.scratch.get(key)
        if own:
            buffer, at = self.home(n, idx)
        else:
            at = ix.unmask(ix.recombined(ix.flatten([idx[i] for i in axes], shape)))
        depth = max(map(self.depth_of_index, idx))  # a fixed place of a row is another value for each row
        if done is not None:
            return self.place(lo.Load(done.type, done, at), depth)
        value = yield from self.compute(n, idx, None)
        if depth > self.main and key not in self.filling:
            if not own:
                buffer = lo.Buffer(scalar_type(n.dtype), math.prod(shape), "scratch", f"row{len(self.kept)}")
                self.kept.append(buffer)
            self.filling[key] = buffer
            self.scopes[depth].body.append(lo.Store(buffer, at, value))
        return value

    def home(self, n: Node, idx: tuple[Index, ...]) -> tuple[lo.Buffer, Index]:
        """Where this kernel keeps the element of `n` at `idx`: in a tile or in the node's own array."""
        tile = self.tiles.get(id(n))
        if tile is not None:
            return tile.buffer, ix.unmask(ix.recombined(tile.at(idx)))
        return self.argument(n, "out", 0, n.size), ix.unmask(ix.recombined(ix.flatten(idx, n.shape)))

    def is_loaded(self, n: Node) -> bool:
        """Whether `n` is read from memory here."""
        return n.op is Op.BUFFER or (id(n) in self.stored and id(n) not in self.own and id(n) not in self.ready)

    def is_kept(self, n: Node) -> bool:
        """Whether `n` is stored by this kernel, in an array or in scratch memory."""
        return id(n) in self.own or id(n) in self.rows or id(n) in self.ready

    def load(self, leaf: Node, start: int, idx: tuple[Index, ...], n: Node, mask: "lo.Value | None") -> lo.Value:
        """An element of `n`, a view of `leaf` whose first element is number `start` there."""
        e = ix.unmask(ix.recombined(ix.flatten(through(n, leaf, idx), leaf.shape))) + -start
        reach = min(max(e.bounds[1] + 1, 0), leaf.size - start)  # behind a mask, bounds may lie outside
        buffer = self.argument(leaf, "in", start, reach)
        value = lo.Load(buffer.type, buffer, e, mask)
        return self.place(value, max(self.depth_of_index(e), self.value_depth(mask)))

    def argument(self, n: Node, role: str, offset: int, size: int) -> lo.Buffer:
        """The kernel's buffer for the array of `n` from `offset` on, of which `size` elements at least are reached."""
        place = (id(n), role, offset)
        found = self.buffers.get(place)
        if found is None:
            name = f"b{len(self.buffers)}"
            found = lo.Buffer(scalar_type(n.dtype), size, role, name), Argument(n, offset)
            self.buffers[place] = found
        found[0].size = max(found[0].size, size)
        return found[0]

    def constant(self, n: Node) -> lo.Value:
        if isinstance(n.arg, Parameter):
            param = self.params.get(n.arg)
            if param is None:
                param = self.params[n.arg] = lo.Param(scalar_type(n.dtype), f"p{len(self.params)}")
            return param
        return self.place(lo.Const(scalar_type(n.dtype), n.arg), 0)

    def in_range(self, conditions: Sequence[tuple[Index, int, int, int]], mask: "lo.Value | None") -> "lo.Value | None":
        """`mask` and every lo <= index < hi, index % step == 0 that the bounds do not prove."""
        for e, low, high, step in conditions:
            a, b = e.bounds
            if a >= low and b < high and step == 1:
                continue
            e = ix.unmask(e)
            test = lo.InRange(B1, e, low, high, step)
            test = self.shared(test, (_TEST, e, low, high, step), self.depth_of_index(e))
            if mask is None:
                mask = test
            else:
                both = lo.Apply("and", B1, (mask, test))
                mask = self.shared(both, (_TEST, mask, test), self.value_depth(mask, test))
        return mask

    def shared(self, value: Any, key: Any, depth: int) -> Any:
        """`value` placed once for equal keys."""
        found = self.memo.get(key)
        if found is None:
            found = self.memo[key] = self.place(value, depth)
            self.scopes[depth].keys.append(key)
        return found

    def cast(self, value: lo.Value, type: Type) -> lo.Value:
        """`value` as `type`."""
        if value.type is type:
            return value
        return self.place(lo.Apply("cast", type, (value,)), self.value_depth(value))

    def select(self, mask: "lo.Value | None", inner: "lo.Value | None", x: lo.Value) -> lo.Value:
        """`x` where `inner`, else 0; nothing to do for a load under that mask or if `inner` is just `mask`."""
        if inner is mask or inner is None or (isinstance(x, lo.Load) and x.mask is inner):
            return x
        zero = self.place(lo.Const(x.type, False if x.type is B1 else 0), 0)
        chosen = lo.Apply("where", x.type, (inner, x, zero))
        return self.place(chosen, self.value_depth(inner, x))

    def checked(self, n: Node, value: lo.Value, size: int, mask: "lo.Value | None") -> Datum:
        """The value as an index in [0, size), which the kernel checks; `n` is the node whose line an error names."""
        if n not in self.checks:
            self.checks.append(n)
        value = self.cast(value, I64)  # a large u64 wraps to a negative index, which is out of range too
        check = lo.Check(I64, value, size, self.checks.index(n) + 1, mask)
        self.place(check, self.value_depth(value, mask))
        return Datum(check, size)

    def reduce(self, n: Node, idx: tuple[Index, ...], mask: "lo.Value | None") -> Walk:
        at = max(map(self.depth_of_index, idx), default=0)
        if self.value_depth(mask) > at and all(_exists(e, size) for e, size in zip(idx, n.shape, strict=True)):
            return (yield n, idx, None)  # it is the same for all that the mask tells apart: computed once
        parts = self.partial.get(id(n))
        if parts is not None:
            return (yield from self.parts(n, parts, idx))
        a = n.src[0]
        axes = [i for i in n.arg if a.shape[i] > 1]
        last = max((i for i, size in enumerate(a.shape) if size > 1), default=-1)
        trailing = [i for i in axes if all(j in axes or a.shape[j] == 1 for j in range(i, last + 1))]
        inner = list(idx)
        variables = []
        for i in axes:
            if i not in trailing:
                variables.append(self.var(a.shape[i], "r"))
                inner[i] = ix.of(variables[-1])
        if trailing:  # a row: adjacent reduced axes at the end run as one
            sizes = tuple(a.shape[i] for i in trailing)
            variables.append(self.var(math.prod(sizes), "r"))
            for i, e in zip(trailing, ix.unflatten(ix.of(variables[-1]), sizes)):
                inner[i] = e
        if not variables:
            return (yield a, idx, mask)
        depth = max(self.value_depth(mask), at)
        scope = self.open(*variables)
        added = []
        for s in operands(n):
            added.append((yield s, tuple(inner), mask))
        self.close()
        type = scalar_type(n.dtype)
        reduce = lo.Reduce(
            tuple(variables),
            scope.body,
            (lo.Accumulator(reduce_kind(n.op), type, *added),),
            "row" if trailing else "column",
        )
        self.place(reduce, depth)
        return self.place(lo.Result(type, reduce, 0), depth)

    def parts(self, n: Node, parts: Node, idx: tuple[Index, ...]) -> Walk:
        """A column reduction, from what it comes to for each block of rows."""
        r = self.var(parts.shape[0], "r")
        depth = max(self.depth_of_index(e) for e in idx)
        scope = self.open(r)
        columns = [e for i, e in enumerate(idx) if i not in n.arg]
        value = yield parts, (ix.of(r), ix.ZERO, *columns), None
        self.close()
        type = scalar_type(n.dtype)
        reduce = lo.Reduce((r,), scope.body, (lo.Accumulator(reduce_kind(n.op), type, value),), "subtrees")
        self.place(reduce, depth)
        return self.place(lo.Result(type, reduce, 0), depth)


def _exists(e: Index, size: int) -> bool:
    """Whether an axis of this size has an element at `e`, whatever masks say."""
    low, high = ix.unmask(e).bounds
    return low >= 0 and high < size
