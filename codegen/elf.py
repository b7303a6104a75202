"""ELF object files: what they ask for, and code for x86-64 loaded by hand.

What the code generator makes is simple: code and constants, which find each other by distances, and calls of a few
functions of the C library. So an object is laid out in memory of its own, made executable, and never written again: a
twentieth of the time that a general linker takes. What is not known here is an error.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from collections.abc import Sequence
from functools import cache
from typing import Any, Final, NamedTuple

_SECTIONS: Final = struct.Struct("<IIQQQQIIQQ")
_SYMBOLS: Final = struct.Struct("<IBBHQQ")
_RELOCATIONS: Final = struct.Struct("<QIIq")
_MAGIC: Final = b"\x7fELF\x02\x01"  # 64 bits, little endian
_MACHINE: Final = 62  # the first of two bytes for x86-64
_CONTENT, _SYMTAB, _RELA, _UNWIND = 1, 2, 4, 0x70000001  # types of sections
_WRITE, _ALLOCATE = 1, 2  # flags of sections
_DISTANCES: Final = (2, 4)  # relocations of data and of calls: how far it is, in 32 bits, from where they stand
_JUMP: Final = b"\xff\x25\0\0\0\0"  # to the address that follows
_READ_EXECUTE: Final = 5


class _Section(NamedTuple):
    name: int
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    each: int


def _content(image: bytes, s: _Section) -> bytes:
    return image[s.offset : s.offset + s.size]


def _sections(image: bytes) -> list[_Section]:
    if image[:6] != _MAGIC:
        raise ValueError("expected an ELF object of 64 bits")
    (table,), (count,) = struct.unpack_from("<Q", image, 0x28), struct.unpack_from("<H", image, 0x3C)
    return [_Section(*s) for s in _SECTIONS.iter_unpack(image[table : table + count * _SECTIONS.size])]


def _symbols(image: bytes, sections: Sequence[_Section]) -> list[tuple[str, int, int]]:
    """Name, section (0: from elsewhere) and place in it."""
    (s,) = [s for s in sections if s.type == _SYMTAB]
    names = _content(image, sections[s.link])
    return [
        (names[name : names.index(b"\0", name)].decode(), section, value)
        for name, _, _, section, value, _ in _SYMBOLS.iter_unpack(_content(image, s))
    ]


def undefined_symbols(image: bytes) -> list[str]:
    """Names an object expects from elsewhere."""
    return sorted(name for name, section, _ in _symbols(image, _sections(image)) if name and not section)


@cache
def _library() -> Any:
    """The C library."""
    library = ctypes.CDLL(None, use_errno=True)
    library.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return library


def load(image: bytes, names: Sequence[str]) -> tuple[list[int], Any]:
    """The addresses of the functions `names` of an object, and the memory that they are in as long as it is kept."""
    sections = _sections(image)
    if image[0x12] != _MACHINE:
        raise ValueError("load: expected an object for x86-64")
    code = bytearray()
    start = {0: 0}  # where sections begin
    for i, s in enumerate(sections):
        if s.flags & _ALLOCATE and s.type != _UNWIND and s.size:
            if s.type != _CONTENT or s.flags & _WRITE:
                raise ValueError(f"load: section {i} of type {s.type} is neither code nor constants")
            code += bytes(-len(code) % s.align)
            start[i] = len(code)
            code += _content(image, s)
    symbols = _symbols(image, sections)
    places = []
    for name, section, value in symbols:
        places.append(start.get(section, 0) + value)
        if name and not section:
            places[-1] = len(code)
            code += _JUMP + (ctypes.cast(_library()[name], ctypes.c_void_p).value or 0).to_bytes(8, "little")
    for s in sections:
        if s.type == _RELA and s.info in start:
            for offset, kind, symbol, addend in _RELOCATIONS.iter_unpack(_content(image, s)):
                if kind not in _DISTANCES:
                    raise ValueError(f"load: unknown relocation {kind}")
                at = start[s.info] + offset
                code[at : at + 4] = (places[symbol] + addend - at).to_bytes(4, "little", signed=True)
    memory = mmap.mmap(-1, len(code), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.write(code)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    if _library().mprotect(base, len(code), _READ_EXECUTE):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    found = {name: place for (name, _, _), place in zip(symbols, places, strict=True)}
    return [base + found[name] for name in names], memory
