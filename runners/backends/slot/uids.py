"""Host uids of a runner's own: a block that no other runner on this host uses."""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

BLOCK = 1024
"""uids a runner."""
LOCKS = Path("/run/era/uids")
_FIRST_WIDE = 1_900_000_000
"""Beyond useradd's sub-uids and nspawn's containers (524,288 to 1,879,048,191)."""
_BLOCKS = 256
_WIDE = 1 << 31


@dataclass
class Block:
    """uids ``base`` to ``base + count - 1``, held until `release` or the end of the process."""

    base: int
    count: int
    lock: int

    def release(self) -> None:
        """Let others have it."""
        os.close(self.lock)


def claim() -> Block:
    """A free block inside this process's own uid map.

    Raises:
        OSError: All are taken, or the map has no room.
    """
    first, blocks = _range()
    LOCKS.mkdir(parents=True, exist_ok=True, mode=0o755)
    for number in range(blocks):
        base = first + number * BLOCK
        lock = os.open(LOCKS / str(base), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        return Block(base, BLOCK, lock)
    raise OSError("every block of host uids is taken by another server")


def _range() -> tuple[int, int]:
    """First base and number of blocks; a container often maps 65,536 uids only."""
    stretches = [tuple(map(int, line.split())) for line in Path("/proc/self/uid_map").read_text().splitlines()]
    end = max(inside + length for inside, _, length in stretches)
    if end >= _WIDE:
        return _FIRST_WIDE, _BLOCKS
    last = (end - 1000) // BLOCK
    count = max(0, min(_BLOCKS, last - 8))
    if not count:
        raise OSError("this process's uid map has no room for the sandboxes' uids")
    return (last - count) * BLOCK, count
