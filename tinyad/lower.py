"""A group of the partition as one kernel of loop IR: the only file that knows both worlds.

A kernel starts from its loop variables and walks towards the leaves, rewriting the index tuple through each movement;
what reaches a leaf is an index expression and a mask. Masks are facts: an index behind a mask is an atom bounded by its
axis. Every value is put at the outermost loop that has all it depends on, so what is the same for a whole row is
computed once a row. The walk is memoised on (node, index tuple, mask) and runs on a trampoline: any depth of graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from codegen import index as ix
from codegen import loops as lo
from codegen.index import Datum, Index, Var
from codegen.scalar import B1, F16, F32, I64, TYPES, Type

from .canonical import Parameter, reduce_kind
from .canonical import identity as identity_of
from .ir import ELEMENTWISE, REDUCE, SHORT, DType, Node, Op, Shape
from .schedule.partition import Group, Partition, block, squeezed
from .schedule.position import Position, current

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


def scalar_type(dtype: DType) -> Type:
    """The loop IR's type of a dtype."""
    return TYPES[SHORT[dtype]]


class _Scope:
    """A body under construction: its statements, and the memo entries that end with it."""

    __slots__ = ("body", "depth", "keys")

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.body: list[lo.Stmt] = []
        self.keys: list[Key] = []


