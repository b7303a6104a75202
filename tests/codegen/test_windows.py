"""Contractions over windows: the bits of the plain definition, for every layout, padding, stride and dilation."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_tools import buffer, compiled, execute, kernel, same_bits, sample
from test_emit_contract import chained, product

from codegen import jit
from codegen.analysis import statements
from codegen.index import Var, flatten, masked, of
from codegen.loops import Acc, Apply, Contract, InRange, Kernel, Load, Store
from codegen.scalar import B1, F32
from codegen.split import prepare
from codegen.windows import windows


class Form:
    """A convolution: sizes, padding, stride, dilation; images and results channels first or last."""

    def __init__(
        self,
        shape: tuple[int, ...],
        channels: int,
        filters: int,
        taps: int,
        pad: int = 1,
        stride: int = 1,
        dilation: int = 1,
        last: bool = False,
        flipped: bool = False,
    ) -> None:
        self.batch, *self.sizes = shape
        self.channels, self.filters, self.taps, self.pad = channels, filters, taps, pad
        self.stride, self.dilation, self.last, self.flipped = stride, dilation, last, flipped
        reach = dilation * (taps - 1)
        self.out = [(size + 2 * pad - reach - 1) // stride + 1 for size in self.sizes]

    def arranged(self, x: np.ndarray) -> np.ndarray:
        """Channels first as the kernel stores it."""
        return np.ascontiguousarray(np.moveaxis(x, 1, -1)) if self.last else x

    def kernel(self, swapped: bool = False) -> Kernel:
        rank = len(self.sizes)
        b, f, c = Var(self.batch, "b"), Var(self.filters, "f"), Var(self.channels, "c")
        rows = [Var(n, f"y{i}") for i, n in enumerate(self.out)]
        taps = [Var(self.taps, f"t{i}") for i in range(rank)]
        sign = -1 if self.flipped else 1
        shift = self.dilation * (self.taps - 1) if self.flipped else 0
        places = [
            of(y) * self.stride + of(t) * (sign * self.dilation) + (shift - self.pad)
            for y, t in zip(rows, taps, strict=True)
        ]
        body: list = []
        inside: InRange | Apply | None = None
        for place, size in zip(places, self.sizes, strict=True):
            mask = InRange(B1, place, 0, size)
            body.append(mask)
            if inside is None:
                inside = mask
            else:
                inside = Apply("and", B1, (inside, mask))
                body.append(inside)
        known = [masked(p, n) for p, n in zip(places, self.sizes, strict=True)] if self.pad else places

        def at(outer: Var, channel: Var, inner: list, sizes: list[int]):
            if self.last:
                return flatten((of(outer), *inner, of(channel)), (self.batch, *sizes, channel.extent))
            return flatten((of(outer), of(channel), *inner), (self.batch, channel.extent, *sizes))

        size = self.batch * self.channels * int(np.prod(self.sizes))
        image = buffer(F32, size)
        weights = buffer(F32, self.filters * self.channels * self.taps**rank)
        result = buffer(F32, self.batch * self.filters * int(np.prod(self.out)), "out")
        p = Load(F32, image, at(b, c, known, self.sizes), inside if self.pad else None)
        order = (of(f), of(c), *map(of, taps))
        q = Load(F32, weights, flatten(order, (self.filters, self.channels, *[self.taps] * rank)))
        acc = Acc(F32)
        twice = Apply("add", F32, (acc, acc))
        store = Store(result, at(b, f, list(map(of, rows)), self.out), twice)
        a_body = [*body, p] if self.pad else [p]
        k = (c, *taps)
        if swapped:
            contraction = Contract((f,), (b, *rows), k, [q], q, a_body, p, acc, [twice, store])
        else:
            contraction = Contract((b, *rows), (f,), k, a_body, p, [q], q, acc, [twice, store])
        return kernel([contraction], image, weights, result)

    def expected(self, image: np.ndarray, weights: np.ndarray) -> np.ndarray:
        rank = len(self.sizes)
        padded = np.pad(image, ((0, 0), (0, 0), *[(self.pad, self.pad)] * rank))
        reach = self.dilation * (self.taps - 1) + 1
        axes = tuple(range(2, 2 + rank))
        views = np.lib.stride_tricks.sliding_window_view(padded, (reach,) * rank, axis=axes)
        views = views[(slice(None), slice(None), *[slice(None, None, self.stride)] * rank)]
        views = views[(..., *[slice(None, None, self.dilation)] * rank)]
        if self.flipped:
            views = views[(..., *[slice(None, None, -1)] * rank)]
        views = np.moveaxis(views, 1, 1 + rank)
        flat = views.reshape(self.batch * int(np.prod(self.out)), -1)
        out = chained(flat, np.ascontiguousarray(weights.reshape(self.filters, -1).T))
        out = np.moveaxis(out.reshape(self.batch, *self.out, self.filters), -1, 1)
        return out + out


FORMS = {
    "padded": Form((2, 9, 20), 5, 20, 3),
    "unpadded": Form((2, 9, 20), 5, 20, 3, 0),
    "several blocks of k": Form((1, 6, 30), 33, 70, 3),
    "strided": Form((2, 13, 31), 4, 33, 3, 1, 2),
    "dilated": Form((1, 12, 40), 3, 16, 3, 2, 1, 2),
    "wide taps, strided": Form((1, 20, 34), 3, 64, 7, 3, 2),
    "flipped": Form((2, 9, 20), 5, 20, 3, 1, 1, 1, False, True),
    "channels last": Form((2, 9, 20), 6, 37, 3, 1, 1, 1, True),
    "channels last, several blocks": Form((1, 5, 19), 40, 33, 3, 1, 1, 1, True),
    "one axis": Form((3, 200), 7, 30, 5, 2),
    "three axes": Form((2, 4, 5, 17), 3, 18, 3),
    "shorter than a tile": Form((2, 4, 3), 5, 20, 3),
    "many strips": Form((2, 60, 50), 40, 16, 3),
}


def run(form: Form, swapped: bool, splits: tuple[int, ...] = (), target: str | None = None) -> None:
    image = sample(F32, (form.batch, form.channels, *form.sizes))
    weights = sample(F32, (form.filters, form.channels, *[form.taps] * len(form.sizes)), 1)
    out = np.zeros((form.batch, form.filters, *form.out), np.float32)
    got = form.arranged(out)
    execute(form.kernel(swapped), form.arranged(image), weights, got, splits=splits, target=target)
    assert same_bits(got, form.arranged(form.expected(image, weights)))


def of_windows(k: Kernel):
    found = [s for s in statements(prepare(k).body) if isinstance(s, Contract)]
    return windows(found[0])


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("swapped", [False, True], ids=["rows", "columns"])
def test_convolutions_have_the_defined_bits(name: str, swapped: bool) -> None:
    assert of_windows(FORMS[name].kernel(swapped)) is not None
    run(FORMS[name], swapped)


@pytest.mark.parametrize("name", ["padded", "many strips", "one axis"])
def test_units_can_be_split(name: str) -> None:
    assert compiled(FORMS[name].kernel()).functions[0].outer > 1
    run(FORMS[name], False, (1, 3))


@pytest.mark.parametrize("target", ["x86-64-v2", "x86-64-v3", "x86-64-v4"])
@pytest.mark.parametrize("name", ["padded", "strided", "channels last"])
def test_every_level_has_the_same_bits(target: str, name: str) -> None:
    host = jit.target("native").vector_bytes
    if host < {"2": 16, "3": 32, "4": 64}[target[-1]]:
        pytest.skip("the host cannot run it")
    run(FORMS[name], False, target=target)


def test_matrices_have_no_windows() -> None:
    for forms in ("nnn", "tnn", "ntn", "ttt"):
        assert of_windows(product(F32, 500, 40, 30, forms)) is None
    assert of_windows(product(F32, 64, 64, 64)) is None


def test_patches_without_overlap_have_no_windows() -> None:
    assert of_windows(Form((2, 32, 32), 3, 32, 4, 0, 4).kernel()) is None


def test_the_hot_loop_only_multiplies() -> None:
    """No compare, division or masked access in the chain over k, and no scatter or gather anywhere."""
    text = compiled(FORMS["padded"].kernel(), "native").llvm
    chain = text[text.index("\nchain") :]
    chain = chain[: chain.index("br i1")]
    assert "div" not in chain and "masked" not in chain and "rem" not in chain and chain.count("icmp") == 1
    assert "scatter" not in text and "gather" not in text
