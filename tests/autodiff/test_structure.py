"""What the gradient of a graph is as a graph: identity, cost, what is not built, what is refused."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Callable

import numpy as np
import pytest

from tinyad import ir
from tinyad.autodiff import gradient, tangent
from tinyad.errors import GradError
from tinyad.interpret import interpret
from tinyad.ir import BOOL, FLOAT64, INT64, Node, Op
from tinyad.sites import Derived

from .cases import like


def scalar() -> Node:
    return ir.input((), FLOAT64)


def vector(*shape: int) -> Node:
    return ir.input(shape, FLOAT64)


def grad(y: Node, *x: Node) -> list[Node | None]:
    return gradient([y], x, [like(y, 1.0)])


def ops(*roots: Node | None) -> list[Op]:
    return [n.op for n in ir.toposort([r for r in roots if r is not None])]


def repeat(f: Callable[[Node], Node], v: Node, times: int) -> Node:
    for _ in range(times):
        v = f(v)
    return v


# identity -----------------------------------------------------------------------------------------------------------
def test_equal_expressions_are_two_variables() -> None:
    x = scalar()
    a, b = ir.add(x, like(x, 1.0)), ir.add(x, like(x, 1.0))
    assert grad(ir.mul(a, b), a, b) == [b, a]


def test_an_input_does_not_hide_what_is_behind_it() -> None:
    x = scalar()
    a = ir.mul(x, x)
    g_a, g_x = grad(ir.sin(a), a, x)
    assert g_a is not None and g_x is not None
    got = interpret([g_a, g_x], {x: np.asarray(2.0)})
    np.testing.assert_allclose(got, [np.cos(4.0), 4 * np.cos(4.0)])


def test_an_output_may_be_an_input() -> None:
    x = scalar()
    one = like(x, 1.0)
    assert gradient([x], [x], [one]) == [one]
    assert tangent([x], [x], [one]) == [one]


def test_what_is_not_reached_is_none() -> None:
    x, z = scalar(), scalar()
    i = ir.input((), INT64)
    assert grad(ir.sin(x), z, i) == [None, None]
    assert tangent([ir.sin(x)], [z], [like(z, 1.0)]) == [None]
    assert gradient([ir.sin(x)], [x], [None]) == [None]


def test_the_same_input_asked_for_twice() -> None:
    x = scalar()
    first, second = grad(ir.sin(x), x, x)
    assert first is second is not None


def test_outputs_add_up() -> None:
    x = scalar()
    (g,) = gradient([ir.sin(x), ir.mul(x, x), x], [x], [like(x, 1.0)] * 3)
    assert g is not None
    np.testing.assert_allclose(interpret([g], {x: np.asarray(0.5)})[0], np.cos(0.5) + 1.0 + 1.0)


@pytest.mark.parametrize("stop", [ir.detach, ir.floor, lambda a: ir.cast(ir.cast(a, INT64), a.dtype),
                                  lambda a: ir.bitcast(ir.bitcast(a, INT64), a.dtype)])  # fmt: skip
def test_nothing_passes(stop: Callable[[Node], Node]) -> None:
    x = scalar()
    assert grad(stop(ir.sin(x)), x) == [None]
    assert tangent([stop(ir.sin(x))], [x], [like(x, 1.0)]) == [None]


# cost ---------------------------------------------------------------------------------------------------------------
CHAINS: dict[str, Callable[[Node], Node]] = {
    "mul": lambda v: ir.mul(v, v),
    "where": lambda v: ir.where(ir.lt(v, like(v, 0.5)), v, ir.exp(v)),
    "unused support": lambda v: ir.where(ir.lt(v, like(v, 0.5)), v, like(v, 1.0)),
    "support": lambda v: ir.log(ir.where(ir.lt(v, like(v, 0.5)), v, like(v, 1.0))),
}


@pytest.mark.parametrize("name", CHAINS)
def test_long_chains_are_linear_and_cheap(name: str) -> None:
    def cost(n: int) -> tuple[float, int]:
        x = scalar()
        y = repeat(CHAINS[name], x, n)
        size = len(ir.toposort([y]))
        start = time.perf_counter()
        (g,) = grad(y, x)
        spent = time.perf_counter() - start
        assert g is not None
        return spent / size, len(ir.toposort([g])) // n

    gc.disable()
    try:
        cost(100)
        small, large = min(cost(2_000) for _ in range(3)), cost(100_000 if name == "mul" else 20_000)
    finally:
        gc.enable()
    assert large[1] <= small[1] + 1
    assert large[0] < 40e-6  # the budget is 10 µs; four times that on a busy machine
    assert large[0] < 6 * small[0]


def test_diamonds_are_linear() -> None:
    x = scalar()
    y = repeat(lambda v: ir.add(ir.mul(v, v), v), x, 60)
    (g,) = grad(y, x)
    assert len(ops(g)) < 60 * 8
    (t,) = tangent([y], [x], [like(x, 1.0)])
    assert len(ops(t)) < 60 * 8
    assert g is not None
    (h,) = grad(g, x)
    assert len(ops(h)) < 60 * 40


def test_wide_fan_in_is_a_shallow_sum() -> None:
    x = scalar()
    y = ir.cat([ir.reshape(ir.sin(x), (1,)) for _ in range(10_000)], 0)
    (g,) = grad(ir.sum_(y, (0,)), x)
    assert g is not None
    depth: dict[Node, int] = {}
    for n in ir.toposort([g]):
        depth[n] = 1 + max((depth[s] for s in n.src), default=0)
    assert depth[g] < 30


# what is not built ----------------------------------------------------------------------------------------------------
def test_units_cost_nothing() -> None:
    x = vector(3)
    y = ir.sub(ir.add(x, x), ir.neg(ir.reshape(ir.reshape(x, (3, 1)), (3,))))
    (g,) = grad(y, x)
    assert Op.MUL not in ops(g) and Op.NEG not in ops(g)


def test_no_mask_without_a_selection() -> None:
    x = vector(3)
    assert Op.WHERE not in ops(*grad(ir.exp(ir.mul(x, ir.log(x))), x))


def test_a_mask_is_built_only_for_a_derivative_that_can_be_infinite() -> None:
    x = vector(3)
    scaled = ir.mul(x, like(x, 3.0))
    y = ir.where(ir.lt(scaled, like(x, 0.0)), like(x, 0.0), scaled)
    assert ops(*grad(y, x)).count(Op.WHERE) == 1


def test_a_mask_moves_outwards() -> None:
    """where(c, where(c, g, 0)·d, 0) is where(c, g·d, 0)."""
    x = vector(3)
    y = ir.where(ir.lt(like(x, 0.0), x), repeat(ir.exp, ir.log(x), 20), like(x, 0.0))
    assert ops(*grad(y, x)).count(Op.WHERE) == 1


def matmul(a: Node, b: Node) -> Node:
    (m, k), n = a.shape, b.shape[1]
    x = ir.expand(ir.reshape(a, (m, k, 1)), (m, k, n))
    y = ir.expand(ir.reshape(b, (1, k, n)), (m, k, n))
    return ir.reshape(ir.sum_(ir.mul(x, y), (1,)), (m, n))


def relu(a: Node) -> Node:
    return ir.where(ir.lt(like(a, 0.0), a), a, like(a, 0.0))


def test_gradients_of_contractions_are_contractions() -> None:
    x, w, v = vector(4, 3), vector(3, 5), vector(5, 2)
    y = relu(matmul(relu(matmul(x, w)), v))
    found = grad(y, x, w, v)
    selections = [n for n in ir.toposort([g for g in found if g is not None]) if n.op is Op.WHERE]
    assert len(selections) == 3  # both relus on the way back, the first one's value
    for n in ir.toposort([g for g in found if g is not None]):
        if n.op is Op.SUM:
            assert n.src[0].op is Op.MUL


def convolution(x: Node, w: Node) -> Node:
    """x[batch, channel, width], w[out, channel, kernel]."""
    (b, c, n), (o, _, k) = x.shape, w.shape
    wide = ir.expand(ir.reshape(x, (b, 1, c, n, 1)), (b, o, c, n, k))
    windows = ir.skew(wide, 3, 4, 1, 0, n - k + 1)
    weights = ir.expand(ir.reshape(w, (1, o, c, 1, k)), windows.shape)
    return ir.reshape(ir.sum_(ir.mul(windows, weights), (2, 4)), (b, o, n - k + 1))


def test_a_convolution_needs_no_mask() -> None:
    x, w = vector(2, 3, 8), vector(4, 3, 3)
    found = grad(relu(convolution(x, w)), x, w)
    assert ops(*found).count(Op.WHERE) == 1


def test_the_support_of_an_operand_of_a_convolution_is_small() -> None:
    """The mask at log(x), behind the convolution, never has all of its axes at once."""
    x, w = vector(2, 3, 8), vector(4, 3, 3)
    (g,) = grad(relu(convolution(ir.log(x), w)), x)
    assert g is not None
    masks = [n for n in ir.toposort([g]) if n.dtype is BOOL and n.op is Op.REDUCE_MAX]
    assert masks
    assert all(n.src[0].size <= 2 * 4 * 6 * 3 for n in masks)  # the product of all axes is 2·4·3·8·3


def test_a_row_without_support_is_safe_behind_a_matmul() -> None:
    x, w = vector(2, 2), vector(2, 2)
    y = matmul(ir.log(x), w)
    first = ir.expand(ir.eq(ir.reshape(ir.iota(2), (2, 1)), ir.const(0, INT64, (2, 1))), (2, 2))
    (g,) = grad(ir.where(first, y, like(y, 0.0)), x)
    assert g is not None
    with np.errstate(all="ignore"):
        got = interpret([g], {x: np.array([[1.0, 2.0], [0.0, 3.0]]), w: np.ones((2, 2))})[0]
    assert got.tolist() == [[2.0, 1.0], [0.0, 0.0]]


# sites, custom rules, host functions, lost history --------------------------------------------------------------------
def test_new_nodes_know_the_node_they_are_derivatives_of() -> None:
    x = vector(3)
    y = ir.log(ir.sin(x))
    before = set(ir.toposort([y]))
    (g,) = grad(y, x)
    assert g is not None
    made = [n for n in ir.toposort([g]) if n not in before and n.op is not Op.CONST]
    assert made
    assert all(isinstance(n.site, Derived) and n.site.of() in before for n in made)
    assert g.site.of() is y.src[0]
    assert all(n.site is None for n in before)


def cube(x: Node) -> Node:
    """x³ by a rule that says 5x² on purpose."""
    y = ir.mul(x, ir.mul(x, x))
    return ir.custom(y, [x], [x], lambda res, g: [ir.mul(g, ir.mul(like(g, 5.0), ir.mul(res[0], res[0])))])


def test_a_custom_rule_is_used_in_both_modes_and_all_orders() -> None:
    x = scalar()
    y = cube(x)
    (g,) = grad(y, x)
    assert g is not None
    (h,) = grad(g, x)
    (t,) = tangent([y], [x], [like(x, 2.0)])
    assert h is not None and t is not None
    got = interpret([y, g, h, t], {x: np.asarray(3.0)})
    assert [float(v) for v in got] == [27.0, 45.0, 30.0, 90.0]


def test_nothing_flows_to_residuals_or_the_body() -> None:
    x, r = scalar(), scalar()
    y = ir.custom(ir.mul(x, r), [x], [r], lambda res, g: [g])
    assert grad(y, r) == [None]
    assert tangent([y], [r], [like(r, 1.0)]) == [None]


def test_a_custom_rule_may_give_none() -> None:
    x = scalar()
    y = ir.custom(ir.sin(x), [x], [], lambda res, g: [None])
    assert grad(y, x) == [None]
    assert tangent([y], [x], [like(x, 1.0)]) == [None]


def test_a_custom_rule_that_is_not_linear_has_no_tangent() -> None:
    x = scalar()
    y = ir.custom(ir.sin(x), [x], [], lambda res, g: [ir.mul(g, g)])
    assert grad(y, x) != [None]
    with pytest.raises(GradError, match="not linear in the cotangent"):
        tangent([y], [x], [like(x, 1.0)])


def test_a_custom_rule_must_answer_for_every_argument() -> None:
    x = scalar()
    y = ir.custom(ir.sin(x), [x], [], lambda res, g: [g, g])
    with pytest.raises(GradError, match="expected 1 cotangents, one for each argument, got 2"):
        grad(y, x)


def host(dtype: ir.DType = FLOAT64) -> ir.HostFunction:
    return ir.HostFunction("sort", np.sort, lambda s: s, dtype)


def test_a_host_function_has_no_derivative() -> None:
    x = vector(3)
    y = ir.call(host(), x)
    y.site = (compile("", "train.py", "exec"), 0)
    with pytest.raises(GradError, match=r"^sort: not differentiable.*\(called at train.py:0\)"):
        grad(ir.sin(y), x)
    with pytest.raises(GradError, match="sort"):
        tangent([y], [x], [like(x, 1.0)])


def test_a_host_function_that_does_not_matter_is_no_obstacle() -> None:
    x, z = vector(3), vector(3)
    assert grad(ir.mul(x, ir.call(host(), z)), x) != [None]
    assert grad(ir.call(host(), ir.detach(x)), x) == [None]
    index = ir.call(host(INT64), x)
    assert grad(ir.gather(x, index, 0), x) != [None]


def test_a_derivative_towards_a_dropped_history_is_refused() -> None:
    x, z = scalar(), scalar()
    y = ir.sin(x)
    y.src = ()
    y.cut = [weakref.ref(x)]
    y.site = compile("1", "train.py", "exec"), 0
    with pytest.raises(GradError, match=r"train\.py:\d is gone; make the input with requires_grad=True"):
        grad(ir.mul(y, z), x, z)
    with pytest.raises(GradError, match=r"train\.py:\d"):
        tangent([ir.mul(y, z)], [x], [like(x, 1.0)])
    assert grad(ir.mul(y, z), z) == [y]
    assert grad(ir.mul(y, z), y) == [z]
    assert grad(ir.mul(ir.detach(y), z), x) == [None]


def test_a_cotangent_must_fit() -> None:
    x = vector(3)
    with pytest.raises(ir.IRError, match="gradient: expected the shape and dtype"):
        gradient([ir.sin(x)], [x], [ir.const(1.0, FLOAT64, (2,))])
