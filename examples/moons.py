"""Two moons: the demo of micrograd, on tensors. A network of two hidden layers learns to tell two bent clouds apart.

The loss is the margin ("hinge") loss of support vector machines plus a little weight decay, minimised by plain gradient
descent on all points at once. The decision boundary is drawn to examples/out/moons.png.
"""

from pathlib import Path

import matplotlib
import numpy as np
from sklearn.datasets import make_moons

import tinyad as ad
from tinyad import nn, optim

matplotlib.use("Agg")
import matplotlib.pyplot as plt

STEPS = 100
OUT = Path(__file__).parent / "out"

points, classes = make_moons(n_samples=100, noise=0.1, random_state=1337)
x = ad.tensor(points.astype(np.float32))  # [100, 2]
y = ad.tensor(np.where(classes == 1, 1, -1).astype(np.float32))  # [100], ±1

nn.init.seed(1337)
model = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1))
optimizer = optim.SGD(model.parameters(), lr=1.0)


def loss_of(scores: ad.Tensor) -> ad.Tensor:
    """Points should lie beyond a margin of 1 on their side; small weights keep the boundary smooth."""
    margin = ad.relu(1 - y * scores).mean()
    decay = 1e-4 * sum((p * p).sum() for p in model.parameters())
    return margin + decay


for step in range(STEPS):
    optimizer.lr = 1.0 - 0.9 * step / STEPS
    scores = model(x).reshape(-1)
    loss = loss_of(scores)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 10 == 0 or step == STEPS - 1:
        accuracy = np.mean((scores.numpy() > 0) == (y.numpy() > 0))
        print(f"step {step:2d}  loss {loss.item():.4f}  accuracy {accuracy:.0%}")

# The plane, coloured by the sign of the score of each of its points ---------------------------------------------------
low, high = points.min(axis=0) - 0.5, points.max(axis=0) + 0.5
across, up = np.meshgrid(np.linspace(low[0], high[0], 300), np.linspace(low[1], high[1], 240))
grid = np.stack([across.ravel(), up.ravel()], axis=1).astype(np.float32)
with ad.no_grad():
    height = model(ad.tensor(grid)).numpy().reshape(across.shape)

OUT.mkdir(exist_ok=True)
figure, axes = plt.subplots(figsize=(6, 4.5), layout="constrained")
axes.contourf(across, up, height, levels=[-1e9, 0, 1e9], colors=["#f4c7b0", "#b7d3ea"])
axes.contour(across, up, height, levels=[-1, 1], colors="black", linewidths=0.6, linestyles="--")
axes.contour(across, up, height, levels=[0], colors="black", linewidths=1.4)
axes.scatter(*points.T, c=classes, cmap="RdBu", edgecolors="black", s=30)
axes.set(title=f"decision boundary after {STEPS} steps: {accuracy:.0%} right", xlabel="x₀", ylabel="x₁")
figure.savefig(OUT / "moons.png", dpi=120)
print(f"picture: {OUT / 'moons.png'}")

assert accuracy == 1.0, accuracy
