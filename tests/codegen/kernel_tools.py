"""Kernels run on memory that ends at an inaccessible page, and models of the sum trees."""

from __future__ import annotations

import ctypes
import itertools
import mmap
import os
from collections.abc import Callable, Sequence

import numpy as np

from codegen import jit
from codegen.loops import Buffer, Kernel, Param, Stmt
from codegen.scalar import B1, F16, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64, Type
from codegen.target import Target
from codegen.verify import verify

NUMPY = {
    B1: np.bool_, F16: np.float16, F32: np.float32, F64: np.float64,
    I8: np.int8, I16: np.int16, I32: np.int32, I64: np.int64,
    U8: np.uint8, U16: np.uint16, U32: np.uint32, U64: np.uint64,
}  # fmt: skip
TARGET = os.environ.get("TINYAD_TARGET", "native")
PAGE = mmap.PAGESIZE
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


class Guarded:
    """A copy of an array whose last byte (or first, if `front`) lies next to a page that must not be touched."""

    def __init__(self, array: np.ndarray, front: bool = False) -> None:
        pages = -(-max(array.nbytes, 1) // PAGE)
        self.memory = mmap.mmap(-1, (pages + 2) * PAGE)
        base = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        for page in (0, pages + 1):
            if _libc.mprotect(base + page * PAGE, PAGE, 0):
                raise OSError(ctypes.get_errno(), "mprotect")
        self.address = base + PAGE if front else base + (pages + 1) * PAGE - array.nbytes
        ctypes.memmove(self.address, np.ascontiguousarray(array).ctypes.data, array.nbytes)
        self.shape, self.dtype = array.shape, array.dtype

    def read(self, out: np.ndarray) -> None:
        ctypes.memmove(out.ctypes.data, self.address, out.nbytes)


def compiled(kernel: Kernel, target: str | Target | None = None) -> jit.Compiled:
    verify(kernel)
    return jit.compile_kernel(kernel, target if isinstance(target, Target) else jit.target(target or TARGET))


def execute(
    kernel: Kernel,
    *arrays: np.ndarray,
    params: Sequence[np.generic] = (),
    splits: Sequence[int] = (),
    target: str | Target | None = None,
) -> int:
    """Runs the kernel on guarded copies, writes back every array, and returns the status word."""
    status = 0
    code = compiled(kernel, target)
    for front in (True, False):
        guarded = [Guarded(a, front) for a in arrays]
        scratch = Guarded(np.full(code.shared + code.scratch, 255, np.uint8), front)
        table = (ctypes.c_void_p * (len(arrays) + 2))(*(g.address for g in guarded), *code.more(scratch.address))
        block = b"".join(np.asarray(p).tobytes().ljust(8, b"\0") for p in params).ljust(8, b"\0")
        holder = ctypes.create_string_buffer(block, len(block))
        word = ctypes.c_int32(0)
        for part in code.functions:
            edges = [0, *(s for s in splits if s < part.outer), part.outer]
            for begin, end in itertools.pairwise(edges):
                part.call(ctypes.addressof(table), ctypes.addressof(holder), begin, end, ctypes.addressof(word))
        status = word.value
        results = [np.empty(g.shape, g.dtype) for g in guarded]
        for g, r in zip(guarded, results, strict=True):
            g.read(r)
    for a, r in zip(arrays, results, strict=True):
        a[...] = r
    return status


def buffer(type: Type, size: int, role: str = "in", name: str = "") -> Buffer:
    return Buffer(type, size, role, name)


def kernel(
    body: list[Stmt], *buffers: Buffer, params: tuple[Param, ...] = (), scratch: tuple[Buffer, ...] = ()
) -> Kernel:
    return Kernel("test", buffers, params, body, scratch)


def sample(type: Type, shape: int | tuple[int, ...], seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if type.kind == "b":
        return rng.integers(0, 2, shape).astype(np.bool_)
    if type.kind in "iu":
        low = -100 if type.kind == "i" else 0
        return rng.integers(low, 100, shape).astype(NUMPY[type])
    return rng.standard_normal(shape).astype(NUMPY[type])


def same_bits(x: np.ndarray, y: np.ndarray) -> bool:
    """Equal shapes, types and bytes; any nan equals any nan."""
    if x.shape != y.shape or x.dtype != y.dtype:
        return False
    if x.dtype.kind == "f":
        both = np.isnan(x) & np.isnan(y)
        x, y = np.where(both, 0, x).astype(x.dtype), np.where(both, 0, y).astype(y.dtype)
    return x.tobytes() == y.tobytes()


# the trees of codegen.loops, written from its docstring ----------------------------------------------------------
Combine = Callable[[np.ndarray, np.ndarray], np.ndarray]
COMBINE: dict[str, Combine] = {"sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum}
ABSENT = {"sum": -0.0, "prod": 1.0, "max": -np.inf, "min": np.inf}


def counter(blocks: list[np.ndarray], op: Combine) -> np.ndarray:
    waiting: dict[int, np.ndarray] = {}
    for number, value in enumerate(blocks):
        level = 0
        while number >> level & 1:
            value = op(waiting.pop(level), value)
            level += 1
        waiting[level] = value
    result = None
    for level in sorted(waiting):
        result = waiting[level] if result is None else op(waiting[level], result)
    assert result is not None
    return result


def fma(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """float32 a * b + c rounded once: exact product, sum rounded to odd in float64, then rounded to nearest."""
    p, c = a.astype(np.float64) * b.astype(np.float64), c.astype(np.float64)
    s = p + c
    t = s - p
    error = (p - (s - t)) + (c - t)
    bits = s.view(np.int64)
    away = np.where((error > 0) == (s > 0), 1, -1)
    odd = np.where((error != 0) & (bits & 1 == 0), bits + away, bits)
    return odd.view(np.float64).astype(np.float32)


def row_tree(x: np.ndarray, name: str, factor: np.ndarray | None = None) -> np.generic:
    """Reduces a 2-d array of rows; a sum of float32 times `factor` by `fma`."""
    op, lanes = COMBINE[name], 64 // x.itemsize
    blocks = []
    for number, row in enumerate(x):
        for start in range(0, len(row), 32 * lanes):
            block = row[start : start + 32 * lanes]
            times = None if factor is None else factor[number, start : start + 32 * lanes]
            accumulators = np.full((4, lanes), ABSENT[name], x.dtype)
            for step, at in enumerate(range(0, len(block), lanes)):
                piece = block[at : at + lanes]
                mine = accumulators[step % 4]
                old = mine[: len(piece)]
                old[:] = op(old, piece) if times is None else fma(piece, times[at : at + lanes], old)
            blocks.append(op(op(accumulators[0], accumulators[1]), op(accumulators[2], accumulators[3])))
    v = counter(blocks, op)
    while len(v) > 1:
        v = op(v[: len(v) // 2], v[len(v) // 2 :])
    return v[0]


def column_tree(x: np.ndarray, name: str, factor: np.ndarray | None = None) -> np.ndarray:
    """Reduces the first axis; a sum of float32 times `factor` by `fma`."""
    op = COMBINE[name]
    blocks = []
    for start in range(0, len(x), 32):
        acc = np.full(x.shape[1:], ABSENT[name], x.dtype)
        for i, v in enumerate(x[start : start + 32], start):
            acc = np.asarray(op(acc, v) if factor is None else fma(v, factor[i], acc), x.dtype)
        blocks.append(acc)
    return counter(blocks, op)
