"""`Tensor`: a lazy handle on one IR node; and `public`, which turns functions of nodes into functions of tensors.

A tensor is mutable, a node is not: in-place syntax binds the handle to a new node, so a graph recorded earlier keeps
its meaning. Reading a tensor computes it.
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Final, Union

import numpy as np

from . import history, ir, leaves, sites
from .dtypes import as_dtype, default_of
from .errors import DTypeError, ShapeError, TraceError
from .functions import activations, core, elementwise, indexing, linear, logic, movement, reductions
from .ir import GRAD, Node, Op

Scalar = Union[bool, int, float]
_SCALARS: Final = frozenset({bool, int, float})
_new: Final = object.__new__
ArrayLike = Any  # Tensor, NumPy array or scalar, Python scalar, nested sequence of numbers


class _State(threading.local):
    """Per-thread switches."""

    grad_off = 0


_state = _State()


class no_grad:
    """Context manager (and decorator): results made inside are cut off from derivatives, as by `detach`."""

    def __enter__(self) -> "no_grad":
        _state.grad_off += 1
        return self

    def __exit__(self, *exc: object) -> None:
        _state.grad_off -= 1

    def __call__(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(fn)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with self:
                return fn(*args, **kwargs)

        return wrapped


def lift(x: Any) -> Any:
    """An operand as the functions of nodes take it: a node, or a Python scalar (weakly typed); None stays None.

    NumPy's scalars have a dtype of their own, as in NumPy 2. Raises DTypeError for what is not numeric.
    """
    if isinstance(x, Tensor):
        return x.node
    if x is None or type(x) in _SCALARS:
        return x
    if isinstance(x, np.generic):
        return leaves.stored(np.asarray(x))
    if isinstance(x, (bool, int, float)):
        return x
    if isinstance(x, Node):
        return x
    if isinstance(x, complex):
        raise DTypeError("complex numbers are not supported")
    return leaves.leaf(x, None, False)


def lift_array(x: Any) -> Any:
    """`lift`; a Python scalar becomes an array of its default dtype."""
    y = x.node if type(x) is Tensor else lift(x)
    return ir.const(y, default_of(y)) if isinstance(y, (bool, int, float)) else y


def lift_sequence(x: Any) -> Any:
    """The operands in a sequence; of a tensor, its parts along the first axis."""
    return None if x is None else [lift(e) for e in x]


def wrap(x: Any) -> Any:
    """The tensor (or tuple or list of tensors) for a node that a public function made."""
    if isinstance(x, Node):
        return Tensor._of(x)
    if isinstance(x, (tuple, list)):
        return type(x)(map(wrap, x)) if not hasattr(x, "_fields") else type(x)(*map(wrap, x))
    return x


def _lifter(annotation: object) -> Callable[[Any], Any] | None:
    """How an argument is lifted, by its parameter's annotation."""
    if not isinstance(annotation, str):
        return None
    if annotation.startswith("Sequence[") and ("Node" in annotation or "Operand" in annotation):
        return lift_sequence
    if "Operand" in annotation:
        return lift
    return lift_array if "Node" in annotation else None


