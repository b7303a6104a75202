"""Reverse mode = forward mode = finite differences, to second order, for every row of the table."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

from tinyad import ir
from tinyad.autodiff import gradient, partials
from tinyad.autodiff.check import check_derivatives, check_linear
from tinyad.autodiff.partials import ADJOINT, BLOCKED, PARTIALS, SPECIAL, VARIABLE, WEIGHTS
from tinyad.autodiff.special import digamma
from tinyad.interpret import interpret
from tinyad.ir import FLOAT64, Node, Op

from .cases import ALL, LINEAR, Case, array, integers


def test_tables_are_total() -> None:
    rows = [set(PARTIALS), set(ADJOINT), SPECIAL, VARIABLE]
    assert set().union(*rows) == set(Op)
    assert sum(map(len, rows)) == len(Op)
    assert set(WEIGHTS) <= set(ADJOINT)
    assert set(partials.SCANNED) == set(ir.SCANS)


def test_every_differentiable_operation_has_a_case() -> None:
    covered = frozenset().union(*(c.ops for c in ALL))
    assert (set(PARTIALS) - BLOCKED) | set(ADJOINT) | (SPECIAL - {Op.CALL}) <= covered


SMOOTH = [c for c in ALL if c.name != "cast"]  # a cast rounds, so it has no difference quotient: its adjoint is exact


@pytest.mark.parametrize("case", SMOOTH, ids=repr)
def test_both_modes_agree_with_differences(case: Case) -> None:
    with np.errstate(all="ignore"):
        check_derivatives(case.f, case.points)


@pytest.mark.parametrize("case", SMOOTH, ids=repr)
def test_after_and_before_other_operations(case: Case) -> None:
    """Squares around the row: cotangents that vary, and second derivatives that do not vanish."""

    def f(*x: Node) -> Node:
        y = case.f(*(ir.add(a, ir.mul(ir.const(0.01, FLOAT64, a.shape), ir.mul(a, a))) for a in x))
        return ir.sin(y)

    with np.errstate(all="ignore"):
        check_derivatives(f, [p * 0.9 if case.linear else p for p in case.points])


@pytest.mark.parametrize("case", LINEAR, ids=repr)
def test_adjoint_is_exact(case: Case) -> None:
    for seed in range(3):
        check_linear(case.f, [integers(*p.shape, seed=seed + 10 * i) for i, p in enumerate(case.points)], seed)


def test_a_wrong_row_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {Op.SIN: lambda _, a: (ir.mul(ir.const(1.0005, a.dtype, a.shape), ir.cos(a)),)}
    monkeypatch.setitem(PARTIALS, Op.SIN, wrong[Op.SIN])
    with pytest.raises(AssertionError, match="reverse: expected"):
        check_derivatives(ir.sin, [array(3)], order=1)


def test_a_wrong_second_derivative_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PARTIALS, Op.COS, lambda _, a: (ir.mul(ir.const(-1.0005, a.dtype, a.shape), ir.sin(a)),))
    check_derivatives(ir.sin, [array(3)], order=1)
    with pytest.raises(AssertionError, match="reverse of"):
        check_derivatives(ir.sin, [array(3)])


def test_a_wrong_adjoint_is_caught() -> None:
    def off_by_one(a: Node) -> Node:
        y = ir.shrink(a, [(1, 3, 1)])
        return ir.custom(y, [a], [], lambda _, g: (ir.pad(g, [(0, 2, 0)]),))

    with pytest.raises(AssertionError, match="<A x, u>"):
        check_linear(off_by_one, [np.array([1.0, 2.0, 3.0, 5.0])])


@pytest.mark.parametrize("zeros", [0, 1, 2, 3])
@pytest.mark.parametrize("what", ["prod", "cumprod"])
def test_products_with_zeros_to_third_order(what: str, zeros: int) -> None:
    x = array(4, low=0.5, high=2.0)
    x[[1, 3, 0][:zeros]] = 0.0
    f = (lambda a: ir.reduce(Op.PROD, a, (0,))) if what == "prod" else (lambda a: ir.scan("prod", 0, a))
    check_derivatives(f, [x], order=3)


def test_linrec_with_zero_coefficients() -> None:
    check_derivatives(lambda a, b: ir.scan("linrec", 0, a, b), [np.array([0.0, 1.5, 0.0, -0.5]), array(4)], order=3)


def test_a_network_of_mixed_rows() -> None:
    def f(x: Node, w: Node) -> Node:
        a = ir.expand(ir.reshape(x, (3, 4, 1)), (3, 4, 2))
        b = ir.expand(ir.reshape(w, (1, 4, 2)), (3, 4, 2))
        h = ir.tanh(ir.reshape(ir.sum_(ir.mul(a, b), (1,)), (3, 2)))
        m = ir.expand(ir.reduce(Op.REDUCE_MAX, h, (1,)), h.shape)
        e = ir.exp(ir.sub(h, m))
        return ir.div(e, ir.expand(ir.sum_(e, (1,)), e.shape))

    check_derivatives(f, [array(3, 4), array(4, 2, seed=1)])


def test_float32_and_float16_cotangents_keep_their_dtype() -> None:
    for dtype in (ir.FLOAT32, ir.FLOAT16):
        x = ir.input((3,), dtype)
        y = ir.cast(ir.reduce(Op.REDUCE_MAX, ir.sqrt(ir.mul(x, x)), (0,)), FLOAT64)
        (g,) = gradient([y], [x], [ir.const(1.0, FLOAT64, y.shape)])
        assert g is not None and g.dtype is dtype
        assert interpret([g], {x: np.array([1, 3, 2], dtype)})[0].tolist() == [0, 1, 0]


def test_digamma_to_third_order_at_half_integers() -> None:
    """Reflected by the tangent, all but infinite there, it would lose the third derivative."""
    x = np.array([-0.5, -7.5, -0.3, 0.5, 2.5])
    leaf = ir.input(x.shape, FLOAT64)
    y = digamma(leaf)
    for n in range(1, 4):
        (g,) = gradient([y], [leaf], [ir.const(1.0, FLOAT64, x.shape)])
        assert g is not None
        y = g
        want = [float(mpmath.psi(n, v)) for v in x]
        np.testing.assert_allclose(interpret([y], {leaf: x})[0], want, rtol=1e-12)
