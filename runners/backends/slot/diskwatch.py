"""Size of a session's folder while code works in it: a file system of ours has no limit of its own there."""

from __future__ import annotations

import os
import time

from runners.tree import open_folder
from runners.types import Limits, Status

PAUSE_S = 0.25
EXACT_PAUSE_S = 1.0
DEPTH_MAX = 128
HOST_RESERVE_BYTES = 256 << 20
"""Below this much free space on the host every run that grows is measured."""
_SUSPECT_SHARE = 16
"""Growth of the whole file system by this part of the limit is reason for an exact look."""
_SECTOR_BYTES = 512

Stop = tuple[Status, str]
"""Why a run has to end."""


class DiskWatch:
    """Looks at one run's folder."""

    def __init__(self, folder: str, limits: Limits) -> None:
        """``folder`` is the session's, by a path that nobody else can change."""
        self._folder, self._limits = folder, limits
        self._bytes, self._files, _ = self._used()
        self._next_s = time.monotonic() + PAUSE_S
        self._next_exact_s = 0.0

    def look(self) -> Stop | None:
        """Why the run has to end, or None; nearly always three comparisons."""
        now_s = time.monotonic()
        if now_s < self._next_s:
            return None
        self._next_s = now_s + PAUSE_S
        used_bytes, files, free_bytes = self._used()
        grown = (
            used_bytes - self._bytes > self._limits.workspace_bytes // _SUSPECT_SHARE
            or files - self._files > self._limits.workspace_files // _SUSPECT_SHARE
            or (free_bytes < HOST_RESERVE_BYTES and used_bytes > self._bytes)
        )
        if not grown or now_s < self._next_exact_s:
            return None
        size, count = self._measure()
        self._next_exact_s = time.monotonic() + max(EXACT_PAUSE_S, 10 * (time.monotonic() - now_s))
        if size > self._limits.workspace_bytes:
            return Status.FAILED, f"Its workspace grew over {self._limits.workspace_bytes >> 20} MiB."
        if count > self._limits.workspace_files:
            return Status.FAILED, f"Its workspace grew over {self._limits.workspace_files} files."
        if free_bytes < HOST_RESERVE_BYTES:
            return Status.FAILED, "The host's disk is nearly full."
        return None

    def _used(self) -> tuple[int, int, int]:
        """Bytes and inodes in use on the whole file system, and bytes that are free."""
        figures = os.statvfs(self._folder)
        used = (figures.f_blocks - figures.f_bfree) * figures.f_frsize
        return used, figures.f_files - figures.f_ffree, figures.f_bavail * figures.f_frsize

    def _measure(self) -> tuple[int, int]:
        """Bytes on disk and number of entries below the folder, counted no further than the limits."""
        self._size = self._count = 0
        root = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            self._add(root, 0)
        finally:
            os.close(root)
        return self._size, self._count

    def _add(self, folder: int, depth: int) -> None:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                    self._count += 1
                    self._size += status.st_blocks * _SECTOR_BYTES
                    if self._count > self._limits.workspace_files:
                        return
                    if entry.is_dir(follow_symlinks=False) and depth < DEPTH_MAX:
                        self._enter(folder, entry.name, depth)
                except OSError:
                    continue  # it vanished under our eyes

    def _enter(self, folder: int, name: str, depth: int) -> None:
        inner = open_folder(folder, (name,))
        try:
            self._add(inner, depth + 1)
        finally:
            os.close(inner)
