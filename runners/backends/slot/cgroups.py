"""Memory, processes and CPU time of a slot, held by the kernel: cgroup v1, v2 and both at once."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import time
from dataclasses import dataclass
from pathlib import Path

from runners.types import Limits

CPU_PERIOD_US = 20_000
"""Short, so that a spent quota delays the slot's next run by 20 ms at most."""
PROCESSES_OF_OURS = 3
"""pid 1, the helper, and the helper's map writer while a slot is born."""
_MOUNTS = Path("/proc/self/mountinfo")
_MEMBERSHIP = Path("/proc/self/cgroup")
_NEEDED = ("memory", "pids", "cpu")


@dataclass(frozen=True)
class _Place:
    """Where this process's groups of one hierarchy lie."""

    folder: Path
    is_v2: bool


def _mounted() -> dict[str, tuple[Path, str]]:
    """Controller, or "" for v2 -> mount point and the path of the hierarchy that is mounted there."""
    found: dict[str, tuple[Path, str]] = {}
    for line in _MOUNTS.read_text().splitlines():
        left, _, right = line.partition(" - ")
        root, point = left.split()[3:5]
        kind, _, options = right.split(" ", 2)
        if kind == "cgroup2":
            found.setdefault("", (Path(point), root))
        elif kind == "cgroup":
            for controller in options.split(","):
                found.setdefault(controller, (Path(point), root))
    return found


def _own_paths() -> dict[str, str]:
    paths: dict[str, str] = {}
    for line in _MEMBERSHIP.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            paths[controller] = path
    return paths


def _places() -> dict[str, _Place]:
    """Per controller the folder of this process's own group."""
    mounted, own = _mounted(), _own_paths()
    places: dict[str, _Place] = {}
    for controller in _NEEDED:
        key = controller if controller in mounted else ""
        if key not in mounted or key not in own:
            continue
        point, root = mounted[key]
        path = own[key]
        inside = path[len(root) :] if root != "/" and path.startswith(root) else path
        folder = point / inside.lstrip("/")
        if not key and controller not in (folder / "cgroup.controllers").read_text().split():
            continue
        places[controller] = _Place(folder, is_v2=not key)
    return places


def remove_stale(prefix: str) -> None:
    """Remove the subtrees of runners that were killed: their names are the prefix and the pid of a process now dead."""
    for place in _places().values():
        for folder in place.folder.glob(f"{prefix}*"):
            pid = folder.name.removeprefix(prefix)
            if pid.isdecimal() and not Path("/proc", pid).exists():
                remove_tree(folder)


class Cgroups:
    """A subtree of this process's own groups, with one group per slot build."""

    def __init__(self, name: str) -> None:
        """Make the subtree, removing what an earlier process of the same name left.

        Raises:
            OSError: Groups cannot be made here, or a controller is missing.
        """
        places = _places()
        missing = [controller for controller in _NEEDED if controller not in places]
        if missing:
            raise OSError(errno.ENOENT, f"no cgroup controller for {', '.join(missing)}")
        self._numbers = itertools.count(1)
        self._tops: dict[str, _Place] = {}
        for controller, place in places.items():
            folder = place.folder / name
            if place.is_v2:
                _delegate(place.folder)
            remove_tree(folder)
            folder.mkdir(exist_ok=True)
            if place.is_v2:
                (folder / "cgroup.subtree_control").write_text(" ".join(f"+{item}" for item in _NEEDED))
            self._tops[controller] = _Place(folder, place.is_v2)

    def make(self, limits: Limits) -> Group:
        """A fresh group: its name was never used before, so no figure of an earlier slot is in it; from any thread.

        Raises:
            OSError: The kernel refused it or its limits; nothing of it stays.
        """
        name = f"slot-{next(self._numbers)}"
        folders = {controller: top.folder / name for controller, top in self._tops.items()}
        with contextlib.ExitStack() as undo:
            for folder in set(folders.values()):
                folder.mkdir()
                undo.callback(folder.rmdir)
            group = Group(folders, {controller: top.is_v2 for controller, top in self._tops.items()})
            undo.callback(group.close_files)
            group.set(limits)
            undo.pop_all()
        return group

    def close(self) -> None:
        """Remove the subtree."""
        for top in self._tops.values():
            remove_tree(top.folder)


def _delegate(folder: Path) -> None:
    """Give v2 controllers to sub-groups; the group's own processes move into a leaf first, as v2 demands."""
    control = folder / "cgroup.subtree_control"
    if set(_NEEDED) <= set(control.read_text().split()):
        return
    if folder.joinpath("cgroup.type").exists():
        leaf = folder / "server"
        leaf.mkdir(exist_ok=True)
        for pid in (folder / "cgroup.procs").read_text().split():
            (leaf / "cgroup.procs").write_text(pid)
    control.write_text(" ".join(f"+{item}" for item in _NEEDED))


def remove_tree(folder: Path, deadline_s: float = 5.0) -> None:
    """Kill what lives in a group and its sub-groups and remove them; nothing happens if it is not there."""
    end = time.monotonic() + deadline_s
    while folder.exists():
        try:
            _remove_once(folder)
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.005)


def _remove_once(folder: Path) -> None:
    for inner in [entry for entry in folder.iterdir() if entry.is_dir()]:
        _remove_once(inner)
    for pid in (folder / "cgroup.procs").read_text().split():
        try:
            os.kill(int(pid), 9)
        except ProcessLookupError:
            continue
    folder.rmdir()