class _Lowering:
    """The state of lowering one group."""

    def __init__(self, partition: Partition) -> None:
        self.stored = partition.stored
        self.contractions = partition.contractions
        self.rows = partition.scratch
        self.scratch: dict[tuple[int, tuple[Index, ...]], lo.Buffer] = {}  # rows that are complete
        self.filling: dict[tuple[int, tuple[Index, ...]], lo.Buffer] = {}  # rows that the open pass stores
        self.kept: list[lo.Buffer] = []
        self.heavy: Node | None = None
        self.tile: tuple[lo.Buffer, Index | None] | None = None  # rows of `heavy`, and where this turn's row begins
        self.main = 0  # depth of the main loops' innermost body
        self.own: set[int] = set()  # stored nodes that this kernel computes itself
        self.scopes = [_Scope(0)]
        self.depth_of: dict[Any, int] = {}  # of a Var or the id of a value
        self.memo: dict[Key, lo.Value] = {}
        self.buffers: dict[tuple[int, str, int], tuple[lo.Buffer, Argument]] = {}
        self.params: dict[Parameter, lo.Param] = {}
        self.checks: list[Node] = []
        self.given: dict[int, lo.Value] = {}  # the heavy node's value inside its own kernel
        self.names = 0

    # scopes and places ------------------------------------------------------------------------------------------
    def var(self, extent: int, prefix: str) -> Var:
        self.names += 1
        return Var(extent, f"{prefix}{self.names - 1}")

    def open(self, *variables: Var) -> _Scope:
        """Enters a deeper body, which `variables` belong to."""
        scope = _Scope(self.scopes[-1].depth + 1)
        self.scopes.append(scope)
        for v in variables:
            self.depth_of[v] = scope.depth
        return scope

    def close(self) -> _Scope:
        """Leaves the deepest body; what was computed in it is forgotten."""
        scope = self.scopes.pop()
        for key in scope.keys:
            self.memo.pop(key, None)
        return scope

    def depth_of_index(self, e: Index) -> int:
        depth = 0
        for v in e.variables():
            depth = max(depth, self.depth_of[v])
        for d in e.data():
            depth = max(depth, self.depth_of[id(d.value)])
        return depth

    def place(self, value: Any, depth: int) -> Any:
        """Puts a definition into the body of `depth`, which must be open."""
        self.scopes[depth].body.append(value)
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
        if self.tile is not None and n is self.heavy:
            return self.from_tile(n, idx)
        if n.op is Op.BUFFER or (id(n) in self.stored and id(n) not in self.own):
            return self.load(n, idx, mask)
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
            return self.place(value, self.value_depth(*args))  # type: ignore[no-any-return]
        if n.op in REDUCE:
            return (yield from self.reduce(n, idx, mask))
        return (yield from _WALK[n.op](self, n, idx, mask))

    def row(self, n: Node, idx: tuple[Index, ...], axes: tuple[int, ...]) -> Walk:
        """A value kept for a row: the first pass over the row computes and stores it, passes after that load it.

        It is kept in scratch memory, or in its own array if it is stored anyway.
        """
        key = id(n), tuple(ix.ZERO if i in axes else e for i, e in enumerate(idx))
        along = range(len(idx)) if id(n) in self.own else axes
        shape = [n.shape[i] for i in along]
        at = ix.unmask(recombined(ix.flatten([idx[i] for i in along], shape)))
        depth = self.depth_of_index(at)
        done = self.scratch.get(key)
        if done is not None:
            return self.place(lo.Load(done.type, done, at), depth)  # type: ignore[no-any-return]
        value = yield from self.compute(n, idx, None)
        if depth > self.main and key not in self.filling:
            if id(n) in self.own:
                buffer = self.argument(n, "out", 0, n.size)
            else:
                buffer = lo.Buffer(scalar_type(n.dtype), math.prod(shape), "scratch", f"row{len(self.kept)}")
                self.kept.append(buffer)
            self.filling[key] = buffer
            self.scopes[depth].body.append(lo.Store(buffer, at, value))
        return value

    def from_tile(self, n: Node, idx: tuple[Index, ...]) -> lo.Value:
        """An element of the block of rows of the kernel's contraction."""
        assert self.tile is not None
        tile, start = self.tile
        row = self.rows[id(n)]
        if start is None:
            at = ix.flatten(idx, n.shape)
        else:
            at = start + ix.flatten([idx[i] for i in row], [n.shape[i] for i in row])
        at = ix.unmask(recombined(at))
        return self.place(lo.Load(tile.type, tile, at), self.depth_of_index(at))  # type: ignore[no-any-return]

    def load(self, n: Node, idx: tuple[Index, ...], mask: "lo.Value | None") -> lo.Value:
        e = ix.unmask(recombined(ix.flatten(idx, n.shape)))
        buffer = self.argument(n, "in", 0, n.size)
        value = lo.Load(buffer.type, buffer, e, mask)
        return self.place(value, max(self.depth_of_index(e), self.value_depth(mask)))  # type: ignore[no-any-return]

    def argument(self, n: Node, role: str, offset: int, size: int) -> lo.Buffer:
        """The kernel's buffer for the array of `n` from `offset` on."""
        place = (id(n), role, offset)
        found = self.buffers.get(place)
        if found is None:
            name = f"b{len(self.buffers)}"
            found = lo.Buffer(scalar_type(n.dtype), size, role, name), Argument(n, offset)
            self.buffers[place] = found
        return found[0]

    def constant(self, n: Node) -> lo.Value:
        if isinstance(n.arg, Parameter):
            param = self.params.get(n.arg)
            if param is None:
                param = self.params[n.arg] = lo.Param(scalar_type(n.dtype), f"p{len(self.params)}")
            return param
        return self.place(lo.Const(scalar_type(n.dtype), n.arg), 0)  # type: ignore[no-any-return]

    def in_range(self, conditions: Sequence[tuple[Index, int, int, int]], mask: "lo.Value | None") -> "lo.Value | None":
        """`mask` and every lo <= index < hi, index % step == 0 that the bounds do not prove."""
        for e, low, high, step in conditions:
            a, b = e.bounds
            if a >= low and b < high and step == 1:
                continue
            e = ix.unmask(e)
            test = lo.InRange(B1, e, low, high, step)
            test = self.shared(test, (InRangeKey, e, low, high, step), self.depth_of_index(e))
            if mask is None:
                mask = test
            else:
                both = lo.Apply("and", B1, (mask, test))
                mask = self.shared(both, (InRangeKey, mask, test), self.value_depth(mask, test))
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
        return self.place(lo.Apply("cast", type, (value,)), self.value_depth(value))  # type: ignore[no-any-return]

    def select(self, mask: "lo.Value | None", inner: "lo.Value | None", x: lo.Value) -> lo.Value:
        """`x` where `inner`, else 0; nothing to do for a load under that mask or if `inner` is just `mask`."""
        if inner is mask or inner is None or (isinstance(x, lo.Load) and x.mask is inner):
            return x
        zero = self.place(lo.Const(x.type, False if x.type is B1 else 0), 0)
        chosen = lo.Apply("where", x.type, (inner, x, zero))
        return self.place(chosen, self.value_depth(inner, x))  # type: ignore[no-any-return]

    def checked(self, n: Node, value: lo.Value, size: int, mask: "lo.Value | None") -> Datum:
        """The value as an index in [0, size), which the kernel checks; `n` is the node whose line an error names."""
        if n not in self.checks:
            self.checks.append(n)
        value = self.cast(value, I64)  # a large u64 wraps to a negative index, which is out of range too
        check = lo.Check(I64, value, size, self.checks.index(n) + 1, mask)
        self.place(check, self.value_depth(value, mask))
        return Datum(check, size)

    def reduce(self, n: Node, idx: tuple[Index, ...], mask: "lo.Value | None") -> Walk:
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
        depth = max([self.value_depth(mask), *(self.depth_of_index(e) for e in idx)])
        scope = self.open(*variables)
        value = yield a, tuple(inner), mask
        self.close()
        type = scalar_type(n.dtype)
        reduce = lo.Reduce(
            tuple(variables),
            scope.body,
            (lo.Accumulator(reduce_kind(n.op), type, value),),
            "row" if trailing else "column",
        )
        self.place(reduce, depth)
        return self.place(lo.Result(type, reduce, 0), depth)  # type: ignore[no-any-return]


