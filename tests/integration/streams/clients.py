"""Readers of streams for tests: whole ones, and ones that leave in the middle."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.servers import Answer, Server

PATIENCE_S = 60
FAULTS = (OSError, http.client.HTTPException, AssertionError)
"""What a reader meets when its server goes away in the middle."""


@dataclass(frozen=True)
class Frame:
    """One event as a client reads it."""

    type: str
    id: int
    data: dict[str, Any]


def frames(body: bytes) -> list[Frame]:
    """The events of a whole body, whose form is checked to the byte."""
    made = []
    assert body.endswith(b"\n\n")
    for block in body.decode("ascii").split("\n\n")[:-1]:
        if block.startswith(":"):
            continue
        event, number, data = block.split("\n")
        assert event.startswith("event: ")
        assert number.startswith("id: ")
        assert data.startswith("data: ")
        made.append(Frame(event[7:], int(number[4:]), json.loads(data[6:])))
        assert made[-1].data["type"] == made[-1].type
    return made


def text(events: list[Frame], stream: str = "stdout") -> str:
    return "".join(event.data["content"] for event in events if event.type == stream)


def run_id(answer: Answer) -> str:
    return answer.headers["x-run-id"]


class Reader:
    """A stream that is read event by event."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self._response = response
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.seen: list[Frame] = []

    def next(self) -> Frame:
        """The next event."""
        lines: list[bytes] = []
        while True:
            line = self._response.readline()
            assert line, "the stream ended too early"
            lines.append(line)
            if line == b"\n":
                if not lines[0].startswith(b":"):
                    break
                lines = []
        self.seen += frames(b"".join(lines))
        return self.seen[-1]


@contextlib.contextmanager
def reading(
    server: Server, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
) -> Iterator[Reader]:
    """A reader that leaves at the end of the block, whether or not the stream has ended."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
    with contextlib.closing(connection):
        content = None if body is None else json.dumps(body).encode()
        connection.request(method, path, content, {"Content-Type": "application/json", **(headers or {})})
        response = connection.getresponse()
        assert response.status == 200, response.read()
        yield Reader(response)
        response.close()


class Resuming:
    """Reads a run to its end, over as many connections as that takes."""

    def __init__(self, server: Server, run: str) -> None:
        self._server = server
        self._run = run
        self.output = ""
        self.last: dict[str, object] = {}
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def finish(self) -> None:
        self._thread.join(120)
        assert not self._thread.is_alive(), f"no end after {self.output[-50:]!r}"

    def _read(self) -> None:
        at = 0
        while not self.last:
            connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=30)
            with contextlib.suppress(*FAULTS), contextlib.closing(connection):
                connection.request("GET", f"/api/runs/{self._run}/events", headers={"Last-Event-ID": str(at)})
                reader = Reader(connection.getresponse())
                while not self.last:
                    event = reader.next()
                    at = event.id
                    self.output += text([event])
                    self.last = event.data if event.type in ("done", "error") else {}
