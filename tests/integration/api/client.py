"""A caller of the ASGI application in this process: it says what goes over the wire and hears what comes back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

HOST = "localhost:8787"


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def request_scope(method: str, path: str, headers: Mapping[str, str]) -> dict[str, Any]:
    """An HTTP scope as uvicorn makes it; ``path`` is what stands in the request line."""
    raw, _, query = path.partition("?")
    from urllib.parse import unquote

    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(raw),
        "raw_path": raw.encode("latin-1"),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()],
        "client": ("127.0.0.1", 40000),
        "server": ("127.0.0.1", 8787),
        "extensions": {},
    }


class Exchange:
    """One request under way; :meth:`leave` is the client going away."""

    def __init__(self, method: str, path: str, *, headers: Mapping[str, str], pieces: list[bytes]) -> None:
        self.scope = request_scope(method, path, headers)
        self._pieces = pieces
        self._gone = asyncio.Event()
        self._start: dict[str, Any] = {}
        self._body = b""

    def leave(self) -> None:
        """Hang up."""
        self._gone.set()

    async def receive(self) -> dict[str, Any]:
        """ASGI's receive."""
        if self._pieces:
            piece = self._pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(self._pieces)}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        """ASGI's send."""
        if message["type"] == "http.response.start":
            self._start = dict(message)
        else:
            self._body += message.get("body", b"")

    def answer(self) -> Answer | None:
        """What came back; None: nothing did."""
        if not self._start:
            return None
        headers = {name.decode().lower(): value.decode("latin-1") for name, value in self._start["headers"]}
        return Answer(self._start["status"], headers, self._body)


def begin(method: str, path: str, body: Any = None, *, headers: Mapping[str, str] | None = None) -> Exchange:
    """A request with ``body`` (bytes as they are, else as JSON)."""
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    own = {"host": HOST}
    if content:
        own |= {"content-type": "application/json", "content-length": str(len(content))}
    wanted = {name.lower(): value for name, value in (own | dict(headers or {})).items() if value != "-"}
    return Exchange(method, path, headers=wanted, pieces=[content])


def call(method: str, path: str, body: Any = None, *, headers: Mapping[str, str] | None = None) -> Answer:
    """The answer to one request; a header ``-`` is left away."""
    from era_project.asgi import application

    async def exchange() -> Answer | None:
        under_way = begin(method, path, body, headers=headers)
        await application(under_way.scope, under_way.receive, under_way.send)
        return under_way.answer()

    answer = asyncio.run(exchange())
    assert answer is not None, "no answer came"
    return answer
