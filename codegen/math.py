"""Elementary functions as vector code: the table of them, and how exact each is.

Every function takes and gives float32 or float64 in any number of lanes, is the same on every target (one order of
operations, explicit FMA, see `codegen.soft` where hardware has none), calls no library, and has IEEE/NumPy's special
values, signed zeros and denormals.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from .builder import Val
from .math_exp import erf, exp, expm1, tanh
from .math_log import log, log1p, pow
from .math_trig import atan, atan2, cos, sin

FUNCTIONS: Final[dict[str, Callable[..., Val]]] = {
    "exp": exp,
    "log": log,
    "expm1": expm1,
    "log1p": log1p,
    "sin": sin,
    "cos": cos,
    "tanh": tanh,
    "atan": atan,
    "erf": erf,
    "pow": pow,
    "atan2": atan2,
}

# Largest errors in units in the last place, as measured and rounded up: float32 over all 2^32 arguments (pow, atan2:
# 10^8 pairs), float64 over samples.
MAX_ULP: Final[dict[str, dict[str, float]]] = {name: {"f32": 2.0, "f64": 2.0} for name in FUNCTIONS}
