"""What is fetched before it is read: by which pass, and never by what has no need of it."""

from __future__ import annotations

import re

import numpy as np
import pytest
from kernel_tools import buffer, compiled, execute, kernel

from codegen import jit
from codegen.ahead import fetches
from codegen.emit import emit
from codegen.index import Var, of
from codegen.loops import Acc, Accumulator, Apply, Contract, Kernel, Load, Loop, Reduce, Result, Stmt, Store
from codegen.scalar import F32


def softmax(rows: int, n: int, passes: int) -> Kernel:
    """The first `passes` of: the maximum of a row, the sum of exponentials, their quotients."""
    x, y, z = buffer(F32, rows * n), buffer(F32, rows, "out"), buffer(F32, rows * n, "out")
    i, j, k, m = Var(rows, "i"), Var(n, "j"), Var(n, "k"), Var(n, "m")

    def shifted(var: Var, top: Result) -> list[Stmt]:
        a = Load(F32, x, of(i) * n + of(var))
        d = Apply("sub", F32, (a, top))
        return [a, d, Apply("exp", F32, (d,))]

    a = Load(F32, x, of(i) * n + of(j))
    first = Reduce((j,), [a], (Accumulator("max", F32, a),))
    top = Result(F32, first)
    body: list[Stmt] = [first, top]
    value = top
    if passes > 1:
        inner = shifted(k, top)
        second = Reduce((k,), inner, (Accumulator("sum", F32, inner[-1]),))
        value = Result(F32, second)
        body += [second, value]
    if passes > 2:
        inner = shifted(m, top)
        quotient = Apply("div", F32, (inner[-1], value))
        body.append(Loop(m, [*inner, quotient, Store(z, of(i) * n + of(m), quotient)]))
    body.append(Store(y, of(i), value))
    return kernel([Loop(i, body)], x, y, z)


@pytest.mark.parametrize(("passes", "fetching"), [(1, 0), (2, 2), (3, 2)])
def test_passes_that_do_not_store_fetch_the_next_row_in_shares(passes: int, fetching: int) -> None:
    (loop,) = softmax(8, 1000, passes).body
    assert isinstance(loop, Loop)
    reduces = [s for s in loop.body if isinstance(s, Reduce)]
    found = fetches(loop)
    assert list(found) == [id(r) for r in reduces[:fetching]]
    for k, ((_, e),) in enumerate(found.values()):
        assert (e.coefficient(loop.var), e.const) == (1000, 1000 + k * 500)
        at = e + of(loop.var) * -1000
        assert at.bounds == (1000 + k * 500, 1499 + k * 500)


def test_short_rows_are_not_fetched() -> None:
    (loop,) = softmax(8, 100, 3).body
    assert isinstance(loop, Loop) and not fetches(loop)


def test_fetching_touches_nothing() -> None:
    """The row after the last one lies behind a page that must not be touched."""
    k = softmax(5, 1000, 3)
    assert "prefetch" in compiled(k, "x86-64-v4").asm and "prefetch" not in compiled(softmax(5, 1000, 1)).asm
    x = np.random.default_rng(0).standard_normal((5, 1000)).astype(np.float32)
    sums, out = np.zeros(5, np.float32), np.zeros_like(x)
    execute(k, x, sums, out)
    assert np.allclose(out.sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("rows", [256, 8192])
def test_rows_of_columns_are_fetched_where_no_cache_holds_them(rows: int) -> None:
    columns = 4096
    x, y = buffer(F32, rows * columns), buffer(F32, columns, "out")
    i, j = Var(columns, "i"), Var(rows, "j")
    a = Load(F32, x, of(j) * columns + of(i))
    r = Reduce((j,), [a], (Accumulator("sum", F32, a),), "column")
    total = Result(F32, r)
    k = kernel([Loop(i, [r, total, Store(y, of(i), total)])], x, y)
    assert ("prefetch" in compiled(k).asm) == (rows == 8192)


@pytest.mark.parametrize(("batch", "n", "shared", "fetching"), [
    (64, 128, False, 2), (64, 128, True, 1), (64, 32, False, 0), (64, 512, False, 0), (1, 128, False, 0),
])  # fmt: skip
def test_products_fetch_the_factors_of_the_next(batch: int, n: int, shared: bool, fetching: int) -> None:
    """A share for each of the tiles, so that all of what comes next is asked for once; a shared factor is there."""
    size = batch * n * n
    a, b, c = buffer(F32, size), buffer(F32, n * n if shared else size), buffer(F32, size, "out")
    t, i, j, r = Var(batch, "t"), Var(n, "i"), Var(n, "j"), Var(n, "r")
    x = Load(F32, a, of(t) * (n * n) + of(i) * n + of(r))
    y = Load(F32, b, of(t) * (0 if shared else n * n) + of(r) * n + of(j))
    acc = Acc(F32)
    store = Store(c, of(t) * (n * n) + of(i) * n + of(j), acc)
    k = kernel([Loop(t, [Contract((i,), (j,), (r,), [x], x, [y], y, acc, [store])])], a, b, c)
    tiles = (n // 8) * (n // 32)
    lines = len(re.findall("call void @llvm.prefetch", emit(k, jit.target("x86-64-v4"), "k")))
    assert lines == fetching * -(-4 * n * n // (64 * tiles))
    rng = np.random.default_rng(0)
    x0, y0 = (rng.standard_normal((1 if s else batch, n, n)).astype(np.float32) for s in (False, shared))
    out = np.zeros((batch, n, n), np.float32)
    execute(k, x0, y0, out)
    assert np.allclose(out, x0 @ y0, atol=1e-3)


@pytest.mark.parametrize(("rows", "columns", "op", "halves"), [
    (16384, 1024, "mul", True), (2048, 8192, "mul", False), (2048, 8192, "", True), (1024, 1024, "mul", False),
    (16384, 1024, "exp", False),
])  # fmt: skip
def test_sums_of_far_rows_are_loaded_in_halves(rows: int, columns: int, op: str, halves: bool) -> None:
    x, v, y = buffer(F32, rows * columns), buffer(F32, columns), buffer(F32, rows, "out")
    i, j = Var(rows, "i"), Var(columns, "j")
    a, w = Load(F32, x, of(i) * columns + of(j)), Load(F32, v, of(j))
    by = {"mul": [w, Apply("mul", F32, (a, w))], "exp": [Apply("exp", F32, (a,))], "": []}[op]
    body: list[Stmt] = [a, *by]
    r = Reduce((j,), body, (Accumulator("sum", F32, body[-1]),))  # type: ignore[arg-type]
    result = Result(F32, r)
    k = kernel([Loop(i, [r, result, Store(y, of(i), result)])], x, v, y)
    text = emit(k, jit.target("x86-64-v4"), "kernel")
    assert ("%status) #1 {" in text) is halves
