"""Records of the functions that move elements."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from ..errors import AxisError, ShapeError
from .record import Bad, Of, Record, Samples, call, fixed, on

Reference = Callable[..., Any]


def _movement(
    name: str, reference: Reference, samples: Samples, *errors: Bad, points: Samples | None = None, **rest: Any
) -> Record:
    """All of these are exact, linear, and take every dtype."""
    smooth = samples if points is None else points
    return Record(
        name,
        "movement",
        "biuf",
        samples,
        reference,
        orders=2,
        linear=True,
        errors=errors,
        ulps=0,
        wide=False,
        smooth=lambda rng: smooth(rng, np.dtype(np.float64)),
        **rest,
    )


_OUT: Final = Bad((np.zeros((2, 3)), 2), AxisError, "axis 2 is out of bounds for array of dimension 2")


def _swap(x: Any) -> Any:
    return np.swapaxes(x, -1, -2)


def _stack(arrays: Any, axis: int = 0) -> Any:
    return np.stack(arrays, axis)


def _lists(*shapes: tuple[int, ...], **kwargs: Any) -> Any:
    """One argument: a list of random arrays."""

    def make(rng: Any, dtype: Any) -> Any:
        sample = on(*shapes, **kwargs)(rng, dtype)
        return type(sample)((list(sample.args),), sample.kwargs)

    return make


def _flatten(x: Any, start_axis: int = 0, end_axis: int = -1) -> Any:
    if not x.ndim:
        return x.reshape(1)
    i, j = start_axis % x.ndim, end_axis % x.ndim
    return x.reshape(*x.shape[:i], int(np.prod(x.shape[i : j + 1])), *x.shape[j + 1 :])


def _chunk(x: Any, n: int, axis: int = 0) -> Any:
    size = max(-(-x.shape[axis] // n), 1)
    return np.split(x, range(size, max(x.shape[axis], 1), size), axis)


def _unstack(x: Any, axis: int = 0) -> Any:
    return tuple(np.moveaxis(x, axis, 0))


RECORDS: Final = (
    _movement(
        "reshape",
        np.reshape,
        fixed(
            call(Of(3, 4), (2, 6)), call(Of(3, 4), (-1, 2)), call(Of(6), 6), call(Of(), (1, 1)), call(Of(0, 3), (3, 0))
        ),
        Bad((np.zeros((2, 3)), (4,)), ShapeError, "cannot reshape array of size 6 into shape (4,)"),
        Bad((np.zeros((2, 3)), (4, -1)), ShapeError, "cannot reshape array of size 6 into shape (4, -1)"),
    ),
    _movement(
        "flatten",
        _flatten,
        fixed(call(Of(2, 3, 4)), call(Of(2, 3, 4), 1), call(Of(2, 3, 4), 0, 1), call(Of()), call(Of(0, 2))),
    ),
    _movement("ravel", np.ravel, fixed(call(Of(2, 3)), call(Of()), call(Of(0, 2)))),
    _movement(
        "expand_dims",
        lambda x, axis=0: np.expand_dims(x, axis),
        fixed(call(Of(3), 0), call(Of(3), -1), call(Of(2, 3), (0, 2)), call(Of())),
        Bad((np.zeros(3), 3), AxisError, "axis 3 is out of bounds for array of dimension 2"),
    ),
    _movement(
        "squeeze",
        np.squeeze,
        fixed(call(Of(1, 3, 1)), call(Of(1, 3, 1), 0), call(Of(1, 3, 1), (0, -1)), call(Of())),
        Bad((np.zeros((2, 3)), 0), ShapeError, "cannot select an axis to squeeze out which has size not equal to one"),
    ),
    _movement(
        "permute_dims",
        np.transpose,
        fixed(call(Of(2, 3, 4), (2, 0, 1)), call(Of(2, 3), (-1, 0)), call(Of(), ())),
        Bad((np.zeros((2, 3)), (0,)), ShapeError, "axes don't match array"),
        Bad((np.zeros((2, 3)), (0, 0)), ShapeError, "repeated axis in transpose"),
    ),
    _movement("transpose", np.transpose, fixed(call(Of(2, 3, 4)), call(Of(2, 3), (1, 0)), call(Of(4)))),
    _movement(
        "matrix_transpose",
        _swap,
        fixed(call(Of(2, 3, 4)), call(Of(0, 3))),
        Bad((np.zeros(3),), ShapeError, "matrix transpose with ndim < 2 is undefined"),
    ),
    _movement(
        "swapaxes",
        np.swapaxes,
        fixed(call(Of(2, 3, 4), 0, 2), call(Of(2, 3), -1, 0)),
        Bad((np.zeros((2, 3)), 0, 2), AxisError, "axis 2 is out of bounds"),
    ),
    _movement(
        "moveaxis",
        np.moveaxis,
        fixed(call(Of(2, 3, 4), 0, -1), call(Of(2, 3, 4), (0, 1), (2, 0))),
        Bad((np.zeros((2, 3)), 0, 2), AxisError, "axis 2 is out of bounds"),
    ),
    _movement(
        "flip",
        np.flip,
        fixed(call(Of(2, 3)), call(Of(2, 3), 1), call(Of(2, 3, 4), (0, -1)), call(Of(0)), call(Of())),
        _OUT,
    ),
    _movement(
        "roll",
        np.roll,
        fixed(
            call(Of(5), 2),
            call(Of(2, 3), -1),
            call(Of(2, 3), 1, 0),
            call(Of(2, 3), (1, 2), (0, 1)),
            call(Of(0), 3),
            call(Of(3, 4), 9, -1),
        ),
        Bad((np.zeros((2, 3)), 1, 2), AxisError, "axis 2 is out of bounds"),
    ),
    _movement(
        "rot90", np.rot90, fixed(call(Of(2, 3)), call(Of(2, 3), 2), call(Of(2, 3, 4), 3, (1, 2)), call(Of(2, 3), 0))
    ),
    _movement(
        "broadcast_to",
        np.broadcast_to,
        fixed(call(Of(3), (2, 3)), call(Of(2, 1), (4, 2, 3)), call(Of(), (2,)), call(Of(1), (0,))),
        Bad((np.zeros(3), (2,)), ShapeError, "operands could not be broadcast together with remapped shapes"),
    ),
    _movement(
        "broadcast_arrays",
        np.broadcast_arrays,
        fixed(on((3, 1), (4,)), on((), (2,)), on((2, 3))),
        Bad((np.zeros(3), np.zeros(2)), ShapeError, "operands could not be broadcast together with shapes (3,) (2,)"),
    ),
    _movement(
        "concat",
        np.concatenate,
        fixed(
            _lists((2, 3), (1, 3)),
            _lists((2, 3), (2, 0), (2, 1), axis=1),
            _lists((2, 2), (3,), axis=None),
            _lists((4,)),
        ),
        Bad(
            ([np.zeros((2, 3)), np.zeros((2, 4))],),
            ShapeError,
            "all the input array dimensions except for the concatenation axis must match exactly",
        ),
        Bad(([],), ValueError, "need at least one array to concatenate"),
        aliases=("concatenate",),
    ),
    _movement(
        "stack",
        _stack,
        fixed(_lists((2, 3), (2, 3)), _lists((2, 3), (2, 3), axis=-1), _lists((), (), axis=0)),
        Bad(([np.zeros(2), np.zeros(3)],), ShapeError, "all input arrays must have the same shape"),
    ),
    _movement(
        "unstack",
        _unstack,
        fixed(call(Of(3, 2)), call(Of(3, 2), axis=-1), call(Of(2))),
        Bad((np.zeros(()),), AxisError, "axis 0 is out of bounds for array of dimension 0"),
    ),
    _movement(
        "split",
        np.split,
        fixed(call(Of(6, 2), 3), call(Of(5), [1, 3]), call(Of(2, 6), 2, -1), call(Of(4), [3, 2, 9])),
        Bad((np.zeros(5), 2), ShapeError, "array split does not result in an equal division"),
    ),
    _movement(
        "chunk",
        _chunk,
        fixed(call(Of(7, 2), 3), call(Of(2, 6), 4, -1), call(Of(0), 2)),
        Bad((np.zeros(5), 0), ValueError, "expected at least 1 chunk"),
    ),
    _movement(
        "repeat",
        np.repeat,
        fixed(call(Of(3), 2), call(Of(2, 3), 2, 1), call(Of(2, 3), 3), call(Of(3), [1, 0, 2], 0), call(Of(3), 0)),
        Bad((np.zeros(3), -1), ValueError, "repeats may not contain negative values"),
    ),
    _movement(
        "tile",
        np.tile,
        fixed(call(Of(3), 2), call(Of(2, 3), (2, 1)), call(Of(3), (2, 2)), call(Of(2, 3), 2), call(Of(2), 0)),
    ),
    _movement(
        "pad",
        np.pad,
        fixed(
            call(Of(3), 1),
            call(Of(2, 3), ((1, 0), (0, 2))),
            call(Of(3), (1, 2), "edge"),
            call(Of(4), 2, "reflect"),
            call(Of(4), 2, "symmetric"),
            call(Of(3), 4, "wrap"),
            call(Of(0), 2),
        ),
        Bad((np.zeros(3), -1), ValueError, "index can't contain negative values"),
        Bad((np.zeros(3), 1, "mean"), ValueError, "mode 'mean' is not supported"),
    ),
    _movement(
        "tril",
        np.tril,
        fixed(call(Of(3, 4)), call(Of(3, 4), 1), call(Of(2, 3, 3), -1)),
        Bad((np.zeros(3),), ShapeError, "at least 2 dimensions"),
    ),
    _movement(
        "triu",
        np.triu,
        fixed(call(Of(3, 4)), call(Of(3, 4), 1), call(Of(2, 3, 3), -1)),
        Bad((np.zeros(3),), ShapeError, "at least 2 dimensions"),
    ),
    _movement(
        "diagonal",
        np.diagonal,
        fixed(
            call(Of(3, 4)),
            call(Of(3, 4), 2),
            call(Of(4, 3), -1),
            call(Of(2, 3, 3), 0, 1, 2),
            call(Of(3, 3), 5),
            call(Of(2, 3, 4), 1, -1, 0),
        ),
    ),
    _movement(
        "diag",
        np.diag,
        fixed(call(Of(3)), call(Of(3), 1), call(Of(2), -2), call(Of(3, 4)), call(Of(0))),
        Bad((np.zeros(()),), ShapeError, "Input must be 1- or 2-d."),
    ),
)
