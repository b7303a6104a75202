"""Illegal kernels are refused, each with its reason and the text around the fault."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from kernel_tools import buffer, kernel

from codegen.index import ZERO, Datum, Index, Var, masked, of
from codegen.loops import (
    Acc,
    Accumulator,
    Advance,
    Apply,
    Buffer,
    Carry,
    Check,
    Const,
    Contract,
    IndexValue,
    InRange,
    Kernel,
    Load,
    Loop,
    Reduce,
    Result,
    Stmt,
    Store,
    Update,
)
from codegen.scalar import B1, F32, F64, I32, OPS
from codegen.verify import KINDS, LoopError, verify

N = 8


class Parts:
    """Pieces that most faults start from."""

    def __init__(self) -> None:
        self.x, self.y = buffer(F32, N, "in", "x"), buffer(F32, N, "out", "y")
        self.p = buffer(I32, N, "in", "p")
        self.i, self.j = Var(N, "i"), Var(N, "j")
        self.a = Load(F32, self.x, of(self.i))
        self.b = Load(F32, self.x, of(self.j))
        self.one = Const(F32, 1.0)
        self.raw = Load(I32, self.p, of(self.i))

    def loop(self, *body: Stmt) -> Kernel:
        return kernel([Loop(self.i, list(body))], self.x, self.y, self.p)

    def put(self, value: object) -> Store:
        return Store(self.y, of(self.i), value)  # type: ignore[arg-type]

    def scan(self, *body: Stmt, carry: Carry) -> Kernel:
        return kernel([Loop(self.i, list(body), (carry,))], self.x, self.y)


def role(q: Parts) -> Kernel:
    q.x.role = "scratch"
    return q.loop(q.a, q.put(q.a))


def duplicate(q: Parts) -> Kernel:
    return kernel([], q.x, q.x)


def negative_size(q: Parts) -> Kernel:
    q.x.size = -1
    return q.loop()


def advance(q: Parts, *args: Load, type=F32, op="sum", twice=False) -> Kernel:
    carry = Carry(op, F32)
    steps = [Advance(type, carry, args) for _ in range(1 + twice)]
    return q.scan(q.a, *steps, carry=carry)


def contract(q: Parts, a_type=F32, type=F32, a_index=None) -> Kernel:
    m, n, k = Var(2, "m"), Var(2, "n"), Var(4, "k")
    buf = buffer(a_type, N, "in", "u")
    a = Load(a_type, buf, (of(m) if a_index is None else of(n)) * 4 + of(k))
    b = Load(F32, q.x, of(n) * 4 + of(k))
    acc = Acc(type)
    out = Store(q.y, of(m) * 2 + of(n), acc)
    return kernel([Contract((m,), (n,), (k,), [a], a, [b], b, acc, [out])], q.x, q.y, buf)


def reduction(q: Parts, op="sum", tree="row", type=F32, k=0, result=F32, variables=None, factor=None) -> Kernel:
    r = Reduce((q.i,) if variables is None else variables, [q.a], (Accumulator(op, type, q.a, factor),), tree)
    v = Result(result, r, k)
    return kernel([r, v, Store(q.y, ZERO, v)], q.x, q.y)


def result_first(q: Parts) -> Kernel:
    r = Reduce((q.i,), [q.a], (Accumulator("sum", F32, q.a),))
    v = Result(F32, r)
    return kernel([v, r], q.x, q.y)


def other_buffer(q: Parts) -> Kernel:
    return q.loop(Load(F32, Buffer(F32, N, "in", "z"), of(q.i)))


def datum(q: Parts, n: int, checked: bool) -> Kernel:
    value = Check(I32, q.raw, n, 1) if checked else q.raw
    body: list[Stmt] = [q.raw, value] if checked else [q.raw]
    return q.loop(*body, Load(F32, q.x, Index({Datum(value, N): 1}, 0)))


FAULTS: dict[str, tuple[Callable[[Parts], Kernel], str]] = {
    "role": (role, "expected role in or out or inout, got scratch"),
    "size": (negative_size, "expected a size >= 0"),
    "buffer twice": (duplicate, "expected each once"),
    "unknown buffer": (other_buffer, "z is not a buffer of the kernel"),
    "undefined": (lambda q: q.loop(q.put(q.a)), "expected a value defined before"),
    "out of scope": (
        lambda q: kernel([Loop(q.i, [q.a]), Loop(q.j, [Store(q.y, of(q.j), q.a)])], q.x, q.y),
        "defined before",
    ),
    "variable": (lambda q: q.loop(q.b), "variable j is not in scope"),
    "variable twice": (lambda q: q.loop(Loop(q.i, [])), "variable i: already in scope"),
    "constant": (lambda q: q.loop(Const(I32, 1.5)), "1.5 is no i32"),
    "constant too large": (lambda q: q.loop(Const(I32, 1 << 31)), "2147483648 is no i32"),
    "constant bool": (lambda q: q.loop(Const(B1, 1)), "1 is no b1"),
    "load type": (lambda q: q.loop(Load(F64, q.x, of(q.i))), "load: expected f32, got f64"),
    "load below": (
        lambda q: q.loop(Load(F32, q.x, of(q.i) + -1)),
        r"index in \[-1, 6\] leaves x, which has 8 elements",
    ),
    "load above": (lambda q: q.loop(Load(F32, q.x, of(q.i) * 2)), r"index in \[0, 14\] leaves x"),
    "load mask": (lambda q: q.loop(q.one, Load(F32, q.x, of(q.i), q.one)), "load mask: expected b1, got f32"),
    "guard without mask": (lambda q: q.loop(Load(F32, q.x, masked(of(q.i) + 1, N))), "guarded but there is no mask"),
    "read before write": (lambda q: q.loop(Load(F32, q.y, of(q.i))), "read before it is written"),
    "operation": (lambda q: q.loop(q.a, Apply("mad", F32, (q.a,))), "no such operation"),
    "arity": (lambda q: q.loop(q.a, Apply("add", F32, (q.a,))), "expected 2 operands, got 1"),
    "operand types": (lambda q: q.loop(q.a, q.raw, Apply("add", F32, (q.a, q.raw))), "expected operands of one type"),
    "operand kind": (lambda q: q.loop(q.raw, Apply("exp", I32, (q.raw,))), "exp: not defined for i32"),
    "result type": (lambda q: q.loop(q.a, Apply("add", F64, (q.a, q.a))), "add: expected f32, got f64"),
    "compare type": (lambda q: q.loop(q.a, Apply("lt", F32, (q.a, q.a))), "lt: expected b1, got f32"),
    "bitcast": (lambda q: q.loop(q.a, Apply("bitcast", F64, (q.a,))), "expected types of one width"),
    "where": (lambda q: q.loop(q.a, Apply("where", F32, (q.a, q.a, q.a))), "expected a b1 condition, got f32"),
    "index type": (lambda q: q.loop(IndexValue(B1, of(q.i))), "expected an integer or float type"),
    "range type": (lambda q: q.loop(InRange(I32, of(q.i), 0, 4)), "expected b1 and a step >= 1"),
    "check type": (lambda q: q.loop(q.a, Check(F32, q.a, 4, 1)), "check: expected an integer, got f32"),
    "check status": (lambda q: q.loop(q.raw, Check(I32, q.raw, 4, 0)), "expected a status other than 0"),
    "unchecked data": (lambda q: datum(q, N, False), r"expected data checked to lie in \[0, 8\)"),
    "data checked too wide": (lambda q: datum(q, N + 1, True), r"expected data checked to lie in \[0, 8\)"),
    "store to input": (lambda q: q.loop(q.a, Store(q.x, of(q.i), q.a)), "x is only read"),
    "store type": (lambda q: q.loop(q.raw, q.put(q.raw)), "store: expected f32, got i32"),
    "store outside": (lambda q: q.loop(q.a, Store(q.y, of(q.i) + 1, q.a)), "leaves y"),
    "update operation": (
        lambda q: q.loop(q.a, Update("mul", q.y, of(q.i), q.a)),
        "expected sum, max, min or set, got mul",
    ),
    "update unwritten": (lambda q: q.loop(q.a, Update("sum", q.y, of(q.i), q.a)), "read before it is written"),
    "reduce operation": (lambda q: reduction(q, op="mean"), "expected sum, prod, max or min, got mean"),
    "reduce tree": (lambda q: reduction(q, tree="tile"), "expected row, column or subtrees, got tile"),
    "reduce type": (lambda q: reduction(q, type=F64), "sum: expected f64, got f32"),
    "reduce factor": (lambda q: reduction(q, op="max", factor=q.a), "max of f32: expected no factor"),
    "factor type": (lambda q: q.loop(q.a, q.raw, Update("sum", q.y, ZERO, q.a, q.raw)), "sum: expected f32, got i32"),
    "reduce variables": (lambda q: reduction(q, variables=()), "expected variables and accumulators"),
    "result number": (lambda q: reduction(q, k=1), "there is no number 1"),
    "result's type": (lambda q: reduction(q, result=F64), "result: expected f32, got f64"),
    "result before": (result_first, "expected a reduction that stands before"),
    "carry operation": (lambda q: advance(q, q.a, op="mean"), "expected sum, prod, max, min or linrec, got mean"),
    "advance arity": (lambda q: advance(q, q.a, op="linrec"), "expected 2 operands, got 1"),
    "advance type": (lambda q: advance(q, q.a, type=F64), "advance: expected f32, got f64"),
    "advance twice": (lambda q: advance(q, q.a, twice=True), "not advanced yet"),
    "never advanced": (lambda q: q.scan(q.a, carry=Carry("sum", F32)), "a carry is not advanced"),
    "advance outside": (lambda q: q.loop(q.a, Advance(F32, Carry("sum", F32), (q.a,))), "expected a carry of the loop"),
    "contract scope": (lambda q: contract(q, a_index="n"), "variable n is not in scope"),
    "contract types": (lambda q: contract(q, a_type=F64), "contract a: expected f32, got f64"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault(name: str) -> None:
    build, message = FAULTS[name]
    with pytest.raises(LoopError, match=message):
        verify(build(Parts()))


def test_the_message_shows_the_text_around() -> None:
    q = Parts()
    with pytest.raises(LoopError) as caught:
        verify(q.loop(q.a, Apply("add", F64, (q.a, q.a)), q.put(q.a)))
    assert str(caught.value).splitlines()[1:] == [
        "  kernel test(in x: f32*8, out y: f32*8, in p: i32*8) {",
        "    for i in 8 {",
        "      %0: f32 = load x[i]",
        ">     %1: f64 = add %0, %0",
        "      store y[i], %0",
        "    }",
        "  }",
    ]


def test_empty_loops_have_no_bounds() -> None:
    x, y, i = buffer(F32, 0), buffer(F32, 0, "out"), Var(0)
    a = Load(F32, x, of(i))
    verify(kernel([Loop(i, [a, Store(y, of(i), a)])], x, y))


def test_every_operation_has_its_kinds() -> None:
    assert set(KINDS) == set(OPS)