InRangeKey: Final = "in range"


def recombined(e: Index) -> Index:
    """``(x // n)·n·c + (x % n)·c -> x·c``, wherever it holds."""
    again = True
    while again:
        again = False
        for atom, coef in e.terms.items():
            if isinstance(atom, ix.Mod):
                whole = ix.Div(atom.index, atom.n, (0, 0))
                if e.terms.get(whole) == coef * atom.n:
                    terms = {t: c for t, c in e.terms.items() if t != whole and t is not atom}
                    e = Index(terms, e.const) + atom.index * coef
                    again = True
                    break
    return e


# movement: how an index tuple passes through ------------------------------------------------------------------------
def _iota(self: _Lowering, n: Node, idx: tuple[Index, ...], _mask: "lo.Value | None") -> Walk:
    e = ix.unmask(idx[0])
    return self.place(lo.IndexValue(scalar_type(n.dtype), e), self.depth_of_index(e))  # type: ignore[no-any-return]
    yield


def _const(self: _Lowering, n: Node, _idx: tuple[Index, ...], _mask: "lo.Value | None") -> Walk:
    return self.constant(n)
    yield


def _same(_: _Lowering, n: Node, idx: tuple[Index, ...], mask: "lo.Value | None") -> Walk:
    return (yield n.src[0], idx, mask)


def _reshape(_: _Lowering, n: Node, idx: tuple[Index, ...], mask: "lo.Value | None") -> Walk:
    old = n.src[0].shape
    if squeezed(old) == squeezed(n.shape):
        kept = iter([e for e, m in zip(idx, n.shape) if m != 1])
        return (yield n.src[0], tuple(ix.ZERO if m == 1 else next(kept) for m in old), mask)
    return (yield n.src[0], regroup(idx, n.shape, old), mask)


