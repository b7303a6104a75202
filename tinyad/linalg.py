"""Linear algebra: the part of the array API's linalg extension that is sums of products and norms."""

from __future__ import annotations

from .functions import linear as _linear
from .functions import movement as _movement
from .tensor import public as _public

__all__ = ["cross", "diagonal", "matmul", "matrix_norm", "matrix_power", "matrix_transpose", "outer", "tensordot",
           "trace", "vecdot", "vector_norm"]  # fmt: skip

cross = _public(_linear.cross)
diagonal = _public(_linear.matrix_diagonal)
matmul = _public(_linear.matmul)
matrix_norm = _public(_linear.matrix_norm)
matrix_power = _public(_linear.matrix_power)
matrix_transpose = _public(_movement.matrix_transpose)
outer = _public(_linear.outer)
tensordot = _public(_linear.tensordot)
trace = _public(_linear.trace)
vecdot = _public(_linear.vecdot)
vector_norm = _public(_linear.vector_norm)
