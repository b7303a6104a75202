"""What is known of a public function: `Record`; and the sample inputs that records are made of.

A record is data: documentation, tests and the fuzzer are generated from it. Samples are NumPy arrays; references are
NumPy (or SciPy, imported when called) functions of the same arguments.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from ..ir import DTYPES, DType

Array = np.ndarray[Any, Any]
Rng = np.random.Generator


@dataclass(frozen=True)
class Sample:
    """Arguments of one call; arrays are passed as tensors."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Bad:
    """A call that is refused when it is written, with the error and a part of its message."""

    args: tuple[Any, ...]
    error: type[Exception]
    message: str
    kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Kink:
    """A point where the derivative is a convention: the expected derivative of the sum of the result, per array."""

    args: tuple[Any, ...]
    expected: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)


Samples = Callable[[Rng, DType], Iterator[Sample]]


@dataclass(frozen=True)
class Record:
    """One public function.

    `name`: where it is in the namespace. `kinds`: the dtype kinds (b, i, u, f) its arrays may have; any other raises
    DTypeError. `result`: the rule of the result's dtype (see `RESULTS`). `samples`: values to compare with
    `reference`. `orders`: how many times it can be differentiated (0: the result has no derivative). `smooth`: float64
    points at which derivatives are compared with difference quotients. `linear`: in its arrays. `ulps`: tolerance in
    units of eps·(|value| + `scale`). `wide`: the reference is evaluated in float64 and rounded.
    """

    name: str
    family: str
    kinds: str
    samples: Samples
    reference: Callable[..., Any]
    result: str = "same"
    orders: int = 0
    smooth: Callable[[Rng], Iterator[Sample]] | None = None
    kinks: tuple[Kink, ...] = ()
    errors: tuple[Bad, ...] = ()
    linear: bool = False
    ulps: float = 4
    scale: float = 0
    wide: bool = True
    aliases: tuple[str, ...] = ()

    @property
    def function(self) -> Any:
        """The public function."""
        import tinyad

        found: Any = functools.reduce(getattr, self.name.split("."), tinyad)
        return found

    @property
    def dtypes(self) -> tuple[DType, ...]:
        """The dtypes its arrays may have."""
        return tuple(d for d in DTYPES.values() if d.kind in self.kinds)


RESULTS: Final[dict[str, Callable[[DType], DType]]] = {
    "same": lambda d: d,
    "float": lambda d: d if d.kind == "f" else DTYPES["f32"],
    "bool": lambda _: DTYPES["b1"],
    "int64": lambda _: DTYPES["i64"],
    "float32": lambda _: DTYPES["f32"],
    "integer": lambda d: DTYPES["i64"] if d.kind == "b" else d,
    "total": lambda d: d if d.kind == "f" else DTYPES["u64"] if d.kind == "u" else DTYPES["i64"],
    "number": lambda d: DTYPES["i8"] if d.kind == "b" else d,
}
"""The dtype of the result by the dtype of the arrays."""


# sample inputs ----------------------------------------------------------------------------------------------------
SHAPES: Final = ((), (0,), (1,), (7,), (3, 5), (2, 0, 3))
PAIRS: Final = (((), ()), ((7,), (7,)), ((3, 1), (1, 5)), ((5,), ()), ((0,), (1,)), ((2, 3, 4), (3, 1)))
SPECIAL: Final = (
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -0.5,
    2.0,
    -2.5,
    3.0,
    1.5,
    30.0,
    -30.0,
    700.0,
    -700.0,
    np.inf,
    -np.inf,
    np.nan,
)


def draw(rng: Rng, shape: Sequence[int], dtype: DType, low: float = -4.0, high: float = 4.0) -> Array:
    """Random elements in [low, high) of a dtype; of unsigned ones in [0, high)."""
    if dtype.kind == "b":
        return np.asarray(rng.integers(0, 2, shape)).astype(dtype)
    if dtype.kind in "iu":
        start = max(int(low), 0) if dtype.kind == "u" else int(low)
        return np.asarray(rng.integers(start, max(int(high), start + 1), shape)).astype(dtype)
    return np.asarray(rng.uniform(low, high, shape)).astype(dtype)


def special(dtype: DType) -> Array:
    """Kinks, signed zeros, infinities, NaN and the ends of a dtype."""
    if dtype.kind == "b":
        return np.array([False, True])
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return np.array([info.min, info.max, 0, 1, 2, 3], dtype)
    f = np.finfo(dtype)
    with np.errstate(over="ignore"):
        return np.array([*SPECIAL, f.tiny, -f.tiny, f.max, f.min, f.eps, f.smallest_subnormal], dtype)


def unary_samples(low: float = -4.0, high: float = 4.0, ends: bool = True) -> Samples:
    """Every shape, and the special values of floats (of integers too if `ends`)."""

    def samples(rng: Rng, dtype: DType) -> Iterator[Sample]:
        for shape in SHAPES:
            yield Sample((draw(rng, shape, dtype, low, high),))
        if dtype.kind == "f" or ends:
            yield Sample((special(dtype),))

    return samples


def binary_samples(low: float = -4.0, high: float = 4.0, ends: bool = True, nonzero: bool = False) -> Samples:
    """Every pair of shapes, and every pair of special values; `nonzero` keeps integers on the right from 0."""

    def samples(rng: Rng, dtype: DType) -> Iterator[Sample]:
        for left, right in PAIRS:
            b = draw(rng, right, dtype, low, high)
            if nonzero and dtype.kind in "biu":
                b = np.where(b == 0, np.ones((), dtype), b).astype(dtype)
            yield Sample((draw(rng, left, dtype, low, high), b))
        if dtype.kind == "f" or ends:
            s = special(dtype)
            yield Sample((s[:, None], s[None, :]))

    return samples


def fixed(*samples: Callable[[Rng, DType], Sample]) -> Samples:
    """The given samples."""
    return lambda rng, dtype: (make(rng, dtype) for make in samples)


def on(*shapes: Sequence[int], low: float = -4.0, high: float = 4.0, **kwargs: Any) -> Callable[[Rng, DType], Sample]:
    """One sample: a random array per shape and fixed keyword arguments."""
    return lambda rng, dtype: Sample(tuple(draw(rng, s, dtype, low, high) for s in shapes), kwargs)


def call(*args: Any, **kwargs: Any) -> Callable[[Rng, DType], Sample]:
    """One sample: an `Of` among the arguments is a random array, anything else is passed as it is."""
    return lambda rng, dtype: Sample(
        tuple(draw(rng, a.shape, dtype, a.low, a.high) if isinstance(a, Of) else a for a in args),
        {k: draw(rng, a.shape, dtype, a.low, a.high) if isinstance(a, Of) else a for k, a in kwargs.items()},
    )


class Of:
    """A random array of a shape, in the dtype of the sample, as an argument of `call`."""

    def __init__(self, *shape: int, low: float = -4.0, high: float = 4.0) -> None:
        self.shape = shape
        self.low = low
        self.high = high


def at(*makers: Callable[[Rng, DType], Sample]) -> Callable[[Rng], Iterator[Sample]]:
    """Float64 points for derivatives."""
    return lambda rng: (make(rng, DTYPES["f64"]) for make in makers)
