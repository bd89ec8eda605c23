"""Looks after live sandboxes between runs: drops what they print, notices their end, bounds their memory."""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from typing import Protocol

log = logging.getLogger(__name__)

_WATCH_S = 0.1
"""Between looks at idle sandboxes where no cgroup holds their memory."""
_PAUSE_S = 0.005
"""After each round: one that prints without end must not take the server's time, but wait until it is read."""
_EVENTS = select.EPOLLIN | select.EPOLLONESHOT


class Kept(Protocol):
    """What is kept."""

    def descriptors(self) -> tuple[int, ...]:
        """What to watch: pipes and the word of pid 1."""
        ...

    def attend(self) -> None:
        """Something happened, or it is time to look; called on the keeper's thread, must not block."""
        ...


class Keeper:
    """One thread for all live sandboxes of a backend."""

    def __init__(self, *, watches_memory: bool) -> None:
        """Starts the thread."""
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._lock = threading.Lock()
        self._kept: dict[int, Kept] = {}
        self._patience_s = _WATCH_S if watches_memory else -1.0
        self._closed = False
        self._thread = threading.Thread(target=self._loop, name="sandbox-keeper", daemon=True)
        self._thread.start()

    def add(self, kept: Kept) -> None:
        """Begin; nothing is watched before `arm`."""
        with self._lock:
            for descriptor in kept.descriptors():
                self._kept[descriptor] = kept
                self._epoll.register(descriptor, 0)

    def remove(self, kept: Kept) -> None:
        """End; before its descriptors are closed."""
        with self._lock:
            for descriptor in kept.descriptors():
                if self._kept.pop(descriptor, None):
                    self._epoll.unregister(descriptor)

    def forget(self, descriptor: int) -> None:
        """One of them is at its end, and would wake us for ever."""
        with self._lock:
            if self._kept.pop(descriptor, None):
                self._epoll.unregister(descriptor)

    def arm(self, kept: Kept) -> None:
        """No run is going on: watch."""
        self._modify(kept, _EVENTS)

    def disarm(self, kept: Kept) -> None:
        """A run begins: its own thread looks."""
        self._modify(kept, 0)

    def _modify(self, kept: Kept, events: int) -> None:
        with self._lock:
            for descriptor in kept.descriptors():
                if descriptor in self._kept:
                    self._epoll.modify(descriptor, events)

    def _loop(self) -> None:
        due_s = 0.0
        while not self._closed:
            ready = self._epoll.poll(self._patience_s)
            is_due = self._patience_s >= 0 and time.monotonic() >= due_s  # also where one of them is never quiet
            with self._lock:
                numbers = list(self._kept) if is_due else [number for number, _ in ready if number in self._kept]
                some = {id(self._kept[number]): self._kept[number] for number in numbers}
            if is_due:
                due_s = time.monotonic() + _WATCH_S
            for kept in some.values():
                try:
                    kept.attend()
                except Exception:
                    log.exception("Looking after a live sandbox failed.")
            time.sleep(_PAUSE_S)

    def close(self) -> None:
        """End the thread."""
        self._closed = True
        os.eventfd_write(self._wake, 1)
        self._thread.join(5)
        self._epoll.close()
        os.close(self._wake)
