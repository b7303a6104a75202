"""Random numbers: counter-based, lazy, and the same for every plan.

The generator is Threefry-2x32 with 20 rounds: a bijection of 64-bit counters chosen by a 64-bit key, built from the
IR's 32-bit additions, rotations and exclusive ors. So a sample is an expression like any other: it is fused into what
reads it, computed again rather than stored where that is cheaper, and is the same lazily, under `jit`, and for any
plan or number of threads. Source: Salmon, Moraes, Dror, Shaw, Parallel Random Numbers: As Easy as 1, 2, 3 (SC'11).

The state of a generator is (key, counter). Element i of a draw reads block ``counter + i``, 64 random bits (float64
`normal` and `integers` of ranges above 2³² read two: ``counter + 2i`` and ``counter + 2i + 1``), and the draw advances
the counter by the number of blocks it read. `gamma` reads one block for the whole draw, `permutation` one for each
entry it sorts. A stream depends on nothing but the seed and the draws made so far.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np

from . import forks, ir, leaves
from .dtypes import as_dtype
from .errors import DTypeError
from .functions import core, elementwise, indexing
from .functions.movement import shape_of
from .ir import BOOL, DTYPES, FLOAT16, FLOAT32, FLOAT64, INT64, DType, HostFunction, Node, Shape
from .tensor import Tensor, lift

__all__ = ["Generator", "bernoulli", "choice", "default_rng", "exponential", "gamma", "integers", "normal",
           "permutation", "random", "seed", "standard_normal", "uniform"]  # fmt: skip

_I32: Final = DTYPES["i32"]
_U32: Final = DTYPES["u32"]
_U64: Final = DTYPES["u64"]
_ROTATIONS: Final = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY: Final = 0x1BD11BDA  # of the key schedule
_WORD: Final = 1 << 32

Size = Any  # int, sequence of ints, or None for one number


def threefry2x32(key: Sequence[Node], counter: Sequence[Node]) -> tuple[Node, Node]:
    """Threefry-2x32-20 of (two key words, two counter words): two words; all are uint32 nodes of one shape."""
    k0, k1 = key
    shape = k0.shape
    constants: dict[int, Node] = {}

    def constant(value: int) -> Node:
        if value not in constants:
            constants[value] = ir.const(value, _U32, shape)
        return constants[value]

    schedule = (k0, k1, ir.xor(ir.xor(k0, k1), constant(_PARITY)))
    x0, x1 = ir.add(counter[0], k0), ir.add(counter[1], k1)
    for group in range(5):
        for r in _ROTATIONS[group % 2]:
            x0 = ir.add(x0, x1)
            x1 = ir.xor(ir.or_(ir.shl(x1, constant(r)), ir.shr(x1, constant(32 - r))), x0)
        x0 = ir.add(x0, schedule[(group + 1) % 3])
        x1 = ir.add(x1, ir.add(schedule[(group + 2) % 3], constant(group + 1)))
    return x0, x1


class Recorder:
    """The generators that a function draws from while it is traced: their states become inputs of the trace."""

    def __init__(self) -> None:
        self.states: list[tuple["Generator", Node, int]] = []  # generator, its input, its counter when first drawn from

    def state(self, g: "Generator") -> tuple[Node, int]:
        """The input that stands for g's state, and the counter it stands for."""
        for other, n, start in self.states:
            if other is g:
                return n, start
        n = ir.input((2,), _U64)
        self.states.append((g, n, g.counter))
        return n, g.counter


class _Recording(threading.local):
    recorder: Recorder | None = None


_recording = _Recording()
_lock = threading.Lock()
forks.taken(_lock)


@contextmanager
def recording(recorder: Recorder) -> Iterator[Recorder]:
    """Draws inside read the states of generators from inputs that `recorder` makes."""
    before, _recording.recorder = _recording.recorder, recorder
    try:
        yield recorder
    finally:
        _recording.recorder = before


def advance(g: "Generator", blocks: int) -> tuple[int, int]:
    """g's state, (key, counter), before `blocks` blocks are taken from it."""
    with _lock:
        start = g.counter
        g.counter = (start + blocks) % (1 << 64)
    return g.key, start


