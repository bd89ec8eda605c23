"""One run's events on their way to Valkey: text that waits, events that wait, events that may have to be sent again."""

from __future__ import annotations

import logging
import time
from collections import deque

import redis
from django_eventstream.eventstream import send_event

from sessions_app.frames import Event
from sessions_app.merged import Merged

logger = logging.getLogger(__name__)

STORED_BYTES = 64 * 1024 * 1024
"""Newest events of one run that are kept in Valkey, by their size."""
STORED_EVENTS = 100_000
"""The same, by their number."""
SENT_BYTES = 256 * 1024
"""Events kept here for the case that Valkey comes back without them."""
WAITING_BYTES = 1024 * 1024
"""Events that wait here while Valkey is away; older ones are dropped, readers get them from the run's record."""


class MissingError(Exception):
    """The stream of a run that has events already is gone: Valkey was restarted without its memory."""


class Payload(str):  # noqa: SLOT000 (str takes no slots that hold anything)
    """The text of an event that knows its number in the stream (1, 2, …) and how many events are to be kept.

    ``opens``: whether it may be the first of a stream that does not exist.
    """

    type: str
    number: int
    kept: int
    opens: bool

    @classmethod
    def of(cls, event: Event, *, number: int, kept: int) -> Payload:
        """The stored form of ``event``."""
        payload = cls(event.stored())
        payload.type, payload.number, payload.kept = event.type, number, kept
        payload.opens = number == 1 or event.is_last
        return payload


class Feed:
    """What a worker holds of the events of one run.

    ``merged``, ``waiting`` and the marks belong to the publisher's lock, ``sending`` and what was sent to its thread.
    """

    def __init__(self, channel_name: str, *, streamed: bool) -> None:
        self.channel = channel_name
        self.streamed = streamed
        self.born = time.monotonic()
        self.merged = Merged()
        self.first_at = self.latest_at = 0.0
        """When the text that waits began and went on."""
        self.is_public = False
        """Whether anything was sent, or is about to be."""
        self.has_ended = self.is_final = False
        self.waiting: deque[Payload] = deque()
        self.sending: deque[Payload] = deque()
        self._sent: deque[Payload] = deque()
        self._sent_bytes = 0
        self._number = 0
        self._sizes: deque[int] = deque()
        self._stored_bytes = 0

    def push(self, event: Event) -> None:
        """Number an event and let it wait to be sent."""
        self._number += 1
        size = len(event.data)
        self._sizes.append(size)
        self._stored_bytes += size
        while self._stored_bytes > STORED_BYTES or len(self._sizes) > STORED_EVENTS:
            self._stored_bytes -= self._sizes.popleft()
        self.waiting.append(Payload.of(event, number=self._number, kept=len(self._sizes)))

    def send_next(self) -> None:
        """Store and publish the event that has waited longest.

        Raises:
            redis.RedisError, OSError: Valkey is away; the event still waits.
        """
        payload = self.sending[0]
        try:
            send_event(self.channel, payload.type, payload, json_encode=False)
        except MissingError:
            self._send_again()
            return
        except redis.ResponseError as error:
            if "equal or smaller" not in str(error):  # else: stored already, only the answer was lost
                raise
        self.sending.popleft()
        self._sent.append(payload)
        self._sent_bytes += len(payload)
        while self._sent_bytes > SENT_BYTES:
            self._sent_bytes -= len(self._sent.popleft())

    def _send_again(self) -> None:
        logger.warning("Valkey lost the events of a run; those that are still here are sent again.")
        self.sending.extendleft(reversed(self._sent))
        self.sending[0].opens = True
        self._sent.clear()
        self._sent_bytes = 0

    def shorten(self) -> None:
        """Drop the oldest events that wait, down to :data:`WAITING_BYTES`; never the last one."""
        size = sum(map(len, self.waiting))
        while size > WAITING_BYTES and len(self.waiting) > 1:
            size -= len(self.waiting.popleft())
