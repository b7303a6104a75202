"""Derivatives and batching of IR graphs, as IR graphs: one table, three readers."""

from .batch import batch
from .forward import tangent
from .reverse import gradient

__all__ = ["batch", "gradient", "tangent"]
