"""Each primitive against plain NumPy or Python, in its defined domain and in the cases that NumPy leaves open."""

from __future__ import annotations

import itertools
import math
import operator
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyad import ir
from tinyad.buffer import copy
from tinyad.errors import IRError
from tinyad.interpret import EVALUATE, interpret
from tinyad.ir import BOOL, DTYPES, FLOAT16, FLOAT32, FLOAT64, INT64, Node, Op

FLOATS = [FLOAT16, FLOAT32, FLOAT64]
INTEGERS = [d for d in DTYPES.values() if d.kind in "iu"]
RNG = np.random.default_rng(0)


def stored(x: Any, dtype: Any = None) -> Node:
    array = np.asarray(x, dtype)
    return ir.buffer(array.shape, array.dtype, copy(array))


def value(n: Node) -> np.ndarray:
    return interpret([n])[0]


def same(got: np.ndarray, expected: Any) -> None:
    """Equal in type and bits; any nan is any nan."""
    expected = np.asarray(expected, got.dtype)
    np.testing.assert_array_equal(got, expected)
    if got.dtype.kind == "f":
        numbers = ~np.isnan(got)
        np.testing.assert_array_equal(np.signbit(got[numbers]), np.signbit(expected[numbers]))


def special(dtype: Any) -> np.ndarray:
    info = np.finfo(dtype)
    some = [0.0, -0.0, 1, -1, 0.5, -2.5, 3, np.inf, -np.inf, np.nan, info.max, info.min, info.tiny, info.eps]
    return np.array([*some, info.smallest_subnormal], dtype)


def edges(dtype: Any) -> np.ndarray:
    info = np.iinfo(dtype)
    some = {0, 1, 2, 3, 7, 8, 13, info.bits - 1, info.bits, info.max, info.max - 1, info.min}
    some |= {-1, -2, -3, -7, -8, info.min + 1} if info.min else set()
    return np.array(sorted(some), dtype)


