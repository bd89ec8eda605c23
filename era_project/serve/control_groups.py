"""Control groups that this server's sandboxes are in, removed with all that still runs in them."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

POLL_S = 0.02
ATTEMPTS = 100


def _mounts() -> Iterator[tuple[Path, set[str]]]:
    """Mount points of control groups with their controllers; version 2 has an empty set."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, target, kind, options, *_ = line.split()
        if kind == "cgroup2":
            yield Path(target), set()
        elif kind == "cgroup":
            yield Path(target), set(options.split(","))


def _own_paths() -> Iterator[tuple[set[str], str]]:
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        yield {name for name in controllers.split(",") if name}, path


def folders(name: str) -> Iterator[Path]:
    """Where a group called ``name`` lies below this process's own, in each hierarchy where it exists."""
    mounts = list(_mounts())
    for controllers, path in _own_paths():
        for target, offered in mounts:
            if controllers <= offered if controllers else not offered:
                folder = target / path.lstrip("/") / name
                if folder.is_dir():
                    yield folder


def clear(name: str) -> None:
    """Kills whatever runs in the group called ``name`` and removes it; without one nothing happens."""
    if not name:
        return
    for folder in list(folders(name)):
        _empty(folder)


def _empty(folder: Path) -> None:
    for _ in range(ATTEMPTS):
        groups = sorted((path for path in (folder, *folder.rglob("*")) if path.is_dir()), reverse=True)
        for group in groups:
            _kill_all(group)
            with contextlib.suppress(OSError):
                group.rmdir()
        if not folder.is_dir():
            return
        time.sleep(POLL_S)


def _kill_all(group: Path) -> None:
    """Frozen processes do not die before they are thawed."""
    for file, text in (("freezer.state", "THAWED"), ("cgroup.kill", "1")):
        with contextlib.suppress(OSError):
            if (group / file).exists():
                (group / file).write_text(text)
    with contextlib.suppress(OSError):
        for pid in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                os.kill(int(pid), signal.SIGKILL)
