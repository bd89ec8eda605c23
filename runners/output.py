"""What is kept of a stream that may be endless: its head and its tail, with one line that tells what is missing."""

from __future__ import annotations

from collections import deque

from runners.types import Kept


class Collector:
    """Takes one stream chunk by chunk."""

    __slots__ = ("_head", "_head_room", "_kept_bytes", "_tail", "_tail_bytes", "_tail_room", "written_bytes")

    def __init__(self, kept_bytes: int) -> None:
        """Keep at most ``kept_bytes``, half of them from the start once there is more."""
        self._kept_bytes = kept_bytes
        self._head: list[bytes] = []
        self._head_room = kept_bytes - kept_bytes // 2
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self._tail_room = kept_bytes // 2
        self.written_bytes = 0

    def add(self, chunk: bytes) -> None:
        """Take the next stretch."""
        self.written_bytes += len(chunk)
        if self._head_room:
            part = chunk[: self._head_room]
            self._head.append(part)
            self._head_room -= len(part)
            chunk = chunk[len(part) :]
        if not chunk:
            return
        self._tail.append(chunk)
        self._tail_bytes += len(chunk)
        while self._tail_bytes - len(self._tail[0]) >= self._tail_room and len(self._tail) > 1:
            self._tail_bytes -= len(self._tail.popleft())

    def kept(self) -> Kept:
        """What is kept, marker line included."""
        head, tail = b"".join(self._head), b"".join(self._tail)
        if self.written_bytes <= self._kept_bytes:
            return Kept(head + tail, self.written_bytes)
        tail = tail[len(tail) - self._tail_room :]
        left_out = self.written_bytes - len(head) - len(tail)
        marker = f"\n... [{left_out} bytes left out] ...\n".encode()
        return Kept(head + marker + tail, self.written_bytes, truncated=True)
