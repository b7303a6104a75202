"""What the machine code is made of, and how kernels are compiled and kept."""

from __future__ import annotations

import re
import threading

import numpy as np
import pytest
from kernel_tools import TARGET, buffer, compiled, execute, sample

from codegen import elf, jit
from codegen.index import Var, of
from codegen.loops import Apply, Kernel, Load, Loop, Stmt, Store
from codegen.scalar import F16, F32, F64, I32, Type
from codegen.target import level

LIBRARY = {"memcpy", "memset", "memmove"}


def square(n: int, type: Type = F32, name: str = "test", op: str = "mul") -> Kernel:
    x, y, i = buffer(type, n, "in", name), buffer(type, n, "out"), Var(n, name)
    a = Load(type, x, of(i))
    out = Apply(op, type, (a, a))
    return Kernel(name, (x, y), (), [Loop(i, [a, out, Store(y, of(i), out)])])


@pytest.mark.parametrize("name", ["x86-64-v2", "x86-64-v3", "x86-64-v4", "native"])
@pytest.mark.parametrize("type", [F32, F64, I32], ids=str)
def test_vectors_are_as_wide_as_the_target(name: str, type: Type) -> None:
    target = jit.target(name)
    text = jit.compile_kernel(square(1000, type), target).llvm
    element = {F32: "float", F64: "double", I32: "i32"}[type]
    assert f"<{target.vector_bytes // type.bytes} x {element}>" in text


@pytest.mark.parametrize("name", ["x86-64-v2", "x86-64-v3", "x86-64-v4"])
@pytest.mark.parametrize("op, type", [("mod", F64), ("idiv", F32), ("add", F16), ("pow", I32), ("atan2", F32)])
def test_no_hidden_calls_and_no_fast_math(name: str, op: str, type: Type) -> None:
    code = jit.compile_kernel(square(100, type, op=op), jit.target(name))
    assert set(elf.undefined_symbols(code.object)) <= LIBRARY
    assert not re.search(r"\b(frem|fast|nnan|ninf|nsz|arcp|contract|reassoc|nsw|nuw)\b", code.llvm)


def test_equal_kernels_share_code() -> None:
    jit.clear()
    first = compiled(square(64, name="a"))
    assert compiled(square(64, name="b")).functions[0].address == first.functions[0].address
    assert compiled(square(65)).functions[0].address == first.functions[0].address, "the outer extent is handed over"
    assert compiled(square(64, F64)).functions[0].address != first.functions[0].address
    older = jit.compile_kernel(square(64), jit.target("x86-64-v2"))
    assert older.functions[0].address != first.functions[0].address or TARGET == "x86-64-v2"
    kept = first.functions[0].address
    jit.clear()
    assert compiled(square(64)).functions[0].address != kept


def test_texts_and_facts_of_compiled_code() -> None:
    code = compiled(square(100))
    assert code.functions[0].outer == 100 and code.scratch == 0 and 0 < code.seconds < 10
    assert "define void @kernel" in code.llvm and "kernel:" in code.asm


def test_threads_compile_one_kernel_once() -> None:
    jit.clear()
    found: list[jit.Compiled] = []
    threads = [threading.Thread(target=lambda: found.append(compiled(square(77)))) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(found) == 4 and len({c.functions[0].address for c in found}) == 1


def test_released_code_does_not_disturb_the_rest() -> None:
    kept = compiled(square(31))
    jit.clear()
    for n in range(40, 50):
        execute(square(n), sample(F32, n), np.zeros(n, np.float32))
    jit.clear()
    assert kept.functions
    execute(square(31), sample(F32, 31), np.zeros(31, np.float32))


def test_code_for_another_machine_is_emitted_but_not_run() -> None:
    target = level("aarch64" if jit.target().triple.startswith("x86_64") else "x86-64-v2", jit.target().triple)
    image = jit.assemble(jit.emit(square(100), target, "kernel"), target)
    assert image[:4] == b"\x7fELF" or "linux" not in target.triple
    with pytest.raises(ValueError, match="does not run here"):
        jit.link(image, "kernel", target)


def test_unknown_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="expected native or one of"):
        level("pentium", "x86_64-unknown-linux-gnu")


@pytest.mark.parametrize("type", [F32, F64], ids=str)
def test_functions_used_often_are_called_and_give_the_same_bits(type: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, i = buffer(type, 101, "in"), buffer(type, 101, "out"), Var(101, "i")
    body: list[Stmt] = [value := Load(type, x, of(i))]
    for k in range(12):
        body.append(value := Apply(("sin", "tanh", "exp")[k % 3], type, (value,)))
    kernel = Kernel("test", (x, y), (), [Loop(i, [*body, Store(y, of(i), value)])])
    out = []
    for places in (4, 5):
        monkeypatch.setattr("codegen.vectorize.OUTLINED", places)
        jit.clear()
        text = compiled(kernel).llvm
        assert ("@tanh." in text) == (places == 4)
        out.append(np.zeros(101, {F32: np.float32, F64: np.float64}[type]))
        execute(kernel, sample(type, 101), out[-1])
    assert out[0].tobytes() == out[1].tobytes()
