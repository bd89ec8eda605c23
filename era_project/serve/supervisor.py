"""Keeps parts running: starts them, restarts what crashed, ends all of them in time."""

from __future__ import annotations

import logging
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from era_project.serve import parts, records
from era_project.serve.failures import NEVER_WORKS, CannotServe, Stopped
from era_project.serve.parts import Part
from era_project.serve.signals import Signals

logger = logging.getLogger(__name__)

BACKOFF_S = (0.1, 0.5, 1.0, 2.0, 5.0)
STEADY_S = 30.0
"""A part that lived this long starts again without delay."""
MOST_FAILURES = 5
"""Crashes of one part before the server was ready, after which it gives up."""
TICK_S = 1.0
APP_END_S = 3.6
STORE_END_S = 1.0
"""Together below the 5 s in which TERM ends the server."""
STORES = ("postgres", "valkey")


@dataclass
class _Running:
    part: Part
    process: subprocess.Popen[bytes]
    since: float
    failures: int = 0
    again_at: float | None = None


class Supervisor:
    """The parts of one server; use it from the main thread only, because parts die with the thread that started them."""

    def __init__(self, signals: Signals, *, note: Path | None, backoff_s: Sequence[float] = BACKOFF_S) -> None:
        """``note`` is the state folder whose list of processes is kept; None for a joined server."""
        self._backoff_s = backoff_s
        self._signals = signals
        self._note = note
        self._running: dict[str, _Running] = {}
        self.is_ready = False

    def start(self, part: Part) -> None:
        """Starts a part and keeps it running from now on."""
        process = parts.start(part)
        self._running[part.name] = _Running(part, process, time.monotonic())
        self._write_note()

    def wait_ready(self, name: str) -> None:
        """Returns when the part is ready.

        Raises:
            PartError: it ended or took too long.
        """
        running = self._running[name]
        parts.wait_ready(running.part, running.process)

    def watch(self, *, until: Callable[[], bool], also: Sequence[int] = ()) -> None:
        """Keeps the parts running until ``until`` is true, or one of the descriptors ``also`` becomes readable.

        Raises:
            Stopped: somebody ended the web process, and so the server.
            CannotServe: a part says that it can never work.
        """
        while not until():
            self._tick()
            if self._signals.wait(self._pause_s(), also=also):
                return

    def stop(self) -> None:
        """Ends everything, first the parts that use the stores, then the stores."""
        self._signals.hold()
        ends = {running.part.name: (running.part, running.process) for running in self._running.values()}
        stores = {name: ends.pop(name) for name in STORES if name in ends}
        parts.stop(ends, within_s=APP_END_S)
        parts.stop(stores, within_s=STORE_END_S)
        self._running.clear()

    def _pause_s(self) -> float:
        waits = [running.again_at - time.monotonic() for running in self._running.values() if running.again_at]
        return min([TICK_S if self.is_ready else parts.POLL_S * 5, *waits])

    def _tick(self) -> None:
        for running in list(self._running.values()):
            if running.again_at is None and running.process.poll() is not None:
                self._ended(running)
            elif running.again_at is not None and running.again_at <= time.monotonic():
                self._start_again(running)

    def _ended(self, running: _Running) -> None:
        name, code = running.part.name, running.process.returncode
        if name == "web" and code in (0, -signal.SIGTERM, -signal.SIGINT):
            raise Stopped
        if code == NEVER_WORKS:
            raise CannotServe(f"The {name} cannot work on this machine: it says why above.")
        if running.part.is_once:
            del self._running[name]
            if code:
                logger.warning("preparing %s failed; the next start tries again", name)
            return
        lived_s = time.monotonic() - running.since
        running.failures = 0 if lived_s > STEADY_S else running.failures + 1
        delay = self._postpone(running, f"ended {MOST_FAILURES} times while starting, at last with code {code}")
        logger.warning("%s ended, it starts again", name, extra={"exit_code": code, "delay_s": delay})

    def _postpone(self, running: _Running, failure: str) -> float:
        """Has it start again later, the later the more often it failed; in so many seconds.

        Raises:
            CannotServe: it failed too often before the server was ready, in the way that ``failure`` says.
        """
        part = running.part
        if not self.is_ready and running.failures >= MOST_FAILURES:
            where = f", see {part.log}" if part.log else ""
            raise CannotServe(f"The {part.name} {failure}{where}.")
        delay = self._backoff_s[min(running.failures, len(self._backoff_s) - 1)]
        running.again_at = time.monotonic() + delay
        return delay

    def _start_again(self, running: _Running) -> None:
        try:
            running.process = parts.start(running.part)
        except (OSError, subprocess.SubprocessError) as error:  # no memory, process, descriptor, or room for its log
            running.failures += 1
            delay = self._postpone(running, f"could not be started: {error}")
            logger.error("%s could not start: %s", running.part.name, error, extra={"delay_s": delay})
            return
        running.since, running.again_at = time.monotonic(), None
        self._write_note()

    def _write_note(self) -> None:
        if self._note is None:
            return
        pids = {name: records.identify(running.process.pid) for name, running in self._running.items()}
        try:
            records.write_parts(self._note, pids)
        except OSError as error:  # the disk is full: the parts run all the same
            logger.warning("the list of processes was not written: %s", error)
