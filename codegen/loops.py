"""The loop IR: what a kernel computes, as a tree of loops over flat buffers.

A `Kernel` owns `Buffer`s and scalar `Param`s and has a body of statements. Values are nodes of a tree of
definitions: a value is defined by standing in a body, in order, before its uses; an operand is a reference to the
value object itself. Names exist only in the text form (`codegen.text`).

Nothing here mentions shape, movement or gradient; nothing here allocates or compiles.

Meaning that every emitter keeps
--------------------------------
* `Reduce` over `vars` (outermost first; row-major order of the joint index r). ``sum`` has a fixed tree, a function of
  (extents, `tree`, type) only, over W = 64 / element bytes lanes (float16 counts as float32):
  - ``tree="row"``: the innermost var is split into blocks of BLOCK·W consecutive elements (the last one short).
    Within a block, lane j adds its elements j, j+W, j+2W, ... one after the other in UNROLL interleaved
    accumulators (step s goes to accumulator s % UNROLL), which are then added pairwise ((0+1)+(2+3))+....
    Block vectors are combined by a binary counter in block order, rows following one another (see `cascade`), the
    counter's remaining levels from the lowest up; at last the W lanes pairwise, lane j with lane j + W/2, and so on.
  - ``tree="column"``: every element is its own lane: blocks of BLOCK consecutive r are added one after the other,
    and combined by the same binary counter.
  - ``tree="subtrees"``: as "column", but every element is a block by itself.
  A lane that has no element contributes -0.0. A sum of products (`Accumulator.factor`) adds each to its lane by a
  fused multiply-add; on targets without it, where sums would take 10 to 25 times as long, the product is rounded.
  ``prod`` uses the same trees with 1; ``max`` and ``min`` (nan propagates, -0 < +0) and every integer reduction may
  use any order. An empty reduction gives the identity (sum 0, prod 1, max -inf or the smallest integer, min +inf or
  the largest).
  float16 reductions accumulate in float32 and round once.
* `Loop` carries (`Carry`) make scans: strictly sequential in the loop's order.
* `Contract`: acc[m, n] = Σ_k a·b, per output element a chain of fused multiply-adds over blocks of CONTRACT_BLOCK
  consecutive k, each block from zero, block results added in order. Floats accumulate in their own type (float16 in
  float32), integers wrap. A factor that is masked to zero may be skipped or multiplied. A `Part` of a sum goes on with
  the chains of the parts before it; its epilogue runs after the last one.
* Loads under a false mask give 0 and touch no memory.
* A `Datum` index comes from a `Check`ed value: out of range sets the status word and reads element 0 instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Union

from .index import Index, Var
from .scalar import Type

BLOCK: Final = 32  # steps per lane (row) or elements (column) in one block of a sum
UNROLL: Final = 4  # interleaved accumulators in one block of a row sum
CONTRACT_BLOCK: Final = 256  # k steps accumulated by one chain of fused multiply-adds


@dataclass(eq=False, slots=True)
class Buffer:
    """`size` elements of `type` in memory.

    `role`: ``in``, ``out``, ``inout`` (kernel arguments), ``scratch`` (of a call) or ``shared`` (of all calls).
    """

    type: Type
    size: int
    role: str
    name: str


@dataclass(eq=False, slots=True)
class Param:
    """A scalar handed over at each call: 8 bytes in the parameter block, the value's bits in the low ones."""

    type: Type
    name: str


@dataclass(eq=False, slots=True)
class Const:
    """A literal; `value` is a Python bool, int or float (nan and inf allowed)."""

    type: Type
    value: bool | int | float


@dataclass(eq=False, slots=True)
class Load:
    """``buffer[index]``; where `mask` is false, 0."""

    type: Type
    buffer: Buffer
    index: Index
    mask: "Value | None" = None


@dataclass(eq=False, slots=True)
class Apply:
    """A scalar operation of `codegen.scalar.OPS` on values."""

    op: str
    type: Type
    args: tuple["Value", ...]


@dataclass(eq=False, slots=True)
class IndexValue:
    """An index expression as an integer (or float) value of `type`."""

    type: Type
    index: Index


@dataclass(eq=False, slots=True)
class InRange:
    """``lo <= index < hi`` as a bool; ``index % step == 0`` too if `step` > 1. `type` is B1."""

    type: Type
    index: Index
    lo: int
    hi: int
    step: int = 1


@dataclass(eq=False, slots=True)
class Check:
    """The integer `value`, or 0 where it is outside ``[0, n)``; then the status word becomes `code` (if still 0).

    Where `mask` is false nothing is checked and the result is 0.
    """

    type: Type
    value: "Value"
    n: int
    code: int
    mask: "Value | None" = None


