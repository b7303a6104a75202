"""Code for a checked target ends at an index outside of its buffer, and touches nothing there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from kernel_tools import TARGET, buffer, execute

from codegen import jit
from codegen.index import Datum, Var, of
from codegen.loops import Const, InRange, Kernel, Load, Loop, Stmt, Store, Update
from codegen.scalar import B1, F32, I32

N = 100


@pytest.fixture(autouse=True)
def illegal_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """These kernels do what the verifier forbids."""
    monkeypatch.setattr("kernel_tools.verify", lambda kernel: None)


def status(body: Callable[[Var], list[Stmt]], *arrays: np.ndarray, buffers: list) -> int:
    i = Var(N, "i")
    kernel = Kernel("test", tuple(buffers), (), [Loop(i, body(i))])
    return execute(kernel, *arrays, target=replace(jit.target(TARGET), checked=True))


def copied(shift: int, size: int = N, mask: bool = False) -> tuple[int, np.ndarray]:
    """The status of ``y[i] = x[i + shift]``, the loads masked to those inside if `mask`; and y."""
    x, y = buffer(F32, size, "in"), buffer(F32, N, "out")
    out = np.zeros(N, np.float32)

    def body(i: Var) -> list[Stmt]:
        test = InRange(B1, of(i) + shift, 0, size)
        value = Load(F32, x, of(i) + shift, test if mask else None)
        return [*([test] if mask else []), value, Store(y, of(i), value)]

    return status(body, np.ones(size, np.float32), out, buffers=[x, y]), out


def test_what_is_inside_runs() -> None:
    found, out = copied(0)
    assert found == 0 and out.all()


@pytest.mark.parametrize("shift", [-1, 1, 5000, -5000])
def test_a_load_outside(shift: int) -> None:
    assert copied(shift)[0] == -1


def test_masked_lanes_do_not_count() -> None:
    found, out = copied(3, mask=True)
    assert found == 0 and out[:-3].all() and not out[-3:].any()


@pytest.mark.parametrize("index", [lambda i: of(i) + 1, lambda i: of(i) * 2, lambda i: of(i) * -1 + (N - 2)])
def test_a_store_outside(index: Callable[[Var], object]) -> None:
    x, y = buffer(F32, N, "in"), buffer(F32, N, "out")

    def body(i: Var) -> list[Stmt]:
        value = Load(F32, x, of(i))
        return [value, Store(y, index(i), value)]

    assert status(body, np.ones(N, np.float32), np.zeros(N, np.float32), buffers=[x, y]) == -2


@pytest.mark.parametrize("bad", [N, -1, 2**30])
@pytest.mark.parametrize("place", [0, 57, N - 1])
def test_an_index_from_memory(bad: int, place: int) -> None:
    x, k, y = buffer(F32, N, "in"), buffer(I32, N, "in"), buffer(F32, N, "out")
    indices = np.arange(N, dtype=np.int32)
    arrays = np.ones(N, np.float32), indices, np.zeros(N, np.float32)

    def gather(i: Var) -> list[Stmt]:
        at = Load(I32, k, of(i))
        value = Load(F32, x, of(Datum(at, N)))
        return [at, value, Store(y, of(i), value)]

    def scatter(i: Var) -> list[Stmt]:
        at = Load(I32, k, of(i))
        one = Const(F32, 1.0)
        return [at, one, Update("sum", y, of(Datum(at, N)), one)]

    assert status(gather, *arrays, buffers=[x, k, y]) == 0
    assert status(scatter, *arrays, buffers=[x, k, y]) == 0
    indices[place] = bad
    assert status(gather, *arrays, buffers=[x, k, y]) == -1
    assert status(scatter, *arrays, buffers=[x, k, y]) == -3


def test_unchecked_code_is_the_same_as_ever() -> None:
    x, y, i = buffer(F32, N, "in"), buffer(F32, N, "out"), Var(N, "i")
    value = Load(F32, x, of(i))
    kernel = Kernel("test", (x, y), (), [Loop(i, [value, Store(y, of(i), value)])])
    code = jit.compile_kernel(kernel, jit.target(TARGET))
    assert "outside" not in code.llvm
