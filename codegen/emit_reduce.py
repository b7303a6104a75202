"""Reductions: the fixed trees of `codegen.loops`, as code.

Accumulators are taken in groups that share a number of lanes W; each group runs the loop nest once. What a block of a
sum yields is pushed on a `Counter`, the one place where blocks are combined, for rows and columns alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

from . import memory
from .ahead import fetch
from .analysis import added, dominating_bytes
from .builder import I64, Ty, Val, const, register_type
from .combine import accumulate, combine, identity, is_ordered, wide_type
from .frame import Frame, first_lanes
from .index import Var
from .loops import BLOCK, UNROLL, Accumulator, Reduce
from .ops import to_memory, to_register
from .running import Running, across
from .squares import by_squares, crossing
from .vectorize import round_up_to_power, row_is_lanewise, weight

SMALL_BODY = 12  # instructions up to which a row's step is unrolled in place; larger ones are one copy, rotating
FREE_BLOCK = 8 * BLOCK  # steps of a block where any order will do
VECTOR_BYTES = 64  # of the virtual vector that sums are defined over
LEAST_BYTES = 16  # of it that are computed
LEAVES = 8  # blocks that are combined at once: a power of two


def reduce(f: Frame, node: Reduce) -> None:
    """Defines every result of the reduction."""
    total = prod(v.extent for v in node.vars)
    for group in groups(node):
        accs = [node.accumulators[k] for k in group]
        if total == 0:
            values = [identity(a.op, a.type, 1, empty=True) for a in accs]
        elif node.tree == "column":
            values = _column(f, node, accs, total, BLOCK)
        elif node.tree == "subtrees":
            values = _column(f, node, accs, total, 1)
        elif node.tree == "row":
            values = _row(f, node, accs)
        else:
            raise AssertionError(f"reduce: expected row or column, got {node.tree}")
        for k, acc, value in zip(group, accs, values, strict=True):
            f.results[node, k] = rounded(f, acc, value)


def rounded(f: Frame, acc: Accumulator, value: Val) -> Val:
    """A float16 result, accumulated in float32, rounded once."""
    if wide_type(acc.type) is acc.type:
        return value
    return to_register(f.b, acc.type, to_memory(f.b, acc.type, value))


def groups(node: Reduce) -> list[list[int]]:
    """Accumulator numbers by the lanes their tree needs; those of any order join the first group."""
    if node.tree != "row":
        return [list(range(len(node.accumulators)))]
    by_width: dict[int, list[int]] = {}
    free = []
    for k, acc in enumerate(node.accumulators):
        if is_ordered(acc.op, acc.type):
            by_width.setdefault(wide_type(acc.type).bytes, []).append(k)
        else:
            free.append(k)
    groups = list(by_width.values())
    if not free:
        return groups
    return [sorted(groups[0] + free), *groups[1:]] if groups else [free]


def row_lanes(node: Reduce, accs: list[Accumulator]) -> int:
    for acc in accs:
        if is_ordered(acc.op, acc.type):
            return VECTOR_BYTES // wide_type(acc.type).bytes
    widest = max(dominating_bytes(node.body), *(wide_type(a.type).bytes for a in accs))
    return VECTOR_BYTES // widest


def block_steps(accs: Sequence[Accumulator]) -> int:
    """Steps of a block of a row: where no order shows in the result, more of them, which are combined less often."""
    return BLOCK if any(is_ordered(a.op, a.type) for a in accs) else FREE_BLOCK


def bytes_of(t: Ty) -> int:
    """The alignment that stack slots of `t` are accessed with."""
    return max(t.bits // 8, 1)


class Counter:
    """Combines block results pairwise as a binary counter does, in block order ("cascade").

    Pushing block number c: while the trailing bits of c are set, the older result waiting in slot[level] is
    combined from the left, slot[level] + block, one level up each time; the outcome waits in the first free slot.
    At the end the waiting slots (the set bits of the number of blocks) are combined from the lowest level up,
    again with the older, higher one on the left. With one block nothing is stored at all.

    How far a push goes is what a branch predictor cannot learn, and a wrong guess stops the loads of the next block:
    rows in the second cache took 1.6 times as long. So the first levels are no loop: blocks wait as leaves, `group` of
    them, and are combined when all are there.
    """

    def __init__(self, f: Frame, accs: list[Accumulator], lanes: int, blocks: int, group: int = LEAVES) -> None:
        self.f, self.accs, self.blocks = f, accs, blocks
        self.types = [register_type(wide_type(a.type), lanes) for a in accs]
        self.only: list[Val] = []
        self.number = const(I64, 0)  # of the block that is being pushed
        self.group = min(group, 1 << (blocks - 1).bit_length())
        if blocks > 1:
            self.leaves = [f.alloca(t, self.group) for t in self.types]
            self.slots = [f.alloca(t, blocks.bit_length()) for t in self.types]
            self.count = f.alloca(I64)
            f.b.store(const(I64, 0), self.count, 8)

    def merging(self) -> Val:
        """Of the block's number, the bits whose levels may merge."""
        return self.number

    def put(self, values: list[Val], level: Val) -> None:
        """Keeps the outcome of a block in the slot of its level."""
        self._store(values, self.slots, level)

    def push(self, values: list[Val]) -> None:
        """Adds the next block: one of `group` leaves, the last of which takes them all to the levels above."""
        b = self.f.b
        if self.blocks == 1:
            self.only = values
            return
        self.number = b.load(I64, self.count, 8)
        b.store(b.binary("add", self.number, const(I64, 1)), self.count, 8)
        if self.group == 1:
            self._above(values)
            return
        last = const(I64, self.group - 1)
        leaf = b.binary("and", self.number, last)
        self._store(values, self.leaves, leaf)
        if self.blocks > self.group:
            full, on = b.fresh_label("full"), b.fresh_label("on")
            b.cond_branch(b.icmp("eq", leaf, last), full, on)
            b.label(full)
            self._above([self._combined(k, self._leaves(k, self.group)) for k in range(len(self.accs))])
            b.branch(on)
            b.label(on)

    def _above(self, values: list[Val]) -> None:
        """
            entry:                                                        ->  test
            test:    level = phi, value = phi; bit `level` of c set?      ->  merge | put
            merge:   value = slot[level] + value, level + 1               ->  test
            put:     slot[level] = value
        """
        f, b = self.f, self.f.b
        test, merge, put = b.fresh_label("test"), b.fresh_label("merge"), b.fresh_label("put")
        merging = self.merging()
        before = b.block
        b.branch(test)
        b.label(test)
        level, at = b.phi(I64)
        phis = [b.phi(t) for t in self.types]
        bit = b.binary("and", b.binary("lshr", merging, level), const(I64, 1))
        b.cond_branch(b.icmp("ne", bit, const(I64, 0)), merge, put)
        b.label(merge)
        merged = []
        for acc, slots, t, (value, _) in zip(self.accs, self.slots, self.types, phis, strict=True):
            older = b.load(t, self.slot(slots, t, level), bytes_of(t))
            merged.append(combine(f, acc.op, acc.type, older, value))
        above = b.opaque(b.binary("add", level, const(I64, 1)))
        b.set_phi(level, at, [(const(I64, self.group.bit_length() - 1), before), (above, b.block)])
        for (phi, where), first, later in zip(phis, values, merged, strict=True):
            b.set_phi(phi, where, [(first, before), (later, b.block)])
        b.branch(test)
        b.label(put)
        self.put([value for value, _ in phis], level)

    def slot(self, slots: Val, t: Ty, level: Val) -> Val:
        return self.f.b.gep(t, slots, level)

    def _store(self, values: list[Val], slots: list[Val], number: Val) -> None:
        for into, t, value in zip(slots, self.types, values, strict=True):
            self.f.b.store(value, self.slot(into, t, number), bytes_of(t))

    def _load(self, k: int, slots: list[Val], number: int) -> Val:
        t = self.types[k]
        return self.f.b.load(t, self.slot(slots[k], t, const(I64, number)), bytes_of(t))

    def _leaves(self, k: int, count: int) -> list[Val]:
        return [self._load(k, self.leaves, leaf) for leaf in range(count)]

    def _combined(self, k: int, values: list[Val]) -> Val:
        """The cascade of these, of accumulator k."""
        acc, waiting = self.accs[k], list[Val]()
        for number, value in enumerate(values):
            for _ in range((number ^ (number + 1)).bit_length() - 1):
                value = combine(self.f, acc.op, acc.type, waiting.pop(), value)
            waiting.append(value)
        result = waiting.pop()
        while waiting:
            result = combine(self.f, acc.op, acc.type, waiting.pop(), result)
        return result

    def finish(self) -> list[Val]:
        """What all blocks combine to."""
        if self.blocks == 1:
            return self.only
        left = self.blocks % self.group if self.blocks > self.group else self.blocks
        levels = range(self.group.bit_length() - 1, self.blocks.bit_length()) if self.blocks > self.group else ()
        out = []
        for k, acc in enumerate(self.accs):
            above = [self._load(k, self.slots, level) for level in levels if self.blocks >> level & 1]
            leaves = self._leaves(k, left)
            result = self._combined(k, leaves) if leaves else above.pop(0)
            for older in above:
                result = combine(self.f, acc.op, acc.type, older, result)
            out.append(result)
        return out


