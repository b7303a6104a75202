"""Records of functions that make arrays, or answer questions about dtypes."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ..errors import DTypeError
from .record import Bad, Of, Record, at, call, fixed


def _made(
    name: str, reference: Any, *samples: Any, errors: tuple[Bad, ...] = (), kinds: str = "f", result: str = "any"
) -> Record:
    return Record(name, "creation", kinds, fixed(*samples), reference, result, errors=errors, wide=False)


def _float32(f: Any) -> Any:
    return lambda *a, dtype=np.float32: f(*a, dtype=dtype)


def _arange(*a: Any, dtype: Any = None) -> Any:
    whole = all(isinstance(v, int) for v in a)
    return np.arange(*a, dtype=dtype or (np.int64 if whole else np.float32))


def _linspace(start: Any, stop: Any, num: int = 50, dtype: Any = np.float32, endpoint: bool = True) -> Any:
    return np.linspace(start, stop, num, endpoint, dtype=dtype)


def _full(shape: Any, value: Any, dtype: Any = None) -> Any:
    return np.full(shape, value, dtype or {bool: np.bool_, int: np.int64, float: np.float32}[type(value)])


_NEGATIVE: Final = Bad((-1,), ValueError, "negative dimensions are not allowed")

RECORDS: Final = (
    _made(
        "zeros", _float32(np.zeros), call((2, 3)), call(4, dtype="int8"), call(()), call((0, 2)), errors=(_NEGATIVE,)
    ),
    _made("ones", _float32(np.ones), call((2, 3)), call(4, dtype="bool"), call(()), errors=(_NEGATIVE,)),
    _made("empty", _float32(np.zeros), call((2, 3)), call(4, dtype="int8"), errors=(_NEGATIVE,)),
    _made(
        "full",
        _full,
        call((2, 3), 7),
        call(2, 1.5),
        call((), True),
        call(2, 3, dtype="float64"),
        errors=(Bad((-1, 0), ValueError, "negative dimensions"),),
    ),
    _made("zeros_like", np.zeros_like, call(Of(2, 3)), call(Of(2), dtype="int8"), call(Of()), kinds="biuf"),
    _made("ones_like", np.ones_like, call(Of(2, 3)), call(Of(2), dtype="int8"), kinds="biuf"),
    _made("empty_like", np.zeros_like, call(Of(2, 3)), call(Of(2), dtype="int8"), kinds="biuf"),
    _made("full_like", np.full_like, call(Of(2, 3), 1), call(Of(2), 1, dtype="int8"), kinds="biuf"),
    _made(
        "eye",
        lambda n, m=None, k=0, dtype=np.float32: np.eye(n, m, k, dtype),
        call(3),
        call(2, 4, 1),
        call(3, 3, -1, dtype="int64"),
        call(0),
    ),
    _made(
        "arange",
        _arange,
        call(5),
        call(2, 9, 3),
        call(9, 2, -2),
        call(0.5),
        call(1.0, 2.0, 0.25),
        call(5, dtype="float64"),
        call(3, 1),
        call(4, dtype="uint8"),
        errors=(Bad((0, 5, 0), ValueError, "step must not be 0"),),
    ),
    _made(
        "linspace",
        _linspace,
        call(0.0, 1.0, 5),
        call(-1, 2, 7, dtype="float64"),
        call(0, 1, 1),
        call(0, 1, 0),
        call(0, 1, 4, endpoint=False),
        errors=(Bad((0, 1, -1), ValueError, "Number of samples, -1, must be non-negative."),),
    ),
    Record(
        "meshgrid",
        "creation",
        "biuf",
        fixed(call(Of(2), Of(3)), call(Of(2), Of(3), indexing="ij"), call(Of(2)), call(Of(2), Of(3), Of(4))),
        np.meshgrid,
        orders=2,
        smooth=at(call(Of(2), Of(3))),
        linear=True,
        ulps=0,
        errors=(Bad((np.zeros(2),), ValueError, "Valid values for `indexing` are 'xy' and 'ij'.", {"indexing": "kj"}),),
    ),
    _made(
        "asarray",
        np.asarray,
        call(Of(2, 3)),
        call(Of(2), dtype="float16"),
        kinds="biuf",
        errors=(Bad((["a"],), DTypeError, "cannot make a tensor"),),
    ),
    _made("from_dlpack", np.asarray, call(Of(2, 3)), kinds="iuf"),
    _made(
        "nonzero",
        np.nonzero,
        call(Of(2, 3)),
        call(Of(0)),
        kinds="biuf",
        errors=(Bad((np.zeros(()),), ValueError, "Calling nonzero on 0d arrays is not allowed"),),
    ),
)