def pairs(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.meshgrid(x, x)
    return a.ravel(), b.ravel()


def wrap(v: int, dtype: Any) -> int:
    return int(ir.const(v, dtype).arg)


def test_every_primitive_has_a_meaning() -> None:
    assert set(EVALUATE) == set(Op)


# elementwise ------------------------------------------------------------------------------------------------------
ELEMENTARY: list[tuple[Op, Callable[..., Any]]] = [
    (Op.EXP, np.exp), (Op.LOG, np.log), (Op.EXPM1, np.expm1), (Op.LOG1P, np.log1p), (Op.SIN, np.sin),
    (Op.COS, np.cos), (Op.TANH, np.tanh), (Op.ATAN, np.arctan), (Op.ERF, np.vectorize(math.erf, otypes=[float])),
    (Op.LOG2, np.log2), (Op.CBRT, np.cbrt), (Op.TAN, np.tan), (Op.SINH, np.sinh), (Op.COSH, np.cosh),
    (Op.ASIN, np.arcsin), (Op.ACOS, np.arccos), (Op.ERFC, np.vectorize(math.erfc, otypes=[float])),
]  # fmt: skip
ROUNDED: list[tuple[Op, Callable[..., Any]]] = [
    (Op.NEG, np.negative), (Op.ABS, np.abs), (Op.SQRT, np.sqrt), (Op.FLOOR, np.floor), (Op.CEIL, np.ceil),
    (Op.TRUNC, np.trunc), (Op.ROUND, np.rint),
]  # fmt: skip


@pytest.mark.parametrize("op, f", ELEMENTARY)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_an_elementary_function_is_rounded_once(op: Op, f: Callable[..., Any], dtype: Any) -> None:
    x = np.concatenate([special(dtype), RNG.normal(size=200).astype(dtype) * 4])
    got = value(ir.unary(op, stored(x)))
    with np.errstate(all="ignore"):
        expected = f(x.astype(np.float64)).astype(dtype)
    if dtype is FLOAT64:
        np.testing.assert_allclose(got, expected, rtol=1e-15)
    else:
        same(got, expected)


def test_float64_functions_are_nearly_correctly_rounded() -> None:
    mpmath = pytest.importorskip("mpmath")
    x = np.array([1e300, 1e22, 0.1, 3.0, 700.0, -1e-9, 1.5707963267948966])
    for op, f in [(Op.SIN, mpmath.sin), (Op.COS, mpmath.cos), (Op.EXPM1, mpmath.expm1), (Op.TANH, mpmath.tanh)]:
        arguments = x[x < 1e3] if op is Op.EXPM1 else x
        got = value(ir.unary(op, stored(arguments)))
        with mpmath.workprec(2000):
            for v, y in zip(arguments, got, strict=True):
                exact = f(mpmath.mpf(float(v)))
                assert abs(mpmath.mpf(float(y)) - exact) <= 0.51 * np.spacing(abs(y)), (op, v)


@pytest.mark.parametrize("op, f", ROUNDED)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_an_exact_function_is_numpys(op: Op, f: Callable[..., Any], dtype: Any) -> None:
    x = np.concatenate([special(dtype), (RNG.normal(size=50) * 4).astype(dtype), np.arange(-3, 3, 0.5).astype(dtype)])
    with np.errstate(all="ignore"):
        same(value(ir.unary(op, stored(x))), f(x))


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_unary_integer_operations_wrap(dtype: Any) -> None:
    x = edges(dtype)
    table: dict[Op, Callable[[int], int]] = {Op.NEG: operator.neg, Op.ABS: abs, Op.NOT: operator.invert}
    for op, f in table.items():
        same(value(ir.unary(op, stored(x))), [wrap(f(int(v)), dtype) for v in x])


def test_not_of_bool_is_logical() -> None:
    same(value(ir.not_(stored([True, False]))), [False, True])


def whole_power(a: int, b: int) -> int:
    if b >= 0:
        return pow(a, b, 1 << 64)
    return {1: 1, -1: -1 if b % 2 else 1}.get(a, 0)


def shift_left(a: int, b: int, bits: int) -> int:
    return a << b if 0 <= b < bits else 0


def shift_right(a: int, b: int, bits: int) -> int:
    return a >> b if 0 <= b < bits else (-1 if a < 0 else 0)


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_binary_integer_operations_are_pythons_wrapped(dtype: Any) -> None:
    bits = dtype.itemsize * 8
    table: dict[Op, Callable[[int, int], Any]] = {
        Op.ADD: operator.add, Op.SUB: operator.sub, Op.MUL: operator.mul,
        Op.IDIV: lambda a, b: a // b if b else 0, Op.MOD: lambda a, b: a % b if b else 0, Op.POW: whole_power,
        Op.MAX: max, Op.MIN: min, Op.LT: operator.lt, Op.EQ: operator.eq,
        Op.AND: operator.and_, Op.OR: operator.or_, Op.XOR: operator.xor,
        Op.SHL: lambda a, b: shift_left(a, b, bits), Op.SHR: lambda a, b: shift_right(a, b, bits),
    }  # fmt: skip
    a, b = pairs(edges(dtype))
    for op, f in table.items():
        n = ir.binary(op, stored(a), stored(b))
        same(value(n), [wrap(f(int(x), int(y)), n.dtype) for x, y in zip(a, b, strict=True)])


def test_bool_arithmetic_is_logic() -> None:
    a, b = stored([False, False, True, True]), stored([False, True, False, True])
    expected = {
        Op.ADD: [0, 1, 1, 1], Op.MUL: [0, 0, 0, 1], Op.MAX: [0, 1, 1, 1], Op.MIN: [0, 0, 0, 1], Op.LT: [0, 1, 0, 0],
        Op.EQ: [1, 0, 0, 1], Op.AND: [0, 0, 0, 1], Op.OR: [0, 1, 1, 1], Op.XOR: [0, 1, 1, 0],
    }  # fmt: skip
    for op, y in expected.items():
        same(value(ir.binary(op, a, b)), np.array(y, bool))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_binary_float_operations_are_numpys(dtype: Any) -> None:
    table: dict[Op, Callable[..., Any]] = {
        Op.ADD: np.add, Op.SUB: np.subtract, Op.MUL: np.multiply, Op.DIV: np.divide, Op.IDIV: np.floor_divide,
        Op.MOD: np.remainder, Op.LT: np.less, Op.EQ: np.equal,
    }  # fmt: skip
    a, b = pairs(special(dtype))
    for op, f in table.items():
        with np.errstate(all="ignore"):
            same(value(ir.binary(op, stored(a), stored(b))), f(a, b))
    for op, f in [(Op.POW, np.power), (Op.ATAN2, np.arctan2)]:
        with np.errstate(all="ignore"):
            expected = f(a.astype(np.float64), b.astype(np.float64)).astype(dtype)
        np.testing.assert_allclose(value(ir.binary(op, stored(a), stored(b))), expected, rtol=1e-15, atol=0)


def larger(a: float, b: float, sign: int) -> float:
    if math.isnan(a) or math.isnan(b):
        return math.nan
    return max(a, b, key=lambda v: (sign * v, sign * math.copysign(1, v)))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_max_and_min_order_zeros_and_propagate_nan(dtype: Any) -> None:
    x = np.append(special(dtype), np.array(-np.nan, dtype))
    a, b = pairs(x)
    for sign, pair, reduce, kind in [(1, Op.MAX, Op.REDUCE_MAX, "max"), (-1, Op.MIN, Op.REDUCE_MIN, "min")]:
        expected = [larger(float(p), float(q), sign) for p, q in zip(a, b, strict=True)]
        same(value(ir.binary(pair, stored(a), stored(b))), expected)
        both = stored(np.stack([a, b]))
        same(value(ir.reduce(reduce, both, [0])), [expected])
        same(value(ir.scan(kind, 0, both)), np.stack([a, np.array(expected, dtype)]))
        zeros = stored(np.zeros(both.shape, np.int64))
        same(value(ir.scatter(kind, both, zeros, 0, 1)), [expected])


def test_where_selects() -> None:
    c = stored([True, False, True])
    same(value(ir.where(c, stored([1.0, np.nan, -0.0]), stored([np.nan, 2.0, np.inf]))), [1.0, 2.0, -0.0])


# conversions ------------------------------------------------------------------------------------------------------
def saturated(x: float, dtype: Any) -> int:
    info = np.iinfo(dtype)
    if math.isnan(x):
        return 0
    return info.max if x >= info.max else info.min if x <= info.min else math.trunc(x)


@pytest.mark.parametrize("source", FLOATS, ids=str)
@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_float_to_integer_saturates(source: Any, dtype: Any) -> None:
    info = np.iinfo(dtype)
    with np.errstate(all="ignore"):
        limits = np.array([float(info.max), float(info.min), info.max + 1.0], source)
        near = np.concatenate([np.nextafter(limits, source.type(s)) for s in (np.inf, -np.inf)])
    x = np.concatenate([special(source), limits, near, np.array([1.9, -1.9, 200.7, -200.7, 40000], source)])
    same(value(ir.cast(stored(x), dtype)), np.array([saturated(float(v), dtype) for v in x], dtype))


@pytest.mark.parametrize("source", [*INTEGERS, BOOL], ids=str)
def test_integers_wrap_into_integers_and_round_into_floats(source: Any) -> None:
    x = edges(source) if source is not BOOL else np.array([False, True])
    for dtype in DTYPES.values():
        if dtype.kind == "f":
            with np.errstate(over="ignore"):
                same(value(ir.cast(stored(x), dtype)), x.astype(np.longdouble).astype(dtype))
        else:
            expected = [int(v) != 0 if dtype is BOOL else wrap(int(v), dtype) for v in x]
            same(value(ir.cast(stored(x), dtype)), np.array(expected, dtype))


def test_float_casts() -> None:
    x = special(FLOAT64)
    with np.errstate(over="ignore"):
        same(value(ir.cast(stored(x), FLOAT16)), x.astype(np.float16))
    same(value(ir.cast(stored(x), BOOL)), [bool(v != 0) for v in x])


def test_bitcast_keeps_bits() -> None:
    x = special(FLOAT32)
    bits = ir.bitcast(stored(x), ir.INT32)
    same(value(bits), x.view(np.int32))
    same(value(ir.bitcast(ir.permute(ir.reshape(bits, (3, 5)), (1, 0)), FLOAT32)), x.reshape(3, 5).T)


# reductions -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [d for d in DTYPES.values() if d is not BOOL], ids=str)
@pytest.mark.parametrize("axes", [(0,), (1, 2), (0, 1, 2)], ids=str)
def test_reductions_keep_their_axes(dtype: Any, axes: tuple[int, ...]) -> None:
    x = RNG.integers(0, 5, (3, 2, 4)).astype(dtype)
    table: dict[Op, Callable[..., Any]] = {
        Op.SUM: np.sum, Op.PROD: np.prod, Op.REDUCE_MAX: np.max, Op.REDUCE_MIN: np.min,
    }  # fmt: skip
    for op, f in table.items():
        wide = x.astype(np.float64) if dtype.kind == "f" else x
        with np.errstate(over="ignore"):
            same(value(ir.reduce(op, stored(x), axes)), np.asarray(f(wide, axis=axes, keepdims=True)).astype(dtype))


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_a_reduction_of_nothing_is_its_identity(dtype: Any) -> None:
    empty = stored(np.zeros((0, 2), dtype))
    low, high = (
        (-np.inf, np.inf) if dtype.kind == "f" else (False, True) if dtype is BOOL else
        (np.iinfo(dtype).min, np.iinfo(dtype).max)
    )  # fmt: skip
    expected = [(Op.REDUCE_MAX, low), (Op.REDUCE_MIN, high)]
    if dtype is not BOOL:
        expected += [(Op.SUM, 0), (Op.PROD, 1)]
    for op, v in expected:
        same(value(ir.reduce(op, empty, [0])), np.full((1, 2), v, dtype))
        assert value(ir.reduce(op, empty, [1])).shape == (0, 1)


def test_sums_are_rounded_once() -> None:
    same(value(ir.sum_(stored([1.0, 2.0**-60, -1.0]), [0])), [2.0**-60])
    same(value(ir.sum_(stored([60000, 60000, -60000], np.float16), [0])), [60000])
    same(value(ir.sum_(stored(np.full(10_000, 0.1, np.float32)), [0])), [np.float32(10_000 * float(np.float32(0.1)))])


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("axis", [0, 1])
def test_scans_are_sequential(dtype: Any, axis: int) -> None:
    x = RNG.normal(size=(5, 4)) * 20
    x = np.abs(x).astype(dtype) if np.dtype(dtype).kind == "u" else x.astype(dtype)
    carry = np.float32 if dtype is np.float16 else dtype
    for kind, f in [("sum", np.add), ("prod", np.multiply), ("max", np.maximum), ("min", np.minimum)]:
        rows = np.moveaxis(x.astype(carry), axis, 0)
        with np.errstate(over="ignore"):
            expected = np.stack(list(itertools.accumulate(rows, f))).astype(dtype)
        same(value(ir.scan(kind, axis, stored(x))), np.moveaxis(expected, 0, axis))


@pytest.mark.parametrize("dtype", [np.int8, np.float16, np.float32, np.float64])
def test_linrec_rounds_twice_a_step(dtype: Any) -> None:
    a, b = (RNG.normal(size=(2, 6, 3)) * 3).astype(dtype)
    carry = np.float32 if dtype is np.float16 else dtype
    y = np.zeros(3, carry)
    rows = []
    for p, q in zip(a.astype(carry), b.astype(carry), strict=True):
        y = p * y + q
        rows.append(y)
    same(value(ir.scan("linrec", 0, stored(a), stored(b))), np.array(rows).astype(dtype))
    same(value(ir.scan("linrec", 1, stored(a.T), stored(b.T))), np.array(rows).astype(dtype).T)


def test_scans_of_nothing() -> None:
    empty = stored(np.zeros((0, 3)))
    for kind in ir.SCANS:
        for axis in (0, 1):
            src = [empty] * (2 if kind == "linrec" else 1)
            assert value(ir.scan(kind, axis, *src)).shape == (0, 3)


# indices ----------------------------------------------------------------------------------------------------------
COMBINE: dict[str, Callable[[Any, Any], Any]] = {
    "sum": operator.add,
    "max": lambda a, b: larger(a, b, 1),
    "min": lambda a, b: larger(a, b, -1),
    "set": lambda a, b: b,
}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_gather_and_scatter_are_loops(data: Any) -> None:
    shape = tuple(data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=3)))
    axis = data.draw(st.integers(0, len(shape) - 1))
    size = data.draw(st.integers(1, 4))
    dtype = data.draw(st.sampled_from(["u1", "i4", "i8", "u8"]))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    idx = rng.integers(0, size, shape).astype(dtype)
    table = rng.normal(size=(*shape[:axis], size, *shape[axis + 1 :]))
    g = rng.choice([np.nan, -0.0, 0.0, 1.5, -2.0, np.inf], shape)

    gathered = np.zeros(shape)
    places = {at: (*at[:axis], int(idx[at]), *at[axis + 1 :]) for at in np.ndindex(*shape)}
    for at, place in places.items():
        gathered[at] = table[place]
    same(value(ir.gather(stored(table), stored(idx), axis)), gathered)

    for kind, f in COMBINE.items():
        expected = np.full(table.shape, {"max": -np.inf, "min": np.inf}.get(kind, 0.0))
        for at, place in places.items():
            expected[place] = f(expected[place], g[at])
        same(value(ir.scatter(kind, stored(g), stored(idx), axis, size)), expected)


