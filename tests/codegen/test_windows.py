"""Contractions over windows: the bits of the plain definition, for every layout, padding, stride and dilation."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_tools import TARGET, buffer, compiled, execute, kernel, same_bits, sample
from test_emit_contract import chained, product

from codegen import jit
from codegen.analysis import statements
from codegen.contract import described, method
from codegen.index import Var, flatten, floordiv, masked, of
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


def weights_gradient(
    batch: int, channels: int, filters: int, size: tuple[int, int], taps: int, stride: int, swapped: bool = True
) -> tuple[Kernel, tuple[np.ndarray, ...], np.ndarray]:
    """The gradient of a padded convolution's weights, with its arrays and what it yields."""
    pad = taps // 2
    out = [(n + 2 * pad - taps) // stride + 1 for n in size]
    b, f, c = Var(batch, "b"), Var(filters, "f"), Var(channels, "c")
    y, x, dy, dx = Var(out[0], "y"), Var(out[1], "x"), Var(taps, "dy"), Var(taps, "dx")
    gradient = buffer(F32, batch * filters * out[0] * out[1])
    image = buffer(F32, batch * channels * size[0] * size[1])
    result = buffer(F32, filters * channels * taps * taps, "out")
    p = Load(F32, gradient, flatten(map(of, (b, f, y, x)), (batch, filters, *out)))
    places = [of(v) * stride + of(d) + -pad for v, d in ((y, dy), (x, dx))]
    masks = [InRange(B1, e, 0, n) for e, n in zip(places, size, strict=True)]
    inside = Apply("and", B1, tuple(masks))
    known = [masked(e, n) for e, n in zip(places, size, strict=True)]
    q = Load(F32, image, flatten((of(b), of(c), *known), (batch, channels, *size)), inside)
    acc = Acc(F32)
    store = Store(result, flatten(map(of, (f, c, dy, dx)), (filters, channels, taps, taps)), acc)
    taken = [*masks, inside, q]
    if swapped:
        body = Contract((f,), (c, dy, dx), (b, y, x), [p], p, taken, q, acc, [store])
    else:
        body = Contract((c, dy, dx), (f,), (b, y, x), taken, q, [p], p, acc, [store])
    g, images = sample(F32, (batch, filters, *out)), sample(F32, (batch, channels, *size), 1)
    padded = np.pad(images, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    views = np.lib.stride_tricks.sliding_window_view(padded, (taps, taps), axis=(2, 3))[:, :, ::stride, ::stride]
    columns = views.transpose(0, 2, 3, 1, 4, 5).reshape(batch * out[0] * out[1], -1)
    expected = chained(g.transpose(1, 0, 2, 3).reshape(filters, -1), columns).reshape(filters, channels, taps, taps)
    return kernel([body], gradient, image, result), (g, images), expected


@pytest.mark.parametrize(
    "form",
    [(5, 3, 20, (21, 30), 3, 1), (3, 2, 33, (40, 41), 5, 1), (9, 2, 16, (33, 30), 3, 2), (2, 1, 70, (40, 40), 7, 1)],
    ids=str,
)
@pytest.mark.parametrize("swapped", [True, False])
def test_gradients_of_weights_have_the_defined_bits(form: tuple, swapped: bool) -> None:
    k, arrays, expected = weights_gradient(*form, swapped)
    found = [s for s in statements(prepare(k).body) if isinstance(s, Contract)]
    assert "taps" in method(found[0], jit.target("native")).text or jit.target("native").vector_bytes < 64
    got = np.zeros_like(expected)
    execute(k, *arrays, got, splits=(1,))
    assert same_bits(got, expected)


def strided_gradient(
    batch: int, channels: int, filters: int, out: tuple[int, int], taps: int, stride: int, less: int, last: bool
) -> tuple[Kernel, tuple[np.ndarray, ...], np.ndarray]:
    """The gradient of a strided convolution's image, with its arrays and what it yields; `out`: of the convolution;
    `less`: how many pixels are missing for whole strides."""
    pad = taps // 2
    size = tuple(n * stride - less for n in out)
    b, f, c = Var(batch, "b"), Var(filters, "f"), Var(channels, "c")
    y, x, dy, dx = Var(size[0], "y"), Var(size[1], "x"), Var(taps, "dy"), Var(taps, "dx")
    gradient = buffer(F32, batch * filters * out[0] * out[1])
    weights = buffer(F32, filters * channels * taps * taps)
    result = buffer(F32, batch * channels * size[0] * size[1], "out")
    sums = [of(v) + of(d) * -1 + pad for v, d in ((y, dy), (x, dx))]
    masks = [InRange(B1, e, 0, (n - 1) * stride + 1, stride) for e, n in zip(sums, out, strict=True)]
    inside = Apply("and", B1, tuple(masks))
    places = [masked(floordiv(e, stride), n) for e, n in zip(sums, out, strict=True)]
    p = Load(F32, gradient, flatten((of(b), of(f), *places), (batch, filters, *out)), inside)
    q = Load(F32, weights, flatten(map(of, (f, c, dy, dx)), (filters, channels, taps, taps)))
    acc = Acc(F32)
    order = ((b, y, x, c), (batch, *size, channels)) if last else ((b, c, y, x), (batch, channels, *size))
    store = Store(result, flatten(map(of, order[0]), order[1]), acc)
    body = Contract((b, y, x), (c,), (f, dy, dx), [*masks, inside, p], p, [q], q, acc, [store])
    g, w = sample(F32, (batch, filters, *out)), sample(F32, (filters, channels, taps, taps), 1)
    rows = np.zeros((batch, *size, filters, taps, taps), np.float32)
    for i in range(taps):
        for j in range(taps):
            for u in range(out[0]):
                for v in range(out[1]):
                    at = u * stride + i - pad, v * stride + j - pad
                    if 0 <= at[0] < size[0] and 0 <= at[1] < size[1]:
                        rows[:, at[0], at[1], :, i, j] = g[:, :, u, v]
    columns = w.transpose(0, 2, 3, 1).reshape(-1, channels)
    expected = chained(rows.reshape(-1, filters * taps * taps), columns).reshape(batch, *size, channels)
    expected = expected if last else np.ascontiguousarray(np.moveaxis(expected, -1, 1))
    return kernel([body], gradient, weights, result), (g, w), expected


@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
@pytest.mark.parametrize(
    "form",
    [
        (2, 20, 5, (5, 9), 3, 2, 0),
        (1, 33, 40, (4, 8), 3, 2, 0),
        (2, 3, 40, (6, 20), 7, 2, 0),
        (1, 16, 4, (5, 6), 3, 3, 0),
        (2, 20, 5, (5, 9), 3, 2, 1),
        (1, 33, 40, (4, 8), 3, 2, 1),
        (2, 3, 40, (6, 20), 7, 2, 1),
        (1, 16, 4, (5, 6), 3, 3, 1),
        (1, 16, 4, (5, 36), 5, 3, 2),
        (3, 3, 7, (40, 36), 11, 4, 1),
    ],
    ids=str,
)
def test_gradients_of_strided_convolutions_go_by_phases(form: tuple, last: bool) -> None:
    k, arrays, expected = strided_gradient(*form, last)
    found = of_windows(k)
    assert found is not None and [axis.phases for axis in found.axes] == [form[5]] * 2
    got = np.zeros_like(expected)
    execute(k, *arrays, got, splits=(1,))
    assert same_bits(got, expected)


@pytest.mark.parametrize("filters", [1, 3, 6])
@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
def test_few_filters_have_rows_as_vectors(filters: int, last: bool) -> None:
    form = Form((2, 11, 39), 5, filters, 3, last=last)
    assert jit.target("native").vector_bytes < 64 or "across" in described(form.kernel(), jit.target("native"))[0]
    run(form, False, splits=(1,))
    run(form, True)


def test_pixels_of_several_images_are_evaluated_image_by_image() -> None:
    """A convolution with one tap: rows are no line in memory."""
    form = Form((3, 5, 7), 40, 20, 1, 0)
    assert "windows" in described(form.kernel(), jit.target("native"))[0]
    run(form, False, splits=(1,))
    run(form, True, splits=(2,))


def test_few_images_are_shared_by_threads() -> None:
    assert compiled(Form((1, 40, 30), 5, 20, 3).kernel()).functions[0].outer >= 8
    for form in (Form((3, 28, 28), 5, 20, 3), Form((3, 300), 5, 20, 3), Form((3, 2, 300), 5, 20, 3)):
        shares = compiled(form.kernel()).functions[0].outer
        strips = "strips" in described(form.kernel(), jit.target(TARGET))[0]  # else panels, as wide as vectors allow
        assert shares % 4 == 0 if strips else shares >= 4
        run(form, False, splits=(1, 5))
    small = Form((1, 5, 5), 20, 200, 3)
    assert compiled(small.kernel()).functions[0].outer > 1
    run(small, False, splits=(1, 2))
