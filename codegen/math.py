"""Elementary functions as vector code: the table of them, and how exact each is.

Every function takes and gives float32 or float64 in any number of lanes, is the same on every target (one order of
operations, explicit FMA, see `codegen.soft` where hardware has none), calls no library, and has IEEE/NumPy's special
values, signed zeros and denormals.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from .builder import Val
from .math_exp import cosh, erf, erfc, exp, expm1, sinh, tanh
from .math_gamma import lgamma
from .math_log import log, log1p, log2, pow
from .math_root import cbrt
from .math_trig import acos, asin, atan, atan2, cos, sin, tan

FUNCTIONS: Final[dict[str, Callable[..., Val]]] = {
    "exp": exp,
    "expm1": expm1,
    "log": log,
    "log2": log2,
    "log1p": log1p,
    "sin": sin,
    "cos": cos,
    "tan": tan,
    "sinh": sinh,
    "cosh": cosh,
    "tanh": tanh,
    "asin": asin,
    "acos": acos,
    "atan": atan,
    "erf": erf,
    "erfc": erfc,
    "cbrt": cbrt,
    "lgamma": lgamma,
    "pow": pow,
    "atan2": atan2,
}

# Largest errors in units in the last place, rounded up. float32 of one argument: over all 2^32 arguments, against
# float64 (tests/benchmarks/accuracy.py); pow and atan2: some 10^7 pairs. float64: some 10^5 points against mpmath,
# among them neighbours of multiples of pi/2 and of 1, the ends of ranges and denormals. lgamma in float64 holds for
# x > 0; for x < 0 it is a difference of logarithms, and exact to as many units of the larger.
MAX_ULP: Final[dict[str, dict[str, float]]] = {
    "exp": {"f32": 1.2, "f64": 1.1},
    "log": {"f32": 1.0, "f64": 0.9},
    "log2": {"f32": 1.2, "f64": 1.0},
    "expm1": {"f32": 1.3, "f64": 1.5},
    "log1p": {"f32": 1.5, "f64": 1.5},
    "sin": {"f32": 1.8, "f64": 1.9},
    "cos": {"f32": 1.9, "f64": 1.9},
    "tan": {"f32": 1.4, "f64": 1.4},
    "sinh": {"f32": 1.5, "f64": 1.8},
    "cosh": {"f32": 1.3, "f64": 1.6},
    "tanh": {"f32": 2.0, "f64": 2.0},
    "asin": {"f32": 1.2, "f64": 1.3},
    "acos": {"f32": 1.2, "f64": 1.2},
    "atan": {"f32": 1.4, "f64": 1.4},
    "erf": {"f32": 1.9, "f64": 1.6},
    "erfc": {"f32": 1.7, "f64": 1.8},
    "cbrt": {"f32": 0.6, "f64": 0.6},
    "lgamma": {"f32": 0.6, "f64": 7.0},
    "pow": {"f32": 0.6, "f64": 1.0},
    "atan2": {"f32": 1.7, "f64": 1.6},
}
