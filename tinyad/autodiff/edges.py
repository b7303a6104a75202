"""What reverse and forward mode share: the walk over what matters, and one edge: a (co)tangent times a weight.

Imports `ir`, `errors`, `sites` and the table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from .. import ir
from ..errors import GradError, IRError
from ..ir import Node, Op, Shape
from ..sites import Derived, line_of
from .partials import (
    ADJOINT,
    BLOCKED,
    MINUS_ONE,
    ONE,
    PARTIALS,
    WEIGHTS,
    ZERO,
    Finite,
    Linear,
    Over,
    Partial,
    Unit,
    When,
)
from .support import Flow, Support, begin, contraction, finite, moved, narrow


# the walk ---------------------------------------------------------------------------------------------------------
def differentiated(n: Node) -> tuple[Node, ...]:
    """The sources a derivative may pass to; of CUSTOM the arguments, of a blocked or integer operation none."""
    if n.op in BLOCKED or n.dtype.kind != "f":
        return ()
    if n.op is Op.CUSTOM and n.src:
        return n.src[1 : 1 + n.arg[1]]
    return n.src


def walk(outputs: Sequence[Node], inputs: Iterable[Node]) -> tuple[list[Node], set[Node], set[Node]]:
    """(nodes in topological order, those of them that depend on an input, all that must not be given a new site).

    Raises:
        GradError: an input stands behind a node whose history was dropped when it was computed.
    """
    wanted = set(inputs)
    order: list[Node] = []
    known = set(outputs)
    known.update(wanted)
    done: set[Node] = set()
    stack: list[Node | None] = [*reversed(outputs)]
    while stack:
        n = stack.pop()
        if n is None:
            last = stack.pop()
            assert last is not None
            order.append(last)
            continue
        if n in done:
            continue
        done.add(n)
        stack += (n, None)
        if n.cut is not None:
            _refuse_cut(n, wanted)
        known.update(n.src)
        for s in differentiated(n):
            if s.dtype.kind == "f" and s not in done:
                stack.append(s)
    active = {n for n in wanted if n.dtype.kind == "f"}
    for n in order:
        if not active.isdisjoint(differentiated(n)):
            active.add(n)
    return order, active, known


def _refuse_cut(n: Node, wanted: set[Node]) -> None:
    """Raises if one of `wanted` is behind `n`, whose history is gone."""
    for ref in n.cut:
        if ref() in wanted:
            line = line_of(n)
            where = f" at {line}" if line else ""
            raise GradError(
                f"gradient: the history between the input and a value computed{where} is gone; make the input with "
                "requires_grad=True, or ask for the gradient before the value is computed, or use ad.grad"
            )


def sign(roots: Iterable[Node], of: Node, known: set[Node]) -> None:
    """Gives the nodes newly made for `of` the site that says so. `known` bounds the walk; sited nodes end it too."""
    site = None
    stack = [*roots]
    while stack:
        n = stack.pop()
        if n.site is None and n not in known:
            if site is None:
                site = Derived(of)
            n.site = site
            stack += n.src


def check_like(kind: str, n: Node, g: Node) -> None:
    """Raises IRError unless `g` can be a (co)tangent of `n`."""
    if g.shape != n.shape or g.dtype is not n.dtype:
        raise IRError(f"{kind}: expected the shape and dtype of {n!r}, got {g!r}")


def no_rule(n: Node) -> GradError:
    """The error for a derivative through a host function."""
    line = line_of(n)
    return GradError(
        f"{n.arg.name}: not differentiable: it is a NumPy function without a derivative rule"
        + (f" (called at {line})" if line else "")
        + "; wrap it in ad.custom_vjp, or use ad.stop_gradient on its arguments"
    )


# rows of the table ------------------------------------------------------------------------------------------------
def weights(n: Node) -> Sequence[Partial]:
    """The weight of each source of `n`; of a linear operation, one for the first source."""
    row = PARTIALS.get(n.op) or WEIGHTS.get(n.op)
    return _UNWEIGHTED if row is None else row(n, *n.src)


def linear(n: Node) -> Linear | None:
    """The linear map of `n`; None if it acts on each element alone."""
    row = ADJOINT.get(n.op)
    return row if row is None or isinstance(row, Linear) else row(n)


_UNWEIGHTED = (ONE,)


def apply(move: Callable[..., Node], way: str, row: Linear, n: Node, shape: Shape, flow: Flow) -> Flow:
    """The linear map `move` of node `n`, one of the two of `row`, on a (co)tangent of `shape` and on its support."""
    g, s = flow
    if way in row.fills:
        s = begin(shape, lambda a: move(a, n), s)
    elif s is not None:
        s = moved(lambda a: move(a, n), s)
    if row.weighted and s is not None:
        return move(g, n, s.build()), s
    return move(g, n), s


# one edge ---------------------------------------------------------------------------------------------------------
def weigh(p: Partial, flow: Flow, n: Node) -> Flow | None:
    """The (co)tangent times weight `p` of node `n`, zero outside the support by selection; None if it is zero."""
    g, s = flow
    if p is ONE:
        return flow
    if p is ZERO:
        return None
    if isinstance(p, When):
        inner = narrow(s, p.cond, p.negate)
        if s is not None and _risky(p.d):
            return _guarded(p.d, g, inner), inner
        value = _times(p.d, g)
        zero = _zero(value)
        return (ir.where(p.cond, zero, value) if p.negate else ir.where(p.cond, value, zero)), inner
    if s is not None and _risky(p) and not (n.op is Op.MUL and contraction(n)):
        return _guarded(p, g, s), s
    return _times(p, g), s


def _guarded(p: Unit | Node | Finite | Over, g: Node, s: Support) -> Node:
    """``where(s, g·p, 0)``; of a g that is itself masked by s, the unmasked g will do."""
    mask = s.build()
    if g.op is Op.WHERE and g.src and g.src[0] is mask and g.src[2].op is Op.CONST and g.src[2].arg == 0.0:
        g = g.src[1]
    value = _times(p, g)
    return ir.where(mask, value, _zero(value))


def _zero(a: Node) -> Node:
    return Node(Op.CONST, (), 0.0, a.shape, a.dtype)


def _times(p: Unit | Node | Finite | Over, g: Node) -> Node:
    """The product; never a multiplication by ±1."""
    if p is ONE:
        return g
    if p is MINUS_ONE:
        return negate(g)
    if isinstance(p, Over):
        return ir.div(g, p.d)
    d = p.d if isinstance(p, Finite) else p
    assert isinstance(d, Node)
    if g.op is Op.CONST:
        g, d = d, g
    if d.op is Op.CONST:
        if d.arg == 1.0:
            return g
        if d.arg == -1.0:
            return negate(g)
    return ir.mul(g, d)


def _risky(p: Unit | Node | Finite | Over) -> bool:
    """True if the weight may be infinite or NaN somewhere."""
    if isinstance(p, Over):
        return not (p.d.op is Op.CONST and p.d.arg != 0.0 and math.isfinite(p.d.arg))
    return isinstance(p, Node) and not finite(p)


def negate(a: Node) -> Node:
    """-a; exact for constants and double negations."""
    if a.op is Op.CONST:
        return Node(Op.CONST, (), -a.arg, a.shape, a.dtype)
    return a.src[0] if a.op is Op.NEG and a.src else ir.neg(a)
