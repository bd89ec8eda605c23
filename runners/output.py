"""What is kept of a stream that may be endless: its head and its tail, with one line that tells what is missing."""

from __future__ import annotations

from runners.types import Kept

_SLACK_BYTES = 4096
"""What the tail is too long is cut off seldom: each cut moves all that stays."""


class Collector:
    """Takes one stream chunk by chunk."""

    __slots__ = ("_head", "_head_room", "_kept_bytes", "_tail", "_tail_room", "written_bytes")

    def __init__(self, kept_bytes: int) -> None:
        """Keep at most ``kept_bytes``, half of them from the start once there is more."""
        self._kept_bytes = kept_bytes
        self._head = bytearray()  # not a list of chunks: of a byte each, they would take forty times their size
        self._head_room = kept_bytes - kept_bytes // 2
        self._tail = bytearray()
        self._tail_room = kept_bytes // 2
        self.written_bytes = 0

    def add(self, chunk: bytes) -> None:
        """Take the next stretch."""
        self.written_bytes += len(chunk)
        if self._head_room:
            part = chunk[: self._head_room]
            self._head += part
            self._head_room -= len(part)
            chunk = chunk[len(part) :]
        self._tail += chunk
        if len(self._tail) > 2 * self._tail_room + _SLACK_BYTES:
            del self._tail[: len(self._tail) - self._tail_room]

    def kept(self) -> Kept:
        """What is kept, marker line included."""
        if self.written_bytes <= self._kept_bytes:
            return Kept(bytes(self._head + self._tail), self.written_bytes)
        tail = self._tail[len(self._tail) - self._tail_room :]
        left_out = self.written_bytes - len(self._head) - len(tail)
        marker = f"\n... [{left_out} bytes left out] ...\n".encode()
        return Kept(b"".join((self._head, marker, tail)), self.written_bytes, truncated=True)
