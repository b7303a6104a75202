"""The text of a graph: `dump` and `parse`, with ``parse(dump(g))`` equal to g.

    graph (x: f32[64,32], w: input[0] f32[64,32]) {
      %0: f32[64,32] = mul x, w
      %1: f32[64,1] = sum[1] %0 ; train.py:12
      return %1
    }

One node a line, ``%n: type = op[argument] sources``, numbered by the walk from the roots. The header lists the leaves
that have no value of their own to print: stored arrays, and variables marked ``input``. Constants stand where they are
used, and a type follows one (``1.0:f32[1,1]``) that is not of its line's type. ``;`` opens a comment. Nothing in it
depends on ids or addresses. May import `ir`, `sites` and `verify`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NoReturn

import numpy as np

from . import ir
from .ir import DTYPES, LEAF, SHORT, DType, Node, Op, Shape, toposort
from .sites import Derived, origin, show
from .verify import fault

# names ------------------------------------------------------------------------------------------------------------
_WORDS: Final = frozenset({"nan", "inf", "true", "false"})  # constants, not names


def _is_stored(n: Node) -> bool:
    """Whether `n` is a stored array: a BUFFER, or a computed node that has dropped its sources."""
    return n.op is Op.BUFFER or (n.buffer is not None and not n.src and n.op not in LEAF)


def _in_header(n: Node) -> bool:
    return _is_stored(n) or (n.op is Op.INPUT and not n.src)


def _clean(name: str) -> str:
    """`name` as the text form can spell it."""
    name = re.sub(r"[^\w.]", "_", name, flags=re.ASCII) or "_"
    return f"_{name}" if name[0] in ".0123456789" or name in _WORDS else name


def _free(name: str, taken: set[str]) -> str:
    """`name`, with a suffix if it is taken; it is taken afterwards."""
    out, k = name, 1
    while out in taken:
        k += 1
        out = f"{name}_{k}"
    taken.add(out)
    return out


def label(roots: Sequence[Node], names: Mapping[Node, str] | None = None) -> dict[Node, str]:
    """What each node but the constants is called, in the order of the walk.

    The given name; else ``b0, b1..`` for stored arrays, ``x0, x1..`` for inputs, ``%0, %1..`` for all others.
    """
    order = [n for n in toposort(roots) if n.op is not Op.CONST]
    names = names or {}
    taken: set[str] = set()
    given = {n: _free(_clean(names[n]), taken) for n in order if n in names}
    out: dict[Node, str] = {}
    counts = {"b": 0, "x": 0, "%": 0}
    for n in order:
        name = given.get(n)
        if name is None:
            letter = "b" if _is_stored(n) else "x" if _in_header(n) else "%"
            name = f"{letter}{counts[letter]}"
            counts[letter] += 1
            if letter != "%":
                name = _free(name, taken)
        out[n] = name
    return out


# printing; it also prints broken nodes, for `excerpt` --------------------------------------------------------------
def type_text(n: Node) -> str:
    """``f32[64,32]``."""
    dtype = SHORT.get(n.dtype) if isinstance(n.dtype, np.dtype) else None
    dims = ",".join(map(str, n.shape)) if isinstance(n.shape, tuple) else repr(n.shape)
    return f"{dtype or n.dtype}[{dims}]"


def const_text(value: Any, dtype: DType) -> str:
    """The constant in the fewest digits that `parse` turns into the same bits (a nan keeps its sign only)."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, float) or dtype.kind != "f":
        return str(value)
    if math.isnan(value):
        return "-nan" if math.copysign(1.0, value) < 0 else "nan"
    with np.errstate(all="ignore"):
        short = str(dtype.type(value))
        return short if float(dtype.type(float(short))) == value else repr(value)


def _atom(v: Any) -> str:
    """A part of an argument: numbers and words as they are, tuples ``a:b:c``, functions by name."""
    if isinstance(v, tuple):
        return ":".join(map(_atom, v))
    if v is None or isinstance(v, (str, int, float)):
        return str(v)
    return _clean(str(getattr(v, "name", None) or getattr(v, "__name__", None) or type(v).__name__))


