"""Reductions, scans and scatters of many shapes and types beside the peers that are installed, the worst last.

    python tests/benchmarks/survey.py [words of the cases wanted ...]

One line a case: the best of several interleaved rounds, in milliseconds, and how many times as long the best peer
takes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
from compare import PEERS, RNG, seconds

import tinyad as ad

ROUNDS, ROUND = 7, 0.012  # how many, and how many seconds each lasts
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


# op: the libraries' own ways; a method of this name where nothing stands
OPS: Final[dict[str, dict[str, Callable[..., Any]]]] = {
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
    "softmax": {"any": _softmax, "torch": lambda m, x, a: m.softmax(x, a), "tinyad": lambda m, x, a: m.softmax(x, a)},
    "logsumexp": {"any": lambda m, x, a: m.log(m.exp(x - x.max(a, keepdims=True)).sum(a)) + x.max(a),
                  "torch": lambda m, x, a: m.logsumexp(x, a), "tinyad": lambda m, x, a: m.logsumexp(x, a)},
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


def data(op: str, shape: tuple[int, ...], dtype: str) -> Any:
    """Input for `op`; bools that make it look at all of them."""
    kind = np.dtype(dtype).kind
    if kind == "f":
        return RNG.standard_normal(shape).astype(dtype)
    return np.full(shape, op == "all") if kind == "b" else RNG.integers(0, 100, shape).astype(dtype)


def way(op: str, library: str) -> Callable[..., Any]:
    ways = OPS[op]
    return ways.get(library) or ways.get("any") or (lambda m, x, a: getattr(x, op)(a))


def steps(op: str, arrays: tuple[Any, ...], static: Any) -> dict[str, Callable[[], Any]]:
    """A call of each library that is there and has the operation."""
    out: dict[str, Callable[[], Any]] = {}
    for library in ("tinyad", *(p for p in PEERS if find_spec(p))):
        f, put = way(op, library), (ad.tensor if library == "tinyad" else PEERS[library][1])
        xs = [put(x) for x in arrays]
        if library == "tinyad":
            jitted = ad.jit(lambda *xs, f=f: f(ad, *xs, static))
            out[library] = lambda g=jitted, xs=xs: g(*xs)
        elif library == "jax":
            jax = import_module("jax")
            compiled = jax.jit(lambda *xs, f=f: f(import_module("jax.numpy"), *xs, static))
            out[library] = lambda g=compiled, xs=xs, jax=jax: jax.block_until_ready(g(*xs))
        else:
            m = np if library == "numpy" else import_module("torch")
            out[library] = lambda f=f, m=m, xs=xs: f(m, *xs, static)
    return out


def best(named: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """The least mean seconds of a round, for each that runs."""
    turns, least = {}, {}
    for name, step in list(named.items()):
        try:
            turns[name] = max(int(ROUND / max(min(seconds(step, 1), seconds(step, 1), seconds(step, 2)), 1e-7)), 1)
        except Exception:
            if name == "tinyad":
                raise
    for _ in range(ROUNDS):
        for name, n in turns.items():
            least[name] = min(least.get(name, 1e9), seconds(named[name], n))
    return least


def main(words: list[str]) -> None:
    cases = [(f"{op} {shape} axis {axis} {t}", op, (data, op, shape, t), axis) for op, shape, axis, t in CASES]
    cases += [(f"{op} {shape} into {n}", op, (scattered, shape, n), n) for op, shape, n in SCATTERS]
    ratios = {}
    with np.errstate(all="ignore"):
        for title, op, (make, *args), static in cases:
            if all(w in title for w in words):
                arrays = made if isinstance(made := make(*args), tuple) else (made,)
                times = best(steps(op, arrays, static))
                mine = times.pop("tinyad")
                ratios[title] = min(times.values()) / mine
                row = "  ".join(f"{p} {t * 1e3:.3f}" for p, t in times.items())
                print(f"{title:42} {mine * 1e3:9.3f}  {ratios[title]:6.2f}   {row}", flush=True)
    print("\nworst:")
    for title in sorted(ratios, key=ratios.__getitem__)[:30]:
        print(f"{title:42} {ratios[title]:6.2f}")


def scattered(shape: tuple[int, ...], n: int) -> tuple[Any, Any]:
    return data("", shape, "f4"), RNG.integers(0, n, shape[0])


if __name__ == "__main__":
    main(sys.argv[1:])
