"""Index expressions: affine sums over loop variables with floor-div, mod and data atoms, and their bounds.

An `Index` is immutable and compares by value, so it can key memo tables. `c0 + Σ coef * atom`, where an atom is
a loop variable, a floor division or modulus of another index by a positive constant, an index known (by a mask
that guards every use) to lie in ``[0, n)``, or an integer read from memory. Division and modulus are simplified
with interval bounds when they are built; nothing else rewrites them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import gcd
from typing import Any, Union


class Var:
    """A loop variable that runs over ``range(extent)``. Identity is meaning; the name is for people."""

    __slots__ = ("extent", "name")

    def __init__(self, extent: int, name: str = "i") -> None:
        self.extent = extent
        self.name = name

    @property
    def bounds(self) -> tuple[int, int]:
        return 0, self.extent - 1

    def __repr__(self) -> str:
        return self.name


class _Derived:
    """Common parts of the atoms that hold another index."""

    __slots__ = ("bounds", "hash", "index", "n")
    index: "Index"
    n: int

    def __init__(self, index: "Index", n: int, bounds: tuple[int, int]) -> None:
        self.index = index
        self.n = n
        self.bounds = bounds
        self.hash = hash((type(self).__name__, index, n))

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        return self is other or (type(self) is type(other) and self.n == other.n and self.index == other.index)


class Div(_Derived):
    """``index // n`` (floor), n > 1."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"({self.index})//{self.n}"


class Mod(_Derived):
    """``index % n`` in ``[0, n)``, n > 1."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"({self.index})%{self.n}"


class Masked(_Derived):
    """``index`` wherever the guarding mask holds, which puts it in ``[0, n)``."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"({self.index})"


class Datum:
    """An integer read at run time (`value` is a loop-IR value), checked to lie in ``[0, n)``."""

    __slots__ = ("bounds", "n", "value")

    def __init__(self, value: Any, n: int) -> None:
        self.value = value
        self.n = n
        self.bounds = (0, max(n - 1, 0))

    def __hash__(self) -> int:
        return hash((id(self.value), self.n))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Datum) and other.value is self.value and other.n == self.n

    def __repr__(self) -> str:
        return f"[{self.value}]"


Atom = Union[Var, Div, Mod, Masked, Datum]


class Index:
    """``const + Σ coef * atom``; terms keep the order in which they were first added."""

    __slots__ = ("_hash", "bounds", "const", "terms")

    def __init__(self, terms: dict[Atom, int], const: int = 0) -> None:
        self.terms = terms
        self.const = const
        self._hash: int | None = None  # most are a step on the way to another
        lo = hi = const
        for atom, coef in terms.items():
            a, b = atom.bounds
            if coef > 0:
                lo += coef * a
                hi += coef * b
            else:
                lo += coef * b
                hi += coef * a
        self.bounds = (lo, hi)

    def __hash__(self) -> int:
        found = self._hash
        if found is None:
            found = self._hash = hash((frozenset(self.terms.items()), self.const))
        return found

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, Index) and self.const == other.const and self.terms == other.terms
        )

    def __add__(self, other: "Index | int") -> "Index":
        if isinstance(other, int):
            return Index(self.terms, self.const + other) if other else self
        terms = dict(self.terms)
        for atom, coef in other.terms.items():
            total = terms.get(atom, 0) + coef
            if total:
                terms[atom] = total
            else:
                terms.pop(atom)
        return Index(terms, self.const + other.const)

    def __mul__(self, factor: int) -> "Index":
        if factor == 1:
            return self
        if factor == 0:
            return ZERO
        return Index({a: c * factor for a, c in self.terms.items()}, self.const * factor)

    def coefficient(self, var: Var) -> int:
        """The factor of `var` among the plain terms (0 if absent there; see `uses` for hidden ones)."""
        return self.terms.get(var, 0)

    def variables(self) -> set[Var]:
        """Every loop variable anywhere inside, data atoms excluded."""
        found: set[Var] = set()
        stack: list[Index] = [self]
        while stack:
            for atom in stack.pop().terms:
                if isinstance(atom, Var):
                    found.add(atom)
                elif isinstance(atom, _Derived):
                    stack.append(atom.index)
        return found

    def data(self) -> list[Datum]:
        """Every data atom anywhere inside."""
        found: list[Datum] = []
        stack: list[Index] = [self]
        while stack:
            for atom in stack.pop().terms:
                if isinstance(atom, Datum):
                    found.append(atom)
                elif isinstance(atom, _Derived):
                    stack.append(atom.index)
        return found

    def __repr__(self) -> str:
        parts = [repr(a) if c == 1 else f"{a!r}*{c}" for a, c in self.terms.items()]
        if self.const or not parts:
            parts.append(str(self.const))
        return " + ".join(parts)


ZERO = Index({}, 0)


def constant(value: int) -> Index:
    """The index that is always `value`."""
    return Index({}, value) if value else ZERO