def public(fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn`, a function of nodes, as a function of tensors.

    Parameters annotated Operand are lifted and may be weak Python scalars, those annotated Node become arrays, and
    those annotated Sequence[..] are lifted one by one. NumPy's ``out=None`` is accepted; tensors have no other `out`.
    """
    code, notes = fn.__code__, fn.__annotations__
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    places = [_lifter(notes.get(name)) for name in names[: code.co_argcount]]
    rest = _lifter(notes.get(code.co_varnames[len(names)])) if code.co_flags & 4 else None
    keys = {name: f for name in names if (f := _lifter(notes.get(name))) is not None}
    count = len(places)
    takes_one = count > 0 and places[0] is not None and places[0] is not lift_sequence

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        if takes_one and len(args) == 1 and not kwargs and type(args[0]) is Tensor:  # most calls: nothing to lift
            y = fn(args[0].node)
            return Tensor._of(y) if type(y) is Node else wrap(y)
        lifted = []
        for i, a in enumerate(args):
            f = places[i] if i < count else rest
            if f is not None:
                a = a.node if type(a) is Tensor and f is not lift_sequence else f(a)
            lifted.append(a)
        if kwargs:
            for k, default in _IGNORED.items():
                if k in kwargs and (kwargs[k] is None or (type(kwargs[k]) is str and kwargs[k] == default)):
                    del kwargs[k]
            for k, f in keys.items():
                if k in kwargs:
                    kwargs[k] = f(kwargs[k])
        y = fn(*lifted, **kwargs)
        return Tensor._of(y) if type(y) is Node else wrap(y)

    return call


_IGNORED: Final = {"out": None, "device": "cpu"}  # accepted with these values, or None, by every public function


def _operand(x: Any) -> Any:
    """The other operand of an operator as a node or Python scalar; NotImplemented for foreign types."""
    if type(x) is Tensor:
        return x.node
    if type(x) in _SCALARS:
        return x
    if isinstance(x, (Tensor, np.ndarray, np.generic, bool, int, float)):
        return lift(x)
    return NotImplemented


def _operator(fn: Callable[[Any, Any], Node], reverse: bool = False) -> Callable[["Tensor", Any], Any]:
    """A binary operator method: NotImplemented for foreign types, elementwise over NumPy arrays of objects."""

    def method(self: "Tensor", other: Any) -> Any:
        if type(other) is Tensor:
            o: Any = other.node
        elif type(other) in _SCALARS:
            o = other
        elif isinstance(other, np.ndarray) and other.dtype == object:
            return np.frompyfunc(lambda x: method(self, x), 1, 1)(other)
        else:
            o = _operand(other)
            if o is NotImplemented:
                return o
        return Tensor._of(fn(o, self.node) if reverse else fn(self.node, o))

    return method


def _in_place(fn: Callable[[Any, Any], Node]) -> Callable[["Tensor", Any], Any]:
    """An in-place operator: binds the handle to the result, which keeps the tensor's dtype and shape."""

    def method(self: "Tensor", other: Any) -> Any:
        o = _operand(other)
        if o is NotImplemented:
            return o
        self._check_writable()
        self._rebind(fn(self.node, o))
        return self

    return method


class Tensor:
    """An n-dimensional array that is computed when it is read.

    `data` may be a scalar, a nested sequence of numbers, a NumPy array (copied, dtype kept) or a tensor.
    `dtype` defaults to NumPy's for arrays, float32 / int64 / bool for Python numbers. With `requires_grad` (floats
    only) it is a leaf whose `grad` is filled by `backward`.
    """

    __slots__ = ("__weakref__", "grad", "node")
    __array_ufunc__: ClassVar[None] = None  # NumPy's operators leave the work to the reflected methods here
    __hash__ = object.__hash__

    node: Node
    grad: "Tensor | None"

    def __init__(self, data: ArrayLike, dtype: Any = None, requires_grad: bool = False) -> None:
        self.grad = None
        if isinstance(data, Tensor) and not requires_grad:
            n = ir.alias(data.node) if dtype is None else ir.cast(data.node, as_dtype(dtype))
        else:
            n = leaves.leaf(data.numpy() if isinstance(data, Tensor) else data, dtype, requires_grad)
        self._bind(n)

    @classmethod
    def _of(cls, n: Node) -> "Tensor":
        """A new handle on `n`; if another handle holds `n`, on an alias of it: every handle is its own variable."""
        t = _new(Tensor)
        t.grad = None
        if _state.grad_off:
            n = ir.detach(n)
        elif n.op is Op.CONST or (n.handle is not None and history.held(n)):
            n = ir.alias(n)  # a variable of its own: movement never folds it, no two handles share it
        if n.site is None:
            n.site = sites.capture()
        t.node = n
        n.handle = handle = weakref.ref(t)
        if n.buffer is None:
            history.register(handle)
        return t

    def _bind(self, n: Node) -> None:
        if n.op is Op.CONST or (n.handle is not None and history.held(n)):
            n = ir.alias(n)  # a variable of its own: movement never folds it, no two handles share it
        if n.site is None:
            n.site = sites.capture()
        self.node = n
        n.handle = weakref.ref(self)
        if n.buffer is None:
            history.register(n.handle)

    def _rebind(self, n: Node) -> None:
        """Points this handle at a new value, cast to its dtype; a `requires_grad` leaf stays one."""
        old = self.node
        if n.shape != old.shape:
            raise ShapeError(
                f"non-broadcastable output operand with shape {old.shape} doesn't match the broadcast shape {n.shape} "
                f"({core.origins(old)})"
            )
        if n.dtype is not old.dtype:
            if not np.can_cast(n.dtype, old.dtype, "same_kind"):
                raise DTypeError(
                    f"Cannot cast output from dtype('{n.dtype}') to dtype('{old.dtype}') with casting rule "
                    f"'same_kind' ({core.origins(old)})"
                )
            n = ir.cast(n, old.dtype)
        if self._is_grad_leaf():
            n = ir.detach(n)
            n.trace = GRAD
        elif _state.grad_off:
            n = ir.detach(n)
        elif n.handle is not None:
            n = ir.alias(n)
        self._bind(n)

    def _is_grad_leaf(self) -> bool:
        n = self.node
        return n.trace is GRAD and (not n.src or n.op is Op.DETACH)

    def _check_writable(self) -> None:
        if self._is_grad_leaf() and not _state.grad_off:
            raise RuntimeError(
                "a leaf Tensor that requires grad is being used in an in-place operation "
                f"({core.origins(self.node)}); use assign(), or do it inside ad.no_grad()"
            )

    # attributes ------------------------------------------------------------------------------------------------
    @property
    def shape(self) -> tuple[int, ...]:
        return self.node.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.node.dtype

    @property
    def ndim(self) -> int:
        return len(self.node.shape)

    @property
    def size(self) -> int:
        return self.node.size

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return self.node.size * self.node.dtype.itemsize

    @property
    def device(self) -> str:
        return "cpu"

    @property
    def requires_grad(self) -> bool:
        """Whether a leaf made with ``requires_grad=True`` stands behind this value (or is it)."""
        return self.node.trace is GRAD

    @property
    def is_leaf(self) -> bool:
        """Whether no history stands behind this value."""
        return not self.node.src or self.node.op is Op.DETACH

    # reading ---------------------------------------------------------------------------------------------------
    def realize(self) -> "Tensor":
        """Computes this tensor now (and every live one that shares work with it); returns it."""
        if self.node.buffer is None:
            from .realize import realize

            realize([self.node])
        return self

    def numpy(self) -> np.ndarray[Any, Any]:
        """The value as a read-only NumPy array without a copy."""
        self.realize()
        view: np.ndarray[Any, Any] = self.node.buffer.array.view()
        view.flags.writeable = False
        return view

    def item(self) -> Scalar:
        """The value of a tensor with one element as a Python scalar."""
        if self.node.size != 1:
            raise ValueError("can only convert an array of size 1 to a Python scalar")
        value: Scalar = self.numpy().item()
        return value

    def tolist(self) -> Any:
        return self.numpy().tolist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        if copy is False and (self.node.buffer is None or (dtype is not None and np.dtype(dtype) != self.dtype)):
            raise ValueError("Unable to avoid copy while creating an array as requested.")
        array = self.numpy()
        if dtype is not None and np.dtype(dtype) != array.dtype:
            return array.astype(dtype)
        return array.copy() if copy else array

    def __float__(self) -> float:
        return float(self._scalar())

    def __int__(self) -> int:
        return int(self._scalar())

    def __bool__(self) -> bool:
        if self.node.size != 1:
            raise ValueError(
                "The truth value of an array with more than one element is ambiguous. Use a.any() or a.all() "
                f"({core.origins(self.node)})"
            )
        return bool(self.item())

    def __index__(self) -> int:
        if self.node.dtype.kind not in "iu" or self.node.shape:
            raise TypeError("only integer scalar arrays can be converted to a scalar index")
        return int(self.item())

    def _scalar(self) -> Scalar:
        if self.node.size != 1:
            raise TypeError("only length-1 arrays can be converted to Python scalars")
        return self.item()

    def __len__(self) -> int:
        if not self.node.shape:
            raise TypeError("len() of unsized object")
        return self.node.shape[0]

    def __iter__(self) -> Iterator["Tensor"]:
        if not self.node.shape:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(self.node.shape[0]))

    def __contains__(self, value: Any) -> bool:
        return bool((self == value).any())

    def __repr__(self) -> str:
        grad = ", requires_grad=True" if self.requires_grad else ""
        try:
            text = np.array2string(self.numpy(), separator=", ", prefix="Tensor(")
        except TraceError:
            text = f"<{self.node.op.value}>"
        return f"Tensor({text}, shape={self.shape}, dtype={self.dtype.name}{grad})"

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if self.node.size == 1 and spec else format(repr(self), spec)

    def __copy__(self) -> "Tensor":
        return Tensor._of(self.node)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Tensor":
        t = Tensor(self.numpy(), requires_grad=self.is_leaf and self.requires_grad)
        memo[id(self)] = t
        t.grad = None if self.grad is None else self.grad.__deepcopy__(memo)
        return t

    def __reduce__(self) -> Any:
        return Tensor, (self.numpy(), None, self.is_leaf and self.requires_grad)

    # writing ---------------------------------------------------------------------------------------------------
    def assign(self, value: ArrayLike) -> "Tensor":
        """Gives this handle a new value of the same shape (dtype is converted); derivatives do not pass through."""
        n = ir.detach(ir.cast(movement.broadcast_to(lift_array(value), self.shape), self.dtype))
        if self._is_grad_leaf():
            n.trace = GRAD
        self._bind(n)
        return self

    def __setitem__(self, index: Any, value: ArrayLike) -> None:
        self._check_writable()
        v = lift(value)
        n = indexing.masked(self.node, index.node, v) if isinstance(index, Tensor) else None
        self._rebind(indexing.set_item(self.node, _index(index), v) if n is None else n)

    def __getitem__(self, index: Any) -> "Tensor":
        return Tensor._of(indexing.get_item(self.node, _index(index)))

    def copy(self) -> "Tensor":
        """The same value as a variable of its own; derivatives pass through."""
        return Tensor._of(ir.alias(self.node))

    def to_device(self, device: str, *, stream: None = None) -> "Tensor":
        """This tensor; the only device is "cpu"."""
        if device != "cpu" or stream is not None:
            raise ValueError(f"to_device: expected device 'cpu' and no stream, got {device!r}")
        return self

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        """The module `tinyad`."""
        if api_version is not None and api_version not in ("2021.12", "2022.12", "2023.12", "2024.12"):
            raise ValueError(f"unsupported array API version {api_version!r}; expected at most '2024.12'")
        import tinyad

        return tinyad

    def __dlpack__(self, **options: Any) -> Any:
        return self.numpy().copy().__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)  # kDLCPU

    # derivatives -----------------------------------------------------------------------------------------------
    def backward(self, gradient: "Tensor | None" = None, create_graph: bool = False) -> None:
        """Adds the derivative of this scalar (or of <self, gradient>) into `grad` of every leaf behind it.

        What is added is detached unless `create_graph`. Raises GradError if no leaf made with
        ``requires_grad=True`` stands behind this tensor.
        """
        from .transforms import backward

        backward(self, gradient, create_graph)

    def detach(self) -> "Tensor":
        """The same value; no derivative passes through it."""
        return Tensor._of(ir.detach(self.node))

    # inspection ------------------------------------------------------------------------------------------------
    def dump(self, stage: str = "ir") -> str:
        """The text of one stage of computing this tensor: ir, schedule, loops, llvm or asm."""
        from .inspect import dump

        return dump([self], stage)

    # operators -------------------------------------------------------------------------------------------------
    __add__ = _operator(elementwise.add)
    __radd__ = _operator(elementwise.add, reverse=True)
    __iadd__ = _in_place(elementwise.add)
    __sub__ = _operator(elementwise.subtract)
    __rsub__ = _operator(elementwise.subtract, reverse=True)
    __isub__ = _in_place(elementwise.subtract)
    __mul__ = _operator(elementwise.multiply)
    __rmul__ = _operator(elementwise.multiply, reverse=True)
    __imul__ = _in_place(elementwise.multiply)
    __truediv__ = _operator(elementwise.divide)
    __rtruediv__ = _operator(elementwise.divide, reverse=True)
    __itruediv__ = _in_place(elementwise.divide)
    __floordiv__ = _operator(elementwise.floor_divide)
    __rfloordiv__ = _operator(elementwise.floor_divide, reverse=True)
    __ifloordiv__ = _in_place(elementwise.floor_divide)
    __mod__ = _operator(elementwise.remainder)
    __rmod__ = _operator(elementwise.remainder, reverse=True)
    __imod__ = _in_place(elementwise.remainder)

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> Any:
        return other // self, other % self

    __pow__ = _operator(elementwise.pow)
    __rpow__ = _operator(elementwise.pow, reverse=True)
    __ipow__ = _in_place(elementwise.pow)
    __matmul__ = _operator(linear.matmul)
    __rmatmul__ = _operator(linear.matmul, reverse=True)
    __imatmul__ = _in_place(linear.matmul)
    __and__ = _operator(logic.bitwise_and)
    __rand__ = _operator(logic.bitwise_and, reverse=True)
    __iand__ = _in_place(logic.bitwise_and)
    __or__ = _operator(logic.bitwise_or)
    __ror__ = _operator(logic.bitwise_or, reverse=True)
    __ior__ = _in_place(logic.bitwise_or)
    __xor__ = _operator(logic.bitwise_xor)
    __rxor__ = _operator(logic.bitwise_xor, reverse=True)
    __ixor__ = _in_place(logic.bitwise_xor)
    __lshift__ = _operator(logic.bitwise_left_shift)
    __rlshift__ = _operator(logic.bitwise_left_shift, reverse=True)
    __ilshift__ = _in_place(logic.bitwise_left_shift)
    __rshift__ = _operator(logic.bitwise_right_shift)
    __rrshift__ = _operator(logic.bitwise_right_shift, reverse=True)
    __irshift__ = _in_place(logic.bitwise_right_shift)
    __lt__ = _operator(logic.less)
    __le__ = _operator(logic.less_equal)
    __gt__ = _operator(logic.greater)
    __ge__ = _operator(logic.greater_equal)
    __eq__ = _operator(logic.equal)
    __ne__ = _operator(logic.not_equal)
    __neg__ = public(elementwise.negative)
    __pos__ = public(elementwise.positive)
    __abs__ = public(elementwise.abs)
    __invert__ = public(logic.bitwise_invert)

    @property
    def T(self) -> "Tensor":
        """The axes reversed."""
        return Tensor._of(ir.permute(self.node, range(self.ndim)[::-1]))

    @property
    def mT(self) -> "Tensor":
        """The last two axes swapped."""
        return Tensor._of(movement.matrix_transpose(self.node))

    # methods: each mirrors a function of the namespace -----------------------------------------------------------
    sum = public(reductions.sum)
    prod = public(reductions.prod)
    max = public(reductions.max)
    min = public(reductions.min)
    mean = public(reductions.mean)
    var = public(reductions.var)
    std = public(reductions.std)
    any = public(reductions.any)
    all = public(reductions.all)
    argmax = public(reductions.argmax)
    argmin = public(reductions.argmin)
    count_nonzero = public(reductions.count_nonzero)
    logsumexp = public(reductions.logsumexp)
    cumsum = public(reductions.cumsum)
    cumprod = public(reductions.cumprod)
    cummax = public(reductions.cummax)
    cummin = public(reductions.cummin)
    reshape = public(movement.reshape_method)
    permute = public(movement.permute_method)
    transpose = public(movement.transpose_method)
    expand = public(movement.expand_method)
    flatten = public(movement.flatten)
    ravel = public(movement.ravel)
    squeeze = public(movement.squeeze)
    expand_dims = public(movement.expand_dims)
    swapaxes = public(movement.swapaxes)
    moveaxis = public(movement.moveaxis)
    flip = public(movement.flip)
    roll = public(movement.roll)
    repeat = public(movement.repeat)
    tile = public(movement.tile)
    split = public(movement.split)
    chunk = public(movement.chunk)
    unstack = public(movement.unstack)
    broadcast_to = public(movement.broadcast_to)
    diagonal = public(movement.diagonal)
    pad = public(movement.pad)
    tril = public(movement.tril)
    triu = public(movement.triu)
    exp = public(elementwise.exp)
    log = public(elementwise.log)
    sqrt = public(elementwise.sqrt)
    rsqrt = public(elementwise.rsqrt)
    sin = public(elementwise.sin)
    cos = public(elementwise.cos)
    tan = public(elementwise.tan)
    tanh = public(elementwise.tanh)
    sinh = public(elementwise.sinh)
    cosh = public(elementwise.cosh)
    asin = public(elementwise.asin)
    acos = public(elementwise.acos)
    atan = public(elementwise.atan)
    erf = public(elementwise.erf)
    expm1 = public(elementwise.expm1)
    log1p = public(elementwise.log1p)
    log2 = public(elementwise.log2)
    log10 = public(elementwise.log10)
    exp2 = public(elementwise.exp2)
    abs = public(elementwise.abs)
    sign = public(elementwise.sign)
    square = public(elementwise.square)
    reciprocal = public(elementwise.reciprocal)
    floor = public(elementwise.floor)
    ceil = public(elementwise.ceil)
    trunc = public(elementwise.trunc)
    round = __round__ = public(elementwise.round)
    clip = public(elementwise.clip)
    maximum = public(elementwise.maximum)
    minimum = public(elementwise.minimum)
    pow = public(elementwise.pow)
    isnan = public(elementwise.isnan)
    isinf = public(elementwise.isinf)
    isfinite = public(elementwise.isfinite)
    astype = public(elementwise.astype)
    relu = public(activations.relu)
    gelu = public(activations.gelu)
    silu = public(activations.silu)
    sigmoid = public(activations.sigmoid)
    softplus = public(activations.softplus)
    softmax = public(activations.softmax)
    log_softmax = public(activations.log_softmax)
    leaky_relu = public(activations.leaky_relu)
    elu = public(activations.elu)
    matmul = public(linear.matmul)
    dot = public(linear.dot)
    outer = public(linear.outer)
    take = public(indexing.take)
    take_along_axis = public(indexing.take_along_axis)
    gather = public(indexing.gather)
    scatter_add = public(indexing.scatter_add)
    sort = public(indexing.sort)
    argsort = public(indexing.argsort)
    topk = public(indexing.topk)
    arcsin, arccos, arctan = asin, acos, atan  # as np.arcsin calls them over arrays of objects
    arcsinh, arccosh, arctanh = public(elementwise.asinh), public(elementwise.acosh), public(elementwise.atanh)


def _index(index: Any) -> Any:
    """An index with tensors as nodes and lists as arrays; boolean tensors are computed, since the result's shape
    depends on them."""
    if isinstance(index, tuple):
        return tuple(map(_index, index))
    if isinstance(index, Tensor):
        return index.numpy() if index.dtype.kind == "b" else index.node
    if isinstance(index, list):
        array = np.asarray([i.numpy() if isinstance(i, Tensor) else i for i in index])
        return array if array.size else array.astype(np.int64)
    return index
