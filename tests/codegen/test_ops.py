"""Every scalar operation, for every type and lane count, against its meaning in NumPy or in Python integers."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from harness import NUMPY, REFERENCE, TYPE_OF, call, compiled, load, op_body, run, text, ulp_error
from levels import LEVELS, X86, runnable_levels, signatures

from codegen import elf, jit
from codegen.builder import Builder, Module, Val, register_type
from codegen.math import FUNCTIONS, MAX_ULP
from codegen.ops import CONVERSIONS, TABLE, emit_op
from codegen.scalar import OPS, TYPES

LANES = (1, 4, 16)
INTEGERS = [name for name, t in TYPES.items() if t.kind in "iu"]
FLOATS = ["f16", "f32", "f64"]
CONVERTING = {"cast", "bitcast"}
INF, NAN = math.inf, math.nan


def edges(name: str) -> np.ndarray:
    """Values of a type that matter: ends of the range, shift counts about the width, specials, and some others."""
    t, kind = TYPES[name], NUMPY[name]
    rng = np.random.default_rng(7)
    if t.kind == "b":
        return np.array([False, True])
    if t.kind in "iu":
        low, high = int(np.iinfo(kind).min), int(np.iinfo(kind).max)
        values = [0, 1, 2, 3, 5, 10, t.bits - 1, t.bits, t.bits + 1, low, low + 1, high, high - 1, high // 2, high // 3]
        values += [-v for v in values if low <= -v <= high]
        return np.unique(np.concatenate([np.array(values, kind), rng.integers(low, high, 12, kind, endpoint=True)]))
    info = np.finfo(kind)
    tiny, small, huge = float(info.smallest_subnormal), float(info.tiny), float(info.max)
    values = [0.0, 1.0, 0.5, 1.5, 2.5, 3.0, 0.1, 7.3, 1 + float(info.eps), 1 - float(info.eps) / 2, 1000.3]
    values += [tiny, 3 * tiny, small, small - tiny, small * 1.5, huge, huge / 2, huge / 3, INF]
    values += list(rng.standard_normal(6))
    return np.array([*values, *(-v for v in values), NAN], kind)


def pairs(name: str) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.meshgrid(edges(name), edges(name))
    return x.ravel(), y.ravel()


def assert_same(got: np.ndarray, want: np.ndarray, *sources: np.ndarray) -> None:
    """Equal bits; any NaN equals any NaN."""
    assert got.dtype == want.dtype
    wrong = got.view(f"u{got.itemsize}") != want.view(f"u{got.itemsize}")
    if got.dtype.kind == "f":
        wrong &= ~(np.isnan(got) & np.isnan(want))
    k = np.flatnonzero(wrong)[:5]
    assert not len(k), f"at {[s[k] for s in sources]}: got {got[k]}, want {want[k]} ({wrong.sum()} wrong)"


# integers and bool ----------------------------------------------------------------------------------------------------
def integer_power(x: int, y: int, bits: int) -> int:
    if y >= 0:
        return pow(x, y, 1 << bits)
    return {1: 1, -1: -1 if y % 2 else 1}.get(x, 0)


UNARY_INTEGER = {
    "neg": lambda x, bits: -x,
    "abs": lambda x, bits: abs(x),
    "not": lambda x, bits: ~x,
    **dict.fromkeys(("floor", "ceil", "trunc", "round"), lambda x, bits: x),
}
BINARY_INTEGER = {
    "add": lambda x, y, bits: x + y,
    "sub": lambda x, y, bits: x - y,
    "mul": lambda x, y, bits: x * y,
    "idiv": lambda x, y, bits: x // y if y else 0,
    "mod": lambda x, y, bits: x % y if y else 0,
    "pow": integer_power,
    "max": lambda x, y, bits: max(x, y),
    "min": lambda x, y, bits: min(x, y),
    "lt": lambda x, y, bits: x < y,
    "eq": lambda x, y, bits: x == y,
    "and": lambda x, y, bits: x & y,
    "or": lambda x, y, bits: x | y,
    "xor": lambda x, y, bits: x ^ y,
    "shl": lambda x, y, bits: x << y if 0 <= y < bits else 0,
    "shr": lambda x, y, bits: x >> (y if 0 <= y < bits else bits),
}


def wrapped(values: list[int], name: str) -> np.ndarray:
    t = TYPES[name]
    if t.kind == "b":
        return np.array(values, np.bool_)
    return np.array([v % (1 << t.bits) for v in values], f"u{t.bytes}").view(NUMPY[name])


@pytest.mark.parametrize("name", INTEGERS)
def test_integer_operations(name):
    bits = TYPES[name].bits
    x = edges(name)
    for op, meaning in UNARY_INTEGER.items():
        want = wrapped([meaning(int(v), bits) for v in x], name)
        for lanes in LANES:
            assert_same(run(op, x, lanes=lanes), want, x)
    x, y = pairs(name)
    for op, meaning in BINARY_INTEGER.items():
        result = "b1" if op in ("lt", "eq") else name
        want = wrapped([meaning(int(v), int(w), bits) for v, w in zip(x, y)], result)
        for lanes in LANES:
            assert_same(run(op, x, y, result=result, lanes=lanes), want, x, y)


def test_bool_operations():
    x, y = pairs("b1")
    meanings = {
        "add": x | y,
        "mul": x & y,
        "max": x | y,
        "min": x & y,
        "and": x & y,
        "or": x | y,
        "xor": x ^ y,
        "eq": x == y,
        "lt": ~x & y,
    }
    for lanes in LANES:
        for op, want in meanings.items():
            assert_same(run(op, x, y, lanes=lanes), want, x, y)
        assert_same(run("not", x, lanes=lanes), ~x, x)
        for op in ("abs", "floor", "ceil", "trunc", "round"):
            assert_same(run(op, x, lanes=lanes), x, x)


@pytest.mark.parametrize("name", ["i8", "u8", "i16", "u16"])
def test_division_of_narrow_integers_is_exact(name):
    """All pairs of 8 bits, many of 16: vectors divide as floats."""
    kind = NUMPY[name]
    info = np.iinfo(kind)
    rng = np.random.default_rng(1)
    if info.bits == 8:
        x, y = (v.ravel() for v in np.meshgrid(np.arange(info.min, info.max + 1), np.arange(info.min, info.max + 1)))
    else:
        x, y = rng.integers(info.min, info.max, (2, 200000), endpoint=True)
    x, y = x.astype(kind), y.astype(kind)
    with np.errstate(all="ignore"):
        assert_same(run("idiv", x, y), np.floor_divide(x, y), x, y)
        assert_same(run("mod", x, y), np.remainder(x, y), x, y)


@pytest.mark.parametrize("name", ["i32", "u32", "i64", "u64"])
def test_division_of_wide_integers_is_exact(name):
    kind = NUMPY[name]
    info = np.iinfo(kind)
    rng = np.random.default_rng(2)
    y = rng.integers(info.min, info.max, 100000, kind, endpoint=True) >> rng.integers(0, info.bits, 100000).astype(kind)
    k = rng.integers(0, info.max, 100000, kind) // np.maximum(np.abs(y), 1).astype(kind)
    x = (y * k + rng.integers(-1 if info.min else 0, 2, 100000).astype(kind)).astype(kind)  # next to a multiple
    with np.errstate(all="ignore"):
        assert_same(run("idiv", x, y), np.floor_divide(x, y), x, y)
        assert_same(run("mod", x, y), np.remainder(x, y), x, y)


# floats ---------------------------------------------------------------------------------------------------------------
def maximum(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.where((x == 0) & (y == 0), np.where(np.signbit(x), y, x), np.maximum(x, y))


def minimum(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.where((x == 0) & (y == 0), np.where(np.signbit(x), x, y), np.minimum(x, y))


FLOAT = {
    "neg": np.negative,
    "abs": np.abs,
    "sqrt": np.sqrt,
    "floor": np.floor,
    "ceil": np.ceil,
    "trunc": np.trunc,
    "round": np.rint,
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "idiv": np.floor_divide,
    "mod": np.remainder,
    "max": maximum,
    "min": minimum,
    "lt": np.less,
    "eq": np.equal,
}


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_float_operations(name):
    x, y = pairs(name)
    for op, meaning in FLOAT.items():
        sources = (x, y)[: OPS[op][0]]
        result = "b1" if op in ("lt", "eq") else name
        for lanes in LANES:
            assert_same(run(op, *sources, result=result, lanes=lanes), meaning(*sources), *sources)


@pytest.mark.parametrize("name", FLOATS)
def test_float_functions_of_edges(name):
    """The bounds and special values of `codegen.math`, at every lane count (float16: one more rounding)."""
    bits = "f32" if name == "f16" else name
    for op in FUNCTIONS:
        sources = pairs(name) if OPS[op][0] == 2 else (edges(name),)
        want = REFERENCE[op](*(s.astype(np.longdouble) for s in sources))
        limit = 0.51 if name == "f16" else MAX_ULP[op][bits]
        first = run(op, *sources, lanes=LANES[0])
        held = sources[0] > 0 if op == "lgamma" else np.ones(len(first), bool)
        assert ulp_error(first, want)[held].max() <= limit
        signed = ~np.isnan(first)
        assert np.array_equal(np.signbit(first[signed]), np.signbit(want[signed]))
        for lanes in LANES[1:]:
            assert_same(run(op, *sources, lanes=lanes), first, *sources)


@pytest.mark.parametrize("name", ["f32", "f64"])
def test_float_mod_is_exact_for_huge_quotients(name):
    kind = NUMPY[name]
    rng = np.random.default_rng(3)
    bits = rng.integers(0, 1 << (8 * kind(0).itemsize - 1), (2, 4000), np.uint64).astype(f"u{kind(0).itemsize}")
    x, y = bits.view(kind)
    keep = np.isfinite(x) & np.isfinite(y) & (y != 0)
    x, y = (v[keep] * rng.choice([-1, 1], keep.sum()).astype(kind) for v in (x, y))
    want = np.array([kind(math.fmod(v, w)) for v, w in zip(x.tolist(), y.tolist())])
    want = want + np.where((want != 0) & ((want < 0) != (y < 0)), y, kind(0))
    want = np.where(want == 0, np.copysign(kind(0), y), want)
    for lanes in LANES:
        assert_same(run("mod", x, y, lanes=lanes), want, x, y)
    if name == "f64":
        assert run("mod", x, y).tolist() == [v % w for v, w in zip(x.tolist(), y.tolist())]
        ratio = np.abs(x) / 1e15 < np.abs(y)
        x, y = x[ratio], y[ratio]
        assert run("idiv", x, y).tolist() == [v // w for v, w in zip(x.tolist(), y.tolist())]


@pytest.mark.parametrize("name", TYPES)
def test_where_selects(name):
    x = np.concatenate([edges(name)] * 20)
    y = x[::-1].copy()
    c = np.random.default_rng(4).integers(0, 2, len(x)).astype(bool)
    for lanes in LANES:
        assert_same(run("where", c, x, y, lanes=lanes), np.where(c, x, y), x, y)


# conversions ----------------------------------------------------------------------------------------------------------
def converted(x: np.ndarray, to: str) -> np.ndarray:
    t, kind = TYPES[to], NUMPY[to]
    if t.kind == "b":
        return x != 0
    if t.kind == "f" or x.dtype.kind in "biu":
        with np.errstate(all="ignore"):
            return x.astype(kind)
    info = np.iinfo(kind)
    exact = [0 if math.isnan(v) else min(max(v, info.min), info.max) for v in x.tolist()]
    return np.array([int(v) for v in exact], kind)


@pytest.mark.parametrize("source", TYPES)
def test_casts(source):
    x = edges(source)
    if TYPES[source].kind == "f":
        with np.errstate(all="ignore"):
            limits = [
                s * 2.0**p * f
                for p in (7, 8, 15, 16, 31, 32, 63, 64)
                for s in (1, -1)
                for f in (1, 1 - 2**-11, 1 + 2**-10)
            ]
            x = np.concatenate([x, np.array(limits).astype(x.dtype)])
    for to in TYPES:
        for lanes in LANES:
            assert_same(run("cast", x, result=to, lanes=lanes), converted(x, to), x)


def test_cast_of_wide_integers_to_floats_rounds_once():
    rng = np.random.default_rng(5)
    for kind in (np.int64, np.uint64):
        info = np.iinfo(kind)
        x = rng.integers(info.min, info.max, 20000, kind, endpoint=True)
        x[:6000] = (x[:6000] >> 39) * (1 << 39) + rng.integers(-1 if info.min else 0, 2, 6000).astype(kind)
        for to in ("f32", "f64"):
            # int / int of Python rounds correctly to double; float32 by way of exact comparison of neighbours.
            assert_same(run("cast", x, result=to), x.astype(NUMPY[to]), x)


def test_cast_of_double_to_half_rounds_once():
    halves = np.arange(0x7BFF, dtype=np.uint16).view(np.float16).astype(np.float64)
    ties = (halves[:-1] + halves[1:]) / 2
    x = np.concatenate(
        [ties, np.nextafter(ties, 0), np.nextafter(ties, 1e9), ties * (1 + 2**-30), [65519.999, 65520.0]]
    )
    x = np.concatenate([x, -x])
    with np.errstate(all="ignore"):
        want = x.astype(np.float16)
    assert_same(run("cast", x, result="f16"), want, x)


@pytest.mark.parametrize("source", TYPES)
def test_bitcasts(source):
    x = edges(source)
    if TYPES[source].kind == "f":
        x = x[~np.isnan(x)]
    for to, t in TYPES.items():
        if t.bits == TYPES[source].bits:
            for lanes in LANES:
                got = run("bitcast", x, result=to, lanes=lanes)
                wanted = x.view(NUMPY[to])
                assert_same(got, wanted, x)
        else:
            with pytest.raises(TypeError, match="widths differ"):
                one_op("bitcast", to, (source,))


# the table ------------------------------------------------------------------------------------------------------------
def one_op(op: str, result: str, operands: tuple[str, ...]) -> Val:
    args = tuple(Val(f"%x{i}", register_type(TYPES[o], 4)) for i, o in enumerate(operands))
    return emit_op(Builder(Module()), op, TYPES[result], tuple(TYPES[o] for o in operands), args)


def test_every_operation_has_a_meaning_for_some_type():
    assert {op for op, _ in [*TABLE, *CONVERSIONS]} == set(OPS)
    assert set(FUNCTIONS) == set(MAX_ULP)


@pytest.mark.parametrize(
    "op, name",
    [
        ("neg", "b1"),
        ("sub", "b1"),
        ("shl", "b1"),
        ("idiv", "b1"),
        ("div", "i32"),
        ("exp", "i64"),
        ("and", "f32"),
        ("shr", "f16"),
    ],
)
def test_operations_without_meaning_raise(op, name):
    with pytest.raises(TypeError, match=f"{op}: not defined for {name}"):
        one_op(op, name, (name,) * OPS[op][0])


# targets --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("level", LEVELS)
def test_no_operation_calls_a_library(level):
    """One object with all operations in it, of 1 and of 16 lanes, refers to nothing outside."""
    t = jit.target(level)
    module = Module(t.has_fma, t.has_f16c, t.masks, t.has_long, t.table_bytes)
    for number, ((op, result, operands), lanes) in enumerate(itertools.product(signatures(), (1, 16))):
        b = Builder(module)
        args = tuple(Val(f"%a{i}", register_type(o, lanes)) for i, o in enumerate(operands))
        y = emit_op(b, op, result, operands, args)
        head = f"define void @f{number}(ptr %out, {', '.join(map(repr, args))}) {{\nentry:"
        b.store(y, Val("%out", y.ty), 1)
        b.ret()
        module.functions.append("\n".join([head, *b.lines, "}"]))
    assert elf.undefined_symbols(jit.assemble(module.text(), t)) == []


@pytest.mark.parametrize("level", X86)
def test_targets_agree_bit_for_bit(level):
    if level not in runnable_levels():
        pytest.skip("this machine does not run it")
    for op in (*FUNCTIONS, "mod", "idiv", "add"):
        for name in FLOATS:
            sources = pairs(name) if OPS[op][0] == 2 else (edges(name),)
            assert_same(run(op, *sources, target=level), run(op, *sources), *sources)


def triples(kind: type) -> tuple[np.ndarray, ...]:
    """Edges in all combinations, random bits, and sums that nearly cancel or land between denormals."""
    name = str(TYPE_OF[np.dtype(kind)])
    grid = [v.ravel() for v in np.meshgrid(edges(name)[::2], edges(name)[::3], edges(name)[1::2])]
    rng = np.random.default_rng(6)
    width = np.dtype(kind).itemsize
    any_bits = rng.integers(0, 1 << (8 * width - 1), (3, 20000), np.uint64).astype(f"u{width}").view(kind)
    x, y = rng.standard_normal((2, 20000)).astype(kind)
    near = (x, y, (-(x * y) * (1 + rng.integers(-3, 4, 20000) * float(np.finfo(kind).eps))).astype(kind))
    scale = np.exp2(rng.integers(*((-80, -60) if width == 4 else (-540, -500)), 20000)).astype(kind)
    small = (x * scale, y * scale, any_bits[0] * 0 + kind(np.finfo(kind).tiny) * x)
    return tuple(np.concatenate(parts) for parts in zip(grid, any_bits, near, small))


@pytest.mark.parametrize("name", ["f32", "f64"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_fma_without_hardware_has_the_same_bits(name):
    if "x86-64-v3" not in runnable_levels():
        pytest.skip("needs hardware to compare with")
    t = TYPES[name]
    sources = triples(NUMPY[name])

    def body(b, args):
        return b.fma(*args)

    hard = call(load(text(body, t, (t,) * 3, 16, "native"), 3), t, 16, *sources)
    for lanes in LANES:
        soft = call(load(text(body, t, (t,) * 3, lanes, "x86-64-v2"), 3, "x86-64-v2"), t, lanes, *sources)
        assert_same(soft, hard, *sources)


def test_half_conversions_without_hardware_have_the_same_bits():
    if not runnable_levels():
        pytest.skip("x86-64 only")
    halves = np.arange(65536, dtype=np.uint16).view(np.float16)
    assert_same(run("cast", halves, result="f32", target="x86-64-v2"), halves.astype(np.float32), halves)
    singles = np.arange(0, 2**32, 9973, dtype=np.uint64).astype(np.uint32).view(np.float32)
    ties = np.abs(halves[np.isfinite(halves)].astype(np.float32))
    singles = np.concatenate([singles, ties, ties * np.float32(1 + 2**-11), np.nextafter(ties, np.float32(1))])
    with np.errstate(all="ignore"):
        assert_same(run("cast", singles, result="f16", target="x86-64-v2"), singles.astype(np.float16), singles)


def test_text_is_deterministic():
    body = op_body("tanh", TYPES["f32"], (TYPES["f32"],))
    one, two = (text(body, TYPES["f32"], (TYPES["f32"],), 16, "native") for _ in range(2))
    assert one == two
    assert compiled("tanh", TYPES["f32"], (TYPES["f32"],), 16) is compiled("tanh", TYPES["f32"], (TYPES["f32"],), 16)
