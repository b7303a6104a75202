"""Records of products and norms."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ..errors import ShapeError
from .record import Bad, Kink, Of, Record, Samples, call, fixed, on

_MATMUL: Final = fixed(
    on((3, 4), (4, 2)),
    on((4,), (4, 2)),
    on((3, 4), (4,)),
    on((4,), (4,)),
    on((2, 1, 3, 4), (5, 4, 2)),
    on((0, 3), (3, 2)),
    on((3, 0), (0, 2)),
    on((17, 9), (9, 5)),
    on((2, 3, 4), (4,)),
)


def _product(name: str, reference: Any, samples: Samples, *errors: Bad, kinds: str = "biuf", **rest: Any) -> Record:
    """Bilinear functions; `scale` covers sums of up to twenty products of numbers below 4."""
    points = rest.pop("points", samples)
    return Record(
        name,
        "linear",
        kinds,
        samples,
        reference,
        orders=2,
        scale=64,
        errors=errors,
        smooth=lambda rng: points(rng, np.dtype(np.float64)),
        **rest,
    )


def _vecdot(a: Any, b: Any, axis: int = -1) -> Any:
    return np.any(a & b, axis) if a.dtype.kind == "b" else np.sum(a * b, axis, dtype=a.dtype)


def _dot(a: Any, b: Any) -> Any:
    return np.dot(a, b)


def _trace(x: Any, offset: int = 0) -> Any:
    return np.trace(x, offset, -2, -1)


def _norm(x: Any, *, axis: Any = None, keepdims: bool = False, ord: float = 2) -> Any:
    return np.linalg.vector_norm(x.astype(np.float64), axis=axis, keepdims=keepdims, ord=ord)


def _matrix_norm(x: Any, *, keepdims: bool = False, ord: Any = "fro") -> Any:
    return np.linalg.matrix_norm(x.astype(np.float64), keepdims=keepdims, ord=ord)


def _diagonal(x: Any, *, offset: int = 0) -> Any:
    return np.diagonal(x, offset, -2, -1)


def _einsum(subscripts: str, *operands: Any) -> Any:
    y = np.einsum(subscripts, *(x.astype(np.int64) if x.dtype.kind == "b" else x for x in operands))
    return y.astype(bool) if operands[0].dtype.kind == "b" else y


_MISMATCH: Final = Bad(
    (np.zeros((2, 3)), np.zeros((4, 5))),
    ShapeError,
    "matmul: Input operand 1 has a mismatch in its core dimension 0, "
    "with gufunc signature (n?,k),(k,m?)->(n?,m?) (size 4 is different from 3)",
)
_SCALAR: Final = Bad(
    (np.zeros(()), np.zeros(3)), ShapeError, "matmul: Input operand 0 does not have enough dimensions (has 0"
)
_FEW: Final = fixed(on((3, 4), (4, 2)), on((2, 1, 2, 3), (2, 3, 2)), on((3,), (3,)))
_VECTORS: Final = fixed(on((2, 3), (2, 3)), on((3,), (2, 3)), call(Of(3, 2), Of(3, 1), axis=0))
_EINSUM: Final = fixed(
    call("ij,jk->ik", Of(3, 4), Of(4, 2)),
    call("ij,jk", Of(3, 4), Of(4, 2)),
    call("ii->i", Of(3, 3)),
    call("ii", Of(3, 3)),
    call("ij->ji", Of(2, 3)),
    call("ij->", Of(2, 3)),
    call("...ij,...jk->...ik", Of(2, 1, 2, 3), Of(3, 3, 2)),
    call("i,j->ij", Of(2), Of(3)),
    call("ij,jk,kl->il", Of(2, 3), Of(3, 4), Of(4, 2)),
    call("bij,bjk->bki", Of(2, 3, 2), Of(2, 2, 3)),
    call("i,i,i->", Of(3), Of(3), Of(3)),
    call("...->...", Of(2, 2)),
    call("ba", Of(2, 3)),
    call("i...->...", Of(2, 3)),
    call("iij,j->i", Of(2, 2, 3), Of(3)),
)

RECORDS: Final = (
    _product("matmul", np.matmul, _MATMUL, _MISMATCH, _SCALAR, points=_FEW, aliases=("linalg.matmul",)),
    _product("linalg.matmul", np.matmul, _FEW),
    _product(
        "vecdot",
        _vecdot,
        _VECTORS,
        Bad((np.zeros(2), np.zeros(3)), ShapeError, "vecdot: the sizes along axis -1 differ"),
        aliases=("linalg.vecdot",),
    ),
    _product("linalg.vecdot", _vecdot, _VECTORS),
    _product("outer", np.outer, fixed(on((3,), (2,)), on((2, 2), ()))),
    _product("linalg.outer", np.outer, fixed(on((3,), (2,)))),
    _product(
        "inner",
        np.inner,
        fixed(on((3,), (3,)), on((2, 3), (4, 3)), on((), (3,))),
        Bad((np.zeros(2), np.zeros(3)), ShapeError, "shape-mismatch for sum"),
    ),
    _product(
        "dot",
        _dot,
        fixed(on((3,), (3,)), on((2, 3), (3, 2)), on((2, 3), (4, 3, 2)), on((), (3,))),
        Bad((np.zeros(2), np.zeros(3)), ShapeError, "shapes (2,) and (3,) not aligned: 2 (dim 0) != 3 (dim 0)"),
    ),
    _product(
        "tensordot",
        np.tensordot,
        fixed(
            call(Of(2, 3, 4), Of(3, 4, 2)),
            call(Of(2, 3), Of(3, 2), 1),
            call(Of(2), Of(3), 0),
            call(Of(2, 3, 4), Of(4, 2), ((0, 2), (1, 0))),
        ),
        Bad((np.zeros((2, 3)), np.zeros((2, 3))), ShapeError, "shape-mismatch for sum", {"axes": 1}),
        aliases=("linalg.tensordot",),
    ),
    _product("linalg.tensordot", np.tensordot, fixed(call(Of(2, 3), Of(3, 2), 1))),
    _product("kron", np.kron, fixed(on((2, 2), (2, 3)), on((2,), (3,)), on((2,), (2, 2)))),
    _product(
        "cross",
        np.cross,
        fixed(on((3,), (3,)), on((2, 3), (3,)), call(Of(3, 2), Of(3, 2), axis=0)),
        Bad((np.zeros(2), np.zeros(2)), ShapeError, "incompatible dimensions for cross product"),
        kinds="iuf",
        aliases=("linalg.cross",),
    ),
    _product("linalg.cross", np.cross, fixed(on((3,), (3,))), kinds="iuf"),
    _product(
        "einsum",
        _einsum,
        _EINSUM,
        Bad(("ij,jk", np.zeros((2, 3)), np.zeros((2, 3))), ShapeError, "label 'j' has sizes 3 and 2"),
        Bad(("ij", np.zeros(2)), ShapeError, "operand has 1 axes, but its subscript 'ij' names 2"),
        Bad(("ij->k", np.zeros((2, 2))), ValueError, "output label 'k' never occurs"),
        Bad(("i,j", np.zeros(2)), ValueError, "2 subscripts for 1 operands"),
    ),
    _product("trace", _trace, fixed(call(Of(3, 3)), call(Of(2, 3, 4), 1)), result="total", aliases=("linalg.trace",)),
    _product("linalg.trace", _trace, fixed(call(Of(3, 3)), call(Of(2, 3, 4), offset=-1)), result="total"),
    _product("linalg.diagonal", _diagonal, fixed(call(Of(3, 3)), call(Of(2, 3, 4), offset=1))),
    _product("linalg.matrix_transpose", lambda x: np.swapaxes(x, -1, -2), fixed(call(Of(2, 3, 4)))),
    _product(
        "linalg.matrix_power",
        np.linalg.matrix_power,
        fixed(call(Of(3, 3), 0), call(Of(3, 3), 3), call(Of(2, 2, 2), 1)),
        Bad((np.zeros((2, 3)), 2), ShapeError, "expected square matrices"),
        kinds="biuf",
        wide=False,
    ),
    _product(
        "linalg.vector_norm",
        _norm,
        fixed(
            call(Of(5)),
            call(Of(2, 3), axis=0),
            call(Of(2, 3), axis=(0, 1), keepdims=True),
            call(Of(4), ord=1),
            call(Of(4), ord=np.inf),
            call(Of(4), ord=-np.inf),
            call(Of(4), ord=3),
            call(Of(4), ord=0),
        ),
        result="float",
        kinds="biuf",
        points=fixed(call(Of(5)), call(Of(2, 3), axis=0), call(Of(4), ord=1), call(Of(4), ord=3)),
        kinks=(Kink((np.zeros(3),), (np.zeros(3),)), Kink((np.zeros(3),), (np.zeros(3),), {"ord": 3})),
    ),
    _product(
        "linalg.matrix_norm",
        _matrix_norm,
        fixed(call(Of(2, 3)), call(Of(2, 3, 3), ord=1), call(Of(2, 3), ord=-np.inf, keepdims=True)),
        Bad((np.zeros((2, 2)),), ValueError, "expected ord", {"ord": 2}),
        result="float",
        kinds="biuf",
        kinks=(Kink((np.zeros((2, 2)),), (np.zeros((2, 2)),)),),
    ),
)
