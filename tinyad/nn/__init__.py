"""Modules: what models are built from. Parameters are ordinary tensors with ``requires_grad=True``."""

from . import functional, init
from .dropout import Dropout
from .layers import GELU, Conv2d, Flatten, LayerNorm, Linear, MaxPool2d, ReLU, Sequential, Sigmoid, Tanh
from .module import Module

__all__ = [
    "GELU",
    "Conv2d",
    "Dropout",
    "Flatten",
    "LayerNorm",
    "Linear",
    "MaxPool2d",
    "Module",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Tanh",
    "functional",
    "init",
]
