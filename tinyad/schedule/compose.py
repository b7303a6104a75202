"""Steps of a plan that become one.

Three ways, all of kernels without scratch memory that go through a range of elements or rows:

* Equal bodies over different arrays, none of which needs another's result, are one kernel over a table of segments:
  the update of all parameters of a model. Steps are alike if as many steps at most follow them until the end, so
  joining them makes no cycle.
* Elementwise kernels that follow one another over the same range run strip by strip, if one passes something on to
  another and nobody else needs it: what is passed on then stays in cache. This is what becomes of a chain longer than
  one kernel may be.
* Kernels that read an array which no cache holds from end to end, and need nothing of each other, run strip by strip:
  each strip is read from memory once. So rows and columns of one array are summed up side by side.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from .step import Step
from .tails import FAR

MOST: Final = 64  # kernels in one composed of strips
SLAB: Final = 1 << 19  # bytes of an array in a strip, which must still be in the second cache for the next kernel
TURNS: Final = 16  # turns of the shortest range at least, so that threads have their shares


def compose(steps: Sequence[Step], results: Collection[int], item_sizes: Sequence[int]) -> list[Step]:
    """The steps with those joined that can be. `results`: places that outlive the plan."""
    if len(steps) < 2:
        return list(steps)
    return _in_strips(_side_by_side(_in_segments(steps), item_sizes), results, item_sizes)


def _written(step: Step) -> list[int]:
    """The places a step writes."""
    if step.call is not None:
        return [step.arguments[-1][0]]
    if step.parts:
        return [p for part in step.parts for p in _written(part)]
    assert step.lowered is not None
    return [p for (p, _), b in zip(step.arguments, step.lowered.kernel.buffers) if b.role == "out"]


def _read(step: Step) -> list[int]:
    if step.call is not None:
        return [p for p, _ in step.arguments[:-1]]
    if step.parts:
        return [p for part in step.parts for p in _read(part)]
    assert step.lowered is not None
    return [p for (p, _), b in zip(step.arguments, step.lowered.kernel.buffers) if b.role == "in"]


# segments -----------------------------------------------------------------------------------------------------------
def _in_segments(steps: Sequence[Step]) -> list[Step]:
    """Alike kernels joined; the order is kept as far as that allows."""
    alike = _alike(steps)
    if len(alike) == len(steps):
        return list(steps)
    joined = [_segments([steps[i] for i in members]) if len(members) > 1 else steps[members[0]] for members in alike]
    of = {i: k for k, members in enumerate(alike) for i in members}
    after: list[set[int]] = [set() for _ in joined]
    waiting = [0] * len(joined)
    for i, readers in enumerate(_readers(steps)):
        for j in readers:
            if of[j] not in after[of[i]]:
                after[of[i]].add(of[j])
                waiting[of[j]] += 1
    ready = [(members[-1], k) for k, members in enumerate(alike) if not waiting[k]]
    heapq.heapify(ready)
    out = []
    while ready:
        _, k = heapq.heappop(ready)
        out.append(joined[k])
        for m in after[k]:
            waiting[m] -= 1
            if not waiting[m]:
                heapq.heappush(ready, (alike[m][-1], m))
    return out


def _readers(steps: Sequence[Step]) -> list[list[int]]:
    """For each step the numbers of those that read what it writes."""
    readers: dict[int, list[int]] = {}
    for i, step in enumerate(steps):
        for p in _read(step):
            readers.setdefault(p, []).append(i)
    return [[j for p in _written(step) for j in readers.get(p, ()) if j != i] for i, step in enumerate(steps)]


def _alike(steps: Sequence[Step]) -> list[list[int]]:
    """The numbers of the steps, those together that can be one kernel over segments."""
    from codegen.streams import body

    level = [0] * len(steps)
    for i, readers in reversed(list(enumerate(_readers(steps)))):
        level[i] = max((level[j] + 1 for j in readers), default=0)
    places: dict[tuple[int, str], list[int]] = {}
    for i, step in enumerate(steps):
        if step.lowered is not None and (step.group is None or step.group.heavy is None):
            signs = "".join(b.role[0] + str(b.type) for b in step.lowered.kernel.buffers)
            places.setdefault((level[i], signs), []).append(i)
    texts: dict[int, str | None] = {}
    together: dict[object, list[int]] = {}
    for key, members in places.items():
        for i in members if len(members) > 1 else ():
            lowered = steps[i].lowered
            assert lowered is not None
            if id(lowered.kernel) not in texts:
                texts[id(lowered.kernel)] = body(lowered.kernel)
            text = texts[id(lowered.kernel)]
            if text is not None:
                together.setdefault((key, text), []).append(i)
    found = [members for members in together.values() if len(members) > 1]
    apart = set(range(len(steps))) - {i for members in found for i in members}
    return sorted([*found, *([i] for i in apart)])


def _segments(parts: Sequence[Step]) -> Step:
    return Step(
        f"{parts[0].name.split('_')[0]}_of_{len(parts)}",
        tuple([n for s in parts for n in s.sinks]),
        arguments=tuple([a for s in parts for a in s.arguments]),
        parameters=tuple([i for s in parts for i in s.parameters]),
        parts=tuple(parts),
    )


# side by side -------------------------------------------------------------------------------------------------------
def _side_by_side(steps: Sequence[Step], item_sizes: Sequence[int]) -> list[Step]:
    """Kernels that read the same far memory share by share, and nothing of each other, as one."""
    walks = {i: found for i, step in enumerate(steps) if (found := _walk(step, item_sizes)) is not None}
    written = {p: i for i, step in enumerate(steps) for p in _written(step)}  # last
    apart = dict(enumerate(steps))
    for i, (least, places) in walks.items():
        members = [i] if i in apart else []
        for j, (turns, others) in walks.items():
            if j <= i or j not in apart or any(written.get(p, -1) >= i for p in _read(steps[j])):
                continue
            shortest = min(turns, least)
            both = [size for p, size in places.items() if p in others]
            if both and max(both) <= SLAB * shortest >= SLAB * TURNS and turns % shortest == least % shortest == 0:
                members.append(j)
                least = shortest
        if len(members) > 1:
            members.sort(key=lambda j: -walks[j][0])  # first the one that reads memory most nearly line after line
            length = max(SLAB * least // max(places.values()), 1)
            joined = _joined([steps[j] for j in members], {}, (), length)
            apart = {j: joined if j == i else step for j, step in apart.items() if j == i or j not in members}
    return list(apart.values())


def _walk(step: Step, item_sizes: Sequence[int]) -> tuple[int, dict[int, int]] | None:
    """The turns of a kernel's loop, and with their bytes those places that each reads a share of and no cache holds."""
    from codegen.streams import walked

    if step.lowered is None or step.group is None or step.group.heavy is not None:
        return None
    places = [p for p, _ in step.arguments]
    sizes = [b.size * item_sizes[p] for p, b in zip(places, step.lowered.kernel.buffers, strict=True)]
    if max(sizes, default=0) < FAR or (found := walked(step.lowered.kernel)) is None:
        return None
    turns, shares = found
    return turns, {places[k]: sizes[k] for k in shares if sizes[k] >= FAR and not step.arguments[k][1]}


