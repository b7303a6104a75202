"""`jit`: a function of tensors is traced once for each signature of its arguments; afterwards its plan is replayed.

The signature is the structure of the arguments with the shapes and dtypes of tensors and NumPy arrays, the types of
Python floats and ints, and the values of everything else (bools, strings, functions, a module's own settings and its
`training` flag). Floats and ints are traced as weakly typed numbers, so that another value traces nothing. A call
reads shapes, binds the buffers of its arguments to the plan's leaves and runs the kernels: Python code of the function
runs at the trace only, so its side effects do not happen again.

Tensors the function uses without being given them are leaves of the plan; a handle that was given another value by
assignment or in-place syntax is read again at each call, one that was replaced by another tensor is not. Generators of
`tinyad.random` are state: each call draws on from where they are.
"""

from __future__ import annotations

import functools
import gc
import threading
import types
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Final, overload

import numpy as np

from . import forks, history, ir, pytree
from .canonical import open_input
from .config import config
from .dtypes import as_dtype
from .errors import DTypeError, TraceError
from .functions import core
from .history import held, sources
from .ir import FLOAT64, GRAD, INT64, LEAF, Node, Op
from .program import Program, stand_in
from .tensor import Tensor, _state
from .transforms.tracing import _depth, as_node, tracing

_KEPT: Final = 256  # programs remembered by one function
_U64: Final = ir.DTYPES["u64"]
_NUMBERS: Final = {float: FLOAT64, int: INT64}
_new: Final = object.__new__
_ref: Final = weakref.ref


class Number(Tensor):
    """A Python float or int while a function is traced: arithmetic with numbers gives numbers, carried out in float64
    or int64 as Python does, and beside a tensor it takes the tensor's dtype. It has no value."""

    __slots__ = ()

    @classmethod
    def of(cls, n: Node) -> "Number":
        """The number with the value of the 0-d node `n`."""
        t: Number = _new(cls)
        t.grad = None
        t._bind(ir.weak(n))
        return t

    def realize(self) -> Tensor:
        raise open_input(self.node)


def _arithmetic(name: str, op: Callable[[Node, Node], Node], real: bool = False) -> None:
    """Defines an operator and its reflection: numbers among themselves give a number, else it is the tensor's."""

    def forward(self: Number, other: Any) -> Any:
        if type(other) is Number:
            return _combined(op, self.node, other.node, real)
        if type(other) in _NUMBERS:
            return _combined(op, self.node, ir.const(other, _NUMBERS[type(other)]), real)
        return getattr(Tensor, f"__{name}__")(self, other)

    def reflected(self: Number, other: Any) -> Any:
        if type(other) in _NUMBERS:
            return _combined(op, ir.const(other, _NUMBERS[type(other)]), self.node, real)
        return getattr(Tensor, f"__r{name}__")(self, other)

    setattr(Number, f"__{name}__", forward)
    setattr(Number, f"__i{name}__", forward)
    setattr(Number, f"__r{name}__", reflected)


def _combined(op: Callable[[Node, Node], Node], a: Node, b: Node, real: bool) -> Number:
    whole = a.dtype is INT64 and b.dtype is INT64 and not real
    dtype = INT64 if whole else FLOAT64
    return Number.of(op(ir.cast(a, dtype), ir.cast(b, dtype)))


_arithmetic("add", ir.add)
_arithmetic("sub", ir.sub)
_arithmetic("mul", ir.mul)
_arithmetic("truediv", ir.div, real=True)
_arithmetic("floordiv", ir.idiv)
_arithmetic("mod", ir.mod)
_arithmetic("pow", ir.pow_, real=True)
setattr(Number, "__neg__", lambda self: Number.of(ir.neg(self.node)))  # noqa: B010
setattr(Number, "__abs__", lambda self: Number.of(ir.abs_(self.node)))  # noqa: B010


