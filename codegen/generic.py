"""Kernels that differ only in how far the outer loop goes, as one: the range is handed over at each call anyway.

A new batch size or another parameter of the same rank then needs no new code. The outer loop's extent is replaced by
`EXTENT`, which stands for any size: not a multiple of any vector, so that code for the tail is there.
"""

from __future__ import annotations

from functools import lru_cache

from .analysis import indices, statements
from .clone import Clone
from .index import Var, of
from .loops import Buffer, InRange, Kernel, Loop
from .parts import parts
from .ranges import range_of
from .split import prepare
from .vectorize import hidden

EXTENT = (1 << 30) + 1
LEAST = 64  # shorter loops have code of their own: fewer lanes, no tail


@lru_cache(64)
def generic(kernel: Kernel, least: int = LEAST) -> Kernel:
    """`kernel` for any extent of its outer loop; as it is if its code depends on that, or the extent is below `least`.

    It does if the loop's variable stands inside a division, a modulus or a test, whose bounds decide what is emitted.
    """
    if len(parts(kernel)) > 1:
        return kernel
    prepared = prepare(kernel)
    loop = range_of(prepared)
    if not isinstance(loop, Loop) or loop not in prepared.body or not least <= loop.var.extent < EXTENT:
        return kernel
    for s in statements(loop.body):
        if any(hidden(e, loop.var) for e in indices(s)):
            return kernel
        if isinstance(s, InRange) and s.index.coefficient(loop.var):
            return kernel
    var = Var(EXTENT, loop.var.name)
    sizes = {b: Buffer(b.type, 0, b.role, b.name) for b in kernel.buffers}
    clone = Clone({loop.var: of(var)}, None, sizes)
    body = [Loop(var, clone.body(loop.body)) if s is loop else clone.statement(s) for s in prepared.body]
    buffers = tuple([sizes[b] for b in kernel.buffers])
    return Kernel(kernel.name, buffers, kernel.params, body, kernel.scratch, prepared=True)
