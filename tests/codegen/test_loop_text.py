"""The text form of kernels."""

from __future__ import annotations

from kernel_tools import buffer, kernel

from codegen.index import ZERO, Datum, Index, Var, flatten, floordiv, masked, of
from codegen.loops import (
    Acc,
    Accumulator,
    Advance,
    Apply,
    Carry,
    Check,
    Const,
    Contract,
    IndexValue,
    InRange,
    Kernel,
    Load,
    Loop,
    Param,
    Reduce,
    Result,
    Store,
    Update,
)
from codegen.scalar import B1, F32, I32
from codegen.text import canonical, dump
from codegen.verify import verify


def everything(prefix: str = "", rate: float = 0.5) -> Kernel:
    x, p, y = (
        buffer(F32, 60, "in", prefix + "x"),
        buffer(I32, 6, "in", prefix + "p"),
        buffer(F32, 60, "inout", prefix + "y"),
    )
    t = buffer(F32, 10, "scratch", prefix + "t")
    scale = Param(F32, prefix + "scale")
    i, j, j2, c = Var(6, prefix + "i"), Var(10, "j"), Var(10, "j"), Var(10, "c")
    at = flatten((of(i), of(j)), (6, 10))
    a = Load(F32, x, at)
    half = Const(F32, rate)
    inside = InRange(B1, of(j) + -1, 0, 9, 3)
    guarded = Load(F32, x, masked(of(j) + -1, 9), inside)
    number = IndexValue(F32, floordiv(of(j), 3))
    total = Apply("add", F32, (a, guarded))
    more = Apply("mul", F32, (total, number))
    r = Reduce((j,), [a, half, inside, guarded, number, total, more], (Accumulator("sum", F32, more),))
    result = Result(F32, r)
    raw = Load(I32, p, of(i))
    checked = Check(I32, raw, 6, 2)
    carry = Carry("sum", F32)
    b = Load(F32, x, Index({Datum(checked, 6): 10, j2: 1}, 0))
    new = Advance(F32, carry, (b,))
    scan = Loop(j2, [b, new, Store(t, of(j2), new)], (carry,))
    update = Update("max", y, of(i) * -10 + 59, result)
    m, n, k = Var(2, "m"), Var(3, "n"), Var(10, "k")
    u, v, acc = Load(F32, x, of(m) * 10 + of(k)), Load(F32, t, of(k)), Acc(F32)
    scaled = Apply("mul", F32, (acc, scale))
    contract = Contract((m,), (n,), (k,), [u], u, [v], v, acc, [scaled, Store(y, of(m) * 3 + of(n), scaled)])
    fill = Loop(c, [zero := Const(F32, -0.0), Store(t, of(c), zero)])
    body = [Loop(i, [r, result, raw, checked, fill, scan, update]), contract]
    return kernel(body, x, p, y, params=(scale,), scratch=(t,))


EXPECTED = """\
kernel test(in x: f32*60, in p: i32*6, inout y: f32*60, scale: f32) {
  scratch t: f32*10
  for i in 6 {
    %0 = reduce row j in 10 {
      %1: f32 = load x[i*10 + j]
      %2: f32 = 0.5
      %3: b1 = inrange j - 1 in 0..9 step 3
      %4: f32 = load x[<j - 1>9] if %3
      %5: f32 = index (j)//3
      %6: f32 = add %1, %4
      %7: f32 = mul %6, %5
      sum %7: f32
    }
    %8: f32 = result %0.0
    %9: i32 = load p[i]
    %10: i32 = check %9 < 6 else 2
    for c in 10 {
      %11: f32 = -0.0
      store t[c], %11
    }
    for j_1 in 10 carry c0 sum: f32 {
      %12: f32 = load x[[%10]6*10 + j_1]
      %13: f32 = advance c0, %12
      store t[j_1], %13
    }
    update max y[-i*10 + 59], %8
  }
  contract m m in 2; n n in 3; k k in 10 {
    %14: f32 = load x[m*10 + k]
    a %14
    %15: f32 = load t[k]
    b %15
  } then %16: f32 {
    %17: f32 = mul %16, scale
    store y[m*3 + n], %17
  }
}
"""


def test_every_statement_has_its_line() -> None:
    verify(everything())
    assert dump(everything()) == EXPECTED


def test_canonical_text_has_no_names() -> None:
    assert canonical(everything()) == canonical(everything("other_"))
    assert "scale" not in canonical(everything())


def test_canonical_text_tells_constants_apart() -> None:
    texts = {canonical(everything(rate=v)) for v in (0.0, -0.0, 1.0, float("inf"), float("nan"))}
    assert len(texts) == 5


def test_two_reads_of_one_value_are_one_name() -> None:
    x, y, i = buffer(F32, 4, "in", "x"), buffer(F32, 4, "out", "y"), Var(4, "i")
    a = Load(F32, x, of(i))
    out = Apply("mul", F32, (a, a))
    assert "mul %0, %0" in dump(kernel([Loop(i, [a, out, Store(y, of(i), out)])], x, y))


def test_a_scalar_kernel_needs_no_loop() -> None:
    y, c = buffer(F32, 1, "out", "y"), Const(F32, 2.0)
    assert dump(kernel([c, Store(y, ZERO, c)], y)).splitlines()[1:3] == ["  %0: f32 = 2.0", "  store y[0], %0"]
