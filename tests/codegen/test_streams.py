"""Stores past the caches: where outputs would not be found in them later, and nowhere else; never in the bits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from kernel_tools import TARGET, buffer, compiled, execute, kernel, same_bits, sample

from codegen import jit
from codegen.index import Var, flatten, of
from codegen.loops import Apply, Kernel, Load, Loop, Store, Update
from codegen.scalar import B1, F32, F64, I8, Type
from codegen.target import Target

SMALL = replace(jit.target(TARGET), cache_bytes=1 << 10)
pytestmark = pytest.mark.skipif(not SMALL.triple.startswith("x86_64"), reason="the assembly of x86")


def sums(type: Type, n: int, terms: int = 1) -> Kernel:
    """x + x + ... in one loop."""
    x, y, i = buffer(type, n), buffer(type, n, "out"), Var(n)
    a = total = Load(type, x, of(i))
    body = [a]
    for _ in range(terms):
        total = Apply("add", type, (total, a))
        body.append(total)
    return kernel([Loop(i, [*body, Store(y, of(i), total)])], x, y)


@pytest.mark.parametrize("terms", [1, 70])  # a main loop and a tail; one masked loop
@pytest.mark.parametrize("type", [F32, F64, I8, B1], ids=str)
def test_large_outputs_are_streamed(type: Type, terms: int) -> None:
    n = 5000
    k = sums(type, n, terms)
    asm = compiled(k, SMALL).asm
    assert "movnt" in asm and "sfence" in asm
    usual = compiled(k).asm
    assert "movnt" not in usual and "sfence" not in usual
    x = sample(type, n)
    got, want = np.zeros_like(x), np.zeros_like(x)
    execute(k, x, got, splits=(64, 1000, 1001), target=SMALL)
    execute(k, x, want)
    assert same_bits(got, want)


@pytest.mark.parametrize("width", [16, 64, 7, 24, 77, 1000])
def test_rows_are_streamed_where_all_begin_with_a_line(width: int) -> None:
    """Rows of 24, of which every second one lies aligned, took twelve times as long half past the caches."""
    rows = 40
    x, s, y = buffer(F32, rows * width), buffer(F32, rows), buffer(F32, rows * width, "out")
    i, j = Var(rows), Var(width)
    scale, a = Load(F32, s, of(i)), Load(F32, x, flatten((of(i), of(j)), (rows, width)))
    out = Apply("mul", F32, (a, scale))
    body = [Loop(i, [scale, Loop(j, [a, out, Store(y, flatten((of(i), of(j)), (rows, width)), out)])])]
    k = kernel(body, x, s, y)
    assert ("movnt" in compiled(k, SMALL).asm) == (width % 16 == 0)
    source, scales, got = sample(F32, (rows, width)), sample(F32, rows, 1), np.zeros((rows, width), np.float32)
    execute(k, source, scales, got, splits=(1, 7), target=SMALL)
    assert same_bits(got, source * scales[:, None])


def test_what_is_read_again_stays_in_the_cache() -> None:
    n, i, j = 4000, Var(4000), Var(4000)
    x, y, z = buffer(F32, n), buffer(F32, n, "out"), buffer(F32, n, "inout")
    a = Load(F32, x, of(i))
    b = Load(F32, x, of(j))
    second = Loop(j, [b, Update("sum", y, of(j), b), Store(z, of(j), b)])
    k = kernel([Loop(i, [a, Store(y, of(i), a)]), second], x, y, z)
    target = replace(SMALL, cache_bytes=20_000)  # less than the three, more than one of them
    assert not compiled(k, target).streamed
    target = replace(SMALL, cache_bytes=15_000)
    assert compiled(k, target).streamed == {1}


def test_a_kernel_that_moves_most_of_what_the_cache_holds_is_streamed() -> None:
    n, i = 4000, Var(4000)
    x, y = buffer(F32, n), buffer(F32, n, "out")
    a = Load(F32, x, of(i))
    k = kernel([Loop(i, [a, Store(y, of(i), a)])], x, y)
    assert compiled(k, replace(SMALL, cache_bytes=32 * n // 3)).streamed == {1}
    assert not compiled(k, replace(SMALL, cache_bytes=32 * n // 3 + 2)).streamed


def test_the_size_of_the_cache_is_read(tmp_path) -> None:
    assert jit._cache_bytes(str(tmp_path)) == 32 << 20
    for i, size in enumerate(("32K", "1024K", "8M")):
        (tmp_path / f"index{i}").mkdir()
        (tmp_path / f"index{i}" / "size").write_text(f"{size}\n")
    assert jit._cache_bytes(str(tmp_path)) == 8 << 20
    assert isinstance(jit.target(), Target) and jit.target().cache_bytes >= 1 << 20
