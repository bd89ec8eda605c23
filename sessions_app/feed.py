"""One run's events on their way to Valkey: text that waits, events that wait, events that may have to be sent again."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator

import redis
from django_eventstream.eventstream import send_event
from django_eventstream.utils import get_storage

from sessions_app.frames import Event
from sessions_app.merged import Merged

logger = logging.getLogger(__name__)

STORED_BYTES = 64 * 1024 * 1024
"""Newest events of one run that are kept in Valkey, by their size."""
STORED_ENTRIES = 100_000
"""The same, by the number of entries in which they are stored."""
ENTRY_BYTES = 66 * 1024
"""Events that are ready together are stored and published together, up to this size."""
SENT_BYTES = 256 * 1024
"""Events kept here for the case that Valkey comes back without them."""
WAITING_BYTES = 1024 * 1024
"""Events that wait here while Valkey is away; older ones are dropped, readers get them from the run's record."""


class MissingError(Exception):
    """The stream of a run that has events already is gone: Valkey was restarted without its memory."""


class Entry(str):  # noqa: SLOT000 (str takes no slots that hold anything)
    """Events that are stored and published together, one a line.

    Attributes:
        type: ``done`` or ``error`` if the last event is one of them, else ``output``.
        number: its place in the stream: 1, 2, …
        kept: how many entries of the stream are to be kept.
        opens: whether it may be the first of a stream that does not exist.
    """

    type: str
    number: int
    kept: int
    opens: bool

    def __iter__(self) -> Iterator[str]:
        """The whole text at once.

        Source: django_eventstream/utils.py, build_id_escape walks each character of what is sent for the sake of GRIP,
        which is not used here: that was 70 % of the cost of sending.
        """
        yield str(self)

    @classmethod
    def of(cls, events: list[Event], *, number: int, kept: int) -> Entry:
        """The entry that holds ``events``."""
        entry = cls("\n".join(event.stored() for event in events))
        entry.number, entry.kept = number, kept
        entry.type = events[-1].type if events[-1].is_last else "output"
        entry.opens = number == 1 or events[-1].is_last
        return entry


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
        self.is_unheard = False
        """Whether output is passed over because nobody follows."""
        self.look_at = 0.0
        self.waiting: deque[Event] = deque()
        self.sending: deque[Entry] = deque()
        self._sent: deque[Entry] = deque()
        self._sent_bytes = 0
        self._number = 0
        self._sizes: deque[int] = deque()
        self._stored_bytes = 0

    def start_sending(self) -> None:
        """What waits is to be sent now."""
        self.is_public = True
        bundle: list[Event] = []
        size = 0
        for event in self.waiting:
            if size + len(event.data) > ENTRY_BYTES and bundle:
                self._seal(bundle)
                bundle, size = [], 0
            bundle.append(event)
            size += len(event.data)
        if bundle:
            self._seal(bundle)
        self.waiting.clear()

    def _seal(self, bundle: list[Event]) -> None:
        self._number += 1
        size = sum(len(event.data) for event in bundle)
        self._sizes.append(size)
        self._stored_bytes += size
        while self._stored_bytes > STORED_BYTES or len(self._sizes) > STORED_ENTRIES:
            self._stored_bytes -= self._sizes.popleft()
        self.sending.append(Entry.of(bundle, number=self._number, kept=len(self._sizes)))

    def send_next(self) -> None:
        """Store and publish the entry that is next.

        Raises:
            redis.RedisError, OSError: Valkey is away; the entry is still the next.
        """
        entry = self.sending[0]
        try:
            send_event(self.channel, entry.type, entry, json_encode=False)
        except MissingError:
            self._send_again()
            return
        except redis.ResponseError as error:
            if "equal or smaller" not in str(error):  # else: stored already, only the answer was lost
                raise
        self.sending.popleft()
        self._sent.append(entry)
        self._sent_bytes += len(entry)
        while self._sent_bytes > SENT_BYTES:
            self._sent_bytes -= len(self._sent.popleft())

    def is_followed(self) -> bool:
        """Whether anybody follows the run now, on any web process.

        Raises:
            redis.RedisError, OSError: Valkey is away.
        """
        return bool(get_storage().is_followed(self.channel))

    def _send_again(self) -> None:
        logger.warning("Valkey lost the events of a run; those that are still here are sent again.")
        self.sending.extendleft(reversed(self._sent))
        self.sending[0].opens = True
        self._sent.clear()
        self._sent_bytes = 0

    def shorten(self) -> None:
        """Drop the oldest events that wait, down to :data:`WAITING_BYTES`; never the last one."""
        size = sum(len(event.data) for event in self.waiting)
        while size > WAITING_BYTES and len(self.waiting) > 1:
            size -= len(self.waiting.popleft().data)