def regroup(idx: tuple[Index, ...], new: Shape, old: Shape) -> tuple[Index, ...]:
    """The index into `old` of what stands at `idx` in `new`, over the shortest runs of axes that match in size."""
    out: list[Index] = []
    i = j = 0
    while i < len(new) or j < len(old):
        a, b = i, j
        left = new[i] if i < len(new) else 1
        right = old[j] if j < len(old) else 1
        i += i < len(new)
        j += j < len(old)
        while left != right:
            if left < right:
                left *= new[i]
                i += 1
            else:
                right *= old[j]
                j += 1
        position = recombined(ix.flatten(idx[a:i], new[a:i]))
        out += ix.unflatten(position, old[b:j])
    return tuple(out)


def _permute(_: _Lowering, n: Node, idx: tuple[Index, ...], mask: "lo.Value | None") -> Walk:
    inner: list[Index] = [ix.ZERO] * len(idx)
    for i, axis in enumerate(n.arg):
        inner[axis] = idx[i]
    return (yield n.src[0], tuple(inner), mask)


def _expand(_: _Lowering, n: Node, idx: tuple[Index, ...], mask: "lo.Value | None") -> Walk:
    return (yield n.src[0], tuple(ix.ZERO if m == 1 else e for e, m in zip(idx, n.src[0].shape)), mask)


def _pad(self: _Lowering, n: Node, idx: tuple[Index, ...], mask: "lo.Value | None") -> Walk:
    inner: list[Index] = []
    conditions = []
    for e, (low, _, interior), size in zip(idx, n.arg, n.src[0].shape):
        e = e + -low
        step = interior + 1
        conditions.append((e, 0, (size - 1) * step + 1, step if size > 1 else 1))
        inner.append(ix.masked(ix.floordiv(e, step) if size > 1 else e, size))
    here = self.in_range(conditions, mask)
    x = yield n.src[0], tuple(inner), here
    return self.select(mask, here, x)


def _skew(self: _Lowering, n: Node, idx: tuple[Index, ...], mask: "lo.Value | None") -> Walk:
    i, k, d, off, _ = n.arg
    size = n.src[0].shape[i]
    e = idx[i] + idx[k] * d + off
    here = self.in_range([(e, 0, size, 1)], mask)
    x = yield n.src[0], (*idx[:i], ix.masked(e, size), *idx[i + 1 :]), here
    return self.select(mask, here, x)


def _shrink(_: _Lowering, n: Node, idx: tuple[Index, ...], mask: "lo.Value | None") -> Walk:
    return (yield n.src[0], tuple(e * step + start for e, (start, _, step) in zip(idx, n.arg)), mask)


def _scatter_row(self: _Lowering, n: Node, idx: tuple[Index, ...], mask: "lo.Value | None") -> Walk:
    """One element of each row along the axis is the update, the others are the identity."""
    kind, axis, size = n.arg
    row = (*idx[:axis], ix.ZERO, *idx[axis + 1 :])
    position = self.checked(n, (yield n.src[1], row, mask), size, mask).value
    g = yield n.src[0], row, mask
    empty = self.place(lo.Const(g.type, identity_of(kind, n.dtype)), 0)
    if kind in ("sum", "max", "min"):
        op = "add" if kind == "sum" else kind
        g = self.place(lo.Apply(op, g.type, (empty, g)), self.value_depth(g))
    here = self.place(lo.IndexValue(I64, ix.unmask(idx[axis])), self.depth_of_index(idx[axis]))
    chosen = self.place(lo.Apply("eq", B1, (here, position)), self.value_depth(here, position))
    return self.place(  # type: ignore[no-any-return]
        lo.Apply("where", g.type, (chosen, g, empty)), self.value_depth(chosen, g)
    )


def _flip(_: _Lowering, n: Node, idx: tuple[Index, ...], mask: "lo.Value | None") -> Walk:
    inner = tuple(e * -1 + (size - 1) if i in n.arg else e for i, (e, size) in enumerate(zip(idx, n.shape)))
    return (yield n.src[0], inner, mask)


