"""Kernels of other outer extents share code, and it is right for each of them."""

import numpy as np
import pytest

import tinyad as ad
from codegen import jit


def built(f) -> int:
    before = jit.counts.built + jit.counts.disk_hits
    f()
    return jit.counts.built + jit.counts.disk_hits - before


FUNCTIONS = {
    "map": lambda x: ad.sin(x) * 1.7 - x,
    "rows": lambda x: ad.softmax(x * 1.3, axis=-1),
    "row sums": lambda x: (x * 1.9).sum(axis=-1),
    "gather": lambda x: x[:, ad.tensor([2, 0, 1, 1])] * 2.3,
    "scalars first": lambda x: x * 1.1 + ad.exp(ad.tensor(0.5) * 2),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_another_batch_size_needs_no_new_code(name: str):
    f = FUNCTIONS[name]
    rng = np.random.default_rng(0)

    def check(n: int) -> None:
        x = rng.standard_normal((n, 24)).astype(np.float32)
        got = f(ad.tensor(x)).numpy()
        want = f(ad.tensor(x.astype(np.float64))).numpy()
        assert got.shape == want.shape and np.allclose(got, want, 1e-5, 1e-5)

    check(200)
    x = [ad.tensor(rng.standard_normal((n, 24)).astype(np.float32)) for n in (64, 65, 100, 211, 1000)]
    assert built(lambda: [f(v).realize() for v in x]) == 0
    for n in (64, 65, 79, 80, 81, 211, 1000, 5001):
        check(n)
