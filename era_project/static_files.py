"""The admin's own files below /static/: found by Django's finders, sent with a validator, never from elsewhere."""

from __future__ import annotations

import asyncio
import functools
import mimetypes
from pathlib import Path

from django.conf import settings
from django.contrib.staticfiles import finders
from django.core.exceptions import SuspiciousFileOperation

from era_project.errors import MethodNotAllowed, NotFound
from sessions_app.api.body_bytes import Receive, Scope, Send

MAX_AGE_S = 3600


@functools.lru_cache(maxsize=512)
def _found(name: str) -> Path | None:
    try:
        path = finders.find(name)
    except SuspiciousFileOperation:  # a name that leads out of the apps' static folders
        return None
    return Path(path) if isinstance(path, str) and Path(path).is_file() else None


def _load(name: str) -> tuple[bytes, bytes]:
    path = _found(name)
    if path is None:
        raise NotFound("There is no such file.")
    stat = path.stat()
    return path.read_bytes(), f'"{stat.st_mtime_ns:x}-{stat.st_size:x}"'.encode()


async def serve(scope: Scope, receive: Receive, send: Send) -> None:
    """One static file.

    Raises:
        NotFound: there is none of that name.
        MethodNotAllowed: neither GET nor HEAD.
    """
    if scope["method"] != "GET":
        raise MethodNotAllowed("Static files can only be read.", allow=("GET", "HEAD"))
    name = scope["path"].removeprefix(settings.STATIC_URL)
    if "\0" in name:
        raise NotFound("There is no such file.")
    content, tag = await asyncio.get_running_loop().run_in_executor(None, _load, name)
    fresh = any(key == b"if-none-match" and value == tag for key, value in scope["headers"])
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    headers = [
        (b"content-type", kind.encode()),
        (b"etag", tag),
        (b"cache-control", f"max-age={MAX_AGE_S}".encode()),
        (b"x-content-type-options", b"nosniff"),
    ]
    if not fresh:
        headers.append((b"content-length", str(len(content)).encode()))
    await send({"type": "http.response.start", "status": 304 if fresh else 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if fresh else content})
