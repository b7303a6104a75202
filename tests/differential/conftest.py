"""What the differential tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from codegen import threads


@pytest.fixture
def any_size(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Threads share kernels of any size, in many chunks."""
    monkeypatch.setattr(threads, "LEAST", 0)
    monkeypatch.setattr(threads, "CHUNK", 50)
    monkeypatch.setattr(threads.Pool, "serves", lambda self, work: True)
    yield
    threads.use_threads(0)
