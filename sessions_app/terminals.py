"""What an interactive run reads: input that comes over Valkey from whoever is attached, into a pipe or a terminal."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import logging
import os
import select
import struct
import termios
import threading
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

import msgspec
import redis

from runners.types import Terminal
from sessions_app import connections
from sessions_app.running import Running

logger = logging.getLogger(__name__)

INPUT_TTL_S = 3600
"""How long input waits for a run that has not started."""
WAITING = 64
"""Words that may wait for a run before whoever sends them is held back."""
LOOK_MS = 200
CONTROL = {"INT": b"\x03", "QUIT": b"\x1c", "TSTP": b"\x1a", "EOF": b"\x04"}
"""What a terminal makes signals of."""
SIGNALS = ("INT", "QUIT", "TSTP")


def key(run_id: UUID) -> str:
    """The list of words to an interactive run."""
    return f"era:input:{run_id}"


@contextlib.contextmanager
def opened(running: Running) -> Iterator[Terminal | None]:
    """The terminal of an interactive run for as long as it runs; None for any other."""
    if not running.inputs.interactive:
        yield None
        return
    size = running.inputs.tty
    ours, theirs = _pipe() if size is None else _terminal(*size)
    feeder = Feeder(running.claimed.id, os.dup(ours), is_tty=size is not None)
    feeder.start(running.inputs.stdin.encode())
    try:
        if size is None:
            os.close(ours)  # the feeder's is the only one left: its end is the end of the input
        yield Terminal(theirs) if size is None else Terminal(theirs, ours)
    finally:
        feeder.stop()
        os.close(theirs)
        if size is not None:
            os.close(ours)


def _pipe() -> tuple[int, int]:
    theirs, ours = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(ours, False)
    return ours, theirs


def _terminal(columns: int, rows: int) -> tuple[int, int]:
    ours, theirs = os.openpty()
    os.set_blocking(ours, False)
    _resize(ours, columns, rows)
    return ours, theirs


def _resize(descriptor: int, columns: int, rows: int) -> None:
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


class Feeder:
    """A thread that takes words from the run's list and gives them to the program, in their order."""

    def __init__(self, run_id: UUID, descriptor: int, *, is_tty: bool) -> None:
        self._key = key(run_id)
        self._descriptor = descriptor
        self._is_tty = is_tty
        self._stopped = threading.Event()

    def start(self, first: bytes) -> None:
        """Begin with ``first``, which the request gave."""
        threading.Thread(target=self._work, args=(first,), name="era-terminal", daemon=True).start()

    def stop(self) -> None:
        """The run is over; the thread ends within about a second."""
        self._stopped.set()

    def _work(self, first: bytes) -> None:
        client = connections.blocking_valkey()
        try:
            self._write(first)
            while not self._stopped.is_set() and self._descriptor >= 0:
                got: Any = client.blpop([self._key], timeout=connections.BLOCK_S)
                if got:
                    self._take(msgspec.json.decode(got[1]))
            client.delete(self._key)
        except (redis.RedisError, OSError) as error:
            logger.warning("An interactive run's input is cut off: %s", error)
        finally:
            self._close()
            client.close()

    def _take(self, word: Mapping[str, Any]) -> None:
        if word["type"] == "stdin":
            self._write(base64.b64decode(word["base64"]))
        elif word["type"] == "resize" and self._is_tty:
            _resize(self._descriptor, word["columns"], word["rows"])
        elif self._is_tty:
            self._write(CONTROL[word["signal"] if word["type"] == "signal" else "EOF"])
        elif word["type"] == "eof":
            self._close()

    def _write(self, content: bytes) -> None:
        """All of it, as fast as the program reads; what a program leaves unread at its end is dropped."""
        left = memoryview(content)
        waiting = select.poll()
        waiting.register(self._descriptor, select.POLLOUT)
        while left and not self._stopped.is_set():
            if waiting.poll(LOOK_MS):
                try:
                    left = left[os.write(self._descriptor, left) :]
                except BlockingIOError:
                    continue
                except BrokenPipeError:  # the program closed its input
                    return

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
