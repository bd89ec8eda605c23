"""Runs whose output the test itself writes: a row in the database, the worker's end of its events, a reader."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

from django.utils import timezone

from runners.output import Collector
from sessions_app import merged, run_object, run_rows
from sessions_app.events import RunEvents
from sessions_app.frames import Event
from sessions_app.listening import hub
from sessions_app.models import Owner, Run
from sessions_app.relay import Follower

PATIENCE_S = 60

NOBODYS = "none"
"""A language that no worker serves: a server that shares the database leaves these runs alone."""

T = TypeVar("T")


class Writing:
    """A run that a test executes by hand."""

    def __init__(self, *, streamed: bool = True, kept_bytes: int = 10 << 20) -> None:
        owner, _ = Owner.objects.get_or_create(name="default")
        until = timezone.now() + timedelta(hours=1)
        self.run = Run.objects.create(
            owner=owner,
            language=NOBODYS,
            timeout_s=30,
            queue_until=until,
            streamed=streamed,
            status="queued",
            session_name=uuid.uuid4().hex,
            started_at=timezone.now(),
        )
        self.id: UUID = self.run.id
        self.events = RunEvents(self.id, streamed=streamed)
        self.kept = {stream: Collector(kept_bytes) for stream in merged.NUMBERS}
        self.written: dict[str, list[bytes]] = {"stdout": [], "stderr": []}

    def write(self, stream: str, data: bytes) -> None:
        self.written[stream].append(data)
        self.kept[stream].add(data)
        self.events.write(stream, data)  # type: ignore[arg-type]

    def commit(self) -> dict[str, Any]:
        """The final row, as execution writes it; gives the run object."""
        out, err = self.kept["stdout"].kept(), self.kept["stderr"].kept()
        Run.objects.filter(pk=self.id).update(
            status="succeeded",
            exit_code=0,
            finished_at=timezone.now(),
            execution_time_ms=12.0,
            stdout=out.content,
            stderr=err.content,
            stdout_bytes=out.written_bytes,
            stderr_bytes=err.written_bytes,
            stdout_truncated=out.truncated,
            stderr_truncated=err.truncated,
            chunks=self.events.order(),
        )
        row = Run.objects.filter(pk=self.id).values(*run_rows.COLUMNS).get()
        return run_object.render(row, output=False)

    def finish(self) -> None:
        run = self.commit()
        self.events.finish(run)

    def text(self, stream: str) -> str:
        return b"".join(self.written[stream]).decode("utf-8", "replace")


def content(event: Event) -> str:
    return str(json.loads(event.data)["content"])


def text_of(events: list[Event], stream: str) -> str:
    return "".join(content(event) for event in events if event.type == stream)


def run_loop(main: Coroutine[Any, Any, T]) -> T:
    """What ``main`` gives, in a loop of its own whose connections end with it."""

    async def closing() -> T:
        try:
            return await main
        finally:
            await hub().close()

    return asyncio.run(closing())


async def read_all(
    run_id: UUID, *, after: int = 0, each: Callable[[Event], Awaitable[None]] | None = None
) -> list[Event]:
    """All events that a follower gets, which must end by itself."""
    got: list[Event] = []
    async with asyncio.timeout(PATIENCE_S):
        async for event in Follower(run_id, after=after).follow():
            if event is not None:
                got.append(event)
                if each:
                    await each(event)
    assert got[-1].is_last
    assert not any(event.is_last for event in got[:-1])
    return got


def check_dense(events: list[Event], *, after: int = 0) -> None:
    """Nothing twice, nothing left out."""
    at = after
    for event in events:
        assert event.start == at
        at = event.end
