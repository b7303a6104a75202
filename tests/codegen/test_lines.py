"""How much text a kernel is: LLVM works on every line, and that is most of the time to a first result."""

from __future__ import annotations

import re

import numpy as np
import pytest
from kernel_tools import NUMPY, buffer, compiled, execute, kernel, same_bits, sample
from test_ahead import softmax
from test_columns import columns
from test_emit_contract import product

from codegen import jit
from codegen.builder import I64, PTR, Builder, Module, Val, const, ty
from codegen.index import Var, of
from codegen.loops import Apply, Kernel, Load, Loop, Stmt, Store
from codegen.once import MOST, pieces
from codegen.scalar import F16, F32, F64, Type

V4 = "x86-64-v4"


def lines(k: Kernel, target: str = V4) -> int:
    """Instructions of a kernel."""
    return len(re.findall(r"^  \S", compiled(k, target).llvm, re.M))


def chain(type: Type, n: int, functions: int, inputs: int = 1) -> Kernel:
    """tanh of tanh ... of a product of arrays, which is stored too."""
    xs, ys = [buffer(type, n) for _ in range(inputs)], [buffer(type, n, "out") for _ in range(2)]
    i = Var(n, "i")
    loads = [Load(type, x, of(i)) for x in xs]
    value: Load | Apply = loads[0]
    body: list[Stmt] = list(loads)
    for x in loads[1:]:
        body.append(value := Apply("mul", type, (value, x)))
    body.append(Store(ys[1], of(i), value))
    for _ in range(functions):
        body.append(value := Apply("tanh", type, (value,)))
    return kernel([Loop(i, [*body, Store(ys[0], of(i), value)])], *xs, *ys)


@pytest.mark.parametrize(
    "made, most",
    [
        (chain(F32, 1000, 1), 100),
        (softmax(64, 79, 3), 175),
        (columns(F32, 64, 128, "sum"), 55),
        (columns(F32, 200, 300, "sum"), 160),
        (product(F32, 64, 48, 79), 185),
        (product(F32, 64, 42, 88), 185),
        (product(F32, 64, 53, 88), 240),
    ],
    ids=["tanh", "softmax", "few rows", "columns", "product", "narrow product", "ragged product"],
)
def test_a_small_kernel_is_few_instructions(made: Kernel, most: int) -> None:
    assert lines(made) <= most


def test_an_elementary_function_is_written_once() -> None:
    text = compiled(chain(F32, 1000, 1), V4).llvm
    assert text.count("@llvm.masked.load") == 2 and text.count("@llvm.masked.store") == 3  # one of each is declared
    assert lines(chain(F32, 1000, 2)) < 1.7 * lines(chain(F32, 1000, 1))


@pytest.mark.parametrize("n", [64, 65, 79, 127, 1000])
@pytest.mark.parametrize("type", [F32, F64, F16], ids=str)
@pytest.mark.parametrize("inputs", [1, 3])
def test_the_last_vector_shares_code(type: Type, n: int, inputs: int) -> None:
    """Bits do not depend on where ranges begin and end, and nothing beyond them is touched."""
    xs = [sample(type, n, seed) for seed in range(inputs)]
    results = []
    for splits in ((), (1, 3, 40), tuple(range(1, n))):
        ys = [np.zeros(n, NUMPY[type]) for _ in range(2)]
        execute(chain(type, n, 1, inputs), *xs, *ys, splits=splits)
        results.append(ys)
    for ys in results[1:]:
        assert all(same_bits(a, b) for a, b in zip(ys, results[0], strict=True))


def test_what_is_read_after_it_was_written_or_too_much_is_in_no_pieces() -> None:
    i, x = Var(64, "i"), buffer(F32, 64, "out")
    a = Load(F32, x, of(i))
    b = Apply("tanh", F32, (a,))
    assert pieces([a, b, Store(x, of(i), b)], i) is not None
    assert pieces([a, b, Store(x, of(i), b), Load(F32, x, of(i))], i) is None
    for inputs, fits in ((MOST - 2, True), (MOST - 1, False)):
        (loop,) = chain(F32, 64, 1, inputs).body
        assert isinstance(loop, Loop) and (pieces(loop.body, loop.var) is not None) == fits


def test_literals_are_folded_and_nothing_is_computed_twice() -> None:
    b = Builder(Module())
    i, p, f32 = Val("%i", I64), Val("%p", PTR), ty("f", 32)
    assert b.binary("sub", b.binary("add", i, const(I64, 5)), b.binary("add", i, const(I64, 2))).ref == "3"
    assert b.binary("mul", i, const(I64, 1)) is i and b.icmp("slt", const(I64, 1), const(I64, 2)).ref == "true"
    b.lines.clear()
    near = [b.gep(f32, b.gep(f32, p, b.binary("add", i, const(I64, n))), const(I64, 2)) for n in (0, 4, 4)]
    assert near[1] is near[2]
    addresses = [line for line in b.lines if "getelementptr" in line]
    assert [line.split(", i64 ")[1] for line in addresses] == ["%i", "8", "16", "24"]
    b.label("next")
    assert b.gep(f32, p, i) is not near[0]


@pytest.mark.parametrize("target", ["x86-64-v2", "x86-64-v3", V4])
def test_loops_of_one_turn_are_none(target: str) -> None:
    """Blocks of a product that are larger than it."""
    assert compiled(product(F32, 8, 16, 20), jit.target(target)).llvm.count("= phi i64") <= 3
