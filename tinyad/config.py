"""The environment variables tinyad reads, in one place, read once."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass


@dataclass
class Config:
    """Settings, each from the environment variable ``TINYAD_<NAME>``."""

    backend: str = "native"  # native: compiled kernels; numpy: the interpreter, one op at a time
    debug: int = 0  # 1 kernels run, 2 ir, 3 schedule, 4 loops, 5 llvm and asm
    fuse: bool = True  # False: every node is stored, one kernel each
    target: str = "native"  # native, x86-64-v2, x86-64-v3, x86-64-v4
    verify: bool = False  # hold every kernel against the interpreter
    bounds: bool = False  # kernels that assert every index
    guard: bool = False  # memory that faults past its end and begins as NaN
    tune: bool = False  # contractions are timed in several ways, the fastest is remembered on disk
    threads: int = 0  # that kernels use; 0: as many as the process may run at once
    cache: bool = True  # False: compiled kernels are kept in memory only
    cache_dir: str = ""  # where compiled kernels are kept on disk; empty: tinyad in the user's cache directory
    cache_mb: int = 256  # mebibytes that they take there at most


def _read() -> Config:
    config = Config()
    known = {f"TINYAD_{name.upper()}": name for name in config.__dataclass_fields__}
    for variable, text in os.environ.items():
        if not variable.startswith("TINYAD_"):
            continue
        name = known.get(variable)
        if name is None:
            warnings.warn(f"unknown environment variable {variable}; known: {', '.join(sorted(known))}", stacklevel=2)
            continue
        default = getattr(config, name)
        try:
            setattr(config, name, text if isinstance(default, str) else type(default)(int(text)))
        except ValueError:
            raise ValueError(f"{variable}={text!r}: expected an integer") from None
    if config.backend not in ("native", "numpy"):
        raise ValueError(f"TINYAD_BACKEND={config.backend!r}: expected native or numpy")
    if not config.cache_dir:
        base = os.environ.get("XDG_CACHE_HOME", "")
        config.cache_dir = os.path.join(base if os.path.isabs(base) else os.path.expanduser("~/.cache"), "tinyad")
    return config


config = _read()
