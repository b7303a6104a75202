"""The text of graphs: what it looks like, that it is stable, and that it is read back."""

from __future__ import annotations

import gc
import math
import os
import sys
from types import CodeType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyad import ir, sites
from tinyad.buffer import copy
from tinyad.interpret import interpret
from tinyad.ir import BOOL, DTYPES, FLOAT16, FLOAT32, FLOAT64, INT64, Node, Op
from tinyad.sites import Derived
from tinyad.text import ARGUMENT, const_text, dump, excerpt, label, parse, parse_named
from tinyad.verify import verify


def stored(shape: tuple[int, ...], dtype: Any = FLOAT32) -> Node:
    return ir.buffer(shape, dtype, copy(np.zeros(shape, dtype)))


def round_trip(*roots: Node) -> str:
    text = dump(roots, sites=False)
    again = parse(text)
    verify(again)
    assert dump(again) == text
    return text


def test_the_table_is_total() -> None:
    assert set(ARGUMENT) == set(Op)


def test_a_graph_reads_as_in_the_manual() -> None:
    x, w, b = stored((64, 32)), stored((32, 10)), stored((10,))
    product = ir.mul(
        ir.expand(ir.reshape(x, (64, 32, 1)), (64, 32, 10)), ir.expand(ir.reshape(w, (1, 32, 10)), (64, 32, 10))
    )
    y = ir.add(
        ir.reshape(ir.sum_(product, [1]), (64, 10)), ir.expand(ir.reshape(b, (1, 10)), (64, 10))
    )  # fmt: skip
    z = ir.where(ir.lt(y, ir.const(0.0, FLOAT32, y.shape)), ir.const(0.1, FLOAT32, y.shape), y)
    expected = """\
graph (x: f32[64,32], w: f32[32,10], b: f32[10]) {
  %0: f32[64,32,1] = reshape x
  %1: f32[64,32,10] = expand %0
  %2: f32[1,32,10] = reshape w
  %3: f32[64,32,10] = expand %2
  %4: f32[64,32,10] = mul %1, %3
  %5: f32[64,1,10] = sum[1] %4
  %6: f32[64,10] = reshape %5
  %7: f32[1,10] = reshape b
  %8: f32[64,10] = expand %7
  %9: f32[64,10] = add %6, %8
  %10: b1[64,10] = lt %9, 0.0:f32[64,10]
  %11: f32[64,10] = where %10, 0.1, %9
  return %11
}
"""
    assert dump([z], {x: "x", w: "w", b: "b"}) == expected
    roots, named = parse_named(expected)
    assert dump(roots, {n: name for name, n in named.items() if name[0] != "%"}) == expected
    assert named["x"].op is Op.BUFFER and named["x"].buffer is None and named["w"].shape == (32, 10)


def everything() -> list[Node]:
    """Nodes of every kind that text can hold."""
    x, c, i = ir.input((4, 3), FLOAT32), ir.input((4, 3), BOOL), stored((4, 3), INT64)
    carried = ir.input((4, 3), FLOAT32, ir.neg(x))
    b = stored((4, 3))
    ones = [ir.unary(op, x) for op in ir.UNARY - {Op.NOT, Op.CAST, Op.BITCAST}]
    twos = [ir.binary(op, x, b) for op in ir.BINARY if ir.OPERANDS[op] in ("biuf", "iuf", "f")]
    bits = [ir.binary(op, i, i) for op in ir.BINARY if ir.OPERANDS[op] in ("biu", "iu")]
    return [
        *sorted(ones + twos + bits, key=lambda n: n.op.value),
        ir.not_(c),
        ir.cast(x, FLOAT16),
        ir.bitcast(x, ir.INT32),
        ir.where(c, carried, ir.const(-math.inf, FLOAT32, (4, 3))),
        *(ir.reduce(op, x, (0, 1)) for op in (Op.SUM, Op.PROD, Op.REDUCE_MAX, Op.REDUCE_MIN)),
        *(ir.scan(kind, 1, *[x] * (1 + (kind == "linrec"))) for kind in ir.SCANS),
        *(ir.scatter(kind, x, i, 0, 7) for kind in ir.SCATTERS),
        ir.alias(x),
        ir.reshape(x, (12,)),
        ir.permute(x, (1, 0)),
        ir.expand(ir.sum_(x, [0]), (5, 3)),
        ir.pad(x, [(1, 0, 2), (0, 3, 0)]),
        ir.shrink(x, [(0, 4, 2), (1, 3, 1)]),
        ir.flip(x, (0, 1)),
        ir.skew(x, 0, 1, -1, 2, 6),
        ir.cat([x, b, x], 1),
        ir.gather(x, i, 0),
        ir.detach(x),
        ir.fence(x),
        ir.fence(x),
        ir.iota(5, DTYPES["u8"]),
        ir.const(True, BOOL),
        ir.const(-3, DTYPES["i8"], (2, 0)),
        x,
    ]


def test_every_operation_is_read_back() -> None:
    text = round_trip(*everything())
    missing = {op for op in Op if f" {op.value}" not in text} - {Op.BUFFER, Op.CONST, Op.CUSTOM, Op.CALL}
    assert not missing
    assert "%" not in text.splitlines()[0]


