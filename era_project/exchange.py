"""What every exchange has in common: request id, guard, CORS, HEAD, errors before the first byte, one log line."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from era_project import api_errors, conf, guard, request_ids
from era_project.errors import NotAvailable, TooLarge, Unavailable
from sessions_app.api import answers
from sessions_app.api.body_bytes import Gone, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

App = Callable[[Scope, Receive, Send], Awaitable[None]]

STOPPING = "The server is stopping, or starting anew; try again."
QUIET = frozenset(("/health", "/health/live"))
"""Paths that probes ask for without any credentials."""


class Outgoing:
    """The answer on its way: adds our headers, leaves a body away after HEAD, knows whether it has begun."""

    def __init__(self, send: Send, *, request_id: str, is_head: bool) -> None:
        self._send = send
        self._is_head = is_head
        self.headers: list[tuple[bytes, bytes]] = [(b"x-request-id", request_id.encode())]
        self.status = 0
        self._ended = False

    async def __call__(self, message: Message) -> None:
        """ASGI's ``send``."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": [*message.get("headers", ()), *self.headers]}
        elif self._is_head and message["type"] == "http.response.body":
            if self._ended:
                return
            self._ended = True
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first value of a header; None: it did not come."""
    return next((value for key, value in scope["headers"] if key == name), None)


async def answer(route: App, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one HTTP request by ``route``; whatever it raises before the first byte becomes the error's JSON."""
    begun = time.perf_counter()
    request_id = request_ids.choose(header(scope, b"x-request-id"))
    request_ids.current.set(request_id)
    method = scope["method"]
    out = Outgoing(send, request_id=request_id, is_head=method == "HEAD")
    try:
        await _guarded(route, {**scope, "method": "GET", "era.head": True} if method == "HEAD" else scope, receive, out)
    except Gone:
        return
    except asyncio.CancelledError:  # uvicorn's patience is over
        if not out.status:
            await _fail(Unavailable(STOPPING), out)
        raise
    except Exception as exc:
        await _fail(exc, out)
    finally:
        _tell(method, scope["path"], out.status, time.perf_counter() - begun)


def _tell(method: str, path: str, status: int, spent_s: float) -> None:
    """One log line; what went well only at debug, for it would be a good part of the door's work."""
    level = logging.INFO if status >= 400 else logging.DEBUG
    if log.isEnabledFor(level):
        extra = {"method": method, "path": path, "status": status, "duration_ms": round(spent_s * 1000, 1)}
        log.log(level, "%s %s %s", method, path, status or "gone", extra=extra)


async def _guarded(route: App, scope: Scope, receive: Receive, out: Outgoing) -> None:
    verdict = guard.configured().judge(scope)
    out.headers.extend(verdict.headers)
    if verdict.preflight:
        await out({"type": "http.response.start", "status": 204, "headers": []})
        await out({"type": "http.response.body", "body": b""})
        return
    _check_credentials(scope)
    await route(scope, receive, out)


def _check_credentials(scope: Scope) -> None:
    given = header(scope, b"authorization")
    if given is not None and given[:7].lower() == b"bearer " and scope["path"] not in QUIET:
        raise NotAvailable("Tokens are not available in this version; leave the Authorization header away.")


async def _fail(exc: Exception, out: Outgoing) -> None:
    rendered = api_errors.render(exc)
    if out.status:
        raise exc  # the answer has begun: only breaking it off tells the client
    headers = [(name.encode(), value.encode()) for name, value in rendered.headers.items()]
    await answers.send_json(out, rendered.status, rendered.json(), headers)


async def answer_web_socket(route: App, scope: Scope, receive: Receive, send: Send) -> None:
    """The same for a web socket: refused with the error's JSON where the server can, else closed."""
    request_id = request_ids.choose(header(scope, b"x-request-id"))
    request_ids.current.set(request_id)
    accepted = False

    async def watched(message: Message) -> None:
        nonlocal accepted
        accepted = accepted or message["type"] == "websocket.accept"
        await send(message)

    try:
        guard.configured().judge({**scope, "method": "GET"})
        _check_credentials(scope)
        await route(scope, receive, watched)
    except Exception as exc:
        rendered = api_errors.render(exc)
        if accepted:
            await send({"type": "websocket.close", "code": 1011, "reason": rendered.body["code"]})
        else:
            await _refuse_web_socket(rendered, request_id, scope, send)


async def _refuse_web_socket(rendered: api_errors.Rendered, request_id: str, scope: Scope, send: Send) -> None:
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 1008})
        return
    headers = [
        (b"content-type", b"application/json"),
        (b"x-request-id", request_id.encode()),
        *((name.encode(), value.encode()) for name, value in rendered.headers.items()),
    ]
    await send({"type": "websocket.http.response.start", "status": rendered.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": rendered.json()})


def with_body_limit(app: App) -> App:
    """``app`` for bodies of at most the JSON limit: stock Django would spool any body to disk first."""

    async def limited(scope: Scope, receive: Receive, send: Send) -> None:
        limit = conf.get().max_body_bytes
        taken = 0
        announced = header(scope, b"content-length") or b"0"
        if not announced.isdigit() or int(announced[:20]) > limit:
            raise TooLarge(f"The body is too large: at most {limit} bytes.", limit_bytes=limit)

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > limit:
                raise TooLarge(f"The body is too large: at most {limit} bytes.", limit_bytes=limit)
            return message

        await app(scope, counted, send)

    return limited


def with_plain_host(app: App) -> App:
    """``app`` with a Host header that Django can read: it refuses underscores, which the guard takes."""

    async def renamed(scope: Scope, receive: Receive, send: Send) -> None:
        if b"_" in (header(scope, b"host") or b""):
            ours = urlsplit(conf.get().base_url).netloc.encode()
            headers: Any = [(name, ours if name == b"host" else value) for name, value in scope["headers"]]
            scope = {**scope, "headers": headers}
        await app(scope, receive, send)

    return renamed
