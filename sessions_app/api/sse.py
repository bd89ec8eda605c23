"""Server-sent events over ASGI: headers, frames, keep-alives, and a watch on whether anybody still reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import aclosing
from typing import Any
from uuid import UUID

from era_project.errors import InvalidInput
from sessions_app import frames
from sessions_app.api.body_bytes import Receive, Scope, Send
from sessions_app.relay import Follower
from sessions_app.services.followers import followers

HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]
KEEP_ALIVE_S = 12.0
"""Silence after which a comment is sent. Source: one every 15 s at the latest; the relay looks up every 2 s."""
CANCEL_AGAIN_S = 0.5
"""A cancelled task is cancelled again until it has ended: awaiting code can swallow a cancellation (Python 3.11)."""
MAX_DIGITS = 18


class LeftError(Exception):
    """The reader went away before the last event."""


def last_event_id(scope: Scope) -> int:
    """The offset after which a reader goes on; 0 without one.

    Raises:
        InvalidInput: it is no offset.
    """
    text = next((value for name, value in scope["headers"] if name == b"last-event-id"), b"").strip()
    if not text:
        return 0
    if not text.isdigit() or len(text) > MAX_DIGITS:
        raise InvalidInput("Last-Event-ID must be the id of an event: a whole number.", field="Last-Event-ID")
    return int(text)


def run_headers(run_id: UUID) -> list[tuple[bytes, bytes]]:
    """Where the run of a stream can be asked for."""
    return [(b"location", b"/api/runs/%s" % str(run_id).encode()), (b"x-run-id", str(run_id).encode())]


async def begin(send: Send, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    """Send the headers of a stream."""
    await send({"type": "http.response.start", "status": 200, "headers": [*HEADERS, *headers]})
    await send({"type": "http.response.body", "body": b"", "more_body": True})


async def write(send: Send, source: AsyncIterator[bytes | None]) -> None:
    """Send each frame of ``source`` in a write of its own; None is a moment in which a keep-alive may be due."""
    loop = asyncio.get_running_loop()
    sent_at = loop.time()
    async for frame in source:
        if frame is None and loop.time() - sent_at < KEEP_ALIVE_S:
            continue
        await send({"type": "http.response.body", "body": frame or frames.KEEP_ALIVE, "more_body": True})
        sent_at = loop.time()
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def while_present(work: Coroutine[Any, Any, None], receive: Receive) -> None:
    """Do ``work`` as long as the client is there.

    Raises:
        LeftError: the client went away; the work has ended.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        is_gone = not task.done()
    finally:
        await end({task, gone})
    if is_gone:
        raise LeftError
    task.result()


async def end(tasks: set[asyncio.Future[None]]) -> None:
    """Cancel ``tasks`` until they have ended."""
    while left := {task for task in tasks if not task.done()}:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=CANCEL_AGAIN_S)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def follow(run_id: UUID, receive: Receive, send: Send, *, after: int = 0, is_new: bool = False) -> None:
    """Send the events of a run until the last one or until the reader leaves."""
    try:
        async with followers().follower(run_id):
            await while_present(_send(run_id, send, after=after, is_new=is_new), receive)
    except LeftError:
        return


async def _send(run_id: UUID, send: Send, *, after: int, is_new: bool) -> None:
    await begin(send, run_headers(run_id))
    async with aclosing(Follower(run_id, after=after).follow(is_new=is_new)) as events:
        await write(send, (event.frame() if event else None async for event in events))
