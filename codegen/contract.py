"""Which way a contraction is computed: over windows, taps of windows, streaming by few rows, or in tiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

from .analysis import statements
from .builder import Val
from .emit_contract import contract_tiles
from .emit_stream import contract_stream
from .emit_taps import contract_taps, taps
from .emit_windows import contract_windows, layout, layouts
from .frame import ON_STACK, Frame
from .loops import Contract, Kernel
from .split import prepare
from .target import Target
from .tiling import Tiling, stream, tiling, tilings

Emit = Callable[[Frame, Contract, "Val | None", "Val | None"], None]


@dataclass(frozen=True, slots=True)
class Method:
    """A contraction's `units`, into which it can be split, its emitter and a line for people.

    `bytes` of scratch are expected behind `Frame.arena`.
    """

    units: int
    bytes: int
    emit: Emit
    text: str
    tiling: Tiling | None = None


def _arena(parts: Sequence[int]) -> int:
    """Bytes that memory of these sizes takes of the arena."""
    return sum(parts) if sum(parts) > ON_STACK else 0


def method(s: Contract, target: Target) -> Method:
    """The way in which `s` is computed on `target`: the first of the four that it fits, or what it says itself."""
    return _method(s, s.how, target)


@lru_cache(64)
def _method(s: Contract, how: str, target: Target) -> Method:
    if s.part is not None:
        return _in_tiles(s, target)
    way = how.partition(" ")[0]
    if way in ("", "taps") and (t := taps(s, target)) is not None:
        return Method(t.units, _arena(t.parts), partial(contract_taps, p=t), str(t))
    if way in ("", "windows") and (w := layout(s, target, how)) is not None:
        return Method(w.units, _arena(w.parts), partial(contract_windows, p=w), str(w))
    if way in ("", "stream") and (few := stream(s, target)) is not None:
        return Method(few.units, _arena(few.parts), partial(contract_stream, p=few), str(few))
    return _in_tiles(s, target)


def _in_tiles(s: Contract, target: Target) -> Method:
    p = tiling(s if s.part is None or s.part.after is None else s.part.after, target)
    return Method(p.units, _arena(p.parts), partial(contract_tiles, p=p), str(p), p)


def candidates(s: Contract, target: Target, most: int) -> list[str]:
    """Ways that may be the fastest, as `Contract.how` names them: of each kind the `most` that should cost least."""
    if s.part is not None:  # the parts of a sum agree
        return [s.how]
    ways = ["taps"] * (taps(s, target) is not None) + ["stream"] * (stream(s, target) is not None)
    return [*ways, *layouts(s, target)[:most], *tilings(s, target)[:most]]


def contract(f: Frame, s: Contract, begin: Val | None = None, end: Val | None = None) -> None:
    """Emits a contraction, or its units ``[begin, end)``."""
    method(s, f.target).emit(f, s, begin, end)


def described(kernel: Kernel, target: Target) -> list[str]:
    """A line for each contraction of a kernel: how it is computed."""
    found = [s for s in statements(prepare(kernel).body) if isinstance(s, Contract)]
    return [method(s, target).text + ", found by timing" * bool(s.how) for s in found]
