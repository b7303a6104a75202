"""Code that asserts every index: an element outside its buffer is not touched, the kernel says which buffer and ends.

For targets that are `checked`. The index is computed once more, as a number of its own, and held against the buffer's
size; what interval bounds have proved is not believed. A status of -k is an index outside of buffer k (counted from 1;
scratch buffers after the kernel's own, then those of the emitter).
"""

from __future__ import annotations

from . import address
from .builder import PTR, Val, const, ty
from .frame import Frame
from .index import Index
from .loops import Buffer


def inside(f: Frame, buffer: Buffer, e: Index, guard: Val | None) -> None:
    """Ends the kernel unless ``buffer[e]`` exists in every lane that `guard` (None: all) lets through."""
    if not f.target.checked:
        return
    b = f.b
    if f.vector is not None and address.varies(f, e):
        index = address.vector(f, e, ty("i", 64, f.lanes))
    else:
        index = address.scalar(f, e)
    bad = b.icmp("uge", index, const(index.ty, max(buffer.size, 0)))
    if guard is not None:
        bad = b.binary("and", *f.agree(bad, guard))
    buffers = [*f.kernel.buffers, *f.kernel.scratch]
    number = buffers.index(buffer) if buffer in buffers else len(buffers)
    fail, fine = b.fresh_label("outside"), b.fresh_label("inside")
    b.rare_branch(b.any(bad), fail, fine)
    b.label(fail)
    b.store(const(ty("i", 32), -1 - number), Val("%status", PTR), 4)
    b.ret()
    b.label(fine)
