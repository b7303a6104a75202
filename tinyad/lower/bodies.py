"""What kernels of every form share: where their loops are, their passes, their stores."""

from __future__ import annotations

import math
from collections.abc import Sequence

from codegen import index as ix
from codegen import loops as lo
from codegen.index import Index, Var

from ..schedule.group import Group
from ..schedule.position import Position, current
from .walk import Lowering


def index_at(group: Group, along: Sequence[Index], position: Position) -> tuple[Index, ...]:
    """The index tuple of an array at `position`, when the group's loops are at `along`."""
    of_loop = dict(zip(group.loops, along, strict=True))
    axes = [[(of_loop[loop], loop.extent) for loop in axis] for axis in current(position)]
    return tuple([ix.recombined(ix.flatten([e for e, _ in axis], [size for _, size in axis])) for axis in axes])


def store_sinks(state: Lowering, group: Group, along: Sequence[Index]) -> None:
    """Evaluates every sink at its place in the loops and stores it there."""
    for sink in group.sinks:
        n, target = sink.node, sink.target
        into = target.into
        if sink.position is None or (into is n and id(n) in state.ready):
            continue
        idx = index_at(group, along, sink.position)
        value = state.value(n, idx)
        if id(into) in state.tiles:
            buffer, at = state.home(into, idx)
        else:
            reach = sum((size - 1) * math.prod(into.shape[i + 1 :]) for i, size in enumerate(n.shape)) + 1
            buffer = state.argument(into, "out", target.start, reach)
            at = ix.flatten(idx, into.shape)
        depth = max(state.depth_of_index(at), state.value_depth(value))
        state.scopes[depth].body.append(lo.Store(buffer, at, value))


def close_loops(state: Lowering, variables: Sequence[Var], carries: tuple[lo.Carry, ...] = ()) -> None:
    """Closes the open bodies of `variables` into loops; the innermost has the carries."""
    for v in reversed(variables):
        scope = state.close()
        state.scopes[-1].body.append(lo.Loop(v, scope.body, carries if v is variables[-1] else ()))


def run_passes(state: Lowering, group: Group, along: Sequence[Index]) -> None:
    """Computes the reductions inside, each where its loops end; what a pass stores is there for the next."""
    for n, position in reversed(group.passes):
        idx = index_at(group, along, position)
        state.value(n, idx)
        state.scratch.update(state.filling)
        state.filling.clear()
