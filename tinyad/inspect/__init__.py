"""Reading a computation: the text of every stage, the node graph as an object, and what ran."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from .. import text
from ..ir import Node, toposort
from ..sites import line_of

if TYPE_CHECKING:
    from ..schedule.plan import Plan
    from ..schedule.step import Step
    from ..tensor import Tensor

__all__ = ["STAGES", "Graph", "compiled_stats", "dump", "graph", "schedule", "show"]


def _machine(step: Step, stage: str) -> str:
    """The code of each kernel of a step; a host call has none."""
    if step.call is not None:
        return step.loops
    from ..realize import compiled

    code = compiled(step)
    return "\n".join(dict.fromkeys(getattr(part, stage) for part in (code.parts if step.parts else (code,))))


def _each(of: Callable[[Step], str]) -> Callable[[Plan], str]:
    return lambda plan: "\n\n".join(f"; k{i} {s.name}\n{of(s)}" for i, s in enumerate(plan))


STAGES: Final[dict[str, Callable[[Plan], str]]] = {
    "schedule": str,
    "loops": _each(lambda s: s.loops),
    "llvm": _each(lambda s: _machine(s, "llvm")),
    "asm": _each(lambda s: _machine(s, "asm")),
}
"""The stages of a plan, each with its text; the stage before them is ``ir``."""


def dump(tensors: Sequence[Tensor], stage: str = "ir") -> str:
    """The text of one stage of computing `tensors`: ir, schedule, loops, llvm or asm.

    Works before and after they are computed. ``ir`` is the graph as it was written (of a computed tensor without
    history: its canonical form); the other stages are those of the plan that computes, or computed, the first tensor.
    """
    if stage != "ir" and stage not in STAGES:
        raise ValueError(f"dump: unknown stage {stage!r}; expected one of ir, {', '.join(STAGES)}")
    nodes = [t.node for t in tensors]
    if stage == "ir":
        return text.dump([_written(n) for n in nodes])
    return STAGES[stage](plan_of(nodes))


def _written(n: Node) -> Node:
    """The node itself, or the canonical one it was computed as if its history has been dropped."""
    if n.src or n.plan is None:
        return n
    plan, number = n.plan
    found: Node = plan.nodes[number]
    return found


def plan_of(nodes: Sequence[Node]) -> Plan:
    """The plan that computed the first node, or would compute all of them now."""
    from ..realize import schedule

    if nodes[0].buffer is not None and nodes[0].plan is not None:
        plan: Plan = nodes[0].plan[0]
        return plan
    return schedule(nodes)


def show(roots: Sequence[Node], plan: Plan, level: int) -> str:
    """What ``TINYAD_DEBUG=level`` prints before a plan runs: each level adds a stage."""
    parts = [f"tinyad: {len(plan)} kernels: {', '.join(s.name for s in plan)}"]
    if level >= 2:
        parts.append(text.dump(roots))
    stages = [["schedule"], ["loops"], ["llvm", "asm"]]
    for names in stages[: max(level - 2, 0)]:
        parts += [STAGES[name](plan) for name in names]
    return "\n".join(parts)


def schedule(*tensors: Tensor) -> Plan:
    """The plan that reading `tensors` would run, without running it.

    ``len(plan)`` is the number of kernels; each has `name`, `loops`, `reads`, `writes`, `bytes` (bytes) and `flops`;
    the plan has their sums, `peak_bytes`, `explain()`, and its dump as `str`.
    """
    from ..realize import schedule as plan

    return plan([t.node for t in tensors])


def compiled_stats() -> dict[str, float]:
    """Counters of this process: kernels_built, kernels_run, cache_hits, disk_hits, compile_seconds, live_bytes,
    peak_bytes (bytes of arrays that tinyad allocated)."""
    from .. import buffer
    from ..realize import stats

    return {**vars(stats), **buffer.usage()}


class Graph:
    """The nodes behind some tensors, sources first (each with op, src, arg, shape, dtype); `roots` are the results."""

    def __init__(self, roots: Sequence[Node]) -> None:
        self.roots = tuple(roots)
        self.nodes = tuple(toposort(roots))

    def __len__(self) -> int:
        return len(self.nodes)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __str__(self) -> str:
        return text.dump(self.roots)

    def __repr__(self) -> str:
        return f"<Graph of {len(self)} nodes>"

    def to_dot(self) -> str:
        """The graph as Graphviz source: a box per node with its op, type and Python line; arrows along the data."""
        number = {id(n): i for i, n in enumerate(self.nodes)}
        lines = ["digraph tinyad {", "  node [shape=box, fontname=monospace];"]
        for i, n in enumerate(self.nodes):
            line = line_of(n)
            value = f" {text.const_text(n.arg, n.dtype)}" if n.op.value == "const" else ""
            label = f"{n.op.value}{value}\\n{text.type_text(n)}" + (f"\\n{line}" if line else "")
            label = label.replace('"', '\\"')
            style = ", style=bold" if any(n is r for r in self.roots) else ""
            lines.append(f'  n{i} [label="{label}"{style}];')
            lines += [f"  n{number[id(s)]} -> n{i};" for s in n.src]
        return "\n".join([*lines, "}"])


def graph(*tensors: Tensor) -> Graph:
    """The node graph behind `tensors`."""
    return Graph([_written(t.node) for t in tensors])
