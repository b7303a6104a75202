"""Several kernels as one: machine code of a kernel's own signature that calls others, so that it runs like any kernel.

* `segments`: one body over many arrays (the parameters of a model). The range runs over all segments one after
  another; each is called with its own pointers and parameters.
* `strips`: kernels that go through the same range, one after another for a strip of it at a time. What is passed on is
  read at the place it is written; if only they need it, it lives in scratch memory of one strip, in cache, and never
  becomes an array. Where a kernel's range is a multiple of the shortest, each turn of that is as many of its own.

A composed kernel's table is its `frame`: words that are fixed, and the pointers it is given at `slots`.

    segments:  kernel, n, pointers each, parameters each, n + 1 starts, n tables of pointers
    strips:    n, length of a strip, number of the scratch entry, then for each kernel: its address, how many pointers,
               its first parameter, its turns for one of the range, and two words a pointer: address and 0, or offset in
               scratch and bytes an element
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Final

from .jit import SIGNATURE, Code, Compiled, Function, load_forever
from .target import Target

STRIP: Final = 4096  # iterations of one strip at most
LEAST: Final = 64  # at least: a few vectors
STRIP_BYTES: Final = 128 << 10  # scratch memory of a strip, where that leaves `LEAST` iterations

_TEXT: Final = """
define void @segments(ptr %table, ptr %params, i64 %begin, i64 %end, ptr %status) {
entry:
  %kernel = load ptr, ptr %table
  %at.n = getelementptr i64, ptr %table, i64 1
  %n = load i64, ptr %at.n
  %at.pointers = getelementptr i64, ptr %table, i64 2
  %pointers = load i64, ptr %at.pointers
  %at.own = getelementptr i64, ptr %table, i64 3
  %own = load i64, ptr %at.own
  %starts = getelementptr i64, ptr %table, i64 4
  %n1 = add i64 %n, 1
  %tables = getelementptr i64, ptr %starts, i64 %n1
  br label %search
search:
  %lo = phi i64 [0, %entry], [%lo.next, %narrow]
  %hi = phi i64 [%n, %entry], [%hi.next, %narrow]
  %width = sub i64 %hi, %lo
  %found = icmp ule i64 %width, 1
  br i1 %found, label %segment, label %narrow
narrow:
  %sum = add i64 %lo, %hi
  %middle = lshr i64 %sum, 1
  %at.middle = getelementptr i64, ptr %starts, i64 %middle
  %start = load i64, ptr %at.middle
  %left = icmp sgt i64 %start, %begin
  %lo.next = select i1 %left, i64 %lo, i64 %middle
  %hi.next = select i1 %left, i64 %middle, i64 %hi
  br label %search
segment:
  %s = phi i64 [%lo, %search], [%s.next, %call]
  %at.first = getelementptr i64, ptr %starts, i64 %s
  %first = load i64, ptr %at.first
  %s.next = add i64 %s, 1
  %at.past = getelementptr i64, ptr %starts, i64 %s.next
  %past = load i64, ptr %at.past
  %low = call i64 @llvm.smax.i64(i64 %first, i64 %begin)
  %high = call i64 @llvm.smin.i64(i64 %past, i64 %end)
  %b = sub i64 %low, %first
  %e = sub i64 %high, %first
  %pointer = mul i64 %s, %pointers
  %mine = getelementptr i64, ptr %tables, i64 %pointer
  %param = mul i64 %s, %own
  %its = getelementptr i64, ptr %params, i64 %param
  %some = icmp slt i64 %b, %e
  br i1 %some, label %run, label %call
run:
  call void %kernel(ptr %mine, ptr %its, i64 %b, i64 %e, ptr %status)
  br label %call
call:
  %within = icmp slt i64 %past, %end
  %more = icmp slt i64 %s.next, %n
  %again = and i1 %within, %more
  br i1 %again, label %segment, label %done
done:
  ret void
}

