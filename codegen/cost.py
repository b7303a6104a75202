"""What a kernel costs, counted on its loop IR."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .analysis import Dependence, added, statements
from .index import Var
from .loops import Advance, Apply, Buffer, Contract, Kernel, Load, Loop, Reduce, Stmt, Store, Update
from .math import FUNCTIONS


def operations(kernel: Kernel, function: int = 1, products: float = 2) -> int:
    """Arithmetic operations of one run: each `Apply`, accumulation and update once per iteration, an elementary
    function as `function`, a step of a contraction as `products`."""
    return _count(kernel.body, function, products)


def touched(kernel: Kernel) -> dict[Buffer, int]:
    """How many elements of each buffer one run touches, at most: as many as there are values of each index."""
    dependence = Dependence(kernel.body)
    places = {(s.buffer, s.index) for s in statements(kernel.body) if isinstance(s, (Load, Store, Update))}
    out = dict.fromkeys(kernel.buffers, 0)
    for buffer, e in places:
        if buffer in out:
            out[buffer] = min(out[buffer] + _size(tuple(dependence.index(e))), buffer.size)
    return out


def _count(body: Sequence[Stmt], function: int, products: float) -> int:
    total = 0
    for s in body:
        match s:
            case Apply():
                total += function if s.op in FUNCTIONS else 1
            case Update():
                total += len(added(s))
            case Advance():
                total += len(s.args)
            case Loop():
                total += s.var.extent * _count(s.body, function, products)
            case Reduce():
                each = _count(s.body, function, products) + sum(len(added(a)) for a in s.accumulators)
                total += _size(s.vars) * each
            case Contract():
                m, n, k = _size(s.m), _size(s.n), _size(s.k)
                a, b, last = (_count(body, function, products) for body in (s.a_body, s.b_body, s.epilogue))
                total += round(products * m * n * k) + m * k * a + k * n * b + m * n * last
            case _:
                pass
    return total


def _size(variables: Sequence[Var]) -> int:
    return math.prod(v.extent for v in variables)


def turns(s: Stmt) -> int:
    """How many statements without a body of their own one run of `s` executes."""
    match s:
        case Loop():
            return s.var.extent * sum(map(turns, s.body))
        case Reduce():
            return _size(s.vars) * sum(map(turns, s.body))
        case Contract():
            return _size(s.m) * _size(s.n) * _size(s.k)
        case _:
            return 1
