"""Helpers: calling public functions on NumPy samples, and their results' values by the interpreter or compiled."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyad import Tensor
from tinyad.interpret import interpret


def tensors(x: Any) -> Any:
    """Arrays as tensors, in sequences too; integer arrays that are indices stay as they are given."""
    if isinstance(x, np.ndarray):
        return Tensor(x)
    return type(x)(map(tensors, x)) if isinstance(x, (list, tuple)) else x


def invoke(record: Any, sample: Any) -> Any:
    return record.function(*tensors(sample.args), **{k: tensors(v) for k, v in sample.kwargs.items()})


def values(result: Any, compiled: bool = False) -> list[np.ndarray]:
    """The values of a tensor, or of a sequence of tensors."""
    parts = list(result) if isinstance(result, (list, tuple)) else [result]
    if compiled:
        return [t.numpy() for t in parts]
    return interpret([t.node for t in parts])


def close(got: np.ndarray, want: Any, ulps: float, scale: float, message: str = "") -> None:
    """|got - want| <= ulps·eps·(|want| + scale); equal NaN and infinities; exact for integers."""
    want = np.asarray(want)
    assert got.shape == want.shape, f"{message}: shape {got.shape}, expected {want.shape}"
    if got.dtype.kind != "f":
        np.testing.assert_array_equal(got, want, message)
        return
    info = np.finfo(got.dtype)
    with np.errstate(all="ignore"):
        want = want.astype(got.dtype)
        a, b = got.astype(np.float64), want.astype(np.float64)
        tolerance = ulps * (float(info.eps) * (np.abs(b) + scale) + float(info.smallest_subnormal))
        wrong = ~((a == b) | (np.isnan(a) & np.isnan(b)) | (np.abs(a - b) <= np.where(np.isfinite(b), tolerance, 0)))
    if wrong.any():
        i = int(np.argmax(wrong.ravel()))
        raise AssertionError(f"{message}: element {i}: got {got.ravel()[i]!r}, expected {want.ravel()[i]!r}")
