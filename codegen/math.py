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

# Largest errors in units in the last place, as measured and rounded up. float32 of one argument: every 37th of all
# 2^32 arguments, and all of the intervals where the error is largest, against double; pow and atan2: some 10^7 pairs.
# float64: some 10^7 points, among them neighbours of multiples of pi/2 and of 1, against extended precision; erf 10^5
# against mpmath.
MAX_ULP: Final[dict[str, dict[str, float]]] = {
    "exp": {"f32": 1.1, "f64": 1.0},
    "log": {"f32": 1.0, "f64": 0.9},
    "expm1": {"f32": 1.3, "f64": 1.5},
    "log1p": {"f32": 1.5, "f64": 1.5},
    "sin": {"f32": 1.8, "f64": 1.9},
    "cos": {"f32": 1.9, "f64": 1.9},
    "tanh": {"f32": 2.0, "f64": 2.0},
    "atan": {"f32": 1.4, "f64": 1.4},
    "erf": {"f32": 1.9, "f64": 1.6},
    "pow": {"f32": 0.6, "f64": 1.0},
    "atan2": {"f32": 1.7, "f64": 1.6},
}
