"""The array namespace of `tinyad` under the name that PyTorch's users look for: ``F.relu`` is ``ad.relu``."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    import tinyad

    if name.startswith("__"):
        raise AttributeError(name)
    return getattr(tinyad, name)


def __dir__() -> list[str]:
    import tinyad

    return list(tinyad.__all__)
