"""The stream of a finished run, made again from what its record keeps: bytes of two streams and their order."""

from __future__ import annotations

import codecs
import json
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from era_project.errors import NotFound
from sessions_app import frames, run_object, run_rows
from sessions_app.frames import Event
from sessions_app.models import Run
from storage_app.objects import store

PIECE_BYTES = 64 * 1024
NAMES = {1: "stdout", 2: "stderr"}
MARKER = "\n... [{} bytes left out] ...\n"
"""What stands for the middle of a long output. Source: the runners' collector of output."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of one stream: its bytes as UTF-8, or (``marker``) how many are not kept and what stands for them."""

    size: int
    content: bytes = b""
    marker: str | None = None


class Gap(Event):
    """The marker line in place of the bytes that are not kept, or of a part of them; a reader is told it once."""

    def after(self, offset: int) -> Event | None:
        """The whole marker for whoever lacks any of those bytes."""
        return None if offset >= self.end else self


@dataclass(frozen=True, slots=True)
class Raw:
    """Kept bytes, in the row or in the object store."""

    inline: bytes
    blob: str | None

    def read(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes from ``start`` to ``end``, in chunks."""
        if self.blob is None:
            yield self.inline[start:end]
            return
        with store().open(self.blob, start, None if end is None else end - start) as chunks:
            yield from chunks


def events(run_id: UUID, *, after: int) -> Generator[Event, None, None]:
    """What a reader lacks who has ``after`` bytes of the merged output, the last event included.

    Raises:
        NotFound: there is no such run.
    """
    names = (*run_rows.COLUMNS, *run_rows.OUTPUT, "chunks")
    row = Run.objects.filter(pk=run_id).values(*names).first()
    if row is None:
        raise NotFound("There is no such run.")
    yield from output(row, after=after)
    yield frames.last(run_object.render(row, output=False), length(row))


def output(row: Mapping[str, Any], *, after: int) -> Iterator[Event]:
    """The kept output of a row of runs after ``after`` bytes of the merged whole; a gap is told once a stream."""
    told: set[str] = set()
    for event in _output(row):
        is_again = isinstance(event, Gap) and event.type in told
        if not is_again and (left := event.after(after)):
            yield left
            told |= {event.type} if isinstance(event, Gap) else set()


def length(row: Mapping[str, Any]) -> int:
    """Bytes of the merged output of a row, UTF-8, also of what is not kept."""
    if row["chunks"]:
        return sum(size for _, size in row["chunks"])
    return max((event.end for event in _output(row)), default=0)


def _output(row: Mapping[str, Any]) -> Iterator[Event]:
    order = row["chunks"] or [[number, None] for number in NAMES]
    tapes = {number: _tape(row, name, order, number) for number, name in NAMES.items()}
    offset = 0
    for number, size in order:
        end = None if size is None else offset + size
        for piece in tapes[number].take(size):
            yield from _events(NAMES[number], offset, piece)
            offset += piece.size
        offset = end if end is not None else offset


def _events(stream: str, offset: int, piece: Piece) -> Iterator[Event]:
    if piece.marker is None:
        # A tail that begins in mid-character is a few bytes off: what the order then cuts in two is left out.
        yield from frames.output(stream, offset, piece.content.decode("utf-8", "ignore"))
    else:
        data = json.dumps({"type": stream, "content": piece.marker}, separators=(",", ":"))
        yield Gap(stream, offset, offset + piece.size, data)


class Tape:
    """One stream, read once from its start to its end in pieces of any wanted size."""

    def __init__(self, pieces: Iterator[Piece]) -> None:
        self._pieces = pieces
        self._current: Piece | None = None

    def take(self, size: int | None) -> Iterator[Piece]:
        """The next ``size`` bytes (None: all), fewer where no more are kept."""
        left = float("inf") if size is None else size
        while left > 0:
            piece = self._current or next(self._pieces, None)
            self._current = None
            if piece is None:
                return
            if piece.size > left:
                piece, self._current = _cut(piece, int(left))
            left -= piece.size
            yield piece


def _cut(piece: Piece, size: int) -> tuple[Piece, Piece]:
    if piece.marker is None:
        return Piece(size, piece.content[:size]), Piece(piece.size - size, piece.content[size:])
    return Piece(size, marker=piece.marker), Piece(piece.size - size, marker=piece.marker)


def _tape(row: Mapping[str, Any], name: str, order: Iterable[list[Any]], number: int) -> Tape:
    raw = Raw(bytes(row[name] or b""), row[f"{name}_blob"])
    if not row[f"{name}_truncated"]:
        return Tape(_pieces(raw.read()))
    total = sum(size or 0 for stream, size in order if stream == number)
    return Tape(_cut_short(raw, written=row[f"{name}_bytes"], total=total))


def _pieces(chunks: Iterable[bytes]) -> Iterator[Piece]:
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for chunk in chunks:
        for start in range(0, len(chunk), PIECE_BYTES):
            if text := decoder.decode(chunk[start : start + PIECE_BYTES]):
                content = text.encode()
                yield Piece(len(content), content)
    if rest := decoder.decode(b"", final=True):
        yield Piece(len(rest.encode()), rest.encode())


def _cut_short(raw: Raw, *, written: int, total: int) -> Iterator[Piece]:
    head, marker = _find_marker(raw, written=written)
    tail = head + len(marker)
    kept = sum(piece.size for part in (raw.read(0, head), raw.read(tail)) for piece in _pieces(part))
    yield from _pieces(raw.read(0, head))
    if marker:
        yield Piece(max(total - kept, 1), marker=marker.decode())
    yield from _pieces(raw.read(tail))


def _size(chunks: Iterable[bytes]) -> int:
    return sum(map(len, chunks))


def _find_marker(raw: Raw, *, written: int) -> tuple[int, bytes]:
    """Where the marker stands, and the very marker; without one, the end of the output and nothing."""
    kept = _size(raw.read())
    for digits in range(1, 20):  # the number of bytes left out depends on the length of its own digits
        left_out = written - kept + len(MARKER.format("9" * digits))
        marker = MARKER.format(left_out).encode()
        if len(str(left_out)) == digits and (head := _find(raw.read(), marker)) >= 0:
            return head, marker
    return kept, b""


def _find(chunks: Iterable[bytes], wanted: bytes) -> int:
    before, window = 0, b""
    for chunk in chunks:
        window += chunk
        at = window.find(wanted)
        if at >= 0:
            return before + at
        drop = max(len(window) - len(wanted) + 1, 0)
        before, window = before + drop, window[drop:]
    return -1
