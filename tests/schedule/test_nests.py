"""Which kernels become stages of one, and what that costs others: threads, time to compile, masks of positions."""

from __future__ import annotations

import numpy as np
import pytest

import tinyad as ad
from codegen import jit

RNG = np.random.default_rng(0)


def make(*shape: int) -> ad.Tensor:
    return ad.tensor(RNG.standard_normal(shape).astype(np.float32))


@pytest.mark.parametrize(("heads", "rows"), [(1, 64), (1, 40), (2, 64), (8, 64), (1, 1024)])
def test_blocks_of_rows_are_enough_for_the_threads(heads: int, rows: int) -> None:
    (step,) = ad.schedule(ad.softmax(make(heads, rows, 32) @ make(32, 100), axis=-1))
    assert step.group.nest is not None
    whole = rows // step.group.nest.block
    assert heads * -(-rows // step.group.nest.block) >= (4 if rows >= 64 else 3)
    code = jit.compile_kernel(step.lowered.kernel, jit.target())
    assert max(function.outer for function in code.functions) == heads * whole


def test_wide_products_read_their_rows_from_memory() -> None:
    """They are most of the time, and would read their other factor again for each block of rows."""
    x, w = make(256, 64), make(64, 512)
    assert len(ad.schedule(ad.softmax(x @ w, axis=-1) @ make(512, 64))) == 1
    assert len(ad.schedule(ad.softmax(x @ w, axis=-1) @ make(512, 512))) == 2


def test_layers_that_are_alike_share_their_code() -> None:
    """A nest does not grow with the number of layers."""
    w, x = make(48, 48), make(64, 48)
    for _ in range(40):
        x = ad.softmax(x @ w, axis=-1) @ w + x
    plan = ad.schedule(x)
    assert all(len(s.group.nest.stages) <= 16 for s in plan if s.group.nest is not None)
    before = ad.compiled_stats()["kernels_built"] + ad.compiled_stats()["disk_hits"]
    x.realize()
    assert ad.compiled_stats()["kernels_built"] + ad.compiled_stats()["disk_hits"] - before <= 4 < len(plan)


@pytest.mark.parametrize("offset", [-40, 0, 7])
def test_a_moved_mask_of_positions_is_a_domain(offset: int) -> None:
    """Arithmetic on positions is not stored for its readers, which would not know it any more."""
    i = ad.arange(256)
    (step,) = ad.schedule(ad.where(i[:, None] + offset >= i, make(256, 256), 0) @ make(256, 16))
    assert step.loops.count(" >= 0\n") == 1
