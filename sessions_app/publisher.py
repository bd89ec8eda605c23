"""The thread of a worker that sends the events of all its runs, so that no run waits for Valkey."""

from __future__ import annotations

import functools
import logging
import threading
import time

import redis

from sessions_app.feed import Feed
from sessions_app.frames import CONTENT_BYTES, Event
from sessions_app.merged import Order

logger = logging.getLogger(__name__)

QUIET_S = 0.020
"""Text waits until the program is quiet for so long,"""
LONGEST_S = 0.100
"""or until the oldest of it is so old. Source: measured, 100,000 lines are 37 events."""
SHORT_RUN_S = 0.100
"""A run that nobody asked to stream sends nothing before. Source: with 8 callers on 2 cores most hellos take 20 to 60 ms."""
UNASKED_BYTES = 1024 * 1024
"""So much output of a run is sent although nobody asked to stream it."""
LOOK_S = 0.05
"""How often it is looked whether somebody follows it."""
BEHIND_BYTES = 1024 * 1024
"""Text that may wait before its program is held back."""
FINISH_S = 2.0
"""How long a run's end waits for its last event to be out."""
AWAY_S = 0.25
"""Pause after Valkey could not be reached."""
GIVE_UP_S = 60.0
"""How long after its end a run's events are still tried while Valkey is away."""

NEVER = float("inf")


class Publisher:
    """Sends what feeds hold when it is due. All state of feeds but their decoders is under its lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)
        """Something is being sent, or Valkey went away: whoever waits for room looks again."""
        self._ends: dict[Feed, threading.Condition] = {}
        """Who waits for the end of a feed: each for its own, or the end of one of 500 would wake 499 for nothing."""
        self._feeds: set[Feed] = set()
        self._thread: threading.Thread | None = None
        self._wakes_at = NEVER
        self._away_until = 0.0

    def add(self, feed: Feed, stream: str, text: str) -> None:
        """Let ``text`` be sent when it is due; blocks while :data:`BEHIND_BYTES` wait and Valkey is there."""
        with self._changed:
            now = feed.latest_at = time.monotonic()
            if not feed.merged.pending_bytes:
                feed.first_at = now
            feed.merged.add(stream, text)
            self._feeds.add(feed)
            self._wake(feed)
            while feed.merged.pending_bytes > BEHIND_BYTES and self._away_until <= time.monotonic():
                self._room.wait(AWAY_S)
            if feed.merged.pending_bytes > BEHIND_BYTES:
                self._collect(feed)

    def end(self, feed: Feed) -> Order | None:
        """No more output comes: its order."""
        with self._changed:
            if not feed.has_ended:
                feed.has_ended = True
                for stream, rest in feed.merged.rests():
                    feed.merged.add(stream, rest)
                self._collect(feed)
                if feed.waiting and not self._is_short(feed):
                    self._feeds.add(feed)
                    self._wake(feed)
            return feed.merged.order()

    def finish(self, feed: Feed, last: Event) -> None:
        """Send the last event and wait for that, unless the run is over before anybody could follow it."""
        with self._changed:
            if self._is_short(feed):
                self._feeds.discard(feed)
                return
            feed.waiting.append(last)
            feed.is_final = True
            feed.latest_at = time.monotonic()
            self._feeds.add(feed)
            self._wake(feed)
            deadline = feed.latest_at + FINISH_S
            end = self._ends[feed] = threading.Condition(self._lock)
            while feed in self._feeds and self._away_until <= (now := time.monotonic()) < deadline:
                end.wait(deadline - now)
            del self._ends[feed]

    def drop(self, feed: Feed) -> None:
        """Forget a feed."""
        with self._changed:
            self._feeds.discard(feed)

    def _is_short(self, feed: Feed) -> bool:
        return not feed.streamed and not feed.is_public and time.monotonic() < feed.born + SHORT_RUN_S

    def _collect(self, feed: Feed) -> None:
        if feed.is_unheard:
            feed.merged.pass_over()
        else:
            feed.waiting += feed.merged.take()
        if self._away_until:
            feed.shorten()

    def _wake(self, feed: Feed) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._work, name="era-events", daemon=True)
            self._thread.start()
        elif self._due(feed) < self._wakes_at:
            self._changed.notify_all()

    def _due(self, feed: Feed) -> float:
        """When the feed has something to send, by the monotonic clock."""
        earliest = self._away_until
        if not feed.streamed and not feed.is_public:
            earliest = max(earliest, feed.born + SHORT_RUN_S)
        if feed.waiting or feed.sending:
            return earliest
        if not feed.merged.pending_bytes:
            return NEVER
        if not feed.is_public or feed.merged.pending_bytes >= CONTENT_BYTES:
            return earliest
        return max(earliest, min(feed.latest_at + QUIET_S, feed.first_at + LONGEST_S))

    def _work(self) -> None:
        while True:
            with self._changed:
                while not (due := self._take_due()):
                    self._wakes_at = min(map(self._due, self._feeds), default=NEVER)
                    pause = self._wakes_at - time.monotonic()
                    self._changed.wait(None if pause == NEVER else max(pause, 0))
                self._wakes_at = 0.0
                self._room.notify_all()
            for feed in due:
                self._send(feed)

    def _take_due(self) -> list[Feed]:
        now = time.monotonic()
        due = [feed for feed in self._feeds if self._due(feed) <= now]
        for feed in due:
            self._collect(feed)
            feed.start_sending()
        return due

    def _send(self, feed: Feed) -> None:
        try:
            if not feed.streamed and feed.merged.offset > UNASKED_BYTES:
                self._look_for_followers(feed)
            while feed.sending:
                feed.send_next()
        except (redis.RedisError, OSError) as error:
            self._pause(feed, error)
            return
        except Exception:
            logger.exception("The events of a run cannot be sent.")
            feed.sending.clear()
        with self._changed:
            self._away_until = 0.0
            if feed.is_final and not feed.waiting:
                self._feeds.discard(feed)
                self._tell(feed)

    def _look_for_followers(self, feed: Feed) -> None:
        """Long output that nobody asked for is sent only while somebody follows; its record will have it."""
        now = time.monotonic()
        if now >= feed.look_at:
            feed.look_at = now + LOOK_S
            feed.is_unheard = not feed.is_followed()

    def _pause(self, feed: Feed, error: Exception) -> None:
        with self._changed:
            if not self._away_until:
                logger.warning("Live events cannot be sent: %s", error)
            now = time.monotonic()
            self._away_until = now + AWAY_S
            feed.shorten()
            if feed.is_final and now > feed.latest_at + GIVE_UP_S:
                self._feeds.discard(feed)
            self._room.notify_all()
            for waiting in self._ends:
                self._tell(waiting)

    def _tell(self, feed: Feed) -> None:
        if end := self._ends.get(feed):
            end.notify()


@functools.cache
def publisher() -> Publisher:
    """The one of this process."""
    return Publisher()
