"""Random IR programs: a seed, a size and a cell of the coverage table make a graph; another seed makes its data.

The actions of a smaller size are a prefix of those of a larger one, so a failing program shrinks by its size. A
*cell* (operation, class of dtype, kind of kernel) puts that operation into such a kernel in every program made for it;
`CELLS` lists all that the scheduler can reach.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from tinyad import ir
from tinyad.buffer import copy
from tinyad.ir import BOOL, DTYPES, FLOAT16, FLOAT32, FLOAT64, DType, Node, Op, Shape

Array = np.ndarray[Any, np.dtype[Any]]
Cell = tuple[str, str, str]

CLASSES: Final[dict[str, list[DType]]] = {
    "b": [BOOL],
    "i": [d for d in DTYPES.values() if d.kind == "i"],
    "u": [d for d in DTYPES.values() if d.kind == "u"],
    "h": [FLOAT16],
    "f": [FLOAT32, FLOAT64],
}
KERNELS: Final = ("map", "row", "column", "contract", "scan", "scatter")
LARGEST: Final = 5000  # elements of one node
DIMS: Final = (0, 1, 1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 31, 32, 33)


def class_of(dtype: DType) -> str:
    """The letter of a dtype's class."""
    return "h" if dtype is FLOAT16 else dtype.kind


def label(n: Node) -> str:
    """The operation's row of the coverage table."""
    return f"{n.op.value}.{n.arg[0]}" if n.op in (Op.SCAN, Op.SCATTER) else n.op.value


def cell_class(n: Node) -> str:
    """The class of dtype that counts for `n`: its operands' for comparisons."""
    return class_of(n.src[0].dtype if n.op in (Op.LT, Op.EQ) else n.dtype)


def _operand_classes(op: Op) -> list[str]:
    kinds = ir.OPERANDS.get(op, "biuf")
    return [c for c in CLASSES if ("f" if c == "h" else c) in kinds]


def _cells() -> list[Cell]:
    out = [(op.value, c, k) for op in Op if op in ir.ELEMENTWISE for c in _operand_classes(op) for k in KERNELS]
    out = [cell for cell in out if cell[:2] != ("bitcast", "b")]
    moves = [*(ir.MOVEMENT - {Op.CAT}), Op.FENCE, Op.CONST]
    out += [(op.value, c, k) for op in sorted(moves, key=lambda o: o.value) for c in CLASSES for k in KERNELS]
    out += [("param", c, k) for c in "hf" for k in KERNELS]
    out += [("iota", c, k) for c in "iu" for k in KERNELS]
    out += [("cat", c, k) for c in CLASSES for k in KERNELS[:-1]]
    out += [(op, c, k) for op in ("sum", "prod") for c in "iuhf" for k in ("row", "column")]
    out += [("sum", c, "contract") for c in "iuhf"]
    out += [(op, c, k) for op in ("reduce_max", "reduce_min") for c in CLASSES for k in ("row", "column")]
    out += [(f"scan.{kind}", c, "scan") for kind in ir.SCANS for c in "iuhf"]
    out += [(f"scatter.{k}", c, "scatter") for k in ir.SCATTERS for c in CLASSES if (k, c) != ("sum", "b")]
    out += [(op, c, "graph") for op in ("detach", "custom", "input", "buffer") for c in CLASSES]
    out += [("call", c, "host") for c in CLASSES]
    return out


CELLS: Final[list[Cell]] = _cells()
"""Every (operation, class of dtype, kernel kind) that can occur. `graph`: operations that value numbering removes.

Reductions, scans, scatters and cat never share another one's kernel but as a part of cat; what feeds or follows them
does.
"""

_SORT: Final = {
    d: ir.HostFunction("sort", lambda a: np.sort(a, axis=-1) if a.ndim else a.copy(), lambda s: s, d)
    for d in DTYPES.values()
}
_FLOATS: Final = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 2.0, 3.0, np.inf, -np.inf, np.nan, np.pi, 88.7,
                  -103.9, 709.7, 1e-3, 0.9999, 1e5, 12345.678, 1e30, 1e300, 2.0**31, 2.0**63, -(2.0**31),
                  255.5]  # fmt: skip


