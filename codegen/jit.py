"""Machine code in this process: kernels to objects, objects to callable functions.

Compiled kernels live as long as their `Compiled`; the in-memory cache keeps the last `LIMIT` of them. Behind it may
stand a cache on disk (`use_disk`), whose objects are linked without any code generation.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Final

import llvmlite
import llvmlite.binding as llvm

from . import elf
from .analysis import dominating_bytes, statements
from .assemble import assemble, assembly, initialize, several
from .cache import Disk, Entry, digest, source
from .cost import operations, touched
from .emit import emit, part_name, scratch_bytes, shared_bytes
from .emit_crossed import is_crossed
from .generic import LEAST, generic
from .loops import Contract, Kernel, Load, Loop, Reduce, Stmt, Store, Update
from .parts import parts
from .ranges import extent, range_of
from .split import prepare
from .target import Target, from_features, level
from .text import canonical
from .vectorize import lanes_for

_libraries = itertools.count(1)
_LOCK: Final = threading.RLock()
_CACHE: Final[dict[tuple[str, Target, frozenset[int]], "Compiled"]] = {}
SIGNATURE: Final = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p
)
if hasattr(os, "register_at_fork"):  # LLVM must be at rest when a process is copied
    os.register_at_fork(before=_LOCK.acquire, after_in_parent=_LOCK.release, after_in_child=_LOCK.release)
LINE: Final = 64  # bytes of a cache line
SPEED: Final = 40  # bytes that one thread moves in a nanosecond where caches hold them
FUNCTION: Final = 6  # operations that an elementary function takes as long as, about,
PRODUCT: Final = 0.5  # and a step of a contraction that is one instruction, of which little waits for memory
UNEVEN: Final = 4  # ranges of each thread where they take unequal time
COLUMNS: Final = 32  # columns that a thread's range is a multiple of: whole cache lines,
APART: Final = 512  # and where threads share lines between them, so many that they seldom meet there
LIMIT: Final = 4096  # kernels kept in memory; the oldest go first
ENTRY: Final = "kernel"  # the name every kernel's function is compiled under: names are no part of code


@dataclass(slots=True)
class Counts:
    """Kernels this process generated code for, and kernels it found on disk instead."""

    built: int = 0
    disk_hits: int = 0


counts: Final = Counts()
_disk: Disk | None = None


def use_disk(disk: Disk | None) -> None:
    """Keeps objects on `disk` from now on, and looks for them there; None: in memory only."""
    global _disk
    with _LOCK:
        _disk = disk


@dataclass(eq=False, slots=True)
class Function:
    """Machine code of one part of a kernel: `call(table, params, begin, end, status)` takes addresses as integers.

    `outer` is the extent that ``[begin, end)`` ranges over. `work` is a rough guess of the nanoseconds that all of it
    takes one thread; `few`: how many ranges a thread gets at most where each call repeats some work, so that few long
    ones are better than many short ones, else 0; `grain`: what ranges should be multiples of.
    """

    call: Callable[[int, int, int, int, int], None]
    address: int
    outer: int
    work: int
    few: int
    grain: int


@dataclass(eq=False, slots=True)
class Code:
    """What runs: `functions` to be called one after the other, each with all of its range.

    The table has `entries` entries, then what `more` says. Units: `seconds` of emission, compilation and linking
    together.
    """

    functions: tuple[Function, ...]
    entries: int
    shared: int
    scratch: int
    seconds: float

    def more(self, memory: int) -> list[int]:
        """The last entries of the table: in `memory`, first the `shared` bytes, then `scratch` bytes per thread."""
        own = [memory + self.shared] if self.scratch else []
        return [memory, *own] if self.shared else own


@dataclass(eq=False, slots=True)
class Compiled(Code):
    """A kernel as machine code. `streamed`: which buffers are written past the caches."""

    kernel: Kernel
    object: bytes
    streamed: frozenset[int]
    target: Target
    _keep: tuple[Any, ...]

    @property
    def llvm(self) -> str:
        """The LLVM text (emitted once more: code from the disk was not emitted in this process)."""
        return emit(self.kernel, self.target, ENTRY, self.streamed)

    @property
    def asm(self) -> str:
        """The assembly text (compiled once more, for reading)."""
        with _LOCK:
            return assembly(self.llvm, self.target)


@cache
def target(name: str = "native") -> Target:
    """The target called `name`: ``native`` or a psABI level."""
    triple = llvm.get_default_triple()
    if name != "native":
        return level(name, triple)
    return from_features(triple, llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten(), _cache_bytes())


def _cache_bytes(root: str = "/sys/devices/system/cpu/cpu0/cache") -> int:
    """The size of the largest cache, as Linux tells it; elsewhere a common one."""
    sizes = [path.read_text().strip() for path in Path(root).glob("index*/size")]
    units = {"K": 10, "M": 20}
    return max([int(s[:-1]) << units[s[-1]] for s in sizes if s[-1:] in units], default=32 << 20)


@cache
def _linker(t: Target) -> Any:
    initialize(True)
    if t.triple != llvm.get_default_triple():
        raise ValueError(f"target: code for {t.name} ({t.triple}) does not run here ({llvm.get_default_triple()})")
    host = llvm.Target.from_triple(t.triple).create_target_machine(jit=False, reloc="pic", codemodel="small")
    return llvm.create_lljit_compiler(host)


def link(image: bytes, symbol: str, t: Target) -> tuple[int, Any]:
    """Loads an object file; the address of `symbol` and what must be kept alive with it."""
    (address,), library = _link(image, (symbol,), t)
    return address, library


def _link(image: bytes, symbols: Sequence[str], t: Target) -> tuple[list[int], Any]:
    if t.triple.startswith("x86_64") and "linux" in t.triple and t.triple == llvm.get_default_triple():
        return elf.load(image, symbols)
    with _LOCK:
        builder = llvm.JITLibraryBuilder().add_object_img(image).add_current_process()
        for symbol in symbols:
            builder.export_symbol(symbol)
        library = builder.link(_linker(t), f"lib{next(_libraries)}")
        return [library[symbol] for symbol in symbols], library


def load_forever(text: str, symbols: Sequence[str], t: Target) -> list[int]:
    """Addresses of functions of LLVM text. Their code is never unloaded: threads may be inside it at any time."""
    with _LOCK:
        name = key(text, t)
        entry = remembered(name)
        if entry is None:
            entry = Entry((), assemble(text, t))
            remember(name, entry)
        addresses, library = _link(entry.image, symbols, t)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(library))
        return addresses


@dataclass(frozen=True, slots=True)
class Wanted:
    """A kernel that is to be compiled. Outer loops shorter than `least` have code of their own; the buffers with the
    numbers `kept` are read again soon."""

    kernel: Kernel
    least: int = LEAST
    kept: tuple[int, ...] = ()


def compile_kernel(kernel: Kernel, t: Target, least: int = LEAST, kept: tuple[int, ...] = ()) -> Compiled:
    """`kernel` as machine code for `t`."""
    return compile_kernels([Wanted(kernel, least, kept)], t)[0]


def compile_kernels(wanted: Sequence[Wanted], t: Target, workers: int = 1) -> list[Compiled]:
    """Machine code for `t`; kernels of one canonical text share it, whatever their outer extent.

    Code is generated by as many threads as there are `workers`, what takes longest first.
    """
    shared = [w.kernel if t.checked else generic(w.kernel, w.least) for w in wanted]
    contents = [
        (canonical(kernel), t, _streamed(w.kernel, t) - frozenset(w.kept))
        for kernel, w in zip(shared, wanted, strict=True)
    ]
    with _LOCK:
        missing = {c: kernel for c, kernel in zip(contents, shared, strict=True) if c not in _CACHE}
        order = sorted(missing, key=lambda c: ("contract" in c[0], len(c[0])), reverse=True)
        built = several(lambda c: _entry(missing[c], *c), order, workers)
        for c, (entry, fresh, seconds) in zip(order, built, strict=True):
            counts.built += fresh
            counts.disk_hits += not fresh
            _CACHE[c] = _linked(missing[c], entry, seconds, t, c[2])
        found = [_CACHE[c] for c in contents]
        while len(_CACHE) > LIMIT:
            del _CACHE[next(iter(_CACHE))]
    out = []
    for w, kernel, code in zip(wanted, shared, found, strict=True):
        if kernel is not w.kernel:
            (function,) = code.functions
            function = replace(function, outer=extent(w.kernel, t), work=_work(prepare(w.kernel), t))
            code = replace(code, functions=(function,))
        out.append(code)
    return out


def _streamed(kernel: Kernel, t: Target) -> frozenset[int]:
    """The numbers of the buffers that are written past the caches, as they would not be found there later anyway.

    These are outputs of a kernel that moves three quarters of what the largest cache holds, or more, if it does not
    read them itself, or could not find them itself, and if all their rows begin where a line does: a row past the
    caches between others that are not takes longer than either.
    """
    bytes_of = [b.size * b.type.bytes for b in kernel.buffers]
    if 4 * sum(bytes_of) < 3 * t.cache_bytes:
        return frozenset()
    read = {s.buffer for s in statements(kernel.body) if isinstance(s, (Load, Update))}
    ragged = {s.buffer for s in statements(kernel.body) if isinstance(s, Store) and not _in_lines(s)}
    return frozenset(
        i
        for i, (b, size) in enumerate(zip(kernel.buffers, bytes_of, strict=True))
        if b.role == "out" and b not in ragged and (b not in read or size > t.cache_bytes)
    )


def _in_lines(s: Store) -> bool:
    """Whether rows, along the variable that goes from element to element, are stored from the beginning of a line."""
    return all(c == 1 or c * s.buffer.type.bytes % LINE == 0 for c in s.index.terms.values())


def _entry(kernel: Kernel, text: str, t: Target, streamed: frozenset[int]) -> tuple[Entry, bool, float]:
    """The object of a kernel and what is to be known of it; whether it had to be made; the seconds it took."""
    start = time.perf_counter()
    name = b"" if _disk is None else key(f"{text}\nstreamed: {sorted(streamed)}", t)
    entry = remembered(name)
    fresh = entry is None
    if entry is None:
        facts = [shared_bytes(kernel), scratch_bytes(kernel, t)]
        for part in parts(kernel):
            facts += extent(part, t), _work(part, t), (few := _few(part)), _grain(part, t, few)
        entry = Entry(tuple(facts), assemble(emit(kernel, t, ENTRY, streamed), t))
        remember(name, entry)
    return entry, fresh, time.perf_counter() - start


def _linked(kernel: Kernel, entry: Entry, seconds: float, t: Target, streamed: frozenset[int]) -> Compiled:
    """A kernel's object, loaded."""
    start = time.perf_counter()
    shared, scratch, *each = entry.facts
    symbols = [part_name(ENTRY, i) for i in range(len(each) // 4)]
    addresses, keep = _link(entry.image, symbols, t)
    made = [
        Function(SIGNATURE(address), address, outer, work, few, grain)
        for address, outer, work, few, grain in zip(addresses, *[each[i::4] for i in range(4)], strict=True)
    ]
    seconds += time.perf_counter() - start
    return Compiled(
        tuple(made), len(kernel.buffers), shared, scratch, seconds, kernel, entry.image, streamed, t, (keep,)
    )


@cache
def _versions() -> str:
    return " ".join((source(), llvmlite.__version__, *map(str, llvm.llvm_version_info)))


def remembered(name: bytes) -> Entry | None:
    """What is on disk under a `key`."""
    return None if _disk is None else _disk.load(name)


def remember(name: bytes, entry: Entry) -> None:
    """Keeps `entry` on disk, if there is one."""
    if _disk is not None:
        _disk.store(name, entry)


def key(text: str, t: Target) -> bytes:
    """The key of an entry on disk that depends on `text`, the target and the code generator."""
    return digest((text, repr(t), _versions()))


def _work(part: Kernel, t: Target) -> int:
    """Nanoseconds one thread takes, very roughly: its bytes at the speed of a cache, or its operations on vectors."""
    moved = sum(n * b.type.bytes for b, n in touched(part).items()) // SPEED
    lanes = max(t.vector_bytes // dominating_bytes(part.body), 1)
    return max(moved, operations(part, FUNCTION, PRODUCT if t.has_fma else 2) // lanes)


def _goes_down(s: Stmt) -> bool:
    """Whether a statement walks down columns of memory, of which a vector has many."""
    return (isinstance(s, Reduce) and s.tree == "column") or (isinstance(s, Loop) and bool(s.carries))


def _few(part: Kernel) -> int:
    """Contractions pack once per range; what goes down columns, and loops that each range repeats, want wide ones.
    Where conditions leave out more of a contraction in one range than in another, threads must take turns."""
    if part.partials:
        return 0
    found = range_of(part)
    if isinstance(found, Loop) and found in part.body and not is_crossed(found):
        return int(any(_goes_down(s) for s in statements(part.body)))
    return UNEVEN if any(isinstance(s, Contract) and s.domain for s in statements(part.body)) else 1


def _grain(part: Kernel, t: Target, few: int) -> int:
    """What ranges are multiples of: as many iterations as the code does at a time, for others leave lanes empty; where
    columns are written, a cache line, for threads keep off each other's."""
    found = range_of(part)
    if not isinstance(found, Loop) or part.partials:
        return 1
    if few and not _owns_lines(found):
        return APART
    lanes = lanes_for(found, t)
    return COLUMNS if few and (lanes > 1 or is_crossed(found)) else lanes


def _owns_lines(loop: Loop) -> bool:
    """Whether what surrounds a loop moves what this updates by whole cache lines."""
    for s in statements(loop.body):
        if isinstance(s, Update):
            steps = [c for a, c in s.index.terms.items() if a is not loop.var]
            if any(c * s.buffer.type.bytes % LINE for c in steps):
                return False
    return True


def clear() -> None:
    """Forgets every cached kernel (those still referenced stay callable)."""
    with _LOCK:
        _CACHE.clear()