# strips -------------------------------------------------------------------------------------------------------------
def _in_strips(steps: Sequence[Step], results: Collection[int], item_sizes: Sequence[int]) -> list[Step]:
    """Runs of elementwise kernels over one range, joined where they pass something on."""
    from codegen.streams import streamed

    known: dict[int, tuple[int, tuple[bool, ...]] | None] = {}

    def flow(step: Step) -> tuple[int, tuple[bool, ...]] | None:
        if step.lowered is None or step.group is None or step.group.heavy is not None or step.group.passes:
            return None
        kernel = step.lowered.kernel
        if id(kernel) not in known:
            known[id(kernel)] = streamed(kernel)
        return known[id(kernel)]

    last = {p: i for i, step in enumerate(steps) for p, _ in step.arguments}
    out: list[Step] = []
    i = 0
    while i < len(steps):
        run: list[tuple[Step, tuple[bool, ...]]] = []
        if i + 1 < len(steps) and not set(_written(steps[i])).isdisjoint(_read(steps[i + 1])):
            extent = None
            for step in steps[i : i + MOST]:
                found = flow(step)
                if found is None or extent not in (None, found[0]):
                    break
                extent = found[0]
                run.append((step, found[1]))
        end = i + len(run)
        inner = _passed(run, {p for step, _ in run for p in _written(step) if last[p] < end} - set(results))
        if inner:
            out.append(_joined([step for step, _ in run], inner, [item_sizes[p] for p in inner]))
        else:
            run = run[:1]
            out.append(steps[i])
        i += max(len(run), 1)
    return out


def _passed(run: Sequence[tuple[Step, tuple[bool, ...]]], ending: Collection[int]) -> dict[int, int]:
    """Numbers for the places that need no array: written once in the run, and touched only element by element."""
    writers: dict[int, int] = {}
    apart: set[int] = set()
    for step, along in run:
        for p in _written(step):
            writers[p] = writers.get(p, 0) + 1
        apart.update(p for (p, offset), same in zip(step.arguments, along) if not same or offset)
    places = [p for p, count in writers.items() if count == 1 and p in ending and p not in apart]
    return {p: k for k, p in enumerate(places)}


def _joined(parts: Sequence[Step], inner: Mapping[int, int], sizes: Sequence[int], length: int = 0) -> Step:
    """The steps strip by strip. `inner`: numbers of the places that become no array, of so many bytes an element."""
    return Step(
        f"strips_of_{len(parts)}",
        tuple([n for s in parts for p, n in zip(_written(s), s.sinks, strict=True) if p not in inner]),
        arguments=tuple([a for s in parts for a in s.arguments if a[0] not in inner]),
        parameters=tuple([i for s in parts for i in s.parameters]),
        parts=tuple(parts),
        passed=tuple([tuple([inner.get(p) for p, _ in s.arguments]) for s in parts]),
        sizes=tuple(sizes),
        length=length,
    )
