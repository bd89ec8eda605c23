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


def places(name: str) -> Iterator[Path]:
    """Where a group called ``name`` may lie: below this process's own, in each hierarchy."""
    mounts = list(_mounts())
    for controllers, path in _own_paths():
        for target, offered in mounts:
            if controllers <= offered if controllers else not offered:
                yield target / path.lstrip("/") / name


def folders(name: str) -> Iterator[Path]:
    """Those of :func:`places` that exist."""
    return (folder for folder in places(name) if folder.is_dir())


def clear(name: str, *, note: Path | None = None) -> None:
    """Kills whatever runs in the group called ``name`` and removes it; without one nothing happens.

    ``note`` keeps the places for the next start, which may itself begin in another group.
    """
    noted = [Path(line) for line in note.read_text().splitlines()] if note and note.exists() else []
    here = list(places(name))
    for folder in {*noted, *here}:
        if folder.name == name and folder.is_dir():
            _empty(folder)
    if note:
        note.write_text("".join(f"{folder}\n" for folder in here))


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
