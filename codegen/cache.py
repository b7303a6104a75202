"""Object code kept on disk between processes. Nothing here knows LLVM: an entry is some integers and some bytes.

The directory is trusted with code that will run, so it must belong to the user and be writable by nobody else, and so
must every entry. An entry carries the digest of its content and the key it was stored under; whatever does not match is
removed and counts as absent. Entries appear whole (a temporary file, renamed), so several processes may share a
directory; the ones used least recently go when it outgrows its bound.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

MAGIC: Final = b"tinyad\x00\x01"
_FIXED: Final = struct.Struct("<8s32s32sI")  # magic, digest of all that follows it, key, number of facts
_DIGEST_END: Final = 40
KEEP: Final = 0.75  # of the bound remains after entries are removed
STALE: Final = 3600  # seconds after which a temporary file is what a killed process left behind
_FLAGS: Final = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


class Refused(Exception):
    """A directory that cannot hold code; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is kept of one kernel: a few integers about it and its object file."""

    facts: tuple[int, ...]
    image: bytes


def digest(parts: Sequence[str]) -> bytes:
    """The key of an entry made from `parts`; no two lists of strings share one."""
    h = hashlib.sha256()
    for part in parts:
        data = part.encode()
        h.update(len(data).to_bytes(8, "little"))
        h.update(data)
    return h.digest()


@cache
def source() -> str:
    """The digest of this package's source: code that a different code generator made is never found."""
    parts = []
    for path in sorted(Path(__file__).parent.glob("*.py")):
        parts += [path.name, path.read_text("utf-8")]
    return digest(parts).hex()


class Disk:
    """A directory of entries that takes at most `limit` bytes, made if it is not there; `Refused` if it is unsafe."""

    def __init__(self, directory: str | Path, limit: int = 256 << 20) -> None:
        self.directory = Path(directory)
        self.limit = limit
        self._lock = threading.Lock()
        self._bytes: int | None = None  # None until the first entry is stored; other processes add unseen
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = os.stat(self.directory)
        except OSError as e:
            raise Refused(f"{self.directory}: {e.strerror}") from None
        if not _ours(found):
            raise Refused(f"{self.directory}: expected a directory that only its owner, this user, can write to")

    def load(self, key: bytes) -> Entry | None:
        """The entry under `key`; None if there is none or it is not exactly what was stored."""
        path = self._path(key)
        try:
            fd = os.open(path, _FLAGS)
        except OSError:
            return None
        try:
            with open(fd, "rb") as file:
                found = os.fstat(fd)
                whole = stat.S_ISREG(found.st_mode) and _ours(found) and found.st_size <= self.limit
                entry = _decode(key, file.read()) if whole else None
        except OSError:
            return None
        with suppress(OSError):  # where nothing can be written, entries are used all the same
            if entry is None:
                os.unlink(path)
            else:
                os.utime(path)
        return entry

    def store(self, key: bytes, entry: Entry) -> None:
        """Keeps `entry`. A directory that cannot be written to (full, read-only) is no error: nothing is kept."""
        data = _encode(key, entry)
        if len(data) > self.limit:
            return
        with self._lock:
            try:
                self._write(self._path(key), data)
                if self._bytes is None:
                    self._bytes = sum(size for _, size, _ in self._entries())
                else:
                    self._bytes += len(data)
                if self._bytes > self.limit:
                    self._shrink()
            except OSError:
                return

    def _path(self, key: bytes) -> str:
        return os.path.join(self.directory, key.hex())

    def _write(self, path: str, data: bytes) -> None:
        fd, temporary = tempfile.mkstemp(".tmp", dir=self.directory)
        try:
            with open(fd, "wb") as file:
                file.write(data)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise

    def _entries(self) -> list[tuple[float, int, str]]:
        """Time of last use, bytes and path of each entry; removes temporary files that were left behind."""
        found = []
        with os.scandir(self.directory) as files:
            for file in files:
                try:
                    facts = file.stat(follow_symlinks=False)
                    if not file.name.endswith(".tmp"):
                        found.append((facts.st_mtime, facts.st_size, file.path))
                    elif facts.st_mtime < time.time() - STALE:
                        os.unlink(file.path)
                except FileNotFoundError:  # another process was faster
                    continue
        return found

    def _shrink(self) -> None:
        entries = sorted(self._entries())
        left = sum(size for _, size, _ in entries)
        for _, size, path in entries:
            if left <= self.limit * KEEP:
                break
            with suppress(FileNotFoundError):
                os.unlink(path)
            left -= size
        self._bytes = left


def _ours(found: os.stat_result) -> bool:
    """Whether a file belongs to this user and nobody else can write to it."""
    if not hasattr(os, "geteuid"):  # Windows: a profile's directories are private by its access lists
        return True
    return found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _encode(key: bytes, entry: Entry) -> bytes:
    facts = struct.pack(f"<{len(entry.facts)}q", *entry.facts)
    rest = key + struct.pack("<I", len(entry.facts)) + facts + entry.image
    return MAGIC + hashlib.sha256(rest).digest() + rest


def _decode(key: bytes, data: bytes) -> Entry | None:
    if len(data) < _FIXED.size:
        return None
    magic, check, stored, count = _FIXED.unpack_from(data)
    if magic != MAGIC or stored != key or hashlib.sha256(memoryview(data)[_DIGEST_END:]).digest() != check:
        return None
    facts = struct.unpack_from(f"<{count}q", data, _FIXED.size)
    return Entry(facts, data[_FIXED.size + 8 * count :])
