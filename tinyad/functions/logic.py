"""Comparisons, logic and operations on the bits of integers. None has a derivative."""

from __future__ import annotations

from .. import ir
from ..errors import ShapeError
from ..ir import BOOL, Node, Op
from .core import Operand, binary, broadcast_shape, node, result_type
from .elementwise import same_kind


# comparison -------------------------------------------------------------------------------------------------------
def _compare(op: Op, x1: Operand, x2: Operand) -> Node:
    """LT or EQ; a Python integer beyond the array's integer dtype is compared exactly, as NumPy does."""
    try:
        return binary(op, x1, x2)
    except OverflowError:
        below = x1 < 0 if isinstance(x1, int) else not (isinstance(x2, int) and x2 < 0)  # whether x1 < x2
        shape = x1.shape if isinstance(x1, Node) else x2.shape  # type: ignore[union-attr]
        return ir.const(op is Op.LT and below, BOOL, shape)


def _greater(x1: Operand, x2: Operand) -> Node:
    """x2 < x1; an error names the operands in the order they were written."""
    try:
        return _compare(Op.LT, x2, x1)
    except ShapeError:
        broadcast_shape(x1, x2)
        raise


def less(x1: Operand, x2: Operand) -> Node:
    """x1 < x2."""
    return _compare(Op.LT, x1, x2)


def greater(x1: Operand, x2: Operand) -> Node:
    """x1 > x2."""
    return _greater(x1, x2)


def less_equal(x1: Operand, x2: Operand) -> Node:
    """x1 <= x2."""
    if _kind_or_none(x1, x2) == "f":
        return ir.or_(_compare(Op.LT, x1, x2), _compare(Op.EQ, x1, x2))
    return ir.not_(_greater(x1, x2))


def greater_equal(x1: Operand, x2: Operand) -> Node:
    """x1 >= x2."""
    if _kind_or_none(x1, x2) == "f":
        return ir.or_(_greater(x1, x2), _compare(Op.EQ, x1, x2))
    return ir.not_(_compare(Op.LT, x1, x2))


def _kind_or_none(x1: Operand, x2: Operand) -> str | None:
    """The kind of the common dtype, None if a Python integer does not fit it."""
    try:
        return result_type(x1, x2).kind
    except OverflowError:
        return None


def equal(x1: Operand, x2: Operand) -> Node:
    """x1 == x2."""
    return _compare(Op.EQ, x1, x2)


def not_equal(x1: Operand, x2: Operand) -> Node:
    """x1 != x2."""
    return ir.not_(_compare(Op.EQ, x1, x2))


# logic and bits ---------------------------------------------------------------------------------------------------
def _truth(x: Operand) -> Node:
    return ir.cast(node(x), BOOL)


def logical_and(x1: Operand, x2: Operand) -> Node:
    """Whether both are true (not zero)."""
    return binary(Op.AND, _truth(x1), _truth(x2))


def logical_or(x1: Operand, x2: Operand) -> Node:
    """Whether either is true (not zero)."""
    return binary(Op.OR, _truth(x1), _truth(x2))


def logical_xor(x1: Operand, x2: Operand) -> Node:
    """Whether exactly one is true (not zero)."""
    return binary(Op.XOR, _truth(x1), _truth(x2))


def logical_not(x: Operand) -> Node:
    """Whether x is false (zero)."""
    return ir.not_(_truth(x))


def bitwise_and(x1: Operand, x2: Operand) -> Node:
    """The bits set in both; integers and bools."""
    return binary(Op.AND, x1, x2)


def bitwise_or(x1: Operand, x2: Operand) -> Node:
    """The bits set in either; integers and bools."""
    return binary(Op.OR, x1, x2)


def bitwise_xor(x1: Operand, x2: Operand) -> Node:
    """The bits set in exactly one; integers and bools."""
    return binary(Op.XOR, x1, x2)


def bitwise_invert(x: Operand) -> Node:
    """Every bit turned over; integers and bools."""
    return ir.not_(same_kind(x, "biu", "bitwise_invert"))


def bitwise_left_shift(x1: Operand, x2: Operand) -> Node:
    """x1 · 2^x2 without the bits that leave; 0 where x2 is negative or at least the width."""
    return binary(Op.SHL, x1, x2)


def bitwise_right_shift(x1: Operand, x2: Operand) -> Node:
    """floor(x1 / 2^x2); 0 (-1 for negative x1) where x2 is negative or at least the width."""
    return binary(Op.SHR, x1, x2)
