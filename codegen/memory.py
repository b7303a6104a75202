"""Loads, stores and updates: one vector, a broadcast, a reversal or lane by lane, under a mask or not."""

from __future__ import annotations

from collections.abc import Sequence

from . import address, bounds
from .analysis import added
from .builder import I64, Ty, Val, const, ty
from .combine import accumulate
from .frame import Frame, first_lanes
from .index import Index, unmask
from .loops import Buffer, Load, Stmt, Store, Update
from .ops import to_memory, to_register
from .scalar import Type

MIN_STREAM = 16  # bytes of a vector that can be stored past the caches
MAX_STRIDE = 4  # steps up to which strided elements are read and written as whole vectors and shuffled


def memory_type(type: Type, lanes: int) -> Ty:
    """How values of a scalar type lie in memory: a bool in a byte, all others as they are."""
    return ty("f" if type.kind == "f" else "i", type.bytes * 8, lanes)


def zero(t: Ty) -> Val:
    return const(t, 0)


def load(f: Frame, node: Load) -> Val:
    """The register value of a load; lanes that do not exist or are masked touch no memory and are 0 (or anything)."""
    e = unmask(node.index) if node.mask is not None else node.index
    mask = None if node.mask is None else f.values[node.mask]
    bounds.inside(f, node.buffer, e, f.mask(mask) if f.vector is not None else mask)
    return to_register(f.b, node.type, _read(f, node.buffer, e, mask))


def _read(f: Frame, buffer: Buffer, e: Index, mask: Val | None) -> Val:
    if buffer in f.private:
        return f.b.load(memory_type(buffer.type, f.lanes), _copies(f, buffer, e), buffer.type.bytes)
    step = address.stride(f, e) if f.vector is not None else 0
    varying_mask = mask is not None and mask.ty.lanes > 1
    if step == 0 and not varying_mask:
        return _read_one(f, buffer, e, mask)
    guard = f.mask(mask)
    if guard is not None:
        guard = f.wide(guard)
    return _read_lanes(f, buffer, e, step, guard)


def _copies(f: Frame, buffer: Buffer, e: Index) -> Val:
    """Where every lane's own copy of an element of scratch memory lies."""
    return address.pointer(f, buffer, e * f.lanes, memory_type(buffer.type, 1))


def _read_one(f: Frame, buffer: Buffer, e: Index, mask: Val | None) -> Val:
    """One element; under a false mask the read is redirected to a zero on the stack."""
    t = memory_type(buffer.type, 1)
    where = address.pointer(f, buffer, e, t)
    if mask is not None:
        where = f.b.select(mask, where, f.zero())
    return f.b.load(t, where, buffer.type.bytes)


def _read_lanes(f: Frame, buffer: Buffer, e: Index, step: int | None, guard: Val | None) -> Val:
    b, lanes = f.b, f.lanes
    t = memory_type(buffer.type, lanes)
    align = buffer.type.bytes
    if step == 1:
        where = address.pointer(f, buffer, e, t.scalar())
        return b.load(t, where, align) if guard is None else _masked_load(f, t, where, align, guard)
    if step == -1:
        where = address.pointer(f, buffer, e + (1 - lanes), t.scalar())
        backwards = list(range(lanes - 1, -1, -1))
        if guard is None:
            return b.shuffle(b.load(t, where, align), None, backwards)
        flipped = b.shuffle(guard, None, backwards)
        return b.shuffle(_masked_load(f, t, where, align, flipped), None, backwards)
    if step is not None and 1 < step <= MAX_STRIDE and (guard is None or f.target.masks):
        return _read_strided(f, buffer, e, step, t, guard)
    where = _pointers(f, buffer, e, t.scalar())
    guard = guard or const(ty("i", 1, lanes), True)
    name = f"llvm.masked.gather.{t.suffix}.{where.ty.suffix}"
    b.declare(name, t.ll, f"{where.ty.ll}, i32, {guard.ty.ll}, {t.ll}")
    return b.emit(t, f"call {t.ll} @{name}({where!r}, i32 {align}, {guard!r}, {zero(t)!r})")


