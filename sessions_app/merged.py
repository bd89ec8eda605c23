"""Two raw output streams of a program become one text: whole characters, in order, with byte offsets."""

from __future__ import annotations

import codecs
from collections.abc import Iterator

from sessions_app import frames
from sessions_app.frames import Event

FINE_ORDER = 10_000
"""Changes from one stream to the other that are kept exactly; past them each stretch that is published together holds
each stream once, so that a program that alternates byte by byte cannot grow the record of the order without bound."""

NUMBERS = {"stdout": 1, "stderr": 2}
"""How ``Run.chunks`` names the streams."""

SMALL_BYTES = 1 << 20
"""Output of one stream alone needs no order up to this; more may be kept in part, and then its length must be known."""

Order = list[list[int]]
"""``[[1 or 2, bytes], …]``: whose turn it was in the merged output, in bytes of UTF-8."""


class Merged:
    """What a run wrote and what is not taken yet; ``decode`` belongs to the writing thread, the rest to a lock."""

    def __init__(self) -> None:
        make = codecs.getincrementaldecoder("utf-8")
        self._decoders = {stream: make(errors="replace") for stream in NUMBERS}
        self._pending: list[tuple[str, list[str]]] = []
        self._order: Order = []
        self.pending_bytes = 0
        self.offset = 0
        """Bytes of merged output that were taken."""

    def decode(self, stream: str, data: bytes) -> str:
        """The whole characters that ``data`` completes; what is no UTF-8 becomes U+FFFD."""
        return self._decoders[stream].decode(data)

    def rests(self) -> Iterator[tuple[str, str]]:
        """At the end: what a stream leaves that breaks off in mid-character."""
        for stream, decoder in self._decoders.items():
            if rest := decoder.decode(b"", final=True):
                yield stream, rest

    def add(self, stream: str, text: str) -> None:
        """Put ``text`` after all that was added before."""
        self.pending_bytes += len(text) if text.isascii() else len(text.encode())
        is_coarse = len(self._order) + len(self._pending) >= FINE_ORDER
        for waiting, texts in self._pending if is_coarse else self._pending[-1:]:
            if waiting == stream:
                texts.append(text)
                return
        self._pending.append((stream, [text]))

    def take(self) -> list[Event]:
        """Everything that was added since, as events."""
        events: list[Event] = []
        for stream, texts in self._pending:
            events += frames.output(stream, self.offset, "".join(texts))
            self._count(stream, events[-1].end - self.offset)
        self._pending = []
        self.pending_bytes = 0
        return events

    def pass_over(self) -> None:
        """Count what was added since, without making events of it."""
        for stream, texts in self._pending:
            text = "".join(texts)
            self._count(stream, len(text) if text.isascii() else len(text.encode()))
        self._pending = []
        self.pending_bytes = 0

    def _count(self, stream: str, size: int) -> None:
        self.offset += size
        if self._order and self._order[-1][0] == NUMBERS[stream]:
            self._order[-1][1] += size
        else:
            self._order.append([NUMBERS[stream], size])

    def order(self) -> Order | None:
        """The order of the streams in what was taken; None where it needs no telling (one stream, little of it)."""
        return self._order if len(self._order) > 1 or self.offset > SMALL_BYTES else None