# rows -----------------------------------------------------------------------------------------------------------
def _row(f: Frame, node: Reduce, accs: list[Accumulator]) -> list[Val]:
    """Rows that do not fill half of the virtual vector have as many lanes as they need: others would add nothing."""
    extent = node.vars[-1].extent
    width = row_lanes(node, accs)
    lanes = min(width, max(round_up_to_power(extent), width * LEAST_BYTES // VECTOR_BYTES))
    rows = prod(v.extent for v in node.vars[:-1])
    block = block_steps(accs) * lanes
    counter = Counter(f, accs, lanes, rows * -(-extent // block))
    whole = const(I64, 0), const(I64, extent)
    nest(f, node.vars[:-1], lambda: row_blocks(f, node, accs, lanes, counter, *whole))
    return [across(f, acc, v) for acc, v in zip(accs, counter.finish(), strict=True)]


def row_blocks(
    f: Frame, node: Reduce, accs: list[Accumulator], lanes: int, counter: Counter, lo: Val, hi: Val
) -> None:
    """Pushes the blocks of one row that begin in ``[lo, hi)``: a multiple of blocks, or the rest of the row."""
    one = _row_vectors if row_is_lanewise(node) and f.vector is None else _row_elements
    one(f, node, accs, lanes, counter, lo, hi)


def nest(f: Frame, variables: tuple[Var, ...], body: Callable[[], None]) -> None:
    """Scalar loops over the variables, outermost first."""
    if not variables:
        body()
        return

    def step(i: Val, carried: list[Val]) -> list[Val]:
        with f.scope((variables[0], i)):
            nest(f, variables[1:], body)
        return carried

    f.loop(const(I64, 0), const(I64, variables[0].extent), 1, [], step)


def _row_step(
    f: Frame, node: Reduce, running: Running, lanes: int, at: Val, mask: Val | None, state: list[Val]
) -> list[Val]:
    """One vector of elements, from `at` on, added to the state of one accumulator of each kind."""
    with f.scope((node.vars[-1], at)), f.vectorised(node.vars[-1], lanes, mask, aligned=True):
        f.run(node.body)
        fetch(f, node)
        return running.add(state, mask)


def _pairwise(running: Running, states: list[list[Val]]) -> list[Val]:
    """(0+1) + (2+3) + ... of states; what is still literally fresh is left out."""
    while len(states) > 1:
        states = [running.join(x, y) for x, y in zip(states[::2], states[1::2], strict=True)]
    return running.settle(states[0])


def _row_vectors(
    f: Frame, node: Reduce, accs: list[Accumulator], lanes: int, counter: Counter, lo: Val, hi: Val
) -> None:
    """Blocks of one row, W elements at a step; steps go to the `UNROLL` accumulators in turn.

    A large body is one copy: each step takes the first accumulators and puts them last. The last block of a row, if it
    is shorter, shares all but its end with the others.
    """
    extent = node.vars[-1].extent
    block, group = block_steps(accs) * lanes, UNROLL * lanes
    large = weight(node.body) > SMALL_BODY
    unit, rest = (lanes if large else group), extent % block
    running = Running(f, accs, lanes)
    fresh = running.fresh()
    each = len(fresh)

    def unrolled(start: Val, state: list[Val], count: int, first: int = 0) -> list[Val]:
        """`count` elements from `start` on, each vector written out, into the UNROLL states from number `first` on."""
        state = list(state)
        for s in range(-(-count // lanes)):
            at = f.b.binary("add", start, const(I64, s * lanes)) if s else start
            left = count - s * lanes
            mask = None if left >= lanes else first_lanes(left, lanes)
            mine = slice((first + s) % UNROLL * each, ((first + s) % UNROLL + 1) * each)
            state[mine] = _row_step(f, node, running, lanes, at, mask, state[mine])
        return state

    def step(i: Val, carried: list[Val]) -> list[Val]:
        if not large:
            return unrolled(i, carried, group)
        return carried[each:] + _row_step(f, node, running, lanes, i, None, carried[:each])

    def ending(start: Val, state: list[Val]) -> list[Val]:
        """The elements from `start` on that a short block has besides whole units."""
        steps = rest // unit * (unit // lanes)
        turned = steps % UNROLL * each
        state = state[-turned:] + state[:-turned]
        return unrolled(start, state[: steps * each] + (fresh * UNROLL)[steps * each :], rest % unit, steps)

    def together(state: list[Val]) -> list[Val]:
        return _pairwise(running, [state[k : k + each] for k in range(0, len(state), each)])

    def one(start: Val, carried: list[Val]) -> list[Val]:
        b = f.b
        size = const(I64, block)
        if rest:
            size = f.extreme("smin", b.binary("sub", const(I64, extent), start), size)
        middle = b.binary("add", start, b.binary("and", size, const(I64, -unit)))
        state = f.loop(start, middle, unit, fresh * UNROLL, step, "row", certain=not 0 < rest < unit)
        short = b.icmp("slt", size, const(I64, block))
        counter.push(f.choose(short, lambda: together(ending(middle, state)), lambda: together(state)))
        return carried

    f.loop(lo, hi, block, [], one, "block")


def _row_elements(
    f: Frame, node: Reduce, accs: list[Accumulator], lanes: int, counter: Counter, lo: Val, hi: Val
) -> None:
    """The same tree one element at a time: element i of a block belongs to slot ``i % (UNROLL * W)`` in memory."""
    extent, group, block = node.vars[-1].extent, UNROLL * lanes, block_steps(accs) * lanes
    b, running = f.b, Running(f, accs, lanes)
    types = [memory.memory_type(wide_type(a.type), 1) for a in accs]
    places = [f.alloca(t, group) for t in types]

    def clear(i: Val, carried: list[Val]) -> list[Val]:
        for acc, t, place in zip(accs, types, places, strict=True):
            wide = wide_type(acc.type)
            b.store(to_memory(b, wide, identity(acc.op, wide, 1)), b.gep(t, place, i), t.bits // 8)
        return carried

    def element(i: Val, carried: list[Val]) -> list[Val]:
        with f.scope((node.vars[-1], i)):
            f.run(node.body)
            slot = b.binary("and", i, const(I64, group - 1))
            for acc, t, place in zip(accs, types, places, strict=True):
                wide = wide_type(acc.type)
                where = b.gep(t, place, slot)
                old = to_register(b, wide, b.load(t, where, t.bits // 8))
                new = accumulate(f, acc, acc.type, old, [f.values[v] for v in added(acc)])
                b.store(to_memory(b, wide, new), where, t.bits // 8)
        return carried

    def one(start: Val, carried: list[Val]) -> list[Val]:
        f.loop(const(I64, 0), const(I64, group), 1, [], clear)
        end = f.extreme("smin", b.binary("add", start, const(I64, block)), const(I64, extent))
        f.loop(start, end, 1, [], element, certain=True)
        states = []
        for s in range(UNROLL):
            values = []
            for acc, t, place in zip(accs, types, places, strict=True):
                part = b.load(t.with_lanes(lanes), b.gep(t, place, const(I64, s * lanes)), t.bits // 8)
                values.append(to_register(b, wide_type(acc.type), part))
            states.append(running.resume(values))
        counter.push(_pairwise(running, states))
        return carried

    f.loop(lo, hi, block, [], one, "block")


# columns --------------------------------------------------------------------------------------------------------
def _column(f: Frame, node: Reduce, accs: list[Accumulator], total: int, size: int) -> list[Val]:
    """Each element (and lane) on its own: chains of `size` elements in joint order, combined by the counter.

    A row of the innermost variable is cut where a block ends; the unfinished chain and its length wait on the stack
    between rows. When rows hold whole blocks, or everything is one block and one row, nothing waits.
    """
    b = f.b
    inner = node.vars[-1]
    counter = Counter(f, accs, f.lanes, -(-total // size))
    running = Running(f, accs, f.lanes)
    fresh = running.fresh()

    def element(i: Val, carried: list[Val]) -> list[Val]:
        with f.scope((inner, i)):
            f.run(node.body)
            return running.add(carried)

    squares = crossing(f, node)

    def elements(start: Val, end: Val, chain: list[Val]) -> list[Val]:
        if squares:
            return by_squares(f, node, squares, start, end, chain, element)
        return f.loop(start, end, 1, chain, element, "column", certain=True)

    def aligned() -> None:
        def block(start: Val, carried: list[Val]) -> list[Val]:
            end = f.extreme("smin", b.binary("add", start, const(I64, size)), const(I64, inner.extent))
            counter.push(running.settle(elements(start, end, fresh)))
            return carried

        f.loop(const(I64, 0), const(I64, inner.extent), size, [], block, "block")

    if len(node.vars) == 1 or inner.extent % size == 0 or total == inner.extent:
        nest(f, node.vars[:-1], aligned)
        return counter.finish()

    types = [v.ty for v in running.absent]
    waiting = [f.alloca(t) for t in types]
    length = f.alloca(I64)
    b.store(const(I64, 0), length, 8)
    for value, place in zip(running.absent, waiting, strict=True):
        b.store(value, place, bytes_of(value.ty))

    def pieces() -> None:
        """
            entry:  ->  piece
            piece:  at = phi; elements [at, end) with end = min(extent, at + BLOCK - length); length += end - at
                    length == BLOCK?  ->  push | keep
            push:   the chain goes to the counter, a fresh one waits, length = 0   ->  next
            keep:   the chain waits                                                ->  next
            next:   end < extent?  ->  piece | done
        """
        piece, push, keep, following, done = (b.fresh_label(s) for s in ("piece", "push", "keep", "next", "done"))
        before = b.block
        b.branch(piece)
        b.label(piece)
        at, place = b.phi(I64)
        old_length = b.load(I64, length, 8)
        room = b.binary("sub", const(I64, size), old_length)
        end = f.extreme("smin", b.binary("add", at, room), const(I64, inner.extent))
        chain = [b.load(t, w, bytes_of(t)) for t, w in zip(types, waiting, strict=True)]
        chain = running.settle(elements(at, end, running.resume(chain)))
        new_length = b.binary("add", old_length, b.binary("sub", end, at))
        b.cond_branch(b.icmp("eq", new_length, const(I64, size)), push, keep)
        b.label(push)
        counter.push(chain)
        for value, w in zip(running.absent, waiting, strict=True):
            b.store(value, w, bytes_of(value.ty))
        b.store(const(I64, 0), length, 8)
        b.branch(following)
        b.label(keep)
        for value, w in zip(chain, waiting, strict=True):
            b.store(value, w, bytes_of(value.ty))
        b.store(new_length, length, 8)
        b.branch(following)
        b.label(following)
        b.set_phi(at, place, [(const(I64, 0), before), (end, b.block)])
        b.cond_branch(b.icmp("slt", end, const(I64, inner.extent)), piece, done)
        b.label(done)

    nest(f, node.vars[:-1], pieces)
    if total % size:
        counter.push([b.load(t, w, bytes_of(t)) for t, w in zip(types, waiting, strict=True)])
    return counter.finish()

