"""The live events of a run: where they lie in Valkey, who may read them, and how a worker sends them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Literal

import redis
from django.conf import settings
from django_eventstream.channelmanager import ChannelManagerBase
from django_eventstream.event import Event as StoredEvent
from django_eventstream.eventstream import send_event
from django_eventstream.storage import StorageBase
from redis.backoff import NoBackoff
from redis.retry import Retry

from sessions_app import frames
from sessions_app.feed import STORED_ENTRIES, Entry, Feed, MissingError
from sessions_app.merged import Order
from sessions_app.models import Run
from sessions_app.publisher import publisher

logger = logging.getLogger(__name__)

PREFIX = "run-"
RUNNING_TTL_S = 2 * 3600
"""How long events outlive the latest one of a run that goes on; longer than a run may be silent."""
FINISHED_TTL_S = 600
"""How long they outlive its end; later readers get what the run's record keeps."""
TIMEOUT_S = 2.0
"""Patience with Valkey; its worker must not wait as long as the library's ten seconds of retries."""
TRIES = 5


def channel(run_id: object) -> str:
    """The name under which the events of a run are published."""
    return f"{PREFIX}{run_id}"


def key(channel_name: str) -> str:
    """The Redis stream that holds the events of a channel."""
    return f"era:events:{channel_name}"


def followers_key(channel_name: str) -> str:
    """The sorted set of those who follow a channel, on all web processes."""
    return f"era:followers:{channel_name}"


class RunStorage(StorageBase):
    """Events of a run in a Redis stream: one XADD an entry, with ids 1-0, 2-0, …, so that none is stored twice.

    Source: the library's own stores lose, repeat or hold back events of runs (RedisStorage starts at the current id
    and never expires its counters; DjangoModelStorage costs seven statements an event).
    """

    def __init__(self) -> None:
        patience = {"socket_timeout": TIMEOUT_S, "socket_connect_timeout": TIMEOUT_S, "retry": Retry(NoBackoff(), 1)}
        self._redis = redis.Redis(**{**settings.EVENTSTREAM_REDIS, **patience})

    def append_event(self, channel: str, event_type: str, data: str) -> StoredEvent:
        """Store one event.

        Raises:
            MissingError: earlier events of the run are gone; send them again first.
            redis.ResponseError: an event of this number is there already.
        """
        if not isinstance(data, Entry):
            data = Entry.of(frames.parse(data), number=self.get_current_id(channel) + 1, kept=STORED_ENTRIES)
        is_last = event_type in frames.LAST_TYPES
        must_exist = () if data.opens else ("NOMKSTREAM",)
        pipe: Any
        with self._redis.pipeline(transaction=False) as pipe:
            fields = (f"{data.number}-0", "t", event_type, "d", str(data))
            pipe.execute_command("XADD", key(channel), *must_exist, "MAXLEN", "~", data.kept, *fields)
            if is_last or data.opens or data.number % 64 == 0:
                pipe.expire(key(channel), FINISHED_TTL_S if is_last else RUNNING_TTL_S)
            if pipe.execute()[0] is None:
                raise MissingError(channel)
        return StoredEvent(channel, event_type, data, id=data.number)

    def get_events(self, channel: str, last_id: int, limit: int = 100) -> list[StoredEvent]:
        """Up to ``limit`` events after number ``last_id``, oldest first."""
        rows: Any = self._redis.xrange(key(channel), f"({int(last_id)}-0", "+", count=limit)
        return [stored(channel, number, fields) for number, fields in rows]

    def get_current_id(self, channel: str) -> int:
        """The number of the newest event; 0 for none."""
        newest = self.newest(channel)
        return newest.id or 0 if newest else 0

    def newest(self, channel: str) -> StoredEvent | None:
        """The newest event."""
        rows: Any = self._redis.xrevrange(key(channel), count=1)
        return stored(channel, *rows[0]) if rows else None

    def is_followed(self, channel: str) -> bool:
        """Whether anybody follows the run of this channel."""
        return bool(self._redis.exists(followers_key(channel)))