define void @strips(ptr %table, ptr %params, i64 %begin, i64 %end, ptr %status) {
entry:
  %n = load i64, ptr %table
  %at.length = getelementptr i64, ptr %table, i64 1
  %length = load i64, ptr %at.length
  %at.where = getelementptr i64, ptr %table, i64 2
  %where = load i64, ptr %at.where
  %at.scratch = getelementptr i64, ptr %table, i64 %where
  %scratch = load ptr, ptr %at.scratch
  %local = alloca i64, i64 %where, align 16
  %kernels = getelementptr i64, ptr %table, i64 3
  %some = icmp slt i64 %begin, %end
  br i1 %some, label %strip, label %done
strip:
  %b = phi i64 [%begin, %entry], [%b.next, %strip.next]
  %b.next = add i64 %b, %length
  %e = call i64 @llvm.smin.i64(i64 %b.next, i64 %end)
  br label %kernel
kernel:
  %j = phi i64 [0, %strip], [%j.next, %call]
  %p = phi ptr [%kernels, %strip], [%p.next, %call]
  %address = load ptr, ptr %p
  %at.count = getelementptr i64, ptr %p, i64 1
  %count = load i64, ptr %at.count
  %at.first = getelementptr i64, ptr %p, i64 2
  %first = load i64, ptr %at.first
  %its = getelementptr i64, ptr %params, i64 %first
  %at.turns = getelementptr i64, ptr %p, i64 3
  %turns = load i64, ptr %at.turns
  %b.its = mul i64 %b, %turns
  %e.its = mul i64 %e, %turns
  %words = getelementptr i64, ptr %p, i64 4
  br label %fill
fill:
  %i = phi i64 [0, %kernel], [%i.next, %fill]
  %i.base = mul i64 %i, 2
  %at.base = getelementptr i64, ptr %words, i64 %i.base
  %base = load i64, ptr %at.base
  %array = load ptr, ptr %at.base
  %at.bytes = getelementptr i64, ptr %at.base, i64 1
  %bytes = load i64, ptr %at.bytes
  %skipped = mul i64 %b, %bytes
  %offset = sub i64 %base, %skipped
  %inside = getelementptr i8, ptr %scratch, i64 %offset
  %shared = icmp eq i64 %bytes, 0
  %pointer = select i1 %shared, ptr %array, ptr %inside
  %at.local = getelementptr i64, ptr %local, i64 %i
  store ptr %pointer, ptr %at.local
  %i.next = add i64 %i, 1
  %filling = icmp ult i64 %i.next, %count
  br i1 %filling, label %fill, label %call
call:
  call void %address(ptr %local, ptr %its, i64 %b.its, i64 %e.its, ptr %status)
  %size = mul i64 %count, 2
  %p.next = getelementptr i64, ptr %words, i64 %size
  %j.next = add i64 %j, 1
  %more = icmp ult i64 %j.next, %n
  br i1 %more, label %kernel, label %strip.next
strip.next:
  %again = icmp slt i64 %b.next, %end
  br i1 %again, label %strip, label %done
done:
  ret void
}
declare i64 @llvm.smax.i64(i64, i64)
declare i64 @llvm.smin.i64(i64, i64)
"""


@cache
def _functions(t: Target) -> tuple[int, int]:
    segments, strips = load_forever(_TEXT, ("segments", "strips"), t)
    return segments, strips


@dataclass(eq=False, slots=True)
class Composed(Code):
    """Several kernels as one: what `codegen.threads` needs to know, and the words of its table (see above)."""

    frame: tuple[int, ...]
    slots: tuple[int, ...]
    parts: tuple[Compiled, ...]

    def table(self, pointers: Sequence[int]) -> list[int]:
        """The words of the table with these pointers."""
        out = list(self.frame)
        for slot, pointer in zip(self.slots, pointers, strict=True):
            out[slot] = pointer
        return out


def _composed(address: int, outer: int, scratch: int, frame: list[int], slots: list[int], parts: Sequence[Compiled],
              ) -> Composed:  # fmt: skip
    each = [p.functions[0] for p in parts]
    work, few, grain = sum(f.work for f in each), max(f.few for f in each), max(f.grain for f in each)
    function = Function(SIGNATURE(address), address, outer, work, few, grain)
    seconds = sum(p.seconds for p in parts)
    return Composed((function,), len(frame), 0, scratch, seconds, tuple(frame), tuple(slots), tuple(parts))


def segments(parts: Sequence[Compiled], t: Target) -> Composed:
    """One code over several sets of arrays; `parts` differ in the outer extent only.

    Pointers and parameters are those of the parts, one after another.
    """
    kernel = parts[0].kernel
    starts = list(accumulate((max(p.functions[0].outer, 1) for p in parts), initial=0))
    head = [parts[0].functions[0].address, len(parts), len(kernel.buffers), len(kernel.params), *starts]
    frame = [*head, *[0] * (len(kernel.buffers) * len(parts))]
    return _composed(_functions(t)[0], starts[-1], 0, frame, list(range(len(head), len(frame))), parts)


def strips(parts: Sequence[Compiled], passed: Sequence[Sequence[int | None]], sizes: Sequence[int], length: int,
           t: Target) -> Composed:  # fmt: skip
    """The kernels in turn, strip by strip. `passed[k][i]`: the number of the value that pointer i of part k is, if that
    lives in a strip; value v has `sizes[v]` bytes an element. The other pointers are the arrays, in order. `length`:
    turns of the shortest range in a strip; 0: as many as what is passed on leaves room for."""
    last = {v: k for k, mine in enumerate(passed) for v in mine if v is not None}
    units: dict[int, int] = {}  # where a value lies, in elements of a strip times bytes before it
    free: dict[int, list[int]] = {}
    total = 0
    for k, mine in enumerate(passed):
        for v in mine:
            if v is not None and v not in units:
                waiting = free.setdefault(sizes[v], [])
                if not waiting:
                    waiting.append(total)
                    total += sizes[v]
                units[v] = waiting.pop()
        for v in dict.fromkeys(v for v in mine if v is not None and last[v] == k):
            free[sizes[v]].append(units[v])
    length = length or max(min(STRIP_BYTES // max(total, 1) // LEAST * LEAST, STRIP), LEAST)
    outer = min(p.functions[0].outer for p in parts)
    frame = [len(parts), length, 0]
    slots = []
    first = 0
    for part, mine in zip(parts, passed, strict=True):
        frame += [part.functions[0].address, len(mine), first, part.functions[0].outer // outer]
        first += len(part.kernel.params)
        for v in mine:
            if v is None:
                slots.append(len(frame))
            frame += [0, 0] if v is None else [units[v] * length, sizes[v]]
    frame[2] = len(frame)
    return _composed(_functions(t)[1], outer, total * length, frame, slots, parts)
