"""What the emitter knows of the machine it writes for: names for LLVM, vector width, what is cheap.

Nothing here looks at the host or at the environment: `codegen.jit.target` does the former for ``native``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Target:
    """An instruction set. `masks`: masked vector loads and stores of every type are single instructions.

    `cache_bytes`: of the largest cache. `checked`: not the set's own; code asserts every index (`codegen.bounds`).
    """

    name: str
    triple: str
    cpu: str
    features: str
    vector_bytes: int
    registers: int
    has_fma: bool
    has_f16c: bool
    masks: bool
    has_long: bool
    cache_bytes: int = 32 << 20
    checked: bool = False

    @property
    def table_bytes(self) -> int:
        """Of the widest registers that `codegen.lookup` knows an instruction for: all of these targets have FMA."""
        return self.vector_bytes if self.has_fma else 0


LEVELS: Final = {  # name -> (vector bytes, vector registers, fma and f16c, masks, conversions of 64-bit integers)
    "x86-64-v2": (16, 16, False, False, False),
    "x86-64-v3": (32, 16, True, False, False),
    "x86-64-v4": (64, 32, True, True, True),
    "aarch64": (16, 32, True, False, True),
}


def level(name: str, triple: str) -> Target:
    """One of the psABI levels of x86-64, or the common set of aarch64 with half-precision conversions.

    `triple` is the host's: a level of another architecture is emitted for the host's system, and cannot run here.
    """
    if name not in LEVELS:
        raise ValueError(f"target: expected native or one of {', '.join(LEVELS)}, got {name}")
    vector_bytes, registers, has_fma, masks, has_long = LEVELS[name]
    architecture = "aarch64" if name == "aarch64" else "x86_64"
    _, _, system = triple.partition("-")
    cpu = "generic" if name == "aarch64" else name
    return Target(name, f"{architecture}-{system}", cpu, "", vector_bytes, registers, has_fma, has_fma, masks, has_long)


def from_features(triple: str, cpu: str, features: str, cache_bytes: int) -> Target:
    """The target that a host's LLVM feature string and cache describe."""
    have = {feature[1:] for feature in features.split(",") if feature.startswith("+")}
    if {"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= have:
        name = "x86-64-v4"
    elif {"avx2", "fma", "f16c"} <= have:
        name = "x86-64-v3"
    else:
        name = "aarch64" if triple.startswith(("aarch64", "arm64")) else "x86-64-v2"
    width, registers, fma, masks, has_long = LEVELS[name]
    return Target("native", triple, cpu, features, width, registers, fma, fma, masks, has_long, cache_bytes)
