"""TINYAD_VERIFY, TINYAD_BOUNDS and TINYAD_GUARD find planted faults, and say where."""

from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import tinyad as ad
from codegen import jit, loops, ops
from codegen.builder import const
from tinyad import buffer, realize
from tinyad.config import config
from tinyad.errors import VerifyError
from tinyad.schedule import plan

ROOT = Path(__file__).parent.parent
X = np.linspace(-1, 1, 77, dtype=np.float32)
posix = pytest.mark.skipif(not sys.platform.startswith(("linux", "darwin")), reason="POSIX memory protection")


def forget() -> None:
    """No code or plan from before is found again."""
    jit.clear()
    plan._plans.clear()


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    realize._code_generator()
    monkeypatch.setattr(jit, "_disk", None)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    forget()
    yield
    forget()


# each kernel against the interpreter --------------------------------------------------------------------------------
def wrong_product(b, x, y):
    """Off by about one unit."""
    product = b.binary("fmul", x, y)
    return b.binary("fadd", product, b.binary("fmul", product, const(x.ty, 2.0**-23)))


def test_a_wrong_operation_is_named_and_written_as_a_script(fresh, monkeypatch) -> None:
    monkeypatch.setattr(config, "verify", True)
    monkeypatch.setitem(ops.TABLE, ("mul", "f"), wrong_product)
    y = ad.exp(ad.tensor(X)) * 3.25 + 1.0  # line of the fault
    line = sys._getframe().f_lineno - 1
    with pytest.raises(VerifyError) as caught:
        y.numpy()
    text = str(caught.value)
    assert "kernel map_77" in text and f"test_safety.py:{line}" in text, text
    assert re.search(r"at \(\d+,\): bits: np.float32\(.*expected np.float32", text)
    script = caught.value.script
    graph = script.read_text()
    assert str(script) in text and "mul" in graph and "exp" not in graph.split("GRAPH")[1], "one operation is enough"
    assert "kernel map_77(" in graph, "the loops are there to be read"


def test_the_script_shows_the_fault_and_that_it_is_gone(fresh, monkeypatch) -> None:
    monkeypatch.setattr(config, "verify", True)
    with monkeypatch.context() as planted:
        planted.setitem(ops.TABLE, ("mul", "f"), wrong_product)
        with pytest.raises(VerifyError) as caught:
            (ad.tensor(X) * 1.7).numpy()
        forget()
        code = compile(caught.value.script.read_text(), str(caught.value.script), "exec")
        with pytest.raises(AssertionError, match="bits"):
            exec(code, {"__file__": str(caught.value.script)})
    env = {k: v for k, v in os.environ.items() if not k.startswith("TINYAD_")} | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, caught.value.script], capture_output=True, text=True, env=env)
    assert done.stdout == "the kernel and the interpreter agree\n", done.stderr


def test_code_that_is_wrong_only_when_fused_is_found(fresh, monkeypatch) -> None:
    """A product is wrong where its operand was just computed: alone, each operation is right."""
    monkeypatch.setattr(config, "verify", True)
    right = ops.TABLE["mul", "f"]

    def wrong(b, x, y):
        just_added = any(line.startswith(f"  {x.ref} = fadd") for line in b.lines)
        return wrong_product(b, x, y) if just_added else right(b, x, y)

    monkeypatch.setitem(ops.TABLE, ("mul", "f"), wrong)
    with pytest.raises(VerifyError, match="fused differs from unfused") as caught:
        ((ad.tensor(X) + 1.5) * 1.7).numpy()
    assert "add" in caught.value.script.read_text().split("GRAPH")[1]


def test_jit_is_verified(fresh, monkeypatch) -> None:
    monkeypatch.setattr(config, "verify", True)
    f = ad.jit(lambda x: ad.tanh(x) * 1.3)
    np.testing.assert_allclose(f(X).numpy(), np.tanh(X) * 1.3, rtol=1e-6)
    monkeypatch.setitem(ops.TABLE, ("mul", "f"), wrong_product)
    forget()
    with pytest.raises(VerifyError):
        ad.jit(lambda x: ad.tanh(x) * 1.3)(X)


# every index against its buffer -------------------------------------------------------------------------------------
def test_kernels_name_the_buffer_that_an_index_leaves(fresh, monkeypatch) -> None:
    """Addresses one element too far, as a fault in lowering would give: nothing is touched, the line is named."""
    monkeypatch.setattr(config, "bounds", True)
    load = loops.Load
    monkeypatch.setattr(loops, "Load", lambda type, buffer, index, mask=None: load(type, buffer, index + 1, mask))
    with pytest.raises(AssertionError, match=r"an index outside of its buffer 0 \(computed for .*test_safety.py"):
        (ad.tensor(X) * 1.7).numpy()


# memory -------------------------------------------------------------------------------------------------------------
@posix
@pytest.mark.parametrize("size", [1, 77, 1024, 5000])
def test_guarded_memory_ends_at_a_fault_and_begins_as_nan(size: int) -> None:
    code = (
        "import ctypes, numpy as np\n"
        "from tinyad.buffer import empty\n"
        f"b = empty(({size},), np.dtype('float32'))\n"
        "assert np.isnan(b.array).all()\n"
        f"ctypes.c_float.from_address(b.address + 4 * {size - 1}).value = 1.0\n"
        "print(b.array[-1], flush=True)\n"
        f"ctypes.c_char.from_address(b.address + 4 * {size}).value\n"
        "print('survived')"
    )
    env = os.environ | {"PYTHONPATH": str(ROOT), "TINYAD_GUARD": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.stdout == "1.0\n" and done.returncode < 0, (done.stdout, done.stderr)


@posix
def test_kernels_run_in_guarded_memory(fresh, monkeypatch) -> None:
    monkeypatch.setattr(config, "guard", True)
    gc.collect()
    live = buffer.usage()["live_bytes"]
    x = ad.tensor(np.arange(35.0, dtype=np.float32).reshape(5, 7))
    got = ad.softmax(x @ ad.permute_dims(x, (1, 0))).numpy()
    want = x.numpy() @ x.numpy().T
    want = np.exp(want - want.max(-1, keepdims=True))
    np.testing.assert_allclose(got, want / want.sum(-1, keepdims=True), rtol=1e-5, atol=1e-30)
    del x, got
    assert buffer.usage()["live_bytes"] <= live