@dataclass(eq=False, slots=True)
class Accumulator:
    """One running result of a `Reduce`: `op` is sum, prod, max or min; `value` is defined in the reduce's body.

    A sum of float32 or float64 with a `factor` adds ``value * factor``, unrounded.
    """

    op: str
    type: Type
    value: "Value"
    factor: "Value | None" = None


@dataclass(eq=False, slots=True)
class Reduce:
    """Several reductions of one loop nest over `vars`, outermost first; results by `Result`."""

    vars: tuple[Var, ...]
    body: "list[Stmt]"
    accumulators: tuple[Accumulator, ...]
    tree: str = "row"


@dataclass(eq=False, slots=True)
class Result:
    """Result number `k` of a `Reduce` that stands earlier in the same or an enclosing body."""

    type: Type
    reduce: Reduce
    k: int = 0


@dataclass(eq=False, slots=True)
class Carry:
    """State of a sequential loop: starts as the identity of `op` (sum, prod, max, min; linrec starts at 0)."""

    op: str
    type: Type


@dataclass(eq=False, slots=True)
class Advance:
    """The carry's new value ``op(old, args[0])``; for linrec ``args[0] * old + args[1]`` in two roundings.

    Once per iteration.
    """

    type: Type
    carry: Carry
    args: tuple["Value", ...]


@dataclass(eq=False, slots=True)
class Loop:
    """``for var in range(extent)``; with `carries` strictly sequential, else iterations are independent."""

    var: Var
    body: "list[Stmt]"
    carries: tuple[Carry, ...] = ()


@dataclass(eq=False, slots=True)
class Store:
    """``buffer[index] = value``. Distinct iterations of the enclosing loops write distinct elements."""

    buffer: Buffer
    index: Index
    value: "Value"


@dataclass(eq=False, slots=True)
class Update:
    """``buffer[index] = op(buffer[index], value)`` in iteration order; `op`: sum, max, min, or set (replace).

    `factor` as of an `Accumulator`.
    """

    op: str
    buffer: Buffer
    index: Index
    value: "Value"
    factor: "Value | None" = None


@dataclass(frozen=True, eq=False, slots=True)
class Part:
    """The k of a `Contract` as the steps from `start` on of a sum over `total`, whose chains it goes on with.

    All parts but the last have `step` steps, which divides CONTRACT_BLOCK if `total` is larger than that. They are
    turns of a loop around, in order from 0 on. The last may be a statement of its own, `after` the one whose turns the
    others are, and the same but for its k.
    """

    start: Index
    step: int
    total: int
    after: "Contract | None" = None


@dataclass(eq=False, slots=True)
class Contract:
    """acc[m, n] = Σ_k a[m, k] · b[k, n]; then `epilogue` runs for every (m, n) with `acc` as a value.

    `a_body` defines `a` from vars of m and k only, `b_body` defines `b` from k and n only (and from what encloses).
    `domain`: where one of these is negative, the term need not be computed: a factor is masked to zero there, or the
    epilogue does not use the result. `how` it is computed, if a search said (`codegen.tune`): one of
    `codegen.contract.candidates`. It shows in no bit.
    """

    m: tuple[Var, ...]
    n: tuple[Var, ...]
    k: tuple[Var, ...]
    a_body: "list[Stmt]"
    a: "Value"
    b_body: "list[Stmt]"
    b: "Value"
    acc: "Acc"
    epilogue: "list[Stmt]"
    how: str = ""
    domain: tuple[Index, ...] = ()
    part: Part | None = None


@dataclass(eq=False, slots=True)
class Acc:
    """The accumulated element of a `Contract`, inside its epilogue."""

    type: Type


Value = Union[Param, Const, Load, Apply, IndexValue, InRange, Check, Result, Advance, Acc]
Stmt = Union[Const, Load, Apply, IndexValue, InRange, Check, Reduce, Result, Advance, Loop, Store, Update, Contract]


@dataclass(eq=False, slots=True)
class Kernel:
    """A named kernel: arguments in call order, scratch buffers, parameters, body.

    `prepared`: the loops are as they will be emitted (`codegen.split.prepare`). A part of a kernel (`codegen.parts`)
    has `shared` memory besides, which all threads and parts see; with `partials` its one reduction leaves the subtrees
    of its tree there.
    """

    name: str
    buffers: tuple[Buffer, ...]
    params: tuple[Param, ...]
    body: "list[Stmt]"
    scratch: tuple[Buffer, ...] = ()
    prepared: bool = False
    shared: tuple[Buffer, ...] = ()
    partials: tuple[Buffer, ...] = ()
