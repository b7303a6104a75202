"""Derivatives and batching of IR graphs, as IR graphs: one table, three readers."""

from .reverse import gradient

__all__ = ["gradient"]
