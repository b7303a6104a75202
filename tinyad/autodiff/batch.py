"""vmap as a graph transform: every operation with one more axis in front.

What does not depend on a batched input is left as it is and broadcast where it meets what does, so nothing is computed
twice. `BATCH` has a row for every operation that can depend on something.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from .. import ir
from ..errors import GradError, IRError, TraceError
from ..ir import Node, Op


class _Batch:
    """One run: the size, what each batched node became, and the inputs it began with."""

    __slots__ = ("inputs", "mapped", "size", "values")

    def __init__(self, inputs: Sequence[Node], values: Sequence[Node], size: int) -> None:
        self.inputs = inputs
        self.values = values
        self.size = size
        self.mapped: dict[Node, Node] = dict(zip(inputs, values, strict=True))

    def lead(self, a: Node) -> Node:
        """`a` with the batch axis in front, broadcast if it does not depend on a batched input."""
        found = self.mapped.get(a)
        return broadcast(a, self.size) if found is None else found

    def all(self, n: Node) -> list[Node]:
        """All sources of `n` with the batch axis."""
        return [self.lead(s) for s in n.src]


def batch(outputs: Sequence[Node], inputs: Sequence[Node], batched: Sequence[Node], size: int) -> list[Node]:
    """`outputs` for `size` many values of `inputs` at once: `batched` and the result hold them along a new axis 0.

    Raises:
        TraceError: a host function that takes no further leading axis.
    """
    for x, v in zip(inputs, batched, strict=True):
        if v.shape != (size, *x.shape) or v.dtype is not x.dtype:
            raise IRError(f"vmap: expected {size} of {x!r} along a new first axis, got {v!r}")
    run = _Batch(inputs, batched, size)
    mapped = run.mapped
    for n in ir.toposort(outputs):
        if n not in mapped and not mapped.keys().isdisjoint(n.src):
            mapped[n] = y = BATCH[n.op](n, run)
            if y.site is None:
                y.site = n.site
    return [run.lead(y) for y in outputs]


def broadcast(a: Node, size: int) -> Node:
    """`a` repeated along a new axis 0."""
    return ir.expand(ir.reshape(a, (1, *a.shape)), (size, *a.shape))


# rows -------------------------------------------------------------------------------------------------------------
Row = Callable[[Node, _Batch], Node]


def _same(n: Node, run: _Batch) -> Node:
    """Acts on each element: any shape will do."""
    return Node(n.op, tuple(run.all(n)), n.arg, (run.size, *n.shape), n.dtype)


def _axes(n: Node) -> tuple[int, ...]:
    return tuple(i + 1 for i in n.arg)


def _reduce(n: Node, run: _Batch) -> Node:
    return ir.reduce(n.op, run.lead(n.src[0]), _axes(n))


def _scan(n: Node, run: _Batch) -> Node:
    kind, axis = n.arg
    return ir.scan(kind, axis + 1, *run.all(n))


def _scatter(n: Node, run: _Batch) -> Node:
    kind, axis, size = n.arg
    g, idx = run.all(n)
    return ir.scatter(kind, g, idx, axis + 1, size)


def _skew(n: Node, run: _Batch) -> Node:
    i, k, d, off, size = n.arg
    return ir.skew(run.lead(n.src[0]), i + 1, k + 1, d, off, size)


def _custom(n: Node, run: _Batch) -> Node:
    """The value batched; the rule traced and batched when it is asked for."""
    rule, count = n.arg
    y, args, residuals = n.src[0], n.src[1 : 1 + count], n.src[1 + count :]
    mapped, size = run.mapped, run.size
    arg_batched = [a in mapped for a in args]
    residual_batched = [r in mapped for r in residuals]

    def batched_rule(values: Sequence[Node], g: Node) -> list[Node | None]:
        one_g = ir.input(n.shape, n.dtype)
        ones = [
            ir.input(r.shape, r.dtype) if is_batched else v
            for r, v, is_batched in zip(residuals, values, residual_batched, strict=True)
        ]
        made: Sequence[Node | None] = rule(ones, one_g)
        if len(made) != count:
            raise GradError(f"custom rule: expected {count} cotangents, one for each argument, got {len(made)}")
        fresh = [(o, v) for o, v, is_batched in zip(ones, values, residual_batched, strict=True) if is_batched]
        pairs = [(one_g, g), *fresh, *zip(run.inputs, run.values, strict=True)]
        some = iter(batch([m for m in made if m is not None], [a for a, _ in pairs], [b for _, b in pairs], size))
        out: list[Node | None] = []
        for m, a, is_batched in zip(made, args, arg_batched, strict=True):
            c = None if m is None else next(some)
            out.append(c if c is None or is_batched else ir.reshape(ir.sum_(c, (0,)), a.shape))
        return out

    return ir.custom(run.lead(y), [mapped.get(a, a) for a in args], [mapped.get(r, r) for r in residuals], batched_rule)


def _call(n: Node, run: _Batch) -> Node:
    """Allowed where the function takes a leading axis more and returns one more."""
    f: ir.HostFunction = n.arg
    src = run.all(n)
    try:
        shape: Any = tuple(f.shape(*(s.shape for s in src)))
    except Exception:  # a shape rule of the user: any failure means "not for these shapes"
        shape = None
    if shape != (run.size, *n.shape):
        raise TraceError(
            f"vmap: {f.name} is a NumPy function for arrays of one shape and has no batched form; "
            "call it outside vmap, or make it accept leading axes and say so in its shape"
        )
    return ir.call(f, *src)


BATCH: Final[dict[Op, Row]] = {
    **dict.fromkeys(ir.ELEMENTWISE, _same),
    **dict.fromkeys(ir.REDUCE, _reduce),
    Op.SCAN: _scan,
    Op.SCATTER: _scatter,
    # movement
    Op.RESHAPE: _same,
    Op.EXPAND: _same,
    Op.PERMUTE: lambda n, run: ir.permute(run.lead(n.src[0]), (0, *_axes(n))),
    Op.PAD: lambda n, run: ir.pad(run.lead(n.src[0]), ((0, 0, 0), *n.arg)),
    Op.SHRINK: lambda n, run: ir.shrink(run.lead(n.src[0]), ((0, run.size, 1), *n.arg)),
    Op.FLIP: lambda n, run: ir.flip(run.lead(n.src[0]), _axes(n)),
    Op.SKEW: _skew,
    Op.CAT: lambda n, run: ir.cat(run.all(n), n.arg + 1),
    Op.GATHER: lambda n, run: ir.gather(run.lead(n.src[0]), run.lead(n.src[1]), n.arg + 1),
    # marker, host, and a variable that carries its value
    Op.DETACH: lambda n, run: ir.detach(run.lead(n.src[0])),
    Op.FENCE: lambda n, run: ir.fence(run.lead(n.src[0])),
    Op.CUSTOM: _custom,
    Op.CALL: _call,
    Op.INPUT: lambda n, run: run.lead(n.src[0]),
}
