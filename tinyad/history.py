"""Which tensors are alive and not yet computed, what a read computes with them, and what a computed node forgets.

A read computes, in one plan, every live tensor whose pending graph meets the one that is read; so nothing is computed
twice. A computed node whose history no open transform or `requires_grad` leaf needs becomes a leaf. It then remembers
weakly the tensors that stood behind it, so that a derivative towards one of them is refused instead of being zero.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable, Sequence
from typing import Any, Final

from . import forks
from .ir import GRAD, LEAF, MOVEMENT, REDUCE, Node, Op, toposort
from .sites import Derived

_FREE: Final = (MOVEMENT | {Op.DETACH, Op.INPUT, Op.CONST, Op.IOTA, Op.BUFFER}) - {Op.GATHER}
_DEAR: Final = REDUCE | {Op.SCAN, Op.SCATTER, Op.CALL}
_lock = threading.Lock()
forks.taken(_lock)
_pending: list[weakref.ref[Any]] = []
_limit = 1024


def held(n: Node) -> bool:
    """Whether a live tensor stands for this node."""
    t = n.handle() if n.handle is not None else None
    return t is not None and t.node is n


def sources(n: Node) -> tuple[Node, ...]:
    """The nodes that must be computed before `n`; none if it is stored. A CUSTOM node computes as its first source."""
    if n.buffer is not None:
        return ()
    return n.src[:1] if n.op is Op.CUSTOM else n.src


def register(handle: "weakref.ref[Any]") -> None:
    """Notes a new tensor whose node may be pending."""
    global _limit
    _pending.append(handle)
    if len(_pending) > _limit:
        _limit = 2 * len(pending()) + 1024


def pending() -> list[Node]:
    """The nodes of live tensors that are not computed yet, oldest first. Forgets the others."""
    with _lock:
        n = len(_pending)
        kept = []
        nodes = []
        seen: set[int] = set()
        for ref in _pending[:n]:
            t = ref()
            if t is not None:
                node = t.node
                if node.buffer is None and node.op not in LEAF and node.handle is ref and id(node) not in seen:
                    seen.add(id(node))
                    kept.append(ref)
                    nodes.append(node)
        _pending[:n] = kept
    return nodes


def computed_with(roots: Sequence[Node]) -> tuple[list[Node], list[Node]]:
    """What one plan computes when `roots` are read: themselves and every live tensor that shares work; and the order.

    The second list has every node behind those that is not computed yet, and what they read, sources first.
    Tensors that depend on an open input (inside `vmap` or `jit`) cannot be computed and are left out; movement of
    stored values and constants is no work.
    """
    known = {id(n) for n in roots}
    candidates = [*roots, *(n for n in pending() if id(n) not in known)]
    parent = list(range(len(candidates)))
    first = len(roots)

    def find(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i in range(1, first):
        parent[i] = 0
    owner: dict[int, int] = {}  # node -> candidate that visited it first; -1: no work; -2: cannot be computed
    order: list[Node] = []
    for i, root in enumerate(candidates):
        stack = [root]
        while stack:
            n = stack[-1]
            key = id(n)
            if key in owner:
                stack.pop()
                seen = owner[key]
                if seen >= 0 and seen != i:
                    parent[find(i)] = find(seen)
                continue
            if n.buffer is not None:
                stack.pop()
                owner[key] = -1
                order.append(n)
                continue
            src = n.src[:1] if n.op is Op.CUSTOM else n.src
            ready = True
            work = n.op not in _FREE
            state = -1
            for s in reversed(src):
                seen = owner.get(id(s), -3)
                if seen == -3:
                    stack.append(s)
                    ready = False
                elif seen >= 0:
                    work = True
                    if seen != i:
                        parent[find(i)] = find(seen)
                elif seen == -2:
                    state = -2
            if ready:
                stack.pop()
                if state == -1:
                    state = -2 if n.op is Op.INPUT and not src else i if work else -1
                owner[key] = state
                order.append(n)
    chosen = find(0) if candidates else 0
    together = [n for i, n in enumerate(candidates) if i < first or (owner[id(n)] >= 0 and find(i) == chosen)]
    if len(together) < len(candidates):
        order = toposort(together, sources)
    return together + _for_backward(together, order), order


def _for_backward(together: Sequence[Node], order: Sequence[Node]) -> list[Node]:
    """What a read before `backward` keeps although nobody holds it: the dear part is not computed twice.

    These are the products and other reductions behind a `requires_grad` leaf; the elementwise rest is computed again
    from them on the way. When derivatives are in the plan themselves, they find all they need there.
    """
    if any(isinstance(n.site, Derived) for n in order):
        return []
    chosen = {id(n) for n in together}
    return [
        n
        for n in order
        if n.trace is GRAD and n.op in _DEAR and n.buffer is None and n.dtype.kind == "f" and id(n) not in chosen
    ]


def forget(computed: Iterable[Node]) -> None:
    """Drops the history of computed nodes that nothing needs any more, remembering weakly what stood behind them.

    Behind a DETACH nothing stands: derivatives end there by intent.
    """
    done = [n for n in computed if n.src and (n.trace is None or not n.trace.open or n.op is Op.DETACH)]
    leaves = [n for n in done if n.op is not Op.DETACH]
    names: list[weakref.ref[Node]] = []
    masks: dict[int, int] = {}
    for n in toposort(leaves, lambda n: () if n.op is Op.DETACH else n.src):
        mask = 0
        if n.op is not Op.DETACH:
            for s in n.src:
                mask |= masks[id(s)]
                if held(s):
                    mask |= _bit(names, masks, s)
        if n.cut is not None:
            for ref in n.cut:
                old = ref()
                if old is not None and held(old):
                    mask |= _bit(names, masks, old)
        masks[id(n)] = mask
    for n in leaves:
        mask = masks[id(n)]
        n.cut = [ref for i, ref in enumerate(names) if mask >> i & 1]
    for n in done:
        n.src = ()


def _bit(names: "list[weakref.ref[Node]]", masks: dict[int, int], n: Node) -> int:
    """The bit of a held node in reachability masks."""
    key = -id(n)
    bit = masks.get(key)
    if bit is None:
        bit = masks[key] = 1 << len(names)
        names.append(weakref.ref(n))
    return bit
