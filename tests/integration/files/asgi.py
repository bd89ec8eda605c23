"""Requests straight to the files endpoint, with bodies that come in pieces or break off."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from era_project import api_errors
from sessions_app.api.body_bytes import Gone
from sessions_app.api.files import files_app

BROKEN = b"<the client goes away here>"
STALLED = b"<the client sends nothing more from here on>"


@dataclass
class Answer:
    """What came back; status 0: nothing."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    code: str | None = None


def request(
    method: str,
    session: str,
    path: str,
    *,
    pieces: Sequence[bytes] = (b"",),
    headers: dict[str, str] | None = None,
    query: str = "",
    head: bool = False,
) -> Answer:
    """One request; ``path`` is percent-encoded, ``BROKEN`` and ``STALLED`` may be among the pieces."""
    return asyncio.run(_request(_scope(method, headers or {}, query, head=head), session, path.encode(), list(pieces)))


def _scope(method: str, headers: dict[str, str], query: str, *, head: bool) -> dict[str, Any]:
    scope: dict[str, Any] = {
        "type": "http",
        "method": method,
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "query_string": query.encode(),
    }
    return scope | ({"era.head": True} if head else {})


async def _request(scope: dict[str, Any], session: str, path: bytes, pieces: list[bytes]) -> Answer:
    answer = Answer()

    async def receive() -> dict[str, Any]:
        piece = pieces.pop(0) if pieces else BROKEN
        if piece == BROKEN:
            return {"type": "http.disconnect"}
        if piece == STALLED:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            answer.body += message.get("body", b"")

    try:
        await files_app(scope, receive, send, session=session, path=path)
    except Gone:
        return answer
    except Exception as error:
        rendered = api_errors.render(error)
        answer.status, answer.code = rendered.status, rendered.body["code"]
    return answer
