"""Trees of Python containers: taken apart into leaves and put together again.

Containers are dict, list, tuple, namedtuple, dataclass, None (without children) and any class that says what its
children are through `__tree_children__` and `__tree_rebuild__`, as `nn.Module` does. Everything else is a leaf.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple


class _Container(NamedTuple):
    """One container: a label for each child, the children, and how to make its like from others."""

    labels: tuple[Any, ...]
    children: list[Any]
    rebuild: Callable[[list[Any]], Any]


def _open(tree: Any) -> _Container | None:
    """`tree` taken apart by one level; None for a leaf."""
    cls = type(tree)
    if tree is None:
        return _Container((), [], lambda _: None)
    if isinstance(tree, dict):
        keys = tuple(tree)
        if isinstance(tree, defaultdict):
            factory = tree.default_factory
            return _Container(keys, [*tree.values()], lambda new: defaultdict(factory, zip(keys, new, strict=True)))
        return _Container(keys, [*tree.values()], lambda new: cls(zip(keys, new, strict=True)))
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return _Container(tuple(tree._fields), [*tree], lambda new: cls(*new))
    if isinstance(tree, (list, tuple)):
        return _Container(tuple(range(len(tree))), [*tree], cls)
    if hasattr(cls, "__tree_children__"):
        named = tree.__tree_children__()
        names = tuple(named)
        return _Container(
            names, [*named.values()], lambda new: tree.__tree_rebuild__(dict(zip(names, new, strict=True)))
        )
    if dataclasses.is_dataclass(cls):
        names = tuple(f.name for f in dataclasses.fields(cls) if f.init)
        return _Container(
            names,
            [getattr(tree, name) for name in names],
            lambda new: dataclasses.replace(tree, **dict(zip(names, new, strict=True))),
        )
    return None


class Structure:
    """The shape of a tree: its containers with the leaves taken out. Equal structures have equal containers."""

    __slots__ = ("children", "cls", "count", "labels", "rebuild")

    cls: type | None  # None: a leaf
    labels: tuple[Any, ...]
    children: tuple["Structure", ...]
    rebuild: Callable[[list[Any]], Any] | None
    count: int  # leaves

    def __init__(
        self,
        cls: type | None,
        labels: tuple[Any, ...],
        children: tuple["Structure", ...],
        rebuild: Callable[[list[Any]], Any] | None,
    ) -> None:
        self.cls = cls
        self.labels = labels
        self.children = children
        self.rebuild = rebuild
        self.count = 1 if cls is None else sum(c.count for c in children)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Structure)
            and self.cls is other.cls
            and self.labels == other.labels
            and self.children == other.children
        )

    def __hash__(self) -> int:
        return hash((self.cls, self.labels, self.children))

    def __repr__(self) -> str:
        if self.cls is None:
            return "*"
        if self.cls is type(None):
            return "None"
        if self.cls in (list, tuple):
            inside = ", ".join(map(repr, self.children))
            return f"[{inside}]" if self.cls is list else f"({inside}{',' * (len(self.children) == 1)})"
        if issubclass(self.cls, dict):
            return "{" + ", ".join(f"{k!r}: {c!r}" for k, c in zip(self.labels, self.children, strict=True)) + "}"
        inside = ", ".join(f"{k}={c!r}" for k, c in zip(self.labels, self.children, strict=True))
        return f"{self.cls.__name__}({inside})"

    def unflatten(self, leaves: Iterable[Any]) -> Any:
        """The tree of this structure with these leaves, in order. Raises ValueError if their number is wrong."""
        given = list(leaves)
        if len(given) != self.count:
            raise ValueError(f"unflatten: expected {self.count} leaves for {self!r}, got {len(given)}")
        return self._build(iter(given))

    def _build(self, leaves: Iterator[Any]) -> Any:
        if self.rebuild is None:
            return next(leaves)
        return self.rebuild([c._build(leaves) for c in self.children])

    def flatten_like(self, tree: Any, what: str = "tree") -> list[Any]:
        """What stands in `tree` at the places of this structure's leaves (each may itself be a tree).

        Dicts are matched by key. Raises ValueError naming the first place that differs; `what` names `tree` in it.
        """
        if self.cls is None:
            return [tree]
        opened = _open(tree)
        if opened is None or type(tree) is not self.cls:
            raise ValueError(f"{what}: expected {self._brief()}, got {_brief(tree)}")
        children: list[Any] = opened.children
        if opened.labels != self.labels:
            if not issubclass(self.cls, dict) or set(opened.labels) != set(self.labels):
                raise ValueError(f"{what}: expected {self._brief()}, got {_brief(tree)}")
            by_key = dict(zip(opened.labels, children, strict=True))
            children = [by_key[k] for k in self.labels]
        out: list[Any] = []
        attributes = not issubclass(self.cls, (dict, list, tuple)) or hasattr(self.cls, "_fields")
        for label, structure, child in zip(self.labels, self.children, children, strict=True):
            out.extend(structure.flatten_like(child, f"{what}.{label}" if attributes else f"{what}[{label!r}]"))
        return out

    def broadcast(self, prefix: Any, what: str = "prefix") -> list[Any]:
        """One value per leaf of this structure from `prefix`, a tree that may stop early: its leaf then serves all
        leaves below. None counts as such a leaf. Raises ValueError where `prefix` has another container.
        """
        opened = None if prefix is None else _open(prefix)
        if opened is None:
            return [prefix] * self.count
        if self.cls is not type(prefix) and not (self.cls in (list, tuple) and type(prefix) in (list, tuple)):
            raise ValueError(f"{what}: expected {self._brief()}, got {_brief(prefix)}")
        if set(opened.labels) != set(self.labels):
            raise ValueError(f"{what}: expected {self._brief()}, got {_brief(prefix)}")
        by_label = dict(zip(opened.labels, opened.children, strict=True))
        out: list[Any] = []
        for label, structure in zip(self.labels, self.children, strict=True):
            out.extend(structure.broadcast(by_label[label], f"{what}[{label!r}]"))
        return out

    def _brief(self) -> str:
        return "a leaf" if self.cls is None else _describe(self.cls, self.labels)


def _describe(cls: type, labels: tuple[Any, ...]) -> str:
    if cls is type(None):
        return "None"
    if issubclass(cls, dict):
        return f"{cls.__name__} with keys {list(labels)}"
    if issubclass(cls, (list, tuple)) and not hasattr(cls, "_fields"):
        return f"{cls.__name__} of length {len(labels)}"
    return cls.__name__


def _brief(tree: Any) -> str:
    opened = _open(tree)
    return type(tree).__name__ if opened is None else _describe(type(tree), opened.labels)


LEAF: Final = Structure(None, (), (), None)


def flatten(tree: Any) -> tuple[list[Any], Structure]:
    """The leaves of `tree` from left to right (dicts in their own order), and its structure."""
    leaves: list[Any] = []
    return leaves, _flatten(tree, leaves)


def _flatten(tree: Any, leaves: list[Any]) -> Structure:
    opened = _open(tree)
    if opened is None:
        leaves.append(tree)
        return LEAF
    children = tuple(_flatten(c, leaves) for c in opened.children)
    return Structure(type(tree), opened.labels, children, opened.rebuild)


def leaves(tree: Any) -> list[Any]:
    """The leaves of `tree` from left to right."""
    return flatten(tree)[0]


def map(f: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """The tree of ``f(leaf, *leaves of rest at the same place)``.

    Raises ValueError naming the first place where one of `rest` is structured otherwise.
    """
    first, structure = flatten(tree)
    others = [structure.flatten_like(t, f"tree {i}") for i, t in enumerate(rest, 2)]
    return structure.unflatten([f(*xs) for xs in zip(first, *others, strict=True)])