def _read_strided(f: Frame, buffer: Buffer, e: Index, step: int, t: Ty, guard: Val | None) -> Val:
    """Every step-th element: whole vectors, the last one ending at the last element, and shuffles."""
    b, lanes = f.b, t.lanes
    latest = (lanes - 1) * step + 1 - lanes  # vectors that start later would go beyond the last element
    out: Val | None = None
    for number in range(step):
        mine = range(number * lanes, (number + 1) * lanes)
        start = min(mine.start, latest)
        where = address.pointer(f, buffer, e + start, t.scalar())
        if guard is None:
            piece = b.load(t, where, buffer.type.bytes)
        else:
            wanted = [p // step if p % step == 0 and p in mine else lanes for p in range(start, start + lanes)]
            mask = b.shuffle(guard, const(guard.ty, False), wanted)
            piece = _masked_load(f, t, where, buffer.type.bytes, mask)
        places = [j * step - start if j * step in mine else None for j in range(lanes)]
        if out is None:
            out = b.shuffle(piece, None, [0 if p is None else p for p in places])
        else:
            out = b.shuffle(out, piece, [j if p is None else lanes + p for j, p in enumerate(places)])
    assert out is not None
    return out


def _masked_load(f: Frame, t: Ty, where: Val, align: int, guard: Val) -> Val:
    """Lanes of memory under a mask. Where registers have none, a half that surely stays empty is left out here: LLVM 22
    cuts the mask in halves, and of one that it then finds to be false everywhere it loads all lanes (AVX2)."""
    half, possible = t.lanes // 2, f.b.lanes(guard)
    if not f.target.masks and half and t.bits * t.lanes > f.target.vector_bytes * 8 and guard.ref[0] == "%":
        parts = []
        for k in (0, 1):
            mine = possible >> k * half & ((1 << half) - 1)
            mask = f.b.shuffle(guard, None, list(range(k * half, (k + 1) * half)))
            f.b.possible[mask.ref] = mine
            at = f.b.offset(t.scalar(), where, None, k * half)
            parts.append(_masked_load(f, t.with_lanes(half), at, align, mask) if mine else zero(t.with_lanes(half)))
        return f.b.shuffle(parts[0], parts[1], list(range(t.lanes)))
    name = f"llvm.masked.load.{t.suffix}.p0"
    f.b.declare(name, t.ll, f"ptr, i32, {guard.ty.ll}, {t.ll}")
    return f.b.emit(t, f"call {t.ll} @{name}({where!r}, i32 {align}, {guard!r}, {zero(t)!r})")


def _pointers(f: Frame, buffer: Buffer, e: Index, element: Ty) -> Val:
    """Addresses lane by lane: a uniform base and a vector of offsets."""
    uniform = Index({a: c for a, c in e.terms.items() if not address.varies(f, a)}, e.const)
    varying = Index({a: c for a, c in e.terms.items() if address.varies(f, a)}, 0)
    base = address.pointer(f, buffer, uniform, element)
    return f.b.gep(element, base, address.vector(f, varying))


def store(f: Frame, nodes: Sequence[Stmt]) -> int:
    """Emits the first of the statements, a store, or several that fill a stretch of memory; says how many."""
    together = _interleaved(f, nodes)
    for node in together:
        bounds.inside(f, node.buffer, node.index, f.active)
    if together:
        _store_interleaved(f, together)
        return len(together)
    first = nodes[0]
    assert isinstance(first, Store)
    bounds.inside(f, first.buffer, first.index, f.active)
    _write(f, first.buffer, first.index, to_memory(f.b, first.buffer.type, f.values[first.value]))
    return 1


def _interleaved(f: Frame, nodes: Sequence[Stmt]) -> list[Store]:
    """The stores, from the first statement on, that together fill a stretch of memory; empty if it does so alone."""
    first = nodes[0]
    if not isinstance(first, Store) or f.vector is None or (f.active is not None and not f.target.masks):
        return []
    step = address.stride(f, first.index)
    if step is None or not 1 < step <= len(nodes):
        return []
    found = [s for j, s in enumerate(nodes[:step]) if isinstance(s, Store) and s.index == first.index + j]
    return found if len(found) == step and all(s.buffer is first.buffer for s in found) else []


def _store_interleaved(f: Frame, nodes: Sequence[Store]) -> None:
    """Stores of which number j writes the elements ``e + j``, ``e + j + step``, ...: shuffled into whole vectors."""
    b, step, lanes = f.b, len(nodes), f.lanes
    first = nodes[0]
    values = [f.wide(to_memory(b, s.buffer.type, f.values[s.value])) for s in nodes]
    guard = None if f.active is None else f.wide(f.active)
    for number in range(step):
        places = range(number * lanes, (number + 1) * lanes)
        out = b.shuffle(values[0], values[1], [p // step + lanes * (p % step == 1) for p in places])
        for k in range(2, step):
            out = b.shuffle(out, values[k], [lanes + p // step if p % step == k else i for i, p in enumerate(places)])
        mask = None if guard is None else b.shuffle(guard, None, [p // step for p in places])
        where = address.pointer(f, first.buffer, first.index + number * lanes, out.ty.scalar())
        store_vector(f, out, where, first.buffer.type.bytes, mask)


def store_vector(f: Frame, value: Val, where: Val, align: int, guard: Val | None) -> None:
    if guard is None:
        f.b.store(value, where, align)
        return
    name = f"llvm.masked.store.{value.ty.suffix}.p0"
    f.b.declare(name, "void", f"{value.ty.ll}, ptr, i32, {guard.ty.ll}")
    f.b.lines.append(f"  call void @{name}({value!r}, {where!r}, i32 {align}, {guard!r})")


def _stream(f: Frame, value: Val, where: Val, align: int, guard: Val | None) -> None:
    """A store past the caches where the address is aligned and no lane is missing; else an ordinary one.

    Halves are rounded by the instruction that stores them, which has no such form.
    """
    b = f.b
    size = min(value.ty.bits * value.ty.lanes // 8, f.target.vector_bytes)
    half = value.ty.kind == "f" and value.ty.bits == 16
    if half or size < MIN_STREAM or size & (size - 1) or (guard is not None and f.full is None):
        store_vector(f, value, where, align, guard)
        return
    low = b.binary("and", b.convert("ptrtoint", where, I64), const(I64, size - 1))
    fits = b.icmp("eq", low, const(I64, 0))
    if guard is not None and f.full is not None:
        fits = b.binary("and", fits, f.full)
    past, through, done = b.fresh_label("past"), b.fresh_label("through"), b.fresh_label("stored")
    b.cond_branch(fits, past, through)
    b.label(past)
    b.stream(value, where, size)
    b.branch(done)
    b.label(through)
    store_vector(f, value, where, align, guard)
    b.branch(done)
    b.label(done)


def _write(f: Frame, buffer: Buffer, e: Index, value: Val) -> None:
    b = f.b
    align = buffer.type.bytes
    if buffer in f.private:
        b.store(f.wide(value), _copies(f, buffer, e), align)
        return
    step = address.stride(f, e) if f.vector is not None else 0
    if step == 0:
        if value.ty.lanes > 1:
            raise AssertionError(f"store {buffer.name}[{e!r}]: lanes of {f.vector!r} write one element")
        b.store(value, address.pointer(f, buffer, e, value.ty), align)
        return
    value = f.wide(value)
    element = value.ty.scalar()
    guard = None if f.active is None else f.wide(f.active)
    if step in (1, -1) and guard is not None and guard.ref == first_lanes(1, f.lanes).ref:
        # LLVM 22 turns a truncation stored under this literal mask into a store of the wide element (AVX-512)
        b.store(b.extract(value, 0), address.pointer(f, buffer, e, element), align)
        return
    if step == -1:
        backwards = list(range(f.lanes - 1, -1, -1))
        value = b.shuffle(value, None, backwards)
        guard = None if guard is None else b.shuffle(guard, None, backwards)
        e = e + (1 - f.lanes)
    if step in (1, -1):
        where = address.pointer(f, buffer, e, element)
        if buffer in f.streamed:
            _stream(f, value, where, align, guard)
        else:
            store_vector(f, value, where, align, guard)
        return
    where = _pointers(f, buffer, e, element)
    guard = guard or const(ty("i", 1, f.lanes), True)
    name = f"llvm.masked.scatter.{value.ty.suffix}.{where.ty.suffix}"
    b.declare(name, "void", f"{value.ty.ll}, {where.ty.ll}, i32, {guard.ty.ll}")
    b.lines.append(f"  call void @{name}({value!r}, {where!r}, i32 {align}, {guard!r})")


def update(f: Frame, node: Update) -> None:
    """Reads, combines, writes; lanes (if any) are distinct elements of unit stride."""
    value, *factor = (f.values[v] for v in added(node))
    bounds.inside(f, node.buffer, node.index, f.active)
    if node.op != "set":
        type = node.buffer.type
        old, *values = f.agree(to_register(f.b, type, _read(f, node.buffer, node.index, None)), value, *factor)
        value = accumulate(f, node, type, old, values)
    _write(f, node.buffer, node.index, to_memory(f.b, node.buffer.type, value))