def test_scatter_of_other_dtypes() -> None:
    idx = stored([1, 1, 0])
    same(value(ir.scatter("sum", stored([100, 100, 3], np.int8), idx, 0, 3)), [3, -56, 0])
    same(value(ir.scatter("max", stored([5, 9, 3], np.uint8), idx, 0, 3)), [3, 9, 0])
    same(value(ir.scatter("min", stored([5, 9, 3], np.int8), idx, 0, 3)), [3, 5, 127])
    same(value(ir.scatter("max", stored([False, True, False]), idx, 0, 3)), [False, True, False])
    same(value(ir.scatter("set", stored([True, False, True]), idx, 0, 3)), [True, False, False])
    same(value(ir.scatter("sum", stored([2048, 1, 1], np.float16), stored([0, 0, 0]), 0, 1)), [2050])


def index_7() -> Node:
    return ir.gather(stored([1.0, 2.0, 3.0]), stored([0, 7, -9]), 0)


def test_an_index_out_of_range_is_refused_as_numpy_does() -> None:
    with pytest.raises(IndexError, match=r"^index 7 is out of bounds for axis 0 with size 3$"):
        value(index_7())
    with pytest.raises(IndexError, match=r"^index -1 is out of bounds for axis 1 with size 2$"):
        value(ir.scatter("sum", stored([[1.0]]), stored([[-1]]), 1, 2))
    with pytest.raises(IndexError, match="index 0 is out of bounds for axis 0 with size 0"):
        value(ir.gather(stored(np.zeros(0)), stored([0]), 0))
    with pytest.raises(IndexError, match=f"index {2**64 - 1} is"):
        value(ir.gather(stored([1.0]), stored([2**64 - 1], np.uint64), 0))


