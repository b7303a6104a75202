"""A recorded plan: what `jit` replays at every call, with the buffers of its arguments bound to the plan's leaves.

What changes from call to call lies in a frame. A call takes one that is free, or makes one, and leaves it behind; so
threads may call at the same time, a call may interrupt another (a signal, a finaliser), and there is no lock.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from dataclasses import replace
from sys import getrefcount
from typing import Any, Final

import numpy as np

from . import pytree
from .buffer import Buffer, copy, empty, maker, view, workspace
from .canonical import Canonical, number
from .config import config
from .history import held
from .ir import DType, Node, Op, Shape, WeakNode, computed
from .sites import origin
from .tensor import Tensor

_SOLE: Final = 4  # references to the buffer of an argument: its node, the list of places, the local name, the call
_new: Final = object.__new__
_ref: Final = weakref.ref
KEPT: Final = 1 << 16  # bytes of memory of its own that a kernel keeps from call to call


class _Kernel:
    """A step ready to run: its table of pointers, in which only `moving` entries change from call to call.

    `large`: worth several threads, or in need of much memory of its own. Others are called without asking.
    """

    __slots__ = (
        "allocates", "alone", "block", "call", "code", "keep", "large", "moving", "params", "releases", "replaces",
        "size", "status_at", "table", "threads",
    )  # fmt: skip

    def __init__(self, step: Any, code: Any, c: Canonical, fixed: dict[int, Buffer], status_at: int) -> None:
        from codegen import threads

        words = code.frame if step.parts else (0,) * len(step.arguments)
        slots = code.slots if step.parts else range(len(words))
        table = (ctypes.c_uint64 * (len(words) + 2))(*words)
        self.moving: list[tuple[int, int, int]] = []
        for slot, (place, offset) in zip(slots, step.arguments):
            if place in fixed:
                table[slot] = fixed[place].address + offset
            else:
                self.moving.append((slot, place, offset))
        bits = [c.parameters[i] for i in step.parameters]
        self.params = (ctypes.c_uint64 * len(bits))(*bits)
        self.table, self.status_at = table, status_at
        self.code, self.threads = code, threads
        self.allocates, self.releases, self.replaces = step.allocates, step.releases, step.replaces
        self._prepare()
        self.large = self.call.areas > 1 or (self.keep is None and self._needed() > 0)

    def _needed(self) -> int:
        """Bytes of memory of its own."""
        return self.threads.memory(self.code, self.call.areas)

    def _prepare(self) -> None:
        """The call for the number of threads that there may be now, and memory of its own if that is little."""
        from codegen.direct import Call

        self.size = self.threads.size()
        at = ctypes.addressof(self.table), ctypes.addressof(self.params)
        self.call = Call(self.code, *at, self.status_at, self.threads.shares(self.code))
        self.alone, self.block = self.call.alone, self.call.block
        self.keep = self._place(self._needed()) if 0 < self._needed() <= KEPT else None

    def _place(self, needed: int) -> Buffer:
        """Memory of its own, entered in the table."""
        scratch = workspace(needed)
        for i, address in enumerate(self.code.more(scratch.address), self.code.entries):
            self.table[i] = address
        return scratch

    def run(self) -> None:
        """A call of a large kernel, on as many threads as are of use."""
        if self.threads.size() != self.size:
            self._prepare()
        scratch = self._place(self._needed()) if self.keep is None and self._needed() else None
        self.call.shared()
        del scratch  # not before the call is over


class _Frame:
    """What one call has for itself: the buffer of every place that is the same in all its calls, among them `cells`,
    which it writes its numbers and the states of generators to; the kernels with their tables; the status word."""

    __slots__ = ("cells", "kernels", "places", "status")

    def __init__(self, program: "Program") -> None:
        self.places = program.bound.copy()
        self.cells = {slot: empty(*program.shapes[slot]) for slot in program.written}
        for slot, b in self.cells.items():
            self.places[slot] = b
        self.status = ctypes.c_int32(0)
        self.kernels: list[_Kernel] | None = None
        if program.compiled:
            fixed = {p: b for p, b in enumerate(self.places) if b is not None and p not in program.moving}
            c, at = program.canonical, ctypes.addressof(self.status)
            self.kernels = [_Kernel(step, step.compiled, c, fixed, at) for step in program.plan.steps]


class Program:
    """One trace of a function: its plan, what each leaf of the plan is bound to, and the results' structure.

    `tracked`: a result depends on a `requires_grad` leaf, so that it is right under `no_grad` only.
    """

    def __init__(
        self,
        name: str,
        ys: list[Node],
        holes: list[Node],
        structure: pytree.Structure,
        states: list[tuple[Any, Node, int]],
        tracked: bool,
        donated: Sequence[int] = (),
    ) -> None:
        from .realize import _lock, _show, compile_steps, stats
        from .schedule.plan import plan_for

        self.roots = ys
        self.tracked = tracked
        self.structure = structure
        self._stats = stats
        with _lock:
            inputs = [*holes, *(n for _, n, _ in states)]
            try:
                for n in inputs:  # what is stored becomes a numbered leaf
                    n.buffer = stand_in(n)
                c = number(ys)
                slots = {id(b): slot for slot, b in enumerate(c.leaves)}
                slot_of = [slots.get(id(n.buffer)) for n in inputs]
            finally:
                for n in inputs:
                    n.buffer = None
            given = frozenset(s for i in donated if (s := slot_of[i]) is not None)
            self.plan = plan_for(c, config.fuse, given)
            if config.debug:
                _show(ys, self.plan)
        plan = self.plan
        self._donated = tuple(donated)
        self.canonical = c
        self.bound: list[Buffer | None] = [*c.leaves, *([None] * (len(plan.places) - plan.leaves))]
        self._arrays: list[tuple[int, int]] = []  # argument, slot
        self._numbers: list[tuple[int, int]] = []
        for i, (n, slot) in enumerate(zip(holes, slot_of, strict=False)):
            if slot is not None:
                self.bound[slot] = None
                (self._numbers if type(n) is WeakNode else self._arrays).append((i, slot))
        self._states: list[tuple[Any, int, int | None]] = []  # generator, blocks drawn, slot of its state
        for (generator, _, start), slot in zip(states, slot_of[len(holes) :], strict=True):
            self._states.append((generator, generator.counter - start, slot))
        self._captured: list[tuple[int, weakref.ref[Any], Node]] = []
        known = {slot for slot in slot_of if slot is not None}
        for key, n in zip(c.key, c.origin, strict=False):
            if key[0] is Op.BUFFER and key[1].index not in known:
                known.add(key[1].index)
                if n.handle is not None and held(n):
                    self._captured.append((key[1].index, n.handle, n))
        self.moving = {slot for slot, _, _ in self._captured} | {slot for _, slot in self._arrays}
        drawn = [slot for _, _, slot in self._states if slot is not None]
        self.written = frozenset([slot for _, slot in self._numbers] + drawn)
        self.compiled = all(step.call is None for step in plan.steps) and not config.verify
        if self.compiled:
            compile_steps(plan.steps)
        line = next((site for y in ys if (site := origin(y.site))), None)  # of results that have none of their own
        self._outputs: list[tuple[int, Shape, DType, Any, tuple[Any, int], bool]] = []
        self.shapes = list(plan.places)  # arrays that are results are made in the shape of the first of them
        fresh = {place for step in plan.steps for place in step.allocates} if self.compiled else set()
        for (place, shape), y, at in zip(plan.results, ys, c.roots, strict=True):
            if place in fresh:
                fresh.remove(place)
                self.shapes[place] = shape, y.dtype
            plain = self.shapes[place][0] == shape and place not in self.written and 0 not in shape
            self._outputs.append((place, shape, y.dtype, y.site or line, (plan, at), plain))
        self._makers = [maker(*place, config.guard) for place in self.shapes]
        self._single = structure == pytree.LEAF
        self._flat = structure.cls is tuple and all(s == pytree.LEAF for s in structure.children)
        self.name = name
        self.frames = [_Frame(self)]  # those that no call uses

    def __call__(self, leaves: Sequence[Any]) -> Any:
        """The results for these arguments; nothing of them is kept."""
        try:
            frame = self.frames.pop()
        except IndexError:
            frame = _Frame(self)
        places = frame.places.copy()
        behind = []
        for i, slot in self._arrays:
            x = leaves[i]
            if type(x) is Tensor or isinstance(x, Tensor):
                n = x.node
                places[slot] = n.buffer
                behind.append(_ref(n))
            else:
                places[slot] = copy(x)
        for i, slot in self._numbers:
            frame.cells[slot].array[()] = leaves[i]
        if self._captured:
            self._read_captured(places)
        if self._states:
            self._read_states(frame)
        kernels = frame.kernels
        if kernels is None:
            places = self._run(places)
        else:
            makers = self._makers
            for k in kernels:
                for p in k.allocates:
                    places[p] = makers[p]()
                for p, old in k.replaces:
                    b = places[old]
                    assert b is not None
                    free = old >= self.plan.leaves or (b.unseen and getrefcount(b) <= _SOLE)
                    places[p] = b.handed_over(*self.shapes[p]) if free else makers[p]()
                table = k.table
                for i, p, offset in k.moving:
                    table[i] = places[p].address + offset  # type: ignore[union-attr]
                if k.large:
                    k.run()
                else:
                    k.alone(k.block)
                if frame.status.value:
                    self._run(self._leaves_of(places))  # raises the IndexError with its line
                for p in k.releases:
                    places[p] = None
            self._stats.kernels_run += len(kernels)
        for i in self._donated:
            leaves[i].node.buffer = None
        out = []
        for place, shape, dtype, site, plan, plain in self._outputs:
            b = places[place]
            if not plain:
                b = self._result(b, place, shape, dtype)
            t = _new(Tensor)
            t.grad = None
            t.node = n = computed(shape, dtype, b, site, plan, behind)
            n.handle = _ref(t)
            out.append(t)
        self.frames.append(frame)
        if self._single:
            return out[0]
        return tuple(out) if self._flat else self.structure.unflatten(out)

    def _read_captured(self, places: list[Buffer | None]) -> None:
        """Binds the values that tensors used by the function have now."""
        for slot, handle, old in self._captured:
            t = handle()
            if t is not None and t.node is not old:
                t.realize()
                places[slot] = t.node.buffer

    def _read_states(self, frame: _Frame) -> None:
        """Takes the blocks of one call from the generators."""
        from .random import advance

        for generator, blocks, slot in self._states:
            state = advance(generator, blocks)
            if slot is not None:
                frame.cells[slot].array[:] = state

    def _leaves_of(self, places: list[Buffer | None]) -> list[Buffer | None]:
        return places[: self.plan.leaves]

    def _run(self, places: list[Buffer | None]) -> list[Buffer | None]:
        """A run step by step, for plans with host functions and for errors."""
        from .realize import run

        leaves: Any = self._leaves_of(places)
        return run(self.plan, replace(self.canonical, leaves=leaves))

    def _result(self, b: Buffer | None, place: int, shape: Shape, dtype: DType) -> Buffer:
        """A result that is not a fresh array of its own shape: empty, a view of one, or a cell written at each call."""
        if b is None:
            return empty(shape, dtype)
        return (copy(b.array) if place in self.written else b).reshaped(shape)


def stand_in(n: Node) -> Buffer:
    """A buffer of n's shape and dtype, without memory of its own, that nothing reads."""
    return view(np.broadcast_to(np.zeros((), n.dtype), n.shape))
