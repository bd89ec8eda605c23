"""What the starter tells the world: one JSON text, with nothing of the host in what goes further inside."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field

GUEST_ID = 1000
"""uid and gid of user code, in every mode."""


@dataclass
class Settings:
    """Kept by the master and every slot; a guest that read all of it would learn nothing about the host."""

    shared_uid: bool
    """Mode one: pid 1 of a slot and user code have the same uid."""
    cgroups: bool
    """The kernel holds memory and processes by cgroup; else rlimits and the watchdog do."""
    control: int
    """Descriptor of the plain master's socket."""
    control_preloaded: int
    """Descriptor of the socket of the master with preloaded modules."""
    preload: list[str]
    scratch_bytes: int
    """Size of the tmpfs behind /tmp, /dev/shm and the home folder."""
    workspace_bytes: int
    workspace_files: int
    inotify_instances: int
    descriptors: int
    """RLIMIT_NOFILE of user code."""
    filter: str
    """Seccomp program, hexadecimal."""
    harvest: str
    """Whose read bits a finished workspace needs for the runner to list it: "", "owner" or "others"."""
    etc: dict[str, str]
    environment: dict[str, str]
    visible: list[str] = field(default_factory=list)
    """Paths of the world that a slot shows, read-only."""
    cpus: int = 0
    """CPUs that a slot is pinned to; 0: not pinned."""


@dataclass
class HostSettings:
    """For the first stage only, which still sees the host."""

    mode: str
    root: str
    """An empty folder to mount on."""
    binds: dict[str, str]
    """Path in the world -> path on the host, read-only."""
    workspaces: str
    """Host folder shown at /ws, writable."""
    files: dict[str, str]
    """Path in the world -> text: the guest's programs and drivers."""
    python: str
    """Path in the world of the interpreter to go on with."""
    links: dict[str, str] = field(default_factory=dict)
    uid_base: int = 0
    uid_count: int = 0
    mapper: str = ""
    """Folder of newuidmap."""
    sub_uids: list[int] = field(default_factory=list)
    sub_gids: list[int] = field(default_factory=list)


def read_json(descriptor: int) -> str:
    """Whole text of a sealed memory file."""
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode()


def write_memory_file(text: str) -> int:
    """An inheritable memory file that holds ``text``."""
    descriptor = os.memfd_create("settings", 0)
    data = text.encode()
    while data:
        data = data[os.write(descriptor, data) :]
    return descriptor


def dumps(settings: Settings) -> str:
    """JSON of the settings."""
    return json.dumps(asdict(settings))
