"""The web's end of a run's events: whole, in order, once each, from any offset, whatever happens in between."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from uuid import UUID

from django_eventstream import views
from django_eventstream.event import Event as StoredEvent

from era_project.errors import NotFound
from sessions_app import events, frames, kept_output
from sessions_app.frames import Event
from sessions_app.listening import Hub, hub

SILENCE_S = 2.0
"""After so much of it a follower looks into storage and at the run's row: an event may have been lost."""
LOOKS = 2
"""How often a run that is over must be seen with nothing new in storage before its record is read instead: the worker
may still be sending."""
PAGE_BYTES = 256 * 1024
"""About so much is read from storage at once."""
LEAST_PAGE, LARGEST_PAGE = 4, 512
"""Entries read at once: as many as came to :data:`PAGE_BYTES` the last time."""
FEW = 64
"""Stored entries that are not worth searching through."""
BATCH = 8
"""Events of a finished run that are made at once: at most 128 KiB a follower."""


class Follower:
    """What a reader lacks of a run's events. Holds at most a few entries, however slowly it is read."""

    def __init__(self, run_id: UUID, *, after: int = 0) -> None:
        self.run_id = run_id
        self._channel = events.channel(run_id)
        self._offset = after
        self._page = LEAST_PAGE
        self._number = 0
        """The newest entry of the stream that was passed on as a whole."""
        self._lacks = False
        """Whether the next entry at hand begins later than what was passed on ends."""
        self._is_silent = False
        """Whether nothing that can be passed on came for :data:`SILENCE_S`."""

    async def follow(self, *, is_new: bool = False) -> AsyncGenerator[Event | None, None]:
        """Events until after the last one, None every now and then while there are none.

        Args:
            is_new: whether the run was just started, so that nobody need ask whether it is over.
        """
        shared = hub()
        async with shared.listener(self._channel) as listener:
            looks = LOOKS - 1 if not is_new and await self._is_over(shared) else 0
            async with aclosing(self._live(shared, listener, looks)) as live:
                async for event in live:
                    yield event
                    if event and event.is_last:
                        return
        async with aclosing(self._kept(shared)) as kept:
            async for event in kept:
                yield event

    async def _live(self, shared: Hub, listener: views.Listener, looks: int) -> AsyncGenerator[Event | None, None]:
        """What is stored and what is published, until the last event or until only the run's record can help."""
        is_over = looks > 0
        while True:
            before = self._offset
            async with aclosing(self._stored(shared)) as stored:
                async for event in stored:
                    yield event
            looks = looks + 1 if is_over and self._offset == before else 0
            if looks >= LOOKS or (is_over and self._lacks):
                return
            async with aclosing(self._published(listener)) as published:
                async for event in published:
                    yield event
            if self._is_silent:
                yield None
                is_over = await self._is_over(shared)

    async def _stored(self, shared: Hub) -> AsyncGenerator[Event, None]:
        self._lacks = False
        if self._offset and not self._number:
            self._number = await self._seek(shared)
        while not self._lacks and (entries := await shared.page(self._channel, self._number, self._page)):
            size = sum(len(entry.data) for entry in entries)
            fitting = self._page * PAGE_BYTES // max(size, 1)
            self._page = max(LEAST_PAGE, min(fitting, self._page * 2, LARGEST_PAGE))
            for entry in entries:
                for event in self._pass_on(entry):
                    yield event

    async def _seek(self, shared: Hub) -> int:
        """The number of an entry before the one in which the offset lies: not far before it, in a long stream."""
        low, high = 0, await shared.newest(self._channel)
        while high - low > FEW:
            middle = (low + high) // 2
            found = await shared.page(self._channel, middle, 1)
            if found and frames.parse(found[0].data)[0].start <= self._offset:
                low = middle
            else:
                high = middle
        return low

    async def _published(self, listener: views.Listener) -> AsyncGenerator[Event, None]:
        """What comes in, until something is missing or nothing came for :data:`SILENCE_S`."""
        self._is_silent = self._lacks
        if self._lacks:
            await asyncio.sleep(SILENCE_S)
        while not self._lacks:
            try:
                async with asyncio.timeout(SILENCE_S):
                    await listener.aevent.wait()
            except TimeoutError:
                self._is_silent = True
                return
            entries, is_whole = self._take(listener)
            for entry in entries:
                if entry.id > self._number + 1:
                    return
                for event in self._pass_on(entry):
                    yield event
            if not is_whole:
                return

    def _take(self, listener: views.Listener) -> tuple[list[StoredEvent], bool]:
        with views.get_listener_manager().lock:
            entries = listener.channel_items.pop(self._channel, [])
            is_whole = not listener.overflow
            listener.overflow = False
            listener.aevent.clear()
        return entries, is_whole

    def _pass_on(self, entry: StoredEvent) -> Iterator[Event]:
        if self._lacks or entry.id <= self._number:
            return
        for event in frames.parse(entry.data):
            if event.start > self._offset:
                self._lacks = True
                return
            if rest := event.after(self._offset):
                self._offset = max(self._offset, rest.end)
                yield rest
        self._number = entry.id

    async def _is_over(self, shared: Hub) -> bool:
        """Whether the run's row is final or gone."""
        return await shared.is_finished(self.run_id) is not False

    async def _kept(self, shared: Hub) -> AsyncGenerator[Event, None]:
        made = kept_output.events(self.run_id, after=self._offset)
        try:
            batch: list[Event]
            while batch := await shared.in_thread(list, itertools.islice(made, BATCH)):
                for event in batch:
                    yield event
        except NotFound:
            yield self._gone()
        finally:
            with contextlib.suppress(ValueError):  # a cancelled follower leaves it running in its thread
                made.close()

    def _gone(self) -> Event:
        told = {"error": "Not found", "message": "The run's record is gone.", "code": "NOT_FOUND"}
        data = json.dumps({"type": "error", **told, "run_id": str(self.run_id)}, separators=(",", ":"))
        return Event("error", self._offset, self._offset, data)
