"""A whole real server for tests: the supervisor with web and worker, started as a user would start it."""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from era_project.serve import linux
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[1]
READY_WITHIN_S = 90.0
END_WITHIN_S = 25.0
"""Five times what is promised: loaded machines are slow."""
ANSWER_WITHIN_S = 100.0
FIRST_PORT, LAST_PORT = 12_000, 32_000
"""Source: net.ipv4.ip_local_port_range begins at 32768."""
WORKERS = 16
_TAKEN: set[int] = set()


def free_port() -> int:
    """A port that is free on IPv4 and IPv6 and that no other process of the tests gives out.

    It lies below the range from which the kernel takes ports for outgoing connections, so that none of those has it.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
    own = int(worker.removeprefix("gw")) % WORKERS
    while True:
        port = random.SystemRandom().randrange(FIRST_PORT, LAST_PORT, WORKERS) + own
        if port not in _TAKEN and _is_free(port):
            _TAKEN.add(port)
            return port


def _is_free(port: int) -> bool:
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            with socket.socket(family) as probe:
                probe.bind((address, port))
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                return False
    return True


@dataclass(frozen=True)
class Answer:
    """One HTTP answer; ``json`` reads its body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Launch:
    """Which Python runs which checkout, as which user (None: the tests' own), by which program that runs others."""

    python: Path = Path(sys.executable)
    code: Path = ROOT
    uid: int | None = None
    by: Sequence[str] = ()


@dataclass
class Server:
    """A running server; the process is the supervisor."""

    process: subprocess.Popen[bytes]
    port: int
    state: Path
    log: Path
    env: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Its base URL, without a trailing slash."""
        return f"http://127.0.0.1:{self.port}"

    @classmethod
    def start(
        cls, env: Mapping[str, str], *, state: Path, port: int = 0, launch: Launch = Launch(), wait: bool = True
    ) -> Server:
        """Starts one with these settings on a state folder; returns when it said that it runs."""
        port = port or free_port()
        log = state.parent / f"{state.name}-{port}.log"
        clean = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        settings = {**clean, **env, "ERA_STATE_DIR": str(state), "PORT": str(port)}
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*launch.by, str(launch.python), "-m", "era_project.serve"],
                env=settings,
                cwd=launch.code,
                user=launch.uid,
                group=launch.uid,
                extra_groups=None if launch.uid is None else [],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=linux.dying_with_parent(signal.SIGTERM),  # noqa: PLW1509
            )
        server = cls(process, port, state, log, settings)
        if wait:
            server.wait_ready()
        return server

    def wait_ready(self) -> None:
        """Returns when the server has printed its URL."""

        def ready() -> bool:
            assert self.process.poll() is None, f"the server ended:\n{self.said()}"
            return f"ERA runs at http://localhost:{self.port}" in self.said()

        try:
            wait_until(ready, READY_WITHIN_S, "the server runs")
        except AssertionError as error:
            self.stop()
            raise AssertionError(f"{error}\n{self.said()}") from error

    def wait_end(self) -> int:
        """The exit code once the server has ended by itself."""
        try:
            return self.process.wait(END_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the server did not end within {END_WITHIN_S:.0f} s:\n{self.said()}") from None

    def said(self) -> str:
        """Everything that the server printed, its last 20,000 characters."""
        return self.log.read_text(errors="replace")[-20_000:]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ends the server and returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait_end()

    def request(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        """One request; ``body`` is sent as it is when it is bytes, else as JSON."""
        sent = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_WITHIN_S)
        with contextlib.closing(connection):
            connection.request(method, path, body=body, headers=sent)
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())

    def get(self, path: str, **headers: str) -> Answer:
        """``GET path``."""
        return self.request("GET", path, headers=headers)

    def post(self, path: str, body: Any = None) -> Answer:
        """``POST path`` with a JSON body."""
        return self.request("POST", path, {} if body is None else body)

    def delete(self, path: str) -> Answer:
        """``DELETE path``."""
        return self.request("DELETE", path)


@contextlib.contextmanager
def running(env: Mapping[str, str], *, state: Path, launch: Launch = Launch()) -> Iterator[Server]:
    """A server for the length of a block."""
    server = Server.start(env, state=state, launch=launch)
    try:
        yield server
    finally:
        server.stop()
