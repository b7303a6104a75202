"""Rows of a stencil side by side: equal bits, and what they share is loaded once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from kernel_tools import NUMPY, buffer, execute, kernel, same_bits, sample

from codegen.analysis import statements
from codegen.coalesce import coalesce
from codegen.index import Var, of
from codegen.loops import Apply, Kernel, Load, Loop, Stmt, Store, Value
from codegen.scalar import F32, F64, I16, Type
from codegen.split import prepare
from codegen.verify import verify

IMAGES = 3


def stencil(rows: int, columns: int, taps: tuple[int, int], type: Type = F32, step: int = 1) -> Kernel:
    """y[b, i, j] = Σ x[b, step i + p, j + q] over windows of `taps`, for `rows` and `columns` of results."""
    height, width = (rows - 1) * step + taps[0], columns + taps[1] - 1
    x, y = buffer(type, IMAGES * height * width), buffer(type, IMAGES * rows * columns, "out")
    b, i, j = Var(IMAGES, "b"), Var(rows, "i"), Var(columns, "j")
    body: list[Stmt] = []
    total: Value | None = None
    for p in range(taps[0]):
        for q in range(taps[1]):
            v: Value = Load(type, x, (of(b) * height + of(i) * step + p) * width + of(j) + q)
            body.append(v)  # type: ignore[arg-type]
            if total is not None:
                body.append(v := Apply("add", type, (total, v)))
            total = v
    assert total is not None
    body.append(Store(y, (of(b) * rows + of(i)) * columns + of(j), total))
    return kernel([Loop(b, [Loop(i, [Loop(j, body)])])], x, y)


def loads(k: Kernel) -> list[tuple[int, int]]:
    """Of each loop over rows, its extent and the loads of its body."""
    [images] = prepare(k).body
    assert isinstance(images, Loop)
    return [(s.var.extent, sum(isinstance(x, Load) for x in statements(s.body)))
            for s in images.body if isinstance(s, Loop)]  # fmt: skip


@pytest.mark.parametrize("type", [F32, F64, I16], ids=str)
@pytest.mark.parametrize("rows, columns", [(4, 8), (9, 20), (24, 33), (26, 28), (31, 100)])
def test_bits(rows: int, columns: int, type: Type) -> None:
    k = stencil(rows, columns, (3, 3), type)
    verify(prepare(k))
    x = sample(type, IMAGES * (rows + 2) * (columns + 2))
    jammed, plain = (np.zeros(IMAGES * rows * columns, NUMPY[type]) for _ in range(2))
    execute(k, x, jammed, splits=(1,))
    execute(replace(coalesce(k), prepared=True), x, plain)
    assert same_bits(jammed, plain) and np.any(jammed)


@pytest.mark.parametrize(
    "rows, taps, expected",
    [
        (24, (3, 3), [(6, 18)]),  # four rows of results from six of x, not twelve
        (26, (3, 3), [(13, 12)]),
        (31, (3, 2), [(7, 12), (3, 6)]),  # three are left
        (6, (5, 2), [(2, 14)]),
        (5, (3, 3), [(5, 9)]),  # as many would be left as are taken together
    ],
)  # fmt: skip
def test_shared_rows_are_loaded_once(rows: int, taps: tuple[int, int], expected: list[tuple[int, int]]) -> None:
    assert loads(stencil(rows, 40, taps)) == expected


def test_rows_that_share_little_stay_apart() -> None:
    assert loads(stencil(24, 40, (3, 3), step=2)) == [(24, 9)]
    assert loads(stencil(24, 40, (5, 5), step=4)) == [(24, 25)]


def test_large_bodies_stay_apart() -> None:
    assert loads(stencil(24, 40, (12, 10))) == [(24, 120)]