def test_parsed_graphs_compute_the_same() -> None:
    x, y = ir.input((3,), FLOAT64), stored((3,), FLOAT64)
    f = ir.sum_(ir.mul(ir.exp(x), ir.add(y, ir.const(0.1, FLOAT64, (3,)))), [0])
    (g,), named = parse_named(dump([f]))
    a, b = np.array([0.3, 1.0, -2.0]), np.array([2.0, 0.0, 1.5])
    assert interpret([f], {x: a, y: b}) == interpret([g], {named["x0"]: a, named["b0"]: b})


def test_constants_keep_their_bits() -> None:
    for dtype in (FLOAT16, FLOAT32, FLOAT64):
        for v in (0.1, -0.0, 1e-7, 65504.0, 1 / 3, 5e-324, 1e300, math.inf, -math.inf):
            c = ir.const(v, dtype)
            (again,) = parse(dump([c]))
            assert (again.arg, math.copysign(1, again.arg)) == (c.arg, math.copysign(1, c.arg))
            assert again.dtype is dtype
    assert const_text(ir.const(0.1, FLOAT32).arg, FLOAT32) == "0.1"
    for v, text in [(math.nan, "nan"), (-math.nan, "-nan")]:
        (again,) = parse(dump([ir.const(v, FLOAT32)]))
        assert const_text(again.arg, FLOAT32) == text


@settings(max_examples=200, deadline=None)
@given(st.floats(), st.sampled_from([FLOAT16, FLOAT32, FLOAT64]))
def test_any_float_is_read_back(v: float, dtype: Any) -> None:
    c = ir.const(v, dtype)
    (again,) = parse(dump([c]))
    assert again.arg == c.arg or (math.isnan(again.arg) and math.isnan(c.arg))


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_random_movement_is_read_back(data: Any) -> None:
    n = ir.input(tuple(data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=3))), FLOAT32)
    nodes = [n]
    for _ in range(data.draw(st.integers(1, 8))):
        n = data.draw(st.sampled_from(nodes))
        rank = len(n.shape)
        small = st.integers(0, 2)
        axis = data.draw(st.integers(0, rank - 1))
        moves = [
            ir.permute(n, data.draw(st.permutations(range(rank)))),
            ir.flip(n, [axis]),
            ir.pad(n, [data.draw(st.tuples(small, small, small)) for _ in n.shape]),
            ir.shrink(n, [(min(1, m), m, data.draw(st.integers(1, 3))) for m in n.shape]),
            ir.reshape(n, (*n.shape, 1)),
            ir.cat([n, n], axis),
            ir.mul(n, n),
            ir.sum_(n, [axis]),
            ir.fence(n),
        ]
        nodes.append(data.draw(st.sampled_from(moves)))
    round_trip(*nodes[::-1])


# names and comments -----------------------------------------------------------------------------------------------
def test_names_are_cleaned_and_unique() -> None:
    a, b, c, d, e = (stored(()) for _ in range(5))
    roots = [a, b, c, d, e, ir.neg(a), ir.exp(a)]
    names = {a: "layer 1/w", b: "nan", c: "b0", d: "b0", roots[5]: "loss"}
    assert list(label(roots, names).values()) == ["layer_1_w", "_nan", "b0", "b0_2", "b0_3", "loss", "%0"]
    text = dump(roots, names)
    again, named = parse_named(text)
    assert dump(again, {n: name for name, n in named.items() if name[0] != "%"}) == text


def test_numbers_do_not_depend_on_ids() -> None:
    def graph() -> list[Node]:
        return [ir.fence(ir.add(ir.input((2,), FLOAT32), ir.input((2,), FLOAT32))), ir.fence(stored((2,)))]

    assert dump(graph()) == dump(graph())
    shared = ir.fence(stored((2,)))
    twin = Node(Op.FENCE, shared.src, shared.arg, shared.shape, shared.dtype)
    assert "fence[1]" not in round_trip(shared, twin)


def test_a_computed_node_without_sources_is_a_stored_array() -> None:
    n = ir.exp(ir.input((2,), FLOAT32))
    n.buffer = copy(np.zeros(2, np.float32))
    n.src = ()
    assert dump([ir.neg(n)]).startswith("graph (b0: f32[2]) {\n  %0: f32[2] = neg b0\n")


def test_functions_are_printed_by_name_and_not_read() -> None:
    def rule(*_: Any) -> None: ...

    x = ir.input((2,), FLOAT32)
    sort = ir.HostFunction("sort", np.sort, lambda s: s, FLOAT32)
    for n, line in [(ir.custom(x, [x], [], rule), "= custom[rule,1] x0, x0"), (ir.call(sort, x), "= call[sort] x0")]:
        text = dump([n])
        assert line in text
        with pytest.raises(ValueError, match=r"^line 2: a .* is a Python function: its text cannot be parsed"):
            parse(text)


def here() -> sites.Site:
    site = sites.capture()
    assert site is not None
    return site


