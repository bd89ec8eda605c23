"""A request to stop a run, made by any thread, before the run or in the middle of it."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Cancel:
    """Hand one to `Runner.run`; call `request` from anywhere. Thread-safe."""

    def __init__(self) -> None:
        """Not requested yet."""
        self._lock = threading.Lock()
        self._callback: Callable[[], None] | None = None
        self._requested = False

    @property
    def requested(self) -> bool:
        """Whether somebody asked."""
        return self._requested

    def request(self) -> None:
        """Ask the run to stop; returns at once, more calls do nothing."""
        with self._lock:
            first, self._requested = not self._requested, True
            if first and self._callback:
                self._callback()

    def attach(self, callback: Callable[[], None]) -> None:
        """For backends: what to do on a request; called at once if there was one already.

        The callback must not block and must not call into this object.
        """
        with self._lock:
            self._callback = callback
            if self._requested:
                callback()

    def detach(self) -> None:
        """For backends: after this no callback is running or will run."""
        with self._lock:
            self._callback = None
