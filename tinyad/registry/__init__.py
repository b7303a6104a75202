"""The op registry: one record for every public function, from which documentation, tests and the fuzzer are made."""

from __future__ import annotations

from typing import Final

from . import creation, elementwise, indexing, linear, movement, network, reductions
from .record import RESULTS, Bad, Kink, Record, Sample

__all__ = ["NOT_OPERATIONS", "RECORDS", "RESULTS", "Bad", "Kink", "Record", "Sample"]

RECORDS: Final[dict[str, Record]] = {
    r.name: r
    for family in (elementwise, reductions, movement, indexing, linear, network, creation)
    for r in family.RECORDS
}
"""Every public function of arrays by its name."""

_TYPES = "AxisError DTypeError GradError ShapeError TraceError Tensor array tensor"
_CONSTANTS = """bool bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64
    e inf nan newaxis pi __version__ __array_api_version__"""
_OF_DTYPES = "can_cast finfo iinfo isdtype result_type"
_TRANSFORMS = """check_grads checkpoint custom_vjp grad gradients hessian hvp jacfwd jacrev jit jvp linearize no_grad
    stop_gradient value_and_grad vjp vmap"""
_INSPECTION = "compiled_stats graph schedule"

NOT_OPERATIONS: Final = frozenset(
    " ".join((_TYPES, _CONSTANTS, _OF_DTYPES, _TRANSFORMS, _INSPECTION, "linalg")).split()
)
"""What the namespace holds besides functions of arrays."""