def sample(rng: np.random.Generator, shape: Shape, dtype: DType, style: str) -> Array:
    """Data: `plain` and small; `ties` of few values; `special`, with every value that is unlike the others."""
    n = math.prod(shape)
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.kind == "f":
        info = np.finfo(dtype)
        out = rng.standard_normal(n) if style != "ties" else rng.integers(-3, 4, n).astype(np.float64)
        if style == "special":
            with np.errstate(over="ignore", under="ignore"):
                out = out * 10.0 ** rng.integers(-4, 5, n)
            least = info.smallest_subnormal
            odd = np.array([*_FLOATS, info.max, -info.max, info.tiny, -info.tiny, info.eps, 1 + info.eps, least,
                            -3 * least, info.tiny / 2], np.float64)  # fmt: skip
            out = np.where(rng.random(n) < 0.4, rng.choice(odd, n), out)
        with np.errstate(over="ignore"):
            return out.astype(dtype).reshape(shape)
    limits = np.iinfo(dtype)
    low = max(limits.min, -9)
    out = rng.integers(low, 10, n).astype(dtype)
    if style == "special":
        bits = dtype.itemsize * 8
        odd = np.array([limits.min, limits.max, limits.min + 1, limits.max - 1, 0, 1, bits - 1, bits, bits + 1,
                        2 * bits, *([-1, -2, -bits] if dtype.kind == "i" else [])], dtype)  # fmt: skip
        wide = rng.integers(limits.min, limits.max, n, dtype=dtype, endpoint=True)
        pick = rng.random(n)
        out = np.where(pick < 0.3, rng.choice(odd, n), np.where(pick < 0.5, wide, out))
    return out.astype(dtype).reshape(shape)


class Program(NamedTuple):
    """Some roots and every node made on the way to them."""

    roots: list[Node]
    seed: int
    size: int
    cell: Cell | None


