"""Which loop becomes a vector, and how wide."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache

from .analysis import Dependence, dominating_bytes, indices, statements
from .index import Div, Index, Masked, Mod, Var, unmask
from .loops import Apply, Buffer, Const, Contract, Load, Loop, Reduce, Stmt, Store, Update
from .math import FUNCTIONS
from .scalar import F32, F64
from .target import Target

JUMP = 4  # elements apart from which lanes lie far from each other
LATENCY_VECTORS = 4  # vectors in flight where each step waits for the one before (scans, column sums)
CHAIN = 32  # operations from which a chain is too long for the hardware to overlap iterations well
DEEP = 40  # instructions from which it overlaps less than two of them, functions written out,
MANY_REGISTERS = 32  # which takes so many registers
SHORT = frozenset(("add", "sub", "mul", "muladd", "div", "neg", "abs", "sqrt", "max", "min"))  # without temporaries
OUTLINED = 8  # places of a body from which an elementary function is called: its code is most of what LLVM works on
FUNCTION = 25  # instructions of an elementary function
REGISTER_VALUES = 48  # values that vectors in flight may have in registers or close by: larger bodies get fewer


def round_up_to_power(n: int) -> int:
    return 1 << max(n - 1, 0).bit_length()


@lru_cache(64)
def lanes_for(loop: Loop, target: Target) -> int:
    """How many consecutive values of the loop variable one vector holds; 1 where it cannot be a vector.

    The body must be what is independent from lane to lane: straight-line code, column reductions, scans, and loops
    that walk memory along this variable. A row reduction inside, a vector itself, leaves this one scalar.
    """
    var = loop.var
    if loop.carries or var.extent < 2 or not _lanewise(loop.body, var, Dependence(loop.body), top=True):
        return 1
    lanes = max(target.vector_bytes // dominating_bytes(loop.body), 1)
    squares = any(crosses(x, var, r.vars[-1]) for r in loop.body if isinstance(r, Reduce) for x in r.body)
    if any(isinstance(s, (Reduce, Loop)) for s in loop.body) and not squares:
        size = sum(1 for _ in statements(loop.body))
        lanes *= max(min(LATENCY_VECTORS, round_up_to_power(REGISTER_VALUES // size + 1) // 2), 1)
    elif not squares and var.extent >= LATENCY_VECTORS * LATENCY_VECTORS * lanes:
        deep = target.registers >= MANY_REGISTERS and _is_deep(loop.body)
        lanes *= LATENCY_VECTORS if _is_chain(loop.body) else 2 if deep else 1
    return min(lanes, round_up_to_power(var.extent))


def crosses(s: Stmt, var: Var, inner: Var) -> bool:
    """Whether a load walks memory along `inner`, the innermost variable of a reduction, and jumps along `var`."""
    if not isinstance(s, Load) or s.mask is not None or s.type not in (F32, F64):
        return False
    e = s.index
    plain = not e.data() and not hidden(e, var) and not hidden(e, inner)
    return plain and e.coefficient(inner) == 1 and abs(e.coefficient(var)) > JUMP


def outlined(body: Sequence[Stmt]) -> set[str]:
    """The elementary functions that stand so often in a body that they are functions of the module and called."""
    times = Counter(s.op for s in statements(body) if isinstance(s, Apply) and s.op in FUNCTIONS)
    return {op for op, count in times.items() if count >= OUTLINED}


def weight(body: Sequence[Stmt]) -> int:
    """About how many instructions the statements of a body are."""
    written = FUNCTIONS.keys() - outlined(body)
    return sum(FUNCTION if isinstance(s, Apply) and s.op in written else 1 for s in statements(body))


def _is_chain(body: Sequence[Stmt]) -> bool:
    """Whether the body is one long chain of short operations and calls, so that one vector would wait for itself."""
    found = _longest(body, dict.fromkeys(SHORT | outlined(body), 1))
    return found is not None and found[0] >= CHAIN and 2 * found[0] > found[1]


def _is_deep(body: Sequence[Stmt]) -> bool:
    """Whether the longest chain, functions written out, is so long that the hardware holds less than two turns."""
    found = _longest(body, dict.fromkeys(SHORT, 1) | dict.fromkeys(FUNCTIONS, FUNCTION))
    return found is not None and found[0] >= DEEP


def _longest(body: Sequence[Stmt], cost: Mapping[str, int]) -> tuple[int, int] | None:
    """The longest chain of operations of floats, and what all of them cost; None if there is anything else."""
    depth: dict[int, int] = {}
    total = 0
    for s in body:
        if isinstance(s, Apply):
            if s.op not in cost or s.type.kind != "f" or s.type.bits < 32:
                return None
            total += cost[s.op]
            depth[id(s)] = cost[s.op] + max(depth.get(id(a), 0) for a in s.args)
        elif not isinstance(s, (Const, Load, Store)) or (isinstance(s, Load) and s.mask is not None):
            return None
    return max(depth.values(), default=0), total


def is_lanewise(loop: Loop) -> bool:
    """Whether every lane can do its own part of the body, row reductions too."""
    return not loop.carries and _lanewise(loop.body, loop.var, Dependence(loop.body), top=True, rows=True)


def _lanewise(body: Sequence[Stmt], var: Var, dependence: Dependence, top: bool, rows: bool = False) -> bool:
    for s in body:
        match s:
            case Reduce():
                if (s.tree == "row" and not rows) or not _lanewise(s.body, var, dependence, top=False):
                    return False
            case Loop():
                if not _lanewise(s.body, var, dependence, top=False) or not unit_strides(s.body, var):
                    return False
            case Contract():
                return False
            case Update():
                reads_data = any(var in dependence.of(d.value) for d in s.index.data())
                if not top or reads_data or s.index.coefficient(var) != 1 or hidden(s.index, var):
                    return False
            case Store():
                if s.buffer.role != "scratch" and var not in dependence.index(s.index):
                    return False
            case _:
                pass
    return True


def private(loop: Loop) -> set[Buffer]:
    """The scratch buffers of which each lane of `loop` needs its own: stored to at an index that all lanes share."""
    return {
        s.buffer
        for s in statements(loop.body)
        if isinstance(s, Store) and s.buffer.role == "scratch" and loop.var not in s.index.variables()
    }


def copies(body: Sequence[Stmt], target: Target) -> dict[Buffer, int]:
    """How many lanes at most the private scratch buffers of a body have."""
    out: dict[Buffer, int] = {}
    for s in statements(body):
        if isinstance(s, Loop) and (mine := private(s)) and (lanes := lanes_for(s, target)) > 1:
            out.update((b, max(lanes, out.get(b, 1))) for b in mine)
    return out


def hidden(e: Index, var: Var) -> bool:
    """Whether `var` occurs inside an atom of `e`."""
    return any(isinstance(a, (Div, Mod, Masked)) and var in a.index.variables() for a in e.terms)


def share(e: Index, var: Var) -> int:
    """How many elements each turn of `var` has for itself, one turn's after the other's from 0 on; 0 if `e` may leave
    them."""
    out = e.coefficient(var)
    if out <= 0 or hidden(e, var):
        return 0
    low, high = (e + Index({var: -out})).bounds
    return out if low >= 0 and high < out else 0


def unit_strides(body: Sequence[Stmt], var: Var) -> bool:
    """Whether every access steps by 0 or 1 in `var`: scans over anything else run faster one by one."""
    for s in statements(body):
        if isinstance(s, (Load, Store)):
            for e in indices(s):
                plain = unmask(e)
                if plain.coefficient(var) not in (0, 1) or hidden(plain, var):
                    return False
    return True


def row_is_lanewise(reduce: Reduce) -> bool:
    """Whether the innermost variable of a row reduction can be the vector: straight-line code inside."""
    var = reduce.vars[-1]
    return all(
        not isinstance(s, (Loop, Reduce, Contract, Update))
        and not (isinstance(s, Store) and var not in s.index.variables() and not s.index.data())
        for s in reduce.body
    )
