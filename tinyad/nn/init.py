"""Random initial values of parameters. Reproducible: all draw from one generator, which `seed` restarts.

`fan_in` and `fan_out` of a shape ``[out, in, *window]`` are in·|window| and out·|window|.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from ..dtypes import as_dtype
from ..tensor import Tensor

Generator = np.random.Generator


class _Default:
    """The generator used where none is given."""

    generator: Generator = np.random.default_rng(0)


_default: Final = _Default()


def seed(n: int) -> None:
    """Restarts the default generator."""
    _default.generator = np.random.default_rng(n)


def uniform(
    shape: Sequence[int], low: float = 0.0, high: float = 1.0, dtype: Any = float, rng: Generator | None = None
) -> Tensor:
    """A parameter with values uniform in [low, high)."""
    return _parameter((rng or _default.generator).uniform(low, high, tuple(shape)), dtype)


def normal(
    shape: Sequence[int], mean: float = 0.0, std: float = 1.0, dtype: Any = float, rng: Generator | None = None
) -> Tensor:
    """A parameter with normally distributed values."""
    return _parameter((rng or _default.generator).normal(mean, std, tuple(shape)), dtype)


def zeros(shape: Sequence[int], dtype: Any = float) -> Tensor:
    """A parameter of zeros."""
    return _parameter(np.zeros(tuple(shape)), dtype)


def ones(shape: Sequence[int], dtype: Any = float) -> Tensor:
    """A parameter of ones."""
    return _parameter(np.ones(tuple(shape)), dtype)


def kaiming_uniform(
    shape: Sequence[int], gain: float = math.sqrt(2.0), dtype: Any = float, rng: Generator | None = None
) -> Tensor:
    """Uniform with standard deviation gain / √fan_in, which keeps the variance through relu layers.

    Source: He, Zhang, Ren, Sun, Delving deep into rectifiers (2015), eq. 10.
    """
    bound = gain * math.sqrt(3.0 / fans(shape)[0])
    return uniform(shape, -bound, bound, dtype, rng)


def kaiming_normal(
    shape: Sequence[int], gain: float = math.sqrt(2.0), dtype: Any = float, rng: Generator | None = None
) -> Tensor:
    """Normal with standard deviation gain / √fan_in. Source: see `kaiming_uniform`."""
    return normal(shape, 0.0, gain / math.sqrt(fans(shape)[0]), dtype, rng)


def xavier_uniform(shape: Sequence[int], gain: float = 1.0, dtype: Any = float, rng: Generator | None = None) -> Tensor:
    """Uniform with standard deviation gain · √(2 / (fan_in + fan_out)).

    Source: Glorot, Bengio, Understanding the difficulty of training deep feedforward networks (2010), eq. 16.
    """
    bound = gain * math.sqrt(6.0 / sum(fans(shape)))
    return uniform(shape, -bound, bound, dtype, rng)


def xavier_normal(shape: Sequence[int], gain: float = 1.0, dtype: Any = float, rng: Generator | None = None) -> Tensor:
    """Normal with standard deviation gain · √(2 / (fan_in + fan_out)). Source: see `xavier_uniform`."""
    return normal(shape, 0.0, gain * math.sqrt(2.0 / sum(fans(shape))), dtype, rng)


def fans(shape: Sequence[int]) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight ``[out, in, *window]``; ValueError for fewer than two axes."""
    if len(shape) < 2:
        raise ValueError(f"init: fan_in and fan_out need a weight with at least 2 axes, got shape {tuple(shape)}")
    window = math.prod(shape[2:])
    return max(shape[1] * window, 1), max(shape[0] * window, 1)


def _parameter(values: Any, dtype: Any) -> Tensor:
    return Tensor(values, dtype=as_dtype(dtype), requires_grad=True)
