"""Computing now: the plan of some nodes is made or recalled, its kernels are compiled at first need and run.

The only file that runs kernels. LLVM is loaded here, at the first kernel.
"""

from __future__ import annotations

import ctypes
import logging
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from . import forks, history
from .buffer import Buffer, copy, empty, workspace
from .canonical import Canonical, Parameter, number, open_input, value_of
from .config import config
from .errors import IRError
from .ir import LEAF, Node, Op, toposort
from .schedule.plan import Plan, plan_for
from .schedule.step import Step
from .sites import line_of

log = logging.getLogger("tinyad")
_lock = threading.RLock()
Observer = Callable[[Step, list[Buffer | None]], None]


class Stats:
    """Counters since the process began; `compile_seconds` of wall time."""

    def __init__(self) -> None:
        self.kernels_built = 0
        self.kernels_run = 0
        self.cache_hits = 0
        self.disk_hits = 0
        self.compile_seconds = 0.0


stats = Stats()


def realize(nodes: Sequence[Node]) -> None:
    """Computes `nodes`, and in the same plan every live tensor that shares work with them."""
    with _lock:
        roots = [n for n in nodes if n.buffer is None]
        if not roots:
            return
        roots, order = history.computed_with(roots)
        if config.backend == "numpy":
            _interpret(roots, order)
        else:
            c = number(roots, order)
            plan = plan_for(c, config.fuse)
            if config.debug:
                _show(roots, plan)
            arrays = run(plan, c)
            for n, (place, shape), at in zip(roots, plan.results, c.roots):
                stored = arrays[place]
                assert stored is not None
                n.buffer = stored.reshaped(shape)
                n.plan = plan, at
        history.forget(roots)


def _interpret(roots: Sequence[Node], order: Sequence[Node]) -> None:
    """The NumPy backend: one operation at a time."""
    from .interpret import interpret

    for n in order:
        if n.op is Op.INPUT and not n.src and n.buffer is None:
            raise open_input(n)

    for n, array in zip(roots, interpret(roots)):
        n.buffer = copy(np.asarray(array))


def run(plan: Plan, c: Canonical, observe: Observer | None = None) -> list[Buffer | None]:
    """Runs every step of `plan` on the leaves and parameters of `c`; the buffer of each place still alive.

    `observe` is called after each step, while everything the step read is still there. Leaves are left as they are.
    """
    if config.verify and observe is None:
        from .recheck import Recheck

        observe = Recheck(plan, c)
    arrays: list[Buffer | None] = [*c.leaves, *([None] * (len(plan.places) - plan.leaves))]
    status = ctypes.c_int32(0)
    status_address = ctypes.addressof(status)
    _, threads = _code_generator()
    compile_steps(plan.steps)
    for step in plan.steps:
        for place, old in step.replaces:
            given = arrays[old]
            assert given is not None
            keep = observe is not None or old < plan.leaves
            arrays[place] = empty(*plan.places[place]) if keep else given.handed_over(*plan.places[place])
        for place in step.allocates:
            arrays[place] = empty(*plan.places[place])
        if step.call is not None:
            _host(step, arrays)
        else:
            code = step.compiled
            table = [arrays[p].address + offset for p, offset in step.arguments]  # type: ignore[union-attr]
            if step.parts:
                table = code.table(table)
            areas = threads.shares(code)
            if needed := threads.memory(code, areas):
                scratch = workspace(needed)
                table += code.more(scratch.address)
            pointers = (ctypes.c_uint64 * len(table))(*table)
            bits = [c.parameters[i] for i in step.parameters]
            params = (ctypes.c_uint64 * len(bits))(*bits)
            at = ctypes.addressof(pointers), ctypes.addressof(params), status_address
            threads.call(code, *at, areas)
            if status.value:
                _raise_index_error(step, status.value, plan, c, arrays)
        stats.kernels_run += 1
        if observe is not None:
            observe(step, arrays)
        for place in step.releases:
            arrays[place] = None
    for place, (shape, dtype) in enumerate(plan.places):  # results without elements, which no step writes
        if arrays[place] is None and 0 in shape:
            arrays[place] = empty(shape, dtype)
    return arrays


def compiled(step: Step) -> Any:
    """The machine code of a step's kernel, compiled at its first need."""
    compile_steps([step])
    return step.compiled


def compile_steps(steps: Sequence[Step]) -> None:
    """Machine code for the steps that have none yet, generated by as many threads as kernels run on."""
    missing = [step for step in steps if step.compiled is None and step.call is None]
    if not missing:
        return
    jit, threads = _code_generator()
    target = replace(jit.target(config.target), checked=config.bounds)
    wanted = [w for step in missing for w in _wanted(step, jit, target)]
    start, built, from_disk = time.perf_counter(), jit.counts.built, jit.counts.disk_hits
    codes = iter(jit.compile_kernels(wanted, target, threads.size()))
    built, from_disk = jit.counts.built - built, jit.counts.disk_hits - from_disk
    stats.kernels_built += built
    stats.disk_hits += from_disk
    stats.cache_hits += len(wanted) - built - from_disk
    if built or from_disk:
        stats.compile_seconds += time.perf_counter() - start
    for step in missing:
        parts = [next(codes) for _ in step.kernels]
        step.compiled = _composed(step, parts, target) if step.parts else parts[0]