def of(atom: Atom) -> Index:
    """One atom as an index; a variable or datum that can only be 0 becomes 0."""
    return ZERO if atom.bounds == (0, 0) else Index({atom: 1}, 0)


def flatten(indices: Iterable[Index], shape: Iterable[int]) -> Index:
    """The row-major position of `indices` in an array of `shape`."""
    out = ZERO
    for index, size in zip(indices, shape, strict=True):
        out = out * size + index
    return out


def unflatten(position: Index, shape: tuple[int, ...]) -> tuple[Index, ...]:
    """The row-major coordinates of `position` in an array of `shape` (the inverse of `flatten`)."""
    out = []
    for size in reversed(shape):
        out.append(mod(position, size))
        position = floordiv(position, size)
    return tuple(reversed(out))


def floordiv(e: Index, n: int) -> Index:
    """``e // n``: terms that n divides leave the division; a remainder within one period vanishes."""
    if n == 1:
        return e
    lo, hi = e.bounds
    if lo // n == hi // n:
        return constant(lo // n)
    quotient = Index({a: c // n for a, c in e.terms.items() if c % n == 0}, e.const // n)
    rest = Index({a: c for a, c in e.terms.items() if c % n}, e.const % n)
    lo, hi = rest.bounds
    if lo // n == hi // n:
        return quotient + lo // n
    if len(rest.terms) == 1 and not rest.const:
        ((atom, coef),) = rest.terms.items()
        if isinstance(atom, Div) and coef == 1:
            return quotient + floordiv(atom.index, atom.n * n)
    if rest.terms == e.terms and rest.const == e.const:
        common = gcd(n, *e.terms.values())
        if common > 1:  # floor((g·x + k) / (g·m)) = floor((x + floor(k / g)) / m)
            return floordiv(Index({a: c // common for a, c in e.terms.items()}, e.const // common), n // common)
        return Index({Div(e, n, (lo // n, hi // n)): 1}, 0)
    return quotient + floordiv(rest, n)


def mod(e: Index, n: int) -> Index:
    """``e % n``: multiples of n vanish; what lies within one period is shifted to it."""
    if n == 1:
        return ZERO
    lo, hi = e.bounds
    if lo // n == hi // n:
        return e + -(lo // n) * n
    # A coefficient may be taken modulo n from either side; the smaller magnitude often needs no modulus at all.
    for shift in (0, n // 2):
        rest = Index({a: (c + shift) % n - shift for a, c in e.terms.items() if c % n}, e.const % n)
        lo, hi = rest.bounds
        if lo // n == hi // n:
            return rest + -(lo // n) * n
    rest = Index({a: c % n for a, c in e.terms.items() if c % n}, e.const % n)
    common = gcd(n, rest.const, *rest.terms.values())
    if common > 1:
        small = Index({a: c // common for a, c in rest.terms.items()}, rest.const // common)
        return mod(small, n // common) * common
    return Index({Mod(rest, n, (0, n - 1)): 1}, 0)


def recombined(e: Index) -> Index:
    """``(x // n)·n·c + (x % n)·c -> x·c``, wherever it holds."""
    again = True
    while again:
        again = False
        for atom, coef in e.terms.items():
            if isinstance(atom, Mod):
                whole = Div(atom.index, atom.n, (0, 0))
                if e.terms.get(whole) == coef * atom.n:
                    terms = {t: c for t, c in e.terms.items() if t != whole and t is not atom}
                    e = Index(terms, e.const) + atom.index * coef
                    again = True
                    break
    return e


def substitute(e: Index, replace: Callable[[Atom], "Index | None"]) -> Index:
    """`e` with atoms replaced (outermost first; None keeps an atom and looks inside it)."""
    terms: dict[Atom, int] = {}
    const, changed = e.const, False
    for atom, coef in e.terms.items():
        new = replace(atom)
        if new is None and isinstance(atom, _Derived):
            new = _REBUILT[type(atom)](substitute(atom.index, replace), atom.n)
        for a, c in ((atom, 1),) if new is None else new.terms.items():
            terms[a] = terms.get(a, 0) + c * coef
        if new is not None:
            const, changed = const + new.const * coef, True
    return Index({a: c for a, c in terms.items() if c}, const) if changed else e


def masked(e: Index, n: int) -> Index:
    """`e` as an index in ``[0, n)``, to be used only under a mask that makes it so; plain `e` if bounds prove it."""
    lo, hi = e.bounds
    if lo >= 0 and hi < n:
        return e
    return Index({Masked(e, n, (0, max(n - 1, 0))): 1}, 0) if n > 1 else ZERO


def unmask(e: Index) -> Index:
    """`e` with the guards opened, affine again where it was: the form that addresses memory under the mask."""
    return substitute(e, lambda atom: unmask(atom.index) if isinstance(atom, Masked) else None)


_REBUILT: dict[type[_Derived], Callable[[Index, int], Index]] = {Div: floordiv, Mod: mod, Masked: masked}