def _gather(self: _Lowering, n: Node, idx: tuple[Index, ...], mask: "lo.Value | None") -> Walk:
    position = yield n.src[1], idx, mask
    datum = self.checked(n, position, n.src[0].shape[n.arg], mask)
    return (yield n.src[0], (*idx[: n.arg], ix.of(datum), *idx[n.arg + 1 :]), mask)


_WALK: Final[dict[Op, Callable[[_Lowering, Node, tuple[Index, ...], "lo.Value | None"], Walk]]] = {
    Op.IOTA: _iota, Op.CONST: _const, Op.FENCE: _same, Op.RESHAPE: _reshape, Op.PERMUTE: _permute,
    Op.EXPAND: _expand, Op.PAD: _pad, Op.SKEW: _skew, Op.SHRINK: _shrink, Op.FLIP: _flip, Op.GATHER: _gather,
    Op.SCATTER: _scatter_row,
}  # fmt: skip


# kernels ------------------------------------------------------------------------------------------------------------
def lower(group: Group, partition: Partition) -> Lowered:
    """The kernel that computes every sink of `group`."""
    state = _Lowering(partition)
    state.own = {id(s.node) for s in group.sinks if s.target.into is s.node}
    heavy = state.heavy = group.heavy
    if heavy is not None and heavy.op is Op.SCATTER:
        _scatter(state, heavy)
    elif heavy is not None and heavy.op is Op.SCAN:
        _scan(state, group, heavy)
    elif heavy is not None and id(heavy) in partition.scratch:
        _tiled(state, group, heavy)
    elif heavy is not None:
        _contract(state, group, heavy)
    else:
        _map(state, group)
    buffers = [pair[0] for pair in state.buffers.values()]
    params = tuple(state.params.values())
    kernel = lo.Kernel(_name(group), tuple(buffers), params, state.scopes[0].body, tuple(state.kept))
    return Lowered(kernel, [pair[1] for pair in state.buffers.values()], list(state.params), state.checks)


def _name(group: Group) -> str:
    kind = "reduce" if group.passes else "map"
    if group.heavy is not None:
        kind = "contract" if group.heavy.op is Op.SUM else group.heavy.op.value
    return "_".join([kind, *map(str, group.domain)])


def _index_at(group: Group, along: Sequence[Index], position: Position) -> tuple[Index, ...]:
    """The index tuple of an array at `position`, when the group's loops are at `along`."""
    of_loop = dict(zip(group.loops, along, strict=True))
    axes = [[(of_loop[loop], loop.extent) for loop in axis] for axis in current(position)]
    return tuple([recombined(ix.flatten([e for e, _ in axis], [size for _, size in axis])) for axis in axes])


def _store_sinks(state: _Lowering, group: Group, along: Sequence[Index]) -> None:
    """Evaluates every sink at its place in the loops and stores it there."""
    for sink in group.sinks:
        n, target = sink.node, sink.target
        if sink.position is None:
            continue
        idx = _index_at(group, along, sink.position)
        value = state.value(n, idx)
        into = target.into
        stride = math.prod(into.shape[target.axis + 1 :]) if into is not n else 0
        reach = sum((size - 1) * math.prod(into.shape[i + 1 :]) for i, size in enumerate(n.shape)) + 1
        buffer = state.argument(into, "out", target.offset * stride, reach)
        at = ix.flatten(idx, into.shape)
        depth = max([state.depth_of[v] for v in at.variables()], default=0) if group.heavy is None else -1
        state.scopes[depth].body.append(lo.Store(buffer, at, value))


def _nest(state: _Lowering, variables: Sequence[Var], carries: tuple[lo.Carry, ...] = ()) -> None:
    """Closes the open bodies of `variables` into loops; the innermost has the carries."""
    for v in reversed(variables):
        scope = state.close()
        state.scopes[-1].body.append(lo.Loop(v, scope.body, carries if v is variables[-1] else ()))