class Group:
    """The cgroup of one slot build."""

    def __init__(self, folders: dict[str, Path], is_v2: dict[str, bool]) -> None:
        """Of folders that exist."""
        self._folders, self._is_v2 = folders, is_v2
        self._now: tuple[int, int, float] | None = None
        self._oom_kills = 0
        memory = folders["memory"]
        self._oom = os.open(memory / ("memory.events" if is_v2["memory"] else "memory.oom_control"), os.O_RDONLY)
        usage = "memory.current" if is_v2["memory"] else "memory.usage_in_bytes"
        self._usage = os.open(memory / usage, os.O_RDONLY)
        peak = memory / ("memory.peak" if is_v2["memory"] else "memory.max_usage_in_bytes")
        self._peak = os.open(peak, os.O_RDWR) if peak.exists() else -1

    def open_members(self) -> list[int]:
        """Descriptors through which a process joins by writing 0."""
        opened: list[int] = []
        try:
            for folder in set(self._folders.values()):
                opened.append(os.open(folder / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC))
        except OSError:
            for descriptor in opened:
                os.close(descriptor)
            raise
        return opened

    def set(self, limits: Limits) -> None:
        """Hold the group to the limits; writes only what differs from what holds now.

        Raises:
            OSError: The kernel refused, e.g. because more memory is in use than is to be allowed.
        """
        wanted = (limits.memory_bytes, limits.processes, limits.cpu_count)
        if wanted == self._now:
            return
        now = self._now or (0, 0, 0.0)
        self._now = None
        if wanted[0] != now[0]:
            self._set_memory(wanted[0], raised=wanted[0] > now[0] > 0)
        if wanted[1] != now[1]:
            self._write("pids", "pids.max", str(wanted[1] + PROCESSES_OF_OURS))
        if wanted[2] != now[2]:
            self._set_cpu(wanted[2])
        self._now = wanted

    def _set_memory(self, size_bytes: int, *, raised: bool) -> None:
        if self._is_v2["memory"]:
            self._write("memory", "memory.max", str(size_bytes))
            self._try("memory", "memory.swap.max", "0")
            return
        steps = [("memory.limit_in_bytes", self._write), ("memory.memsw.limit_in_bytes", self._try)]
        for name, write in reversed(steps) if raised else steps:
            write("memory", name, str(size_bytes))

    def _set_cpu(self, count: float) -> None:
        quota = max(1000, round(count * CPU_PERIOD_US))
        if self._is_v2["cpu"]:
            self._write("cpu", "cpu.max", f"{quota} {CPU_PERIOD_US}")
        else:
            self._write("cpu", "cpu.cfs_period_us", str(CPU_PERIOD_US))
            self._write("cpu", "cpu.cfs_quota_us", str(quota))

    def _write(self, controller: str, name: str, text: str) -> None:
        (self._folders[controller] / name).write_text(text)

    def _try(self, controller: str, name: str, text: str) -> None:
        try:
            self._write(controller, name, text)
        except OSError:
            return  # no accounting of swap here: there is nothing to hold

    def oom_kills(self) -> int:
        """How often the kernel killed for memory in this group."""
        for line in os.pread(self._oom, 1024, 0).splitlines():
            if line.startswith(b"oom_kill "):
                return int(line.split()[1])
        return 0

    def has_new_oom_kills(self) -> bool:
        """Whether the kernel killed for memory since the last call."""
        before, self._oom_kills = self._oom_kills, self.oom_kills()
        return self._oom_kills != before

    def hold_cpu(self) -> None:
        """Leave it next to no CPU time until the next `set`: a timer can continue a process that was stopped."""
        if self._now:
            self._now = (self._now[0], self._now[1], 0.0)
            self._set_cpu(0.0)

    def free_cpu(self) -> None:
        """Lift the CPU quota until the next `set`."""
        if self._now:
            self._now = (self._now[0], self._now[1], 0.0)
        if self._is_v2["cpu"]:
            self._try("cpu", "cpu.max", "max")
        else:
            self._try("cpu", "cpu.cfs_quota_us", "-1")

    def reset_peak(self) -> None:
        """Begin a new measurement of the peak; on v2 that needs Linux 6.12."""
        if self._peak >= 0:
            try:
                os.pwrite(self._peak, b"0", 0)
            except OSError:
                os.close(self._peak)
                self._peak = -1

    @property
    def tells_peak(self) -> bool:
        """Whether `peak_bytes` is a number."""
        return self._peak >= 0

    def peak_bytes(self) -> int | None:
        """Most memory in use since `reset_peak`; None where the kernel cannot say."""
        return int(os.pread(self._peak, 64, 0)) if self._peak >= 0 else None

    def memory_bytes(self) -> int:
        """Memory in use."""
        return int(os.pread(self._usage, 64, 0))

    def close_files(self) -> None:
        """Give up what it is measured by."""
        for descriptor in (self._oom, self._usage, *([self._peak] if self._peak >= 0 else [])):
            os.close(descriptor)

    def close(self) -> None:
        """Remove the group; its processes are killed if any are left."""
        self.close_files()
        for folder in set(self._folders.values()):
            remove_tree(folder)
