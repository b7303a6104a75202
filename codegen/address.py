"""Index expressions as machine integers: hoisted, cached, split into a uniform part and what varies by lane."""

from __future__ import annotations

from collections.abc import Callable

from .builder import I64, Ty, Val, const, split, ty
from .frame import Frame, is_literal, lane_numbers
from .index import Atom, Datum, Div, Index, Masked, Mod, Var
from .loops import Buffer

_LIMIT = 1 << 30  # indices that stay below are computed in 32 bits when they are vectors


def depth_of(f: Frame, e: Index | Atom) -> int | None:
    """The scope depth at which everything inside is known; None where data is involved (no hoisting then)."""
    if isinstance(e, Var):
        return f.depth[e]
    if isinstance(e, Datum):
        return None
    deepest = 0
    for atom in e.terms if isinstance(e, Index) else (e.index,):
        d = depth_of(f, atom)
        if d is None:
            return None
        deepest = max(deepest, d)
    return deepest


def varies(f: Frame, e: Index | Atom) -> bool:
    """Whether lanes of the current vector see different values."""
    return stride(f, e) != 0


def stride(f: Frame, e: Index | Atom) -> int | None:
    """The step of `e` from lane to lane, if that is the same everywhere."""
    if f.vector is None:
        return 0

    def data(atom: Datum) -> int | None:
        return 0 if f.values[atom.value].ty.lanes == 1 else None

    return lane_step(e, f.vector, f.lanes if f.aligned else 0, data)


def lane_step(e: Index | Atom, var: Var, lanes: int, data: Callable[[Datum], int | None]) -> int | None:
    """The step of `e` as `var` goes through consecutive values, if constant; `data` says it for data.

    `lanes` not 0: the values start at a multiple of it. Then ``(s*var + c) // n`` and ``% n`` stay in one period
    where n and all that is added are multiples of ``s * lanes``, up to a constant below s.
    """
    if isinstance(e, Var):
        return int(e is var)
    if isinstance(e, Datum):
        return data(e)
    if isinstance(e, Masked):
        return lane_step(e.index, var, lanes, data)
    if isinstance(e, Index):
        total = 0
        for atom, coef in e.terms.items():
            step = lane_step(atom, var, lanes, data)
            if step is None:
                return None
            total += coef * step
        return total
    step = lane_step(e.index, var, lanes, data)
    if step == 0:
        return 0
    if step is None or not lanes or step < 0 or step != e.index.coefficient(var):
        return None
    span = step * lanes
    rest = any(coef % span for atom, coef in e.index.terms.items() if atom is not var)
    if rest or e.n % span or e.index.const % span >= step:
        return None
    return 0 if isinstance(e, Div) else step


def literal(f: Frame, e: Index) -> list[int] | None:
    """The value of `e` in every lane, if it is a multiple of the vector's variable, which starts at a literal."""
    var = f.vector
    if var is None or e.terms.keys() != {var} or not is_literal(f.vars[var]):
        return None
    return [e.const + e.terms[var] * (int(f.vars[var].ref) + lane) for lane in range(f.lanes)]


def _scaled_sum(f: Frame, parts: list[tuple[Val, int]], constant: int, t: Ty) -> Val:
    total, constant = _linear(f, parts, constant, t)
    if total is None:
        return const(t, constant)
    if t is I64:
        return f.b.plus(total, constant)
    return f.b.binary("add", total, const(t, constant)) if constant else total


def _linear(f: Frame, parts: list[tuple[Val, int]], constant: int, t: Ty) -> tuple[Val | None, int]:
    """A sum as what is computed and a literal that is to be added to it."""
    b = f.b
    total: Val | None = None
    for value, coef in parts:
        of, plus = split(value)
        constant += coef * plus
        if of is None:
            continue
        value = of
        if coef == -1 and total is not None:
            total = b.binary("sub", total, value)
            continue
        if coef != 1:
            value = b.binary("mul", value, const(t, coef))
        total = value if total is None else b.binary("add", total, value)
    return total, constant


def _floor_divide(f: Frame, x: Val, n: int, signed: bool) -> Val:
    b = f.b
    if n & (n - 1) == 0:
        return b.binary("ashr", x, const(x.ty, n.bit_length() - 1))
    if not signed:
        return b.binary("udiv", x, const(x.ty, n))
    q = b.binary("sdiv", x, const(x.ty, n))
    r = b.binary("sub", x, b.binary("mul", q, const(x.ty, n)))
    return b.binary("add", q, b.convert("sext", b.icmp("slt", r, const(x.ty, 0)), x.ty))


def _atom(f: Frame, atom: Div | Mod | Masked, inner: Val) -> Val:
    b = f.b
    if isinstance(atom, Masked):
        return inner
    if isinstance(atom, Mod) and atom.n & (atom.n - 1) == 0:
        return b.binary("and", inner, const(inner.ty, atom.n - 1))
    q = _floor_divide(f, inner, atom.n, atom.index.bounds[0] < 0)
    if isinstance(atom, Div):
        return q
    return b.binary("sub", inner, b.binary("mul", q, const(q.ty, atom.n)))


