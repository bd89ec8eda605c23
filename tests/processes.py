"""What comes of a process."""

from __future__ import annotations

import contextlib
from pathlib import Path


def children(pid: int) -> list[int]:
    """Pids of a process's children, whichever of its threads made them."""
    found = []
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread has just ended
            found += [int(word) for word in listed.read_text().split()]
    return found


def descendants(pid: int) -> list[int]:
    """Pids of its children and of all that came of them, a parent before its own."""
    return [each for child in children(pid) for each in (child, *descendants(child))]
