"""Reverse mode: the gradient of a graph is a graph.

The sum over all paths of the products of their weights, gathered once per node in reverse topological order.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ..collection import uncollected
from ..errors import GradError
from ..ir import Node, Op
from .edges import apply, check_like, linear, no_rule, sign, walk, weigh, weights
from .partials import cat_part
from .support import Flow, accumulate, moved


@uncollected
def gradient(outputs: Sequence[Node], inputs: Sequence[Node], cotangents: Sequence[Node | None]) -> list[Node | None]:
    """For each input, Σ over outputs of cotangentᵀ · ∂output/∂input; None where that is zero by structure.

    An input may be any node. A derivative towards it means that node, not equal expressions, and does not stop what
    flows through it to other inputs.

    Raises:
        GradError: the derivative needs a host function's, or a history that was dropped.
    """
    order, active, known = walk(outputs, inputs)
    flows: dict[Node, list[Flow]] = {}
    for y, g in zip(outputs, cotangents, strict=True):
        if g is not None and y in active:
            check_like("gradient", y, g)
            known |= {g, *g.src}
            flows.setdefault(y, []).append((g, None))
    wanted = set(inputs)
    found: dict[Node, Node] = {}
    for n in reversed(order):
        parts = flows.pop(n, None)
        if parts is None:
            continue
        flow = accumulate(parts)
        if n in wanted:
            found[n] = flow[0]
        made = [flow[0]]
        for s, contribution in _pull(n, flow, active):
            made.append(contribution[0])
            if s in flows:
                flows[s].append(contribution)
            else:
                flows[s] = [contribution]
        sign(made, n, known)
    return [found.get(x) for x in inputs]


def _pull(n: Node, flow: Flow, active: set[Node]) -> list[tuple[Node, Flow]]:
    """What the cotangent of `n` contributes to each source that matters."""
    src = n.src
    if n.op is Op.CUSTOM and src:
        return _pull_custom(n, flow[0], active)
    if active.isdisjoint(src):
        return []
    if n.op is Op.CAT:
        return _pull_cat(n, flow, active)
    if n.op is Op.CALL:
        raise no_rule(n)
    row = linear(n)
    if row is not None:
        flow = apply(row.reverse, "r", row, n, n.shape, flow)
    pulled = []
    for s, p in zip(src, weights(n), strict=False):
        if s in active:
            contribution = weigh(p, flow, n)
            if contribution is not None:
                pulled.append((s, contribution))
    return pulled


def _pull_cat(n: Node, flow: Flow, active: set[Node]) -> list[tuple[Node, Flow]]:
    """To each source its part of the cotangent."""
    g, support = flow
    pulled: list[tuple[Node, Flow]] = []
    start = 0
    for s in n.src:
        stop = start + s.shape[n.arg]
        if s in active:
            part = partial(cat_part, y=n, start=start, stop=stop)
            pulled.append((s, (part(g), None if support is None else moved(part, support))))
        start = stop
    return pulled


def _pull_custom(n: Node, g: Node, active: set[Node]) -> list[tuple[Node, Flow]]:
    """The user's rule, applied to the residuals and the cotangent."""
    rule, count = n.arg
    args, residuals = n.src[1 : 1 + count], n.src[1 + count :]
    if active.isdisjoint(args):
        return []
    made = rule(residuals, g)
    if len(made) != count:
        raise GradError(f"custom rule: expected {count} cotangents, one for each argument, got {len(made)}")
    pulled: list[tuple[Node, Flow]] = []
    for a, c in zip(args, made, strict=True):
        if c is not None and a in active:
            check_like("custom rule", a, c)
            pulled.append((a, (c, None)))
    return pulled