def test_the_index_error_names_the_users_line() -> None:
    n = index_7()
    n.site = (index_7.__code__, 0)
    with pytest.raises(IndexError, match=rf"size 3 \(.*test_interpret\.py:{index_7.__code__.co_firstlineno}\)$"):
        value(n)


# movement and leaves ----------------------------------------------------------------------------------------------
def test_leaves() -> None:
    same(value(ir.const(0.1, FLOAT32, (2, 0))), np.zeros((2, 0)))
    same(value(ir.const(-0.0, FLOAT16, (2,))), [-0.0, -0.0])
    same(value(ir.iota(300, DTYPES["i8"])), np.arange(300).astype(np.int8))
    same(value(ir.iota(0)), [])


def test_simple_movement() -> None:
    x = RNG.normal(size=(2, 3, 1))
    n = stored(x)
    same(value(ir.reshape(n, (3, 2))), x.reshape(3, 2))
    same(value(ir.permute(n, (2, 0, 1))), x.transpose(2, 0, 1))
    same(value(ir.expand(n, (2, 3, 4))), np.broadcast_to(x, (2, 3, 4)))
    same(value(ir.flip(n, (0, 1))), x[::-1, ::-1])
    same(value(ir.shrink(n, [(0, 2, 1), (1, 3, 2), (1, 1, 1)])), x[:, 1:3:2, 1:1])
    same(value(ir.cat([n, n, stored(np.zeros((2, 0, 1)))], 1)), np.concatenate([x, x], 1))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 4), st.integers(0, 3), st.integers(0, 3), st.integers(0, 3))
