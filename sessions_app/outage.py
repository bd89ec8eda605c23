"""Telling of a part that is away once when it goes and once when it is back, not at each try."""

from __future__ import annotations

import logging
import time

ANSWER_WITHIN_S = 20.0
"""A database that stands still is waited for so long; then callers are told so."""


class Outage:
    """One thing that may fail for a while; for one thread."""

    def __init__(self, logger: logging.Logger, what: str) -> None:
        """``what``: a sentence without its end, such as "Replies cannot be read"."""
        self._logger = logger
        self._what = what
        self._since: float | None = None

    def failed(self, error: BaseException) -> None:
        """It did not work this time."""
        if self._since is None:
            self._since = time.monotonic()
            self._logger.warning("%s: %s", self._what, error, extra={"action": "outage"})

    def worked(self) -> None:
        """It worked this time."""
        if self._since is not None:
            seconds = time.monotonic() - self._since
            self._since = None
            self._logger.info("%s: over after %.1f s.", self._what, seconds, extra={"action": "outage_over"})
