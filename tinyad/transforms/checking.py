"""`check_grads`: derivatives of a user's function held against difference quotients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from .. import pytree
from ..errors import GradError
from ..ir import FLOAT16, FLOAT32, FLOAT64, DType
from ..tensor import Tensor
from .reverse import vjp
from .tangents import jvp
from .tracing import differentiable

_STEP: Final[dict[DType, float]] = {FLOAT64: 6e-6, FLOAT32: 5e-3, FLOAT16: 0.1}
"""The cube root of the unit roundoff: where both errors of a central difference balance."""
_TOLERANCE: Final[dict[DType, float]] = {FLOAT64: 1e-6, FLOAT32: 2e-2, FLOAT16: 0.3}

Array = np.ndarray[Any, np.dtype[Any]]


def check_grads(
    f: Callable[..., Any],
    args: Sequence[Any],
    order: int = 2,
    modes: Sequence[str] = ("fwd", "rev"),
    atol: float | None = None,
    rtol: float | None = None,
    eps: float | None = None,
) -> None:
    """Compares the derivatives of ``f(*args)`` up to `order` with central differences, element by element.

    `args` and results are pytrees of real-valued arrays; float64 ones are checked to six digits, float32 ones, whose
    difference quotients are poor, to two. A result is first multiplied with fixed random numbers and summed. Beyond
    order 1 the check is repeated on the function that computes the first derivative.

    Raises:
        GradError: names the mode, order, argument and element with the greatest difference.
    """
    rng = np.random.default_rng(0)
    leaves, structure = pytree.flatten(tuple(args))
    nodes = differentiable(leaves, "check_grads")
    points = [np.array(Tensor._of(n).numpy()) for n in nodes]
    lowest = min((n.dtype for n in nodes), key=lambda d: d.itemsize, default=FLOAT64)
    tolerance = _TOLERANCE[lowest]
    _check(
        lambda *xs: f(*structure.unflatten(xs)),
        points,
        order,
        1,
        modes,
        tolerance if atol is None else atol,
        tolerance if rtol is None else rtol,
        _STEP[lowest] if eps is None else eps,
        rng,
    )


def _check(
    f: Callable[..., Any],
    points: list[Array],
    order: int,
    level: int,
    modes: Sequence[str],
    atol: float,
    rtol: float,
    eps: float,
    rng: np.random.Generator,
) -> None:
    """The check of the first derivative of `f`, which is number `level` of the user's function, and of those above."""
    y, pull = vjp(f, *points)
    weights = pytree.map(lambda t: rng.uniform(-1, 1, t.shape).astype(t.dtype), y)
    numeric = [_quotients(f, points, i, weights, eps) for i in range(len(points))]
    if "rev" in modes:
        for i, (g, expected) in enumerate(zip(pull(weights), numeric, strict=True)):
            _compare(g.numpy(), expected, f"reverse mode, order {level}: argument {i}", atol, rtol)
    if "fwd" in modes:
        directions: list[Array] = [np.asarray(rng.uniform(-1, 1, p.shape), p.dtype) for p in points]
        _, tangent = jvp(f, points, directions)
        found = _inner(tangent, weights)
        slope = sum(float(np.vdot(d, q)) for d, q in zip(directions, numeric, strict=True))
        _compare(np.asarray(found), np.asarray(slope), f"forward mode, order {level}: along a direction", atol, rtol)
    if level < order:
        _check(lambda *xs: vjp(f, *xs)[1](weights), points, order, level + 1, modes, atol, rtol, eps, rng)


def _quotients(f: Callable[..., Any], points: list[Array], i: int, weights: Any, eps: float) -> Array:
    """The central differences of <f, weights> by every element of point `i`, in float64."""
    out = np.empty(points[i].shape, np.float64)
    for at in np.ndindex(out.shape):
        ends = []
        for step in (eps, -eps):
            moved = [*points]
            moved[i] = points[i].copy()
            moved[i][at] += step
            ends.append((_inner(f(*map(Tensor, moved)), weights), float(moved[i][at])))
        (up, above), (down, below) = ends
        out[at] = (up - down) / (above - below)
    return out


def _inner(tree: Any, weights: Any) -> float:
    """Σ leaf · weight over all elements, in float64."""
    parts = pytree.map(
        lambda t, w: float(np.vdot(np.asarray(t, dtype=np.float64), np.asarray(w, dtype=np.float64))), tree, weights
    )
    return float(sum(pytree.leaves(parts)))


def _compare(found: Array, expected: Array, what: str, atol: float, rtol: float) -> None:
    """GradError naming the element that is most off, in units of its tolerance."""
    found = found.astype(np.float64)
    excess = np.abs(found - expected) / (atol + rtol * np.abs(expected))
    excess = np.where(np.isnan(excess), np.inf, excess)
    if not excess.size or excess.max() <= 1:
        return
    at = tuple(int(k) for k in np.unravel_index(int(np.argmax(excess)), excess.shape))
    where = f"element {list(at)}" if at else "its value"
    raise GradError(
        f"check_grads: {what}: {where} is {found[at]:.9g}, but the difference quotient is {expected[at]:.9g} "
        f"({int((excess > 1).sum())} of {excess.size} elements are off)"
    )
