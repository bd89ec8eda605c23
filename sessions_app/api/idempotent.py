"""``Idempotency-Key`` on any POST: the first call goes on, a later one gets the first one's answer."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from era_project import conf
from era_project.errors import Conflict, NotFound
from sessions_app import run_object
from sessions_app.api import answers, body_bytes
from sessions_app.api.body_bytes import Message, Receive, Scope, Send
from sessions_app.listening import hub
from sessions_app.services import idempotency, owners, runs
from sessions_app.services.idempotency import Call, Claim
from sessions_app.services.runs import NewRun

logger = logging.getLogger(__name__)

App = Callable[[Scope, Receive, Send], Awaitable[None]]

SCOPE_KEY = "era.idempotency"
LARGEST_ANSWER_BYTES = 256 * 1024
"""A larger answer is made again from its run."""
DID_NOTHING = frozenset((400, 401, 403, 404, 405, 409, 413, 415, 429, 503))
"""Statuses after which the call may be tried again, unless it made a run."""
LOOK_S = 0.1
RUNS_OF_THEIR_OWN = ("/api/runs/batch",)
"""Routes that make many runs, whose ids they derive from the key's."""


def once(app: App) -> App:
    """``app``, which answers a POST that carries a key only once."""

    async def keyed(scope: Scope, receive: Receive, send: Send) -> None:
        key = next((value for name, value in scope["headers"] if name == b"idempotency-key"), None)
        if key is None or scope["method"] != "POST" or not scope["path"].startswith("/api/"):
            await app(scope, receive, send)
            return
        idempotency.check_key(key.decode("latin-1"))
        body = await body_bytes.read(scope, receive, limit=conf.get().max_body_bytes)
        call = await hub().in_thread(_call, scope, key.decode("ascii"), body)
        await _answer(app, call, scope, _Replayed(body, receive), send)

    return keyed


def claimed(scope: Scope) -> Claim | None:
    """What a door has to know: whether its request came with a key."""
    found: Claim | None = scope.get(SCOPE_KEY)
    return found


def adopted(new: NewRun, scope: Scope) -> NewRun:
    """``new`` as a call with a key starts it: under the id that the key has, and not to be cancelled by its caller."""
    claim = claimed(scope)
    return new if claim is None else dataclasses.replace(new, run_id=claim.run_id, detached=True)


class _Replayed:
    """``receive`` for an app that reads the body, which was read already."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


class _Kept:
    """``send`` that settles what becomes of the key before the end of the answer goes out."""

    def __init__(self, send: Send, claim: Claim) -> None:
        self._send = send
        self._claim = claim
        self._status = 0
        self._body: bytes | None = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            if (b"content-type", b"text/event-stream") in message["headers"]:
                self._body = None
        else:
            if self._body is not None:
                self._body += message.get("body", b"")
                self._body = self._body if len(self._body) <= LARGEST_ANSWER_BYTES else None
            if not message.get("more_body", False) and not _is_stopping():
                await self._settle()
        await self._send(message)

    async def _settle(self) -> None:
        is_finished = await hub().is_finished(self._claim.run_id) if self._status in DID_NOTHING else True
        if is_finished and self._is_unread():
            return  # the run has its end: whoever comes again gets it, once it can be read
        if self._status in DID_NOTHING and (is_finished is None or (is_finished and self._is_unavailable())):
            await hub().in_thread(idempotency.release, self._claim)
        elif is_finished:
            await hub().in_thread(_keep, self._claim, self._status, self._body)
        # Else the run goes on, or waits, and answers whoever comes again.

    def _is_unavailable(self) -> bool:
        """Whether a part that is down kept the run from being started; one that waited in vain has its answer."""
        return self._status == 503 and b'"QUEUE_TIMEOUT"' not in (self._body or b"")

    def _is_unread(self) -> bool:
        """Whether the store that has the run's output could not be asked for it."""
        return self._status == 503 and b'"OBJECT_STORE_DOWN"' in (self._body or b"")


def _is_stopping() -> bool:
    """Whether this process has no time left: the key stays as it is, and its run answers whoever comes again."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _call(scope: Scope, key: str, body: bytes) -> Call:
    path = scope["path"]
    query = scope.get("query_string") or b""
    return Call(owner_id=owners.default_id(), route=path[:255], key=key, body=query + b"\0" + body)


async def _answer(app: App, call: Call, scope: Scope, receive: Receive, send: Send) -> None:
    while True:
        claim = await hub().in_thread(idempotency.claim, call)
        scope = {**scope, SCOPE_KEY: claim}
        if claim.is_first:
            await _run_first(app, scope, receive, send)
            return
        if claim.answer is not None:
            await answers.send_json(send, claim.status or 200, claim.answer)
            return
        if scope["path"] in RUNS_OF_THEIR_OWN:
            await app(scope, receive, send)
            return
        is_finished = await hub().is_finished(claim.run_id)
        if is_finished or (is_finished is False and scope["path"].endswith("/stream")):
            await _answer_by_run(app, claim, scope, receive, send)
            return
        if is_finished is None and claim.status is not None:
            raise NotFound("The record of this key's run is gone.")
        if is_finished is None and claim.is_abandoned:
            raise Conflict("The first call with this Idempotency-Key ended without an answer; use a new key.")
        await asyncio.sleep(LOOK_S)


async def _run_first(app: App, scope: Scope, receive: Receive, send: Send) -> None:
    claim: Claim = scope[SCOPE_KEY]
    try:
        await app(scope, receive, _Kept(send, claim))
    except Exception:
        if await _made_no_run(claim):
            await hub().in_thread(idempotency.release, claim)
        raise


def _keep(claim: Claim, status: int, answer: bytes | None) -> None:
    idempotency.keep(claim, status=status, answer=answer)


async def _made_no_run(claim: Claim) -> bool:
    return await hub().is_finished(claim.run_id) is None


async def _answer_by_run(app: App, claim: Claim, scope: Scope, receive: Receive, send: Send) -> None:
    """The first call made a run: a stream follows it, everybody else gets how it ended."""
    if scope["path"].endswith("/stream"):
        await app(scope, receive, send)
        return
    finished: Any = await hub().in_thread(_finished, claim)
    headers = [] if finished.retry_after is None else [(b"retry-after", str(finished.retry_after).encode())]
    await answers.send_json(send, finished.http_status, finished.body, headers)


def _finished(claim: Claim) -> run_object.Finished:
    return run_object.answer(runs.get(str(claim.run_id), owner_id=owners.default_id()))
