"""Waiting for what another process does: the only loop of the tests that sleeps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PAUSE_S = 0.02


def wait_until(condition: Callable[[], T], deadline_s: float, what: str) -> T:
    """The first true value of ``condition``.

    Raises:
        AssertionError: ``what`` did not happen within ``deadline_s``.
    """
    end = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {deadline_s:.0f} s")
        time.sleep(PAUSE_S)