class Jitted:
    """A function compiled by `jit`. `trace_count`: how often it was traced."""

    def __init__(
        self, f: Callable[..., Any], static_argnums: Sequence[int] = (), donate_argnums: Sequence[int] = ()
    ) -> None:
        functools.update_wrapper(self, f)
        self._f = f
        self._static = tuple(static_argnums)
        self._donate = tuple(donate_argnums)
        self._programs: OrderedDict[Any, Program | None] = OrderedDict()
        forks.renewed(self)
        self.trace_count = 0

    def renew_lock(self) -> None:
        self._tracing = threading.RLock()

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<jit of {self._name}>"

    @property
    def _name(self) -> str:
        return getattr(self._f, "__qualname__", repr(self._f))

    @property
    def cache_size(self) -> int:
        """The number of signatures whose programs are kept; the oldest of more than 256 go first."""
        return len(self._programs)

    def clear_cache(self) -> None:
        """Forgets every program."""
        self._programs.clear()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not kwargs and not self._static and not _depth.valueless:
            key: list[Any] = []
            for x in args:
                cls = type(x)
                if cls is Tensor:
                    n = x.node
                    if n.trace is not None or n.buffer is None:
                        break
                    key.append(n.shape)
                    key.append(n.dtype)
                elif cls is float or cls is int:
                    key.append(cls)
                elif cls is np.ndarray:
                    key.append(x.shape)
                    key.append(x.dtype)
                else:
                    break
            else:
                program = self._programs.get(tuple(key))
                if program is not None and not program.tracked:
                    return program(args)
        return self._general(args, kwargs)

    def _general(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A call of any kind: with containers, of a new signature, or one that must become part of a graph."""
        if _depth.valueless or config.backend == "numpy":
            return self._f(*args, **kwargs)
        key, leaves = self._signature(args, kwargs)
        pending = []
        for x in leaves:
            if isinstance(x, Tensor):
                if _followed(x.node):
                    return self._f(*args, **kwargs)
                if x.node.buffer is None:
                    pending.append(x.node)
        program = self._program(key, args, kwargs, pending)
        return self._f(*args, **kwargs) if program is None else program(leaves)

    def _program(self, key: Any, args: tuple[Any, ...], kwargs: dict[str, Any], pending: list[Node]) -> Program | None:
        """The program for a signature, traced if it is new; None if the results belong to an open transform or depend
        on `requires_grad` leaves that derivatives must reach. `pending` arguments are computed."""
        if pending:
            from .realize import realize

            realize(pending)
        with self._tracing:
            program = self._programs.get(key)
            if program is not None:
                self._programs.move_to_end(key)
                return None if program.tracked and not _state.grad_off else program
            if key in self._programs and not _state.grad_off:
                return None
            program, again = self._trace(args, kwargs)
            if again:
                self._programs[key] = program
                if len(self._programs) > _KEPT:
                    self._programs.popitem(last=False)
            return program

    # signatures ---------------------------------------------------------------------------------------------------
    def _signature(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], list[Any]]:
        """What a program depends on, and the arguments that are traced."""
        key: list[Any] = []
        leaves: list[Any] = []
        fixed = {i % len(args) for i in self._static if -len(args) <= i < len(args)}
        for i, x in enumerate(args):
            if i in fixed:
                key.append((_STATIC, type(x), _hashable(x, f"static argument {i} of {self._name}")))
            else:
                self._describe(x, key, leaves)
        if kwargs:
            names = tuple(sorted(kwargs))
            key.append((_STATIC, names))
            for name in names:
                self._describe(kwargs[name], key, leaves)
        return tuple(key), leaves

    def _describe(self, x: Any, key: list[Any], leaves: list[Any]) -> None:
        """Appends the signature of one argument, and its leaves, in the order of `pytree.flatten`."""
        cls = type(x)
        if isinstance(x, Tensor):
            key += (x.shape, x.dtype) if x.node.trace is not GRAD else (x.shape, x.dtype, GRAD)
            leaves.append(x)
        elif cls in _NUMBERS:
            key.append(cls)
            leaves.append(x)
        elif isinstance(x, (np.ndarray, np.generic)):
            if x.dtype.kind not in "biuf":
                raise DTypeError(f"jit: arrays of dtype {x.dtype} cannot be traced; make the argument static")
            key += (x.shape, x.dtype)
            leaves.append(x)
        else:
            opened = pytree._open(x)
            if opened is None:
                key.append((_STATIC, cls, _hashable(x, f"argument of {self._name}")))
                return
            key.append((cls, opened.labels, _settings(x, opened.labels)))
            for child in opened.children:
                self._describe(child, key, leaves)

    # tracing ------------------------------------------------------------------------------------------------------
    def _trace(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Program | None, bool]:
        """A new program (None: see `_program`) and whether it serves all calls of this signature."""
        from .random import Recorder, recording

        fixed = {i % len(args) for i in self._static if -len(args) <= i < len(args)}
        names = sorted(kwargs)
        traced = ([x for i, x in enumerate(args) if i not in fixed], [kwargs[name] for name in names])
        flat, structure = pytree.flatten(traced)
        holes: list[Node] = []
        recorder = Recorder()
        try:
            with tracing(values=False), recording(recorder):
                for i, x in enumerate(flat):
                    if _is_traced(x):
                        hole, flat[i] = _input_for(x)
                        holes.append(hole)
                given, named = structure.unflatten(flat)
                flat.clear()
                rest = iter(given)
                new_args = [x if i in fixed else next(rest) for i, x in enumerate(args)]
                out = self._f(*new_args, **dict(zip(names, named, strict=True)))
                results, out_structure = pytree.flatten(out)
                ys = [core.node(as_node(r, f"jit: results of {self._name}")) for r in results]
            del out, results, given, named, new_args, rest
            reasons = {y.trace for y in ys if y.trace is not None and y.trace.open}
            tracked = GRAD in reasons
            if reasons - {GRAD}:
                return None, False
            if tracked and not _state.grad_off:
                return None, True
            out_structure = _without_values(out_structure, ys)
            _check_escaped([*holes, *(n for _, n, _ in recorder.states)], self._name)
            _compute_captured(ys, holes)
            donated = self._donated(args)
            program = Program(self._name, ys, holes, out_structure, recorder.states, tracked, donated)
            self.trace_count += 1
            return program, True
        finally:
            for generator, _, start in recorder.states:
                generator.counter = start

    def _donated(self, args: tuple[Any, ...]) -> list[int]:
        """The numbers of the traced arguments that are tensors given away."""
        n = len(args)
        fixed, given = ({i % n for i in nums if -n <= i < n} for nums in (self._static, self._donate))
        out = []
        number = 0
        for i, x in enumerate(args):
            for leaf in () if i in fixed else filter(_is_traced, pytree.flatten(x)[0]):
                if i in given and isinstance(leaf, Tensor):
                    if leaf.node.trace is not None:
                        raise ValueError(f"jit: {self._name} cannot be given a tensor that derivatives are taken of")
                    out.append(number)
                number += 1
        return out

    def dump(self, stage: str = "ir", *args: Any, **kwargs: Any) -> str:
        """The text of one stage (ir, schedule, loops, llvm or asm) of the program for these arguments."""
        from . import text
        from .inspect import STAGES

        if stage != "ir" and stage not in STAGES:
            raise ValueError(f"dump: unknown stage {stage!r}; expected one of ir, {', '.join(STAGES)}")
        key, leaves = self._signature(args, kwargs)
        with _no_grad():
            pending = [x.node for x in leaves if isinstance(x, Tensor) and x.node.buffer is None]
            program = self._program(key, args, kwargs, pending)
        if program is None:
            raise TraceError(f"dump: {self._name} depends on a tensor that an open transform traces")
        return text.dump(program.roots) if stage == "ir" else STAGES[stage](program.plan)


_STATIC: Final = "static"


def _no_grad() -> Any:
    from .tensor import no_grad

    return no_grad()


def _followed(n: Node) -> bool:
    """Whether derivatives may be asked of what is made from `n`."""
    return n.trace is not None and n.trace.open and not (n.trace is GRAD and _state.grad_off > 0)


def _hashable(x: Any, what: str) -> Any:
    try:
        hash(x)
    except TypeError:
        raise TypeError(
            f"jit: {what} is static, so it must be hashable, got {type(x).__name__}; arguments that are traced are "
            "tensors, NumPy arrays, Python numbers and pytrees of these"
        ) from None
    return x


def _settings(x: Any, labels: tuple[Any, ...]) -> Any:
    """What else a container's behaviour depends on: a module's attributes without tensors, and `training`."""
    if not hasattr(type(x), "__tree_children__"):
        return None
    own = {k: v for k, v in vars(x).items() if k not in labels and k != "training"}
    return getattr(x, "training", None), tuple([(k, _frozen(v)) for k, v in own.items()])


def _frozen(v: Any) -> Any:
    """A hashable stand-in for a setting: lists, dicts and sets by content, other unhashable values by identity."""
    if isinstance(v, (list, tuple)):
        return type(v), tuple(map(_frozen, v))
    if isinstance(v, dict):
        return dict, tuple([(k, _frozen(e)) for k, e in v.items()])
    if isinstance(v, (set, frozenset)):
        return frozenset(v)
    try:
        hash(v)
    except TypeError:
        return _Identity(v)
    return type(v), v


class _Identity:
    """Equal only to what holds the very same object, which it keeps alive."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def _is_traced(x: Any) -> bool:
    return isinstance(x, (Tensor, np.ndarray, np.generic)) or type(x) in _NUMBERS


def _input_for(x: Any) -> tuple[Node, Tensor]:
    """An input without value for an argument, and the tensor or number that the function is given."""
    if type(x) in _NUMBERS:
        inner = ir.input((), _NUMBERS[type(x)])
        hole: Node = ir.weak(inner)
        t = Number.of(hole)
        inner.site = t.node.site
        return hole, t
    trace = GRAD if isinstance(x, Tensor) and x.node.trace is GRAD else None
    hole = ir.input(x.shape, as_dtype(x.dtype), None, trace)
    return hole, Tensor._of(hole)


def _without_values(structure: pytree.Structure, ys: Sequence[Node]) -> pytree.Structure:
    """The same structure made from stored tensors: a structure keeps the containers it was taken from."""
    stored = []
    for y in ys:
        t = _new(Tensor)
        t.grad = None
        t.node = ir.buffer(y.shape, y.dtype, stand_in(y))
        stored.append(t)
    return pytree.flatten(structure.unflatten(stored))[1]


def _check_escaped(inputs: Sequence[Node], name: str) -> None:
    """Raises if a tensor made from the inputs of a finished trace is still held: its value will never be known."""
    found = _depending(history.pending(), inputs)
    if found:
        gc.collect()
        found = _depending(history.pending(), inputs)
    if found:
        raise TraceError(
            f"jit: a tensor that {name} computes from its arguments is kept outside of it, by an assignment to a "
            f"tensor, attribute or container ({core.origins(found[0])}); return it instead"
        )


def _depending(nodes: Sequence[Node], inputs: Sequence[Node]) -> list[Node]:
    dependent = set(inputs)
    for n in ir.toposort(nodes, sources):
        if not dependent.isdisjoint(n.src):
            dependent.add(n)
    return [n for n in nodes if n in dependent]


def _compute_captured(ys: Sequence[Node], holes: Sequence[Node]) -> None:
    """Computes the pending tensors that the traced graph uses, so that they are not computed again by each call."""
    from .realize import realize

    dependent = set(holes)
    pending = []
    for n in ir.toposort(ys, sources):
        if (n.op is Op.INPUT and not n.src) or not dependent.isdisjoint(n.src):
            dependent.add(n)
        elif n not in dependent and n.buffer is None and n.op not in LEAF and held(n):
            pending.append(n)
    if pending:
        realize(pending)


@overload
def jit(
    f: Callable[..., Any], *, static_argnums: int | Sequence[int] = (), donate_argnums: int | Sequence[int] = ()
) -> Jitted: ...
@overload
def jit(
    f: None = None, *, static_argnums: int | Sequence[int] = (), donate_argnums: int | Sequence[int] = ()
) -> Callable[[Callable[..., Any]], Jitted]: ...
def jit(
    f: Callable[..., Any] | None = None,
    *,
    static_argnums: int | Sequence[int] = (),
    donate_argnums: int | Sequence[int] = (),
) -> Any:
    """`f` compiled: traced once for each signature of its arguments, then replayed without running its Python code.

    Arguments and results are pytrees (dict, list, tuple, dataclass, Module) of tensors, NumPy arrays and Python
    numbers; results are fresh tensors, already computed. Arguments of other types, and those at the positions
    `static_argnums`, are part of the signature by value and must be hashable. Tensors in the arguments at the positions
    `donate_argnums` are given away: results may be written into their memory, where nothing else looks at it, and they
    have no value afterwards. Inside `f` values cannot be read: ``float(x)`` and ``if x > 0`` raise TraceError. Where a
    derivative may be asked for (an argument, or a tensor `f` uses, is being differentiated or requires grad outside
    ``ad.no_grad()``), and inside `vmap` and other traces, a call is the same as one of `f` itself.

    Raises:
        TraceError: `f` needs the value of a traced argument.
        TypeError: a static argument is not hashable, or a result is not an array.
        ValueError: a tensor that was donated is used again.
    """
    static, donate = ((nums,) if isinstance(nums, int) else tuple(nums) for nums in (static_argnums, donate_argnums))
    if f is None:
        return lambda g: Jitted(g, static, donate)
    return Jitted(f, static, donate)
