"""The layers. Shapes are PyTorch's: weights ``[out, in, *window]``, images ``[batch, channels, height, width]``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from ..tensor import Tensor
from . import functional as F
from . import init
from .module import Module


class Linear(Module):
    """``x @ weight.T + bias``: [.., in_features] -> [.., out_features]; both begin uniform in ±1/√in_features."""

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, dtype: Any = float, rng: Any = None
    ) -> None:
        bound = 1.0 / math.sqrt(max(in_features, 1))
        self.weight = init.uniform((out_features, in_features), -bound, bound, dtype, rng)
        self.bias = init.uniform((out_features,), -bound, bound, dtype, rng) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x @ self.weight.T
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        outputs, inputs = self.weight.shape
        return f"in_features={inputs}, out_features={outputs}, bias={self.bias is not None}"


class Conv2d(Module):
    """Cross-correlation: [batch, in_channels, h, w] -> [batch, out_channels, h', w'].

    `kernel_size`, `stride`, `padding` and `dilation` are ints or (height, width). Weight
    ``[out_channels, in_channels / groups, *kernel_size]`` and bias begin uniform in ±1/√fan_in.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        dtype: Any = float,
        rng: Any = None,
    ) -> None:
        if in_channels % groups or out_channels % groups:
            raise ValueError(f"Conv2d: {in_channels} and {out_channels} channels do not split into {groups} groups")
        window = (kernel_size, kernel_size) if isinstance(kernel_size, int) else tuple(kernel_size)
        shape = (out_channels, in_channels // groups, *window)
        bound = 1.0 / math.sqrt(init.fans(shape)[0])
        self.weight = init.uniform(shape, -bound, bound, dtype, rng)
        self.bias = init.uniform((out_channels,), -bound, bound, dtype, rng) if bias else None
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = F.conv2d(
            x, self.weight, self.bias, stride=self.stride, padding=self.padding, dilation=self.dilation,
            groups=self.groups,
        )  # fmt: skip
        return y

    def extra_repr(self) -> str:
        outputs, inputs, *window = self.weight.shape
        return (
            f"{inputs * self.groups}, {outputs}, kernel_size={tuple(window)}, stride={self.stride}, "
            f"padding={self.padding}, dilation={self.dilation}, groups={self.groups}, bias={self.bias is not None}"
        )


class MaxPool2d(Module):
    """The greatest value of each window: [batch, channels, h, w] -> [batch, channels, h', w']."""

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = F.max_pool2d(x, self.kernel_size, stride=self.stride, padding=self.padding)
        return y

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class LayerNorm(Module):
    """``(x - mean) / √(var + eps) · weight + bias`` over the last axes, whose sizes are `normalized_shape`."""

    def __init__(self, normalized_shape: int | Sequence[int], eps: float = 1e-5, dtype: Any = float) -> None:
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.weight = init.ones(shape, dtype)
        self.bias = init.zeros(shape, dtype)
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        shape = self.weight.shape
        if x.shape[x.ndim - len(shape) :] != shape:
            raise ValueError(f"LayerNorm: expected the last axes to be {shape}, got an input of shape {x.shape}")
        axes = tuple(range(-len(shape), 0))
        centered = x - F.mean(x, axis=axes, keepdims=True)
        variance = F.mean(centered * centered, axis=axes, keepdims=True)
        y: Tensor = centered / F.sqrt(variance + self.eps) * self.weight + self.bias
        return y

    def extra_repr(self) -> str:
        return f"{self.weight.shape}, eps={self.eps}"


class Flatten(Module):
    """All axes from `start_axis` to `end_axis` as one."""

    def __init__(self, start_axis: int = 1, end_axis: int = -1) -> None:
        self.start_axis = start_axis
        self.end_axis = end_axis

    def forward(self, x: Tensor) -> Tensor:
        first, last = self.start_axis % x.ndim, self.end_axis % x.ndim
        y: Tensor = x.reshape(*x.shape[:first], math.prod(x.shape[first : last + 1]), *x.shape[last + 1 :])
        return y


class ReLU(Module):
    """``max(x, 0)``, derivative 0 at 0."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = F.relu(x)
        return y


class Tanh(Module):
    """``tanh(x)``."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = F.tanh(x)
        return y


class Sigmoid(Module):
    """``1 / (1 + exp(-x))``."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = F.sigmoid(x)
        return y


class GELU(Module):
    """``x · Φ(x)``, Φ the normal distribution; `approximate` is "none" or "tanh"."""

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = F.gelu(x, approximate=self.approximate)
        return y

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class Sequential(Module):
    """Modules applied one after the other; it can be indexed, sliced and iterated over."""

    def __init__(self, *layers: Module) -> None:
        vars(self).update({str(i): layer for i, layer in enumerate(layers)})  # named as PyTorch names them

    def forward(self, x: Any) -> Any:
        for layer in self:
            x = layer(x)
        return x

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __getitem__(self, index: int | slice) -> Module:
        layers = list(iter(self))
        return Sequential(*layers[index]) if isinstance(index, slice) else layers[index]

    def __iter__(self) -> Iterator[Module]:
        return (x for k, x in vars(self).items() if k.isdigit())
