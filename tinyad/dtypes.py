"""Scalar types of arrays (NumPy's own dtype objects), their promotion, and weakly typed Python scalars."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from .errors import DTypeError
from .ir import BOOL, DTYPES, FLOAT16, FLOAT32, FLOAT64, INT32, INT64, SHORT, DType

__all__ = [
    "BOOL",
    "DEFAULT_FLOAT",
    "DEFAULT_INT",
    "FLOAT16",
    "FLOAT32",
    "FLOAT64",
    "INT32",
    "INT64",
    "as_dtype",
    "default_of",
    "promote",
    "with_scalar",
]  # fmt: skip

DEFAULT_FLOAT: Final = FLOAT32
DEFAULT_INT: Final = INT64


def as_dtype(dtype: Any) -> DType:
    """The tinyad dtype that `dtype` (a NumPy dtype, scalar type or name, or bool, int, float) names.

    Raises DTypeError for what tinyad does not have. Python's ``float`` is float32, the default.
    """
    if dtype is float:
        return DEFAULT_FLOAT
    try:
        d = np.dtype(dtype).newbyteorder("=")
    except TypeError as e:
        raise DTypeError(f"{dtype!r} is not a dtype") from e
    canonical = _CANONICAL.get(d)
    if canonical is None:
        raise DTypeError(f"dtype {d} is not supported; expected one of {', '.join(x.name for x in SHORT)}")
    return canonical


_CANONICAL: Final[dict[DType, DType]] = {d: d for d in DTYPES.values()}  # equal dtypes may be distinct objects
_promoted: dict[tuple[DType, DType], DType] = {}


def promote(a: DType, b: DType) -> DType:
    """The common dtype of two arrays, by NumPy's rules (which extend the array API's table)."""
    if a is b:
        return a
    d = _promoted.get((a, b))
    if d is None:
        d = _promoted[a, b] = _CANONICAL[np.promote_types(a, b)]
    return d


def default_of(value: bool | int | float) -> DType:
    """The dtype of an array made from a Python scalar alone."""
    return BOOL if isinstance(value, bool) else DEFAULT_INT if isinstance(value, int) else DEFAULT_FLOAT


def with_scalar(dtype: DType, value: bool | int | float) -> DType:
    """The common dtype of an array and a Python scalar, which is weak: it only decides if its kind is higher.

    Raises OverflowError if an integer does not fit the array's integer dtype, as NumPy does.
    """
    if isinstance(value, bool):
        return dtype
    if isinstance(value, int):
        if dtype is BOOL:
            return DEFAULT_INT
        if dtype.kind in "iu":
            info = np.iinfo(dtype)
            if not info.min <= value <= info.max:
                raise OverflowError(f"Python integer {value} out of bounds for {dtype.name}")
        return dtype
    return dtype if dtype.kind == "f" else DEFAULT_FLOAT
