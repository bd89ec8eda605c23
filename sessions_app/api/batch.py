"""``POST /api/runs/batch``: up to 1,000 runs, one answer or one stream of results."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import msgspec
import orjson

from era_project import api_errors, conf
from era_project.errors import EraError, InvalidInput
from sessions_app import run_object
from sessions_app.api import bodies, body_bytes, idempotent, json_text, sse
from sessions_app.api.body_bytes import Receive, Scope, Send
from sessions_app.listening import hub
from sessions_app.services import batches, owners
from sessions_app.services.batches import Batch, Result
from sessions_app.services.runs import NewRun

JSON = [(b"content-type", b"application/json")]

_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


async def batch(scope: Scope, receive: Receive, send: Send) -> None:
    """Run everything; a client that goes away ends what is on its way, unless it gave an Idempotency-Key."""
    body = await body_bytes.read(scope, receive, limit=conf.get().max_body_bytes)
    await hub().in_thread(owners.default_id)
    wanted, is_stream = parse(body)
    claim = idempotent.claimed(scope)
    work = Batch(wanted, claim)
    try:
        await sse.while_present((_stream if is_stream else _answer)(work, send, len(wanted)), receive)
    except sse.LeftError:
        if claim is None:
            await work.cancel()


def parse(body: bytes) -> tuple[Sequence[NewRun], bool]:
    """The runs of a batch, all of them checked, and whether a stream is wanted.

    Raises:
        InvalidInput: with ``index`` where one of the runs is at fault.
    """
    document = json_text.parse(body)
    bodies.refuse_unknown(document, ["runs", "stream"], what="field")
    given = document.get("runs")
    if not isinstance(given, list) or not 0 < len(given) <= batches.LARGEST:
        raise InvalidInput(f"`runs` must be a list of 1 to {batches.LARGEST} bodies of runs.", field="runs")
    is_stream = document.get("stream", False)
    if not isinstance(is_stream, bool):
        raise InvalidInput("`stream` must be true or false.", field="stream")
    return [_run(place, bytes(text)) for place, text in enumerate(_items(_members(body)["runs"]))], is_stream


def _run(place: int, text: bytes) -> NewRun:
    try:
        new = _checked(json_text.parse(text, raw=bodies.SessionRun.raw))
        if not new.wait:
            raise InvalidInput("A run of a batch is always waited for: leave `wait` away.", field="wait")
        if new.interactive:
            raise InvalidInput("Nobody can talk to a run of a batch: leave `interactive` and `tty` away.", field="tty")
    except EraError as error:
        error.extra["index"] = place
        raise
    return new


def _checked(item: dict[str, Any]) -> NewRun:
    if "session_id" not in item:
        return bodies.new_one_shot(bodies.Execute.checked(item))
    session = item.pop("session_id")
    if not isinstance(session, str):
        raise InvalidInput("`session_id` must be a string.", field="session_id")
    return bodies.new_session_run(bodies.SessionRun.checked(item), session=session)


async def _answer(work: Batch, send: Send, count: int) -> None:
    """One JSON object, sent as the results come, in the order of the batch: its size is bounded by nobody's memory."""
    await send({"type": "http.response.start", "status": 200, "headers": JSON})
    before = b'{"results":['
    async with aclosing(work.results(in_order=True)) as results:
        async for item in results:
            if item is not None:
                await send({"type": "http.response.body", "body": before + _body(item[1]), "more_body": True})
                before = b","
    await send({"type": "http.response.body", "body": b'],"count":%d}' % count, "more_body": False})


async def _stream(work: Batch, send: Send, count: int) -> None:
    await sse.begin(send)
    async with aclosing(_frames(work, count)) as made:
        await sse.write(send, made)


async def _frames(work: Batch, count: int) -> AsyncGenerator[bytes | None, None]:
    number = 0
    async with aclosing(work.results(in_order=False)) as results:
        async for item in results:
            if item is None:
                yield None
                continue
            number += 1
            data = f'{{"type":"result","index":{item[0]},"run":{run_object.line(_body(item[1]))}}}'
            yield f"event: result\nid: {number}\ndata: {data}\n\n".encode()
    yield f'event: done\nid: {number}\ndata: {{"type":"done","count":{count}}}\n\n'.encode()


def _body(result: Result) -> bytes:
    return orjson.dumps(api_errors.render(result).body) if isinstance(result, EraError) else result.body
