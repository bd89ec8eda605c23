"""A server of the product's own for one measurement: started as the README says, on a free port and an empty state."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parent.parent
START_S = 240.0
STOP_S = 20.0


@dataclass(frozen=True)
class Server:
    """A server that answers.

    Attributes:
        port: on 127.0.0.1.
        pid: the root of its process tree.
        state: its state folder.
    """

    port: int
    pid: int
    state: Path

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Status and JSON of one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            text = None if body is None else json.dumps(body)
            headers = {} if body is None else {"Content-Type": "application/json"}
            connection.request(method, path, text, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()


@contextlib.contextmanager
def running(*, user: str | None = None, **settings: object) -> Iterator[Server]:
    """A server with ``settings`` (``ERA_…=value``), as the caller's own user or as ``user``; ended afterwards."""
    state = Path(tempfile.mkdtemp(prefix="era-bench-"))
    account = pwd.getpwnam(user) if user else None
    if account:
        os.chown(state, account.pw_uid, account.pw_gid)
    port = _free_port()
    log = (state / "bench.log").open("wb")
    process = subprocess.Popen(
        [str(TOP / "agent"), "serve"],
        env=_environment(account, port=port, state=state, settings=settings),
        cwd=TOP,
        stdout=log,
        stderr=log,
        user=account.pw_uid if account else None,
        group=account.pw_gid if account else None,
        extra_groups=[] if account else None,
        start_new_session=True,
    )
    try:
        server = Server(port, process.pid, state)
        _wait_until_ready(server, process, state / "bench.log")
        yield server
    finally:
        _stop(process)
        log.close()
        shutil.rmtree(state, ignore_errors=True)


def _environment(
    account: pwd.struct_passwd | None, *, port: int, state: Path, settings: Mapping[str, object]
) -> dict[str, str]:
    own = {
        "PORT": str(port),
        "ERA_STATE_DIR": str(state),
        "ERA_LOG_LEVEL": "warn",
        "ERA_RUNTIMES_DIR": str(runtimes().parent),
    }
    given = {name: str(value) for name, value in settings.items()}
    home = {"HOME": str(state), "USER": account.pw_name} if account else {}
    return {**os.environ, **home, **own, **given}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(server: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(
                f"the server ended with {process.returncode}:\n{log.read_text(errors='replace')[-2000:]}"
            )
        with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
            if server.ask("GET", "/health")[0] == 200 and _runs(server):
                return
        time.sleep(0.1)
    raise RuntimeError(f"no answer in {START_S:.0f} s:\n{log.read_text(errors='replace')[-2000:]}")


def _runs(server: Server) -> bool:
    status, _ = server.ask("POST", "/api/execute", {"language": "python", "code": "print(1)"})
    return status == 200


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def runtimes() -> Path:
    """The folder of the runtimes that servers of this user share."""
    root = Path("/var/lib/era/runtimes") if os.geteuid() == 0 else Path.home() / ".cache/era/runtimes"
    return Path(os.environ.get("ERA_RUNTIMES_DIR", root)) / "current"
