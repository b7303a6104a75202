"""Text to object code on several threads at once."""

from __future__ import annotations

import threading

import llvmlite.binding as llvm
import pytest
from kernel_tools import TARGET, buffer

from codegen import jit
from codegen.assemble import assemble, assembly, several
from codegen.index import Var, of
from codegen.jit import Wanted
from codegen.loops import Apply, Kernel, Load, Loop, Store
from codegen.scalar import F32

ADD = "define i64 @f(i64 %a, i64 %b) {\n  %c = add i64 %a, %b\n  ret i64 %c\n}\n"


def powers(count: int) -> Kernel:
    x, y, i = buffer(F32, 64, "in"), buffer(F32, 64, "out"), Var(64)
    body: list = [value := Load(F32, x, of(i))]
    for _ in range(count):
        body.append(value := Apply("mul", F32, (value, value)))
    return Kernel("test", (x, y), (), [Loop(i, [*body, Store(y, of(i), value)])])


def test_what_llvm_refuses_is_said_in_its_words() -> None:
    target = jit.target(TARGET)
    with pytest.raises(RuntimeError, match=r"LLVM: .*expected type"):
        assemble("define nonsense @f()", target)
    with pytest.raises(RuntimeError, match=r"LLVM: .*[Dd]ominate"):
        assemble("define i64 @f() {\n  %a = add i64 %b, 1\n  %b = add i64 1, 1\n  ret i64 %a\n}", target)
    assert "f:" in assembly(ADD, target)


def test_code_is_generated_beside_other_users_of_llvm() -> None:
    """While another thread is inside a function of llvmlite, which would keep everybody out."""
    target, done = jit.target(TARGET), []
    expected = assemble(ADD, target)
    with llvm.ffi.lib._lock:
        thread = threading.Thread(target=lambda: done.append(assemble(ADD, target)))
        thread.start()
        thread.join(20)
    assert done == [expected]


def test_the_number_of_workers_does_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jit, "_disk", None)
    wanted = [Wanted(powers(k)) for k in (1, 2, 3, 4, 2)]
    found = []
    for workers in (1, 3):
        jit.clear()
        built = jit.counts.built
        found.append([code.object for code in jit.compile_kernels(wanted, jit.target(TARGET), workers)])
        assert jit.counts.built == built + 4
    assert found[0] == found[1] and found[0][1] == found[0][4] and len(set(found[0])) == 4


def test_several() -> None:
    meet = threading.Barrier(3, timeout=20)

    def f(x: int) -> int:
        if x < 3:
            meet.wait()  # passed only by three threads at a time
        return x * x

    assert several(f, range(50), 3) == [x * x for x in range(50)]
    assert several(f, [], 3) == [] and several(f, [5, 6], 1) == [25, 36]


@pytest.mark.parametrize("error", [ValueError, IndexError, KeyboardInterrupt])
def test_an_exception_is_raised_when_all_threads_have_ended(error: type[BaseException]) -> None:
    begun = []

    def f(x: int) -> None:
        begun.append(x)
        if x == 4:
            raise error

    before = threading.active_count()
    with pytest.raises(error):
        several(f, range(10_000), 2)
    assert threading.active_count() == before and len(begun) < 10_000
