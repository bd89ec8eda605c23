"""The world that slots are born in now, and earlier ones that still have slots."""

from __future__ import annotations

import logging
import threading
import time

from runners.backends.slot.starter import World, WorldSpec

log = logging.getLogger(__name__)

AGE_MAX_S = 3600.0
"""Runs of one world share address layout and hash seed: a new one is begun now and then."""
RETRY_S = 5.0
"""After a world that could not be built, until the next try: one may take a minute, for which all builds wait."""


class Worlds:
    """Begins a new world when the present one is old or a master of it dead; ends old ones with their last slot."""

    def __init__(self, spec: WorldSpec) -> None:
        """Starts the first one.

        Raises:
            OSError: It could not be built.
        """
        self.spec = spec
        self._lock = threading.Lock()
        self._current = World(spec)
        self._begun_s = time.monotonic()
        self._next_try_s, self._why_none = 0.0, ""
        self._slots: dict[World, int] = {self._current: 0}

    def acquire(self) -> World:
        """The world for one more slot; `release` it with the slot.

        Raises:
            OSError: The old one is dead and a new one could not be built.
        """
        with self._lock:
            is_old = time.monotonic() - self._begun_s > AGE_MAX_S
            if is_old or not self._current.is_whole:
                self._begin_another()
            self._slots[self._current] += 1
            return self._current

    def _begin_another(self) -> None:
        another = self._try_another() if time.monotonic() >= self._next_try_s else None
        if another is None:
            if not self._current.is_alive:
                raise OSError(f"the world is dead and no new one could be built: {self._why_none}")
            return
        earlier, self._current = self._current, another
        self._begun_s = time.monotonic()
        self._slots[another] = 0
        self._end_if_empty(earlier)

    def _try_another(self) -> World | None:
        try:
            return World(self.spec)
        except OSError as error:
            log.exception("A new world could not be built.", extra={"old_one_serves_on": self._current.is_alive})
            self._next_try_s, self._why_none = time.monotonic() + RETRY_S, str(error)
            return None

    def release(self, world: World) -> None:
        """One slot of it has ended."""
        with self._lock:
            if world in self._slots:
                self._slots[world] -= 1
                self._end_if_empty(world)

    def _end_if_empty(self, world: World) -> None:
        if world is not self._current and self._slots[world] <= 0:
            del self._slots[world]
            world.close()

    def close(self) -> None:
        """End all of them, with everything that lives there."""
        with self._lock:
            for world in self._slots:
                world.close()
            self._slots = {}
