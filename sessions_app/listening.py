"""What the followers of one web process share: a connection for reading, the library's listener, one look at rows."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import weakref
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from uuid import UUID

import redis
import redis.asyncio
from django.conf import settings
from django.db import close_old_connections, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django_eventstream import views
from django_eventstream.event import Event as StoredEvent

from sessions_app import events
from sessions_app.models import Run
from sessions_app.outage import ANSWER_WITHIN_S

logger = logging.getLogger(__name__)

T = TypeVar("T")

BUS = "events_channel"
"""Where the library publishes. Source: django_eventstream/views.py."""
START = b'{"channel": "'
"""How each message on it begins, so that those of runs that nobody follows here need no parsing."""
SUBSCRIBE_S = 1.0
"""How long a follower waits for the subscription; without it, it looks into storage every two seconds."""
AGAIN_S = 0.2
TOGETHER_S = 0.02
"""How long questions about rows are collected."""
THREADS = 4


class RunListener(views.RedisListener):  # type: ignore[misc]  # the library has no types
    """The library's listener, with an owner: it is restarted when it ends, and knows when it is subscribed.

    Source: the library starts its own once, keeps no reference, and it dies silently when Redis goes away.
    """

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self.redis_client = client
        self.pubsub: Any = None
        self.is_subscribed = asyncio.Event()

    async def start(self) -> None:
        """Listen for ever."""
        while True:
            self.pubsub = self.redis_client.pubsub()
            try:
                await self.listen()
            except (redis.RedisError, OSError) as error:
                logger.warning("Live events cannot be received: %s", error)
            finally:
                self.is_subscribed.clear()
                await self._hang_up()
            await asyncio.sleep(AGAIN_S)

    async def _hang_up(self) -> None:
        with contextlib.suppress(redis.RedisError, OSError):
            await self.pubsub.aclose()

    async def close(self) -> None:
        """End its connections."""
        await self.redis_client.aclose()

    async def listen(self) -> None:
        """Hand each event to those who follow its run, until the connection breaks."""
        await self.pubsub.subscribe(BUS)
        async for message in self.pubsub.listen():
            if message["type"] == "subscribe":
                self.is_subscribed.set()
            elif message["type"] == "message":
                _hand_over(message["data"])


def _hand_over(message: bytes) -> None:
    manager = views.get_listener_manager()
    name = message[len(START) : message.find(b'"', len(START))].decode()
    if name not in manager.listeners_by_channel:
        return
    sent: dict[str, Any] = json.loads(message)
    manager.add_to_queues(name, StoredEvent(name, sent["event_type"], sent["data"], id=int(sent["pub_id"])))


class Hub:
    """One for each event loop."""

    def __init__(self) -> None:
        given = {**settings.EVENTSTREAM_REDIS, "decode_responses": False}
        self.valkey = redis.asyncio.Redis(**given)
        self._listener = RunListener(redis.asyncio.Redis(**{**given, "socket_timeout": None}))
        self._task: asyncio.Task[None] | None = None
        self._threads = ThreadPoolExecutor(THREADS, "era-relay")
        self._connections: set[BaseDatabaseWrapper] = set()
        self._asked: dict[UUID, asyncio.Future[bool | None]] = {}
        self._asking: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def listener(self, channel: str) -> AsyncIterator[views.Listener]:
        """The library's listener for one channel, subscribed before anything is read."""
        await self._subscribe()
        listener = views.Listener()
        listener.channels = {channel}
        listener.assign_loop()
        manager = views.get_listener_manager()
        manager.add_listener(listener)
        try:
            yield listener
        finally:
            manager.remove_listener(listener)

    async def _subscribe(self) -> None:
        if self._task is None or self._task.done():
            manager = views.get_listener_manager()
            manager.redis_listener, manager.redis_listener_started = self._listener, True
            self._task = asyncio.create_task(self._listener.start())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SUBSCRIBE_S):
                await self._listener.is_subscribed.wait()

    async def page(self, channel: str, number: int, count: int) -> list[StoredEvent]:
        """The next ``count`` stored entries of a channel after ``number``; none while Valkey is away."""
        try:
            rows: Any = await self.valkey.xrange(events.key(channel), f"({number}-0", "+", count=count)
        except (redis.RedisError, OSError):
            return []
        return [events.stored(channel, *row) for row in rows]

    async def newest(self, channel: str) -> int:
        """The number of a channel's newest entry; 0 for none."""
        try:
            rows: Any = await self.valkey.xrevrange(events.key(channel), count=1)
        except (redis.RedisError, OSError):
            return 0
        return events.stored(channel, *rows[0]).id if rows else 0

    async def in_thread(self, function: Callable[..., T], *args: Any) -> T:
        """Call something that may use the database.

        Raises:
            TimeoutError: the database stands still.
        """
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(ANSWER_WITHIN_S):
            return await loop.run_in_executor(self._threads, self._with_database, function, args)

    def _with_database(self, function: Callable[..., T], args: tuple[Any, ...]) -> T:
        self._connections.add(connections["default"])
        close_old_connections()  # no request signals here: a connection that broke is replaced now
        return function(*args)

    async def is_finished(self, run_id: UUID) -> bool | None:
        """Whether a run's row is final; None: there is no row. One query for all who ask at about the same time."""
        answer = self._asked.get(run_id)
        if answer is None:
            answer = self._asked[run_id] = asyncio.get_running_loop().create_future()
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
        return await asyncio.shield(answer)

    async def close(self) -> None:
        """End the connections and threads; for loops that end before their process."""
        if self._task:
            self._task.cancel()
            await asyncio.wait({self._task})
        await self._listener.close()
        await self.valkey.aclose()
        await asyncio.to_thread(self._close_threads)

    def _close_threads(self) -> None:
        self._threads.shutdown()
        for used in self._connections:
            used.inc_thread_sharing()
            used.close()

    async def _ask(self) -> None:
        await asyncio.sleep(TOGETHER_S)
        asked, self._asked, self._asking = self._asked, {}, None
        try:
            found: dict[UUID, bool] = await self.in_thread(_final, list(asked))
        except Exception as error:
            logger.warning("Runs' rows cannot be read: %s", error)
            found = dict.fromkeys(asked, False)
        for run_id, answer in asked.items():
            answer.set_result(found.get(run_id))


def _final(run_ids: list[UUID]) -> dict[UUID, bool]:
    rows = Run.objects.filter(pk__in=run_ids).values_list("pk", "finished_at")
    return {run_id: finished_at is not None for run_id, finished_at in rows}


_hubs: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = weakref.WeakKeyDictionary()


def hub() -> Hub:
    """The hub of the running event loop."""
    loop = asyncio.get_running_loop()
    if loop not in _hubs:
        _hubs[loop] = Hub()
    return _hubs[loop]
