"""Sums over the rows of a kernel that has the rows in cache.

A kernel that goes through rows of an array (a normalisation and its derivative) and one that sums the same rows up
(the gradients of its weights) read the array twice. Here the first kernel goes through blocks of `BLOCK` rows and adds
each row to the sums of its block, one for each column, which stay in the first cache: partial results in a small
array. The second kernel then only adds those up. The tree of a column sum is made of such blocks, so no bit changes.

Done after the partition: what the sums need of the rows besides is stored by then, and all that is left to see is
whether the two kernels go through the rows alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from codegen.loops import BLOCK

from .. import ir
from ..ir import FLOAT16, Node, Op
from .contraction import operands
from .group import Group, Use, reaches
from .position import Loop, Position, current, resolved

BLOCKS: Final = 8  # blocks of rows from which it pays
FAR: Final = 1 << 25  # bytes read from which a kernel that only reduces its rows goes over them once more for the sums
CACHE: Final = 1 << 20  # bytes of the arrays' rows in one block, which must still be in the second cache


@dataclass(frozen=True, slots=True)
class Read:
    """An array that a sum reads: its position there, and whether it is as large as what is summed."""

    node: Node
    position: Position
    large: bool


def blocked(n: Node) -> Node | None:
    """The sums over blocks of `BLOCK` rows of what the column reduction `n` adds up; None if there are none."""
    a = n.src[0]
    reduced = [i for i in n.arg if a.shape[i] > 1]
    kept = [i for i in range(len(a.shape)) if i not in n.arg]
    rows = math.prod(a.shape[i] for i in reduced)
    wide = [i for i in kept if a.shape[i] > 1]
    if not wide or max(reduced, default=0) > min(wide) or rows % BLOCK or rows < BLOCK * BLOCKS:
        return None
    if n.op is Op.PROD or n.dtype is FLOAT16 or 0 in a.shape:  # no memory is multiplied in place
        return None
    shape = rows // BLOCK, BLOCK, *(a.shape[i] for i in kept)
    laid = [Node(Op.RESHAPE, (s,), None, shape, a.dtype) for s in operands(n)]  # new nodes, whatever the shape of `a`
    return ir.reduce(n.op, ir.mul(*laid) if len(laid) > 1 else laid[0], (1,))


def columns_of(p: Node) -> tuple[int, ...]:
    """The sizes of the axes along which partial sums differ, but for the blocks."""
    return tuple([m for m in p.shape[2:] if m != 1])


def share_rows(
    groups: Iterable[Group],
    uses: dict[int, dict[Use, None]],
    order: Iterable[Node],
    stored: dict[int, Node],
    parts: Mapping[int, Node],
) -> dict[int, Node]:
    """Gives rows to sum up to the kernels that have them. The partial sums, by what they are the parts of.

    `parts`: those that there are already.
    """
    loaded = [n for n in order if n.op is Op.BUFFER or id(n) in stored]
    writer = {id(s.node): (g.find(), s.position) for g in groups for s in g.sinks if s.target.into is s.node}
    partial: dict[int, Node] = {}
    for h in groups:
        if h.heavy is not None or h.tiles or not h.passes or not h.loops or h.tails:
            continue
        first = _first(h, uses)
        sums = [p for n in first if (p := blocked(n)) is not None]
        reads = _reads(h, first, uses, loaded)
        if reads is None or not sums or len(sums) < len(first) or any(id(n) in parts for n in first):
            continue
        if _reads_again(h, reads, first, uses):
            continue
        rows = _rows(first)
        others = _candidates(h, reads, uses, writer)
        host = next((g for g in others if _goes_along(g, h, rows, sums, reads, uses, writer)), None)
        if host is None:
            continue
        for n, p in zip(first, sums):
            partial[id(n)] = p
            host.tails.append(p)
        host.rows = len(rows)
        host.readers.add(h)
        for r in reads:
            if id(r.node) in writer and writer[id(r.node)][0] is not host:
                writer[id(r.node)][0].readers.add(host)
    return partial


def _first(h: Group, uses: dict[int, dict[Use, None]]) -> list[Node]:
    """The reductions of `h` that need no other result of `h`."""
    made = [*(n for n, _ in h.passes), *(s.node for s in h.sinks)]
    needing = {u.context for n in made for u in uses[id(n)] if u.group.find() is h}
    return [n for n, _ in h.passes if n not in needing]


def _reads(
    h: Group, sums: list[Node], uses: dict[int, dict[Use, None]], loaded: Iterable[Node]
) -> list[Read] | None:
    """What the sums, which are computed in `h`, read; None if that is not known."""
    largest = max((n.src[0].size for n in sums), default=0)
    out = []
    for n in loaded:
        for u in uses[id(n)]:
            if u.group.find() is h and u.context in sums:
                if u.position is None:
                    return None
                out.append(Read(n, current(u.position), n.size == largest))
    return out


def _reads_again(h: Group, reads: list[Read], sums: list[Node], uses: dict[int, dict[Use, None]]) -> bool:
    """Whether `h` needs what its sums read once more, and a cache holds it: then little is spared."""
    large = [r.node for r in reads if r.large]
    others = [any(u.group.find() is h and u.context not in sums for u in uses[id(n)]) for n in large]
    return bool(large) and all(others) and sum(n.size * n.dtype.itemsize for n in set(large)) < FAR


def _rows(sums: list[Node]) -> tuple[int, ...]:
    """The sizes of the axes that the sums run over, if they all run over the same; else ()."""
    found = {tuple([n.src[0].shape[i] for i in n.arg if n.src[0].shape[i] > 1]) for n in sums}
    return next(iter(found)) if len(found) == 1 else ()


def _candidates(
    h: Group,
    reads: Iterable[Read],
    uses: dict[int, dict[Use, None]],
    writer: dict[int, tuple[Group, Position | None]],
) -> list[Group]:
    """Other kernels that read or write the large arrays."""
    found: dict[Group, None] = {}
    for r in reads:
        if r.large:
            found.update((u.group.find(), None) for u in uses[id(r.node)])
            if id(r.node) in writer:
                found[writer[id(r.node)][0]] = None
    return [g for g in found if g is not h and g.heavy is None and not g.tiles and not g.tails]


def _goes_along(
    g: Group,
    h: Group,
    rows: tuple[int, ...],
    sums: list[Node],
    reads: list[Read],
    uses: dict[int, dict[Use, None]],
    writer: dict[int, tuple[Group, Position | None]],
) -> bool:
    """Whether `g` can sum up its rows for `h`: it has half of what `h` reads, row by row, and comes before `h`."""
    loops = resolved(g.loops)
    outer, inner = loops[: len(rows)], loops[len(rows) :]
    if tuple([v.extent for v in outer]) != rows or g.led_by(outer) != loops:
        return False
    columns = {columns_of(p) for p in sums}
    if len(columns) > 1 or (inner and tuple([v.extent for v in inner]) not in columns):
        return False
    shared = 0
    for r in reads:
        its = writer.get(id(r.node))
        if its is not None and its[0] is g:
            if its[1] is None or not _along(current(its[1]), r.position, outer, h):
                return False
            shared += r.large
        elif its is not None and reaches(g, its[0]):
            return False
        elif r.large:
            places = (u.position for u in uses[id(r.node)] if u.group.find() is g and u.position is not None)
            shared += any(_along(current(p), r.position, outer, h) for p in places)
    large = [r.node for r in reads if r.large]
    size = sum(n.size * n.dtype.itemsize for n in set(large))
    if not inner and size < FAR:
        return False
    return 2 * shared >= len(large) and BLOCK * size // math.prod(rows) <= CACHE and not reaches(h, g)


def _along(p: Position, q: Position, outer: tuple[Loop, ...], h: Group) -> bool:
    """Whether position `p` follows the rows of its kernel where `q` follows what the sums of `h` run over."""
    mine = [(i, v.extent) for i, axis in enumerate(p) for v in axis if v in outer]
    columns = set(resolved(h.loops))
    its = [(i, v.extent) for i, axis in enumerate(q) for v in axis if v not in columns]
    followed = [v for axis in p for v in axis if v in outer]
    return mine == its and followed == [v for v in outer if v in followed]