class Generator:
    """A stream of random numbers with the method names and arguments of ``numpy.random.Generator``.

    `size` is an int, a sequence of ints, or None: then the shape is that of the parameters. Floats are float32 unless
    `dtype` says otherwise. Every method returns a lazy tensor; derivatives pass to parameters such as `loc` and
    `scale`, not through the choice of the random bits.
    """

    __slots__ = ("__weakref__", "_sequence", "counter", "key")

    key: int  # 64 bits
    counter: int  # the next block, modulo 2^64

    def __init__(self, seed: Any = None) -> None:
        self.reset(seed)

    def reset(self, seed: Any = None) -> None:
        """Starts again from `seed`: an int, a sequence of ints, a ``numpy.random.SeedSequence``, or None (entropy of
        the system)."""
        self._sequence = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
        self.key = int(self._sequence.generate_state(1, np.uint64)[0])
        self.counter = 0

    def __repr__(self) -> str:
        return f"<Generator key={self.key:#018x} counter={self.counter}>"

    def spawn(self, n_children: int) -> list["Generator"]:
        """New generators with streams of their own; calls give other children each time, the same after a reset."""
        return [Generator(s) for s in self._sequence.spawn(n_children)]

    # bits ---------------------------------------------------------------------------------------------------------
    def _state(self, blocks: int) -> Node:
        """The state to draw `blocks` from, uint64 [key, counter]; advances the counter."""
        with _lock:
            recorder = _recording.recorder
            if recorder is None:
                n = leaves.stored(np.array([self.key, self.counter], np.uint64))
            else:
                n, start = recorder.state(self)
                if self.counter != start:
                    n = ir.add(n, ir.pad(ir.const(self.counter - start, _U64, (1,)), [(1, 0, 0)]))
            self.counter = (self.counter + blocks) % (1 << 64)
        return n

    def _words(self, shape: Shape, times: int = 1) -> list[tuple[Node, Node]]:
        """`times` blocks for each element of `shape`: pairs of uint32 nodes of that shape."""
        size = math.prod(shape)
        state = self._state(size * times)
        key, start = (ir.expand(ir.shrink(state, [(i, i + 1, 1)]), (size,)) for i in (0, 1))
        keys = _halves(key)
        out = []
        at = ir.iota(size, _U64)
        if times > 1:
            at = ir.mul(at, core.like(times, at))
        for t in range(times):
            block = ir.add(start, at if t == 0 else ir.add(at, core.like(t, at)))
            pair = threefry2x32(keys, _halves(block))
            out.append((ir.reshape(pair[0], shape), ir.reshape(pair[1], shape)))
        return out

    def _unit(self, shape: Shape, dtype: DType) -> Node:
        """Uniform multiples of 2^-11, 2^-24 or 2^-53 (the precision of `dtype`) in [0, 1)."""
        ((a, b),) = self._words(shape)
        if dtype is FLOAT64:
            bits = _joined(a, b)
            return ir.mul(ir.cast(ir.shr(bits, core.like(11, bits)), dtype), ir.const(2.0**-53, dtype, shape))
        digits = 11 if dtype is FLOAT16 else 24
        whole = ir.cast(ir.bitcast(ir.shr(a, core.like(32 - digits, a)), _I32), dtype)
        return ir.mul(whole, ir.const(2.0**-digits, dtype, shape))

    def _normal(self, shape: Shape, dtype: DType) -> Node:
        """√(-2 log u) · sin(π v), u in (0, 1), v in (-½, ½), each of all the bits it is made from.

        Source: Box, Muller, A note on the generation of random normal deviates (1958); sin(π v) is distributed on the
        half circle as on the whole. The tails end at 6.8 (float64: 9.5) standard deviations.
        """
        if dtype is FLOAT64:
            (a, b), (c, d) = self._words(shape, 2)
            u, v, work, bits = _joined(a, b), ir.bitcast(_joined(c, d), INT64), FLOAT64, 64
        else:
            ((u, c),) = self._words(shape)
            v, work, bits = ir.bitcast(c, _I32), FLOAT32, 32
        half, unit = ir.const(0.5, work, shape), ir.const(2.0**-bits, work, shape)
        log = ir.log(ir.mul(ir.add(ir.cast(u, work), half), unit))
        radius = ir.sqrt(ir.mul(ir.const(-2.0, work, shape), log))
        angle = ir.mul(ir.add(ir.cast(v, work), half), ir.const(math.pi * 2.0**-bits, work, shape))
        return ir.cast(ir.mul(radius, ir.sin(angle)), dtype)

    def _exponential(self, shape: Shape, dtype: DType) -> Node:
        """-log u, u in (0, 1) given by its distance from the nearer end: small values are as exact as large ones."""
        ((a, b),) = self._words(shape)
        work = FLOAT64 if dtype is FLOAT64 else FLOAT32
        u, bits = (_joined(a, b), 64) if work is FLOAT64 else (a, 32)
        near = ir.lt(u, core.like(1 << (bits - 1), u))
        distance = ir.cast(ir.where(near, u, ir.not_(u)), work)
        d = ir.mul(ir.add(distance, core.like(0.5, distance)), core.like(2.0**-bits, distance))
        return ir.cast(ir.neg(ir.where(near, ir.log(d), ir.log1p(ir.neg(d)))), dtype)

    # floats -------------------------------------------------------------------------------------------------------
    def random(self, size: Size = None, dtype: Any = float) -> Tensor:
        """Uniform in [0, 1): multiples of 2⁻²⁴ (float32), 2⁻⁵³ (float64) or 2⁻¹¹ (float16)."""
        return Tensor._of(self._unit(_shape(size), _floating(dtype)))

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Size = None, dtype: Any = float) -> Tensor:
        """``low + (high - low)·random()``; both may be arrays. Rounding may give `high` itself, as in NumPy."""
        d = _floating(dtype)
        a, b = lift(low), lift(high)
        unit = self._unit(_shape(size, a, b), d)
        if isinstance(a, Node) or isinstance(b, Node):
            return _scaled(unit, core.node(elementwise.subtract(b, a), d), a)
        return _scaled(unit, b - a, a)

    def standard_normal(self, size: Size = None, dtype: Any = float) -> Tensor:
        """The normal distribution with mean 0 and variance 1."""
        return Tensor._of(self._normal(_shape(size), _floating(dtype)))

    def normal(self, loc: Any = 0.0, scale: Any = 1.0, size: Size = None, dtype: Any = float) -> Tensor:
        """``loc + scale·standard_normal()``; both may be arrays. Raises ValueError for a negative number as `scale`."""
        mean, deviation = lift(loc), _positive(lift(scale), "scale")
        return _scaled(self._normal(_shape(size, mean, deviation), _floating(dtype)), deviation, mean)

    def exponential(self, scale: Any = 1.0, size: Size = None, dtype: Any = float) -> Tensor:
        """The exponential distribution with mean `scale`, a number or array."""
        mean = _positive(lift(scale), "scale")
        return _scaled(self._exponential(_shape(size, mean), _floating(dtype)), mean, 0)

    def gamma(self, shape: Any, scale: Any = 1.0, size: Size = None, dtype: Any = float) -> Tensor:
        """The gamma distribution with parameter `shape` (number or array) and `scale`; no derivative to `shape`.

        Computed on the host by NumPy's method of rejection, in float64, from a stream of its own that this
        generator's key and next block choose. Raises ValueError for a negative number as parameter.
        """
        d = _floating(dtype)
        a, s = _positive(lift(shape), "shape"), _positive(lift(scale), "scale")
        target = _shape(size, a, s)
        parameter = ir.detach(core.broadcast_to(a, target, FLOAT64))
        return _scaled(ir.cast(ir.call(GAMMA, parameter, self._state(1)), d), s, 0)

    # discrete -----------------------------------------------------------------------------------------------------
    def bernoulli(self, p: Any = 0.5, size: Size = None) -> Tensor:
        """True with probability `p`, a number or array (rounded to a multiple of 2⁻²⁴)."""
        q = lift(p)
        if not isinstance(q, Node) and not 0 <= q <= 1:
            raise ValueError(f"p must be a probability, got {q}")
        shape = _shape(size, q)
        return Tensor._of(ir.lt(self._unit(shape, FLOAT32), core.broadcast_to(q, shape, FLOAT32)))

    def integers(
        self, low: Any, high: Any = None, size: Size = None, dtype: Any = np.int64, endpoint: bool = False
    ) -> Tensor:
        """Integers in [low, high), with `endpoint` in [low, high]; of one argument in [0, low).

        Both may be arrays, whose values are read now.

        An integer is ⌊u·range⌋ for a uniform u of 64 bits (ranges above 2³²: 128), so that no probability is off by
        more than 2⁻⁶⁴. Source: Lemire, Fast random integer generation in an interval (2019), without rejection.

        Raises ValueError for an empty range, or one beyond `dtype`.
        """
        d = as_dtype(dtype)
        if d.kind not in "iub":
            raise DTypeError(f"integers: expected an integer dtype, got {d.name}")
        first, last = (0, low) if high is None else (low, high)
        lows, highs = (np.asarray(v).astype(object) for v in (first, last))
        highs = np.asarray(highs + int(endpoint), object)
        limits = (0, 1) if d is BOOL else (np.iinfo(d).min, np.iinfo(d).max)
        if np.any(lows >= highs):
            raise ValueError("low >= high" if not endpoint else "low > high")
        if np.any(lows < limits[0]) or np.any(highs > limits[1] + 1):
            raise ValueError(f"low or high is out of bounds for {d.name}")
        ranges = np.asarray(highs - lows, object)
        shape = np.broadcast_shapes(lows.shape, highs.shape) if size is None else shape_of(size)
        widest = int(np.max(ranges, initial=1))
        base = _spread(lows & ((1 << 64) - 1), shape)
        value = base
        if widest == 1 << 64:  # of all integers, any bits will do
            ((a, b),) = self._words(shape)
            value = ir.add(base, _joined(a, b))
        elif widest <= _WORD:
            ((a, b),) = self._words(shape)
            value = ir.add(base, _scaled_word(a, b, _spread(ranges, shape)))
        else:
            (a, b), (c, e) = self._words(shape, 2)
            value = ir.add(base, _scaled_long(_joined(a, b), _joined(c, e), _spread(ranges, shape)))
        signed = ir.bitcast(value, INT64) if d.kind == "i" else value
        return Tensor._of(ir.cast(signed, d))

    def permutation(self, x: Any, axis: int = 0) -> Tensor:
        """The integers below `x` in random order, or the array `x` with its entries along `axis` reordered."""
        if isinstance(x, (int, np.integer)):
            return Tensor._of(self._order(int(x)))
        n = core.node(lift(x))
        i = core.axis_index(axis, len(n.shape))
        return Tensor._of(indexing.take(n, self._order(n.shape[i]), i))

    def _order(self, n: int) -> Node:
        """The integers below n in random order: those that sort n random words of 64 bits."""
        ((a, b),) = self._words((n,))
        return indexing.argsort(_joined(a, b))

    def choice(self, a: Any, size: Size = None, replace: bool = True, p: Any = None, axis: int = 0) -> Tensor:
        """Entries of `a` (of an int: of the integers below it) along `axis`, with probabilities `p` if given.

        Without replacement, the first of a random order; with `p` that of exponential variables over p, which is the
        order of successive draws. Source: Efraimidis, Spirakis, Weighted random sampling with a reservoir (2006).

        Raises ValueError if there are not enough entries, or `p` is not a distribution over them.
        """
        entries = None if isinstance(a, (int, np.integer)) else core.node(lift(a))
        i = 0 if entries is None else core.axis_index(axis, len(entries.shape))
        n = int(a) if entries is None else entries.shape[i]
        shape = _shape(size)
        count = math.prod(shape)
        if n <= 0 and count:
            raise ValueError("a cannot be empty unless no samples are taken")
        if not replace and count > n:
            raise ValueError("Cannot take a larger sample than population when replace is False")
        weights = None if p is None else _distribution(p, n)
        if weights is None and replace:
            places = self.integers(0, max(n, 1), shape).node
        elif weights is None:
            places = _first(self._order(n), shape)
        elif replace:
            total = np.cumsum(weights)
            bounds = leaves.stored(total / total[-1])
            places = indexing.searchsorted(bounds, self._unit(shape, FLOAT64), side="right")
        else:
            if np.count_nonzero(weights) < count:
                raise ValueError("Fewer non-zero entries in p than size")
            keys = ir.div(self._exponential((n,), FLOAT64), leaves.stored(weights))
            places = _first(indexing.argsort(keys), shape)
        return Tensor._of(places if entries is None else indexing.take(entries, places, i))


