"""Random numbers: the published test vectors, distributions, streams, NumPy's arguments and errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

import tinyad as ad
from tinyad import random
from tinyad.errors import DTypeError
from tinyad.tensor import Tensor

N = 200_000
LEAST = 1e-4  # p-values below this fail; seeds are fixed


def words(*values: int) -> list[Any]:
    return [Tensor(np.array([v], np.uint32)).node for v in values]


@pytest.mark.parametrize(
    "key, counter, expected",
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_threefry_test_vectors(key: Any, counter: Any, expected: Any) -> None:
    """The known answers of Random123 1.14, file kat_vectors: threefry2x32, 20 rounds."""
    got = random.threefry2x32(words(*key), words(*counter))
    assert tuple(Tensor._of(n).item() for n in got) == expected


def reference_block(key: int, counter: int) -> tuple[int, int]:
    """Threefry-2x32-20 in Python integers, written from the paper."""
    mask = 0xFFFFFFFF
    k = [key & mask, key >> 32]
    k.append(k[0] ^ k[1] ^ 0x1BD11BDA)
    x0, x1 = (counter & mask) + k[0] & mask, (counter >> 32) + k[1] & mask
    for i in range(20):
        r = (13, 15, 26, 6, 17, 29, 16, 24)[i % 8]
        x0 = x0 + x1 & mask
        x1 = (x1 << r | x1 >> 32 - r) & mask ^ x0
        if i % 4 == 3:
            j = i // 4 + 1
            x0, x1 = x0 + k[j % 3] & mask, x1 + k[(j + 1) % 3] + j & mask
    return x0, x1


def test_element_i_reads_block_counter_plus_i_also_across_words() -> None:
    g = random.default_rng(1)
    g.counter = 2**32 - 3
    whole = (g.random(6).numpy() * 2**24).astype(np.int64)
    assert whole.tolist() == [reference_block(g.key, 2**32 - 3 + i)[0] >> 8 for i in range(6)]
    assert g.counter == 2**32 + 3
    g.counter = 2**64 - 1
    first = (g.random(2).numpy() * 2**24).astype(np.int64)
    assert first.tolist() == [reference_block(g.key, 2**64 - 1)[0] >> 8, reference_block(g.key, 0)[0] >> 8]
    assert g.counter == 1


def test_float64_uniform_has_53_bits_and_float16_has_11() -> None:
    g = random.default_rng(2)
    x = g.random(N, dtype=np.float64).numpy() * 2.0**53
    assert (x == np.floor(x)).all() and (x.astype(np.int64) & 1).mean() == pytest.approx(0.5, abs=0.01)
    y = g.random(N).numpy() * 2.0**24
    assert (y == np.floor(y)).all() and (y.astype(np.int64) & 1).mean() == pytest.approx(0.5, abs=0.01)
    z = g.random(N, dtype=np.float16).numpy().astype(np.float64)
    assert len(np.unique(z)) == 2**11 and z.max() < 1


CONTINUOUS: list[tuple[str, Any, Any]] = [
    ("random", lambda g, d: g.random(N, dtype=d), stats.uniform()),
    ("uniform", lambda g, d: g.uniform(-2.0, 5.0, N, dtype=d), stats.uniform(-2, 7)),
    ("standard_normal", lambda g, d: g.standard_normal(N, dtype=d), stats.norm()),
    ("normal", lambda g, d: g.normal(3.0, 0.5, N, dtype=d), stats.norm(3, 0.5)),
    ("exponential", lambda g, d: g.exponential(2.0, N, dtype=d), stats.expon(scale=2)),
    ("gamma", lambda g, d: g.gamma(2.5, 3.0, N, dtype=d), stats.gamma(2.5, scale=3)),
    ("gamma below 1", lambda g, d: g.gamma(0.3, 1.0, N, dtype=d), stats.gamma(0.3)),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name, draw, law", CONTINUOUS, ids=[c[0] for c in CONTINUOUS])
def test_distributions(name: str, draw: Any, law: Any, dtype: Any) -> None:
    x = draw(random.default_rng(7), dtype).numpy()
    assert x.dtype == dtype and np.isfinite(x).all()
    x = x.astype(np.float64)
    assert stats.kstest(x, law.cdf).pvalue > LEAST
    mean, var, _, kurtosis = (float(m) for m in law.stats("mvsk"))
    error = np.sqrt(var / N)
    assert abs(x.mean() - mean) < 4 * error
    assert x.var() == pytest.approx(var, rel=5 * np.sqrt((kurtosis + 2) / N))
    if name in ("standard_normal", "normal"):
        assert abs(stats.skew(x)) < 5 * np.sqrt(6 / N) and abs(stats.kurtosis(x)) < 5 * np.sqrt(24 / N)
    assert abs(np.corrcoef(x[1:], x[:-1])[0, 1]) < 5 / np.sqrt(N)


def test_tails_of_the_normal_distribution() -> None:
    n = 4_000_000
    x = random.default_rng(3).standard_normal(n).numpy()
    for t in (2.0, 3.0, 4.0, 4.5):
        expected = n * stats.norm.sf(t)
        for count in ((x > t).sum(), (x < -t).sum()):
            assert abs(count - expected) < 5 * np.sqrt(expected)
    near = np.abs(x) < 1e-3
    assert abs(near.sum() - n * 2e-3 * stats.norm.pdf(0)) < 5 * np.sqrt(n * 8e-4)
    assert len(np.unique(x[near])) == near.sum() or len(np.unique(x[near])) > 0.999 * near.sum()


def test_extreme_words_give_finite_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """0 and 2³²-1 in each word: the ends of both uniforms."""
    ends = [0, 2**32 - 1, 2**31, 2**31 - 1]
    a, b = (x.ravel() for x in np.meshgrid(np.array(ends, np.uint32), np.array(ends, np.uint32)))

    def chosen(self: Any, shape: Any, times: int = 1) -> Any:
        return [(Tensor(np.roll(a, -3 * t)).node, Tensor(np.roll(b, -3 * t)).node) for t in range(times)]

    monkeypatch.setattr(random.Generator, "_words", chosen)
    g = random.default_rng(0)
    for dtype, most in ((np.float32, 6.77), (np.float64, 9.6)):
        x = g.standard_normal(16, dtype=dtype).numpy()
        assert np.isfinite(x).all() and np.abs(x).max() < most and np.abs(x).max() > most - 0.5
        u = g.random(16, dtype=dtype).numpy()
        assert u.min() == 0 and u.max() == 1 - (2.0**-24 if dtype is np.float32 else 2.0**-53)
        e = g.exponential(1.0, 16, dtype=dtype).numpy()
        assert (e > 0).all() and np.isfinite(e).all()
        assert e.min() == pytest.approx(2.0**-33 if dtype is np.float32 else 2.0**-65, rel=1e-6)


@pytest.mark.parametrize("low, high", [(0, 10), (-5, 4), (0, 3 << 60), (-(2**63), 2**63), (7, 7 + 2**32)])
def test_integers(low: int, high: int) -> None:
    x = random.default_rng(4).integers(low, high, 50_000).numpy()
    assert x.dtype == np.int64
    shifted = (x.astype(object) - low).astype(object)
    assert min(shifted) >= 0 and max(shifted) < high - low
    bins = next(b for b in (5, 3) if (high - low) % b == 0 or high - low >= 2**32)
    cell = np.array([int(v * bins // (high - low)) for v in shifted])
    assert stats.chisquare(np.bincount(cell, minlength=bins)).pvalue > LEAST


def test_products_of_long_words_are_exact() -> None:
    rng = np.random.default_rng(5)
    x, y, r = (rng.integers(0, 2**64, 500, dtype=np.uint64, endpoint=False) for _ in range(3))
    nodes = [Tensor(v).node for v in (x, y, r)]
    got = Tensor._of(random._scaled_long(*nodes)).tolist()
    assert got == [((int(a) << 64 | int(b)) * int(c)) >> 128 for a, b, c in zip(x, y, r, strict=True)]
    high, low = (x >> 32).astype(np.uint32), x.astype(np.uint32)
    small = (r >> 32) + 1
    got = Tensor._of(random._scaled_word(Tensor(high).node, Tensor(low).node, Tensor(small).node)).tolist()
    assert got == [(int(a) * int(c)) >> 64 for a, c in zip(x, small, strict=True)]


def test_integers_take_arrays_endpoints_and_dtypes() -> None:
    g = random.default_rng(6)
    x = g.integers([0, 10], [[10], [11]], endpoint=True)
    assert x.shape == (2, 2) and x.numpy()[0, 1] == 10 and g.integers(3, 3, endpoint=True).item() == 3
    assert set(np.unique(g.integers(3, size=1000, endpoint=True).numpy())) == {0, 1, 2, 3}
    assert g.integers(0, 256, 100, dtype=np.uint8).dtype == np.uint8
    assert g.integers(0, 2**64, 10, dtype=np.uint64).numpy().max() > 2**62
    assert g.integers(0, 2, 10, dtype=bool).dtype == np.bool_
    assert g.integers(5).shape == ()
    with pytest.raises(ValueError, match="low >= high"):
        g.integers(5, 5)
    with pytest.raises(ValueError, match="out of bounds for uint8"):
        g.integers(0, 257, dtype=np.uint8)
    with pytest.raises(DTypeError, match="integer dtype"):
        g.integers(0, 2, dtype=np.float32)


def test_permutation() -> None:
    g = random.default_rng(8)
    assert sorted(g.permutation(100).tolist()) == list(range(100))
    x = np.arange(12).reshape(3, 4)
    assert sorted(map(tuple, g.permutation(x).numpy())) == sorted(map(tuple, x))
    y = g.permutation(ad.tensor(x), axis=1).numpy()
    assert sorted(map(tuple, y.T)) == sorted(map(tuple, x.T))
    counts = np.zeros((3, 3))
    for _ in range(600):
        counts[np.arange(3), g.permutation(3).numpy()] += 1
    assert stats.chisquare(counts.ravel()).pvalue > LEAST


def test_choice() -> None:
    g = random.default_rng(9)
    p = np.array([0.1, 0.0, 0.6, 0.3])
    x = g.choice(4, 50_000, p=p).numpy()
    counts = np.bincount(x, minlength=4)
    assert counts[1] == 0 and stats.chisquare(counts[p > 0], 50_000 * p[p > 0]).pvalue > LEAST
    assert stats.chisquare(np.bincount(g.choice(5, 50_000).numpy())).pvalue > LEAST
    assert len(np.unique(g.choice(50, 20, replace=False).numpy())) == 20
    first = [g.choice(3, 2, replace=False, p=[0.5, 0.25, 0.25]).tolist() for _ in range(800)]
    assert all(len(set(pair)) == 2 for pair in first)
    assert stats.chisquare(np.bincount([a for a, _ in first]), [400, 200, 200]).pvalue > LEAST
    assert g.choice(np.arange(10.0).reshape(5, 2), (3,), axis=1).shape == (5, 3)
    assert g.choice([2.5, 3.5]).item() in (2.5, 3.5)
    for kwargs, match in [
        ({"size": 6, "replace": False}, "larger sample than population"),
        ({"p": [0.5, 0.5]}, "same size"),
        ({"p": [0.5, 0.5, 0.5, -0.5, 0.0]}, "not non-negative"),
        ({"p": [0.5, 0.0, 0.0, 0.0, 0.0]}, "do not sum to 1"),
        ({"size": 2, "replace": False, "p": [1.0, 0, 0, 0, 0]}, "Fewer non-zero"),
    ]:
        with pytest.raises(ValueError, match=match):
            g.choice(5, **kwargs)


def test_bernoulli() -> None:
    x = random.default_rng(10).bernoulli(0.3, N).numpy()
    assert x.dtype == np.bool_ and x.mean() == pytest.approx(0.3, abs=5 * np.sqrt(0.21 / N))
    edges = random.default_rng(10).bernoulli(ad.tensor([0.0, 1.0]), (1000, 2)).numpy()
    assert not edges[:, 0].any() and edges[:, 1].all()
    with pytest.raises(ValueError, match="probability"):
        random.default_rng(0).bernoulli(1.5)


def test_streams_are_reproducible_and_independent() -> None:
    a, b = random.default_rng(11), random.default_rng(11)
    assert (a.normal(size=10).numpy() == b.normal(size=10).numpy()).all()
    b.random(5)
    assert (a.random(10).numpy() != b.random(10).numpy()).any()
    children = random.default_rng(12).spawn(3)
    again = random.default_rng(12).spawn(3)
    assert [c.key for c in children] == [c.key for c in again]
    samples = [random.default_rng(s).standard_normal(50_000).numpy() for s in range(4)]
    samples += [c.standard_normal(50_000).numpy() for c in children]
    r = np.corrcoef(samples)
    assert np.abs(r[~np.eye(len(samples), dtype=bool)]).max() < 5 / np.sqrt(50_000)
    parent = random.default_rng(12)
    assert len({g.key for g in [parent, *parent.spawn(2), *parent.spawn(2)]}) == 5


def test_draws_advance_by_the_blocks_they_read() -> None:
    g = random.default_rng(0)
    before = 0
    for draw, blocks in [
        (lambda: g.random((3, 4)), 12),
        (lambda: g.random(), 1),
        (lambda: g.normal(size=5), 5),
        (lambda: g.normal(size=5, dtype=np.float64), 10),
        (lambda: g.integers(10, size=7), 7),
        (lambda: g.integers(2**40, size=7), 14),
        (lambda: g.gamma(2.0, size=100), 1),
        (lambda: g.permutation(9), 9),
        (lambda: g.random(0), 0),
    ]:
        draw()
        assert g.counter == before + blocks
        before = g.counter


def test_parts_of_a_stream_do_not_depend_on_how_it_is_drawn() -> None:
    a, b = random.default_rng(1), random.default_rng(1)
    parts = np.concatenate([a.random(3).numpy(), a.random((2, 2)).numpy().ravel(), a.random(5).numpy()])
    assert (parts == b.random(12).numpy()).all()


def test_samples_are_lazy_and_fused_into_their_consumers() -> None:
    g = random.default_rng(2)
    x = ad.tensor(np.ones((32, 32), np.float32))
    y = (x * g.bernoulli(0.5, (32, 32)) * 2.0 + g.normal(size=(32, 32))).tanh()
    assert len(ad.schedule(y)) == 1
    total = (g.normal(size=(64, 64)) ** 2).sum()
    assert len(ad.schedule(total)) == 1
    g.counter = 0
    first = g.random(100)
    held = g.random(100)
    assert (held.numpy() == held.numpy()).all() and (first.numpy() != held.numpy()).any()


def test_another_draw_compiles_nothing() -> None:
    g = random.default_rng(3)
    (g.normal(size=37) * 3.0).realize()
    built = ad.compiled_stats()["kernels_built"]
    for _ in range(5):
        (g.normal(size=37) * 3.0).realize()
    (random.default_rng(99).normal(size=37) * 3.0).realize()
    assert ad.compiled_stats()["kernels_built"] == built


def test_parameters_may_be_arrays_and_are_differentiable() -> None:
    g = random.default_rng(4)
    assert g.normal(np.zeros(3), np.ones((2, 1))).shape == (2, 3)
    assert g.uniform([0.0, 10.0], [1.0, 11.0]).numpy()[1] >= 10
    assert g.normal(np.zeros(3), size=(2, 3)).shape == (2, 3)
    with pytest.raises(ValueError, match="not compatible with broadcast"):
        g.normal(np.zeros(3), size=(2, 2))
    with pytest.raises(ValueError, match="scale < 0"):
        g.normal(0.0, -1.0)
    with pytest.raises(ValueError, match="negative dimensions"):
        g.random(-1)
    with pytest.raises(DTypeError, match="floating"):
        g.random(2, dtype=np.int32)

    def loss(mean: Tensor, scale: Tensor) -> Tensor:
        return random.default_rng(5).normal(mean, scale, 1000).sum()

    by_mean, by_scale = ad.grad(loss, argnums=(0, 1))(ad.tensor(1.0), ad.tensor(2.0))
    assert by_mean.item() == 1000
    assert by_scale.item() == pytest.approx(random.default_rng(5).normal(size=1000).numpy().sum(), rel=1e-4)


def test_the_default_generator() -> None:
    random.seed(0)
    first = [random.normal((2, 3)), random.uniform(4), random.random(2), random.standard_normal(3)]
    first += [random.integers(10, size=3), random.permutation(5), random.choice(7, 2), random.exponential(3)]
    first += [random.gamma(3, 2.0), random.bernoulli(9, 0.5)]
    random.seed(0)
    g = random.default_rng(0)
    assert (first[0].numpy() == g.normal(size=(2, 3)).numpy()).all() and first[0].shape == (2, 3)
    assert (first[0].numpy() == random.normal((2, 3)).numpy()).all()
    assert random.default_rng(g) is g
    assert repr(g).startswith("<Generator key=0x")
