"""`Module`: parameters and submodules found by attribute, a forward function, and a place among the pytrees."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..tensor import Tensor, no_grad


class Module:
    """Base of layers and models: set tensors and modules as attributes, define `forward`, call the module.

    Attributes may also be lists, tuples and dicts of these. Tensors with ``requires_grad`` are parameters, the others
    are part of the state only. A module is a pytree of its tensors: ``ad.grad(loss)(model, x)`` returns a module of
    gradients.
    """

    training: bool = True

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The result for these inputs; each module defines its own."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    # what it holds ----------------------------------------------------------------------------------------------
    def children(self) -> Iterator["Module"]:
        """The modules held directly, each once."""
        seen: set[int] = set()
        for _, x in _held(vars(self), ""):
            if isinstance(x, Module) and id(x) not in seen:
                seen.add(id(x))
                yield x

    def modules(self) -> Iterator["Module"]:
        """This module and all modules below, each once."""
        seen: set[int] = set()
        stack: list[Module] = [self]
        while stack:
            m = stack.pop()
            if id(m) not in seen:
                seen.add(id(m))
                yield m
                stack += reversed([*m.children()])

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """(dotted name, parameter), each parameter once, in the order of the attributes."""
        seen: set[int] = set()
        for name, t, trained in self._tensors(""):
            if trained and id(t) not in seen:
                seen.add(id(t))
                yield name, t

    def parameters(self) -> list[Tensor]:
        """The parameters of this module and all below, each once."""
        return [p for _, p in self.named_parameters()]

    def _tensors(self, prefix: str) -> Iterator[tuple[str, Tensor, bool]]:
        """(dotted name, tensor, whether it is a parameter) of this module and all below."""
        trained: frozenset[str] | None = vars(self).get("_trained")
        for name, x in _held(vars(self), ""):
            if isinstance(x, Module):
                yield from x._tensors(f"{prefix}{name}.")
            else:
                yield prefix + name, x, x.requires_grad if trained is None else name in trained

    # state ------------------------------------------------------------------------------------------------------
    def state_dict(self) -> dict[str, Tensor]:
        """All tensors by dotted name, detached: their values now, which training does not change."""
        return {name: t.detach() for name, t, _ in self._tensors("")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Assigns values (tensors or arrays) by name, converted to the dtypes held.

        Raises KeyError for missing or unexpected names, ValueError for a wrong shape; nothing is assigned then.
        """
        own = {name: t for name, t, _ in self._tensors("")}
        missing, unexpected = [n for n in own if n not in state], [n for n in state if n not in own]
        if missing or unexpected:
            raise KeyError(f"load_state_dict: missing {missing}, unexpected {unexpected}")
        values = {name: v if isinstance(v, Tensor) else Tensor(v) for name, v in state.items()}
        for name, t in own.items():
            if values[name].shape != t.shape:
                raise ValueError(f"load_state_dict: {name}: expected shape {t.shape}, got {values[name].shape}")
        with no_grad():
            for name, t in own.items():
                t.assign(values[name])

    def train(self, mode: bool = True) -> "Module":
        """Sets `training` here and below; returns self."""
        for m in self.modules():
            m.training = mode
        return self

    def eval(self) -> "Module":
        """Leaves training mode, here and below; returns self."""
        return self.train(False)

    def zero_grad(self) -> None:
        """Forgets the gradients of all parameters."""
        for p in self.parameters():
            p.grad = None

    # as a pytree ------------------------------------------------------------------------------------------------
    def __tree_children__(self) -> dict[str, Any]:
        """The attributes that hold tensors."""
        return {k: v for k, v in vars(self).items() if any(True for _ in _held({k: v}, ""))}

    def __tree_rebuild__(self, children: Mapping[str, Any]) -> "Module":
        """A module like this one with other values in these attributes; what is a parameter here is one there."""
        new = copy.copy(self)
        if "_trained" not in vars(self):
            own = ((name, x) for name, x in _held(vars(self), "") if isinstance(x, Tensor))
            vars(new)["_trained"] = frozenset(name for name, t in own if t.requires_grad)
        vars(new).update(children)
        return new

    # text -------------------------------------------------------------------------------------------------------
    def extra_repr(self) -> str:
        """The arguments shown in the text of a module without submodules."""
        return ""

    def __repr__(self) -> str:
        parts = [(name, repr(x)) for name, x in _held(vars(self), "") if isinstance(x, Module)]
        lines = [f"  ({name}): " + text.replace("\n", "\n  ") for name, text in parts]
        if not lines:
            return f"{type(self).__name__}({self.extra_repr()})"
        return "\n".join([f"{type(self).__name__}(", *lines, ")"])


def _held(container: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """(dotted name, tensor or module) in nested lists, tuples and dicts; does not enter modules."""
    items: Iterable[tuple[Any, Any]]
    if isinstance(container, dict):
        items = container.items()
    else:
        items = enumerate(container)
    for key, x in items:
        if isinstance(x, (Tensor, Module)):
            yield f"{prefix}{key}", x
        elif isinstance(x, (list, tuple, dict)):
            yield from _held(x, f"{prefix}{key}.")
