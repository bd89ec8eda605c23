"""``WS /api/runs/{id}/attach``: talk to a run, as a terminal does.

Messages are JSON texts. To the client: a run's events as in its stream, with their ``id``; the last one is followed by a
normal close. From the client: ``stdin`` with ``content`` or ``base64`` (a binary message is input as it is), ``eof``,
``signal`` with ``signal``, ``resize`` with ``columns`` and ``rows``.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any
from uuid import UUID

import orjson
import redis

from era_project.errors import EraError, InvalidInput, NotFound, Unavailable
from sessions_app import terminals
from sessions_app.api import containers, sse
from sessions_app.api.body_bytes import Receive, Scope, Send
from sessions_app.listening import hub
from sessions_app.models import Run
from sessions_app.relay import Follower
from sessions_app.services import owners, runs
from sessions_app.services.followers import followers

NORMAL, POLICY = 1000, 1008
"""Close codes. Source: RFC 6455, 7.4.1."""
HELD_S = 0.05
FATAL = ("TERM", "KILL", "HUP")
"""Signals that end the run, whether or not it has a terminal."""


async def attach(scope: Scope, receive: Receive, send: Send, *, run_id: str) -> None:
    """One attached client.

    Raises:
        NotFound: there is no such run.
    """
    run = await hub().in_thread(_found, run_id)
    await receive()  # websocket.connect
    await send({"type": "websocket.accept"})
    try:
        async with followers().follower(run.id):
            await _talk(run, receive, send)
    except sse.LeftError:
        return


async def _talk(run: Run, receive: Receive, send: Send) -> None:
    """Until the last event, which ends the talk, or until the client leaves."""
    telling = asyncio.ensure_future(_tell(run.id, send))
    listening = asyncio.ensure_future(_listen(run, receive, send))
    try:
        await asyncio.wait({telling, listening}, return_when=asyncio.FIRST_COMPLETED)
        is_told = telling.done()
    finally:
        await sse.end({telling, listening})
    if not is_told:
        listening.result()
        raise sse.LeftError
    telling.result()
    await send({"type": "websocket.close", "code": NORMAL})


async def _tell(run_id: UUID, send: Send) -> None:
    async with aclosing(Follower(run_id).follow()) as events:
        async for event in events:
            if event is not None:
                await send({"type": "websocket.send", "text": f'{{"id":{event.end},{event.data[1:]}'})


async def _listen(run: Run, receive: Receive, send: Send) -> None:
    """Pass on what the client says until it leaves; nonsense is answered and ends the connection."""
    while (message := await receive())["type"] != "websocket.disconnect":
        try:
            word = _word(message)
            if word["type"] == "signal" and word["signal"] in FATAL:
                await hub().in_thread(_end, run)
            elif not run.interactive:
                raise InvalidInput("The run is not interactive: start it with `interactive` or `tty`.")
            else:
                await _pass_on(run.id, word)
        except EraError as error:
            told = {"type": "error", "error": error.title, "message": str(error), "code": error.code}
            await send({"type": "websocket.send", "text": orjson.dumps(told).decode()})
            await send({"type": "websocket.close", "code": POLICY, "reason": error.code})
            return


def _word(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message of a client, checked.

    Raises:
        InvalidInput: it is none of those that there are.
    """
    content = message.get("bytes")
    if content is not None:
        return {"type": "stdin", "base64": base64.b64encode(content).decode()}
    try:
        given = orjson.loads(message.get("text") or "")
    except orjson.JSONDecodeError:
        raise InvalidInput("A message must be a JSON object, or binary for input as it is.") from None
    made = _checked(given) if isinstance(given, dict) else None
    if made is None:
        raise InvalidInput("A message must be one of stdin, eof, signal and resize, with its members.")
    return made


def _checked(given: dict[str, Any]) -> dict[str, Any] | None:
    kind, names = given.get("type"), given.keys() - {"type"}
    if kind == "stdin" and len(names) == 1:
        return _input(given)
    if kind == "eof" and not names:
        return given
    if kind == "signal" and given.get("signal") in (*terminals.SIGNALS, *FATAL) and len(names) == 1:
        return given
    if kind == "resize" and len(names) == 2 and containers.terminal_size(given):
        return given
    return None


def _input(given: dict[str, Any]) -> dict[str, Any] | None:
    content, packed = given.get("content"), given.get("base64")
    if isinstance(content, str):
        return {"type": "stdin", "base64": base64.b64encode(content.encode()).decode()}
    try:
        base64.b64decode(packed or "", validate=True)
    except (binascii.Error, TypeError, ValueError):
        return None
    return given if isinstance(packed, str) else None


async def _pass_on(run_id: UUID, word: Mapping[str, Any]) -> None:
    """Into the run's list, held back while the program does not read."""
    valkey, key = hub().valkey, terminals.key(run_id)
    try:
        while await valkey.llen(key) >= terminals.WAITING:
            await asyncio.sleep(HELD_S)
        await valkey.rpush(key, orjson.dumps(word))
        await valkey.expire(key, terminals.INPUT_TTL_S)
    except (redis.RedisError, OSError):
        raise Unavailable("Input cannot be passed on now; attach again.") from None


def _found(run_id: str) -> Run:
    """The run of a path; raises NotFound where there is none that is the caller's."""
    try:
        run = Run.objects.filter(pk=UUID(run_id), owner_id=owners.default_id()).first()
    except ValueError:
        run = None
    if run is None:
        raise NotFound(f"There is no run {run_id}.")
    return run


def _end(run: Run) -> None:
    runs.cancel(str(run.id), owner_id=run.owner_id, wait_s=0)
