"""Records of the functions built on gather, scatter and sorting."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ..errors import AxisError, DTypeError, ShapeError
from .record import Bad, Kink, Of, Record, at, call, fixed

_I: Final = np.array([2, 0, -1, 2])
_ROWS: Final = np.array([[2, 0], [1, 1], [-1, -3]])


def _scatter_add(x: Any, indices: Any, values: Any, axis: int = 0) -> Any:
    out = x.copy()
    places = list(
        np.indices(indices.shape if indices.ndim > 1 else (*x.shape[:axis], len(indices), *x.shape[axis + 1 :]))
    )
    shape = places[0].shape
    places[axis] = (
        indices
        if indices.ndim > 1
        else np.broadcast_to(indices.reshape([-1 if i == axis else 1 for i in range(x.ndim)]), shape)
    )
    np.add.at(out, tuple(places), np.broadcast_to(np.asarray(values, x.dtype), shape))
    return out


def _segment_sum(x: Any, ids: Any, count: int, axis: int = 0) -> Any:
    x = np.moveaxis(x.astype(np.int64) if x.dtype.kind == "b" else x, axis, 0)
    out = np.zeros((count, *x.shape[1:]), x.dtype)
    np.add.at(out, ids, x)
    return np.moveaxis(out, 0, axis)


def _sort(x: Any, axis: int = -1, descending: bool = False) -> Any:
    return np.flip(np.sort(x, axis), axis) if descending else np.sort(x, axis)


def _argsort(x: Any, axis: int = -1, descending: bool = False) -> Any:
    if not descending:
        return np.argsort(x, axis, kind="stable")
    return np.flip(x.shape[axis] - 1 - np.argsort(np.flip(x, axis), axis, kind="stable"), axis)


def _topk(x: Any, k: int, axis: int = -1, largest: bool = True) -> Any:
    places = np.take(_argsort(x, axis, largest), range(k), axis)
    return np.take_along_axis(x, places, axis), places


def _one_hot(x: Any, n: int) -> Any:
    return (x[..., None] == np.arange(n)).astype(np.float32)


RECORDS: Final = (
    Record(
        "take",
        "indexing",
        "biuf",
        fixed(
            call(Of(3, 4), _I, 0),
            call(Of(3, 4), _I),
            call(Of(3), np.array([[0, 1]]), 0),
            call(Of(3, 4), np.array(1), 1),
            call(Of(3), np.zeros(0, int), 0),
        ),
        np.take,
        orders=2,
        smooth=at(call(Of(3, 4), _I, 1)),
        linear=True,
        ulps=0,
        wide=False,
        errors=(
            Bad((np.zeros(3), np.zeros(2), 0), DTypeError, "expected integer indices"),
            Bad((np.zeros(3), _I, 1), AxisError, "axis 1"),
        ),
    ),
    Record(
        "take_along_axis",
        "indexing",
        "biuf",
        fixed(call(Of(3, 2), _ROWS, 0), call(Of(3, 3), _ROWS, 1), call(Of(1, 3), _ROWS, 1), call(Of(6), _I, None)),
        np.take_along_axis,
        orders=2,
        smooth=at(call(Of(3, 2), _ROWS, 0)),
        linear=True,
        ulps=0,
        wide=False,
        aliases=("gather",),
        errors=(Bad((np.zeros((3, 2)), _I, 0), ShapeError, "must have the same number of dimensions"),),
    ),
    Record(
        "scatter_add",
        "indexing",
        "iuf",
        fixed(
            call(Of(3, 2), _I, Of(4, 2)),
            call(Of(2, 3), _I, Of(2, 4), 1),
            call(Of(3, 2), _ROWS, Of(3, 2)),
            call(Of(3), _I, 1),
        ),
        _scatter_add,
        orders=2,
        smooth=at(call(Of(3, 2), _I, Of(4, 2))),
        linear=True,
        scale=8,
        errors=(
            Bad((np.zeros(3), np.zeros(2), 1.0), DTypeError, "expected integer indices"),
            Bad(
                (np.zeros(3), np.zeros(2, int), np.zeros(3)),
                ShapeError,
                "could not broadcast input array from shape (3,) into shape (2,)",
            ),
            Bad((np.zeros(3, bool), np.zeros(2, int), True), DTypeError, "not defined for dtype bool"),
        ),
    ),
    Record(
        "segment_sum",
        "indexing",
        "biuf",
        fixed(call(Of(4, 2), np.array([0, 2, 2, 1]), 4), call(Of(2, 3), np.array([1, 1, 0]), 2, 1)),
        _segment_sum,
        "integer",
        2,
        at(call(Of(4, 2), np.array([0, 2, 2, 1]), 4)),
        linear=True,
        scale=8,
        errors=(Bad((np.zeros(3), np.zeros(2, int), 2), ShapeError, "expected one id for each of 3 elements"),),
    ),
    Record(
        "one_hot",
        "indexing",
        "iu",
        fixed(call(Of(5), 4), call(Of(2, 3), 3), call(Of(), 2)),
        _one_hot,
        "float32",
        errors=(Bad((np.zeros(3), 2), DTypeError, "expected integer indices"),),
    ),
    Record(
        "argsort",
        "indexing",
        "biuf",
        fixed(call(Of(9)), call(Of(3, 4), 0), call(Of(3, 4), descending=True), call(np.array([1.0, np.nan, 0.0]))),
        _argsort,
        "int64",
        errors=(Bad((np.zeros(3), 1), AxisError, "axis 1"),),
    ),
    Record(
        "sort",
        "indexing",
        "biuf",
        fixed(call(Of(9)), call(Of(3, 4), 0), call(Of(3, 4), descending=True), call(Of(0))),
        _sort,
        orders=2,
        smooth=at(call(Of(5)), call(Of(2, 3), 0)),
        ulps=0,
        kinks=(Kink((np.array([1.0, 1.0]),), (np.ones(2),)),),
        errors=(Bad((np.zeros(3), 1), AxisError, "axis 1"),),
    ),
    Record(
        "topk",
        "indexing",
        "biuf",
        fixed(call(Of(9), 3), call(Of(3, 4), 2, 0), call(Of(3, 4), 1, largest=False)),
        _topk,
        "any",
        2,
        at(call(Of(5), 2)),
        ulps=0,
        wide=False,
        errors=(Bad((np.zeros(3), 4), ValueError, "expected 0 <= k <= 3, got 4"),),
    ),
    Record(
        "searchsorted",
        "indexing",
        "biuf",
        fixed(
            lambda rng, d: call(np.sort(rng.integers(0, 9, 7)).astype(d), Of(2, 3))(rng, d),
            lambda rng, d: call(np.sort(rng.integers(0, 4, 7)).astype(d), Of(5), side="right")(rng, d),
        ),
        np.searchsorted,
        "int64",
        errors=(Bad((np.zeros((2, 2)), 1.0), ShapeError, "object too deep for desired array"),),
    ),
)
