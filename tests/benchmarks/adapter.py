"""The peers' benchmark workloads in tinyad: every step is one call of a function under `ad.jit`.

`build(name, inputs)` returns a step that runs one workload once and returns its results; `to_numpy` converts one of
them. Training steps are functions from (parameters, state) to (parameters, state, loss). Each step asserts that the
kernels of its plan have run, so that a remembered result can never be timed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import tinyad as ad

LR, MOMENTUM, ADAM_LR, B1, B2, EPS = 0.01, 0.9, 1e-3, 0.9, 0.999, 1e-8
T1_LR, T1_DECAY, HEADS = 0.1, 1e-4, 4

to_numpy = np.asarray


def tensors(v: Any) -> Any:
    return [tensors(u) for u in v] if isinstance(v, list) else ad.tensor(v) if isinstance(v, np.ndarray) else v


def build(name: str, inputs: dict[str, Any]) -> Any:
    make = globals().get(name)
    if make is None:
        raise NotImplementedError(name)
    return make(**{k: tensors(v) for k, v in inputs.items()})


def call(f: Any, *args: Any) -> Any:
    return counted(ad.jit(f), lambda jitted: jitted(*args))


def counted(jitted: Any, run: Any) -> Any:
    """`run(jitted)` as a step, which must run as many kernels as the plan of its one program has."""
    first = run(jitted)
    del first
    (program,) = jitted._programs.values()
    kernels = len(program.plan)

    def step() -> Any:
        before = ad.compiled_stats()["kernels_run"]
        out = run(jitted)
        assert ad.compiled_stats()["kernels_run"] == before + kernels
        return out

    step.jitted = jitted
    step.plan = program.plan
    return step


def fwd_bwd(f: Any, xs: list[Any], g: Any) -> Any:
    def both(xs: Any, g: Any) -> Any:
        y, pull = ad.vjp(f, *xs)
        return y, *pull(g)

    return call(both, xs, g)


def train(loss: Any, params: Any, batch: Any, update: Any, slots: int) -> Any:
    """`update(t, p, g, *slots) -> (p, *slots)` for each parameter."""

    def one(t: Any, params: Any, state: Any, *batch: Any) -> Any:
        value, grads = ad.value_and_grad(lambda ps: loss(ps, *batch))(params)
        params, *state = zip(*(update(t + 1, *a) for a in zip(params, grads, *state)))
        return t + 1, list(params), [list(s) for s in state], value

    def fresh() -> list[Any]:
        zeros = [[ad.zeros_like(p).realize() for p in params] for _ in range(slots)]
        return [ad.tensor(0.0), [ad.tensor(p.numpy()) for p in params], zeros]

    def run(jitted: Any) -> Any:
        carry[:], value = (out := jitted(*carry, *batch))[:3], out[3]
        return value

    carry = fresh()
    step = counted(ad.jit(one, donate_argnums=(0, 1, 2)), run)
    carry[:] = fresh()
    return step


def sgd(t: Any, p: Any, g: Any, m: Any) -> Any:
    m = MOMENTUM * m + g
    return p - LR * m, m


def adam(t: Any, p: Any, g: Any, m: Any, v: Any) -> Any:
    m, v = B1 * m + (1 - B1) * g, B2 * v + (1 - B2) * g * g
    return p - ADAM_LR * (m / (1 - B1**t)) / (ad.sqrt(v / (1 - B2**t)) + EPS), m, v


# elementwise and reductions -------------------------------------------------------------------------------------
def E1(x, a, b):
    return call(lambda x: ad.tanh(a * x + b) * ad.exp(-x * x), x)


E2 = E1


def gelu(x):
    return ad.gelu(x, approximate="tanh")


def E3(x, g):
    return fwd_bwd(gelu, [x], g)


def E4(p, g):
    def fresh():
        return [ad.tensor(0.0), ad.tensor(p.numpy()), ad.zeros_like(p).realize(), ad.zeros_like(p).realize()]

    def one(t, p, g, m, v):
        return t + 1, *adam(t + 1, p, g, m, v)

    def run(jitted):
        s[:] = jitted(s[0], s[1], g, s[2], s[3])
        return s[1]

    s = fresh()
    step = counted(ad.jit(one, donate_argnums=(0, 1, 3, 4)), run)
    s[:] = fresh()
    return step


def R1(x):
    return call(lambda x: x.sum(), x)


def R2(x):
    return call(lambda x: ad.softmax(x, axis=1), x)


def layernorm(x, w, b):
    d = x - x.mean(-1, keepdims=True)
    return d * ad.rsqrt(ad.square(d).mean(-1, keepdims=True) + 1e-5) * w + b


def R3(x, w, b, g):
    return fwd_bwd(layernorm, [x, w, b], g)


def R4(x):
    return call(lambda x: ad.logsumexp(x, axis=1), x)


def R5(x):
    return call(lambda x: x.sum(0), x)


def R6(x):
    return call(lambda x: [x.var(0), x.mean(0), x.var(1), x.mean(1)], x)


# contractions ---------------------------------------------------------------------------------------------------
def M1(a, b):
    return call(lambda a, b: a @ b, a, b)


M2 = M3 = M4 = M5 = M6 = M7 = M1


def M2TN(a, b):
    return call(lambda a, b: a.T @ b, a, b)


def M2NT(a, b):
    return call(lambda a, b: a @ b.T, a, b)


def M8(x, w, b):
    return call(lambda x, w, b: gelu(x @ w + b), x, w, b)


def C1(x, w):
    return call(lambda x, w: ad.conv2d(x, w, padding=1), x, w)


def C2(x, w, g):
    return fwd_bwd(lambda x, w: ad.conv2d(x, w, padding=1), [x, w], g)


def C3(x, w):
    return call(lambda x, w: ad.conv2d(x, w, stride=2, padding=3), x, w)


def C4(x, w):
    return call(lambda x, w: ad.conv2d(x, w, padding=1, groups=x.shape[1]), x, w)


def C5(x, g):
    return fwd_bwd(lambda x: ad.max_pool2d(x, 2), [x], g)


def H1(q, k, v):
    return call(lambda q, k, v: ad.scaled_dot_product_attention(q, k, v), q, k, v)


def H2(q, k, v, g):
    return fwd_bwd(lambda q, k, v: ad.scaled_dot_product_attention(q, k, v, is_causal=True), [q, k, v], g)


# training -------------------------------------------------------------------------------------------------------
def hinge(ps, x, y):
    w1, b1, w2, b2, w3, b3 = ps
    score = (ad.relu(ad.relu(x @ w1 + b1) @ w2 + b2) @ w3 + b3)[:, 0]
    return ad.relu(1 - y * score).mean() + T1_DECAY * sum((p * p).sum() for p in ps)


def mlp(ps, x, y):
    w1, b1, w2, b2, w3, b3 = ps
    return ad.cross_entropy(ad.relu(ad.relu(x @ w1 + b1) @ w2 + b2) @ w3 + b3, y)


def lenet(ps, x, y):
    k1, c1, k2, c2, *head = ps
    x = ad.max_pool2d(ad.relu(ad.conv2d(x, k1, c1, padding=2)), 2)
    x = ad.max_pool2d(ad.relu(ad.conv2d(x, k2, c2)), 2)
    return mlp(head, x.reshape(len(x), -1), y)


def gpt(ps, x, y):
    emb, pos, g1, b1, qkv, qkv_b, proj, proj_b, g2, b2, up, up_b, down, down_b, g3, b3, head = ps
    B, T, D = *x.shape, emb.shape[1]
    norm = lambda h, g, b: layernorm(h, 1 + g, b)  # noqa: E731
    causal = ad.tril(ad.ones((T, T), dtype=ad.bool_))
    h = emb[x] + pos
    parts = ad.split(norm(h, g1, b1) @ qkv + qkv_b, 3, axis=2)
    q, k, v = (t.reshape(B, T, HEADS, -1).permute(0, 2, 1, 3) for t in parts)
    scores = ad.where(causal, q @ k.mT * q.shape[-1] ** -0.5, -np.inf)
    h = h + (ad.softmax(scores, axis=-1) @ v).permute(0, 2, 1, 3).reshape(B, T, D) @ proj + proj_b
    h = h + gelu(norm(h, g2, b2) @ up + up_b) @ down + down_b
    return ad.cross_entropy(norm(h, g3, b3) @ head, y)


def resnet(ps, x, y):
    def unit(x, i):
        k, g, b = ps[3 * i : 3 * i + 3]
        x = ad.conv2d(x, k, padding=1)
        d = x - x.mean((0, 2, 3), keepdims=True)
        v = ad.square(d).mean((0, 2, 3), keepdims=True)
        return d * ad.rsqrt(v + 1e-5) * (1 + g)[:, None, None] + b[:, None, None]

    x = ad.relu(unit(x, 0))
    for i in 1, 3, 5:
        x = ad.relu(x + unit(ad.relu(unit(x, i)), i + 1))
    return ad.cross_entropy(x.mean((2, 3)) @ ps[-2] + ps[-1], y)


def T1(params, x, y):
    return train(hinge, params, (x, y), lambda t, p, g: (p - T1_LR * g,), 0)


def T2(params, x, y):
    return train(mlp, params, (x, y), sgd, 1)


def T3(params, x, y):
    return train(lenet, params, (x, y), adam, 2)


def T4(params, x, y):
    return train(gpt, params, (x, y), adam, 2)


def T5(params, x, y):
    return train(resnet, params, (x, y), sgd, 1)


# derivatives, indices, calls --------------------------------------------------------------------------------------
def A1(x):
    def f(x):
        return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum() + ad.logsumexp(x)

    return call(ad.hessian(f), x)


def A2(params, x, y):
    def loss(ps, x, y):
        w1, b1, w2, b2 = ps
        return ((ad.tanh(x @ w1 + b1) @ w2 + b2)[0] - y) ** 2

    return call(ad.vmap(ad.grad(loss), (None, 0, 0)), params, x, y)


def A3(params, v, x, y):
    return call(lambda ps, v, x, y: ad.jvp(ad.grad(lambda ps: mlp(ps, x, y)), (ps,), (v,))[1], params, v, x, y)


def A4(x):
    def chain(x):
        y = x
        for _ in range(500):
            y = ad.tanh(y * 0.9 + x) * 1.1
        return y.sum()

    return call(lambda x: [ad.grad(chain)(x)], x)


def A5(x, w, u, b):
    def loss(w, u, b, x):
        xw = x @ w + b
        h = ad.zeros_like(x[0])
        for t in range(x.shape[0]):
            h = ad.tanh(xw[t] + h @ u)
        return (h * h).mean()

    return call(ad.grad(loss, (0, 1, 2)), w, u, b, x)


def G1(e, i, g):
    def both(e, i, g):
        y, pull = ad.vjp(lambda e: e[i], e)
        return y, *pull(g)

    return call(both, e, i, g)


def L3(x, y):
    return call(ad.add, x, y)
