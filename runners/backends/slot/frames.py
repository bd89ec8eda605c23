"""Length-prefixed JSON with a driver that user code may have taken over: bounded, non-blocking, strictly parsed."""

from __future__ import annotations

import json
import select
import socket
import time
from collections.abc import Callable
from typing import Any

_LENGTH_BYTES = 4
_CHUNK_BYTES = 1 << 18
_VALUES_MAX = 200_000
"""In one reply: each takes some 20 times the bytes that it is written with, and that outside of every sandbox."""


class FrameError(Exception):
    """The other end broke the protocol, or went away; the text says how."""


def plain(text: str) -> str:
    """``text`` as every store takes it: without NUL and lone surrogates."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


class Frames:
    """One channel, from the runner's end."""

    def __init__(self, channel: socket.socket) -> None:
        """``channel`` is switched to non-blocking."""
        channel.setblocking(False)
        self._channel = channel
        self._buffer = bytearray()

    def fileno(self) -> int:
        """For poll."""
        return self._channel.fileno()

    def expect_silence(self) -> None:
        """Before a request: nothing may have been said.

        Raises:
            FrameError: Something was.
        """
        try:
            part = self._channel.recv(1)
        except BlockingIOError:
            part = None
        except OSError as error:
            raise FrameError(str(error)) from error
        if part is not None or self._buffer:
            raise FrameError("it spoke out of turn" if part or self._buffer else "it closed its channel")

    def send(self, value: dict[str, Any], *, timeout_s: float) -> None:
        """Send a request, waiting for the other end to take it.

        Raises:
            FrameError: It does not.
        """
        content = json.dumps(value).encode()
        rest = memoryview(len(content).to_bytes(_LENGTH_BYTES, "big") + content)
        end_s = time.monotonic() + timeout_s
        while rest:
            try:
                rest = rest[self._channel.send(rest[:_CHUNK_BYTES]) :]
            except BlockingIOError:
                self._wait(select.POLLOUT, end_s)
            except OSError as error:
                raise FrameError(f"it took no request: {error}") from error

    def receive(self, *, size_max: int) -> dict[str, Any] | None:
        """A whole reply if one is there; never waits. Its texts may hold what no store takes, see `plain`.

        Raises:
            FrameError: It is too long, no JSON object, or the channel is closed.
        """
        while True:
            wanted = self._wanted(size_max) - len(self._buffer)
            if wanted <= 0 and len(self._buffer) > _LENGTH_BYTES:
                return self._parse()
            try:
                part = self._channel.recv(min(max(wanted, 1), _CHUNK_BYTES))
            except BlockingIOError:
                return None
            except OSError as error:
                raise FrameError(str(error)) from error
            if not part:
                raise FrameError("it closed its channel")
            self._buffer += part

    def call(
        self, value: dict[str, Any], *, timeout_s: float, size_max: int, is_over: Callable[[], bool]
    ) -> dict[str, Any]:
        """A request and its reply.

        Raises:
            FrameError: There was none in time, or a bad one.
        """
        end_s = time.monotonic() + timeout_s
        self.expect_silence()
        self.send(value, timeout_s=timeout_s)
        while (reply := self.receive(size_max=size_max)) is None:
            if is_over():
                raise FrameError("it ended")
            self._wait(select.POLLIN, end_s)
        return reply

    def _wanted(self, size_max: int) -> int:
        if len(self._buffer) < _LENGTH_BYTES:
            return _LENGTH_BYTES
        size = int.from_bytes(self._buffer[:_LENGTH_BYTES], "big")
        if not 0 < size <= size_max:
            raise FrameError("its reply is too long")
        return _LENGTH_BYTES + size

    def _parse(self) -> dict[str, Any]:
        content, self._buffer = self._buffer, bytearray()
        del content[:_LENGTH_BYTES]
        if sum(map(content.count, b"[{,")) > _VALUES_MAX:
            raise FrameError("its reply has too many values")
        try:
            value = json.loads(content.decode())
        except (ValueError, RecursionError) as error:
            raise FrameError("its reply is no JSON") from error
        if not isinstance(value, dict):
            raise FrameError("its reply is no JSON object")
        return value

    def _wait(self, event: int, end_s: float) -> None:
        left_s = end_s - time.monotonic()
        if left_s <= 0:
            raise FrameError("it did not answer in time")
        poller = select.poll()
        poller.register(self._channel, event)
        poller.poll(1000 * min(left_s, 0.5))