class Generator:
    """The state of making one program."""

    def __init__(self, seed: int, data: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.data = np.random.default_rng((seed, data))
        self.pool: list[Node] = []

    # choices ------------------------------------------------------------------------------------------------------
    def int(self, low: int, high: int) -> int:
        """A number in [low, high]."""
        return int(self.rng.integers(low, high + 1))

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def one(self, of: Sequence[Any]) -> Any:
        return of[int(self.rng.integers(len(of)))]

    def dtype(self, classes: str = "biuhf") -> DType:
        """A dtype; floats are likelier than the number of their kinds."""
        favoured = [c for c in classes if c in "hf"]
        return self.one(CLASSES[self.one(favoured) if favoured and self.chance(0.4) else self.one(classes)])  # type: ignore[no-any-return]

    def shape(self, rank: int | None = None, low: int = 0) -> Shape:
        """A shape of at most `LARGEST` elements; sometimes a long vector or a large matrix."""
        if rank is None:
            rank = self.one((0, 1, 1, 2, 2, 2, 3, 3, 4, 5))
        dims = [self.one([d for d in DIMS if d >= low]) for _ in range(rank)]
        if rank and self.chance(0.06):
            dims = [min(d, 3) for d in dims]
            dims[self.int(0, rank - 1)] = self.one((64, 257, 1000, 1025))
        while math.prod(dims) > LARGEST:
            dims[int(np.argmax(dims))] //= 2
        return tuple(dims)

    def style(self) -> str:
        return self.one(("plain", "plain", "special", "ties"))  # type: ignore[no-any-return]

    # leaves -------------------------------------------------------------------------------------------------------
    def stored(self, shape: Shape, dtype: DType, style: str | None = None) -> Node:
        n = ir.buffer(shape, dtype, copy(sample(self.data, shape, dtype, style or self.style())))
        self.pool.append(n)
        return n

    def leaf(self, shape: Shape, dtype: DType) -> Node:
        """Mostly a stored array; else a constant, a number sequence, or a variable that carries its value."""
        pick = self.rng.random()
        if pick < 0.7:
            return self.stored(shape, dtype)
        if pick < 0.8:
            return ir.const(self.literal(dtype), dtype, shape)
        if pick < 0.85 and dtype.kind == "f":
            return ir.const(float(self.data.normal()), dtype, shape)
        if pick < 0.92 and dtype.kind in "iu" and shape:
            return self.sequence(shape, dtype)
        return ir.input(shape, dtype, self.stored(shape, dtype))

    def literal(self, dtype: DType) -> bool | int | float:
        if dtype.kind == "f":
            return self.one((0.0, -0.0, 1.0, -1.0, 2.0, 0.5, math.inf, -math.inf, math.nan))  # type: ignore[no-any-return]
        return self.one((0, 1, 2, 7, 31, 64, -1, 127, 255))  # type: ignore[no-any-return]

    def sequence(self, shape: Shape, dtype: DType) -> Node:
        """An IOTA along one axis."""
        axis = self.int(0, len(shape) - 1)
        ones = tuple(size if i == axis else 1 for i, size in enumerate(shape))
        return ir.expand(ir.reshape(ir.iota(shape[axis], dtype), ones), shape)

    def want(self, shape: Shape, dtype: DType) -> Node:
        """A node of this type: shared, cast or broadcast from one that there is, or a new leaf."""
        pick = self.rng.random()
        if pick < 0.5:
            same = [n for n in self.pool if n.shape == shape and n.dtype is dtype]
            if same:
                return self.one(same)  # type: ignore[no-any-return]
        if pick < 0.65:
            same = [n for n in self.pool if n.shape == shape]
            if same:
                return ir.cast(self.one(same), dtype)
        if pick < 0.8 and shape:
            axis = self.int(0, len(shape) - 1)
            ones = tuple(1 if i == axis else size for i, size in enumerate(shape))
            return ir.expand(self.leaf(ones, dtype), shape)
        return self.leaf(shape, dtype)

    def indices(self, shape: Shape, size: int) -> Node:
        """Valid indices into `size` > 0 places."""
        dtype = self.one([d for d in CLASSES["i"] + CLASSES["u"] if size <= np.iinfo(d).max])
        if self.chance(0.3):
            return ir.mod(self.want(shape, dtype), ir.const(size, dtype, shape))
        return ir.buffer(shape, dtype, copy(self.data.integers(0, size, shape).astype(dtype)))

    def any(self, classes: str = "biuhf", rank: int | None = None, low: int = 0) -> Node:
        """Some node whose dtype is of one of `classes`, with at least `rank` axes."""
        fit = [
            n for n in self.pool
            if class_of(n.dtype) in classes and (rank is None or n.ndim >= rank) and all(d >= low for d in n.shape)
        ]  # fmt: skip
        if fit and self.chance(0.75):
            return self.one(fit[-6:] if self.chance(0.6) else fit)  # type: ignore[no-any-return]
        shape = self.shape(None if rank is None else max(rank, self.one((1, 2, 2, 3))), low)
        return self.leaf(shape, self.dtype(classes))

    # operations ---------------------------------------------------------------------------------------------------
    def elementwise(self, op: Op, a: Node) -> Node:
        """`op` whose first data operand is `a`."""
        if op is Op.CAST:
            return ir.cast(a, self.one([d for d in DTYPES.values() if d is not a.dtype]))
        if op is Op.BITCAST:
            return self.bitcast(a)
        if op is Op.WHERE:
            pair = [a, self.want(a.shape, a.dtype)]
            self.rng.shuffle(pair)  # type: ignore[arg-type]
            return ir.where(self.condition(a.shape), *pair)
        if op in ir.UNARY:
            return ir.unary(op, a)
        b = self.want(a.shape, a.dtype)
        return ir.binary(op, a, b) if self.chance(0.7) else ir.binary(op, b, a)

    def bitcast(self, a: Node) -> Node:
        fit = [d for d in DTYPES.values() if d.itemsize == a.dtype.itemsize and d is not BOOL and d is not a.dtype]
        return ir.bitcast(a, self.one(fit)) if a.dtype is not BOOL else ir.not_(a)

    def condition(self, shape: Shape) -> Node:
        if self.chance(0.5):
            return self.want(shape, BOOL)
        dtype = self.dtype()
        return ir.binary(self.one((Op.LT, Op.EQ)), self.want(shape, dtype), self.want(shape, dtype))

    def reduction(self, a: Node) -> Node:
        op = self.one([Op.REDUCE_MAX, Op.REDUCE_MIN] + [Op.SUM, Op.SUM, Op.PROD] * (a.dtype is not BOOL))
        axes = [i for i in range(a.ndim) if self.chance(0.5)] or list(range(a.ndim))[-1:]
        return ir.reduce(op, a, axes)

    def scan(self, kind: str, a: Node) -> Node:
        src = [a, self.want(a.shape, a.dtype)] if kind == "linrec" else [a]
        return ir.scan(kind, self.int(0, a.ndim - 1), *src)

    def scatter(self, kind: str, g: Node) -> Node:
        axis = self.int(0, g.ndim - 1)
        size = self.int(1, g.shape[axis] + 3)
        return ir.scatter(kind, g, self.indices(g.shape, size), axis, size)

    def movement(self, op: Op, a: Node) -> Node:
        """`op` of `a`, which has an axis; `a` itself where `op` has no room."""
        axes = range(a.ndim)
        if op is Op.RESHAPE:
            return self.reshape(a)
        if op is Op.PERMUTE:
            return ir.permute(a, self.rng.permutation(a.ndim).tolist())
        if op is Op.EXPAND:
            at = self.int(0, a.ndim)
            wide = ir.reshape(a, (*a.shape[:at], 1, *a.shape[at:]))
            size = self.one([d for d in (0, 2, 3, 8) if d * a.size <= LARGEST])
            return ir.expand(wide, (*a.shape[:at], size, *a.shape[at:]))
        if op is Op.PAD:
            some = [self.chance(0.7) for _ in axes]
            room = [(self.int(0, 2), self.int(0, 2), self.one((0, 0, 1, 2))) for _ in axes]
            padded = ir.pad(a, [r if s else (0, 0, 0) for r, s in zip(room, some, strict=True)])
            return padded if padded.size <= LARGEST else a
        if op is Op.SHRINK:
            spec = []
            for size in a.shape:
                start = self.int(0, min(size, 3))
                spec.append((start, self.int(max(start, size - 3), size), self.one((1, 1, 2, 3))))
            return ir.shrink(a, spec)
        if op is Op.FLIP:
            return ir.flip(a, [i for i in axes if self.chance(0.6)])
        if op is Op.SKEW:
            if a.ndim < 2:
                a = ir.expand(ir.reshape(a, (*a.shape, 1)), (*a.shape, 3))
            i, k = self.rng.permutation(a.ndim)[:2].tolist()
            d = self.one((1, 1, -1, -2, 2, 3, 0))
            return ir.skew(a, i, k, d, self.int(-4, 4), self.int(0, a.shape[i] + 3))
        if op is Op.CAT:
            axis = self.int(0, a.ndim - 1)
            parts = [a]
            for _ in range(self.int(1, 3)):
                shape = (*a.shape[:axis], self.int(0, 4), *a.shape[axis + 1 :])
                parts.append(a if self.chance(0.3) else self.want(shape, a.dtype))
            self.rng.shuffle(parts)  # type: ignore[arg-type]
            return ir.cat(parts, axis)
        axis = self.int(0, a.ndim - 1)
        if not a.shape[axis]:
            return a
        shape = (*a.shape[:axis], self.int(0, a.shape[axis] + 2), *a.shape[axis + 1 :])
        return ir.gather(a, self.indices(shape, a.shape[axis]), axis)

    def reshape(self, a: Node) -> Node:
        """Axes joined, split, or of size 1 put in."""
        n = a.size
        if a.ndim > 1 and self.chance(0.5):
            i = self.int(0, a.ndim - 2)
            return ir.reshape(a, (*a.shape[:i], a.shape[i] * a.shape[i + 1], *a.shape[i + 2 :]))
        for m in self.rng.permutation([2, 3, 4, 8]).tolist():
            if n and n % m == 0 and self.chance(0.8):
                return ir.reshape(a, (m, n // m) if self.chance(0.5) else (n // m, m))
        return ir.reshape(a, (*a.shape, 1)) if a.ndim < 5 else ir.alias(a)

    def marker(self, a: Node) -> Node:
        pick = self.int(0, 3)
        if pick == 0:
            return ir.detach(a)
        if pick == 1:
            return ir.fence(a)
        if pick == 2:
            return ir.custom(a, [a], [self.any()], lambda res, g: (g,))
        return ir.call(_SORT[a.dtype], a)

    # patterns -----------------------------------------------------------------------------------------------------
    def finite(self, shape: Shape, dtype: DType) -> Node:
        return self.stored(shape, dtype, self.one(("plain", "ties")))

    def matmul(self, a: Node, b: Node) -> Node:
        """[.., M, K] times [.., K, N]."""
        *batch, m, k = a.shape
        n = b.shape[-1]
        wide = (*batch, m, k, n)
        left = ir.expand(ir.reshape(a, (*batch, m, k, 1)), wide)
        right = ir.expand(ir.reshape(b, (*batch, 1, k, n)), wide)
        return ir.reshape(ir.sum_(ir.mul(left, right), (len(batch) + 1,)), (*batch, m, n))

    def product(self) -> Node:
        """A matrix product, maybe batched, with work on its operands and behind it."""
        dtype = self.dtype("iuhff")
        batch = self.one(((), (), (2,), (3,)))
        m, k, n = (self.one((1, 2, 3, 5, 8, 17, 33)) for _ in range(3))
        if self.chance(0.1):
            k = self.one((257, 300))
            m, n = min(m, 5), min(n, 3)
        a, b = self.finite((*batch, m, k), dtype), self.finite((*batch, k, n), dtype)
        if self.chance(0.3):
            a = ir.mul(a, self.finite(a.shape, dtype))
        if self.chance(0.3) and m > 1:
            a = ir.pad(ir.shrink(a, [(0, d, 1) for d in batch] + [(0, m - 1, 1), (0, k, 1)]),
                       [(0, 0, 0) for _ in batch] + [(1, 0, 0), (0, 0, 0)])  # fmt: skip
        y = self.matmul(a, b)
        if self.chance(0.6):
            y = ir.add(y, self.want(y.shape, dtype))
        if self.chance(0.4) and dtype.kind == "f":
            y = ir.tanh(y)
        return y

    def windows(self) -> Node:
        """A convolution or a pooling over windows: EXPAND, SKEW, stepped SHRINK."""
        dtype = self.dtype("iuhff")
        c, length, k, out = self.int(1, 3), self.int(3, 20), self.int(1, 3), self.int(1, 4)
        stride, dilation = self.int(1, 2), self.int(1, 2)
        x = self.finite((c, length), dtype)
        if self.chance(0.5):
            x = ir.pad(x, [(0, 0, 0), (1, 1, 0)])
            length += 2
        count = max(length - dilation * (k - 1), 0)
        w = ir.skew(ir.expand(ir.reshape(x, (c, length, 1)), (c, length, k)), 1, 2, dilation, 0, count)
        w = ir.shrink(w, [(0, c, 1), (0, count, stride), (0, k, 1)])
        if self.chance(0.4):
            return ir.reduce(self.one((Op.REDUCE_MAX, Op.SUM)), w, (2,))
        p = w.shape[1]
        wide = (out, c, p, k)
        f = ir.expand(ir.reshape(self.finite((out, c, k), dtype), (out, c, 1, k)), wide)
        product = ir.mul(ir.expand(ir.reshape(w, (1, c, p, k)), wide), f)
        return ir.reshape(ir.sum_(product, (1, 3)), (out, p))

    def softmax(self, x: Node) -> Node:
        axis = x.ndim - 1 if self.chance(0.7) else self.int(0, x.ndim - 1)
        m = ir.expand(ir.reduce(Op.REDUCE_MAX, x, (axis,)), x.shape)
        e = ir.exp(ir.sub(x, m))
        return ir.div(e, ir.expand(ir.sum_(e, (axis,)), x.shape))

    def attention(self) -> Node:
        dtype = self.one((FLOAT32, FLOAT64))
        t, d = self.int(2, 9), self.int(2, 9)
        q, k, v = (self.finite((t, d), dtype) for _ in range(3))
        scores = self.matmul(q, ir.permute(k, (1, 0)))
        if self.chance(0.5):
            row, column = ir.reshape(ir.iota(t), (t, 1)), ir.reshape(ir.iota(t), (1, t))
            hidden = ir.lt(ir.expand(row, (t, t)), ir.expand(column, (t, t)))
            scores = ir.where(hidden, ir.const(-1e9, dtype, (t, t)), scores)
        return self.matmul(self.softmax(scores), v)

    def normalise(self, x: Node) -> Node:
        """Centred and scaled over an axis: several reductions of one row or column."""
        axis = self.int(0, x.ndim - 1)
        n = ir.const(float(max(x.shape[axis], 1)), x.dtype, tuple(1 if i == axis else d for i, d in enumerate(x.shape)))
        mean = ir.div(ir.sum_(x, (axis,)), n)
        c = ir.sub(x, ir.expand(mean, x.shape))
        var = ir.div(ir.sum_(ir.mul(c, c), (axis,)), n)
        return ir.div(c, ir.expand(ir.sqrt(ir.add(var, ir.const(1e-3, x.dtype, var.shape))), x.shape))

    def diamond(self, a: Node) -> Node:
        for _ in range(self.int(1, 4)):
            a = ir.add(ir.mul(a, a), a)
        return a

    # the random part ----------------------------------------------------------------------------------------------
    def act(self) -> None:
        """One more node, or a pattern of some, for the pool."""
        pick = self.rng.random()
        if pick < 0.38:
            op = self.one(_ELEMENTWISE)
            n = self.elementwise(op, self.any("".join(_operand_classes(op))))
        elif pick < 0.5:
            n = self.reduction(self.any())
        elif pick < 0.55:
            n = self.scan(self.one(ir.SCANS), self.any("iuhf", rank=1))
        elif pick < 0.6:
            kind = self.one(ir.SCATTERS)
            n = self.scatter(kind, self.any("biuhf" if kind != "sum" else "iuhf", rank=1))
        elif pick < 0.8:
            n = self.movement(self.one(_MOVES), self.any(rank=1))
        elif pick < 0.84:
            n = self.marker(self.any())
        elif pick < 0.88:
            n = self.product()
        elif pick < 0.91:
            n = self.windows()
        elif pick < 0.94:
            n = self.softmax(self.any("hf", rank=1))
        elif pick < 0.96:
            n = self.normalise(self.any("hf", rank=1))
        elif pick < 0.98:
            n = self.diamond(self.any("iuhf"))
        else:
            n = self.attention()
        if n.size <= LARGEST and n.ndim <= 5:
            self.pool.append(n)

    # the cell -----------------------------------------------------------------------------------------------------
    def cell(self, name: str, letter: str, kernel: str) -> Node:
        """A root that has the operation `name`, of a dtype of class `letter`, in a kernel of kind `kernel`."""
        dtype = self.one(CLASSES[letter])
        shape = self.one(((3, 7), (5, 17), (2, 33), (9, 4), (3, 65), (40, 5), (4, 8), (16, 16)))
        base, _, kind = name.partition(".")
        a = self.stored(shape, dtype)
        if base == "cat":
            part = self.context(a, kernel, keep=dtype)
            axis = self.int(0, part.ndim - 1)
            return ir.cat([self.stored(part.shape, dtype), part], axis)
        if base == "scan":
            return self.scan(kind, a)
        if base == "scatter":
            return self.scatter(kind, a)
        if base in ("sum", "prod", "reduce_max", "reduce_min"):
            if kernel == "contract":
                return self.matmul(a, self.stored((shape[1], 6), dtype))
            return ir.reduce(Op(base), a, (int(kernel == "row"),))
        if base == "call":
            return ir.call(_SORT[dtype], a)
        if base in ("detach", "custom", "input", "buffer"):
            if base == "detach":
                a = ir.detach(a)
            elif base == "input":
                a = ir.input(a.shape, a.dtype, a)
            elif base == "custom":
                a = ir.custom(a, [a], [], lambda _, g: (g,))
            return ir.bitcast(ir.fence(a), dtype)
        return self.context(self.operation(base, shape, dtype, a), kernel)

    def operation(self, base: str, shape: Shape, dtype: DType, a: Node) -> Node:
        """One node of the operation, its result a matrix without an axis of size 1."""
        if base == "const":
            if dtype is BOOL:  # alone it would decide a WHERE, and vanish
                return ir.xor(a, ir.const(True, dtype, shape))
            return ir.const(2, dtype, shape)
        if base == "param":
            return ir.const(float(self.data.uniform(2.1, 9.0)), dtype, shape)
        if base == "iota":
            m, n = shape
            return ir.expand(ir.reshape(ir.iota(n, dtype), (1, n)), (m, n))
        op = Op(base)
        if op is Op.CAST:
            from_ = self.one([d for d in DTYPES.values() if d is not dtype])
            return ir.cast(self.stored(shape, from_, "special"), dtype)
        if op is Op.BITCAST:
            fit = [d for d in DTYPES.values() if d.itemsize == dtype.itemsize and d is not dtype and d is not BOOL]
            return ir.bitcast(self.stored(shape, self.one(fit), "special"), dtype)
        if op in ir.UNARY:
            return ir.unary(op, a)
        if op in ir.BINARY:
            return ir.binary(op, a, self.stored(shape, dtype))
        if op is Op.WHERE:
            return ir.where(self.stored(shape, BOOL), a, self.stored(shape, dtype))
        if op is Op.FENCE:
            return ir.fence(ir.add(a, a) if dtype is not BOOL else ir.not_(a))
        m, n = shape
        if op is Op.RESHAPE:
            return ir.reshape(self.stored((n, m), dtype), shape)
        if op is Op.PERMUTE:
            return ir.permute(self.stored((n, m), dtype), (1, 0))
        if op is Op.EXPAND:
            return ir.expand(self.stored(self.one(((m, 1), (1, n))), dtype), shape)
        if op is Op.PAD:
            return ir.pad(a, [(1, 2, 0), (0, 1, 1)])
        if op is Op.SHRINK:
            return ir.shrink(a, [(0, m, 1), (1, n, 2)])
        if op is Op.FLIP:
            return ir.flip(a, self.one(((0,), (1,), (0, 1))))
        if op is Op.SKEW:
            return ir.skew(a, 0, 1, self.one((1, -1, 2)), self.int(-2, 2), m + 1)
        return ir.gather(a, self.indices((m, 6), n), 1)

    def context(self, y: Node, kernel: str, keep: DType | None = None) -> Node:
        """A root whose kernel is of the given kind and computes `y`; of dtype `keep` if that is not None."""
        m, n = y.shape
        if kernel == "map":
            return y if keep is None else ir.bitcast(ir.fence(ir.mul(y, y)), keep)
        if kernel in ("row", "column"):
            ops = [Op.REDUCE_MAX, Op.REDUCE_MIN] + [Op.SUM, Op.PROD] * (y.dtype is not BOOL)
            return ir.reduce(self.one(ops), y, (int(kernel == "row"),))
        number = FLOAT32 if y.dtype is BOOL else y.dtype
        if kernel == "scatter":
            return self.scatter(self.one(ir.SCATTERS[1:] if y.dtype is BOOL else ir.SCATTERS), y)
        if kernel == "scan":
            z = y if y.dtype is not BOOL else ir.where(y, self.stored(y.shape, number), self.stored(y.shape, number))
            out = self.scan(self.one(ir.SCANS[:4]), z)
        else:
            z = self.matmul(self.finite((m, 3), number), self.finite((3, n), number))
            out = ir.where(y, z, ir.neg(z)) if y.dtype is BOOL else ir.add(z, y)
        return ir.lt(out, self.stored(out.shape, number)) if keep is BOOL else out


_ELEMENTWISE: Final = sorted(ir.ELEMENTWISE, key=lambda o: o.value)
_MOVES: Final = sorted(ir.MOVEMENT, key=lambda o: o.value)


def make(seed: int, size: int, cell: Cell | None = None, data: int = 0) -> Program:
    """A program of `size` actions and, if given, one root for `cell`; equal but for its data for every `data`."""
    g = Generator(seed, data)
    roots = []
    if cell is not None:
        roots.append(g.cell(*cell))
        g.pool.append(roots[0])
    for _ in range(size):
        g.act()
    choose = np.random.default_rng((seed, 1))
    inner = [n for n in g.pool if n.op is not Op.BUFFER]
    if inner and size:
        roots.append(inner[-1])
        roots += [inner[i] for i in choose.integers(0, len(inner), int(choose.integers(0, 3)))]
    return Program(roots or g.pool[-1:] or [ir.const(1.0, FLOAT32)], seed, size, cell)
