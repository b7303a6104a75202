"""Contractions in parts and with domains: the same bits as in one piece, and less work."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from kernel_tools import buffer, compiled, execute, kernel, same_bits, sample
from test_emit_contract import chained

from codegen.conditions import implied
from codegen.index import Index, Var, constant, of
from codegen.loops import Acc, Apply, Const, Contract, IndexValue, InRange, Kernel, Load, Loop, Part, Store
from codegen.scalar import B1, F32, F64, I8, I64, Type
from codegen.text import dump
from codegen.verify import LoopError, verify


def summed(type: Type, heads: int, m: int, n: int, total: int, step: int, domain: bool = False) -> Kernel:
    """c[h] = a[h].T @ b[h] with k in parts of `step`; with a `domain`, of the terms with k >= m."""
    a, b = buffer(type, heads * total * m), buffer(type, heads * total * n)
    c = buffer(type, heads * m * n, "out")
    h = Var(heads, "h")

    def piece(start: Index, steps: int, after: Contract | None = None) -> Contract:
        i, j, k = Var(m, "i"), Var(n, "j"), Var(steps, "k")
        row = of(h) * total + start + of(k)
        x, y, acc = Load(type, a, row * m + of(i)), Load(type, b, row * n + of(j)), Acc(type)
        body_a, value = [x], x
        if domain:
            mask = InRange(B1, start + of(k) + of(i) * -1, 0, total)
            zero = Const(type, 0)
            value = Apply("where", type, (mask, x, zero))
            body_a = [mask, x, zero, value]
        where = (start + of(k) + of(i) * -1,) if domain else ()
        store = Store(c, of(h) * (m * n) + of(i) * n + of(j), acc)
        part = Part(start, step, total, after)
        return Contract((i,), (j,), (k,), body_a, value, [y], y, acc, [store], "", where, part)

    whole, rest = divmod(total, step)
    q = Var(whole, "q")
    first = piece(of(q) * step, step)
    last = [piece(constant(whole * step), rest, first)] if rest else []
    return kernel([Loop(h, [Loop(q, [first]), *last])], a, b, c)


@pytest.mark.parametrize("domain", [False, True])
@pytest.mark.parametrize(
    ("total", "step"), [(64, 64), (200, 64), (256, 64), (700, 64), (640, 32), (513, 256), (250, 50)]
)
@pytest.mark.parametrize(("m", "n"), [(5, 3), (37, 70)])
def test_parts_go_on_with_the_chains(m: int, n: int, total: int, step: int, domain: bool) -> None:
    a, b = sample(F32, (2, total, m)), sample(F32, (2, total, n))
    c = np.zeros((2, m, n), np.float32)
    execute(summed(F32, 2, m, n, total, step, domain), a, b, c)
    if domain:
        a = np.where(np.arange(total)[:, None] >= np.arange(m), a, 0).astype(np.float32)
    assert same_bits(c, np.stack([chained(x.T, y) for x, y in zip(a, b, strict=True)]))


def test_integers_and_halves_of_ranges() -> None:
    a, b = sample(I8, (3, 300, 20)), sample(I8, (3, 300, 33))
    c = np.zeros((3, 20, 33), np.int8)
    execute(summed(I8, 3, 20, 33, 300, 64), a, b, c, splits=(1, 2))
    want = np.einsum("hki,hkj->hij", a.astype(np.int64), b.astype(np.int64)).astype(np.int8)
    assert same_bits(c, want)


def test_turns_that_add_to_one_sum_are_not_shared_by_threads() -> None:
    code = compiled(summed(F64, 3, 8, 8, 640, 64))
    assert [f.outer for f in code.functions] == [3]


def test_the_text_shows_parts_and_domains() -> None:
    text = dump(summed(F32, 1, 8, 8, 128, 64, domain=True))
    assert "from q*64 step 64 of 128" in text
    assert "where q*64 + k - i >= 0" in text


def test_parts_that_end_inside_a_chain_are_refused() -> None:
    with pytest.raises(LoopError, match="chains end inside 48 steps"):
        verify(summed(F32, 1, 8, 8, 480, 48))


def repeated(turns: int, m: int, n: int, k: int) -> Kernel:
    """c[t] = a[t] @ b."""
    a, b, c = buffer(F32, turns * m * k), buffer(F32, k * n), buffer(F32, turns * m * n, "out")
    t, i, j, r = Var(turns, "t"), Var(m, "i"), Var(n, "j"), Var(k, "r")
    x, y, acc = Load(F32, a, of(t) * (m * k) + of(i) * k + of(r)), Load(F32, b, of(j) * k + of(r)), Acc(F32)
    store = Store(c, of(t) * (m * n) + of(i) * (n + 0) + of(j), acc)
    return kernel([Loop(t, [Contract((i,), (j,), (r,), [x], x, [y], y, acc, [store])])], a, b, c)


@pytest.mark.parametrize("splits", [(), (1,), (7, 20)])
def test_columns_that_stay_are_packed_once(splits: Sequence[int]) -> None:
    turns, m, n, k = 40, 8, 200, 1100
    a, b = sample(F32, (turns, m, k)), sample(F32, (n, k))
    c = np.zeros((turns, m, n), np.float32)
    execute(repeated(turns, m, n, k), a, b, c, splits=splits)
    assert same_bits(c, chained(a.reshape(-1, k), b.T).reshape(turns, m, n))


def test_what_comparisons_of_positions_imply() -> None:
    i, j = Var(10, "i"), Var(20, "j")
    x, y = IndexValue(I64, of(i)), IndexValue(I64, of(j) + 3)
    less = Apply("lt", B1, (x, y))
    assert implied(less, True) == [of(j) + of(i) * -1 + 2]
    assert implied(Apply("not", B1, (less,)), True) == [of(i) + of(j) * -1 + -3]
    assert len(implied(Apply("eq", B1, (x, y)), True)) == 2
    assert implied(Apply("eq", B1, (x, y)), False) == []
    both = Apply("and", B1, (less, InRange(B1, of(i), 2, 5)))
    assert len(implied(both, True)) == 3
    assert implied(both, False) == []
    narrow = Apply("cast", I8, (IndexValue(I64, of(Var(300))),))
    assert implied(Apply("lt", B1, (narrow, Const(I8, 5))), True) == []
