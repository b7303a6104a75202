"""Constants chosen by the low bits of an integer: the same ones on every target, in vectors of every length."""

from __future__ import annotations

import numpy as np
import pytest
from harness import TYPE_OF, call, load, text
from levels import LEVELS, runnable_levels

from codegen import jit
from codegen.builder import Builder, Module, Val, ty
from codegen.lookup import COUNT, lookup
from codegen.number import Num

TABLE = [1.5, -2.0, np.pi, 1e-30, -0.0, np.inf, 1 / 3, 7.0]


@pytest.mark.parametrize("level", runnable_levels())
@pytest.mark.parametrize("lanes", [1, 2, 4, 8, 16, 32])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_constant_is_found(level: str, lanes: int, dtype: type) -> None:
    index = np.random.default_rng(3).integers(-(2**31), 2**31, 640)
    bits = index.astype(np.dtype(f"i{np.dtype(dtype).itemsize}")).view(dtype)

    def body(b: Builder, args: tuple[Val, ...]) -> Val:
        return lookup(TABLE, Num(b, args[0]).bits()).v

    t = TYPE_OF[np.dtype(dtype)]
    got = call(load(text(body, t, (t,), lanes, level), 1, level), t, lanes, bits)
    assert got.tobytes() == np.array(TABLE, dtype)[index % COUNT].tobytes()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("bits", [32, 64])
def test_it_is_an_instruction_where_there_is_one(level: str, bits: int) -> None:
    t = jit.target(level)
    b = Builder(Module(t.has_fma, t.has_f16c, t.masks, t.has_long, t.table_bytes))
    lookup(TABLE, Num(b, Val("%x", ty("i", bits, 8 * t.vector_bytes // bits))))
    calls = sum("call" in line for line in b.lines)
    selections = sum("select" in line for line in b.lines)
    whole = t.masks or bits == 32
    assert (calls, selections) == ((0, COUNT - 1) if level == "x86-64-v2" else (1 if whole else 2, 0))
