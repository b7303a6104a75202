"""Where a node comes from: the Python instruction that made it, kept as a cheap pair and shown as ``file.py:12``.

A site is ``(code object, instruction offset)``, a `Derived`, or None. Nothing here is part of the meaning of a node.
May import `ir` for types only.
"""

from __future__ import annotations

import os
import sys
import weakref
from functools import lru_cache
from itertools import islice
from types import CodeType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .ir import Node

Site = tuple[CodeType, int]


class Derived:
    """The site of a node made by differentiating the node `of`; `origin` is the user's instruction behind both."""

    __slots__ = ("of", "origin")

    of: "weakref.ref[Node]"
    origin: Site | None

    def __init__(self, of: "Node") -> None:
        self.of = weakref.ref(of)
        self.origin = origin(of.site)


def origin(site: Any) -> Site | None:
    """The user's instruction behind a site of any kind."""
    return site.origin if isinstance(site, Derived) else site


def _package_directories() -> tuple[str, ...]:
    """The directories of tinyad and codegen, spelled as `co_filename` spells them; both are installed side by side."""
    here = os.path.dirname(_package_directories.__code__.co_filename)
    return here + os.sep, os.path.join(os.path.dirname(here), "codegen") + os.sep


_INSIDE: Final = _package_directories()
_inside: dict[str, bool] = {}  # by file name: hashing a string is free, hashing a code object is not
_MANY: Final = 10_000  # notebooks make a file name per cell


def clear() -> None:
    """Forget the cached answers."""
    _inside.clear()
    _line.cache_clear()


def capture() -> Site | None:
    """The instruction that is running in the nearest frame outside tinyad and codegen."""
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        name = code.co_filename
        inside = _inside.get(name)
        if inside is None:
            if len(_inside) >= _MANY:
                _inside.clear()
            inside = _inside[name] = name.startswith(_INSIDE)
        if not inside:
            return code, frame.f_lasti
        frame = frame.f_back  # type: ignore[assignment]
    return None


@lru_cache(maxsize=4096)
def _line(code: CodeType, offset: int) -> int:
    """The source line of the instruction at byte `offset`."""
    for position in islice(code.co_positions(), offset // 2, None):
        if position[0] is not None:
            return position[0]
    return code.co_firstlineno


def show(site: Site) -> str:
    """``path:line``; the path is relative to the working directory if it lies in it, else only the file's name."""
    code, offset = site
    name = code.co_filename
    if os.path.isabs(name):
        here = os.path.join(os.getcwd(), "")
        name = name[len(here) :] if name.startswith(here) else os.path.basename(name)
    return f"{name}:{_line(code, offset)}"


def line_of(node: "Node") -> str | None:
    """The user's line that made `node`, or made the node it is a derivative of."""
    site = origin(node.site)
    return None if site is None else show(site)
