"""The array API's functions of dtypes."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ..dtypes import as_dtype
from ..ir import DType, Node
from . import core
from .core import Operand

_KINDS: Final = {
    "bool": "b",
    "signed integer": "i",
    "unsigned integer": "u",
    "integral": "iu",
    "real floating": "f",
    "complex floating": "",
    "numeric": "iuf",
}


def isdtype(dtype: Any, kind: Any) -> bool:
    """Whether `dtype` is of a kind: a dtype, a name such as "integral", or a tuple of these."""
    d = as_dtype(dtype)
    if isinstance(kind, tuple):
        return any(isdtype(d, k) for k in kind)
    if isinstance(kind, str) and kind in _KINDS:
        return d.kind in _KINDS[kind]
    return d is as_dtype(kind)


def can_cast(from_: Any, to: Any) -> bool:
    """Whether a dtype, or an array's, converts to `to` without loss, by NumPy's safe rule."""
    return np.can_cast(
        from_.dtype if isinstance(from_, Node) else as_dtype(getattr(from_, "dtype", from_)), as_dtype(to)
    )


def result_type(*operands: Operand) -> DType:
    """The common dtype of arrays, dtypes and (weakly typed) Python scalars."""
    scalars = (bool, int, float)
    return core.result_type(
        *(x if isinstance(x, (Node, *scalars)) and not isinstance(x, type) else _of(x) for x in operands)
    )


def _of(dtype: Any) -> Node:
    from .. import ir

    return ir.const(0, as_dtype(getattr(dtype, "dtype", dtype)))


def finfo(dtype: Any) -> np.finfo[Any]:
    """Limits of a float dtype."""
    return np.finfo(as_dtype(getattr(dtype, "dtype", dtype)))


def iinfo(dtype: Any) -> np.iinfo[Any]:
    """Limits of an integer dtype."""
    return np.iinfo(as_dtype(getattr(dtype, "dtype", dtype)))
