"""Answers as bytes: JSON of our own objects, in a Django response or straight over ASGI."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from django.http import HttpResponse
from rest_framework.renderers import BaseRenderer

from sessions_app.api.body_bytes import Send

JSON = "application/json"


def raw(content: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> HttpResponse:
    """A response of ready JSON bytes; its length is set, for no CommonMiddleware comes after."""
    all_headers = {"Content-Length": str(len(content)), **(headers or {})}
    return HttpResponse(content, status=status, content_type=JSON, headers=all_headers)


def json(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> HttpResponse:
    """A response of ``value``; ``orjson.Fragment`` keeps JSON text as it is."""
    return raw(orjson.dumps(value), status=status, headers=headers)


async def send_json(send: Send, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    """The same over ASGI, for the endpoints that stand beside Django."""
    own = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": own})
    await send({"type": "http.response.body", "body": body})


class JsonRenderer(BaseRenderer):
    """DRF's renderer of every answer, whatever the Accept header says."""

    media_type = JSON
    format = "json"
    charset = None

    def render(self, data: Any, accepted_media_type: str | None = None, context: Any = None) -> bytes:
        """``data`` as JSON bytes."""
        return orjson.dumps(data, default=str)


async def send_empty(send: Send, response: HttpResponse) -> None:
    """A Django response without a body, over ASGI."""
    headers = [(name.encode(), value.encode()) for name, value in response.items()]
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