def _datum(f: Frame, atom: Datum, t: Ty) -> Val:
    v = f.values[atom.value]
    if v.ty.bits == t.bits:
        return v
    if v.ty.bits > t.bits:
        return f.b.convert("trunc", v, t.with_lanes(v.ty.lanes))
    return f.b.convert("sext" if atom.value.type.kind == "i" else "zext", v, t.with_lanes(v.ty.lanes))


def scalar(f: Frame, e: Index | Atom) -> Val:
    """`e` as an i64, at the start of the vector if it varies; written as far out as its variables allow."""
    if isinstance(e, Var):
        return f.vars[e]
    if isinstance(e, Datum):
        return _datum(f, e, I64)
    depth = depth_of(f, e)
    cache = {} if depth is None else f.scopes[depth].cache
    found = cache.get(e)
    if found is None:
        if isinstance(e, Index):
            parts = [(scalar(f, atom), coef) for atom, coef in e.terms.items()]
            with f.at(depth):
                found = _scaled_sum(f, parts, e.const, I64)
        else:
            inner = scalar(f, e.index)
            with f.at(depth):
                found = _atom(f, e, inner)
        cache[e] = found
    return found


def _small(e: Index) -> bool:
    """Whether `e` and everything inside it surely fits 32 bits (lanes past the end included)."""
    lo, hi = e.bounds
    if lo < -_LIMIT or hi > _LIMIT:
        return False
    for atom, coef in e.terms.items():
        if abs(coef) * 64 > _LIMIT or max(map(abs, atom.bounds)) * abs(coef) > _LIMIT:
            return False
        if isinstance(atom, (Div, Mod, Masked)) and not _small(atom.index):
            return False
    return True


def vector(f: Frame, e: Index, t: Ty | None = None) -> Val:
    """`e` lane by lane, as a vector of i32 where that is surely wide enough, else of i64."""
    if t is None:
        t = ty("i", 32 if _small(e) else 64, f.lanes)
    depth = depth_of(f, e)
    cache = {} if depth is None else f.scopes[depth].cache
    key = ("vector", e, t)
    found = cache.get(key)
    if found is not None:
        return found
    uniform = Index({a: c for a, c in e.terms.items() if not varies(f, a)}, e.const)
    start = scalar(f, uniform)
    parts = [(_vector_atom(f, atom, t), coef) for atom, coef in e.terms.items() if varies(f, atom)]
    with f.at(depth):
        if uniform.terms or uniform.const or not parts:
            parts.append((f.b.splat(_narrow(f, start, t), f.lanes), 1))
        found = cache[key] = _scaled_sum(f, parts, 0, t)
    return found


def _narrow(f: Frame, v: Val, t: Ty) -> Val:
    if v.ty.bits == t.bits:
        return v
    if v.ref.lstrip("-").isdigit():
        return const(t.scalar(), int(v.ref))
    return f.b.convert("trunc", v, t.scalar())


def _vector_atom(f: Frame, atom: Atom, t: Ty) -> Val:
    if isinstance(atom, Datum):
        return f.wide(_datum(f, atom, t))
    depth = depth_of(f, atom)
    cache = {} if depth is None else f.scopes[depth].cache
    key = ("atom", atom, t)
    found = cache.get(key)
    if found is None:
        if isinstance(atom, Var):
            with f.at(depth):
                start = f.b.splat(_narrow(f, f.vars[atom], t), f.lanes)
                found = f.b.binary("add", start, lane_numbers(t))
        else:
            inner = vector(f, atom.index, t)
            with f.at(depth):
                found = _atom(f, atom, inner)
        cache[key] = found
    return found


def pointer(f: Frame, buffer: Buffer, e: Index, element: Ty) -> Val:
    """The address of ``buffer[e]`` (its first lane): the buffer plus the terms of each scope in turn."""
    b = f.b
    levels: dict[int, dict[Atom, int]] = {}
    data: dict[Atom, int] = {}
    for atom, coef in e.terms.items():
        depth = depth_of(f, atom)
        (data if depth is None else levels.setdefault(depth, {}))[atom] = coef
    base = f.buffers[buffer]
    seen: tuple[tuple[Atom, int], ...] = ()
    for depth in sorted(levels):
        seen += tuple(levels[depth].items())
        cache = f.scopes[depth].cache
        key = (buffer, seen)
        found = cache.get(key)
        if found is None:
            parts = [(scalar(f, atom), coef) for atom, coef in levels[depth].items()]
            with f.at(depth):
                found = cache[key] = b.offset(element, base, *_linear(f, parts, 0, I64))
        base = found
    if data:
        base = b.gep(element, base, scalar(f, Index(data, 0)))
    return b.offset(element, base, None, e.const)