class _Printer:
    """The names and numbers of one dump."""

    def __init__(self, roots: Sequence[Node], names: Mapping[Node, str] | None, sites: bool) -> None:
        self.roots = roots
        self.labels = label(roots, names)
        self.sites = sites
        self.ids: dict[Op, dict[Any, int]] = {Op.INPUT: {}, Op.FENCE: {}}
        for n in self.labels:
            ids = self.ids.get(n.op)
            if ids is not None:
                ids.setdefault(n.arg, len(ids))

    def argument(self, n: Node) -> str:
        if n.op in self.ids:
            return f"[{self.ids[n.op][n.arg]}]"
        if n.arg is None:
            return ""
        return f"[{','.join(map(_atom, n.arg)) if isinstance(n.arg, tuple) else _atom(n.arg)}]"

    def operand(self, s: Node, user: Node | None) -> str:
        if s.op is not Op.CONST:
            return self.labels[s]
        text = const_text(s.arg, s.dtype)
        bare = user is not None and user.shape == s.shape and user.dtype == s.dtype
        return text if bare else f"{text}:{type_text(s)}"

    def comment(self, n: Node) -> str:
        if not self.sites or n.site is None:
            return ""
        site = origin(n.site)
        text = None if site is None else show(site)
        if isinstance(n.site, Derived):
            of = n.site.of()
            text = self.labels.get(of, text) if of is not None else text
            text = text and f"d {text}"
        return f" ; {text}" if text else ""

    def leaf(self, n: Node) -> str:
        mark = "" if _is_stored(n) else f"input{self.argument(n)} "
        return f"{self.labels[n]}: {mark}{type_text(n)}"

    def line(self, n: Node) -> str:
        sources = ", ".join([self.operand(s, n) for s in n.src])
        head = f"  {self.labels[n]}: {type_text(n)} = {n.op.value}{self.argument(n)}"
        return f"{head}{' ' if sources else ''}{sources}{self.comment(n)}"

    def lines(self) -> list[tuple[Node | None, str]]:
        """Every line, with the node it defines."""
        header = ", ".join([self.leaf(n) for n in self.labels if _in_header(n)])
        body: list[tuple[Node | None, str]] = [(n, self.line(n)) for n in self.labels if not _in_header(n)]
        result = ", ".join([self.operand(n, None) for n in self.roots])
        return [(None, f"graph ({header}) {{"), *body, (None, f"  return {result}".rstrip()), (None, "}")]


def dump(roots: Sequence[Node], names: Mapping[Node, str] | None = None, *, sites: bool = True) -> str:
    """The text of the graph of `roots`; with `sites`, comments say which line of the user made a node."""
    return "".join(f"{line}\n" for _, line in _Printer(roots, names, sites).lines())


def excerpt(roots: Sequence[Node], node: Node, around: int = 5) -> str:
    """The lines of the dump `around` the one of `node`, which is marked; leaves and constants lie where first used."""
    lines = _Printer(roots, None, True).lines()
    at = next((k for k, (n, _) in enumerate(lines) if n is not None and (n is node or node in n.src)), len(lines) - 2)
    first = max(at - around, 0)
    part = enumerate(lines[first : at + around + 1], first)
    return "\n".join(f"{'>' if k == at else ' '} {line}" for k, (_, line) in part)


# parsing ----------------------------------------------------------------------------------------------------------
def _nothing(text: str) -> None:
    if text:
        raise ValueError("expected no argument")


def _int(text: str) -> int:
    if not re.fullmatch(r"-?\d+", text, re.ASCII):
        raise ValueError(f"expected an integer instead of `{text}`")
    return int(text)


def _ints(text: str) -> tuple[int, ...]:
    return tuple(map(_int, text.split(","))) if text else ()


def _triples(text: str) -> tuple[tuple[int, ...], ...]:
    return tuple([tuple(map(_int, part.split(":"))) for part in text.split(",")])


def _kind(text: str) -> tuple[str | int, ...]:
    kind, *rest = text.split(",")
    return kind, *map(_int, rest)


def _unwritten(why: str) -> Callable[[str], NoReturn]:
    def refuse(_: str) -> NoReturn:
        raise ValueError(why)

    return refuse


ARGUMENT: Final[dict[Op, Callable[[str], Any]]] = dict.fromkeys(Op, _nothing) | {
    Op.BUFFER: _unwritten("expected stored arrays in the header"),
    Op.CONST: _unwritten("expected constants where they are used"),
    Op.INPUT: _int,
    Op.SUM: _ints,
    Op.PROD: _ints,
    Op.REDUCE_MAX: _ints,
    Op.REDUCE_MIN: _ints,
    Op.SCAN: _kind,
    Op.SCATTER: _kind,
    Op.PERMUTE: _ints,
    Op.PAD: _triples,
    Op.SHRINK: _triples,
    Op.FLIP: _ints,
    Op.SKEW: _ints,
    Op.CAT: _int,
    Op.GATHER: _int,
    Op.FENCE: _int,
    Op.CUSTOM: _unwritten("a custom derivative is a Python function: its text cannot be parsed"),
    Op.CALL: _unwritten("a host call is a Python function: its text cannot be parsed"),
}
"""How the text between the brackets becomes the argument of a node."""

