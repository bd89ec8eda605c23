"""The body of a request as bytes: counted while it is read, of the one type that JSON routes take."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from era_project.errors import InvalidInput, TooLarge, UnsupportedMediaType

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

JSON_TYPE = b"application/json"


class Gone(Exception):
    """The client went away before its request was whole."""


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


async def _all(receive: Receive, limit: int) -> bytes:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise Gone
    if not message.get("more_body", False):  # the usual case: one piece
        only: bytes = message.get("body", b"")
        if len(only) > limit:
            raise _too_large(limit)
        return only
    pieces = [message.get("body", b"")]
    size = len(pieces[0])
    while message.get("more_body", False):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        if size > limit:
            raise _too_large(limit)
    return b"".join(pieces)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The body is too large: at most {limit} bytes ({limit / (1 << 20):g} MiB).", limit_bytes=limit)
