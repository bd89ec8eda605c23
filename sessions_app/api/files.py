"""A session's files over HTTP, raw ASGI: streamed both ways in constant memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar
from urllib.parse import parse_qsl

import orjson
from django.db import close_old_connections

from era_project import api_errors, conf
from era_project.errors import InvalidInput, MethodNotAllowed, RangeNotSatisfiable, UnsupportedMediaType
from sessions_app import paths
from sessions_app.api import answers, body_bytes, downloads
from sessions_app.api.body_bytes import Receive, Scope, Send
from sessions_app.outage import ANSWER_WITHIN_S
from sessions_app.services import files, owners
from sessions_app.services.preconditions import Precondition
from storage_app.blobs import Upload

THREADS = 8
"""Threads that move files: each keeps one database connection."""
PIECE_BYTES = 1 << 20
"""Handed to a thread at once: a hop costs about 0.1 ms."""
METHODS = ("GET", "PUT", "DELETE")

P = ParamSpec("P")
T = TypeVar("T")

_pool = ThreadPoolExecutor(THREADS, "files")


async def files_app(scope: Scope, receive: Receive, send: Send, *, session: str, path: bytes) -> None:
    """``/api/sessions/{session}/files`` and below; ``path`` is the percent-encoded rest.

    Raises:
        EraError: before the first byte of an answer.
        Gone: the client went away.
    """
    if not path:
        await _list(scope, send, session)
        return
    name = paths.from_url(path)
    if scope["method"] == "GET":
        await _get(scope, send, session, name)
    elif scope["method"] == "PUT":
        await _put(scope, receive, send, _Target(session, name, _precondition(scope)))
    elif scope["method"] == "DELETE":
        await _in_time(_delete, _Target(session, name, _precondition(scope)))
        await answers.send_json(send, 200, orjson.dumps({"success": True, "path": name}))
    else:
        raise MethodNotAllowed("Files are read by GET, written by PUT and removed by DELETE.", allow=METHODS)


class _Target:
    """The file that a request changes, and what it expects to find there."""

    def __init__(self, session: str, path: str, precondition: Precondition) -> None:
        self.session = session
        self.path = path
        self.precondition = precondition


async def _list(scope: Scope, send: Send, session: str) -> None:
    prefix = _prefix(scope)
    body = await _in_time(_listed, session, prefix)
    await answers.send_json(send, 200, body)


def _listed(session: str, prefix: str) -> bytes:
    return orjson.dumps(files.list_files(session, owner_id=owners.default_id(), prefix=prefix))


def _prefix(scope: Scope) -> str:
    try:
        given = parse_qsl(scope["query_string"].decode("ascii"), keep_blank_values=True, errors="strict")
    except UnicodeError:
        raise InvalidInput("The query must be UTF-8, percent-encoded.", field="prefix") from None
    for name, _ in given:
        if name != "prefix":
            raise InvalidInput(f"The query has an unknown name {name!r}; did you mean prefix?", code="UNKNOWN_FIELD")
    return given[-1][1] if given else ""


async def _get(scope: Scope, send: Send, session: str, path: str) -> None:
    asked = downloads.Asked(
        precondition=_precondition(scope), range=_header(scope, b"range"), if_range=_header(scope, b"if-range")
    )
    is_head = bool(scope.get("era.head"))
    try:
        download = await _in_time(_open, session, path, asked)
    except RangeNotSatisfiable as error:
        rendered = api_errors.render(error)
        headers = [(b"content-range", f"bytes */{error.extra['size']}".encode())]
        await answers.send_json(send, rendered.status, rendered.json(), headers)
        return
    try:
        await send({"type": "http.response.start", "status": download.status, "headers": download.headers})
        piece = download.first
        while piece and not is_head:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            piece = await _in_thread(download.next)
        await send({"type": "http.response.body", "body": b""})
    finally:
        await _in_thread(download.close)


def _open(session: str, path: str, asked: downloads.Asked) -> downloads.Download:
    return downloads.open_file(files.find(session, path, owner_id=owners.default_id()), asked)


async def _put(scope: Scope, receive: Receive, send: Send, target: _Target) -> None:
    _check_announced(scope)
    message = await _received(receive, b"")
    if message[1]:
        await _in_time(_check, target)
        stored = await _upload(receive, target, message[0])
    else:
        stored = await _in_time(_put_whole, target, message[0])
    await answers.send_json(
        send,
        200,
        orjson.dumps({"path": stored.path, "size": stored.size}),
        [(b"etag", f'"{stored.sha256}"'.encode())],
    )


def _check_announced(scope: Scope) -> None:
    encoding = _header(scope, b"content-encoding")
    if encoding is not None and encoding.strip().lower() not in ("", "identity"):
        raise UnsupportedMediaType("Send the file without a Content-Encoding: its bytes are stored as they come.")
    length = _header(scope, b"content-length")
    if length is not None and length.isdigit() and int(length[:20]) > conf.get().workspace_bytes:
        raise files.too_large()


async def _upload(receive: Receive, target: _Target, first: bytes) -> files.File:
    """Writes the body away piece by piece; whatever goes wrong, nothing of it stays."""
    upload = await _in_thread(Upload)
    try:
        piece, more = first, True
        while more:
            piece, more = await _received(receive, piece)
            await _in_thread(upload.write, piece)
            if upload.size > conf.get().workspace_bytes:
                raise files.too_large()
            piece = b""
        return await _in_thread(_commit, target, upload)
    finally:
        await _in_thread(upload.abort)


async def _received(receive: Receive, begun: bytes) -> tuple[bytes, bool]:
    """The next piece of the body, of about :data:`PIECE_BYTES`, and whether more comes.

    Raises:
        Gone: the client broke off.
        Stalled: it stopped sending.
    """
    pieces, size, more = [begun], len(begun), True
    while more and size < PIECE_BYTES:
        body, more = await body_bytes.piece(receive)
        pieces.append(body)
        size += len(body)
    return b"".join(pieces), more


def _check(target: _Target) -> None:
    files.check_put(target.session, target.path, owner_id=owners.default_id(), precondition=target.precondition)


def _put_whole(target: _Target, content: bytes) -> files.File:
    _check(target)
    with Upload() as upload:
        upload.write(content)
        return _commit(target, upload)


def _commit(target: _Target, upload: Upload) -> files.File:
    stored = upload.commit()
    return files.put(
        target.session, target.path, stored, owner_id=owners.default_id(), precondition=target.precondition
    )


def _delete(target: _Target) -> None:
    files.delete(target.session, target.path, owner_id=owners.default_id(), precondition=target.precondition)


def _precondition(scope: Scope) -> Precondition:
    return Precondition.parse(_header(scope, b"if-match"), _header(scope, b"if-none-match"))


def _header(scope: Scope, name: bytes) -> str | None:
    values = [value.decode("latin-1") for key, value in scope["headers"] if key == name]
    return ", ".join(values) if values else None


async def _in_time(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """:func:`_in_thread` for a call that uses no descriptor of the caller's.

    Raises:
        TimeoutError: the database or the disk stands still.
    """
    going = asyncio.ensure_future(_in_thread(call, *args, **kwargs))
    try:
        done, _ = await asyncio.wait([going], timeout=ANSWER_WITHIN_S)
    finally:
        if not going.done():
            going.add_done_callback(_forgotten)
    if not done:
        raise TimeoutError("a thread of files stands still")
    return going.result()


def _forgotten(late: asyncio.Future[Any]) -> None:
    """Close what nobody waits for any more."""
    is_open = not late.cancelled() and late.exception() is None and isinstance(late.result(), downloads.Download)
    if is_open:
        late.result().close()


async def _in_thread(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Runs ``call`` in a thread of ours; cancelled, it waits for the thread, which may be using a descriptor."""

    def with_connection() -> T:
        close_old_connections()
        return call(*args, **kwargs)

    future = asyncio.get_running_loop().run_in_executor(_pool, with_connection)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        raise
