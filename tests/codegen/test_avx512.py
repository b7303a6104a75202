"""Instructions of AVX-512 give the bits that all other targets, and vectors without them, give."""

from __future__ import annotations

import numpy as np
import pytest
from harness import run
from kernel_tools import TARGET, same_bits

from codegen import jit
from codegen.builder import Builder, Module, Val, ty

SPECIAL = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, -np.nan, 1e-45, -1e-45, 3e38, -3e38]


@pytest.mark.parametrize("op", ["max", "min"])
@pytest.mark.parametrize("lanes", [4, 16, 32])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extremes_of_special_values(op: str, lanes: int, dtype: type) -> None:
    x, y = (a.reshape(-1).astype(dtype) for a in np.meshgrid(SPECIAL, SPECIAL))
    assert same_bits(run(op, x, y, lanes=lanes, target=TARGET), run(op, x, y, lanes=1, target=TARGET))


@pytest.mark.parametrize("lanes", [4, 16, 64])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exp_rounds_once_where_it_is_denormal(lanes: int, dtype: type) -> None:
    edge = 110 if dtype is np.float32 else 760
    x = np.concatenate([np.linspace(-edge, edge, 20_000), 1e30 * np.array(SPECIAL[:6]), SPECIAL]).astype(dtype)
    assert same_bits(run("exp", x, lanes=lanes, target=TARGET), run("exp", x, lanes=1, target=TARGET))


def test_they_are_used_where_they_exist() -> None:
    def text(has_avx512: bool) -> str:
        from codegen.ops import emit_op
        from codegen.scalar import F32

        b = Builder(Module(has_avx512=has_avx512))
        t = ty("f", 32, 32)
        v = emit_op(b, "max", F32, (F32, F32), (Val("%x", t), Val("%y", t)))
        emit_op(b, "exp", F32, (F32,), (v,))
        return "\n".join(b.lines)

    with_them, without = text(True), text(False)
    assert with_them.count("avx512.mask.range") == 4 and with_them.count("avx512.mask.scalef") == 2
    assert "avx512" not in without and "maximum" in without
    assert jit.target("x86-64-v4").masks and not jit.target("x86-64-v3").masks
