"""What is done with the results of rows, done for many rows at once: the bits of one row after another."""

from __future__ import annotations

import re

import numpy as np
import pytest
from kernel_tools import NUMPY, buffer, compiled, execute, kernel, row_tree, same_bits, sample

from codegen.emit_rows import epilogue
from codegen.index import Var, flatten, of
from codegen.loops import Accumulator, Apply, Const, Kernel, Load, Loop, Reduce, Result, Store
from codegen.scalar import F16, F32, F64, Type
from codegen.target import level

V3, V4 = (level(name, "x86_64-unknown-linux-gnu") for name in ("x86-64-v3", "x86-64-v4"))


def logs(type: Type, rows: int, width: int, reads_back: bool = False) -> Kernel:
    """log(sum |x|) * scale + sum |x|, and the sum itself, which is stored before."""
    x, s = buffer(type, rows * width), buffer(type, rows)
    y, z = buffer(type, rows, "out"), buffer(type, rows, "out")
    i, j = Var(rows, "i"), Var(width, "j")
    scale, one = Load(type, s, of(i)), Const(type, 1.0)
    a = Load(type, x, flatten((of(i), of(j)), (rows, width)))
    size = Apply("abs", type, (a,))
    r = Reduce((j,), [a, size], (Accumulator("sum", type, size),))
    total = Result(type, r)
    again = Load(type, z, of(i)) if reads_back else Result(type, r)
    log = Apply("log", type, (again,))
    scaled = Apply("mul", type, (log, scale))
    out = Apply("add", type, (scaled, total))
    k = Var(1, "k")  # a loop, so that the sum belongs to the rows one by one
    body = [scale, one, r, total, Loop(k, [Store(z, of(i), total)]), again, log, scaled, out, Store(y, of(i), out)]
    return kernel([Loop(i, body)], x, s, z, y)


@pytest.mark.parametrize("rows", [2, 63, 64, 65, 200])
@pytest.mark.parametrize("width", [7, 40])
@pytest.mark.parametrize("type", [F32, F64, F16], ids=str)
@pytest.mark.parametrize("target", [None, V3], ids=["native", "v3"])
def test_rows_at_once_and_one_by_one(rows: int, width: int, type: Type, target: object) -> None:
    k = logs(type, rows, width)
    assert epilogue(k.body[0]) == 5
    x, s = sample(type, (rows, width)), sample(type, rows, 1)
    sums, got = np.zeros(rows, NUMPY[type]), np.zeros(rows, NUMPY[type])
    execute(k, x, s, sums, got, splits=(1, 30, 64, 100), target=target)
    wide = np.abs(x).astype(np.float32) if type is F16 else np.abs(x)
    assert same_bits(sums, np.array([row_tree(row[None], "sum") for row in wide]).astype(NUMPY[type]))
    for i in (0, rows // 2, rows - 1):
        one, alone = np.zeros(1, NUMPY[type]), np.zeros(1, NUMPY[type])
        execute(logs(type, 1, width), x[i : i + 1], s[i : i + 1], one, alone)
        assert same_bits(alone, got[i : i + 1])


def test_the_logarithm_is_a_vector() -> None:
    asm = compiled(logs(F32, 100, 40), V4).asm
    fused = re.findall(r"vfn?madd\w+", asm)
    assert fused and not any(name.endswith("ss") for name in fused)


def test_what_rows_read_back_is_left_alone() -> None:
    assert epilogue(logs(F32, 10, 7, reads_back=True).body[0]) == 0
