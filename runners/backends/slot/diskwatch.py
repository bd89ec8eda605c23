"""Size of a session's folder while code may work in it: a file system of ours has no limit of its own there."""

from __future__ import annotations

import contextlib
import os
import time

from runners.tree import open_folder
from runners.types import Limits, Status

PAUSE_S = 0.25
EXACT_PAUSE_S = 1.0
DEPTH_MAX = 128
HOST_RESERVE_BYTES = 256 << 20
"""Below this much free space on the host every folder that may have grown is measured, and large ones have to go."""
_SUSPECT_SHARE = 16
"""Growth of the whole file system by this part of the limit is reason for an exact look; a large folder holds more."""
_SECTOR_BYTES = 512
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_HELD_IN = ("fd", "map_files")

Stop = tuple[Status, str]
"""Why a run has to end."""


class DiskWatch:
    """Looks at one folder. Of a kept sandbox it lasts as long: what grows a little in each run grows too."""

    def __init__(self, folder: str, limits: Limits, proc: int = -1) -> None:
        """Begin.

        Args:
            folder: The session's, by a path that nobody else can change.
            limits: How much may lie there.
            proc: Descriptor of the /proc of those who work there.
        """
        self._folder, self._limits, self._proc = folder, limits, proc
        self._bytes, self._files, _ = self._used()
        self._next_s = time.monotonic() + PAUSE_S
        self._next_exact_s = 0.0

    def look(self) -> Stop | None:
        """Why they have to end, or None; nearly always three comparisons."""
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
        self._bytes, self._files = used_bytes, files
        reason = self.excess(is_full=free_bytes < HOST_RESERVE_BYTES)
        self._next_exact_s = time.monotonic() + max(EXACT_PAUSE_S, 10 * (time.monotonic() - now_s))
        return (Status.FAILED, reason) if reason else None

    def excess(self, *, is_full: bool = False) -> str | None:
        """An exact look: what there is too much of.

        Args:
            is_full: The host's disk has hardly any room left.
        """
        self._measure()
        if self._size > self._limits.workspace_bytes:
            return f"Its workspace grew over {self._limits.workspace_bytes >> 20} MiB."
        if self._count > self._limits.workspace_files:
            return f"Its workspace grew over {self._limits.workspace_files} files."
        if self._is_too_deep:
            return f"Its workspace has more than {DEPTH_MAX} folders below each other."
        if is_full and self._size > self._limits.workspace_bytes // _SUSPECT_SHARE:
            return "The host's disk is nearly full."
        return None

    def _used(self) -> tuple[int, int, int]:
        """Bytes and inodes in use on the whole file system, and bytes that are free."""
        figures = os.statvfs(self._folder)
        used = (figures.f_blocks - figures.f_bfree) * figures.f_frsize
        return used, figures.f_files - figures.f_ffree, figures.f_bavail * figures.f_frsize

    def _measure(self) -> None:
        """Bytes on disk and number of entries below the folder, counted no further than the limits."""
        self._size = self._count = 0
        self._is_too_deep = False
        root = os.open(self._folder, _FOLDER)
        try:
            self._add(root, 0)
            if self._proc >= 0:
                self._size += sum(_deleted(self._proc, os.fstat(root).st_dev).values())
        finally:
            os.close(root)

    def _add(self, folder: int, depth: int) -> None:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                    self._count += 1
                    self._size += status.st_blocks * _SECTOR_BYTES
                    if self._count > self._limits.workspace_files:
                        return
                    if entry.is_dir(follow_symlinks=False):
                        self._enter(folder, entry.name, depth)
                except OSError:
                    continue  # it vanished under our eyes

    def _enter(self, folder: int, name: str, depth: int) -> None:
        if depth >= DEPTH_MAX:
            self._is_too_deep = True
            return
        inner = open_folder(folder, (name,))
        try:
            self._add(inner, depth + 1)
        finally:
            os.close(inner)


def _deleted(proc: int, device: int) -> dict[int, int]:
    """Inode -> bytes of files of ``device`` that have no name any more and live on open or mapped."""
    found: dict[int, int] = {}
    for pid in os.listdir(proc):
        if pid.isdecimal():
            for place in _HELD_IN:
                with contextlib.suppress(OSError):  # it is gone, or not ours to look at
                    _add_deleted(os.open(f"{pid}/{place}", _FOLDER, dir_fd=proc), device, found)
    return found


def _add_deleted(folder: int, device: int, found: dict[int, int]) -> None:
    """Look at what one process holds; closes ``folder``. A status is all that is asked for: nothing is opened."""
    try:
        for name in os.listdir(folder):
            with contextlib.suppress(OSError):
                status = os.stat(name, dir_fd=folder)
                if not status.st_nlink and status.st_dev == device:
                    found[status.st_ino] = status.st_blocks * _SECTOR_BYTES
    finally:
        os.close(folder)
