"""Long chains of dependent operations run several vectors side by side, bit for bit as one."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_tools import buffer, execute, kernel, same_bits, sample

from codegen import jit
from codegen.index import Var, of
from codegen.loops import Apply, Const, Kernel, Load, Loop, Stmt, Store, Value
from codegen.scalar import F32
from codegen.vectorize import lanes_for


def chain(operations: int, size: int) -> Kernel:
    x, y, i = buffer(F32, size), buffer(F32, size, "out"), Var(size, "i")
    step = Const(F32, 1.25)
    value: Value = Load(F32, x, of(i))
    body: list[Stmt] = [step, value]
    for n in range(operations):
        value = Apply(("add", "mul", "sub")[n % 3], F32, (value, step))
        body.append(value)
    return kernel([Loop(i, [*body, Store(y, of(i), value)])], x, y)


@pytest.mark.parametrize("size", [100, 4096, 5001])
@pytest.mark.parametrize("operations", [3, 50])
def test_chains(operations: int, size: int) -> None:
    x, y = sample(F32, size), np.zeros(size, np.float32)
    execute(chain(operations, size), x, y, splits=(17, 1000))
    step = np.float32(1.25)
    for n in range(operations):
        x = (np.add, np.multiply, np.subtract)[n % 3](x, step)
    assert same_bits(y, x)


def test_only_long_chains_are_wider() -> None:
    target = jit.target("x86-64-v4")
    lanes = [lanes_for(chain(n, 4096).body[0], target) for n in (3, 50)]
    assert lanes == [16, 64]
