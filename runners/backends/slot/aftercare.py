"""What a slot needs after a run's result is known: done on a thread of its own, so that no answer waits for it."""

from __future__ import annotations

import logging
import queue
import threading
import time

from runners.backends.slot.pool import Pool
from runners.backends.slot.slot import Slot
from runners.backends.slot.stock import Stock

log = logging.getLogger(__name__)

ANSWER_S = 0.005
"""How long a result is on its way to whoever asked: an interpreter that boots meanwhile would hold it up."""
CLOSE_TIMEOUT_S = 10.0


class Aftercare:
    """Sees used slots to their end or back into the pool; those whose runs do not end go behind the others."""

    def __init__(self, pool: Pool, stock: Stock) -> None:
        """Nothing happens before `start`."""
        self._pool, self._stock = pool, stock
        self._used: queue.SimpleQueue[tuple[Slot, str, float] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._loop, name="sandbox-aftercare", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Stop when all that came has been seen to."""
        self._used.put(None)
        if self._thread.is_alive():
            self._thread.join(CLOSE_TIMEOUT_S)

    def take(self, slot: Slot, language: str) -> None:
        """Own the slot from now on."""
        self._used.put((slot, language, time.monotonic()))

    def _loop(self) -> None:
        while used := self._used.get():
            try:
                self._see_to(*used)
            except Exception:
                log.exception("A used slot could not be seen to.")

    def _see_to(self, slot: Slot, language: str, ended_at_s: float) -> None:
        if not _has_ended(slot):
            self._used.put((slot, language, ended_at_s))
            return
        try:
            time.sleep(max(0.0, ended_at_s + ANSWER_S - time.monotonic()))
            self._stock.renew(slot, language)
        except BaseException:
            slot.destroy()
            raise
        finally:
            self._pool.give(slot)


def _has_ended(slot: Slot) -> bool:
    """Whether pid 1 has given its word on a run of which only the result was known; a slot that is broken is destroyed."""
    try:
        if slot.unanswered and not slot.unanswered():
            return False
    except Exception as error:  # whatever happened, nothing is known about the slot any more
        log.info("A slot broke after its run.", extra={"reason": str(error)})
        slot.destroy()
    slot.unanswered = None
    return True
