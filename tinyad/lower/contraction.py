"""A contraction as a statement of loop IR: its factors, what need not be computed, its epilogue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from codegen import index as ix
from codegen import loops as lo
from codegen.index import Index, Var

from ..ir import Node
from .domain import Readers, inequalities, zeros
from .movement import scalar_type
from .walk import Lowering


@contextmanager
def contraction(
    state: Lowering,
    heavy: Node,
    idx: tuple[Index, ...],
    m: Sequence[Var],
    n: Sequence[Var],
    inside: Mapping[int, tuple[Var | None, Index]] | None = None,
    part: lo.Part | None = None,
    readers: Readers | None = None,
) -> Iterator[lo.Acc]:
    """Puts a `contract` of `heavy` at `idx` over m and n into the open body; inside is its epilogue.

    `inside`: summed axes of which this is only a `part`: a variable (None: one turn) and where it stands. `readers`: of
    `heavy` there.
    """
    c = state.contractions[id(heavy)]
    fresh = {axis: state.var(c.product.shape[axis], "k") for axis in c.k if axis not in (inside or ())}
    k = {**{axis: (v, ix.of(v)) for axis, v in fresh.items()}, **(inside or {})}
    full = tuple([k[i][1] if i in k else e for i, e in enumerate(idx)])
    variables = tuple([v for axis in c.k if (v := k[axis][0]) is not None])
    main, state.main = state.main, len(state.scopes) + 1  # no value is kept row by row inside
    bodies = []
    for free, same, factor in zip((m, n), (c.n, c.m), c.product.src):
        state.open(*free, *variables)  # a factor may be an array that repeats itself along the other one's axes
        value = state.value(factor, tuple([ix.ZERO if i in same else e for i, e in enumerate(full)]))
        bodies.append((state.close().body, value))
    state.open(*m, *n, *variables)
    domain = inequalities(state, [found for factor in c.product.src for found in zeros(state, factor, full)])
    domain += [e for e in (readers.unused(heavy, idx) if readers else ()) if e not in domain]
    state.close()
    state.open(*m, *n)
    acc = lo.Acc(scalar_type(heavy.dtype))
    state.depth_of[id(acc)] = len(state.scopes) - 1
    yield acc
    epilogue = state.close().body
    state.main = main
    (a_body, a), (b_body, b) = bodies
    state.scopes[-1].body.append(
        lo.Contract(tuple(m), tuple(n), variables, a_body, a, b_body, b, acc, epilogue, "", tuple(domain), part)
    )
