"""Kernels that go through memory once from end to end, element by element: those that can be composed."""

from __future__ import annotations

from .analysis import is_leaf, statements
from .emit import outer_extent, outer_loop
from .generic import generic
from .index import of, unmask
from .loops import Buffer, Check, Contract, Kernel, Load, Store, Update
from .text import canonical


def body(kernel: Kernel) -> str | None:
    """The text of what a kernel does for each turn of its outer loop, whatever the extent of that; None if the code
    depends on it, or on more than the arrays it is given."""
    if kernel.scratch or any(isinstance(s, (Check, Contract)) for s in statements(kernel.body)):
        return None
    shared = generic(kernel, 1)
    looped = not all(is_leaf(s) for s in kernel.body)
    return None if shared is kernel and looped else canonical(shared)


def streamed(kernel: Kernel) -> tuple[int, tuple[bool, ...]] | None:
    """The extent of the one loop of an elementwise kernel, and for each buffer whether turn i touches its element i
    only; None for other kernels."""
    shared = generic(kernel, 1)
    if shared is kernel or kernel.scratch:
        return None
    loop = outer_loop(shared.body)
    assert loop is not None
    if not all(is_leaf(s) and not isinstance(s, (Check, Update)) for s in loop.body):
        return None
    places: dict[Buffer, bool] = {}
    for s in statements(shared.body):
        if isinstance(s, (Load, Store)):
            places[s.buffer] = places.get(s.buffer, True) and unmask(s.index) == of(loop.var)
    return outer_extent(kernel), tuple(places.get(b, False) for b in shared.buffers)
