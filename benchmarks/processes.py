"""What the server's processes use, by part, read from /proc: CPU time, memory, descriptors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
TICKS = os.sysconf("SC_CLK_TCK")
PARTS = ("web", "worker", "slots", "postgres", "valkey", "other")
"""``slots`` is everything below the worker; ``other`` is the supervisor and what is not known."""


@dataclass(frozen=True)
class Process:
    """One line of the process table; times in seconds, ``reaped_s`` is what ended children used."""

    pid: int
    parent: int
    own_s: float
    reaped_s: float
    command: str


@dataclass
class Usage:
    """Seconds of CPU or bytes of memory by part."""

    by_part: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))

    @property
    def total(self) -> float:
        """The sum over all parts."""
        return sum(self.by_part.values())

    def minus(self, earlier: Usage) -> Usage:
        """What was used since ``earlier``."""
        return Usage({part: self.by_part[part] - earlier.by_part[part] for part in PARTS})


def _read(pid: int) -> Process | None:
    folder = Path("/proc") / str(pid)
    try:
        stat = (folder / "stat").read_text()
        command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return None
    numbers = stat.rsplit(")", 1)[1].split()
    own, reaped = (int(numbers[i]) + int(numbers[i + 1]) for i in (11, 13))
    return Process(pid, int(numbers[1]), own / TICKS, reaped / TICKS, command)


def tree(root: int) -> list[tuple[str, Process]]:
    """All processes below and with ``root``, each with its part."""
    table = [p for folder in Path("/proc").iterdir() if folder.name.isdigit() and (p := _read(int(folder.name)))]
    children: dict[int, list[Process]] = {}
    for process in table:
        children.setdefault(process.parent, []).append(process)
    found: list[tuple[str, Process]] = []
    waiting = [("other", process) for process in table if process.pid == root]
    while waiting:
        part, process = waiting.pop()
        part = _part(part, process)
        found.append((part, process))
        below = "slots" if part in ("worker", "slots") else part
        waiting += [(below, child) for child in children.get(process.pid, [])]
    return found


def _part(inherited: str, process: Process) -> str:
    if inherited != "other":
        return inherited
    words = process.command.split()
    program = words[0].rsplit("/", 1)[-1] if words else ""
    if program.startswith("postgres"):
        return "postgres"
    if program.startswith("valkey"):
        return "valkey"
    known = [part for part in ("web", "worker") if any(word.rsplit(".", 1)[-1] == part for word in words)]
    return known[0] if known else "other"


def cpu(root: int) -> Usage:
    """CPU seconds used so far by part, ended children included."""
    usage = Usage()
    for part, process in tree(root):
        usage.by_part[part] += process.own_s
        usage.by_part["slots" if part == "worker" else part] += process.reaped_s
    return usage


def memory(root: int) -> Usage:
    """Proportional set size (PSS, bytes) by part: shared pages are divided among those that share them."""
    return _memory(root, "Pss:")


def buffers(root: int) -> float:
    """What of Postgres' memory (bytes) are its shared buffers: a fixed number of them, which fill with time."""
    return _memory(root, "Pss_Shmem:").by_part["postgres"]


def _memory(root: int, kind: str) -> Usage:
    usage = Usage()
    for part, process in tree(root):
        usage.by_part[part] += _bytes(process.pid, kind)
    return usage


def _bytes(pid: int, kind: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(kind))


def descriptors(root: int) -> Usage:
    """Open descriptors by part."""
    usage = Usage()
    for part, process in tree(root):
        usage.by_part[part] += _entries(Path(f"/proc/{process.pid}/fd"))
    return usage


def _entries(folder: Path) -> int:
    try:
        return sum(1 for _ in folder.iterdir())
    except OSError:
        return 0


def cgroups(root: int) -> int:
    """Number of control groups below those that the server made for its slots; 0 where it has none."""
    bases = {base for part, process in tree(root) if part == "slots" for base in _bases(process.pid)}
    return sum(1 for base in bases for _ in os.walk(base))


def _bases(pid: int) -> Iterator[Path]:
    """The server's own folders in the trees of control groups that a process is in."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        ours, found, _ = path.partition("/era-")
        if found:
            mount = CGROUPS / (controllers.split(",")[0] or "unified")
            instance = path[len(ours) + 1 :].split("/")[0]
            for top in (mount, CGROUPS):
                if (folder := top / ours.lstrip("/") / instance).is_dir():
                    yield folder