# helpers --------------------------------------------------------------------------------------------------------
def _halves(n: Node) -> tuple[Node, Node]:
    """The low and high words of uint64."""
    return ir.cast(n, _U32), ir.cast(ir.shr(n, core.like(32, n)), _U32)


def _joined(high: Node, low: Node) -> Node:
    """The uint64 of two words."""
    h = ir.cast(high, _U64)
    return ir.or_(ir.shl(h, core.like(32, h)), ir.cast(low, _U64))


def _scaled_word(high: Node, low: Node, r: Node) -> Node:
    """⌊x·r / 2⁶⁴⌋ for x of two words and r ≤ 2³²."""
    word = core.like(32, r)
    carry = ir.shr(ir.mul(ir.cast(low, _U64), r), word)
    return ir.shr(ir.add(ir.mul(ir.cast(high, _U64), r), carry), word)


def _high_product(x: Node, y: Node) -> Node:
    """⌊x·y / 2⁶⁴⌋ for uint64."""
    word, mask = core.like(32, x), core.like(_WORD - 1, x)
    x0, x1, y0, y1 = ir.and_(x, mask), ir.shr(x, word), ir.and_(y, mask), ir.shr(y, word)
    middle = ir.add(ir.mul(x1, y0), ir.shr(ir.mul(x0, y0), word))
    other = ir.add(ir.mul(x0, y1), ir.and_(middle, mask))
    return ir.add(ir.add(ir.mul(x1, y1), ir.shr(middle, word)), ir.shr(other, word))


