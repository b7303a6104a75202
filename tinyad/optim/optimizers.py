"""The optimizers. `step` assigns new values to all parameters and to its own state, and computes them in one plan.

An assigned value is a fresh leaf without history, so memory and time of a step stay constant. Rates and decays are
plain attributes: they reach the kernels as parameters, so changing one compiles nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from ..tensor import Tensor, no_grad
from ..transforms.tracing import valueless


class Optimizer:
    """Base: `update` of a subclass assigns one parameter's new value."""

    lr: float

    def __init__(self, parameters: Iterable[Tensor], lr: float) -> None:
        self.parameters = list(parameters)
        if not self.parameters:
            raise ValueError(f"{type(self).__name__} got an empty parameter list")
        for p in self.parameters:
            if not isinstance(p, Tensor) or not p.requires_grad:
                got = f"a tensor of shape {p.shape} without it" if isinstance(p, Tensor) else type(p).__name__
                raise ValueError(f"{type(self).__name__} updates tensors made with requires_grad=True, got {got}")
        if lr < 0:
            raise ValueError(f"{type(self).__name__}: lr must not be negative, got {lr}")
        self.lr = lr
        self.steps = 0  # taken so far
        self._state: list[dict[str, Tensor]] = [{} for _ in self.parameters]

    def state(self, i: int, name: str) -> Tensor:
        """The state `name` of parameter `i`, of its shape and dtype; zeros when first asked for."""
        states = self._state[i]
        if name not in states:
            p = self.parameters[i]
            states[name] = Tensor(np.zeros(p.shape, p.dtype))
        return states[name]

    def zero_grad(self) -> None:
        """Forgets the gradients of all parameters."""
        for p in self.parameters:
            p.grad = None

    def step(self) -> None:
        """Updates every parameter that has a gradient, and computes all of them and the state at once.

        Inside a function traced without values (`vmap`) nothing is computed.
        """
        self.steps += 1
        touched: list[Tensor] = []
        with no_grad():
            for i, p in enumerate(self.parameters):
                if p.grad is not None:
                    self.update(i, p, p.grad)
                    touched += (p, *self._state[i].values())
        if touched and not valueless():
            from ..realize import realize

            realize([t.node for t in touched])

    def update(self, i: int, p: Tensor, g: Tensor) -> None:
        """Assigns the new value of parameter number `i`, `p`, whose gradient is `g`, and its state."""
        raise NotImplementedError(f"{type(self).__name__} does not define update")


class SGD(Optimizer):
    """``v = momentum·v + g; p -= lr·v``; with `nesterov`, ``p -= lr·(g + momentum·v)``; g includes weight_decay·p.

    Source: Sutskever, Martens, Dahl, Hinton, On the importance of initialization and momentum in deep learning (2013),
    in PyTorch's form.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 1e-3,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, lr)
        if nesterov and momentum <= 0:
            raise ValueError("SGD: nesterov needs a momentum")
        self.momentum = momentum
        self.nesterov = nesterov
        self.weight_decay = weight_decay

    def update(self, i: int, p: Tensor, g: Tensor) -> None:
        if self.weight_decay:
            g = g + self.weight_decay * p
        if self.momentum:
            v = self.state(i, "velocity")
            v.assign(self.momentum * v + g)
            g = g + self.momentum * v if self.nesterov else v
        p.assign(p - self.lr * g)


class Adam(Optimizer):
    """``m = β₁m + (1-β₁)g; v = β₂v + (1-β₂)g²; p -= lr·m̂ / (√v̂ + eps)``, m̂ and v̂ corrected for their start at 0.

    `weight_decay` adds weight_decay·p to g. Source: Kingma, Ba, Adam (2015), algorithm 1.
    """

    decoupled = False

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, lr)
        if not all(0 <= b < 1 for b in betas):
            raise ValueError(f"{type(self).__name__}: betas must lie in [0, 1), got {betas}")
        self.betas = betas
        self.eps = eps
        self.weight_decay = weight_decay

    def update(self, i: int, p: Tensor, g: Tensor) -> None:
        b1, b2 = self.betas
        decay = 1.0
        if self.weight_decay and self.decoupled:
            decay = 1.0 - self.lr * self.weight_decay
        elif self.weight_decay:
            g = g + self.weight_decay * p
        m, v = self.state(i, "mean"), self.state(i, "square")
        m.assign(b1 * m + (1 - b1) * g)
        v.assign(b2 * v + (1 - b2) * (g * g))
        # lr·(m/c₁) / (√(v/c₂) + eps) = (lr·√c₂/c₁)·m / (√v + eps·√c₂): no factor tends to 1, a literal of the kernel
        root = math.sqrt(1 - b2**self.steps)
        rate = self.lr * root / (1 - b1**self.steps)
        move = rate * m / (v.sqrt() + self.eps * root)
        p.assign((p if decay == 1.0 else decay * p) - move)


class AdamW(Adam):
    """Adam with decoupled weight decay: ``p *= 1 - lr·weight_decay`` beside the step.

    Source: Loshchilov, Hutter, Decoupled weight decay regularization (2019), algorithm 2.
    """

    decoupled = True

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(parameters, lr, betas, eps, weight_decay)
