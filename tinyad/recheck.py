"""``TINYAD_VERIFY=1``: every kernel is computed once more, one operation at a time, and held against the interpreter.

After a kernel has run, the operations it is made of run unfused on the arrays it read, each result is compared with
the interpreter's as `compare` says, and what the kernel stored must be the last of them to the bit. A difference is
narrowed down, first to one operation, then to one result of the kernel, and written as a script that shows it again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import ir
from .buffer import Buffer, copy
from .canonical import Canonical, Parameter, number, value_of
from .compare import Array, Checker, Mismatch, complain, licensed, results, same_bits, written
from .errors import VerifyError
from .interpret import interpret
from .ir import Node, Op, toposort
from .realize import run
from .schedule.plan import Plan, plan_for
from .schedule.step import Step
from .sites import line_of
from .text import dump, parse_named

_SCRIPT = '''"""{title}

{loops}
"""

from pathlib import Path

import numpy as np

from tinyad.recheck import replay

GRAPH = """
{graph}"""

with np.load(Path(__file__).with_suffix(".npz")) as arrays:
    replay(GRAPH, arrays)
print("the kernel and the interpreter agree")
'''


class Recheck:
    """Observes a plan; raises `VerifyError` after the first kernel that is not right."""

    def __init__(self, plan: Plan, c: Canonical) -> None:
        self.plan = plan
        self.c = c

    def __call__(self, step: Step, arrays: list[Buffer | None]) -> None:
        try:
            self.compare(step, arrays)
        except Mismatch as e:
            raise self._error(step, arrays, e) from None

    def compare(self, step: Step, arrays: list[Buffer | None]) -> None:
        """Raises `Mismatch` if the kernel is not right."""
        if step.call is not None:
            return
        roots, got = self._graph(step, arrays)
        c = number(roots)
        plan = plan_for(c, False)
        checker = Checker(plan, c)
        plain = results(plan, run(plan, c, checker))
        free: set[int] | None = None
        for found, want, at in zip(got, plain, c.roots, strict=True):
            ok = same_bits(found, want)
            if not ok.all():
                free = licensed(plan, c, checker) if free is None else free
                if at not in free:
                    complain(plan.nodes[at], {}, found, want, ok, "fused differs from unfused:")

    def _graph(self, step: Step, arrays: list[Buffer | None]) -> tuple[list[Node], list[Array]]:
        """The operations of a kernel on the arrays it read, and what it has stored for each result."""
        groups = [part.group for part in step.kernels if part.group is not None]
        own = {s.target.into for g in groups for s in g.sinks} | {
            s.node for g in groups for s in g.sinks if s.target.into is s.node
        }
        values: dict[Node, Buffer] = {}
        for n in self.plan.nodes:
            place = self.plan.place_of.get(id(n))
            held = arrays[place] if place is not None else None
            if held is not None and n not in own:
                values[n] = held.reshaped(n.shape)
        pairs = [pair for g in groups for pair in written(g, self.plan, arrays)]
        sinks = [n for n, _ in pairs]
        new: dict[Node, Node] = {}
        for n in toposort(sinks, lambda n: () if n in values else n.src):
            if n in values:
                new[n] = ir.buffer(n.shape, n.dtype, values[n])
            elif isinstance(n.arg, Parameter):
                new[n] = ir.const(value_of(self.c.parameters[n.arg.index], n.dtype), n.dtype, n.shape)
            else:
                new[n] = Node(n.op, tuple([new[s] for s in n.src]), n.arg, n.shape, n.dtype)
            new[n].site = n.site
        return [new[n] for n in sinks], [got for _, got in pairs]

    def _error(self, step: Step, arrays: list[Buffer | None], e: Mismatch) -> VerifyError:
        roots, _ = self._graph(step, arrays)
        candidates = [[r] for r in roots] if len(roots) > 1 else []
        if e.values:
            candidates.insert(0, [_alone(e.node, e.values)])
        smallest = next((c for c in candidates if _fails(c)), roots)
        line = line_of(e.node)
        title = f"kernel {step.name}{f' ({line})' if line else ''}: {e}"
        script = _write(title, step.loops, smallest)
        return VerifyError(f"{title}\npython {script}\nshows it again", script)


def _alone(n: Node, values: Mapping[Node, Array]) -> Node:
    """One operation on stored operands; of a sum of products, the products too."""

    def stored(s: Node) -> Node:
        if s.op is Op.CONST:
            return s if not isinstance(s.arg, Parameter) else ir.const(values[s].flat[0].item(), s.dtype, s.shape)
        (array,) = interpret([s], values)
        return ir.buffer(s.shape, s.dtype, copy(np.asarray(array)))

    (first, *_) = n.src or (None,)
    if n.op is Op.SUM and first is not None and first.op is Op.MUL:
        operands = [Node(Op.MUL, tuple(map(stored, first.src)), None, first.shape, first.dtype)]
    else:
        operands = [stored(s) for s in n.src]
    return Node(n.op, tuple(operands), n.arg, n.shape, n.dtype)


def _fails(roots: Sequence[Node]) -> bool:
    try:
        verify(roots)
    except Mismatch:
        return True
    return False


def verify(roots: Sequence[Node]) -> None:
    """Runs the plan of `roots`, whose leaves are stored; raises `Mismatch` if one of its kernels is not right."""
    c = number(roots)
    plan = plan_for(c)
    run(plan, c, Recheck(plan, c).compare)


def replay(text: str, arrays: Mapping[str, Any]) -> None:
    """`verify` of the graph that `text` describes, its stored leaves given by name."""
    roots, named = parse_named(text)
    for name, array in arrays.items():
        named[name].buffer = copy(array)
    verify(roots)


def _write(title: str, loops: str, roots: Sequence[Node]) -> Path:
    """A script and its data, in a directory of their own."""
    leaves = [n for n in toposort(roots) if n.op is Op.BUFFER]
    names = {n: f"b{k}" for k, n in enumerate(leaves)}
    script = Path(tempfile.mkdtemp(prefix="tinyad-")) / "kernel.py"
    text = _SCRIPT.format(title=title, loops=loops, graph=dump(roots, names))
    script.write_text(text.replace("\\", "\\\\"), encoding="utf-8")
    data = {name: n.buffer.array.reshape(n.shape) for n, name in names.items()}
    np.savez_compressed(script.with_suffix(".npz"), **data)
    return script
