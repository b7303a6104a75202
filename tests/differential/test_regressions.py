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


# nests: stages over blocks of rows ------------------------------------------------------------------------------------
RNG = np.random.default_rng(0)


def normal(*shape: int) -> ad.Tensor:
    return ad.tensor(RNG.standard_normal(shape).astype(np.float32))


def turned(x: ad.Tensor) -> ad.Tensor:
    return ad.swapaxes(x, -1, -2)


def hold(*tensors: ad.Tensor) -> None:
    holds(*[t.node for t in tensors])


def test_a_last_block_of_one_row() -> None:
    """A single row has no loop of its own, and its passes ran before its tile was filled."""
    hold(ad.softmax(normal(4, 65, 8) @ turned(normal(4, 65, 8)), axis=-1) @ normal(4, 65, 8))


def test_columns_that_change_from_turn_to_turn() -> None:
    """What was defined outside a factor's own body was not seen to change, and the first turn's columns were kept."""
    hold(normal(8, 64, 32) @ (normal(32, 64) * normal(8, 1, 1)))
    hold(ad.stack([normal(4, 31, 2), normal(4, 31, 2)]) @ ad.stack([normal(2, 65), normal(2, 65)])[:, None])


def test_a_domain_beside_a_sum_in_pieces() -> None:
    """The condition was taken for one on the pieces of k, which tiles do not know."""
    i = ad.arange(127)
    hold(ad.einsum("hij,hid->jd", ad.where(i[:, None] >= i, normal(5, 127, 127), 0), normal(5, 127, 2)))


def test_outer_loops_that_cut_the_axis_of_the_rows() -> None:
    """Rows were counted from the start of the axis, and the tile was written out of bounds."""

    def gram(x: ad.Tensor, a: ad.Tensor) -> tuple[ad.Tensor, ad.Tensor]:
        p = ad.relu(x @ a) ** 2
        p = p / (p.sum(axis=-1, keepdims=True) + 1e-3)
        return p @ turned(p), turned(p) @ x

    values, tangents = ad.jvp(gram, (normal(5, 150, 2), normal(2, 150)), (normal(5, 150, 2), normal(2, 150)))
    hold(*values, *tangents)


def test_factors_of_later_stages_are_read() -> None:
    """They were no readers, so a contraction was computed again for them, as a sum of another order."""

    def chain(x: ad.Tensor, a: ad.Tensor, c: ad.Tensor) -> ad.Tensor:
        return ((ad.softmax(ad.sigmoid(x @ a) @ c, axis=-1) @ turned(c)) ** 2).sum()

    hold(ad.grad(chain)(normal(5, 65, 2), normal(2, 31), normal(31, 2)))

    def both(q: ad.Tensor, k: ad.Tensor, v: ad.Tensor, b: ad.Tensor) -> ad.Tensor:
        p = ad.softmax(q * 0.3 @ turned(k) + b, axis=-1)
        return ((p @ v) ** 2).sum() + (p * p).sum()

    q, v = ad.swapaxes(normal(3, 3, 12, 3), 1, 2), ad.swapaxes(normal(3, 3, 12, 33), 1, 2)
    value, slope = ad.value_and_grad(both)(q, normal(3, 12, 3, 3), v, normal(3, 3))
    hold(value, slope)


def test_a_tile_waits_for_another_contraction() -> None:
    """What followed one contraction read another one that was no tile yet, and computed it again."""

    def layers(x: ad.Tensor, *w: ad.Tensor) -> ad.Tensor:
        for _ in range(2):
            c = x - x.mean(axis=-1, keepdims=True)
            z = c / ad.sqrt((c * c).mean(axis=-1, keepdims=True) + 1e-3)
            q, k, v = (ad.swapaxes((z @ m * 0.2).reshape(16, 2, 16), 0, 1) for m in w[:3])
            y = ad.scaled_dot_product_attention(q, k, v)
            x = x + ad.swapaxes(y, 0, 1).reshape(16, 32) @ w[3] * 0.2
        return x

    y, pull = ad.vjp(layers, normal(16, 16), *[normal(16, 32) for _ in range(3)], normal(32, 16))
    hold(y, *pull(normal(16, 16)))