def _scaled_long(high: Node, low: Node, r: Node) -> Node:
    """⌊x·r / 2¹²⁸⌋ for x of two uint64."""
    carried = _high_product(low, r)
    total = ir.add(ir.mul(high, r), carried)
    return ir.add(_high_product(high, r), ir.cast(ir.lt(total, carried), _U64))


def _spread(values: Any, shape: Shape) -> Node:
    """Python integers modulo 2⁶⁴ as a stored uint64 array, broadcast to `shape`; stored, so that other values are the
    same graph."""
    return core.broadcast_to(leaves.stored(np.asarray(values).astype(np.uint64)), shape)


def _shape(size: Size, *parameters: Any) -> Shape:
    """The shape of a sample: `size`, which the parameters broadcast to, or their common shape."""
    common = core.broadcast_shape(*parameters)
    if size is None:
        return common
    shape: Shape = shape_of(size)
    if any(n < 0 for n in shape):
        raise ValueError("negative dimensions are not allowed")
    if len(common) > len(shape) or any(m not in (1, n) for m, n in zip(common[::-1], shape[::-1], strict=False)):
        raise ValueError(f"Output size {shape} is not compatible with broadcast dimensions of inputs {common}.")
    return shape


def _floating(dtype: Any) -> DType:
    d = as_dtype(dtype)
    if d.kind != "f":
        raise DTypeError(f"expected a floating dtype, got {d.name}")
    return d


