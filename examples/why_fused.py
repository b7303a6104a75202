"""A transformer block and its gradients: why each value is stored, fused or computed again, and what that costs.

    python examples/why_fused.py            # long lists are cut
    python examples/why_fused.py --full     # everything

A processor waits for memory more often than for arithmetic, so the first question to a plan is which values it puts
into memory. The scheduler keeps the reason for each of them. Here they are next to the Python lines they belong to.
"""

import linecache
import math
import re
import sys
from collections import Counter

import numpy as np

import tinyad as ad
from tinyad import nn
from tinyad.config import config
from tinyad.sites import Derived, origin, show

FULL = "--full" in sys.argv
BATCH, TOKENS, WIDTH, HEADS = 4, 64, 64, 4


class Block(nn.Module):
    """Causal attention and an MLP, each behind a normalisation and beside a residual."""

    def __init__(self) -> None:
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: ad.Tensor) -> ad.Tensor:
        h = self.norm1(x)
        h = self.qkv(h)
        q, k, v = h.reshape(BATCH, TOKENS, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        causal = ad.tril(ad.ones((TOKENS, TOKENS), dtype=bool))
        scores = q @ k.mT
        scores = ad.where(causal, scores / math.sqrt(WIDTH // HEADS), -np.inf)
        weights = ad.softmax(scores, axis=-1)
        mixed = weights @ v
        x = x + self.out(mixed.permute(0, 2, 1, 3).reshape(BATCH, TOKENS, WIDTH))
        h = self.norm2(x)
        h = ad.gelu(self.up(h))
        return x + self.down(h)


# Reading a plan -------------------------------------------------------------------------------------------------------
def python_lines(plan) -> list[str]:
    """The Python line behind each value of the plan, or behind its first reader; "d" and the line for a derivative."""
    site = {id(n): n.site for n in plan.nodes}
    for n in reversed(plan.nodes):
        for s in n.src:
            if s.site is None:
                site[id(s)] = site[id(n)]
    lines = []
    for n in plan.nodes:
        made = origin(site[id(n)])
        text = linecache.getline(__file__, int(show(made).rsplit(":", 1)[1])).strip() if made else ""
        lines.append("d  " * isinstance(site[id(n)], Derived) + text)
    return lines


def unfused(*tensors: ad.Tensor):
    """The plan with a kernel for each operation, as by TINYAD_FUSE=0."""
    config.fuse = False
    try:
        return ad.schedule(*tensors)
    finally:
        config.fuse = True


def table(title: str, rows: list[str], most: int) -> None:
    print(f"\n  {title}")
    kept = rows if FULL else rows[:most]
    print("\n".join("    " + row for row in kept))
    if len(kept) < len(rows):
        print(f"    ... {len(rows) - len(kept)} more")


def report(title: str, comment: str, *tensors: ad.Tensor) -> tuple:
    """Prints what memory is used for when `tensors` are computed; returns the plan and its compulsory bytes."""
    plan, apart = ad.schedule(*tensors), unfused(*tensors)
    operations = Counter(n.op.value for n in ad.graph(*tensors))
    given = {n for n in ad.graph(*tensors) if n.op.value == "buffer"}
    compulsory = sum(n.size * n.dtype.itemsize for n in given) + sum(t.nbytes for t in tensors)

    print(f"\n{'=' * 110}\n{title}\n\n{comment.strip()}\n")
    print(f"    {'':12} {'kernels':>8} {'kB moved':>10} {'Mflop':>8} {'kB held at most':>17}")
    for name, p in ("not fused", apart), ("this plan", plan):
        print(f"    {name:12} {len(p):8} {p.bytes / 1e3:10,.0f} {p.flops / 1e6:8.1f} {p.peak_bytes / 1e3:17,.0f}")
    print(f"    {'compulsory':12} {'':8} {compulsory / 1e3:10,.0f}   what is given read once, each result written once")

    kernels = [
        f"k{i:<3}{step.name:24}{step.bytes / 1e3:8,.1f} kB{step.flops / 1e6:8.2f} Mflop   stores "
        + ", ".join(f"%{plan.number_of[id(n)]}" for n in step.sinks)
        for i, step in enumerate(plan)
    ]
    table("the kernels", kernels, 12)

    lines, why = python_lines(plan), []
    visits = Counter(place for step in plan for place in {place for place, _ in step.arguments})
    for entry in plan.explain().splitlines():
        found = re.fullmatch(r"%(\d+) (.+?)(?: \((.+?)\))?: (.+)", entry)
        if found is None or found[4].startswith(("fused", "recomputed")):
            continue
        number, value, _, reason = found.groups()
        n = plan.nodes[int(number)]
        moved = visits[plan.place_of.get(id(n))] * n.size * n.dtype.itemsize
        why += [f"%{number:4}{value:28}{moved / 1e3:7,.1f} kB   {reason}", f"     {lines[int(number)]}"]
    table("in memory, how many bytes that moves, and why (all other values live in registers)", why, 40)

    loops = "\n".join(step.loops for step in plan)
    again = []
    for op in ("erf", "exp", "sqrt", "div"):
        written = len(re.findall(rf"= {op} ", loops))
        again.append(f"{op:5} {operations[op]:3} in the graph, {written:3} in the kernels")
    table("computed again: the dear operations of the graph, and how often they stand in the loops", again, 9)
    return plan, compulsory


# The block and its gradients ------------------------------------------------------------------------------------------
nn.init.seed(0)
rng = np.random.default_rng(0)
block = Block()
x = ad.tensor(rng.standard_normal((BATCH, TOKENS, WIDTH)).astype(np.float32), requires_grad=True)
g = ad.tensor(rng.standard_normal(x.shape).astype(np.float32))

y = block(x)
forward, least = report(
    "1. forward",
    """
What to look at: the matrix products shape the plan. Each is a kernel of its own, and the elementwise work around it
(bias, scale, mask, gelu, residual) is done while its operands are packed or before its result leaves the registers:
none of that is stored. A normalisation leaves two numbers a row behind, its mean and its spread; the product that
follows applies them as it packs its rows. Softmax leaves two as well, the largest and the sum, and the product with v
computes the exponentials again from the scores, since an exponential costs less than a trip to memory.

Then look at the dtypes: one f64 (had the scores been divided by np.sqrt(16), which is a NumPy float64) spreads to all
that follows. And at kB moved: values of [.., 64, 64] and [.., 256] are the big ones, whose every visit counts.
""",
    y,
)

gradients = ad.gradients(y, [x, *block.parameters()], g)
both, least_of_both = report(
    "2. forward and backward",
    """
What to look at: the gradients need values of the forward pass. Each is stored for them, or computed again where they
need it if that costs less; the reason says how much it would have cost. All is planned at once, so the forward part is
not the plan above: exponentials and weights of softmax are now stored, because several products of the backward pass
read them. A value in scratch moves nothing: it lives for a row or a tile, in cache.

"You hold it" are the results: output and gradients. Values of type b1 are masks: the causal one, and where a gradient
is exactly zero because of it, so that 0 times infinity behind a mask does not make a NaN.
""",
    y,
    *gradients,
)

# The facts ------------------------------------------------------------------------------------------------------------
print(f"\n{'=' * 110}\n3. in short\n")
for name, plan, compulsory in ("forward", forward, least), ("both", both, least_of_both):
    stored = sum(len(step.sinks) for step in plan)
    of_bytes = f"{plan.bytes / compulsory:.1f} times the compulsory bytes"
    print(f"    {name:8}{stored:3} of {len(plan.nodes)} values stored, {len(plan)} kernels, {of_bytes}")
    assert stored < len(plan.nodes) / 4
assert len(forward) <= 8 and len(both) <= 29, (len(forward), len(both))

# Fused or not, it is the block: no token sees a later one, and the gradient is the slope.
with ad.no_grad():
    later = x.numpy().copy()
    later[:, -1] += 1
    assert np.array_equal(block(ad.tensor(later)).numpy()[:, :-1], y.numpy()[:, :-1])

    direction = rng.standard_normal(x.shape).astype(np.float32)
    up, down = (np.sum(block(x + h * direction).numpy() * g.numpy(), dtype=float) for h in (0.01, -0.01))
    slope, expected = (up - down) / 0.02, np.sum(gradients[0].numpy() * direction)
    print(f"    slope in a random direction {expected:.3f}, by a difference quotient {slope:.3f}")
    assert abs(slope - expected) < 1e-2 * np.linalg.norm(gradients[0].numpy())