def _run_passes(state: _Lowering, group: Group, along: Sequence[Index]) -> None:
    """Computes the reductions inside, each where its loops end; what a pass stores is there for the next."""
    for n, position in reversed(group.passes):
        idx = _index_at(group, along, position)
        state.value(n, idx)
        state.scratch.update(state.filling)
        state.filling.clear()


def _map(state: _Lowering, group: Group) -> None:
    """Loops over the elements; the reductions that are the same along inner loops run before these."""
    variables = [state.var(size, "i") for size in group.domain]
    for v in variables:
        state.open(v)
    state.main = len(variables)
    along = list(map(ix.of, variables))
    _run_passes(state, group, along)
    _store_sinks(state, group, along)
    _nest(state, variables)


def _accumulated(type: Type) -> Type:
    """The type of a running value: float32 for float16, which is rounded once at the end."""
    return F32 if type is F16 else type


def _scan(state: _Lowering, group: Group, heavy: Node) -> None:
    """Loops over the other axes, the scanned axis innermost, the running value carried along."""
    kind, axis = heavy.arg
    sizes = group.domain
    position = current(group.position)
    parts = {loop: i for i, loop in enumerate(position[axis])}  # a reshape may have cut the axis: it is one loop here
    scanned = state.var(heavy.shape[axis], "i")
    rest = [state.var(size, "i") for loop, size in zip(group.loops, sizes) if loop not in parts]
    places = ix.unflatten(ix.of(scanned), tuple(loop.extent for loop in parts))
    others = iter(rest)
    along = [places[parts[loop]] if loop in parts else ix.of(next(others)) for loop in group.loops]
    order = [*rest, scanned]
    for v in order:
        state.open(v)
    type = scalar_type(heavy.dtype)
    carry = lo.Carry(kind, _accumulated(type))
    idx = _index_at(group, along, position)
    args = tuple(state.cast(state.value(s, idx), carry.type) for s in heavy.src)
    advance = state.place(lo.Advance(carry.type, carry, args), len(state.scopes) - 1)
    state.given[id(heavy)] = state.cast(advance, type)
    _store_sinks(state, group, along)
    _nest(state, order, (carry,))


def _scatter(state: _Lowering, n: Node) -> None:
    """Fills the result with the identity, then goes through the updates in order."""
    kind, axis, size = n.arg
    g, positions = n.src
    result = out = state.argument(n, "out", 0, n.size)
    if kind == "sum" and out.type is F16:
        out = lo.Buffer(_accumulated(out.type), n.size, "scratch", "sums")
        state.kept.append(out)
    fill = state.var(n.size, "i")
    zero = state.place(lo.Const(out.type, identity_of(kind, n.dtype)), 0)
    state.scopes[0].body.append(lo.Loop(fill, [lo.Store(out, ix.of(fill), zero)]))
    axes = [state.var(m, "i") for m in g.shape]
    variables = [v for v in axes if v.extent > 1]
    for v in variables:
        state.open(v)
    idx = tuple(map(ix.of, axes))
    value = state.value(g, idx)
    datum = state.checked(n, state.value(positions, idx), size, None)
    at = ix.flatten((*idx[:axis], ix.of(datum), *idx[axis + 1 :]), n.shape)
    state.scopes[-1].body.append(lo.Update(kind, out, at, state.cast(value, out.type)))
    _nest(state, variables)
    if out is not result:
        v = state.var(n.size, "i")
        state.open(v)
        total = state.place(lo.Load(out.type, out, ix.of(v)), 1)
        state.scopes[-1].body.append(lo.Store(result, ix.of(v), state.cast(total, result.type)))
        _nest(state, [v])


