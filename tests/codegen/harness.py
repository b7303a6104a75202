"""Runs one scalar operation over NumPy arrays as machine code: a loop over vectors of a chosen number of lanes."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from functools import cache

import mpmath
import numpy as np

from codegen import jit
from codegen.builder import I64, PTR, Builder, Module, Val, const, register_type, ty
from codegen.ops import emit_op, to_memory, to_register
from codegen.scalar import TYPES, Type

NUMPY = {
    "b1": np.bool_,
    **{f"{kind}{bits}": np.dtype(f"{kind}{bits // 8}").type for kind in "iu" for bits in (8, 16, 32, 64)},
    "f16": np.float16,
    "f32": np.float32,
    "f64": np.float64,
}
TYPE_OF = {np.dtype(n): TYPES[name] for name, n in NUMPY.items()}

Body = Callable[[Builder, tuple[Val, ...]], Val]


def text(body: Body, result: Type, operands: tuple[Type, ...], lanes: int, target: str) -> str:
    """LLVM text of ``f(count, result, *operands)``: `body` on `count` vectors of registers."""
    t = jit.target(target)
    module = Module(t.has_fma, t.has_f16c, t.masks, t.has_long, t.table_bytes)
    b = Builder(module)
    count, out, *sources = (Val(f"%p{i}", I64 if i == 0 else PTR) for i in range(len(operands) + 2))
    b.branch("loop")
    b.label("loop")
    i, place = b.phi(I64)
    offset = b.binary("mul", i, const(I64, lanes))

    def stored(type: Type):
        return (
            register_type(type, lanes)
            if type.kind in "iu"
            else ty("f" if type.kind == "f" else "i", max(type.bits, 8), lanes)
        )

    args = []
    for type, source in zip(operands, sources, strict=True):
        memory = stored(type)
        loaded = b.load(memory, b.gep(memory.scalar(), source, offset), type.bytes)
        args.append(to_register(b, type, loaded))
    y = to_memory(b, result, body(b, tuple(args)))
    b.store(y, b.gep(stored(result).scalar(), out, offset), result.bytes)
    following = b.binary("add", i, const(I64, 1))
    b.set_phi(i, place, [(const(I64, 0), "entry"), (following, b.block)])
    b.cond_branch(b.icmp("ult", following, count), "loop", "end")
    b.label("end")
    b.ret()
    params = ", ".join(repr(p) for p in (count, out, *sources))
    module.functions.append("\n".join([f"define void @f({params}) {{", "entry:", *b.lines, "}"]))
    return module.text()


def op_body(op: str, result: Type, operands: tuple[Type, ...]) -> Body:
    return lambda b, args: emit_op(b, op, result, operands, args)


@cache
def compiled(op: str, result: Type, operands: tuple[Type, ...], lanes: int, target: str = "native"):
    """The function as a ctypes callable (kept alive by the cache)."""
    return load(text(op_body(op, result, operands), result, operands, lanes, target), len(operands), target)


def load(source: str, operands: int, target: str = "native"):
    t = jit.target(target)
    address, keep = jit.link(jit.assemble(source, t), "f", t)
    function = ctypes.CFUNCTYPE(None, ctypes.c_int64, *[ctypes.c_void_p] * (operands + 1))(address)
    function.keep = keep
    return function


def run(op: str, *arrays: np.ndarray, result: str | None = None, lanes: int = 16, target: str = "native") -> np.ndarray:
    """``op`` on one-dimensional arrays of equal length; `result` names its type if that is not the last operand's."""
    operands = tuple(TYPE_OF[a.dtype] for a in arrays)
    of = TYPES[result] if result else operands[-1]
    function = compiled(op, of, operands, lanes, target)
    return call(function, of, lanes, *arrays)


def call(function, result: Type, lanes: int, *arrays: np.ndarray) -> np.ndarray:
    n = len(arrays[0])
    padded = -(-n // lanes) * lanes
    sources = [
        np.concatenate([a, np.ones(padded - n, a.dtype)]) if padded > n else np.ascontiguousarray(a) for a in arrays
    ]
    out = np.empty(padded, NUMPY[result.name])
    function(padded // lanes, out.ctypes.data, *(s.ctypes.data for s in sources))
    return out[:n]


def ulp_error(got: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """|got - exact| in units in the last place of `exact`, a wider array; inf where only one is special."""
    t = got.dtype.type
    info = np.finfo(t)
    with np.errstate(all="ignore"):
        rounded = exact.astype(t)
        size = np.abs(exact.astype(np.float64 if t == np.float32 else np.longdouble))
        exponent = np.frexp(np.where(np.isfinite(size) & (size > 0), size, 1))[1] - 1
        exponent = np.maximum(exponent, info.minexp) - info.nmant
        error = np.abs(got.astype(size.dtype) - exact) / np.ldexp(np.ones_like(size), exponent)
        special = ~np.isfinite(rounded) | ~np.isfinite(got)
        same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
        # The step from the largest number to infinity is a step of one unit.
        near = np.isfinite(size) & (size >= info.max * (1 - 4 * info.eps))
        return np.where(special, np.where(same, 0, np.where(near, 1, np.inf)), error)


def exact(function: Callable[..., mpmath.mpf], name: str):
    """A function that NumPy has not in extended precision: by mpmath for few arguments, by SciPy for many."""

    def call(x: np.ndarray) -> np.ndarray:
        if len(x) > 10000:
            from scipy import special

            out = getattr(special, name)(x.astype(np.float64))
            return np.where(np.isinf(x), np.inf, out) if name == "gammaln" else out
        with mpmath.workprec(120):
            out = x.astype(np.longdouble)
            for k, v in enumerate(x.astype(np.float64).tolist()):
                value = function(mpmath.mpf(v))
                high = float(value) if abs(value) < 2**1024 or mpmath.isnan(value) else math.inf
                out[k] = np.longdouble(high) + (float(value - high) if math.isfinite(high) else 0)
        return np.where(x == 0, np.copysign(out, x), out) if name == "erf" else out

    return call


def quiet(function):
    def call(*args):
        with np.errstate(all="ignore"):
            return function(*args)

    return call


def log_gamma(x: mpmath.mpf) -> mpmath.mpf:
    """log |gamma(x)|, infinite at poles and infinities."""
    if mpmath.isnan(x):
        return x
    if abs(x) > 2.6e305 or (x <= 0 and x == mpmath.floor(x)):
        return mpmath.inf
    return mpmath.re(mpmath.loggamma(x))


# Functions of wider arguments, exact to a small part of a unit in the last place of the narrower type.
REFERENCE = {
    "exp": quiet(np.exp),
    "log": quiet(np.log),
    "log2": quiet(np.log2),
    "expm1": quiet(np.expm1),
    "log1p": quiet(np.log1p),
    "sin": quiet(np.sin),
    "cos": quiet(np.cos),
    "tan": quiet(np.tan),
    "sinh": quiet(np.sinh),
    "cosh": quiet(np.cosh),
    "tanh": quiet(np.tanh),
    "asin": quiet(np.arcsin),
    "acos": quiet(np.arccos),
    "atan": quiet(np.arctan),
    "erf": quiet(exact(mpmath.erf, "erf")),
    "erfc": quiet(exact(lambda x: mpmath.erfc(max(min(x, 100), -100)), "erfc")),
    "cbrt": quiet(np.cbrt),
    "lgamma": quiet(exact(log_gamma, "gammaln")),
    "pow": quiet(np.power),
    "atan2": quiet(np.arctan2),
}
