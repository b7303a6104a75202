"""Operations of many shapes and types beside the peers that are installed, the worst last.

    python tests/benchmarks/survey.py [words of the cases wanted ...]

One line a case: milliseconds, the median of several interleaved rounds; how many times as long the best peer takes; the
same of the fastest round of each; the peers. An operation with ' is itself and all its gradients. Each library has a
process of its own: threads of one that spin would be in the way of the others.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "22")  # those of NumPy 2^22 cycles, in place of 2^28

import numpy as np
from compare import PEERS, RNG, seconds

import tinyad as ad

ROUNDS, ROUND = 5, 0.012  # how many, and how many seconds each lasts
PAUSE = 0.005  # seconds between rounds: threads of some libraries spin for a while after their work
Axis = int | tuple[int, ...] | None


def _softmax(xp: Any, x: Any, a: Any) -> Any:
    e = xp.exp(x - x.max(a, keepdims=True))
    return e / e.sum(a, keepdims=True)


def _layer_norm(xp: Any, x: Any, a: Any) -> Any:
    d = x - x.mean(a, keepdims=True)
    return d / xp.sqrt((d * d).mean(a, keepdims=True) + 1e-5)


def _torch_layer_norm(x: Any, a: Any) -> Any:
    torch = import_module("torch")
    last = a in (-1, x.ndim - 1)
    return torch.nn.functional.layer_norm(x, x.shape[-1:]) if last else _layer_norm(torch, x, a)


def _numpy_add_at(x: Any, i: Any, n: int) -> Any:
    out = np.zeros((n, *x.shape[1:]), x.dtype)
    np.add.at(out, i, x)
    return out


def _jax_conv(m: Any, x: Any, w: Any, how: dict[str, int]) -> Any:
    n, pad = x.ndim - 2, how.get("padding", 0)
    steps, dilation = ((how.get(k, 1),) * n for k in ("stride", "dilation"))
    conv = import_module("jax").lax.conv_general_dilated
    return conv(x, w, steps, [(pad, pad)] * n, rhs_dilation=dilation, feature_group_count=how.get("groups", 1))


def _jax_attention(m: Any, q: Any, k: Any, v: Any, causal: bool) -> Any:
    q, k, v = (m.swapaxes(x, 1, 2) for x in (q, k, v))
    return m.swapaxes(import_module("jax").nn.dot_product_attention(q, k, v, is_causal=causal), 1, 2)


def _attention(sdpa: Callable[..., Any], q: Any, k: Any, v: Any, causal: bool) -> Any:
    return sdpa(q, k, v, is_causal=causal, enable_gqa=q.shape[1] != k.shape[1])


def _jax_pool(m: Any, x: Any, how: tuple[int, int], start: float, op: str) -> Any:
    window, step = ((1, 1, n, n) for n in how)
    lax = import_module("jax").lax
    return lax.reduce_window(x, start, getattr(lax, op), window, step, "VALID")


def _adam(m: Any, p: Any, g: Any, a: Any, v: Any, static: Any) -> Any:
    a, v = 0.9 * a + 0.1 * g, 0.99 * v + 0.01 * g * g
    return p - 0.001 * a / (m.sqrt(v) + 1e-8), a, v


def _torch() -> Any:
    return import_module("torch").nn.functional


def _jax_nn() -> Any:
    return import_module("jax").nn


Ways = dict[str, Callable[..., Any]]
# op: the libraries' own ways; a method of this name where nothing stands
OPS: Final[dict[str, Ways]] = {
    "sum": {},
    "prod": {},
    "mean": {},
    "max": {"torch": lambda m, x, a: x.amax(() if a is None else a)},
    "var": {"torch": lambda m, x, a: x.var(a, correction=0)},
    "argmax": {},
    "any": {},
    "all": {},
    "norm": {"any": lambda m, x, a: (x * x).sum() ** 0.5, "torch": lambda m, x, a: m.linalg.norm(x),
             "numpy": lambda m, x, a: m.linalg.norm(x)},
    "softmax": {"any": _softmax, "torch": lambda m, x, a: m.softmax(x, a), "tinyad": lambda m, x, a: m.softmax(x, a),
                "jax": lambda m, x, a: _jax_nn().softmax(x, a)},
    "logsumexp": {"any": lambda m, x, a: m.log(m.exp(x - x.max(a, keepdims=True)).sum(a)) + x.max(a),
                  "torch": lambda m, x, a: m.logsumexp(x, a), "tinyad": lambda m, x, a: m.logsumexp(x, a),
                  "jax": lambda m, x, a: _jax_nn().logsumexp(x, a)},
    "normalise": {"any": _layer_norm, "torch": lambda m, x, a: _torch_layer_norm(x, a)},
    "cumsum": {"any": lambda m, x, a: m.cumsum(x, a)},
    "cumprod": {"any": lambda m, x, a: m.cumprod(x, a)},
    "cummax": {"numpy": lambda m, x, a: m.maximum.accumulate(x, a), "torch": lambda m, x, a: m.cummax(x, a)[0],
               "jax": lambda m, x, a: import_module("jax").lax.cummax(x, a), "any": lambda m, x, a: m.cummax(x, a)},
    "bincount": {"numpy": lambda m, x, i, n: m.bincount(i, x, n), "torch": lambda m, x, i, n: m.bincount(i, x, n),
                 "jax": lambda m, x, i, n: m.bincount(i, x, length=n),
                 "any": lambda m, x, i, n: m.segment_sum(x, i, n)},
    "segments": {"numpy": lambda m, x, i, n: _numpy_add_at(x, i, n),
                 "torch": lambda m, x, i, n: m.zeros((n, *x.shape[1:])).index_add_(0, i, x),
                 "jax": lambda m, x, i, n: m.zeros((n, *x.shape[1:])).at[i].add(x),
                 "any": lambda m, x, i, n: m.segment_sum(x, i, n)},
    "A B": {"any": lambda m, x, y, s: m.matmul(x, y)},
    "AT B": {"any": lambda m, x, y, s: m.matmul(x.T, y)},
    "A BT": {"any": lambda m, x, y, s: m.matmul(x, y.T)},
    "A AT": {"any": lambda m, x, s: m.matmul(x, x.T)},
    "outer": {"any": lambda m, x, y, s: m.outer(x, y)},
    "conv": {"torch": lambda m, x, w, s: getattr(_torch(), f"conv{x.ndim - 2}d")(x, w, **s), "jax": _jax_conv,
             "tinyad": lambda m, x, w, s: getattr(m, f"conv{x.ndim - 2}d")(x, w, **s)},
    "attention": {"torch": lambda m, *a: _attention(_torch().scaled_dot_product_attention, *a), "jax": _jax_attention,
                  "tinyad": lambda m, *a: _attention(m.scaled_dot_product_attention, *a)},
    "max pool": {"torch": lambda m, x, s: _torch().max_pool2d(x, *s), "tinyad": lambda m, x, s: m.max_pool2d(x, *s),
                 "jax": lambda m, x, s: _jax_pool(m, x, s, -np.inf, "max")},
    "mean pool": {"torch": lambda m, x, s: _torch().avg_pool2d(x, *s), "tinyad": lambda m, x, s: m.avg_pool2d(x, *s),
                  "jax": lambda m, x, s: _jax_pool(m, x, s, 0.0, "add") / s[0] ** 2},
    "take": {"any": lambda m, x, i, s: x[i]},
    "2x+b": {"any": lambda m, x, b, s: x * 2.0 + b},
    "chain": {"any": lambda m, x, s: m.tanh(1.5 * x + 0.3) * m.exp(-x * x)},
    "adam": {"any": _adam},
    "gelu": {"torch": lambda m, x, s: _torch().gelu(x), "jax": lambda m, x, s: _jax_nn().gelu(x, False),
             "tinyad": lambda m, x, s: m.gelu(x)},
    "silu": {"torch": lambda m, x, s: _torch().silu(x), "jax": lambda m, x, s: _jax_nn().silu(x),
             "tinyad": lambda m, x, s: m.silu(x)},
    "affine norm": {"any": lambda m, x, w, b, s: _layer_norm(m, x, -1) * w + b,
                    "torch": lambda m, x, w, b, s: _torch().layer_norm(x, x.shape[-1:], w, b)},
}  # fmt: skip

ROWS: Final = [(100_003, 7), (40_001, 24), (16_001, 77), (1000, 1000), (1001, 1001), (20, 50257), (3, 1_000_001)]
COLUMNS: Final = [(1001, 1001), (50257, 20), (7, 100_003), (100_003, 7), (1_000_001, 3), (24, 40_001)]
CASES: Final[list[tuple[str, tuple[int, ...], Axis, str]]] = [
    *((op, s, -1, "f4") for op in ("sum", "max", "var", "argmax", "softmax", "logsumexp", "normalise") for s in ROWS),
    *((op, s, 0, "f4") for op in ("sum", "max", "var", "argmax", "softmax", "normalise") for s in COLUMNS),
    *((op, (30, 201, 333), 1, "f4") for op in ("sum", "max", "var", "argmax", "softmax", "logsumexp", "cumsum")),
    *((op, (32, 64, 57, 57), (0, 2, 3), "f4") for op in ("sum", "var", "normalise")),
    *((op, (64, 100, 77), (0, 2), "f4") for op in ("sum", "var", "max")),
    *((op, (2_000_003,), None, "f4") for op in ("sum", "prod", "max", "var", "norm", "argmax")),
    *((op, (2_000_003,), None, t) for t in ("f8", "i4", "i8", "f2", "u1") for op in ("sum", "max")),
    *((op, (2_000_003,), None, "b1") for op in ("sum", "any", "all")),
    *((op, (1001, 1001), a, "f8") for op in ("sum", "var", "softmax") for a in (0, -1)),
    *((op, (1001, 1001), a, "b1") for op in ("any", "all", "sum") for a in (0, -1)),
    *((op, (1001, 1001), a, t) for t in ("i4", "i8") for op in ("sum", "max", "argmax") for a in (0, -1)),
    *((op, (2_000_003,), 0, "f4") for op in ("cumsum", "cumprod", "cummax")),
    *((op, (1001, 1001), a, "f4") for op in ("cumsum", "cumprod", "cummax") for a in (0, -1)),
    *(("cumsum", (1001, 1001), -1, t) for t in ("f8", "i4", "i8")),
    *(("cumsum", s, -1, "f4") for s in ((100_003, 7), (20, 50257))),
]  # fmt: skip
SCATTERS: Final = [("bincount", (1_000_003,), n) for n in (10, 1000, 100_000)] + [
    ("segments", (100_003, 16), 10), ("segments", (100_003, 16), 5000), ("segments", (5000, 300), 100),
    ("segments", (1_000_003,), 10), ("segments", (1_000_003,), 100_000),
]  # fmt: skip

ODD: Final = (48, 65, 100, 127, 250, 333, 500, 777, 1000, 1500)
MATMULS: Final = [(n, n, n) for n in ODD] + [
    (10_000, 64, 64), (64, 10_000, 64), (64, 64, 10_000), (3000, 7, 3000), (1, 4096, 4096), (5, 1000, 1000),
    (1000, 1000, 5), (8, 3072, 768), (100, 784, 10), (200, 17, 33), (2000, 3, 3), (50, 50_257, 64), (33, 4096, 1024),
]  # fmt: skip
BATCHED: Final = [
    ((100, 50, 50), (100, 50, 50)), ((96, 197, 64), (96, 64, 197)), ((1000, 8, 8), (1000, 8, 8)),
    ((20_000, 3, 3), (20_000, 3, 3)), ((32, 77, 200), (200, 300)),
]  # fmt: skip
VECTORS: Final = [
    *(((n, n), (n,)) for n in (100, 1000, 3000)), *(((n,), (n, n)) for n in (1000, 3000)), ((1_000_003,), (1_000_003,)),
    ((3, 100_003), (100_003,)), ((100_003, 3), (3,)),
]  # fmt: skip
CONVS: Final = [  # batch, channels, size, filters, window, what else
    (8, 64, 56, 64, 3, {"padding": 1}), (1, 64, 56, 64, 3, {"padding": 1}), (3, 100, 28, 100, 3, {"padding": 1}),
    (8, 256, 14, 256, 3, {"padding": 1}), (1, 256, 7, 256, 3, {"padding": 1}), (8, 16, 113, 24, 3, {"padding": 1}),
    (3, 3, 224, 16, 3, {"padding": 1}), (8, 3, 224, 64, 7, {"padding": 3, "stride": 2}), (1, 1, 28, 8, 5, {}),
    (64, 1, 28, 8, 5, {}), (8, 24, 28, 64, 5, {"padding": 2}), (8, 64, 56, 256, 1, {}), (1, 256, 14, 100, 1, {}),
    (8, 256, 28, 64, 1, {"stride": 2}), (8, 64, 56, 100, 3, {"padding": 1, "stride": 2}),
    (3, 64, 28, 64, 3, {"padding": 2, "dilation": 2}), (8, 64, 28, 64, 3, {"padding": 1, "groups": 4}),
    (8, 64, 56, 64, 3, {"padding": 1, "groups": 64}), (3, 100, 28, 100, 5, {"padding": 2, "groups": 100}),
    (8, 256, 14, 256, 7, {"padding": 3, "groups": 256}), (3, 24, 113, 24, 3, {"padding": 1, "groups": 24, "stride": 2}),
    (8, 3, 224, 100, 16, {"stride": 16}),
]  # fmt: skip
CONV_GRADIENTS: Final = (1, 2, 3, 4, 5, 7, 9, 10, 12, 13, 14, 15, 16, 17, 18)  # of those
CONVS_1D: Final = [
    (8, 64, 1000, 64, 3, {"padding": 1}), (3, 16, 10_001, 24, 9, {"stride": 4}), (1, 1, 100_003, 1, 31, {}),
]  # fmt: skip
ATTENTIONS: Final = [  # batch, heads, heads of key and value, length, width, causal
    (1, 1, 1, 100, 32, False), (8, 6, 6, 100, 64, True), (8, 12, 12, 197, 64, False), (1, 12, 12, 512, 64, True),
    (1, 6, 6, 1000, 80, False), (1, 6, 6, 1000, 128, True), (2, 1, 1, 2048, 64, False), (1, 6, 6, 2048, 64, True),
    (1, 12, 3, 512, 64, False), (4, 12, 2, 197, 32, True),
]  # fmt: skip
POOLS: Final = [
    ((8, 64, 55, 55), (2, 2)), ((8, 64, 112, 112), (3, 2)), ((32, 256, 7, 7), (2, 2)), ((3, 24, 112, 112), (2, 2)),
    ((8, 64, 55, 55), (3, 2)), ((32, 256, 7, 7), (3, 2)), ((8, 64, 55, 55), (3, 1)), ((32, 256, 7, 7), (7, 7)),
]  # fmt: skip
TABLES: Final = [(1000, 1), (30_000, 7), (10_000, 64), (1000, 300), (30_000, 768)]
LENGTHS: Final = (1000, 100_003, 1_000_001, 10_000_001)
SHAPES: Final = [(100_003, 7), (40_001, 24), (16_001, 77), (1000, 1000), (1001, 1001), (20, 50257), (8, 128, 768)]
Case = tuple[str, tuple[tuple[int, ...], ...], Any, str]


def _conv(n: int, c: int, size: int, filters: int, window: int, how: dict[str, int], d: int = 2) -> tuple[Any, ...]:
    return ((n, c, *(size,) * d), (filters, c // how.get("groups", 1), *(window,) * d)), how, "f4"


def _attends(n: int, h: int, pairs: int, t: int, d: int, causal: bool) -> tuple[Any, ...]:
    return ((n, h, t, d), (n, pairs, t, d), (n, pairs, t, d)), causal, "f4"


MORE: Final[list[Case]] = [
    *(("A B", ((m, k), (k, n)), None, "f4") for m, k, n in MATMULS),
    *(("A B", ((n, n), (n, n)), None, "f8") for n in (100, 333, 1000)),
    *(("A B", ((250, 250), (250, 250)), None, t) for t in ("i4", "f2")),
    *(("AT B", ((k, m), (k, n)), None, "f4") for m, k, n in MATMULS if m * k * n > 10**8),
    *(("A BT", ((m, k), (n, k)), None, "f4") for m, k, n in MATMULS if m * k * n > 10**7),
    *(("A AT", (s,), None, "f4") for s in ((500, 500), (1000, 64), (64, 10_000))),
    *(("A B", s, None, "f4") for s in (*BATCHED, *VECTORS)),
    *(("outer", ((n,), (n,)), None, "f4") for n in (100, 1000, 3000)),
    *(("A B'", ((m, k), (k, n)), None, "f4") for m, k, n in MATMULS if m * k * n < 2 * 10**8),
    *(("conv", *_conv(*c)) for c in CONVS),
    *(("conv", *_conv(*c, d=1)) for c in CONVS_1D),
    *(("conv'", *_conv(*CONVS[i])) for i in CONV_GRADIENTS),
    *(("conv'", *_conv(*c, d=1)) for c in CONVS_1D),
    *((op, *_attends(*a)) for op in ("attention", "attention'") for a in ATTENTIONS),
    *((op, (s,), how, "f4") for op in ("max pool", "mean pool", "max pool'", "mean pool'") for s, how in POOLS),
    *((op, (s, (n, s[0])), "at", "f4") for op in ("take", "take'") for s in TABLES for n in (100, 10_000)),
    *(("2x+b", ((n,), (n,)), None, t) for t in ("f4", "f8") for n in LENGTHS),
    *((op, ((n,),), None, "f4") for op in ("chain", "gelu", "silu", "gelu'", "silu'") for n in LENGTHS),
    *((op, ((n,),), None, "f8") for op in ("chain", "gelu'") for n in LENGTHS[1:3]),
    *(("adam", ((n,),) * 4, None, "f4") for n in LENGTHS),
    *((op, (s,), -1, "f4") for op in ("softmax'", "logsumexp'") for s in SHAPES),
    *((op, (s, s[-1:], s[-1:]), None, "f4") for op in ("affine norm", "affine norm'") for s in SHAPES),
    *((op, (s,), a, "f4") for op in ("sum'", "max'", "var'", "cumsum'") for s in SHAPES[2:5] for a in (0, -1)),
]  # fmt: skip


def given(op: str, shapes: tuple[tuple[int, ...], ...], static: Any, dtype: str) -> tuple[Any, ...]:
    """Arguments: numbers, and positions where `static` says so of the last, which is (how many, below what)."""
    if static == "at":
        return data("", shapes[0], dtype), RNG.integers(0, shapes[1][1], shapes[1][0])
    return tuple(data("", s, dtype) for s in shapes)


def data(op: str, shape: tuple[int, ...], dtype: str) -> Any:
    """Input for `op`; bools that make it look at all of them."""
    kind = np.dtype(dtype).kind
    if kind == "f":
        return RNG.standard_normal(shape).astype(dtype)
    return np.full(shape, op == "all") if kind == "b" else RNG.integers(0, 100, shape).astype(dtype)


def way(op: str, library: str) -> Callable[..., Any]:
    name = op.removesuffix("'")
    ways = OPS[name]
    f = ways.get(library) or ways.get("any") or (lambda m, x, a: getattr(x, name)(a))
    return f if name == op else GRADIENTS[library](f)


def _pulled(vjp: Callable[..., Any], f: Callable[..., Any]) -> Callable[..., Any]:
    """`f` and its gradients, towards all but integers, with the last argument for a cotangent."""

    def both(m: Any, *args: Any) -> Any:
        *xs, g, static = args
        at = [i for i, x in enumerate(xs) if "int" not in str(x.dtype)]
        y, pull = vjp(lambda *to: f(m, *(to[at.index(i)] if i in at else x for i, x in enumerate(xs)), static),
                      *(xs[i] for i in at))  # fmt: skip
        return y, pull(g)

    return both


def _torch_vjp(f: Callable[..., Any], *xs: Any) -> Any:
    xs = tuple(x.detach().requires_grad_() for x in xs)
    y = f(*xs)
    return y, lambda g: import_module("torch").autograd.grad(y, xs, g)


GRADIENTS: Final[dict[str, Callable[..., Any]]] = {
    "tinyad": lambda f: _pulled(ad.vjp, f),
    "torch": lambda f: _pulled(_torch_vjp, f),
    "jax": lambda f: _pulled(import_module("jax").vjp, f),
}


def step(library: str, op: str, arrays: tuple[Any, ...], static: Any) -> Callable[[], Any]:
    """A call of one library; raises where it has no such operation."""
    if op.endswith("'"):
        like = way(op[:-1], "tinyad")(ad, *map(ad.tensor, arrays), static)
        arrays = (*arrays, RNG.standard_normal(like.shape).astype(arrays[0].dtype))
    f, put = way(op, library), (ad.tensor if library == "tinyad" else PEERS[library][1])
    xs = [put(x) for x in arrays]
    if library == "tinyad":
        jitted = ad.jit(lambda *xs: f(ad, *xs, static))
        return lambda: jitted(*xs)
    if library == "jax":
        jax = import_module("jax")
        jax.config.update("jax_enable_x64", True)
        compiled = jax.jit(lambda *xs: f(import_module("jax.numpy"), *xs, static))
        return lambda: jax.block_until_ready(compiled(*xs))
    m = np if library == "numpy" else import_module("torch")
    return lambda: f(m, *xs, static)


def cases() -> dict[str, tuple[str, Callable[..., Any], tuple[Any, ...], Any]]:
    """By title: the operation, what makes its arguments and of what, its static argument."""
    found = [(f"{op} {shape} axis {axis} {t}", op, data, (op, shape, t), axis) for op, shape, axis, t in CASES]
    found += [(f"{op} {shape} into {n}", op, scattered, (shape, n), n) for op, shape, n in SCATTERS]
    found += [(title(*c), c[0], given, c, c[2]) for c in MORE]
    return {name: tuple(rest) for name, *rest in found}


def serve(library: str) -> None:
    """Reads titles, and how many turns to take; writes the mean seconds of these, or nan. 0 turns make a case ready."""
    table, call = cases(), None
    np.seterr(all="ignore")
    for line in sys.stdin:
        name, turns = line.rsplit(None, 1)
        try:
            if turns == "0":
                op, make, args, static = table[name]
                arrays = made if isinstance(made := make(*args), tuple) else (made,)
                call = step(library, op, arrays, static)
                seconds(call, 2)
            took = seconds(call, int(turns) or 2) if call else float("nan")
        except Exception:
            if library == "tinyad":
                raise
            took, call = float("nan"), None
        print(took, flush=True)


def timed(servers: dict[str, Any], name: str) -> dict[str, list[float]]:
    """The mean seconds of each round, for each library that has the operation."""

    def ask(library: str, turns: int) -> float:
        servers[library].stdin.write(f"{name} {turns}\n")
        servers[library].stdin.flush()
        return float(servers[library].stdout.readline())

    first = {library: ask(library, 0) for library in servers}
    turns = {library: max(int(ROUND / max(t, 1e-7)), 1) for library, t in first.items() if t == t}
    out: dict[str, list[float]] = {library: [] for library in turns}
    for _ in range(ROUNDS):
        for library, n in turns.items():
            time.sleep(PAUSE)
            ask(library, 1)
            out[library].append(ask(library, n))
    return out


def main(words: list[str]) -> None:
    command = [sys.executable, __file__, "--serve"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    servers = {p: subprocess.Popen([*command, p], **pipes) for p in ("tinyad", *(p for p in PEERS if find_spec(p)))}
    ratios = {}
    for name in cases():
        if all(w in name for w in words):
            times = timed(servers, name)
            mine = times.pop("tinyad")
            ratios[name], least = (min(map(f, times.values())) / f(mine) for f in (statistics.median, min))
            row = "  ".join(f"{p} {statistics.median(t) * 1e3:.3f}" for p, t in times.items())
            print(
                f"{name:48} {statistics.median(mine) * 1e3:9.3f} {ratios[name]:6.2f} {least:6.2f}   {row}", flush=True
            )
    for server in servers.values():
        server.stdin.close()
    print("\nworst:")
    for name in sorted(ratios, key=ratios.__getitem__)[:30]:
        print(f"{name:48} {ratios[name]:6.2f}")


def title(op: str, shapes: tuple[tuple[int, ...], ...], static: Any, dtype: str) -> str:
    how = " ".join(f"{k} {v}" for k, v in static.items()) if isinstance(static, dict) else str(static)
    return " ".join([op, *("x".join(map(str, s)) for s in shapes), *[how] * (static is not None), dtype])


def scattered(shape: tuple[int, ...], n: int) -> tuple[Any, Any]:
    return data("", shape, "f4"), RNG.integers(0, n, shape[0])


if __name__ == "__main__":
    serve(sys.argv[2]) if sys.argv[1:2] == ["--serve"] else main(sys.argv[1:])
