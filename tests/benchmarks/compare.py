"""tinyad beside the peers that are installed, on this machine, in turns.

    python tests/benchmarks/compare.py [names or prefixes ...]

Each workload is written in each library's own idiom and compiled where the library compiles. Rounds alternate between
the libraries, so that what else the machine does hits all alike; medians are shown, and how many times as long the best
peer takes. Of tinyad's plan: its kernels, and the bytes it moves over those it must (what is given read once, each
result written once). NumPy is always there; `pip install torch jax` adds the others. Threads: `OMP_NUM_THREADS` and
`TINYAD_THREADS`.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import adapter
import numpy as np

ROUNDS, ROUND = 7, 0.15  # how many, and how many seconds each lasts
RNG = np.random.default_rng(0)
Arrays = dict[str, Any]


def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
    return RNG.standard_normal(shape, dtype=np.float32) * np.float32(scale)


N, ROWS, MATRIX, HEADS = 1 << 22, (4096, 1024), (1024, 1024), (1, 8, 1024, 64)
WORKLOADS: dict[str, tuple[str, Callable[[], Arrays], int]] = {  # name: (what, inputs, bytes of the results)
    "E1": ("tanh(ax+b)exp(-x²)", lambda: {"x": normal(1 << 24), "a": 1.5, "b": 0.3}, 4 << 24),
    "E3": ("gelu and its gradient", lambda: {"x": normal(N), "g": normal(N)}, 8 * N),
    "R1": ("sum", lambda: {"x": normal(1 << 24)}, 4),
    "R2": ("softmax of rows", lambda: {"x": normal(*ROWS)}, 4 << 22),
    "R3": (
        "layer norm, all gradients",
        lambda: {"x": normal(*ROWS), "w": normal(1024), "b": normal(1024), "g": normal(*ROWS)},
        8 << 22,
    ),
    "R4": ("logsumexp of rows", lambda: {"x": normal(*ROWS)}, 4 * 4096),
    "R5": ("sum of columns", lambda: {"x": normal(4096, 4096)}, 4 * 4096),
    "M2": ("matmul 1024³", lambda: {"a": normal(*MATRIX), "b": normal(*MATRIX)}, 4 << 20),
    "M7": ("matmul 16x4096x4096", lambda: {"a": normal(16, 4096), "b": normal(4096, 4096)}, 4 << 16),
    "M8": ("gelu(matmul + bias)", lambda: {"x": normal(*MATRIX), "w": normal(*MATRIX), "b": normal(1024)}, 4 << 20),
    "C1": ("conv 3x3", lambda: {"x": normal(8, 64, 56, 56), "w": normal(64, 64, 3, 3, scale=0.05)}, 4 * 8 * 64 * 56**2),
    "C5": (
        "max pooling and its gradient",
        lambda: {"x": normal(8, 64, 56, 56), "g": normal(8, 64, 28, 28)},
        5 * 8 * 64 * 56**2,
    ),
    "H1": ("attention", lambda: {name: normal(*HEADS) for name in "qkv"}, 4 << 19),
    "H2": ("causal attention, gradients", lambda: {name: normal(*HEADS) for name in "qkvg"}, 4 << 21),
    "G1": (
        "embedding and its gradient",
        lambda: {"e": normal(50000, 256), "i": RNG.integers(0, 50000, 8192), "g": normal(8192, 256)},
        4 * (8192 + 50000) * 256,
    ),
}  # fmt: skip


def numpy_steps(xp: Any) -> dict[str, Callable[..., Any]]:
    def layer_norm(x: Any, w: Any, b: Any, g: Any) -> Any:
        d = x - x.mean(-1, keepdims=True)
        r = 1 / xp.sqrt((d * d).mean(-1, keepdims=True) + 1e-5)
        h, gh = d * r, g * w
        dx = r * (gh - gh.mean(-1, keepdims=True) - h * (gh * h).mean(-1, keepdims=True))
        return h * w + b, dx, (g * h).sum(0), g.sum(0)

    def softmax(x: Any) -> Any:
        e = xp.exp(x - x.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True)

    def embedding(e: Any, i: Any, g: Any) -> Any:
        de = xp.zeros_like(e)
        np.add.at(de, i, g)
        return e[i], de

    return {
        "E1": lambda x, a, b: xp.tanh(a * x + b) * xp.exp(-x * x), "R1": lambda x: x.sum(), "R2": softmax,
        "R3": layer_norm, "R4": lambda x: xp.log(xp.exp(x - x.max(1, keepdims=True)).sum(1)) + x.max(1),
        "R5": lambda x: x.sum(0), "M2": xp.matmul, "M7": xp.matmul, "G1": embedding,
    }  # fmt: skip


def torch_steps() -> dict[str, Callable[..., Any]]:
    torch = import_module("torch")
    F = torch.nn.functional

    def pulled(f: Callable[..., Any], *xs: Any, g: Any) -> Any:
        xs = tuple(x.detach().requires_grad_() for x in xs)
        y = f(*xs)
        return y, *torch.autograd.grad(y, xs, g)

    def causal(q: Any, k: Any, v: Any) -> Any:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    def gelu(x: Any) -> Any:
        return F.gelu(x, approximate="tanh")

    return {
        "E1": lambda x, a, b: torch.tanh(a * x + b) * torch.exp(-x * x), "E3": lambda x, g: pulled(gelu, x, g=g),
        "R1": torch.sum, "R2": lambda x: torch.softmax(x, 1), "R4": lambda x: torch.logsumexp(x, 1),
        "R3": lambda x, w, b, g: pulled(lambda x, w, b: F.layer_norm(x, (1024,), w, b), x, w, b, g=g),
        "R5": lambda x: x.sum(0), "M2": torch.matmul, "M7": torch.matmul,
        "M8": lambda x, w, b: gelu(torch.addmm(b, x, w)), "C1": lambda x, w: F.conv2d(x, w, padding=1),
        "C5": lambda x, g: pulled(lambda x: F.max_pool2d(x, 2), x, g=g),
        "H1": F.scaled_dot_product_attention, "H2": lambda q, k, v, g: pulled(causal, q, k, v, g=g),
        "G1": lambda e, i, g: pulled(lambda e: e[i], e, g=g),
    }  # fmt: skip


def jax_steps() -> dict[str, Callable[..., Any]]:
    jax, jnp = import_module("jax"), import_module("jax.numpy")
    lax = jax.lax

    def pulled(f: Callable[..., Any], *xs: Any, g: Any) -> Any:
        y, pull = jax.vjp(f, *xs)
        return y, *pull(g)

    def layer_norm(x: Any, w: Any, b: Any) -> Any:
        d = x - x.mean(-1, keepdims=True)
        return d * lax.rsqrt((d * d).mean(-1, keepdims=True) + 1e-5) * w + b

    def attention(q: Any, k: Any, v: Any, causal: bool = False) -> Any:
        q, k, v = (jnp.swapaxes(x, 1, 2) for x in (q, k, v))
        return jnp.swapaxes(jax.nn.dot_product_attention(q, k, v, is_causal=causal), 1, 2)

    def pool(x: Any) -> Any:
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")

    steps = {
        "E1": lambda x, a, b: jnp.tanh(a * x + b) * jnp.exp(-x * x), "E3": lambda x, g: pulled(jax.nn.gelu, x, g=g),
        "R1": jnp.sum, "R2": lambda x: jax.nn.softmax(x, 1), "R4": lambda x: jax.nn.logsumexp(x, 1),
        "R3": lambda x, w, b, g: pulled(layer_norm, x, w, b, g=g), "R5": lambda x: x.sum(0), "M2": jnp.matmul,
        "M7": jnp.matmul, "M8": lambda x, w, b: jax.nn.gelu(x @ w + b),
        "C1": lambda x, w: lax.conv_general_dilated(x, w, (1, 1), [(1, 1)] * 2),
        "H1": attention, "H2": lambda q, k, v, g: pulled(lambda *x: attention(*x, causal=True), q, k, v, g=g),
        "C5": lambda x, g: pulled(pool, x, g=g), "G1": lambda e, i, g: pulled(lambda e: e[i], e, g=g),
    }  # fmt: skip
    jitted = {name: jax.jit(f) for name, f in steps.items()}
    return {name: lambda *xs, f=f: jax.block_until_ready(f(*xs)) for name, f in jitted.items()}


PEERS: dict[str, tuple[Callable[[], dict[str, Callable[..., Any]]], Callable[[Any], Any]]] = {
    "numpy": (lambda: numpy_steps(np), lambda x: x),
    "torch": (torch_steps, lambda x: import_module("torch").from_numpy(x.copy())),
    "jax": (jax_steps, lambda x: import_module("jax.numpy").asarray(x)),
}


def seconds(step: Callable[[], Any], turns: int) -> float:
    start = time.perf_counter()
    for _ in range(turns):
        step()
    return (time.perf_counter() - start) / turns


def main(wanted: list[str]) -> None:
    peers = {name: (make(), put) for name, (make, put) in PEERS.items() if find_spec(name)}
    print(f"{'':34}{'tinyad ms':>10}" + "".join(f"{name:>10}" for name in peers) + f"{'ratio':>8}  kernels  bytes")
    for name, (title, inputs, written) in WORKLOADS.items():
        if wanted and not any(name.startswith(w) for w in wanted):
            continue
        arrays = inputs()
        steps = {"tinyad": adapter.build(name, dict(arrays))}
        plan = steps["tinyad"].plan
        for peer, (table, put) in peers.items():
            if name in table:
                args = [put(x) if isinstance(x, np.ndarray) else x for x in arrays.values()]
                steps[peer] = lambda f=table[name], args=args: f(*args)
        turns = {peer: max(int(ROUND / max(seconds(step, 1), seconds(step, 2))), 1) for peer, step in steps.items()}
        times: dict[str, list[float]] = {peer: [] for peer in steps}
        for _ in range(ROUNDS):
            for peer, step in steps.items():
                times[peer].append(seconds(step, turns[peer]))
        medians = {peer: statistics.median(t) for peer, t in times.items()}
        best = min((t for peer, t in medians.items() if peer != "tinyad"), default=float("nan"))
        must = sum(x.nbytes for x in arrays.values() if isinstance(x, np.ndarray)) + written
        row = "".join(f"{medians[p] * 1e3:10.3f}" if p in medians else f"{'':10}" for p in peers)
        print(
            f"{name:4}{title:30}{medians['tinyad'] * 1e3:10.3f}{row}{best / medians['tinyad']:8.2f}"
            f"{len(plan):9}{plan.bytes / must:7.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
