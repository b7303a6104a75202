"""Kernels that go through memory once from end to end, element by element: those that can be composed."""

from __future__ import annotations

from functools import lru_cache

from .analysis import is_leaf, statements
from .generic import generic
from .index import of, unmask
from .loops import Buffer, Check, Contract, Kernel, Load, Loop, Reduce, Store, Update
from .parts import parts
from .ranges import range_of
from .split import prepare
from .text import canonical
from .vectorize import share


def body(kernel: Kernel) -> str | None:
    """The text of what a kernel does for each turn of its outer loop, whatever the extent of that; None if the code
    depends on it, or on more than the arrays it is given."""
    if kernel.scratch or any(isinstance(s, (Check, Contract)) for s in statements(kernel.body)):
        return None
    shared = generic(kernel, 1)
    looped = not all(is_leaf(s) for s in kernel.body)
    return None if shared is kernel and looped else canonical(shared)


@lru_cache(256)
def in_place(kernel: Kernel) -> list[tuple[int, int]]:
    """Pairs of a buffer that is read and one that is written that may be the same memory.

    They have as many elements of the same size, and each turn of the loops reads no element but the one that it writes,
    and before that. What stands beside loops is done again by every range of them, so it must find what it reads
    unchanged.
    """
    accesses: dict[Buffer, list[tuple[int, int, Load | Store]]] = {}
    beside = not all(is_leaf(s) for s in kernel.body)
    bodies = [kernel.body]
    for scope in bodies:
        for at, s in enumerate(scope):
            if isinstance(s, (Loop, Reduce)):
                bodies.append(s.body)
            for x in (s,) if is_leaf(s) else statements([s]) if isinstance(s, Contract) else ():
                if isinstance(x, (Load, Store)):
                    accesses.setdefault(x.buffer, []).append((id(scope) if x is s else id(x), at, x))
    number = {b: i for i, b in enumerate(kernel.buffers)}
    out = []
    for b, stores in accesses.items():
        if b.role != "out" or len(stores) > 1:
            continue
        ((scope_id, last, store),) = stores
        if beside and scope_id == id(kernel.body):
            continue
        for a, loads in accesses.items():
            alike = a.role == "in" and (a.size, a.type.bytes) == (b.size, b.type.bytes)
            if alike and all(i == scope_id and at < last and unmask(s.index) == store.index for i, at, s in loads):
                out.append((number[a], number[b]))
    return out


def streamed(kernel: Kernel) -> tuple[int, tuple[bool, ...]] | None:
    """The extent of the one loop of an elementwise kernel, and for each buffer whether turn i touches its element i
    only; None for other kernels."""
    shared = generic(kernel, 1)
    if shared is kernel or kernel.scratch:
        return None
    loop, whole = range_of(shared), range_of(prepare(kernel))
    assert isinstance(loop, Loop) and isinstance(whole, Loop)
    if not all(is_leaf(s) and not isinstance(s, (Check, Update)) for s in loop.body):
        return None
    places: dict[Buffer, bool] = {}
    for s in statements(shared.body):
        if isinstance(s, (Load, Store)):
            places[s.buffer] = places.get(s.buffer, True) and unmask(s.index) == of(loop.var)
    return whole.var.extent, tuple(places.get(b, False) for b in shared.buffers)


def walked(kernel: Kernel) -> tuple[int, list[int]] | None:
    """The turns of the one loop of a kernel that needs no memory of its own, and the numbers of the arrays of which it
    reads an equal share in each turn, in order; None for other kernels."""
    if kernel.scratch or kernel.partials or len(parts(kernel)) > 1:
        return None
    prepared = prepare(kernel)
    loop = range_of(prepared)
    if not isinstance(loop, Loop) or not all(s is loop or is_leaf(s) for s in prepared.body):
        return None
    shares: dict[Buffer, bool] = {}
    for s in statements(prepared.body):
        if isinstance(s, Contract):
            return None
        if isinstance(s, Load):
            all_of_it = share(s.index, loop.var) * loop.var.extent == s.buffer.size
            shares[s.buffer] = shares.get(s.buffer, True) and all_of_it
    return loop.var.extent, [i for i, b in enumerate(kernel.buffers) if shares.get(b, False)]
