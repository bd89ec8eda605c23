"""What is kept ahead of need: slots that are built, and children in which a language has already booted."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from runners.backends.slot import driven
from runners.backends.slot.oneshot import Terms
from runners.backends.slot.pool import Busy, Pool
from runners.backends.slot.slot import Slot, SlotBroken
from runners.types import Limits

log = logging.getLogger(__name__)

ALWAYS = frozenset({"node"})
"""Of these one is booted from the start, of the other languages when the first run has asked for one: 20 to 50 MB each."""
IN_USE_S = 1800.0
"""So long after its latest run a language counts as being in use."""
LOOK_S = 60.0
"""Between looks at what is in use no longer."""


@dataclass(frozen=True)
class Plan:
    """What to keep ahead."""

    parked: Mapping[str, int]
    """Language -> children to keep booted, while the language is in use."""
    limits: Limits
    """Of most runs; others find no child booted for them."""
    strict: bool
    """Slots are used once: there is always one more to be built."""


class Stock:
    """Fills up on a thread of its own; a used slot is renewed by the thread that used it."""

    def __init__(self, pool: Pool, terms: Terms, plan: Plan) -> None:
        """Nothing is made before `start`."""
        self._pool, self._terms = pool, terms
        self._parked, self._limits, self._strict = plan.parked, plan.limits, plan.strict
        self._used_at_s: dict[str, float] = {}
        self._missing = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to fill up."""
        self._missing.set()
        self._thread = threading.Thread(target=self._loop, name="sandbox-stock", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop."""
        self._closed = True
        self._missing.set()
        if self._thread:
            self._thread.join(30)

    def renew(self, slot: Slot, language: str) -> None:
        """Boot the language's driver again in the slot that was just used, if one more is to be kept."""
        if self._strict:
            self._missing.set()
        if language in self._parked:
            self._used_at_s[language] = time.monotonic()
        wanted = self._wanted(language)
        if not wanted or slot.destroyed or slot.order.workspace or self._strict:
            if wanted:
                self._missing.set()
            return
        try:
            if self._count(language) < wanted:
                driven.prepare(slot, language, self._limits, self._terms)
        except (OSError, SlotBroken):
            slot.destroy()

    def keeps(self, language: str) -> bool:
        """Whether the language's driver is ever booted ahead."""
        return self._parked.get(language, 0) > 0

    def _wanted(self, language: str) -> int:
        is_in_use = language in ALWAYS or language in self._used_at_s
        return self._parked.get(language, 0) if is_in_use else 0

    def _count(self, language: str) -> int:
        return self._pool.count(self._is_booted(language))

    def _is_booted(self, language: str) -> Callable[[Slot], bool]:
        key = driven.key_of(language, self._limits, self._terms)
        return lambda slot: slot.prepared is not None and slot.prepared.key == key

    def _loop(self) -> None:
        while not self._closed:
            self._missing.wait(LOOK_S)
            self._missing.clear()
            try:
                self._fill()
                self._thin_out()
            except (OSError, SlotBroken, Busy) as error:
                if not self._closed:
                    log.warning("A slot could not be built ahead.", extra={"reason": str(error)})
            except Exception:
                log.exception("The stock of slots could not be filled up; it is tried again.")

    def _fill(self) -> None:
        for preloaded in (False, True):
            if not self._closed and not self._pool.count(_is_plain(preloaded)):
                self._pool.add(preloaded=preloaded)
        for language in self._parked:
            while not self._closed and self._count(language) < self._wanted(language):
                self._pool.add(prepare=self._preparer(language))

    def _thin_out(self) -> None:
        """End what stands booted for a language that nobody has used for long."""
        now = time.monotonic()
        for language, used_at_s in list(self._used_at_s.items()):
            if language not in ALWAYS and now - used_at_s >= IN_USE_S:
                del self._used_at_s[language]
                self._pool.drop(self._is_booted(language))

    def _preparer(self, language: str) -> Callable[[Slot], None]:
        return lambda slot: driven.prepare(slot, language, self._limits, self._terms)


def _is_plain(preloaded: bool) -> Callable[[Slot], bool]:
    return lambda slot: slot.prepared is None and slot.preloaded is preloaded
