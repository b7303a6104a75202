"""Minimal programs for faults that the random ones found; each test says what went wrong."""

from __future__ import annotations

import numpy as np
import pytest
from checking import check
from programs import Program

import tinyad as ad
from tinyad import ir
from tinyad.buffer import copy
from tinyad.ir import FLOAT16, FLOAT32, INT64, Node


def stored(array: object, dtype: object = None) -> Node:
    a = np.asarray(array, dtype)
    return ir.buffer(a.shape, ir.DTYPES[ir.SHORT[a.dtype]], copy(a))


def holds(*roots: Node) -> None:
    check(Program(list(roots), 0, 0, None))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint64", "int64"])
def test_indices_of_every_integer_type(dtype: str) -> None:
    """The bounds check took int64 only, and the kernel was illegal loop IR."""
    x, idx = stored([1.0, 2.0, 3.0]), stored([2, 0, 0, 1], dtype)
    holds(ir.gather(x, idx, 0), ir.scatter("set", stored([1, 2, 3, 4]), idx, 0, 5))


def test_zero_fill_of_bools() -> None:
    """PAD and SKEW of a bool, and SCATTER(SET), filled with the integer 0, which is no bool."""
    b = stored([[True, False, True], [True, True, False]])
    idx = stored([[0, 1, 0], [1, 1, 3]])
    c = ir.not_(b)
    holds(ir.pad(c, [(1, 0, 0), (0, 1, 1)]), ir.skew(c, 1, 0, -2, 1, 4), ir.scatter("set", b, idx, 1, 4))


@pytest.mark.parametrize("kind", ir.SCANS)
def test_float16_scans_carry_float32(kind: str) -> None:
    """The running value was rounded to float16 at every step."""
    rng = np.random.default_rng(0)
    a = stored(rng.standard_normal((3, 40)), np.float16)
    b = stored(rng.standard_normal((3, 40)), np.float16)
    holds(*(ir.scan(kind, axis, *([a, b] if kind == "linrec" else [a])) for axis in (0, 1)))


def test_float16_scatter_sums_in_float32() -> None:
    """1 added to 2048 in float16 is 2048: the sum was rounded at every update."""
    y = ir.scatter("sum", stored([2048.0, 1.0, 1.0, 1.0], np.float16), stored([1, 1, 1, 1], np.int64), 0, 3)
    assert y.dtype is FLOAT16
    holds(y)


def test_scans_and_scatters_of_nothing() -> None:
    empty = ir.buffer((0, 3), FLOAT32, copy(np.zeros((0, 3), np.float32)))
    idx = ir.buffer((0, 3), INT64, copy(np.zeros((0, 3), np.int64)))
    holds(ir.scatter("max", empty, idx, 0, 4), ir.scatter("sum", empty, idx, 0, 2), ir.scan("sum", 0, empty))


@pytest.mark.parametrize("shape", [(16, 2), (4, 8), (2, 4, 4)])
def test_a_scan_of_a_reshape_is_one_loop(shape: tuple[int, ...]) -> None:
    """The reshape cut the scanned axis into loops, and the running value began anew in each round of the inner one."""
    x = stored(np.arange(32, dtype=np.int64).reshape(shape))
    holds(ir.scan("sum", 0, ir.reshape(x, (32,))), ir.scan("max", 0, ir.reshape(ir.neg(x), (32,))))
    m = ir.reshape(ir.permute(stored(np.arange(40.0).reshape(5, 8)), (1, 0)), (40, 1))
    wide = ir.expand(m, (40, 3))
    holds(ir.neg(ir.scan("sum", 0, wide)), ir.reshape(ir.scan("min", 1, ir.reshape(wide, (3, 40))), (5, 8, 3)))


@pytest.mark.parametrize("n", [17, 33, 65])
@pytest.mark.parametrize("dtype", ["b1", "i8", "u16", "f16", "f32"])
def test_a_narrow_store_of_one_lane_touches_one_element(dtype: str, n: int) -> None:
    """LLVM 22 stores the wide element where a truncated vector is stored under a literal mask of one lane (AVX-512)."""
    rng = np.random.default_rng(0)
    for wide in (np.int32, np.int64, np.float64):
        a, b = stored(rng.integers(-3, 4, (3, 5)), wide), stored(rng.integers(-3, 4, (5, n)), wide)
        left = ir.expand(ir.reshape(a, (3, 5, 1)), (3, 5, n))
        right = ir.expand(ir.reshape(b, (1, 5, n)), (3, 5, n))
        y = ir.reshape(ir.sum_(ir.mul(left, right), (1,)), (3, n))
        holds(ir.cast(y, ir.DTYPES[dtype]), ir.cast(ir.neg(y), ir.DTYPES[dtype]))


def test_a_plan_of_many_kernels_knows_their_lifetimes() -> None:
    """Finding what each kernel releases took quadratic time: 10,000 kernels cost a second and more (see test_scale)."""
    from tinyad.canonical import number
    from tinyad.schedule.plan import make_plan

    xs = [stored([float(i)]) for i in range(40)]
    squares = [ir.mul(ir.exp(x), ir.exp(x)) for x in xs]
    plan = make_plan(number([ir.cat(squares, 0)]), fuse=False)
    released = [p for step in plan for p in step.releases]
    made = {p for step in plan for p in (*step.allocates, *(new for new, _ in step.replaces))}
    inner = made - {plan.results[0][0]}
    assert sorted(released) == sorted(inner)
    for i, step in enumerate(plan):
        later = {p for s in plan.steps[i + 1 :] for p, _ in s.arguments}
        assert not later & set(step.releases)
        assert set(step.releases) <= {p for p, _ in step.arguments}


@pytest.mark.parametrize("k", [240, 256, 257, 400, 512])
def test_a_full_panel_does_not_spill_into_the_next(k: int):
    """Packing a transposed operand stored whole vectors over the end of a panel that was exactly full."""
    rng = np.random.default_rng(k)
    w, x = (rng.integers(-4, 5, shape).astype(np.float32) for shape in ((k, 130), (70, k)))
    assert np.array_equal((ad.tensor(w).T @ ad.tensor(x).T).numpy(), w.T @ x.T)
    assert np.array_equal((ad.tensor(x) @ ad.tensor(w)).numpy(), x @ w)
    assert np.array_equal(
        (ad.tensor(np.ascontiguousarray(w.T)) @ ad.tensor(np.ascontiguousarray(x.T))).numpy(), w.T @ x.T
    )


def test_a_nest_that_merges_after_its_masks_are_decided_runs_to_its_end():
    """Preparing a prepared kernel merged its loops once more, and only the first rows were computed."""
    x = stored(np.linspace(-2, 2, 257 * 3).reshape(257, 3), np.float32)
    y = stored(np.linspace(-3, 3, 257 * 5).reshape(257, 5), np.float32)
    holds(ir.mul(ir.skew(x, 1, 0, 3, 3, 5), y), ir.sub(y, ir.skew(x, 1, 0, 3, 3, 5)))


def test_an_array_of_which_only_the_padding_is_read_has_no_negative_size() -> None:
    """What a kernel reaches of an array was taken from index bounds that hold behind no mask."""
    import codegen.verify
    from tinyad.canonical import number
    from tinyad.schedule.plan import make_plan

    n = ir.abs_(ir.shrink(ir.pad(stored(np.arange(3.0), np.float16), [(4, 0, 0)]), [(0, 2, 1)]))
    for step in make_plan(number([n])):
        codegen.verify.verify(step.lowered.kernel)
    holds(n)