def test_pad_puts_zeros_before_after_and_between(size: int, lo: int, hi: int, inner: int) -> None:
    x = RNG.normal(size=(size, 2))
    n = ir.pad(stored(x), [(lo, hi, inner), (0, 0, 0)])
    between = [row for v in x for row in (v, *[np.zeros(2)] * inner)]
    rows = between[: len(between) - inner] if size else []
    same(value(n), np.array([*[np.zeros(2)] * lo, *rows, *[np.zeros(2)] * hi]).reshape(-1, 2))
    if size:  # the inverse
        undo = (lo, n.shape[0] - hi, inner + 1)
        same(value(ir.shrink(n, [undo, (0, 2, 1)])), x)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 4), st.integers(0, 4), st.booleans(), st.integers(-2, 2), st.integers(-3, 3), st.integers(0, 5))
def test_skew_shifts_by_the_other_axis(rows: int, columns: int, swap: bool, d: int, off: int, size: int) -> None:
    i, k = (1, 0) if swap else (0, 1)
    x = RNG.normal(size=(rows, columns, 2))
    n = ir.skew(stored(x), i, k, d, off, size)
    expected = np.zeros(n.shape)
    for at in np.ndindex(*n.shape):
        j = at[i] + d * at[k] + off
        if 0 <= j < x.shape[i]:
            expected[at] = x[(*at[:i], j, *at[i + 1 :])]
    same(value(n), expected)