def _contract(state: _Lowering, group: Group, heavy: Node) -> None:
    """Batch loops around one `contract` statement whose epilogue computes the sinks."""
    c = state.contractions[id(heavy)]
    variables = [state.var(size, "i") for size in group.domain]
    along = list(map(ix.of, variables))
    position = current(group.position)
    of_loop = dict(zip(group.loops, variables, strict=True))
    m, n, batch = ([of_loop[loop] for axis in axes for loop in position[axis]] for axes in (c.m, c.n, c.batch))
    for v in batch:
        state.open(v)
    with _contraction(state, heavy, _index_at(group, along, position), m, n) as acc:
        state.given[id(heavy)] = acc
        _store_sinks(state, group, along)
    _nest(state, batch)


def _tiled(state: _Lowering, group: Group, heavy: Node) -> None:
    """Blocks of rows of a contraction, each followed by the passes over its rows while these are in cache."""
    c = state.contractions[id(heavy)]
    row = state.rows[id(heavy)]
    sizes = [heavy.shape[i] for i in row]
    width = math.prod(sizes)
    position = current(group.position)
    depth = sum(len(axis) for i, axis in enumerate(position) if i not in row)
    extents = group.domain
    outer = [state.var(size, "i") for size in extents[: depth - 1]]
    turns = extents[depth - 1]
    rows = block(turns, width * heavy.dtype.itemsize)
    at_block, in_block, in_tile = state.var(turns // rows, "i"), state.var(rows, "i"), state.var(rows, "i")
    columns = [state.var(size, "i") for size in sizes]
    start = ix.of(at_block) * rows
    for v in (*outer, at_block):
        state.open(v)
    place = dict(zip(group.loops, [*map(ix.of, outer), start + ix.of(in_tile)]))
    idx = [ix.flatten([place[v] for v in axis], [v.extent for v in axis]) if i not in row else ix.ZERO
           for i, axis in enumerate(position)]  # fmt: skip
    for i, v in zip(row, columns):
        idx[i] = ix.of(v)
    own = id(heavy) in state.own
    if own:
        tile = state.argument(heavy, "out", 0, heavy.size)
        at = ix.flatten(idx, heavy.shape)
    else:
        tile = lo.Buffer(scalar_type(heavy.dtype), rows * width, "scratch", f"row{len(state.kept)}")
        state.kept.append(tile)
        at = ix.of(in_tile) * width + ix.flatten(map(ix.of, columns), sizes)
    m, n = (columns, [in_tile]) if row == c.m else ([in_tile], columns)
    with _contraction(state, heavy, tuple(idx), m, n) as acc:
        state.scopes[-1].body.append(lo.Store(tile, at, acc))
    inner = [state.var(size, "i") for size in extents[depth:]]
    for v in (in_block, *inner):
        state.open(v)
    state.main = len(state.scopes) - 1
    state.tile = tile, None if own else ix.of(in_block) * width
    along = [*map(ix.of, outer), start + ix.of(in_block), *map(ix.of, inner)]
    _run_passes(state, group, along)
    _store_sinks(state, group, along)
    _nest(state, (*outer, at_block, in_block, *inner))


@contextmanager
def _contraction(
    state: _Lowering, heavy: Node, idx: tuple[Index, ...], m: Sequence[Var], n: Sequence[Var]
) -> Iterator[lo.Acc]:
    """Puts a `contract` of `heavy` at `idx` over m and n into the open body; inside is its epilogue."""
    c = state.contractions[id(heavy)]
    k = {axis: state.var(c.product.shape[axis], "k") for axis in c.k}
    full = tuple([ix.of(k[i]) if i in k else e for i, e in enumerate(idx)])
    bodies = []
    for free, factor in zip((m, n), c.product.src):
        state.open(*free, *k.values())
        value = state.value(factor, full)
        bodies.append((state.close().body, value))
    state.open(*m, *n)
    acc = lo.Acc(scalar_type(heavy.dtype))
    state.depth_of[id(acc)] = len(state.scopes) - 1
    yield acc
    epilogue = state.close().body
    (a_body, a), (b_body, b) = bodies
    state.scopes[-1].body.append(
        lo.Contract(tuple(m), tuple(n), tuple(k.values()), a_body, a, b_body, b, acc, epilogue)
    )
