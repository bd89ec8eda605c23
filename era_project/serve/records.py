"""Which servers use a state folder, and which processes they started: small JSON files beside the state."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

POLL_S = 0.02
GENTLE_S = 3.0
"""How long what a killed server left may take to end by itself."""


@dataclass(frozen=True)
class Identity:
    """A process for good: pids come again, a pid with its start time does not."""

    pid: int
    started: int
    """In clock ticks since boot. Source: field 22 of /proc/<pid>/stat."""

    @property
    def is_alive(self) -> bool:
        """Whether it still runs (a zombie does not)."""
        return _stat(self.pid) == (self.started, True)


def _stat(pid: int) -> tuple[int, bool] | None:
    """Start time, and whether it is no zombie; None when there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[19]), fields[0] not in "ZX"


def is_running(pid: int) -> bool:
    """Whether there is a process of this pid that is no zombie."""
    found = _stat(pid)
    return found is not None and found[1]


def identify(pid: int) -> Identity:
    """The identity of a process that surely exists (a child not yet waited for)."""
    found = _stat(pid)
    return Identity(pid, found[0] if found else 0)


@dataclass(frozen=True, kw_only=True)
class Server:
    """What a supervisor tells others about itself."""

    process: Identity
    port: int
    is_owner: bool
    is_ready: bool = False
    home: str = ""
    web_uid: int = 0
    """0: the supervisor's own uid."""
    runtimes: str = ""
    cgroup: str = ""


def _folder(state: Path) -> Path:
    return state / "servers"


def write(state: Path, server: Server) -> None:
    """Publishes ``server``, whole or not at all."""
    _replace(_folder(state) / f"{server.process.pid}.json", dataclasses.asdict(server))


def remove(state: Path) -> None:
    """Takes back what this process published."""
    (_folder(state) / f"{os.getpid()}.json").unlink(missing_ok=True)


def servers(state: Path) -> Iterator[Server]:
    """The living servers of a state folder; files of dead ones are removed."""
    for path in _folder(state).glob("*.json"):
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            server = _server(json.loads(path.read_text()))
            if server.process.is_alive:
                yield server
            else:
                path.unlink(missing_ok=True)


def _server(stored: dict[str, Any]) -> Server:
    return Server(**stored | {"process": Identity(**stored["process"])})


def owner(state: Path) -> Server | None:
    """The server that holds the state's services, if it lives."""
    return next((server for server in servers(state) if server.is_owner), None)


def write_parts(state: Path, processes: Mapping[str, Identity]) -> None:
    """Notes the owner's children, for whoever must clear them when it was killed."""
    _replace(state / "pids.json", {name: dataclasses.asdict(process) for name, process in processes.items()})


def clear_leftovers(state: Path) -> None:
    """Ends what a killed owner left; the caller holds the state's lock.

    Each part hears of its parent's death from the kernel and stops by itself: that is waited for first, because
    PostgreSQL then leaves a clean state.
    """
    for _ in servers(state):  # which removes the records of killed ones
        pass
    path = state / "pids.json"
    try:
        stored = json.loads(path.read_text())
        processes = [Identity(**value) for value in stored.values()]
    except (OSError, ValueError, TypeError, AttributeError):
        return
    deadline = time.monotonic() + GENTLE_S
    while any(process.is_alive for process in processes):
        if time.monotonic() > deadline:
            for process in processes:
                _kill(process)
        time.sleep(POLL_S)
    path.unlink(missing_ok=True)


def _kill(process: Identity) -> None:
    """Kills it if it is still that process; a descriptor rules out a pid that comes again in between."""
    with contextlib.suppress(OSError):
        descriptor = os.pidfd_open(process.pid)
        try:
            if process.is_alive:
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)


def _replace(path: Path, content: Mapping[str, Any]) -> None:
    made = path.with_name(path.name + ".new")
    made.write_text(json.dumps(content))
    made.chmod(0o600)
    made.replace(path)
