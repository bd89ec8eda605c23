"""Host uids that belong to one server alone: a block of 1,024, held by a file lock (root only)."""

from __future__ import annotations

import itertools
import pwd
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from era_project.serve import locks
from era_project.serve.failures import CannotServe

BLOCK = 1024
FOLDER = Path("/run/era/uids")
FULL_MAP = 1 << 31
FIRST_OF_FULL_MAP = 1_879_048_192
"""Above what systemd-nspawn takes. Source: systemd's UIDS-GIDS page."""
LAST_OF_FULL_MAP = 2_147_000_000
FIRST_SLOT = 16


class UidsError(CannotServe):
    """No block of uids can be had; the text is one sentence with the remedy."""


@dataclass(frozen=True)
class UidBlock:
    """The uids of one server; ``lock`` is the descriptor that holds them."""

    base: int
    lock: int

    @property
    def postgres(self) -> int:
        """Uid of PostgreSQL."""
        return self.base

    @property
    def valkey(self) -> int:
        """Uid of Valkey."""
        return self.base + 1

    @property
    def web(self) -> int:
        """Uid of the web processes and of beat; also the group that all parts share."""
        return self.base + 2

    @property
    def slots(self) -> int:
        """First uid of the sandboxes."""
        return self.base + FIRST_SLOT

    @property
    def slot_count(self) -> int:
        """Number of uids from :attr:`slots` on."""
        return BLOCK - FIRST_SLOT


def claim(base: int = 0, *, liked: int = 0) -> UidBlock:
    """A block that no other server on this machine has; ``base`` asks for a certain one, ``liked`` is tried first.

    Raises:
        UidsError: it is taken, or there is none.
    """
    FOLDER.mkdir(parents=True, exist_ok=True, mode=0o755)
    for candidate in [base] if base else itertools.chain([liked] if liked else [], _candidates()):
        lock = locks.taken(FOLDER / str(candidate))
        if lock is not None:
            return UidBlock(candidate, lock)
    raise UidsError(f"The uids from {base} are in use: set ERA_UID_BASE to another base." if base else _NONE_LEFT)


_NONE_LEFT = "No block of 1,024 free uids is left here: stop another server or set ERA_UID_BASE."


def _ranges(path: Path) -> list[tuple[int, int]]:
    """``(start, count)`` of each line of /etc/subuid or a uid_map."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return []
    rows = [line.replace(":", " ").split() for line in lines]
    return [(int(row[-2 if path.name == "subuid" else 0]), int(row[-1])) for row in rows if len(row) >= 3]


def _candidates() -> Iterator[int]:
    """Bases to try: inside this process's own map, outside of what users and their containers have."""
    mapped = _ranges(Path("/proc/self/uid_map"))
    if any(start == 0 and count > FULL_MAP for start, count in mapped):
        bases = range(FIRST_OF_FULL_MAP, LAST_OF_FULL_MAP, BLOCK)
    else:
        start, count = max(mapped, key=lambda row: row[1], default=(0, 0))
        bases = range(start + count - BLOCK, start + 10_000, -BLOCK)
    taken = _ranges(Path("/etc/subuid")) + [(entry.pw_uid, 1) for entry in pwd.getpwall()]
    for base in bases:
        if not any(start < base + BLOCK and base < start + count for start, count in taken):
            yield base