def stored(channel_name: str, number: bytes, fields: Mapping[bytes, bytes]) -> StoredEvent:
    """The event in one row of a Redis stream."""
    return StoredEvent(channel_name, fields[b"t"].decode(), fields[b"d"].decode(), id=int(number.partition(b"-")[0]))


class RunChannels(ChannelManagerBase):
    """Channel rights: the events of a run are its owner's."""

    def get_channels_for_request(self, request: Any, view_kwargs: Mapping[str, Any]) -> set[str]:
        """The run that the path names; never a channel that the query asks for."""
        return {channel(view_kwargs["run_id"])} if "run_id" in view_kwargs else set()

    def can_read_channel(self, user: Any, channel: str) -> bool:
        """Whether ``user`` (an owner) may follow the run of this channel; one query."""
        run_id = channel.removeprefix(PREFIX)
        owner_id = getattr(user, "pk", None)
        return owner_id is not None and Run.objects.filter(pk=run_id, owner_id=owner_id).exists()

    def is_channel_reliable(self, channel: str) -> bool:
        """Always: each event is stored before it is published."""
        return True


class RunEvents:
    """The worker's end of a run's events: give it the raw output as it comes and the run object at the end.

    ``write`` is for one thread at a time. Output is coalesced: the first stretch goes out at once, later ones after
    20 ms of quiet, 100 ms in all or 16 KiB. A run that nobody asked to stream and that is over within 100 ms sends
    nothing, unless :meth:`want` asks for it.
    """

    def __init__(self, run_id: object, *, streamed: bool) -> None:
        self.feed = Feed(channel(run_id), streamed=streamed)
        self._publisher = publisher()

    def write(self, stream: Literal["stdout", "stderr"], data: bytes) -> None:
        """Send a stretch of raw output; waits while the sending is more than 1 MiB behind."""
        if text := self.feed.merged.decode(stream, data):
            self._publisher.add(self.feed, stream, text)

    def want(self) -> None:
        """Have the end of the run told however short it was."""
        self.feed.streamed = True

    def is_wanted(self) -> bool:
        """Whether anybody follows the run by now, or it cannot be found out."""
        try:
            return self.feed.streamed or self.feed.is_followed()
        except (redis.RedisError, OSError):
            return True

    def order(self) -> Order | None:
        """End the output: whose turn it was, ``[[1 or 2, bytes], …]``; None where only one stream has output."""
        return self._publisher.end(self.feed)

    def finish(self, run: Mapping[str, Any]) -> None:
        """Send the one last event, made from the run object; returns when it is out, after 2 s at the latest."""
        self.order()
        self._publisher.finish(self.feed, frames.last(run, self.feed.merged.offset))

    def close(self) -> None:
        """Forget the run without a last event: somebody else ends it."""
        self._publisher.drop(self.feed)


def publish_end(run: Mapping[str, Any]) -> None:
    """Send the last event of a run that no worker ended (lost, expired, cancelled while queued). Never raises."""
    try:
        _publish_end(run)
    except (redis.RedisError, OSError):
        logger.warning("The last event of a run was not sent; its readers will look at its record.", exc_info=True)


def _publish_end(run: Mapping[str, Any]) -> None:
    storage = RunStorage()
    name = channel(run["run_id"])
    for _ in range(TRIES):
        newest = storage.newest(name)
        if newest and newest.type in frames.LAST_TYPES:
            return
        offset = frames.parse(newest.data)[-1].end if newest else 0
        event = frames.last(run, offset)
        number = (newest.id or 0) + 1 if newest else 1
        try:
            send_event(name, event.type, Entry.of([event], number=number, kept=STORED_ENTRIES), json_encode=False)
            return
        except redis.ResponseError as error:
            if "equal or smaller" not in str(error):
                raise
