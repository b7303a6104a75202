"""Memory of arrays: counted to the byte, reused, never while somebody can see it."""

import gc

import numpy as np
import pytest

import tinyad as ad
from tinyad import buffer


@pytest.fixture(autouse=True)
def empty_pool():
    gc.collect()
    buffer.trim()
    yield
    buffer.trim()


def test_alignment_and_live_bytes():
    before = buffer.usage()["live_bytes"]
    kept = [buffer.empty((n,), np.dtype(np.float32)) for n in (0, 1, 1000)]
    assert all(b.address % buffer.ALIGNMENT == 0 for b in kept)
    assert buffer.usage()["live_bytes"] - before == 4 * 1001
    del kept
    assert buffer.usage()["live_bytes"] == before


@pytest.mark.parametrize("size", [1 << 11, 1 << 16])
def test_freed_memory_is_used_again(size):
    first = buffer.empty((size,), np.dtype(np.float32))
    address = first.address
    assert address == first.array.ctypes.data == first.memory.ctypes.data + first.start
    del first
    assert buffer.usage()["pooled_bytes"] > size
    again = buffer.empty((size,), np.dtype(np.float32))
    assert again.address == address == again.array.ctypes.data
    del again
    assert buffer.usage()["pooled_bytes"] > 0


def test_memory_that_a_view_pins_is_not_used_again():
    x = ad.arange(1 << 16, dtype=ad.float32) + 1
    seen = x.numpy()[5:]
    del x
    others = [buffer.empty((1 << 16,), np.dtype(np.float32)) for _ in range(3)]
    for b in others:
        b.array[...] = -1
    assert seen[0] == 6 and seen[-1] == 1 << 16


def test_memory_that_a_reshaped_result_shares_is_not_used_again():
    x = ad.arange(1 << 16, dtype=ad.float32) + 1
    y = x.reshape(256, 256).realize()
    del x
    buffer.empty((1 << 16,), np.dtype(np.float32)).array[...] = -1
    assert y.numpy()[0, 0] == 1


def test_the_pool_is_bounded(monkeypatch):
    monkeypatch.setattr(buffer, "POOL_BYTES", 1 << 18)
    many = [buffer.empty((1 << 16,), np.dtype(np.float32)) for _ in range(4)]
    del many
    assert buffer.usage()["pooled_bytes"] <= 1 << 18


def test_live_memory_equals_the_plan():
    x = ad.tensor(np.ones((64, 64), np.float32))
    y = ad.tensor(np.ones((64, 64), np.float32))
    out = ad.softmax(x @ y, axis=0) @ y.T
    plan = ad.schedule(out)
    base = buffer.usage()["live_bytes"]
    buffer._peak = base
    out.realize()
    assert buffer.usage()["peak_bytes"] - base == plan.peak_bytes
    assert buffer.usage()["live_bytes"] - base == 64 * 64 * 4


def test_a_training_loop_neither_grows_nor_exceeds_its_plan():
    w = ad.tensor(np.zeros((256, 256), np.float32))
    x = ad.tensor(np.ones((256, 256), np.float32))
    sizes = []
    for _ in range(20):
        w = (w - 0.1 * ad.grad(lambda v: ((v @ x - x) ** 2).mean())(w)).realize()
        sizes.append(buffer.usage()["live_bytes"])
    assert len(set(sizes[1:])) == 1
