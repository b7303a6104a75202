"""Loop IR to LLVM text: explicit vectors, in place, statement by statement; no LLVM pass is needed afterwards.

Each part of the kernel (`codegen.parts`) is a function
``void @name(ptr table, ptr params, i64 begin, i64 end, ptr status)``: ``table[i]`` is the address of the kernel's
buffer i, each parameter has 8 bytes, `status` is an i32 that a failing `Check` sets. ``[begin, end)`` is a range of
what `codegen.ranges` says. When `shared_bytes` is not 0, one more table entry is the 64-byte aligned memory that the
parts share; when `scratch_bytes` is not 0, the last is a scratch area of that size, private to the call.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from . import address, memory
from .ahead import fetch, fetches
from .analysis import indices, is_leaf, statements
from .builder import I64, PTR, Module, Val, const, register_type, ty
from .combine import COMBINE, COMBINE_BOOL, identity
from .contract import contract, method
from .emit_columns import column_partials, is_tiled, tiles
from .emit_crossed import crossed, is_crossed
from .emit_partials import partials
from .emit_reduce import reduce
from .emit_rows import epilogue, rows
from .emit_scan import ABREAST, abreast, advance, is_prefix, prefix
from .frame import Frame, first_lanes, lanes_before
from .index import Div, Index, Mod, Var, mod, unmask
from .keep import kept
from .loops import (
    Advance,
    Apply,
    Buffer,
    Check,
    Const,
    Contract,
    IndexValue,
    InRange,
    Kernel,
    Load,
    Loop,
    Reduce,
    Result,
    Stmt,
    Store,
    Update,
)
from .once import Pieces, pieces, vector
from .ops import emit_op, to_memory, to_register
from .parts import parts
from .ranges import range_of
from .scalar import F32, F64
from .target import Target
from .vectorize import copies, lanes_for, outlined, private, round_up_to_power, unit_strides, weight

HALF = 256  # bits of a vector that waits for far memory
WEIGHTS = 16 << 10  # bytes of what weights all rows: half of the first cache
STACK_SCRATCH = 64 << 10  # scratch buffers up to this many bytes together live on the stack
BIG_BODY = 30  # instructions from which the last vector of a loop shares the code of the others, or if it cannot,
LARGE_BODY = 40  # statements from which all of them have a mask
SHORT = 4  # vectors below which they have it from half as many statements on
_RANGE = Val("%begin", I64), Val("%end", I64)


def shared_bytes(kernel: Kernel) -> int:
    """Bytes of memory that the parts of a kernel share."""
    return sum(_shared_sizes(parts(kernel)[0]).values())


def _shared_sizes(part: Kernel) -> dict[Buffer, int]:
    return {s: _padded(s.size * s.type.bytes) for s in part.shared}


def scratch_bytes(kernel: Kernel, target: Target) -> int:
    """Bytes of scratch a thread needs from its caller: scratch buffers too large for the stack, panels and tiles."""
    return max(_part_scratch(part, target) for part in parts(kernel))


def _part_scratch(part: Kernel, target: Target) -> int:
    contractions = [s for s in statements(part.body) if isinstance(s, Contract)]
    panels = max((method(s, target).bytes for s in contractions), default=0)
    return sum(_large_scratch(part, target).values()) + sum(k.bytes for k in kept(part, target).values()) + panels


def _scratch_sizes(kernel: Kernel, target: Target) -> dict[Buffer, int]:
    """Elements of each scratch buffer, with a copy for every lane where lanes need their own."""
    lanes = copies(kernel.body, target) if kernel.scratch else {}
    return {s: max(s.size, 1) * lanes.get(s, 1) for s in kernel.scratch}


def _large_scratch(kernel: Kernel, target: Target) -> dict[Buffer, int]:
    """The scratch buffers that are not on the stack, with the bytes they take."""
    sizes = {s: n * s.type.bytes for s, n in _scratch_sizes(kernel, target).items()}
    if sum(sizes.values()) <= STACK_SCRATCH:
        return {}
    return {s: _padded(n) for s, n in sizes.items()}


def _padded(size: int) -> int:
    """The bytes that a buffer of `size` takes among others: whole cache lines."""
    return -(-size // 64) * 64


def emit(kernel: Kernel, target: Target, name: str, streamed: Collection[int] = ()) -> str:
    """LLVM text of `kernel`: one function for each of its parts, called `part_name`.

    `streamed`: the numbers of buffers that are written past the caches.
    """
    module = Module(target.has_fma, target.has_f16c, target.masks, target.has_long, target.table_bytes)
    for number, part in enumerate(parts(kernel)):
        _function(part, target, module, part_name(name, number), streamed)
    groups = [f"attributes #{i} = {{ {_attributes(bits)} }}" for i, bits in enumerate((target.vector_bytes * 8, HALF))]
    return f"{module.text()}{groups[0]}\n{groups[1]}\n"


def _attributes(bits: int) -> str:
    return f'nounwind alignstack=64 "prefer-vector-width"="{bits}" "min-legal-vector-width"="{bits}"'


def _waits_for_memory(part: Kernel, target: Target) -> bool:
    """Whether a function only sums up what no cache holds: half as wide loads read that faster.

    It sums everything, or rows, perhaps weighted by one that is the same for all and stays in the first cache.
    """
    far = sum(b.size * b.type.bytes for b in part.buffers if b.role == "in") > target.cache_bytes
    if target.vector_bytes * 8 <= HALF or not far:
        return False
    body = part.body
    if not part.partials:
        loops = [s for s in body if isinstance(s, Loop)]
        body = loops[0].body if len(loops) == 1 else []
        rows = [s for s in body if not is_leaf(s)]
        if len(rows) != 1 or not isinstance(rows[0], Reduce) or rows[0].tree != "row":
            return False
        loads = [s for s in rows[0].body if isinstance(s, Load)]
        weights = {s.buffer for s in loads if loops[0].var not in s.index.variables()}
        if sum(b.size * b.type.bytes for b in weights) > WEIGHTS:
            return False
    applied = all(s.op in ("add", "sub", "mul", "neg") for s in statements(body) if isinstance(s, Apply))
    sums = [a.op == "sum" and a.type in (F32, F64) for s in body if isinstance(s, Reduce) for a in s.accumulators]
    return applied and bool(sums) and all(sums)


def part_name(name: str, number: int) -> str:
    """The symbol of a part of the kernel called `name`."""
    return f"{name}.{number}" if number else name


def _function(part: Kernel, target: Target, module: Module, name: str, streamed: Collection[int]) -> None:
    module.outlined = outlined(part.body)
    f = Frame(part, target, module, run)
    f.kept = kept(part, target)
    f.streamed = {part.buffers[i] for i in streamed}
    _arguments(f)
    f.ranged = range_of(part)
    run(f, part.body)
    if f.streamed and target.triple.startswith("x86_64"):
        f.b.fence()
    f.b.ret()
    f.close()
    narrow = _waits_for_memory(part, target)
    header = f"define void @{name}(ptr %table, ptr %params, i64 %begin, i64 %end, ptr %status) #{int(narrow)} {{"
    module.functions.append("\n".join([header, "entry:", *f.b.lines, "}"]))


def _arguments(f: Frame) -> None:
    table = Val("%table", PTR)
    with f.at(0):
        for i, buffer in enumerate(f.kernel.buffers):
            f.buffers[buffer] = f.b.load(PTR, f.b.gep(PTR, table, const(I64, i)), 8)
        after = len(f.kernel.buffers)
        if f.kernel.shared:
            memory_of_all = f.b.load(PTR, f.b.gep(PTR, table, const(I64, after)), 8)
            _lay_out(f, memory_of_all, _shared_sizes(f.kernel))
            after += 1
        large = _large_scratch(f.kernel, f.target)
        if _part_scratch(f.kernel, f.target):
            own = f.b.load(PTR, f.b.gep(PTR, table, const(I64, after)), 8)
            f.arena = _lay_out(f, own, large)
            for s, k in f.kept.items():
                f.kept_areas[s] = f.arena
                f.arena = f.b.gep(ty("i", 8), f.arena, const(I64, k.bytes))
        for i, param in enumerate(f.kernel.params):
            t = memory.memory_type(param.type, 1)
            where = f.b.gep(I64, Val("%params", PTR), const(I64, i))
            f.values[param] = to_register(f.b, param.type, f.b.load(t, where, 8))
    for buffer, size in _scratch_sizes(f.kernel, f.target).items():
        if buffer not in large:
            f.buffers[buffer] = f.alloca(memory.memory_type(buffer.type, 1), size, 64)


def _lay_out(f: Frame, at: Val, sizes: dict[Buffer, int]) -> Val:
    """Buffers one after the other in memory; where the next would begin."""
    for buffer, size in sizes.items():
        f.buffers[buffer] = at
        at = f.b.gep(ty("i", 8), at, const(I64, size))
    return at


def run(f: Frame, body: Sequence[Stmt]) -> None:
    """Emits the statements in order."""
    done = 0
    for i, s in enumerate(body):
        if i < done:
            continue
        match s:
            case Const():
                f.values[s] = const(register_type(s.type, 1), s.value)
            case Load():
                f.values[s] = f.known[s] if s in f.known else memory.load(f, s)
            case Apply():
                args = f.agree(*(f.values[a] for a in s.args))
                f.values[s] = emit_op(f.b, s.op, s.type, tuple(a.type for a in s.args), args)
            case IndexValue():
                f.values[s] = _index_value(f, s)
            case InRange():
                f.values[s] = _in_range(f, s)
            case Check():
                f.values[s] = _check(f, s)
            case Result():
                f.values[s] = f.results[s.reduce, s.k]
            case Advance():
                f.values[s] = f.carries[s.carry] = _advance(f, s)
            case Store():
                done = i + memory.store(f, body[i : i + memory.MAX_STRIDE])
            case Update():
                memory.update(f, s)
            case Loop():
                if f.kernel.partials:
                    column_partials(f, s, f.kernel.partials, *_RANGE)
                else:
                    _loop(f, s, *(_RANGE if s is f.ranged else (const(I64, 0), const(I64, s.var.extent))))
            case Reduce():
                if f.kernel.partials:
                    partials(f, s, f.kernel.partials, *_RANGE)
                else:
                    reduce(f, s)
            case Contract():
                contract(f, s, *(_RANGE if s is f.ranged else (None, None)))


def _advance(f: Frame, s: Advance) -> Val:
    if s.carry in f.prefixes:
        return advance(f, s.carry, f.values[s.args[0]])
    old, t = f.carries[s.carry], s.type
    args = tuple(f.values[a] for a in s.args)
    if s.carry.op == "linrec":
        factor, term = args
        x, y = f.agree(factor, old)
        scaled = emit_op(f.b, "mul", t, (t, t), (x, y))
        x, y = f.agree(scaled, term)
        return emit_op(f.b, "add", t, (t, t), (x, y))
    x, y = f.agree(old, args[0])
    return emit_op(f.b, (COMBINE_BOOL if t.kind == "b" else COMBINE)[s.carry.op], t, (t, t), (x, y))


def _index_value(f: Frame, s: IndexValue) -> Val:
    e = unmask(s.index)
    v = address.vector(f, e) if address.varies(f, e) else address.scalar(f, e)
    t = register_type(s.type, v.ty.lanes)
    if t.kind == "f":
        v = f.b.convert("sitofp", v, t)
        return v if s.type.bits >= 32 else to_register(f.b, s.type, to_memory(f.b, s.type, v))
    if t.bits == v.ty.bits:
        return v
    return f.b.convert("trunc" if t.bits < v.ty.bits else "sext", v, t)


def _in_range(f: Frame, s: InRange) -> Val:
    e = unmask(s.index)
    v = address.vector(f, e) if address.varies(f, e) else address.scalar(f, e)
    b, t = f.b, v.ty
    lo, hi = e.bounds
    tests = []
    if lo < s.lo:
        tests.append(b.icmp("sge", v, const(t, s.lo)))
    if hi >= s.hi:
        tests.append(b.icmp("slt", v, const(t, s.hi)))
    if s.step > 1:
        rest = address.vector(f, mod(e, s.step), t) if t.lanes > 1 else address.scalar(f, mod(e, s.step))
        tests.append(b.icmp("eq", f.wide(rest) if t.lanes > 1 else rest, const(t, 0)))
    if not tests:
        return const(t.as_bool(), True)
    out = tests[0]
    for test in tests[1:]:
        out = b.binary("and", out, test)
    known = address.literal(f, e) if t.lanes > 1 else None
    if known is not None:
        inside = [s.lo <= x < s.hi and (s.step == 1 or x % s.step == 0) for x in known]
        b.possible[out.ref] = sum(true << i for i, true in enumerate(inside))
    return out


def _check(f: Frame, s: Check) -> Val:
    """``select(bad, 0, value)``; a branch, taken when any lane is bad, to where the status is written."""
    b = f.b
    value = f.values[s.value]
    mask = None if s.mask is None else f.values[s.mask]
    if mask is not None:
        value, mask = f.agree(value, mask)
    wide = value
    if value.ty.bits < 64:
        wide = b.convert("sext" if s.value.type.kind == "i" else "zext", value, ty("i", 64, value.ty.lanes))
    bad = zeroed = b.icmp("uge", wide, const(wide.ty, s.n))
    if mask is not None:
        zeroed = b.binary("or", bad, b.binary("xor", mask, const(mask.ty, True)))
    guard = f.mask(mask) if bad.ty.lanes > 1 else mask
    if guard is not None:
        bad = b.binary("and", *f.agree(bad, guard))
        value = b.select(zeroed, const(value.ty, 0), value)
    before, fail, done = b.block, b.fresh_label("fail"), b.fresh_label("checked")
    b.rare_branch(b.any(bad), fail, done)
    b.label(fail)
    right = value if guard is not None else b.select(bad, const(value.ty, 0), value)
    status = Val("%status", PTR)
    old = b.load(ty("i", 32), status, 4)
    b.store(b.select(b.icmp("eq", old, const(old.ty, 0)), const(old.ty, s.code), old), status, 4)
    b.branch(done)
    b.label(done)
    checked, place = b.phi(value.ty)
    b.set_phi(checked, place, [(value, before), (right, fail)])
    return checked


def _loop(f: Frame, loop: Loop, lo: Val, hi: Val) -> None:
    """A scalar loop; or a vector loop and, where the extent is not surely a multiple of the lanes, a tail."""
    f.starts[loop.var] = lo
    if f.vector is None and is_tiled(loop, f.target):
        tiles(f, loop, lo, hi)
        return
    if f.vector is None and is_crossed(loop):
        crossed(f, loop, lo, hi)
        return
    if f.vector is None and is_prefix(loop, f.target):
        prefix(f, loop, lambda first, carried: _scalar_loop(f, loop, first, hi, carried))
        return
    lanes = lanes_for(loop, f.target) if f.vector is None else 1
    if lanes == 1 and f.vector is None:
        f.ahead |= fetches(loop)
    if lanes == 1 and f.vector is None and (at := epilogue(loop)):
        rows(f, loop, lo, hi, at)
        return
    if lanes == 1:
        if rows_at_once := abreast(loop):
            lo = _abreast(f, loop, rows_at_once, lo, hi)
        _scalar_loop(f, loop, lo, hi)
        return
    extent = loop.var.extent
    whole = lo.ref == "0" and hi.ref == str(extent)
    if whole and extent % lanes == 0:
        _vector_loop(f, loop, lanes, lo, hi, aligned=True)
    elif f.target.masks and weight(loop.body) >= BIG_BODY and (apart := pieces(loop.body, loop.var)):
        lo, aligned = _align(f, loop, lanes, lo, hi)
        _shared_loop(f, loop, apart, lanes, lo, hi, aligned)
    elif f.target.masks and (_is_large(loop, lanes) or _only_sums(loop)):
        lo, aligned = _align(f, loop, lanes, lo, hi)
        _masked_loop(f, loop, lanes, lo, hi, aligned)
    elif whole:
        tail = extent % lanes
        middle = const(I64, extent - tail)
        _vector_loop(f, loop, lanes, lo, middle, aligned=True)
        narrow = round_up_to_power(tail)
        _vector_step(f, loop, narrow, middle, None if narrow == tail else first_lanes(tail, narrow), aligned=True)
    else:
        lo, aligned = _align(f, loop, lanes, lo, hi)
        full = f.b.binary("and", f.b.binary("sub", hi, lo), const(I64, -lanes))
        middle = f.b.binary("add", lo, full)
        _vector_loop(f, loop, lanes, lo, middle, aligned)
        if f.target.masks:
            _masked_loop(f, loop, lanes, middle, hi, aligned)
        else:
            _scalar_loop(f, loop, middle, hi)


def _is_large(loop: Loop, lanes: int) -> bool:
    """Whether a mask in every turn costs little beside the rest of it."""
    return 2 * sum(1 for _ in statements(loop.body)) >= LARGE_BODY * (1 + (loop.var.extent >= SHORT * lanes))


def _only_sums(loop: Loop) -> bool:
    """Whether a loop goes over rows in memory and does little besides, so that a mask is not waited for."""
    nested = [s for s in loop.body if not is_leaf(s)]
    sums = bool(nested) and all(isinstance(s, Reduce) for s in nested)
    return sums and weight(loop.body) < BIG_BODY and unit_strides(loop.body, loop.var)


def _align(f: Frame, loop: Loop, lanes: int, lo: Val, hi: Val) -> tuple[Val, bool]:
    """Where vectors start, and whether that is a multiple of the lanes.

    Where alignment turns gathers into vector loads, what comes before the first multiple is done one by one.
    """
    if lo.ref == "0":
        return lo, True
    if not any(_hides(e, loop.var) for s in statements(loop.body) for e in indices(s)):
        return lo, False
    up = f.b.binary("and", f.b.binary("add", lo, const(I64, lanes - 1)), const(I64, -lanes))
    first = f.extreme("smin", up, hi)
    _scalar_loop(f, loop, lo, first)
    return first, True


def _hides(e: Index, var: Var) -> bool:
    """Whether a division or modulus has `var` inside."""
    return any(isinstance(a, (Div, Mod)) and var in a.index.variables() for a in unmask(e).terms)


def _abreast(f: Frame, loop: Loop, several: Sequence[Stmt], lo: Val, hi: Val) -> Val:
    """`ABREAST` iterations at a time of the range, as far as that goes; the first that is left."""
    whole = f.b.binary("and", f.b.binary("sub", hi, lo), const(I64, -ABREAST))
    middle = f.b.binary("add", lo, whole)

    def step(i: Val, carried: list[Val]) -> list[Val]:
        with f.scope((loop.var, i)):
            f.run(several)
        return carried

    f.loop(lo, middle, ABREAST, [], step, "abreast")
    return middle


def _scalar_loop(f: Frame, loop: Loop, lo: Val, hi: Val, carried: list[Val] | None = None) -> None:
    def step(i: Val, carried: list[Val]) -> list[Val]:
        f.carries.update(zip(loop.carries, carried, strict=True))
        with f.scope((loop.var, i)):
            f.run(loop.body)
        return [f.wide(f.carries[c]) for c in loop.carries]

    f.loop(lo, hi, 1, carried or [identity(c.op, c.type, f.lanes) for c in loop.carries], step)


def _vector_step(f: Frame, loop: Loop, lanes: int, start: Val, mask: Val | None, aligned: bool) -> None:
    with f.scope((loop.var, start)), f.vectorised(loop.var, lanes, mask, aligned, private(loop)):
        f.run(loop.body)
        fetch(f, loop)


def _vector_loop(f: Frame, loop: Loop, lanes: int, lo: Val, hi: Val, aligned: bool) -> None:
    def step(i: Val, carried: list[Val]) -> list[Val]:
        _vector_step(f, loop, lanes, i, None, aligned)
        return carried

    f.loop(lo, hi, lanes, [], step, "vector")


def _shared_loop(f: Frame, loop: Loop, p: Pieces, lanes: int, lo: Val, hi: Val, aligned: bool) -> None:
    def step(i: Val, carried: list[Val]) -> list[Val]:
        with f.scope((loop.var, i)):
            vector(f, loop, p, lanes, f.b.binary("sub", hi, i), aligned)
        return carried

    f.loop(lo, hi, lanes, [], step, "vector")


def _masked_loop(f: Frame, loop: Loop, lanes: int, lo: Val, hi: Val, aligned: bool) -> None:
    def step(i: Val, carried: list[Val]) -> list[Val]:
        left = f.b.binary("sub", hi, i)
        f.full = f.b.icmp("sge", left, const(I64, lanes)) if f.streamed else None
        _vector_step(f, loop, lanes, i, lanes_before(f, left, lanes), aligned)
        f.full = None
        return carried

    f.loop(lo, hi, lanes, [], step, "masked")

