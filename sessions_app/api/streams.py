"""The doors of streams: start a run and follow it, follow one that there is, run many."""

from __future__ import annotations

import dataclasses
from uuid import UUID

from era_project import conf
from era_project.errors import InvalidInput, NotFound
from sessions_app.api import batch as batches
from sessions_app.api import bodies, body_bytes, idempotent, sse
from sessions_app.api.body_bytes import Receive, Scope, Send
from sessions_app.api.execute import outcome
from sessions_app.events import RunChannels, channel
from sessions_app.listening import hub
from sessions_app.models import Owner
from sessions_app.services import owners, runs
from sessions_app.services.runs import NewRun

__all__ = ["batch", "events", "stream_execute", "stream_session"]

batch = batches.batch


async def stream_execute(scope: Scope, receive: Receive, send: Send) -> None:
    """``POST /api/execute/stream``."""
    body = await body_bytes.read(scope, receive, limit=conf.get().max_body_bytes)
    await hub().in_thread(owners.default_id)
    await _start(bodies.execute(body, streamed=True), scope, receive, send)


async def stream_session(scope: Scope, receive: Receive, send: Send, *, session: str) -> None:
    """``POST /api/sessions/{id}/stream``."""
    body = await body_bytes.read(scope, receive, limit=conf.get().max_body_bytes)
    await hub().in_thread(owners.default_id)
    await _start(bodies.run(body, session=session, streamed=True), scope, receive, send)


async def events(scope: Scope, receive: Receive, send: Send, *, run_id: str) -> None:
    """``GET /api/runs/{id}/events``: from the start, or after the event whose id ``Last-Event-ID`` gives."""
    if scope["query_string"]:
        raise InvalidInput("This route takes no query; send the header Last-Event-ID.", code="UNKNOWN_FIELD")
    after = sse.last_event_id(scope)
    wanted = await hub().in_thread(_readable, run_id)
    if scope.get("era.head"):
        await sse.begin(send, sse.run_headers(wanted))
        return
    await sse.follow(wanted, receive, send, after=after)


async def _start(new: NewRun, scope: Scope, receive: Receive, send: Send) -> None:
    if not new.wait:
        raise InvalidInput("A stream cannot be had with `wait`: false; leave it away.", field="wait")
    claim = idempotent.claimed(scope)
    if claim is not None and not claim.is_first:
        await sse.follow(claim.run_id, receive, send)
        return
    started = runs.start(dataclasses.replace(idempotent.adopted(new, scope), wait=False))
    await outcome(started.accepted, started, new.owner_id)
    await sse.follow(UUID(started.run_id), receive, send, is_new=True)


def _readable(run_id: str) -> UUID:
    """The id of a run that the caller may follow; raises NotFound for any other."""
    try:
        wanted = UUID(run_id)
    except ValueError:
        raise NotFound(f"There is no run {run_id}.") from None
    if not RunChannels().can_read_channel(Owner(pk=owners.default_id()), channel(wanted)):
        raise NotFound(f"There is no run {run_id}.")
    return wanted