def _positive(x: Any, name: str) -> Any:
    """`x`; ValueError if it is a negative number."""
    if not isinstance(x, Node) and x < 0:
        raise ValueError(f"{name} < 0")
    return x


def _scaled(unit: Node, factor: Any, offset: Any) -> Tensor:
    """``offset + factor·unit`` in unit's dtype; numbers 1 and 0 are left out."""
    if isinstance(factor, Node) or factor != 1:
        unit = ir.mul(unit, core.broadcast_to(factor, unit.shape, unit.dtype))
    if isinstance(offset, Node) or offset != 0:
        unit = ir.add(unit, core.broadcast_to(offset, unit.shape, unit.dtype))
    return Tensor._of(unit)


def _distribution(p: Any, n: int) -> np.ndarray[Any, Any]:
    weights: np.ndarray[Any, Any] = np.asarray(p, np.float64)
    if weights.shape != (n,):
        raise ValueError("'a' and 'p' must have same size")
    if not np.all(weights >= 0):
        raise ValueError("Probabilities are not non-negative")
    if abs(float(weights.sum()) - 1.0) > 1e-6:
        raise ValueError("Probabilities do not sum to 1.")
    return weights


def _first(order: Node, shape: Shape) -> Node:
    return ir.reshape(ir.shrink(order, [(0, math.prod(shape), 1)]), shape)


