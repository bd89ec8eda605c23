"""The body of a request as bytes: counted while it is read, of the one type that JSON routes take."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from era_project.errors import EraError, InvalidInput, TooLarge, UnsupportedMediaType

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

JSON_TYPE = b"application/json"
STALL_S = 60.0
"""How long the next piece of a body may stay away. Source: nginx's default of the same kind."""


class Gone(Exception):
    """The client went away before its request was whole."""


class Stalled(EraError):
    """The client stopped sending in the middle of its request."""

    status, title, code = 408, "Request timeout", "BODY_STALLED"


async def read(scope: Scope, receive: Receive, *, limit: int) -> bytes:
    """The whole body.

    Args:
        scope: of an HTTP request; its Content-Type is looked at only where there is a body.
        receive: of the same request.
        limit: most bytes that are taken; more are refused as soon as that is known.

    Raises:
        TooLarge: more than ``limit`` bytes are announced or came.
        UnsupportedMediaType: a body that is not ``application/json``, or is compressed.
        Gone: the client went away.
        Stalled: the client stopped sending.
    """
    kind, length = _announced(scope)
    if length is not None and length > limit:
        raise _too_large(limit)
    body = await _all(receive, limit)
    if body and kind.partition(b";")[0].strip().lower() != JSON_TYPE:
        raise UnsupportedMediaType("Send the body as JSON with the header `Content-Type: application/json`.")
    return body


def _announced(scope: Scope) -> tuple[bytes, int | None]:
    kind, length = b"", None
    for name, value in scope["headers"]:
        if name == b"content-type":
            kind = value
        elif name == b"content-length":
            if not value.isdigit():
                raise InvalidInput("The Content-Length header must be a whole number.")
            length = int(value[:20])
        elif name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            raise UnsupportedMediaType("Send the body without a Content-Encoding.")
    return kind, length


async def piece(receive: Receive) -> tuple[bytes, bool]:
    """The next piece of a body, and whether more comes.

    Raises:
        Gone: the client went away.
        Stalled: nothing came.
    """
    try:
        async with asyncio.timeout(STALL_S):
            message = await receive()
    except TimeoutError:
        raise Stalled(f"The request was given up: nothing of its body came for {STALL_S:.0f} s.") from None
    if message["type"] == "http.disconnect":
        raise Gone
    return message.get("body", b""), message.get("more_body", False)


async def _all(receive: Receive, limit: int) -> bytes:
    body, more = await piece(receive)
    if len(body) > limit:
        raise _too_large(limit)
    if not more:  # the usual case: one piece
        return body
    pieces, size = [body], len(body)
    while more:
        body, more = await piece(receive)
        pieces.append(body)
        size += len(body)
        if size > limit:
            raise _too_large(limit)
    return b"".join(pieces)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The body is too large: at most {limit} bytes ({limit / (1 << 20):g} MiB).", limit_bytes=limit)
