"""A row that was written although its writer never heard of it: what its caller was refused does not happen."""

from __future__ import annotations

import contextlib
import socket
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests import stack
from tests.servers import Server, running
from tests.waiting import wait_until

pytestmark = pytest.mark.xdist_group("serving")

SOCKET = ".s.PGSQL.5432"
WRITTEN = b"INSERT 0 1\0"
"""What Postgres answers, after its commit, to a statement that wrote one row."""
SETTLED_S = 60.0


class Between:
    """Passes on what a server and its Postgres say; once it is armed, the next word of a written row gets lost."""

    def __init__(self, folder: Path, postgres: str) -> None:
        self.armed = threading.Event()
        self._postgres = postgres
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / SOCKET))
        (folder / SOCKET).chmod(0o777)
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server, contextlib.suppress(OSError):
            server.connect(self._postgres)
            asking = threading.Thread(target=self._pass_on, args=(client, server, False), daemon=True)
            asking.start()
            self._pass_on(server, client, True)
            asking.join()

    def _pass_on(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        with contextlib.suppress(OSError):
            while said := source.recv(1 << 16):
                if is_answer and WRITTEN in said and self.armed.is_set():
                    self.armed.clear()
                    break
                target.sendall(said)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def between() -> Iterator[tuple[Server, Between]]:
    folder = stack.current.base / f"between-{stack.current.name}"
    folder.mkdir(mode=0o755)
    settings = stack.settings_of_a_server("between")
    host = parse_qs(urlsplit(settings["DATABASE_URL"]).query)["host"][0]
    made = Between(folder, f"{host}/{SOCKET}")
    settings["DATABASE_URL"] = settings["DATABASE_URL"].replace(host, str(folder))
    with contextlib.closing(made), running(settings, state=folder / "state") as server:
        yield server, made


def test_a_run_whose_row_was_written_unheard_is_taken_back(between: tuple[Server, Between]) -> None:
    server, made = between
    mark = uuid.uuid4().hex
    made.armed.set()
    refused = server.post("/api/execute", {"language": "python", "code": f"print('{mark}')"})
    assert (refused.status, refused.json["code"]) == (503, "UNAVAILABLE")
    (listed,) = wait_until(lambda: server.get("/api/runs?limit=10").json["runs"], SETTLED_S, "there is a row")
    path = f"/api/runs/{listed['run_id']}"
    wait_until(lambda: server.get(path).json["finished_at"], SETTLED_S, "the run has ended")
    run = server.get(path).json
    assert (run["status"], run["stdout"]) == ("expired", "")
    assert run["message"]