def test_no_row_is_kept_inside_a_contraction() -> None:
    """A value of several passes was stored row by row in an epilogue, where lanes are not rows."""

    def f(q: ad.Tensor, k: ad.Tensor, v: ad.Tensor) -> ad.Tensor:
        s = q @ turned(k)
        p = s - ad.max(s, axis=-1, keepdims=True)
        return ((p @ v) ** 2).sum() + ((p * p).sum()) ** 2

    xs = normal(6, 32, 64), normal(6, 3, 64), normal(6, 3, 17)
    g = ad.grad(f, argnums=(0, 1, 2))
    values, tangents = ad.jvp(lambda *a: tuple(g(*a)), xs, tuple(normal(*x.shape) for x in xs))
    hold(*tangents, *values)


@pytest.mark.parametrize(("i", "j"), [(26, 24), (13, 40), (24, 24)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_panels_do_not_reach_into_the_next_one(dtype: str, i: int, j: int) -> None:
    """With k a multiple of 16, the last vector of a panel was written over the first numbers of the next."""
    a, b = (ad.tensor(RNG.standard_normal(s).astype(dtype)) for s in ((16, j), (4, 16, i)))
    hold((turned(b)[:, :, :, None] * a).sum(2), (turned(b)[:, None] * turned(a)[None, :, None]).sum(3))


def test_rows_of_a_contraction_that_end_in_a_function() -> None:
    """Rows whose functions are done for many at once had no first turn, in which columns are packed."""
    hold(ad.logsumexp(normal(5, 65, 3) @ turned(normal(7, 3)), axis=-1))


def test_a_sum_over_rows_that_passes_follow_is_no_stage() -> None:
    """It is finished after the last block only; its group has tiles and no heavy node, whose position was asked for."""
    a, b, c = normal(15, 3, 17), normal(15, 17, 3), normal(15, 3, 17)
    s = a @ b
    hold((turned(s - ad.max(s, axis=-1, keepdims=True)) @ c).sum(axis=-1))


def test_what_passes_store_is_not_left_to_an_epilogue() -> None:
    """It was computed in a contraction's epilogue as part of what its tile holds, and stored by nobody."""
    w = ad.where(ad.sin(normal(31, 127)) + ad.cos(normal(31, 127)) > 0, 0.5, 1.0) * ad.exp(normal(31, 127))
    s = normal(31, 64) @ normal(64, 127)
    hold(w, (s * w).sum(axis=1), w + (s * w).sum(axis=1, keepdims=True))


# what passes, tiles and tails keep ------------------------------------------------------------------------------------
def test_factors_that_are_arrays_along_the_other_ones_axes() -> None:
    """A factor that repeats itself was read at the index of the other factor's loops, which it does not have."""
    e = ad.broadcast_to(ad.exp(normal(40, 20))[:, :, None], (40, 20, 30))
    hold(e, (e * normal(20, 30)).sum(axis=1))


def test_a_fixed_place_of_a_row() -> None:
    """An element at a fixed place of a row was read before all rows, as its place depends on no loop."""
    top = ad.exp(ad.broadcast_to(ad.max(normal(31, 15, 17, 1), axis=1, keepdims=True), (31, 15, 17, 1)))
    here = ad.tensor(RNG.random((31, 15, 17, 3)) < 0.7)
    x = ad.where(here, ad.pad(top, [(0, 0), (0, 0), (0, 0), (1, 1)]), -np.inf)
    hold((x == ad.max(x, axis=3, keepdims=True))[..., 1:2])


def test_a_part_of_cat_is_not_stored_by_who_waits_for_it() -> None:
    """A kernel that reads the part and, by others, the whole was made its writer: the kernels were a cycle."""
    x, y = stored(RNG.standard_normal((15, 127)), np.float32), stored(RNG.standard_normal((15, 127)), np.float32)
    top, none = ir.reduce(ir.Op.REDUCE_MAX, x, (1,)), ir.const(0.0, FLOAT32, (15, 1))
    rest = ir.shrink(ir.expand(top, (15, 127)), [(0, 15, 1), (1, 127, 1)])
    total = ir.sum_(ir.scan("linrec", 1, ir.cat([rest, none], 1), y), (1,))
    holds(ir.where(ir.lt(none, top), total, none))


def test_rows_that_are_in_blocks_already() -> None:
    """Their shape in blocks is their own: the source of what is summed was added up."""
    x = stored(RNG.standard_normal((64, 32, 17)), np.float32)
    zero, two = ir.const(0.0, FLOAT32, x.shape), ir.const(2.0, FLOAT32, x.shape)
    holds(zero, ir.sum_(ir.where(ir.lt(zero, x), x, two), (0, 1)))


def test_column_products_are_not_left_to_others() -> None:
    """The kernel that has the rows multiplied them into memory, which no statement does."""
    x = normal(64, 17, 3, 5).sum(axis=2)
    hold(x, ad.prod(ad.tanh(x), axis=(0, 1)))


def test_signs_of_halves_that_were_doubles() -> None:
    """LLVM 22 takes a sign through conversions, and called a library to make a half of a double for it."""
    x = ad.tensor(RNG.standard_normal((17, 2)).astype(np.float16))
    hold(ad.cumprod(ad.tanh(ad.lgamma(x)), axis=1))
    hold(ad.cumsum(ad.tanh(ad.lgamma(x[:, 0])), axis=0))


def test_a_kernel_has_one_text() -> None:
    """Conditions came in the order of a set: the code of a band of scores was not found on disk by every process."""
    from codegen.text import dump
    from tinyad.canonical import number
    from tinyad.schedule.plan import make_plan

    i = ad.arange(65)
    band = ad.logical_and(i[:, None] >= i, i[:, None] - i < 9)
    q, k, v = normal(4, 65, 8), normal(4, 65, 8), normal(4, 65, 8)
    y = ad.softmax(ad.where(band, q @ turned(k), -30.0), axis=-1) @ v
    c = number([y.node])
    texts = {"".join(dump(s.lowered.kernel) for s in make_plan(c) if s.lowered) for _ in range(12)}
    assert len(texts) == 1


# stores and memory ----------------------------------------------------------------------------------------------------
def test_many_results_in_the_memory_of_arguments() -> None:
    """Each of more than 16 results was stored as soon as it was computed, over an argument that was read later."""
    xs = [RNG.standard_normal(20000).astype(np.float32) for _ in range(20)]

    def products(*given: ad.Tensor) -> list[ad.Tensor]:
        out = [given[0] * 3]
        for x in given[1:]:
            out.append(out[-1] * 0.5 + x)
        return out

    got = ad.jit(products, donate_argnums=range(10, 20))(*map(ad.tensor, xs))
    for y, want in zip(got, products(*map(ad.tensor, xs)), strict=True):
        np.testing.assert_array_equal(y.numpy(), want.numpy())


def test_many_results_one_of_which_repeats_a_row() -> None:
    """Of more than 16 stores, that of a value from outside the loop was left out."""
    x = normal(33, 40)
    mean = ad.broadcast_to(x.mean(axis=1, keepdims=True), x.shape)
    hold(mean, *(mean + x * k for k in range(2, 20)))


def test_windows_and_what_is_equal_to_their_maximum() -> None:
    """Rows were fetched ahead that lie in loops inside a pass, whose variables are none there: code was not made."""
    x = normal(1, 2, 14, 16)
    f = ad.grad(lambda x: (ad.max_pool2d(x, 5, 1, padding=2) ** 2).sum())
    hold(*ad.jvp(f, (x,), (normal(1, 2, 14, 16),)))


def test_what_a_row_comes_to_is_not_computed_for_each_of_its_elements() -> None:
    """Behind the mask of a shift, a sum was one for each place that the mask tells apart: 4096 times the work."""
    from checking import statements

    from codegen.loops import Reduce
    from tinyad.canonical import number
    from tinyad.schedule.plan import plan_for

    def shifted(x: ad.Tensor) -> ad.Tensor:
        return ad.pad(x[..., 1:], [(0, 0)] * (x.ndim - 1) + [(0, 1)])

    x, y = normal(4096), normal(5, 300)
    total, each = shifted(x * ad.sum(x * x)).sum(), shifted(y * ad.sum(y, axis=1, keepdims=True)).sum(axis=1)
    for step in plan_for(number([total.node, each.node]), True):
        sums = [s for s in statements(step.lowered.kernel.body if step.lowered else []) if isinstance(s, Reduce)]
        assert not any(isinstance(x, Reduce) for s in sums for x in statements(s.body))
    hold(total, each)


def test_whether_any_place_of_a_long_row_is_one() -> None:
    """Bytes in place of bools have other lanes where nothing else gives a width: there were no parts to combine."""
    i = ad.arange(70001)
    here = ad.pad(ad.ones(70000, dtype=ad.bool_), [(1, 0)])
    hold(ad.any(here), ad.sum(ad.where(i > 5, 1.0, 0.0)))
