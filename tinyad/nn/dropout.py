"""`Dropout`: each element is zeroed by chance while training."""

from __future__ import annotations

from .. import random
from ..tensor import Tensor
from . import functional as F
from .module import Module


class Dropout(Module):
    """In training each element is 0 with probability `p`, else divided by 1 - p; in evaluation the input itself.

    The choice is drawn from `rng`, a ``tinyad.random.Generator`` (None: the default one), anew at each call, also in a
    function compiled by `ad.jit`. Source: Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov, Dropout (2014).
    """

    def __init__(self, p: float = 0.5, rng: random.Generator | None = None) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
        self.p = p
        self.rng = rng

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        keep = 1.0 - self.p
        kept = random.bernoulli(x.shape, keep) if self.rng is None else self.rng.bernoulli(keep, x.shape)
        y: Tensor = F.where(kept, x / keep if keep else x, 0.0)
        return y

    def extra_repr(self) -> str:
        return f"p={self.p}"