def _gamma_host(shape: np.ndarray[Any, Any], state: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    bits = np.random.Philox(key=state)
    return np.asarray(np.random.Generator(bits).standard_gamma(shape))


GAMMA: Final = HostFunction("standard_gamma", _gamma_host, lambda shape, _: shape, FLOAT64)


# the default generator ------------------------------------------------------------------------------------------
_default: Final = Generator(0)


def default_rng(seed: Any = None) -> Generator:
    """A generator seeded with `seed` (see `Generator.reset`); a Generator is returned as it is."""
    return seed if isinstance(seed, Generator) else Generator(seed)


def seed(n: Any = None) -> None:
    """Restarts the default generator, which the functions of this module draw from; it begins as ``seed(0)``."""
    _default.reset(n)


def random(shape: Size = None, dtype: Any = float) -> Tensor:
    """Uniform in [0, 1), from the default generator."""
    return _default.random(shape, dtype)


def uniform(shape: Size = None, low: Any = 0.0, high: Any = 1.0, dtype: Any = float) -> Tensor:
    """Uniform in [low, high), from the default generator."""
    return _default.uniform(low, high, shape, dtype)


def standard_normal(shape: Size = None, dtype: Any = float) -> Tensor:
    """Mean 0 and variance 1, from the default generator."""
    return _default.standard_normal(shape, dtype)


def normal(shape: Size = None, loc: Any = 0.0, scale: Any = 1.0, dtype: Any = float) -> Tensor:
    """Normal with mean `loc` and standard deviation `scale`, from the default generator."""
    return _default.normal(loc, scale, shape, dtype)


def exponential(shape: Size = None, scale: Any = 1.0, dtype: Any = float) -> Tensor:
    """Exponential with mean `scale`, from the default generator."""
    return _default.exponential(scale, shape, dtype)


def gamma(shape: Size, a: Any, scale: Any = 1.0, dtype: Any = float) -> Tensor:
    """Gamma with parameter `a`, from the default generator."""
    return _default.gamma(a, scale, shape, dtype)


def bernoulli(shape: Size = None, p: Any = 0.5) -> Tensor:
    """True with probability `p`, from the default generator."""
    return _default.bernoulli(p, shape)


def integers(low: Any, high: Any = None, size: Size = None, dtype: Any = np.int64, endpoint: bool = False) -> Tensor:
    """Integers in [low, high), from the default generator; arguments as `Generator.integers`."""
    return _default.integers(low, high, size, dtype, endpoint)


def permutation(x: Any, axis: int = 0) -> Tensor:
    """A random order of an array or of the integers below `x`, from the default generator."""
    return _default.permutation(x, axis)


def choice(a: Any, size: Size = None, replace: bool = True, p: Any = None, axis: int = 0) -> Tensor:
    """Entries of `a`, from the default generator; arguments as `Generator.choice`."""
    return _default.choice(a, size, replace, p, axis)