def _wanted(step: Step, jit: Any, target: Any) -> list[Any]:
    """What is to be compiled for a step."""
    out = []
    in_place = {new for new, _ in step.replaces}  # in cache, since it has been read there
    least = 1 if step.parts and not step.length else jit.LEAST
    for k, part in enumerate(step.kernels):
        assert part.lowered is not None
        kept = [i for i, v in enumerate(step.passed[k]) if v is not None] if step.passed else []
        kept += [i for i, (place, _) in enumerate(part.arguments) if place in in_place]
        out.append(jit.Wanted(_chosen(part.lowered.kernel, target), least, tuple(kept)))
    return out


def _composed(step: Step, parts: Sequence[Any], target: Any) -> Any:
    """The codes of a step's kernels as one."""
    from codegen import compose

    if not step.passed:
        return compose.segments(parts, target)
    return compose.strips(parts, step.passed, step.sizes, step.length, target)


def _chosen(kernel: Any, target: Any) -> Any:
    """The kernel; after a search, if TINYAD_TUNE asks for one, with the ways in which its contractions are computed."""
    if not config.tune:
        return kernel
    from codegen.tune import tuned

    return tuned(kernel, target)


@cache
def _code_generator() -> tuple[Any, Any]:
    """`codegen.jit` and `codegen.threads`, given the settings that they do not read themselves."""
    import codegen

    if getattr(codegen, "OWNER", None) != "tinyad":
        raise ImportError(
            f"the package 'codegen' at {codegen.__file__} is not tinyad's own; "
            "another distribution of that name shadows it: uninstall it or install tinyad in a fresh environment"
        )
    from codegen import jit, threads
    from codegen.cache import Disk, Refused

    threads.use_threads(config.threads)
    if config.cache:
        try:
            jit.use_disk(Disk(config.cache_dir, config.cache_mb << 20))
        except Refused as e:
            warnings.warn(f"compiled kernels are not kept on disk: {e}", RuntimeWarning, stacklevel=2)
    forks.taken(_lock)
    return jit, threads


def _host(step: Step, arrays: list[Buffer | None]) -> None:
    """Runs a host function on read-only views and copies what it returns."""
    n = step.call
    assert n is not None
    *sources, target = [arrays[p] for p, _ in step.arguments]
    views = []
    for s in sources:
        assert s is not None
        view = s.array.view()
        view.flags.writeable = False
        views.append(view)
    result = np.asarray(n.arg.fn(*views))
    if result.shape != n.shape or result.dtype != n.dtype:
        raise IRError(
            f"host function {n.arg.name}: promised {n.dtype.name}{n.shape}, returned {result.dtype.name}{result.shape}"
        )
    assert target is not None
    target.array[...] = result


def _raise_index_error(step: Step, code: int, plan: Plan, c: Canonical, arrays: list[Buffer | None]) -> None:
    """The IndexError for an index of the user's out of range: NumPy's sentence, and the line that wrote the operation.

    The kernel only knows that there is one; which, is found by computing the indices once more.
    """
    from .interpret import interpret

    assert step.lowered is not None
    if code < 0:
        line = next((line for n in step.sinks if (line := line_of(n))), None)
        raise IRError(f"kernel {step.name}: an index outside of its buffer {-1 - code} (computed for {line})")
    n = step.lowered.checks[code - 1]
    size = n.src[0].shape[n.arg] if n.op is Op.GATHER else n.arg[2]
    axis = n.arg if n.op is Op.GATHER else n.arg[1]
    bindings = {}
    for argument, (place, _) in zip(step.lowered.arguments, step.arguments):
        stored = arrays[place]
        assert stored is not None
        bindings[argument.node] = stored.array
    for x in toposort([n.src[1]], lambda x: () if x in bindings else x.src):
        if isinstance(x.arg, Parameter):
            bindings[x] = np.full(x.shape, value_of(c.parameters[x.arg.index], x.dtype), x.dtype)
    (indices,) = interpret([n.src[1]], bindings)
    bad = indices[(indices < 0) | (indices >= size)].ravel()[0]
    bad = bad if bad >= 0 else bad - size  # a negative index has been wrapped by then
    line = line_of(c.origin[plan.number_of[id(n)]])
    where = f" (indexing written at {line})" if line else ""
    raise IndexError(f"index {bad} is out of bounds for axis {axis} with size {size}{where}")


def schedule(nodes: Sequence[Node]) -> Plan:
    """The plan that `realize(nodes)` would run, without running it. Nothing to do: a plan without kernels."""
    roots = [n for n in nodes if n.buffer is None and (n.op not in LEAF or n.op is not Op.BUFFER)]
    with _lock:
        return plan_for(number(*history.computed_with(roots)), config.fuse)


def _show(roots: Sequence[Node], plan: Plan) -> None:
    """What TINYAD_DEBUG asks for, on standard error."""
    import sys

    from .inspect import show

    print(show(roots, plan, config.debug), file=sys.stderr)
