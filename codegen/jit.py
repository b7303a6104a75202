"""Machine code in this process: LLVM text to an object, an object to callable functions. The only user of llvmlite.

Compiled kernels live as long as their `Compiled`; the in-memory cache keeps the last `LIMIT` of them.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import llvmlite.binding as llvm

from .emit import emit, outer_extent, scratch_bytes
from .loops import Kernel
from .target import Target, from_features, level
from .text import canonical

_LOCK: Final = threading.RLock()
_CACHE: Final[dict[tuple[str, Target], "Compiled"]] = {}
_SIGNATURE: Final = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p
)
LIMIT: Final = 4096  # kernels kept in memory; the oldest go first
ENTRY: Final = "kernel"  # the name every kernel's function is compiled under: names are no part of code


@dataclass(eq=False, slots=True)
class Compiled:
    """A kernel as machine code. `call(table, params, begin, end, status)` takes addresses as integers.

    `outer` is the extent that ``[begin, end)`` ranges over; `scratch` bytes are expected behind one more table entry
    after the kernel's buffers, when not 0. Units: `seconds` of emission and compilation together.
    """

    call: Callable[[int, int, int, int, int], None]
    llvm: str
    object: bytes
    outer: int
    scratch: int
    seconds: float
    target: Target
    _keep: tuple[Any, ...]

    @property
    def asm(self) -> str:
        """The assembly text (compiled once more, for reading)."""
        with _LOCK:
            machine = _machine(self.target)
            return str(machine.emit_assembly(_parse(self.llvm, self.target)))


@cache
def target(name: str = "native") -> Target:
    """The target called `name`: ``native`` or a psABI level."""
    triple = llvm.get_default_triple()
    if name != "native":
        return level(name, triple)
    return from_features(triple, llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten())


@cache
def _machine(t: Target) -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_triple(t.triple).create_target_machine(
        cpu=t.cpu, features=t.features, opt=2, reloc="pic", codemodel="small", jit=False
    )


@cache
def _linker(t: Target) -> Any:
    host = llvm.Target.from_triple(t.triple).create_target_machine(jit=False, reloc="pic", codemodel="small")
    return llvm.create_lljit_compiler(host)


def _parse(text: str, t: Target) -> Any:
    module = llvm.parse_assembly(text)
    module.triple = t.triple
    module.data_layout = str(_machine(t).target_data)
    module.verify()
    return module


def assemble(text: str, t: Target) -> bytes:
    """The object file of LLVM text: verified, and code generated without any IR pass pipeline."""
    with _LOCK:
        return bytes(_machine(t).emit_object(_parse(text, t)))


def link(image: bytes, symbol: str, t: Target) -> tuple[int, Any]:
    """Loads an object file; the address of `symbol` and what must be kept alive with it."""
    with _LOCK:
        link.count += 1  # type: ignore[attr-defined]
        library = (
            llvm.JITLibraryBuilder()
            .add_object_img(image)
            .add_current_process()
            .export_symbol(symbol)
            .link(_linker(t), f"lib{link.count}")  # type: ignore[attr-defined]
        )
        return library[symbol], library


link.count = 0  # type: ignore[attr-defined]


def compile_kernel(kernel: Kernel, t: Target) -> Compiled:
    """`kernel` as machine code for `t`; kernels of one canonical text share it."""
    key = (canonical(kernel), t)
    with _LOCK:
        found = _CACHE.get(key)
        if found is None:
            found = _CACHE[key] = _compile(kernel, t)
            if len(_CACHE) > LIMIT:
                del _CACHE[next(iter(_CACHE))]
        return found


def _compile(kernel: Kernel, t: Target) -> Compiled:
    start = time.perf_counter()
    text = emit(kernel, t, ENTRY)
    image = assemble(text, t)
    address, keep = link(image, ENTRY, t)
    call = _SIGNATURE(address)
    seconds = time.perf_counter() - start
    return Compiled(
        call, text, image, outer_extent(kernel), scratch_bytes(kernel, t), seconds, t, (keep,)
    )


def clear() -> None:
    """Forgets every cached kernel (those still referenced stay callable)."""
    with _LOCK:
        _CACHE.clear()


def undefined_symbols(image: bytes) -> list[str]:
    """Names an ELF object file expects from elsewhere."""
    if image[:4] != b"\x7fELF":
        raise ValueError("undefined_symbols: expected an ELF object")

    def number(at: int, size: int) -> int:
        return int.from_bytes(image[at : at + size], "little")

    section_table, entry_size, count = number(0x28, 8), number(0x3A, 2), number(0x3C, 2)
    found = []
    for s in range(count):
        header = section_table + s * entry_size
        if number(header + 4, 4) != 2:  # SHT_SYMTAB
            continue
        offset, size, names = number(header + 0x18, 8), number(header + 0x20, 8), number(header + 0x28, 4)
        strings = number(section_table + names * entry_size + 0x18, 8)
        for symbol in range(offset + 24, offset + size, 24):  # entry 0 is empty
            if number(symbol + 6, 2) == 0:  # SHN_UNDEF
                start = strings + number(symbol, 4)
                found.append(image[start : image.index(b"\0", start)].decode())
    return sorted(found)
