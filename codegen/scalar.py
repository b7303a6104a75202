"""Scalar types and scalar operations: named once, used by the IR above and by the emitter below.

May import nothing of this project and nothing heavy. The IEEE and integer meaning of each operation
stands beside its name; whoever evaluates an operation (interpreter or machine code) follows it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Type:
    """A scalar type: ``kind`` is one of ``b`` (bool), ``i``, ``u``, ``f``; ``bits`` is its storage width."""

    name: str
    kind: str
    bits: int

    @property
    def bytes(self) -> int:
        """Storage size in bytes (a bool takes one)."""
        return max(self.bits, 8) // 8

    def __repr__(self) -> str:
        return self.name


B1: Final = Type("b1", "b", 1)
I8, I16, I32, I64 = (Type(f"i{n}", "i", n) for n in (8, 16, 32, 64))
U8, U16, U32, U64 = (Type(f"u{n}", "u", n) for n in (8, 16, 32, 64))
F16, F32, F64 = (Type(f"f{n}", "f", n) for n in (16, 32, 64))

TYPES: Final = {t.name: t for t in (B1, I8, I16, I32, I64, U8, U16, U32, U64, F16, F32, F64)}

ELEMENTARY: Final[dict[str, str]] = {  # functions of one float, with their meaning
    "exp": "e^x",
    "log": "natural logarithm; log(0) = -inf, log(x < 0) = nan",
    "expm1": "e^x - 1",
    "log1p": "log(1 + x)",
    "log2": "logarithm to base 2",
    "cbrt": "cube root",
    "sin": "sine, any argument",
    "cos": "cosine, any argument",
    "tan": "tangent, any argument",
    "sinh": "hyperbolic sine",
    "cosh": "hyperbolic cosine",
    "tanh": "hyperbolic tangent",
    "asin": "arc sine",
    "acos": "arc cosine",
    "atan": "arc tangent",
    "erf": "error function",
    "erfc": "1 - erf x with all its digits",
    "lgamma": "log |gamma(x)|",
}

# name -> (number of operands, meaning). `T` is the operands' common type unless said otherwise.
OPS: Final[dict[str, tuple[int, str]]] = {
    "neg": (1, "-x; integers wrap"),
    "abs": (1, "|x|; the smallest signed integer stays itself"),
    "sqrt": (1, "correctly rounded square root; sqrt(-0) = -0"),
    **{name: (1, meaning) for name, meaning in ELEMENTARY.items()},
    "floor": (1, "largest integral value <= x"),
    "ceil": (1, "smallest integral value >= x"),
    "trunc": (1, "towards zero"),
    "round": (1, "to nearest, half to even"),
    "not": (1, "bitwise complement; logical for bool"),
    "cast": (1, "value conversion: float to int truncates, saturates, nan -> 0; int to int wraps; to bool: != 0"),
    "bitcast": (1, "same bits, other type of the same width"),
    "add": (2, "x + y; integers wrap; bool: or"),
    "sub": (2, "x - y; integers wrap"),
    "mul": (2, "x * y; integers wrap; bool: and"),
    "div": (2, "x / y, floats only, IEEE"),
    "idiv": (2, "floor(x / y); integer x // 0 = 0, MIN // -1 wraps to MIN; floats as Python's //"),
    "mod": (2, "x - floor(x / y) * y exactly, sign of y; integer x % 0 = 0"),
    "pow": (2, "x ** y; integers wrap, a negative exponent gives 0 unless x is 1 or -1"),
    "max": (2, "the larger; nan if either is nan; -0 < +0"),
    "min": (2, "the smaller; nan if either is nan; -0 < +0"),
    "atan2": (2, "angle of the point (y, x), first operand y"),
    "lt": (2, "x < y, gives bool; false with nan"),
    "eq": (2, "x == y, gives bool; false with nan"),
    "and": (2, "bitwise, integers and bool"),
    "or": (2, "bitwise, integers and bool"),
    "xor": (2, "bitwise, integers and bool"),
    "shl": (2, "x << y; 0 where y >= width or y < 0"),
    "shr": (2, "x >> y, arithmetic for signed; where y >= width or y < 0: 0, or -1 for a negative x"),
    "muladd": (3, "x * y + z of floats, rounded once where there is an instruction for it, else twice"),
    "where": (3, "second operand where the first (bool) is true, else the third"),
}
