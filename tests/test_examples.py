"""Every example runs as a user runs it, and prints what it promises."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"

PROMISED = {  # example and its arguments -> (lines of its output, pictures it saves)
    "digits.py": (
        [r"test accuracy   (9[7-9]\.\d\d|100\.00)%", r"kernels built   \d", r"kernels run     [1-9]",
         r"compile time    \d", r"samples/s"],
        ["digits_mlp_loss.png", "digits_mlp_mistakes.png"],
    ),
    "digits.py --model cnn": (
        [r"Conv2d\(", r"test accuracy   (9[89]\.\d\d|100\.00)%", r"kernels run     [1-9]",
         r"samples/s, [\d.]+ ms a step"],
        ["digits_cnn_loss.png", "digits_cnn_mistakes.png"],
    ),
    "moons.py": ([r"step 99  loss 0\.\d+  accuracy 100%"], ["moons.png"]),
    "read_the_ir.py": (
        [r"= tanh %\d+ ; .*read_the_ir\.py:\d+", r"; d %\d+", r"plan: \d+ kernels?", r"kernel \w+\(", r"define ",
         r"gradient   \["],
        [],
    ),
    "why_fused.py": (
        [r"not fused +\d", r"this plan +\d", r"compulsory +\d", r"%\d+ .* kB   stored: you hold it",
         r"weights = ad\.softmax\(scores, axis=-1\)", r"d  h = ad\.gelu\(self\.up\(h\)\)",
         r"exp +1 in the graph, +[12] in the kernels",
         r"both +\d+ of \d+ values stored, \d+ kernels, [\d.]+ times"],
        [],
    ),
    "ancestors/conv_backward_is_conv.py": (
        [r"stride 1: four convolutions, a kernel each", r"stride 2: four convolutions, a kernel each", r"contract m i0",
         r"inrange .* step 2"],
        [],
    ),
    "ancestors/local_gradients.py": ([r"∂d/∂a = 11, over paths 11", r"∂y/∂x = 1152921504606846976"], []),
    "ancestors/simple_autograd.py": ([r"all four as the formulas say"], []),
    "ancestors/pytorch_autograd.py": ([r"∂z/∂x = \[  4\.  32\. 108\.\]", r"second \[18\.\]", r"MUL from"], []),
    "ancestors/gradient_tape.py": ([r"dz/dx = 108\.0", r"d²y/dx² = 6\.0", r"only be used to compute one set"], []),
}  # fmt: skip


def test_every_example_is_listed():
    assert {str(p.relative_to(EXAMPLES)) for p in EXAMPLES.rglob("*.py")} == {name.split()[0] for name in PROMISED}


@pytest.mark.parametrize("name", PROMISED)
def test_example(name):
    patterns, pictures = PROMISED[name]
    paths = [EXAMPLES / "out" / picture for picture in pictures]
    for path in paths:
        path.unlink(missing_ok=True)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    script, *arguments = name.split()
    run = subprocess.run(
        [sys.executable, str(EXAMPLES / script), *arguments],
        env=env, cwd=ROOT, capture_output=True, text=True, timeout=300,  # a minute for the CNN without FMA
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    for pattern in patterns:
        assert re.search(pattern, run.stdout), f"{pattern} not in:\n{run.stdout}"
    for path in paths:
        assert path.read_bytes().startswith(b"\x89PNG")