# markers, host calls, bindings --------------------------------------------------------------------------------------
def test_markers_are_the_identity() -> None:
    x = stored([1.0, 2.0])
    never = ir.input((2,), FLOAT64)
    same(value(ir.custom(ir.fence(ir.detach(ir.alias(x))), [never], [never], None)), [1.0, 2.0])
    same(value(ir.input((2,), FLOAT64, x)), [1.0, 2.0])


def test_call_checks_what_it_gets() -> None:
    x = stored([3.0, 1.0, 2.0])
    same(value(ir.call(ir.HostFunction("sort", np.sort, lambda s: s, FLOAT64), x)), [1, 2, 3])
    for broken in (lambda a: a[:2], lambda a: a.astype(np.float32)):
        with pytest.raises(IRError, match="broken returned"):
            value(ir.call(ir.HostFunction("broken", broken, lambda s: s, FLOAT64), x))


def test_bindings_come_before_values() -> None:
    x, b = ir.input((2,), FLOAT64), stored([1.0, 2.0])
    got = interpret([ir.add(x, b), x], {x: np.array([1.0, 1.0]), b: np.array([5.0, 6.0])})
    same(got[0], [6, 7])
    same(got[1], [1, 1])


def test_a_leaf_without_a_value_is_refused() -> None:
    for leaf in (ir.input((2,), FLOAT64), ir.buffer((2,), FLOAT64, None)):
        with pytest.raises(IRError, match=leaf.op.value):
            value(leaf)
    x = ir.input((2,), FLOAT64)
    for wrong in (np.zeros(3), np.zeros(2, np.float32), [0.0, 0.0]):
        with pytest.raises(IRError, match="binding"):
            interpret([x], {x: wrong})  # type: ignore[dict-item]


def test_a_computed_node_is_read_from_its_buffer() -> None:
    n = ir.neg(ir.input((1,), INT64))
    n.buffer = copy(np.array([4]))
    same(value(ir.neg(n)), [-4])
    n.src = ()  # its history is dropped
    same(value(n), [4])


def test_results_are_fresh() -> None:
    x = stored([[1.0, 2.0]])
    got = interpret([x, ir.permute(x, (1, 0)), x])
    assert all(y.flags.c_contiguous and y.flags.writeable and y.base is None for y in got)
    assert got[0] is not got[2]


def test_long_chains_and_diamonds() -> None:
    n = one = ir.const(1, INT64)
    for _ in range(100_000):
        n = ir.add(n, one)
    same(value(n), 100_001)
    v = ir.const(1, INT64)
    for _ in range(60):
        v = ir.add(v, v)
    same(value(v), 2**60)


def test_values_are_freed_after_their_last_use() -> None:
    alive: list[weakref.ref[np.ndarray]] = []
    most = 0

    def step(a: np.ndarray) -> np.ndarray:
        nonlocal most
        out = a + 1
        alive.append(weakref.ref(out))
        most = max(most, sum(r() is not None for r in alive))
        return out

    n = stored(np.zeros(3))
    for _ in range(20):
        n = ir.call(ir.HostFunction("step", step, lambda s: s, FLOAT64), n)
    same(value(n), [20, 20, 20])
    assert most == 2