def test_comments_say_whose_a_node_is() -> None:
    x = ir.input((2,), FLOAT32)
    y = ir.exp(x)
    y.site = here()
    dy = ir.neg(y)
    dy.site = Derived(y)
    ddy = ir.sin(dy)
    ddy.site = Derived(dy)
    line = sites.line_of(y)
    assert line is not None and line.endswith(f"test_text.py:{here.__code__.co_firstlineno + 1}")
    assert sites.line_of(ddy) == sites.line_of(dy) == line
    comments = [s.split(" ; ")[1] for s in dump([ddy]).splitlines() if ";" in s]
    assert comments == [line, "d %0", "d %1"]
    alone = ir.neg(x)
    alone.site = Derived(y)
    assert f"neg x0 ; d {line}\n" in dump([alone])
    del y, dy, ddy
    gc.collect()
    assert f"neg x0 ; d {line}\n" in dump([alone])
    assert ";" not in dump([alone], sites=False)
    assert sites.line_of(x) is None
    assert dump(parse(dump([alone]))) == dump([alone], sites=False)


def test_sites_are_outside_the_packages() -> None:
    assert here()[0] is here.__code__
    inside = os.path.join(os.path.dirname(sites.__file__), "made_up.py")
    scope: dict[str, Any] = {"capture": sites.capture}
    exec(compile("def f():\n    return capture()", inside, "exec"), scope)
    site = scope["f"]()
    assert isinstance(site[0], CodeType) and site[0] is sys._getframe().f_code
    assert sites.show(site).endswith(f"test_text.py:{test_sites_are_outside_the_packages.__code__.co_firstlineno + 5}")
    sites.clear()


def test_show_uses_short_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    directory, name = os.path.split(os.path.abspath(__file__))
    line = here.__code__.co_firstlineno + 1
    monkeypatch.chdir(os.path.dirname(directory))
    assert sites.show(here()) == f"{os.path.basename(directory)}{os.sep}{name}:{line}"
    monkeypatch.chdir(os.path.dirname(sites.__file__))
    assert sites.show(here()) == f"{name}:{line}"


# mistakes ---------------------------------------------------------------------------------------------------------
MISTAKES = [
    ("", "line 1: expected `return ...` and `}`, got the end of the text"),
    ("graph {", "line 1: expected `graph (name: type, ...) {`; got `graph {`"),
    ("graph (x f32[3]) {", "expected `name: type` or `name: input[k] type` instead of `x f32[3]`"),
    ("graph (x: f32[3], x: f32[3]) {", "expected a free name instead of `x`"),
    ("graph () {\n", "line 1: expected `return ...` and `}`"),
    ("graph () {\n  return 1.0:f32[]\n", "line 2: expected `return ...` and `}`"),
    ("graph () {\n  return\n}\n}", "line 3: expected `}` and the end"),
    ("graph () {\n  return 1.0\n}", "line 2: expected a type after the constant `1.0`"),
    ("graph () {\n  return x\n}", "line 2: expected a name defined above instead of `x`"),
    ("graph () {\n  return ?\n}", "line 2: expected a name or a constant instead of `?`"),
    ("graph () {\n  hello\n}", "line 2: expected `name: type = op[argument] sources`; got `hello`"),
    ("graph (x: f32[3]) {\n\n  %0: f32[3] = foo x ; why\n}", "line 3: expected an operation instead of `foo`; got"),
    ("graph (x: f32[3]) {\n  %0: f32[4] = neg x\n}", "line 2: neg: its type should be f32[3]"),
    ("graph (x: f32[3]) {\n  %0: f32[3] = neg[1] x\n}", "line 2: expected no argument"),
    ("graph (x: f32[3]) {\n  %0: f32[1] = sum[a] x\n}", "line 2: expected an integer instead of `a`"),
    ("graph (x: f32[3]) {\n  %0: f32[1] = sum x\n}", "line 2: sum: axes are ()"),
    ("graph () {\n  %0: i8[] = neg 300\n}", "line 2: expected a constant in the range of i8 instead of `300`"),
    ("graph () {\n  %0: i8[] = neg 1.5\n}", "line 2: expected an integer instead of `1.5`"),
    ("graph () {\n  %0: f32[] = neg true\n}", "line 2: expected a constant of dtype f32 instead of `true`"),
    ("graph () {\n  %0: f32[] = const\n}", "line 2: expected constants where they are used"),
]


@pytest.mark.parametrize("text, message", MISTAKES)
def test_a_mistake_is_named_with_its_line(text: str, message: str) -> None:
    with pytest.raises(ValueError) as e:
        parse(text)
    assert message in str(e.value)


def test_the_text_of_a_long_chain() -> None:
    n = ir.input((2,), FLOAT32)
    for _ in range(20_000):
        n = ir.neg(n)
    text = round_trip(n)
    assert text.count("\n") == 20_003


def test_excerpt_marks_leaves_where_they_are_used() -> None:
    c = ir.const(2.0, FLOAT32)
    n = ir.neg(ir.mul(c, ir.input((), FLOAT32)))
    assert excerpt([n], c, 1).splitlines()[1] == ">   %0: f32[] = mul 2.0, x0"
