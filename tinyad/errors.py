"""The exceptions tinyad raises, each a subclass of the one NumPy users already catch."""

from __future__ import annotations

from pathlib import Path

from numpy.exceptions import AxisError

__all__ = ["AxisError", "DTypeError", "GradError", "IRError", "ShapeError", "TraceError", "VerifyError"]


class ShapeError(ValueError):
    """Shapes that do not fit together, said when the operation is written."""


class DTypeError(TypeError):
    """An operation that has no meaning for these dtypes."""


class GradError(ValueError):
    """A derivative that was asked for but does not exist or was cut off."""


class TraceError(TypeError):
    """A value was needed where only shapes are known (inside `vmap` or `jit`)."""


class IRError(AssertionError):
    """A broken invariant of the IR: a bug in tinyad, not in the program that uses it."""


class VerifyError(IRError):
    """A compiled kernel that is not what the interpreter allows (``TINYAD_VERIFY=1``); `script` shows it again."""

    def __init__(self, text: str, script: Path) -> None:
        super().__init__(text)
        self.script = script
