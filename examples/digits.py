"""Handwritten digits: a small network learns to read them, through kernels that tinyad compiles as it goes.

    pip install -e '.[examples]' && python examples/digits.py
    python examples/digits.py --model cnn   # convolutions instead: slower, and better

The data are the 1,797 images of 8x8 pixels that come with scikit-learn. A fifth is kept for the test. The loss and the
digits that are still misread are drawn to examples/out/.
"""

import argparse
from pathlib import Path
from time import perf_counter

import matplotlib
import numpy as np
from sklearn.datasets import load_digits
from tqdm import tqdm

import tinyad as ad
from tinyad import nn, optim

matplotlib.use("Agg")
import matplotlib.pyplot as plt

EPOCHS = 40
BATCH = 64
PROMISED = {"mlp": 0.97, "cnn": 0.98}  # test accuracy
OUT = Path(__file__).parent / "out"

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", choices=PROMISED, default="mlp", help="dense layers or convolutions (default: mlp)")
kind = parser.parse_args().model

# The data -------------------------------------------------------------------------------------------------------------
rng = np.random.default_rng(0)
digits = load_digits()
images = (digits.images[:, None] / 16).astype(np.float32)  # [1797, 1, 8, 8], pixels in 0..1
labels = digits.target.astype(np.int64)
order = rng.permutation(len(images))
test, train = order[:360], order[360:]

# The model ------------------------------------------------------------------------------------------------------------
nn.init.seed(0)
if kind == "mlp":
    model = nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 128), nn.ReLU(),
        nn.Linear(128, 64), nn.ReLU(),
        nn.Linear(64, 10),
    )  # fmt: skip
else:
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(),  # 32 images of 4x4
        nn.Linear(32 * 4 * 4, 10),
    )  # fmt: skip
optimizer = optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
print(model)
print(f"{sum(p.size for p in model.parameters()):,} parameters\n")

# Training -------------------------------------------------------------------------------------------------------------
# Nothing below computes before a number is asked for. `backward` only writes down the gradient, as more expressions;
# `step` needs the new weights now, so it hands loss, gradients and updates to the scheduler in one piece. The first
# step compiles a few kernels; all later ones find them ready.
losses = []
began = perf_counter()
for epoch in (bar := tqdm(range(EPOCHS), desc="training", unit="epoch")):
    optimizer.lr = 3e-3 * 0.5 * (1 + np.cos(np.pi * epoch / EPOCHS))  # a new rate is a new number, not a new kernel
    for batch in rng.permutation(train)[: len(train) // BATCH * BATCH].reshape(-1, BATCH):
        loss = ad.cross_entropy(model(ad.tensor(images[batch])), ad.tensor(labels[batch]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    bar.set_postfix(loss=f"{np.mean(losses[-len(train) // BATCH :]):.4f}")
seconds = perf_counter() - began

# The test -------------------------------------------------------------------------------------------------------------
with ad.no_grad():
    guesses = model(ad.tensor(images[test])).argmax(axis=-1).numpy()
accuracy = np.mean(guesses == labels[test])
stats = ad.compiled_stats()
print(f"\ntest accuracy   {accuracy:.2%}  ({int(np.sum(guesses != labels[test]))} of {len(test)} misread)")
print(f"kernels built   {stats['kernels_built']}, and {stats['disk_hits']} found on disk from an earlier run")
print(f"kernels run     {stats['kernels_run']:,}, {stats['kernels_run'] / len(losses):.0f} a step")
print(f"compile time    {stats['compile_seconds']:.2f} s of {seconds:.2f} s")
print(f"speed           {len(losses) * BATCH / seconds:,.0f} samples/s, {seconds / len(losses) * 1e3:.1f} ms a step")

# Pictures -------------------------------------------------------------------------------------------------------------
OUT.mkdir(exist_ok=True)
figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
axes.semilogy(losses, lw=0.5, alpha=0.4)
axes.semilogy(np.convolve(losses, np.ones(20) / 20, mode="valid"), lw=1.5)
axes.set(xlabel="step", ylabel="cross entropy", title=f"training loss, {kind}")
figure.savefig(OUT / f"digits_{kind}_loss.png", dpi=120)

wrong = np.flatnonzero(guesses != labels[test])[:10]
figure, panels = plt.subplots(2, 5, figsize=(6, 3), layout="constrained")
for panel in panels.flat:
    panel.set_axis_off()
for panel, i in zip(panels.flat, wrong, strict=False):  # there may be fewer mistakes than panels
    panel.imshow(images[test[i], 0], cmap="gray_r")
    panel.set_title(f"{labels[test[i]]}, read as {guesses[i]}", fontsize=8)
figure.suptitle("mistakes on the test images")
figure.savefig(OUT / f"digits_{kind}_mistakes.png", dpi=120)
print(f"pictures        {OUT / f'digits_{kind}_loss.png'}, {OUT / f'digits_{kind}_mistakes.png'}")

assert accuracy >= PROMISED[kind], accuracy
