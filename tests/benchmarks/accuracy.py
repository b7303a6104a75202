"""The error of float32 functions over all 2^32 arguments: ``python tests/benchmarks/accuracy.py [function ...]``.

Each function is computed in float32 and again in float64 (whose own errors, against mpmath, are the business of
`tests/codegen/test_math.py`), and the two are compared in the same kernel: a chunk of arguments is read, one number is
written. A function takes 10 to 60 seconds.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from tinyad import ir
from tinyad.buffer import copy
from tinyad.functions import activations, elementwise
from tinyad.ir import FLOAT32, FLOAT64, INT64, Node
from tinyad.realize import realize

CHUNK: Final = 1 << 22
COMPOSED: Final = {  # functions composed of primitives, and their largest errors, rounded up
    "exp2": 0.6,
    "log10": 2.1,
    "asinh": 1.9,
    "acosh": 3.2,
    "atanh": 2.2,
    "rsqrt": 1.5,
    "reciprocal": 0.6,
    "sigmoid": 3.0,
    "softplus": 2.2,
}


def errors(function: Callable[[Node], Node], x: Node) -> Node:
    """|float32 - float64 result| in units in the last place of the latter, in float64.

    Infinite: where one is NaN, or where the signs differ. Infinity counts as 2^128.
    """

    def number(value: float) -> Node:
        return ir.const(value, FLOAT64, x.shape)

    def bits(n: Node) -> Node:
        return ir.bitcast(n, INT64)

    def at_most(n: Node) -> Node:
        top = number(2.0**128)
        n = ir.where(ir.lt(top, n), top, n)
        return ir.where(ir.lt(n, ir.neg(top)), ir.neg(top), n)

    narrow = function(x)
    got, want = ir.cast(narrow, FLOAT64), function(ir.cast(x, FLOAT64))
    got_nan, want_nan = (ir.not_(ir.eq(n, n)) for n in (got, want))
    signs = ir.lt(ir.xor(bits(got), bits(want)), ir.const(0, INT64, x.shape))
    exponent = ir.bitcast(ir.and_(bits(want), ir.const(0x7FF << 52, INT64, x.shape)), FLOAT64)
    normal = ir.where(ir.lt(exponent, number(2.0**-126)), number(2.0**-126), exponent)
    unit = ir.mul(ir.where(ir.lt(number(2.0**127), normal), number(2.0**127), normal), number(2.0**-23))
    error = ir.div(ir.abs_(ir.sub(at_most(got), at_most(want))), unit)
    wrong = ir.or_(ir.xor(got_nan, want_nan), ir.and_(signs, ir.not_(got_nan)))
    return ir.where(wrong, number(np.inf), ir.where(ir.and_(got_nan, want_nan), number(0.0), error))


def arguments(first: int, step: int = 1, count: int = CHUNK) -> Node:
    """The float32 numbers with the bits first, first + step, ..."""
    bits = np.arange(first, first + count * step, step, dtype=np.uint64).astype(np.uint32)
    return ir.buffer(bits.shape, FLOAT32, copy(bits.view(np.float32)))


def largest(name: str, firsts: Sequence[int], step: int = 1, count: int = CHUNK) -> tuple[float, float]:
    """The largest error over chunks of arguments, and an argument that has it."""
    function = getattr(elementwise, name, None) or getattr(activations, name)
    worst, where = -1.0, 0
    for first in firsts:
        error = ir.reduce(ir.Op.REDUCE_MAX, errors(function, arguments(first, step, count)), (0,))
        realize([error])
        found = float(error.buffer.array.ravel()[0])
        if found > worst:
            worst, where = found, first
    x = arguments(where, step, count)
    each = errors(function, x)
    realize([each])
    return worst, float(x.buffer.array[int(np.argmax(each.buffer.array))])


def main() -> None:
    from codegen.scalar import ELEMENTARY

    for name in sys.argv[1:] or (*ELEMENTARY, *COMPOSED):
        worst, where = largest(name, range(0, 1 << 32, CHUNK))
        print(f"{name:12} {worst:.4f} ulp at {where!r}", flush=True)


if __name__ == "__main__":
    main()
