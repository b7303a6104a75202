"""Forward mode: the tangent of a graph is a graph, from the same table as reverse mode.

``dy = L(Σ_i w_i · dx_i)``, with supports as in reverse mode: a tangent that is zero because of a selection or a zero
fill stays exactly zero where the next derivative is infinite.
"""

from __future__ import annotations

from collections.abc import Sequence

from .. import ir
from ..errors import GradError
from ..ir import Node, Op
from .edges import apply, check_like, linear, no_rule, sign, walk, weigh, weights
from .reverse import gradient
from .support import Flow, Support, accumulate, true


def tangent(outputs: Sequence[Node], inputs: Sequence[Node], tangents: Sequence[Node | None]) -> list[Node | None]:
    """For each output, Σ over inputs of ∂output/∂input · tangent; None where that is zero by structure.

    The tangent of an input that depends on other inputs adds to what they contribute, so that this is the transpose of
    `gradient`.

    Raises:
        GradError: the derivative needs a host function's, or a history that was dropped.
    """
    order, active, known = walk(outputs, inputs)
    given: dict[Node, list[Flow]] = {}
    for x, t in zip(inputs, tangents, strict=True):
        if t is not None and x in active:
            check_like("tangent", x, t)
            known |= {t, *t.src}
            given.setdefault(x, []).append((t, None))
    flows: dict[Node, Flow] = {}
    for n in order:
        if n not in active:
            continue
        parts = given.get(n, [])
        pushed = _push(n, flows)
        if pushed is not None:
            parts = [*parts, pushed]
        if parts:
            flows[n] = flow = accumulate(parts)
            sign([flow[0]], n, known)
    return [flows[y][0] if y in flows else None for y in outputs]


def _push(n: Node, flows: dict[Node, Flow]) -> Flow | None:
    """The tangent of `n` from those of its sources."""
    src = n.src
    if n.op is Op.CUSTOM and src:
        return _push_custom(n, flows)
    if flows.keys().isdisjoint(src):
        return None
    if n.op is Op.CALL:
        raise no_rule(n)
    if n.op is Op.CAT:
        return _push_cat(n, flows)
    parts = []
    for s, p in zip(src, weights(n), strict=False):
        if s in flows:
            part = weigh(p, flows[s], n)
            if part is not None:
                parts.append(part)
    if not parts:
        return None
    flow = accumulate(parts)
    row = linear(n)
    return flow if row is None else apply(row.forward, "f", row, n, src[0].shape, flow)


def _push_cat(n: Node, flows: dict[Node, Flow]) -> Flow:
    """The tangents side by side; a source without one contributes zeros, which begin a support."""
    found = [flows.get(s) for s in n.src]
    parts = [
        Node(Op.CONST, (), 0.0, s.shape, s.dtype) if f is None else f[0] for s, f in zip(n.src, found, strict=True)
    ]
    if all(f is not None and f[1] is None for f in found):
        return ir.cat(parts, n.arg), None
    parents = [f[1] for f in found if f is not None and f[1] is not None]

    def join(*built: Node) -> Node:
        rest = iter(built)
        pieces = []
        for s, f in zip(n.src, found, strict=True):
            if f is None:
                pieces.append(Node(Op.CONST, (), False, s.shape, ir.BOOL))
            else:
                pieces.append(true(s.shape) if f[1] is None else next(rest))
        return ir.cat(pieces, n.arg)

    return ir.cat(parts, n.arg), Support(join, *parents)


def _push_custom(n: Node, flows: dict[Node, Flow]) -> Flow | None:
    """J·t for a function known by its rule ĝ ↦ Jᵀ·ĝ: the gradient of <rule(ĝ), t> towards ĝ, as the rule is linear."""
    rule, count = n.arg
    args, residuals = n.src[1 : 1 + count], n.src[1 + count :]
    if flows.keys().isdisjoint(args):
        return None
    probe = ir.input(n.shape, n.dtype)
    made = rule(residuals, probe)
    if len(made) != count:
        raise GradError(f"custom rule: expected {count} cotangents, one for each argument, got {len(made)}")
    paired = [(c, flows[a][0]) for a, c in zip(args, made, strict=True) if c is not None and a in flows]
    t = gradient([c for c, _ in paired], [probe], [t for _, t in paired])[0]
    if t is None:
        return None
    stop = {*residuals, *(t for _, t in paired)}
    if probe in ir.toposort([t], lambda m: () if m in stop else m.src):
        raise GradError("custom rule: its backward is not linear in the cotangent, so it has no forward derivative")
    return t, None