_NAME: Final = r"%\d+|[A-Za-z_][\w.]*"
_TYPE: Final = rf"(?P<dtype>{'|'.join(DTYPES)})\[(?P<dims>(?:\d+(?:,\d+)*)?)\]"
_HEADER: Final = re.compile(r"graph \((.*)\) \{")
_LEAF: Final = re.compile(rf"(?P<name>{_NAME}): (?:input\[(?P<id>\d+)\] )?{_TYPE}", re.ASCII)
_LINE: Final = re.compile(
    rf"(?P<name>{_NAME}): {_TYPE} = (?P<op>\w+)(?:\[(?P<arg>[^\]]*)\])?(?: (?P<src>.*))?", re.ASCII
)
_RETURN: Final = re.compile(r"return(?: (.*))?")
_REFERENCE: Final = re.compile(_NAME, re.ASCII)
_CONSTANT: Final = re.compile(
    rf"(?P<value>-?(?:nan|inf|\d+(?:\.\d+)?(?:e[+-]?\d+)?)|true|false)(?::{_TYPE})?", re.ASCII
)
_COMMA: Final = re.compile(r",\s*(?![^\[]*\])")  # one that does not stand in brackets
_OPS: Final = {op.value: op for op in Op}


def _type_of(m: "re.Match[str]") -> tuple[Shape, DType]:
    return _ints(m["dims"]), DTYPES[m["dtype"]]


def _const(text: str, shape: Shape, dtype: DType) -> Node:
    if (text in ("true", "false")) != (dtype.kind == "b"):
        raise ValueError(f"expected a constant of dtype {SHORT[dtype]} instead of `{text}`")
    if dtype.kind not in "iu":
        return ir.const(float(text) if dtype.kind == "f" else text == "true", dtype, shape)
    n = ir.const(_int(text), dtype, shape)
    if n.arg != int(text):
        raise ValueError(f"expected a constant in the range of {SHORT[dtype]} instead of `{text}`")
    return n


class _Parser:
    """The nodes defined so far."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.ids: dict[tuple[Op, int], int] = {}

    def define(self, name: str, n: Node) -> None:
        if n.op in (Op.INPUT, Op.FENCE):
            n.arg = self.ids.setdefault((n.op, n.arg), next(ir._ids))
        if name in self.nodes or name in _WORDS:
            raise ValueError(f"expected a free name instead of `{name}`")
        why = fault(n)
        if why is not None:
            raise ValueError(f"{n.op.value}: {why}")
        self.nodes[name] = n

    def header(self, text: str) -> None:
        for part in _COMMA.split(text) if text else ():
            m = _LEAF.fullmatch(part)
            if m is None:
                raise ValueError(f"expected `name: type` or `name: input[k] type` instead of `{part}`")
            op = Op.BUFFER if m["id"] is None else Op.INPUT
            self.define(m["name"], Node(op, (), None if m["id"] is None else int(m["id"]), *_type_of(m)))

    def line(self, text: str) -> None:
        m = _LINE.fullmatch(text)
        if m is None:
            raise ValueError("expected `name: type = op[argument] sources`")
        op = _OPS.get(m["op"])
        if op is None:
            raise ValueError(f"expected an operation instead of `{m['op']}`")
        of = _type_of(m)
        arg = ARGUMENT[op](m["arg"] or "")
        self.define(m["name"], Node(op, self.operands(m["src"], of), arg, *of))

    def operands(self, text: str | None, of: tuple[Shape, DType] | None) -> tuple[Node, ...]:
        return tuple([self.operand(part, of) for part in _COMMA.split(text)]) if text else ()

    def operand(self, text: str, of: tuple[Shape, DType] | None) -> Node:
        m = _CONSTANT.fullmatch(text)
        if m is not None:
            of = _type_of(m) if m["dtype"] else of
            if of is None:
                raise ValueError(f"expected a type after the constant `{text}`")
            return _const(m["value"], *of)
        if text not in self.nodes:
            what = "a name defined above" if _REFERENCE.fullmatch(text) else "a name or a constant"
            raise ValueError(f"expected {what} instead of `{text}`")
        return self.nodes[text]


def parse_named(text: str) -> tuple[list[Node], dict[str, Node]]:
    """The roots of the graph that `text` describes and every node by its name; stored arrays have no value yet.

    Raises: ValueError that names the line and what was expected there.
    """
    parser = _Parser()
    lines = [(k, line.split(";", 1)[0].strip()) for k, line in enumerate(text.splitlines(), 1)]
    lines = [(k, line) for k, line in lines if line]
    roots: list[Node] | None = None
    for place, (k, line) in enumerate(lines):
        try:
            if place == 0:
                m = _HEADER.fullmatch(line)
                if m is None:
                    raise ValueError("expected `graph (name: type, ...) {`")
                parser.header(m[1])
            elif roots is not None:
                if line != "}" or place != len(lines) - 1:
                    raise ValueError("expected `}` and the end after `return`")
            elif (m := _RETURN.fullmatch(line)) is not None:
                roots = list(parser.operands(m[1], None))
            else:
                parser.line(line)
        except ValueError as e:
            raise ValueError(f"line {k}: {e}; got `{line}`") from None
    if roots is None or lines[-1][1] != "}":
        raise ValueError(
            f"line {max(len(text.splitlines()), 1)}: expected `return ...` and `}}`, got the end of the text"
        )
    return roots, parser.nodes


def parse(text: str) -> list[Node]:
    """The roots of the graph that `text` describes."""
    return parse_named(text)[0]
