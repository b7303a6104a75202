"""One step of a plan: a kernel, several kernels composed into one, or a host call."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from ..config import config
from ..ir import Node
from ..lower import Lowered
from .group import Group


@dataclass(eq=False, slots=True, repr=False)
class Step:
    """One kernel (`lowered`), several run as one (`parts`) or a host call (`call`).

    `arguments`: (place, byte offset) of each pointer; for parts those of one after another, without what is `passed`.
    `allocates`: places that get memory before the step; `releases`: places nothing reads after it; `replaces`: places
    that take the memory of one of the latter instead, of the same size, (new, old).
    `passed`: for parts that run strip by strip, for each pointer of each the number of a value that never becomes an
    array, or None; such a value has `sizes[number]` bytes an element. `length`: turns of the shortest of their ranges
    in a strip; 0: as many as what is passed leaves room for.
    """

    name: str
    sinks: tuple[Node, ...]
    lowered: Lowered | None = None
    call: Node | None = None
    group: Group | None = None
    arguments: tuple[tuple[int, int], ...] = ()
    parameters: tuple[int, ...] = ()
    allocates: tuple[int, ...] = ()
    releases: tuple[int, ...] = ()
    replaces: tuple[tuple[int, int], ...] = ()
    compiled: Any = None
    parts: "tuple[Step, ...]" = ()
    passed: tuple[tuple[int | None, ...], ...] = ()
    sizes: tuple[int, ...] = ()
    length: int = 0

    @property
    def kernels(self) -> "tuple[Step, ...]":
        """The steps it is made of: itself, if it is one kernel."""
        return self.parts or (self,)

    @property
    def loops(self) -> str:
        """The kernels as loop IR text (a host call: its name)."""
        if self.lowered is not None:
            from codegen.text import dump

            return dump(self.lowered.kernel)
        if not self.parts:
            return f"call {self.name}"
        return "\n".join(dict.fromkeys(part.loops for part in self.parts))

    @property
    def contractions(self) -> list[str]:
        """How each contraction in it is computed here: tile, blocks, what is packed, how often a term is rounded."""
        from codegen import jit
        from codegen.contract import described
        from codegen.tune import tuned

        target = jit.target(config.target)
        kernels = [part.lowered.kernel for part in self.kernels if part.lowered is not None]
        return [text for k in kernels for text in described(tuned(k, target) if config.tune else k, target)]

    @property
    def reads(self) -> int:
        """Bytes of memory it reads: each element of an array that it touches, once."""
        if self.call is not None:
            return sum(map(_nbytes, self.call.src))
        return self._bytes("in")

    @property
    def writes(self) -> int:
        """Bytes of memory it writes."""
        return _nbytes(self.call) if self.call is not None else self._bytes("out")

    def in_place(self) -> list[tuple[int, int]]:
        """Pairs (written, read) of places for which one memory would do, as far as the kernels are concerned."""
        from codegen.streams import in_place

        if self.call is not None or self.passed:
            return []
        out = []
        times = Counter(place for place, _ in self.arguments)
        for part in self.kernels:
            assert part.lowered is not None
            for a, b in in_place(part.lowered.kernel):
                (old, start), (new, offset) = part.arguments[a], part.arguments[b]
                if start == offset == 0 and times[old] == times[new] == 1:
                    out.append((new, old))
        return out

    def _bytes(self, role: str) -> int:
        from codegen.cost import touched

        total = 0
        counted: set[int] = set()  # what the kernels of a strip all read is read once
        for k, part in enumerate(self.kernels):
            assert part.lowered is not None
            kernel = part.lowered.kernel
            elements = touched(kernel)
            for i, b in enumerate(kernel.buffers):
                inside = self.passed and self.passed[k][i] is not None
                if b.role == role and not inside and part.arguments[i][0] not in counted:
                    total += elements[b] * b.type.bytes
                    counted |= {part.arguments[i][0]} if self.length else set()
        return total

    @property
    def bytes(self) -> int:
        return self.reads + self.writes

    @property
    def flops(self) -> int:
        """Arithmetic operations, each elementwise node counted once for each of its elements."""
        from codegen.cost import operations

        return sum(operations(part.lowered.kernel) for part in self.kernels if part.lowered is not None)


def _nbytes(n: Node) -> int:
    return n.size * n.dtype.itemsize
