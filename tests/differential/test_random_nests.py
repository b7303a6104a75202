"""Random programs of two and more products with passes over rows between: what becomes stages of one kernel.

Fused is unfused to the bit, every kernel is what the interpreter says, and threads do not show.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from checking import check, repeat
from programs import Program

import tinyad as ad
from codegen import threads
from tinyad.canonical import number
from tinyad.schedule.plan import plan_for

SIZES = (1, 2, 3, 7, 16, 17, 31, 33, 63, 64, 65, 96, 129, 150)
WIDTHS = (1, 2, 3, 8, 16, 17, 32, 33)
Function = Callable[..., Any]


def turned(x: ad.Tensor) -> ad.Tensor:
    return ad.swapaxes(x, -1, -2)


def kept(f: Function) -> Function:
    """A reduction of rows that keeps its axis."""
    return lambda x: f(x, axis=-1, keepdims=True)


total, top, mean = kept(ad.sum), kept(ad.max), kept(ad.mean)
ROWS: dict[str, Function] = {
    "softmax": lambda s: ad.softmax(s, axis=-1),
    "log_softmax": lambda s: ad.log_softmax(s, axis=-1),
    "by hand": lambda s: ad.exp(s - top(s)) / total(ad.exp(s - top(s))),
    "sigmoid": ad.sigmoid,
    "normalised": lambda s: (s - mean(s)) / ad.sqrt(mean((s - mean(s)) ** 2) + 1e-3),
    "squares": lambda s: ad.relu(s) ** 2 / (total(ad.relu(s) ** 2) + 1e-3),
    "below the top": lambda s: s - top(s),
    "twice": lambda s: ad.softmax(ad.softmax(s, axis=-1) * 2, axis=-1),
    "running": lambda s: ad.cumsum(ad.softmax(s, axis=-1), axis=-1),
}
MASKS: dict[str, Callable[[ad.Tensor, ad.Tensor], ad.Tensor]] = {
    "causal": lambda i, j: i >= j,
    "strict": lambda i, j: i > j,
    "later": lambda i, j: i <= j,
    "moved": lambda i, j: i + 5 >= j,
    "band": lambda i, j: ad.logical_and(i >= j, i - j < 9),
    "two steps": lambda i, j: i * 2 >= j,
    "same": lambda i, j: i == j,
}


class Maker:
    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.dtype = self.one(("float32", "float32", "float64", "float16"))
        self.special = self.chance(0.15)

    def one(self, values: Any) -> Any:
        values = list(values)
        return values[int(self.rng.integers(len(values)))]

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def tensor(self, *shape: int) -> ad.Tensor:
        """Numbers, now and then infinities and NaN, now and then the other way round in memory."""
        turn = len(shape) > 1 and self.chance(0.25)
        x = self.rng.standard_normal((*shape[:-2], shape[-1], shape[-2]) if turn else shape).astype(self.dtype)
        if self.special and x.size:
            x.reshape(-1)[self.rng.integers(0, x.size, 2)] = self.one((np.inf, -np.inf, np.nan, -0.0))
        return turned(ad.tensor(x)) if turn else ad.tensor(x)

    def attention(self) -> tuple[Function, list[ad.Tensor]]:
        heads, n, m = self.one((1, 2, 4, 6)), self.one(SIZES), self.one(SIZES)
        d, e = self.one(WIDTHS), self.one(WIDTHS)
        lead = self.one(((heads,), (heads,), (2, heads)))
        own = self.one((lead, lead, (1,), ()))
        rows, mask, more = ROWS[self.one(ROWS)], self.one((None, *MASKS.values())), self.one(("", "", "p", "sum"))
        composed = self.chance(0.25)

        def f(q: ad.Tensor, k: ad.Tensor, v: ad.Tensor) -> Any:
            allowed = None if mask is None else mask(ad.arange(n)[:, None], ad.arange(m))
            if composed:
                return ad.scaled_dot_product_attention(q, k, v, allowed)
            s = q * 0.3 @ turned(k)
            p = rows(s if allowed is None else ad.where(allowed, s, -30.0))
            y = p @ v
            return (y, p) if more == "p" else (y, (p * p).sum()) if more == "sum" else y

        return f, [self.tensor(*lead, n, d), self.tensor(*own, m, d), self.tensor(*own, m, e)]

    def products(self) -> tuple[Function, list[ad.Tensor]]:
        lead, n, m = self.one(((), (2,), (5,))), self.one(SIZES), self.one(SIZES)
        d, e, depth = self.one(WIDTHS), self.one(WIDTHS), self.one((1, 1, 2))
        first, second, gram = ROWS[self.one(ROWS)], ROWS[self.one(ROWS)], self.chance(0.2)

        def f(x: ad.Tensor, a: ad.Tensor, c: ad.Tensor) -> Any:
            p = first(x @ a)
            if gram:
                return p @ turned(p), turned(p) @ x
            return p @ c if depth == 1 else second(p @ c) @ turned(c)

        return f, [self.tensor(*lead, n, d), self.tensor(d, m), self.tensor(m, e)]

    def program(self) -> list[ad.Tensor]:
        f, xs = self.one((self.attention, self.products))()

        def loss(*xs: ad.Tensor) -> ad.Tensor:
            return sum((y * y).sum() for y in flat(f(*xs)))

        numbers = self.one(((0,), (1,), (2,), (0, 1, 2)))
        slopes = ad.grad(loss, argnums=numbers)
        match self.one(("values", "pulled back", "pulled back", "slopes", "pushed forward", "mapped")):
            case "values":
                return flat(f(*xs))
            case "pulled back":
                y, pull = ad.vjp(f, *xs)
                seeds = [self.like(t) for t in flat(y)]
                return [*flat(y), *pull(tuple(seeds) if isinstance(y, tuple) else seeds[0])]
            case "slopes":
                return flat(slopes(*xs))
            case "pushed forward":
                y, t = ad.jvp(f, tuple(xs), tuple(map(self.like, xs)))
                return [*flat(y), *flat(t)]
            case _:
                return flat(ad.vmap(f)(*[ad.stack([x, x * 0.5]) for x in xs]))

    def like(self, x: ad.Tensor) -> ad.Tensor:
        return ad.tensor(self.rng.standard_normal(x.shape).astype(self.dtype))


def flat(x: Any) -> list[ad.Tensor]:
    return list(x) if isinstance(x, (tuple, list)) else [x]


def holds(seed: int, seen: "Counter[str] | None" = None) -> None:
    nodes = [t.node for t in Maker(seed).program()]
    check(Program(nodes, seed, 0, None))
    bits = set()
    for count in (1, 2, 3):
        threads.use_threads(count)
        bits.add(b"".join(t.numpy().tobytes() for t in Maker(seed).program()))
    assert len(bits) == 1, "the number of threads shows"
    if seed % 4 == 0:
        repeat(Program(nodes, seed, 0, None))
    if seen is not None:
        for step in plan_for(number(nodes), True):
            nest = step.group.nest if step.group is not None else None
            if nest is not None:
                seen["nests"] += 1
                seen["with a rest of rows"] += nest.rows % nest.block > 0
                seen["of several blocks"] += nest.rows > nest.block
                seen["that sum over rows"] += any(s.reduced for s in nest.stages)
                seen["with kept factors"] += any(s.factors for s in nest.stages)
                seen["of several products"] += len(nest.stages) > 1


@pytest.mark.parametrize("first", range(0, 80, 10))
def test_nests(any_size: None, first: int) -> None:
    for seed in range(first, first + 10):
        try:
            holds(seed)
        except Exception as e:
            raise AssertionError(f"seed {seed}: {e}") from e


@pytest.mark.slow
def test_six_hundred_programs_show_every_kind(any_size: None, capsys: pytest.CaptureFixture[str]) -> None:
    seen: Counter[str] = Counter()
    for seed in range(1000, 1600):
        try:
            holds(seed, seen)
        except Exception as e:
            raise AssertionError(f"seed {seed}: {e}") from e
    with capsys.disabled():
        print("\n" + "\n".join(f"{what:22} {count}" for what, count in seen.items()))
    assert len(seen) == 6 and all(count >= 10 for count in seen.values())
