"""A group of the partition as one kernel of loop IR: its loops, its passes, its stores."""

from __future__ import annotations

import math
from collections.abc import Sequence

from codegen import index as ix
from codegen import loops as lo
from codegen.scalar import F16, F32, Type

from ..canonical import identity as identity_of
from ..canonical import reduce_kind
from ..ir import Node, Op
from ..schedule.contraction import operands
from ..schedule.group import Group
from ..schedule.partition import Partition
from ..schedule.position import current
from ..schedule.tails import columns_of
from .blocks import nested
from .bodies import close_loops, index_at, run_passes, store_sinks
from .contraction import contraction
from .domain import Readers
from .movement import scalar_type
from .walk import Lowered, Lowering


def lower(group: Group, partition: Partition) -> Lowered:
    """The kernel that computes every sink of `group`."""
    state = Lowering(partition)
    state.own = {id(s.node) for s in group.sinks if s.target.into is s.node}
    heavy = group.heavy
    if heavy is not None and heavy.op is Op.SCATTER:
        _scatter(state, heavy)
    elif heavy is not None and heavy.op is Op.SCAN:
        _scan(state, group, heavy)
    elif group.nest is not None:
        nested(state, group.nest)
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
    extents = group.domain if group.nest is None else (*group.nest.outer, group.nest.rows)
    return "_".join([kind, *map(str, extents)])


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
    run_passes(state, group, along)
    store_sinks(state, group, along)
    close_loops(state, variables)


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
    run_passes(state, group, own)
    store_sinks(state, group, own)
    for n in group.tails:
        added = []
        for s in operands(n):
            summed = s.src[0]  # below the RESHAPE into blocks
            places = iter(along)
            added.append(state.value(summed, tuple([next(places) if size > 1 else ix.ZERO for size in summed.shape])))
        at = ix.of(at_block) * math.prod(columns) + ix.flatten(across, tuple(columns))
        sums = state.argument(n, "out", 0, n.size)
        state.scopes[-1].body.append(lo.Update(reduce_kind(n.op), sums, at, *added))
    close_loops(state, (at_block, in_block, *inner))


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
    idx = index_at(group, along, position)
    args = tuple(state.cast(state.value(s, idx), carry.type) for s in heavy.src)
    advance = state.place(lo.Advance(carry.type, carry, args), len(state.scopes) - 1)
    state.given[id(heavy)] = state.cast(advance, type)
    store_sinks(state, group, along)
    close_loops(state, order, (carry,))


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
    close_loops(state, variables)
    if out is not result:
        v = state.var(n.size, "i")
        state.open(v)
        total = state.place(lo.Load(out.type, out, ix.of(v)), 1)
        state.scopes[-1].body.append(lo.Store(result, ix.of(v), state.cast(total, result.type)))
        close_loops(state, [v])


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
    idx = index_at(group, along, position)
    with contraction(state, heavy, idx, m, n, readers=Readers(state, group, heavy)) as acc:
        state.given[id(heavy)] = acc
        store_sinks(state, group, along)
    close_loops(state, batch)
