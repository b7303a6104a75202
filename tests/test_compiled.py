"""Reading a tensor runs compiled kernels and nothing else; what the environment variables of debugging show."""

from __future__ import annotations

import importlib
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinyad
import tinyad as ad
from tinyad import interpret, ir

ROOT = Path(__file__).parent.parent


def test_nothing_falls_back_to_the_interpreter(monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise AssertionError("the interpreter ran")

    monkeypatch.setattr(interpret, "interpret", refuse)
    rng = np.random.default_rng(0)
    x = ad.tensor(rng.standard_normal((6, 5)).astype(np.float32), requires_grad=True)
    w = ad.tensor(rng.standard_normal((5, 4)).astype(np.float32), requires_grad=True)
    loss = ad.cross_entropy(ad.tanh(x @ w), ad.tensor([0, 1, 2, 3, 0, 1]))
    before = ad.compiled_stats()["kernels_run"]
    loss.backward()
    for t in (loss, x.grad, w.grad, ad.cumsum(x, axis=0), x[ad.tensor([1, 1, 3])], x[::2, ::-1], x.std(axis=1)):
        assert np.isfinite(t.numpy()).all()
    assert ad.compiled_stats()["kernels_run"] > before


def test_the_list_of_host_functions_is_committed():
    """What runs as NumPy on the host: a stable sort of positions, and rejection sampling."""
    found = set()
    for module in pkgutil.walk_packages(tinyad.__path__, "tinyad."):
        if not module.name.endswith("__main__"):
            values = vars(importlib.import_module(module.name)).values()
            found |= {v.name for v in values if isinstance(v, ir.HostFunction)}
    assert found == {"argsort", "standard_gamma"}


@pytest.mark.parametrize(
    ("level", "shown", "hidden"),
    [
        (1, "tinyad: 1 kernels", "graph ("),
        (2, "graph (", "plan:"),
        (3, "plan: 1 kernel", "kernel map_4("),
        (4, "kernel map_4(", "define void"),
        (5, "define void", "no such text"),
    ],
)
def test_debug_levels_show_one_stage_more_each(level: int, shown: str, hidden: str):
    code = "import tinyad as ad; (ad.arange(4.0) * 3.5).realize()"
    env = {k: v for k, v in os.environ.items() if not k.startswith("TINYAD_")}
    env |= {"TINYAD_DEBUG": str(level), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    assert shown in done.stderr
    assert hidden not in done.stderr


@pytest.mark.parametrize("stage", ["ir", "schedule", "loops", "llvm", "asm"])
def test_every_stage_can_be_dumped_before_and_after(stage: str):
    x = ad.tensor([1.0, 2.0, 3.0])
    y = ad.exp(x) * 2
    before = y.dump(stage)
    y.realize()
    after = y.dump(stage)
    assert before and after
    if stage != "ir":
        assert before == after


def test_an_unknown_stage_names_the_known_ones():
    with pytest.raises(ValueError, match="ir, schedule, loops, llvm, asm"):
        ad.tensor(1.0).dump("hlo")
