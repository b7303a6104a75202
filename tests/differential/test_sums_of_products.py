"""A product under a sum is a part of the sum, whoever else reads it: the bits depend on nothing else in the graph."""

from __future__ import annotations

import re

import numpy as np
import pytest
from checking import check, repeat
from programs import Program

import tinyad as ad
from codegen import jit, threads
from tinyad.canonical import number
from tinyad.schedule.plan import plan_for

RNG = np.random.default_rng(5)


def normal(*shape: int, dtype: str = "float32") -> ad.Tensor:
    return ad.tensor(RNG.standard_normal(shape).astype(dtype))


def program(*outs: ad.Tensor) -> Program:
    return Program([t.node for t in outs], 0, 0, None)


AXES = [None, 0, 1, (0, 1)]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("shape", [(3, 17), (512, 33), (40, 300), (1024, 130), (5, 20000)], ids=str)
def test_other_readers_of_a_product_change_no_bit(any_size: None, shape: tuple[int, int], dtype: str) -> None:
    x, y = normal(*shape, dtype=dtype), normal(*shape, dtype=dtype)
    alone = [ad.sum(x * y, axis=axis).numpy() for axis in AXES]

    def everything() -> list[ad.Tensor]:
        p = x * y
        sums = [ad.sum(p, axis=axis) for axis in AXES]
        return [*sums, p, ad.exp(p), (p - p.max(axis=1, keepdims=True)).sum(0), p / (1 + abs(sums[2][:, None]))]

    def in_two_kernels() -> list[ad.Tensor]:
        p = ad.exp(x) * ad.tanh(y)  # worth storing
        q = ad.flip(p, 0) + p  # read elsewhere, too
        return [p.sum(1), q.sum(0), (ad.swapaxes(p, 0, 1) * 2).sum(0), p]

    for outs in (everything, in_two_kernels):
        check(program(*outs()))
        repeat(program(*outs()), 3)
    for count in (1, 2, 3):
        threads.use_threads(count)
        for got, want in zip(everything(), alone, strict=False):
            assert np.array_equal(got.numpy(), want, equal_nan=True)


def test_kernels_that_are_alike_store_the_products_of_their_sums() -> None:
    """Arrays that only the sum reads were not among those of the kernel that was known: no kernel was made."""
    for dtype in ("float16", "float32"):
        products = [normal(6, 5, 1, dtype=dtype) * normal(5, 7, dtype=dtype) for _ in range(2)]
        check(program(*products, *(p.sum(1) for p in products)))
        products = [normal(6, 5, 7, dtype=dtype) * normal(5, 7, dtype=dtype) for _ in range(2)]
        check(program(*products, *(p.sum(1) for p in products)))


def test_normalisations_and_their_gradients(any_size: None) -> None:
    """Sums of a block of rows in memory, sums joined with others, sums of products of which one is a product."""
    x, w, b, g = normal(512, 96), normal(96), normal(96), normal(512, 96)
    for axis in (0, 1):

        def loss(x: ad.Tensor, w: ad.Tensor, b: ad.Tensor, axis: int = axis) -> ad.Tensor:
            d = x - x.mean(axis=axis, keepdims=True)
            return ((d / ad.sqrt((d * d).mean(axis=axis, keepdims=True) + 1e-5) * w + b) * g).sum()

        p = program(*ad.grad(loss, argnums=(0, 1, 2))(x, w, b))
        check(p)
        repeat(p, 3)


def test_a_sum_of_products_is_close_to_exact() -> None:
    n = 1 << 22
    x, y = normal(n), normal(n)
    wide = x.numpy().astype(np.longdouble), y.numpy().astype(np.longdouble)
    exact, size = (wide[0] * wide[1]).sum(), abs(wide[0] * wide[1]).sum()
    assert abs(float((x * y).sum()) - exact) <= 2e-9 * size


@pytest.mark.skipif(not jit.target().has_fma, reason="there is no such instruction")
@pytest.mark.parametrize("name", ["dot", "matvec", "vecmat", "squares", "rows", "columns", "variance"])
def test_no_product_is_rounded_on_its_way_into_a_sum(name: str) -> None:
    a, v, m = normal(704, 704), normal(704), normal(704)
    out = {
        "dot": lambda: v @ m,
        "matvec": lambda: a @ v,
        "vecmat": lambda: v @ a,
        "squares": lambda: (a * a).sum(),
        "rows": lambda: (a * a).sum(axis=1),
        "columns": lambda: (a * a).sum(axis=0),
        "variance": lambda: ((a - m) ** 2).sum(axis=1),
    }[name]()
    plan = plan_for(number([out.node]), True)
    text = "".join(jit.compile_kernel(s.lowered.kernel, jit.target()).llvm for s in plan if s.lowered)
    assert "llvm.fma" in text and not re.search(r"fmul <", text)
