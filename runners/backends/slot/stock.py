"""What is kept ahead of need: slots that are built, and children in which a language has already booted."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from runners.backends.slot import driven
from runners.backends.slot.oneshot import Terms
from runners.backends.slot.pool import Busy, Pool
from runners.backends.slot.slot import Slot, SlotBroken
from runners.types import Limits

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What to keep ahead."""

    parked: Mapping[str, int]
    """Language -> children to keep booted."""
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
        wanted = self._parked.get(language, 0)
        if not wanted or slot.destroyed or slot.order.workspace or self._strict:
            if wanted:
                self._missing.set()
            return
        try:
            if self._count(language) < wanted:
                driven.prepare(slot, language, self._limits, self._terms)
        except (OSError, SlotBroken):
            slot.destroy()

    def _count(self, language: str) -> int:
        key = driven.key_of(language, self._limits, self._terms)
        return self._pool.count(lambda slot: slot.prepared is not None and slot.prepared.key == key)

    def _loop(self) -> None:
        while not self._closed:
            self._missing.wait()
            self._missing.clear()
            try:
                self._fill()
            except (OSError, SlotBroken, Busy) as error:
                if not self._closed:
                    log.warning("A slot could not be built ahead.", extra={"reason": str(error)})

    def _fill(self) -> None:
        for preloaded in (False, True):
            if not self._closed and not self._pool.count(_is_plain(preloaded)):
                self._pool.add(preloaded=preloaded)
        for language, wanted in self._parked.items():
            while not self._closed and self._count(language) < wanted:
                self._pool.add(prepare=self._preparer(language))

    def _preparer(self, language: str) -> Callable[[Slot], None]:
        return lambda slot: driven.prepare(slot, language, self._limits, self._terms)


def _is_plain(preloaded: bool) -> Callable[[Slot], bool]:
    return lambda slot: slot.prepared is None and slot.preloaded is preloaded
