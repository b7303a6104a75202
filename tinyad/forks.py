"""Locks across `fork`: a child has only the thread that forked, so what other threads held nobody would release.

The lock of shared data is taken by the fork itself: the data is whole in the child. One held for long, as long as a
call of the user's function, cannot be waited for: its owner gets a new one in the child.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Final, Protocol


class Owner(Protocol):
    """Something with a lock of its own, which `renew_lock` makes or replaces."""

    def renew_lock(self) -> None: ...


_owners: Final["weakref.WeakSet[Owner]"] = weakref.WeakSet()


def taken(lock: "threading.Lock | threading.RLock") -> None:
    """Forks from now on wait for `lock`; it is free afterwards in both processes."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)


def renewed(owner: Owner) -> None:
    """Gives `owner` its lock, and a new one in each child."""
    owner.renew_lock()
    _owners.add(owner)


def _renew() -> None:
    for owner in list(_owners):
        owner.renew_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
