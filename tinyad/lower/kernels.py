"""A group of the partition as one kernel of loop IR: its loops, its passes, its stores."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from codegen import index as ix
from codegen import loops as lo
from codegen.index import Index, Var
from codegen.scalar import F16, F32, Type

from ..canonical import identity as identity_of
from ..canonical import reduce_kind
from ..ir import Node, Op
from ..schedule.group import Group, block
from ..schedule.partition import Partition
from ..schedule.position import Position, current
from ..schedule.tails import columns_of
from .movement import scalar_type
from .walk import Lowered, Lowering


def lower(group: Group, partition: Partition) -> Lowered:
    """The kernel that computes every sink of `group`."""
    state = Lowering(partition)
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
    return tuple([ix.recombined(ix.flatten([e for e, _ in axis], [size for _, size in axis])) for axis in axes])


def _store_sinks(state: Lowering, group: Group, along: Sequence[Index]) -> None:
    """Evaluates every sink at its place in the loops and stores it there."""
    for sink in group.sinks:
        n, target = sink.node, sink.target
        if sink.position is None:
            continue
        idx = _index_at(group, along, sink.position)
        value = state.value(n, idx)
        into = target.into
        reach = sum((size - 1) * math.prod(into.shape[i + 1 :]) for i, size in enumerate(n.shape)) + 1
        buffer = state.argument(into, "out", target.start, reach)
        at = ix.flatten(idx, into.shape)
        depth = max(state.depth_of_index(at), state.value_depth(value))
        state.scopes[depth].body.append(lo.Store(buffer, at, value))


def _nest(state: Lowering, variables: Sequence[Var], carries: tuple[lo.Carry, ...] = ()) -> None:
    """Closes the open bodies of `variables` into loops; the innermost has the carries."""
    for v in reversed(variables):
        scope = state.close()
        state.scopes[-1].body.append(lo.Loop(v, scope.body, carries if v is variables[-1] else ()))


def _run_passes(state: Lowering, group: Group, along: Sequence[Index]) -> None:
    """Computes the reductions inside, each where its loops end; what a pass stores is there for the next."""
    for n, position in reversed(group.passes):
        idx = _index_at(group, along, position)
        state.value(n, idx)
        state.scratch.update(state.filling)
        state.filling.clear()


def _map(state: Lowering, group: Group) -> None:
    """Loops over the elements; the reductions that are the same along inner loops run before these."""
    extents = group.domain
    if group.tails:
        _map_blocks(state, group, extents[: group.rows], columns_of(group.tails[0]))
        return
    variables = [state.var(size, "i") for size in extents]
    for v in variables:
        state.open(v)
    state.main = len(variables)
    along = list(map(ix.of, variables))
    _run_passes(state, group, along)
    _store_sinks(state, group, along)
    _nest(state, variables)


def _map_blocks(state: Lowering, group: Group, rows: Sequence[int], columns: Sequence[int]) -> None:
    """The same for blocks of rows; each element is added to the sums of its block as well."""
    at_block, in_block = state.var(math.prod(rows) // lo.BLOCK, "i"), state.var(lo.BLOCK, "i")
    state.open(at_block)
    for n in group.tails:
        sums = state.argument(n, "out", 0, n.size)
        each = state.var(math.prod(columns), "i")
        zero = -0.0 if n.op is Op.SUM and n.dtype.kind == "f" else identity_of(reduce_kind(n.op), n.dtype)
        fresh = state.place(lo.Const(sums.type, zero), 0)
        at = ix.of(at_block) * each.extent + ix.of(each)
        state.scopes[-1].body.append(lo.Loop(each, [lo.Store(sums, at, fresh)]))
    inner = [state.var(size, "i") for size in columns]
    for v in (in_block, *inner):
        state.open(v)
    state.main = 2 + len(inner)
    across = list(map(ix.of, inner))
    along = [*ix.unflatten(ix.of(at_block) * lo.BLOCK + ix.of(in_block), tuple(rows)), *across]
    own = along[: len(group.loops)]  # a group whose results are one for each row has no loops across
    _run_passes(state, group, own)
    _store_sinks(state, group, own)
    for n in group.tails:
        summed = n.src[0].src[0]  # below the RESHAPE into blocks
        places = iter(along)
        value = state.value(summed, tuple([next(places) if size > 1 else ix.ZERO for size in summed.shape]))
        at = ix.of(at_block) * math.prod(columns) + ix.flatten(across, tuple(columns))
        sums = state.argument(n, "out", 0, n.size)
        state.scopes[-1].body.append(lo.Update(reduce_kind(n.op), sums, at, value))
    _nest(state, (at_block, in_block, *inner))


def _accumulated(type: Type) -> Type:
    """The type of a running value: float32 for float16, which is rounded once at the end."""
    return F32 if type is F16 else type


def _scan(state: Lowering, group: Group, heavy: Node) -> None:
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


def _scatter(state: Lowering, n: Node) -> None:
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


def _contract(state: Lowering, group: Group, heavy: Node) -> None:
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


def _tiled(state: Lowering, group: Group, heavy: Node) -> None:
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
    state: Lowering, heavy: Node, idx: tuple[Index, ...], m: Sequence[Var], n: Sequence[Var]
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
