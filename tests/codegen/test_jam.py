"""Rows of a stencil side by side: equal bits, and what they share is loaded once."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from kernel_tools import NUMPY, buffer, execute, kernel, same_bits, sample

from codegen.analysis import statements
from codegen.assemble import assembly
from codegen.coalesce import coalesce
from codegen.emit import emit
from codegen.index import Var, constant, masked, of
from codegen.jit import target
from codegen.loops import Apply, InRange, Kernel, Load, Loop, Stmt, Store, Value
from codegen.scalar import B1, F16, F32, F64, I16, I32, Type
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
        (10, (5, 2), [(5, 12)]),
        (6, (5, 2), [(1, 20)]),  # so few that it is all
        (5, (3, 3), [(1, 21)]),
    ],
)  # fmt: skip
def test_shared_rows_are_loaded_once(rows: int, taps: tuple[int, int], expected: list[tuple[int, int]]) -> None:
    assert loads(stencil(rows, 40, taps)) == expected


def test_rows_that_share_little_stay_apart() -> None:
    assert loads(stencil(24, 40, (3, 3), step=2)) == [(24, 9)]
    assert loads(stencil(24, 40, (5, 5), step=4)) == [(24, 25)]


def test_large_bodies_stay_apart() -> None:
    assert loads(stencil(24, 40, (20, 20))) == [(24, 400)]


# rows and columns behind masks ----------------------------------------------------------------------------------
def padded(
    size: tuple[int, int], results: tuple[int, int], taps: tuple[int, int], type: Type = F32, step: int = 1,
    apart: int = 1, before: tuple[int, int] = (0, 0),
) -> Kernel:  # fmt: skip
    """y[b, i, j] = Σ w[p, q] x[b, step i + apart p - before, ...], with zeros around x; `size` of its images."""
    (height, width), (rows, columns) = size, results
    x, w = buffer(type, IMAGES * height * width), buffer(type, taps[0] * taps[1])
    y = buffer(type, IMAGES * rows * columns, "out")
    b, i, j = Var(IMAGES, "b"), Var(rows, "i"), Var(columns, "j")
    body: list[Stmt] = []
    total: Value | None = None
    for p in range(taps[0]):
        for q in range(taps[1]):
            row, column = of(i) * step + (p * apart - before[0]), of(j) * step + (q * apart - before[1])
            inside = InRange(B1, row, 0, height), InRange(B1, column, 0, width)
            both = Apply("and", B1, inside)
            place = (of(b) * height + masked(row, height)) * width + masked(column, width)
            loads = Load(type, x, place, both), Load(type, w, constant(p * taps[1] + q))
            term = Apply("mul", type, loads)
            body += [*inside, both, *loads, term]
            total = term if total is None else Apply("add", type, (total, term))
            body += [total] if total is not term else []  # type: ignore[list-item]
    assert total is not None
    body.append(Store(y, (of(b) * rows + of(i)) * columns + of(j), total))
    return kernel([Loop(b, [Loop(i, [Loop(j, body)])])], x, w, y)


def check_padded(size: tuple[int, int], results: tuple[int, int], taps: tuple[int, int], type: Type = F32,
                 step: int = 1, apart: int = 1, before: tuple[int, int] = (0, 0)) -> None:  # fmt: skip
    k = padded(size, results, taps, type, step, apart, before)
    verify(prepare(k))
    x, w = sample(type, IMAGES * size[0] * size[1]), sample(type, taps[0] * taps[1], 1)
    jammed, plain = (np.zeros(IMAGES * results[0] * results[1], NUMPY[type]) for _ in range(2))
    execute(k, x, w, jammed, splits=(1,))
    execute(replace(coalesce(k), prepared=True), x, w, plain)
    assert same_bits(jammed, plain) and np.any(jammed)


@pytest.mark.parametrize("type", [F16, F32, F64, I32], ids=str)
@pytest.mark.parametrize("rows", range(1, 10))
def test_bits_of_small_images(rows: int, type: Type) -> None:
    for columns in range(1, 10):
        check_padded((rows, columns), (rows, columns), (3, 3), type, before=(1, 1))


@pytest.mark.parametrize("type", [F16, F32, F64, I32], ids=str)
def test_bits_of_windows_of_every_kind(type: Type) -> None:
    check_padded((7, 7), (7, 7), (7, 7), type, before=(3, 3))
    check_padded((7, 5), (9, 4), (2, 4), type, before=(3, 1))  # more zeros on one side
    check_padded((9, 9), (9, 9), (3, 3), type, apart=3, before=(3, 3))
    check_padded((9, 8), (5, 4), (3, 3), type, step=2, before=(1, 1))
    check_padded((3, 2), (12, 13), (2, 2), type, before=(5, 6))  # rows of nothing but zeros
    check_padded((14, 14), (14, 14), (5, 5), type, before=(2, 2))
    check_padded((15, 33), (15, 33), (3, 3), type, before=(1, 1))


@pytest.mark.parametrize("rows, columns, taps", [(7, 7, 3), (7, 7, 7), (14, 14, 3), (9, 5, 5)])
def test_all_rows_of_a_small_image_are_side_by_side(rows: int, columns: int, taps: int) -> None:
    k = prepare(padded((rows, columns), (rows, columns), (taps, taps), before=(taps // 2, taps // 2)))
    [images] = k.body
    assert isinstance(images, Loop)
    [outer] = [s for s in images.body if isinstance(s, Loop)]
    body = list(statements(outer.body))
    assert outer.var.extent == 1 and sum(isinstance(s, Store) for s in body) == rows
    assert sum(isinstance(s, Load) and s.buffer is k.buffers[0] for s in body) == rows * taps
    tests = [s for s in body if isinstance(s, InRange)]
    assert len(tests) == taps - 1 and all(outer.var not in s.index.variables() for s in tests)


def test_the_masks_of_a_small_image_are_made_once() -> None:
    k = padded((7, 7), (7, 7), (3, 3), before=(1, 1))
    text = assembly(emit(k, target("x86-64-v4"), "k"), target("x86-64-v4"))
    hot = text[: text.rindex("vmulps")].rsplit("\n.L", 1)[-1]
    assert hot.count("{%k") >= 21 and not re.search(r"vpcmp|vpadd|kmov|kand|vcmp", hot), hot
