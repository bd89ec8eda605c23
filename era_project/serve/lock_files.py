"""The lock files that a killed PostgreSQL left: the next one would take a zombie for a living server."""

from __future__ import annotations

import time
from pathlib import Path

from era_project.serve import records

SHARED_MEMORY = Path("/proc/sysvipc/shm")
MEMORY_LINE = 6
"""Source: src/include/utils/pidfile.h of PostgreSQL, LOCK_FILE_LINE_SHMEM_KEY is line 7: the segment's key and id."""
BACKENDS_END_S = 3.0
"""Backends hear of the postmaster's death from the kernel and end within milliseconds, unless they compute."""
POLL_S = 0.02


def clear(data: Path, sockets: Path, *, within_s: float = BACKENDS_END_S) -> None:
    """Removes the lock files of a PostgreSQL that is dead, with all its backends; the caller holds the state's lock.

    PostgreSQL asks ``kill(pid, 0)``, which is true of a zombie, and a container's first process may never reap one.
    The files stay while their process lives, and when a backend does after ``within_s``: PostgreSQL then refuses.
    """
    lock = data / "postmaster.pid"
    if _is_dead(lock) and _have_ended(lock, within_s):
        lock.unlink()
    for lock in sockets.glob(".s.PGSQL.*.lock"):
        if _is_dead(lock):
            lock.unlink()


def _lines(lock: Path) -> list[str]:
    try:
        return lock.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []


def _is_dead(lock: Path) -> bool:
    """Whether the file names a process, and that one is gone or a zombie."""
    pid = next(iter(_lines(lock)), "").strip().removeprefix("-")  # negative: a PostgreSQL without postmaster
    return pid.isdecimal() and not records.is_running(int(pid))


def _have_ended(lock: Path, within_s: float) -> bool:
    """Whether no process uses the shared memory that the file names, or stops to."""
    lines = _lines(lock)
    memory = lines[MEMORY_LINE].split() if len(lines) > MEMORY_LINE else []
    deadline = time.monotonic() + within_s
    while _is_attached(memory):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def _is_attached(memory: list[str]) -> bool:
    """Where the kernel does not list its segments it is PostgreSQL, not this, that finds a segment in use."""
    try:
        listed = SHARED_MEMORY.read_text().splitlines()[1:]
    except OSError:
        return False
    segments = (line.split() for line in listed)
    return any(_named(fields[:2]) == _named(memory) and int(fields[6]) > 0 for fields in segments)


def _named(words: list[str]) -> list[int]:
    """Key and id of a segment: the key has 32 bits, which one writes with a sign and the other extended to 64."""
    return [int(word) & 0xFFFFFFFF for word in words if word.lstrip("-").isdecimal()]
