"""INT, TERM and the ends of children, as the supervisor hears them."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any

from era_project.serve.failures import Stopped

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals:
    """Between install and restore INT, TERM and HUP raise :class:`Stopped` in the main thread.

    Handlers are set explicitly: under ``cmd &`` in a script SIGINT is inherited as ignored.
    """

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._is_ending = False
        self._before: dict[int, Any] = {}

    def install(self) -> None:
        """Sets the handlers."""
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in ENDING:
            self._before[number] = signal.signal(number, self._end)
        self._before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda number, frame: None)

    def restore(self) -> None:
        """Brings back the handlers that were there before."""
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._read)
        os.close(self._write)

    def _end(self, number: int, frame: FrameType | None) -> None:
        if self._is_ending:
            return
        self._is_ending = True
        raise Stopped

    def hold(self) -> None:
        """From now on a further signal raises nothing: the end has begun."""
        self._is_ending = True

    def wait(self, timeout_s: float, *, also: Sequence[int] = ()) -> bool:
        """Sleeps until a signal, or until one of the descriptors ``also`` is readable: then the answer is true."""
        readable, _, _ = select.select([self._read, *also], [], [], max(0.0, timeout_s))
        with contextlib.suppress(BlockingIOError):
            while os.read(self._read, 4096):
                pass
        return any(descriptor in readable for descriptor in also)


@contextlib.contextmanager
def process_end(pid: int) -> Iterator[int]:
    """A descriptor that becomes readable when the process ends."""
    descriptor = os.pidfd_open(pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
