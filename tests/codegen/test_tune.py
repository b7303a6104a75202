"""The search over ways of computing a contraction: it changes no bit, and is remembered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from kernel_tools import TARGET, buffer, execute, kernel, same_bits, sample

from codegen import jit, tune
from codegen.cache import Disk
from codegen.contract import candidates, described
from codegen.index import Var, flatten, of
from codegen.loops import Acc, Contract, Kernel, Load, Store
from codegen.scalar import F32
from codegen.text import dump

M, N, K = 50, 300, 270


def product() -> Kernel:
    a, b, c = buffer(F32, M * K), buffer(F32, K * N), buffer(F32, M * N, "out")
    i, j, r = Var(M, "i"), Var(N, "j"), Var(K, "r")
    x, y = Load(F32, a, flatten((of(i), of(r)), (M, K))), Load(F32, b, flatten((of(r), of(j)), (K, N)))
    acc = Acc(F32)
    store = Store(c, flatten((of(i), of(j)), (M, N)), acc)
    return kernel([Contract((i,), (j,), (r,), [x], x, [y], y, acc, [store])], a, b, c)


def test_every_candidate_has_the_same_bits() -> None:
    a, b = sample(F32, (M, K)), sample(F32, (K, N), 1)
    target = jit.target(TARGET)
    results, texts = [], set()
    (s,) = product().body
    assert isinstance(s, Contract)
    for how in candidates(s, target, 5):
        k = tune._with(product(), [how])
        got = np.zeros((M, N), np.float32)
        execute(k, a, b, got, splits=(1, 3))
        results.append(got)
        texts.update(described(k, target))
        assert f" by {how} {{" in dump(k)
    assert len(results) >= 5 and len(texts) == len(results) and all("found by timing" in t for t in texts)
    assert all(same_bits(r, results[0]) for r in results)


def test_what_was_found_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    searches = []

    def search(kernel: Kernel, target: object) -> list[str]:
        searches.append(kernel)
        (s,) = kernel.body
        assert isinstance(s, Contract)
        return [candidates(s, jit.target(TARGET), 5)[-1]]

    monkeypatch.setattr(tune, "_search", search)
    monkeypatch.setattr(jit, "_disk", Disk(tmp_path))
    monkeypatch.setattr(tune, "_known", {})
    first = dump(tune.tuned(product(), jit.target(TARGET)))
    assert dump(tune.tuned(product(), jit.target(TARGET))) == first and len(searches) == 1
    tune._known.clear()  # as in another process
    assert dump(tune.tuned(product(), jit.target(TARGET))) == first and len(searches) == 1
    assert " by tiles " in first


def test_the_fastest_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A candidate that takes longest never wins, and one that is hopeless is timed once."""
    monkeypatch.setattr(jit, "_disk", None)
    monkeypatch.setattr(tune, "_known", {})
    (s,) = product().body
    assert isinstance(s, Contract)
    names = candidates(s, jit.target(TARGET), tune.CANDIDATES)
    times = {name: 100.0 * (i + 1) for i, name in enumerate(reversed(names))}
    asked: list[str] = []

    def timed(runs: object, code: jit.Compiled) -> float:
        (s,) = code.kernel.body
        assert isinstance(s, Contract)
        asked.append(s.how)
        return times[s.how]

    monkeypatch.setattr(tune._Runs, "_time", timed)
    (found,) = (x for x in tune.tuned(product(), jit.target(TARGET)).body if isinstance(x, Contract))
    assert found.how == names[-1] and asked.count(names[0]) == 1 and asked.count(names[-1]) == tune.ROUNDS


def test_a_kernel_runs_for_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jit, "_disk", None)
    monkeypatch.setattr(tune, "_known", {})
    monkeypatch.setattr(tune, "CANDIDATES", 2)
    (found,) = (x for x in tune.tuned(product(), jit.target("native")).body if isinstance(x, Contract))
    assert found.how
