"""Host uids that belong to one server alone: an unbroken stretch of them, held by file locks (root only)."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import pwd
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

UNIT = 1024
"""uids that one lock stands for."""
FOLDER = Path("/run/era/uids")
"""Each file is named by the first of its :data:`UNIT` uids; earlier versions, which took one unit each, did so too."""
FULL_MAP = 1 << 31
FIRST_OF_FULL_MAP = 1_879_048_192
"""Above what systemd-nspawn takes. Source: systemd's UIDS-GIDS page."""
LAST_OF_FULL_MAP = 2_147_000_000
ACCOUNTS = 10_000
"""Where only few uids are mapped, so many of the first ones are left to accounts."""


@dataclass(frozen=True)
class Block:
    """uids ``base`` to ``base + count - 1``, held until :meth:`release` or the end of the process."""

    base: int
    count: int
    locks: tuple[int, ...]

    def release(self) -> None:
        """Let others have them."""
        for lock in self.locks:
            os.close(lock)


def claim(count: int, *, base: int = 0, liked: int = 0) -> Block | None:
    """At least ``count`` uids in whole units that no other server on this machine has; None: there are none.

    Args:
        count: how many are needed.
        base: the first one, if no other will do.
        liked: the first one that is tried before any other.
    """
    count = -(-count // UNIT) * UNIT
    FOLDER.mkdir(parents=True, exist_ok=True, mode=0o755)
    mapped = _ranges(Path("/proc/self/uid_map"))
    chosen = _unused([liked] if liked else [], count)
    for candidate in [base] if base else itertools.chain(chosen, candidates(count, mapped)):
        if any(start <= candidate and candidate + count <= start + length for start, length in mapped):
            locks = _locks(candidate, count)
            if locks is not None:
                return Block(candidate, count, locks)
    return None


def _locks(base: int, count: int) -> tuple[int, ...] | None:
    """Locks of every unit from ``base`` on; None where somebody holds one that these uids reach into."""
    units = range(base, base + count, UNIT)
    with contextlib.ExitStack() as held:
        try:
            locks = tuple(_lock(unit, held) for unit in units)
            # What others chose by hand may begin between two of our units.
            for other in map(int, filter(str.isdecimal, os.listdir(FOLDER))):  # noqa: PTH208 - names, not paths
                if base - UNIT < other < base + count and other not in units:
                    with contextlib.ExitStack() as looked_at:
                        _lock(other, looked_at)
        except BlockingIOError:
            return None
        held.pop_all()
    return locks


def _lock(unit: int, held: contextlib.ExitStack) -> int:
    lock = os.open(FOLDER / str(unit), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    held.callback(os.close, lock)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return lock


def _ranges(path: Path) -> list[tuple[int, int]]:
    """``(start, count)`` of each line of /etc/subuid or a uid_map."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return []
    rows = [line.replace(":", " ").split() for line in lines]
    return [(int(row[-2 if path.name == "subuid" else 0]), int(row[-1])) for row in rows if len(row) >= 3]


def candidates(count: int, mapped: list[tuple[int, int]]) -> Iterator[int]:
    """Bases to try: inside this process's own map, outside of what users and their containers have."""
    if any(start == 0 and length > FULL_MAP for start, length in mapped):
        bases = range(FIRST_OF_FULL_MAP, LAST_OF_FULL_MAP - count, UNIT)
    else:
        start, length = max(mapped, key=lambda row: row[1], default=(0, 0))
        bases = range(start + length - count, start + ACCOUNTS, -UNIT)
    return _unused(bases, count)


def _unused(bases: Iterable[int], count: int) -> Iterator[int]:
    """Those whose uids neither an account nor anybody's containers have."""
    taken = _ranges(Path("/etc/subuid")) + [(entry.pw_uid, 1) for entry in pwd.getpwall()]
    for base in bases:
        if not any(start < base + count and base < start + length for start, length in taken):
            yield base
