"""Long chains of dependent operations run several vectors side by side, bit for bit as one."""

from __future__ import annotations

import re

import numpy as np
import pytest
from kernel_tools import buffer, execute, kernel, same_bits, sample

from codegen import jit
from codegen.index import Var, of
from codegen.loops import Apply, Const, Kernel, Load, Loop, Stmt, Store, Value
from codegen.math import FUNCTIONS
from codegen.scalar import F32, F64, Type
from codegen.vectorize import OUTLINED, lanes_for


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


def test_deep_bodies_are_two_vectors_where_registers_are_many() -> None:
    loops = [calls("tanh", F32, 4096, places).body[0] for places in (1, 2)]
    assert all(isinstance(x, Loop) for x in loops)
    lanes = [
        [lanes_for(x, jit.target(level)) for x in loops if isinstance(x, Loop)] for level in ("x86-64-v3", "x86-64-v4")
    ]
    assert lanes == [[8, 8], [16, 32]]


def calls(op: str, type: Type, size: int, places: int, stored: bool = False) -> Kernel:
    """Functions one after the other, mixed with what keeps their results in their domain."""
    x, i = buffer(type, size), Var(size, "i")
    outs = [buffer(type, size, "out") for _ in range(places if stored else 1)]
    quarter = Const(type, 0.25)
    value: Value = Load(type, x, of(i))
    body: list[Stmt] = [quarter, value]
    for k in range(places):
        body.append(value := Apply("mul", type, (value, quarter)))
        body.append(value := Apply("abs", type, (value,)))
        body.append(value := Apply("add", type, (value, quarter)))
        body.append(value := Apply(op, type, (value, quarter) if op in ("pow", "atan2") else (value,)))
        if stored or k == places - 1:
            body.append(Store(outs[k if stored else 0], of(i), value))
    return kernel([Loop(i, body)], x, *outs)


@pytest.mark.parametrize("type", [F32, F64], ids=str)
@pytest.mark.parametrize("op", FUNCTIONS)
def test_chains_of_calls_have_the_bits_of_single_calls(op: str, type: Type) -> None:
    size, places = 300, OUTLINED
    assert lanes_for(calls(op, type, size, places).body[0], jit.target("x86-64-v4")) == 4 * 64 // type.bytes
    dtype = {F32: np.float32, F64: np.float64}[type]
    x, y = np.linspace(-9, 9, size).astype(dtype), np.zeros(size, dtype)
    execute(calls(op, type, size, places), x, y, splits=(17, 65, 200))
    for _ in range(places):
        z = np.zeros(size, dtype)
        execute(calls(op, type, size, 1), x, z)
        x = z
    assert same_bits(y, x)


def test_many_results_are_stored_where_they_are_computed() -> None:
    """They would be on the stack otherwise until the end."""
    code = jit.compile_kernel(calls("tanh", F32, 4096, 40, stored=True), jit.target("x86-64-v4"))
    text = code.llvm[code.llvm.index("@kernel") :]
    first, last = text.index("call void @llvm.masked.store"), text.rindex("@tanh.")
    assert first < last
    frame = re.search(r"kernel:.*?subq\s+\$(\d+), %rsp", code.asm, re.S)
    assert frame and int(frame[1]) < 64 * 64
    assert "andq\t$-64, %rsp" in code.asm, "vectors on the stack are aligned"
