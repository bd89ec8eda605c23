"""File locks between processes: held as long as their descriptor is open, so a dead holder never keeps one."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Holds the lock at ``path`` inside the block; waits until whoever has it lets go."""
    lock = _open(path)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def taken(path: Path) -> int | None:
    """A descriptor that holds the lock at ``path`` until it is closed; None when another process has it."""
    lock = _open(path)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock
