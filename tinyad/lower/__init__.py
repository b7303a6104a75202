"""A group of the partition as one kernel of loop IR: the only place that knows both worlds."""

from .recall import Recall
from .walk import Lowered

__all__ = ["Lowered", "Recall"]
