"""The events of a run: stretches of its merged output with byte offsets, and the frames that carry them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sessions_app import run_object

CONTENT_BYTES = 16 * 1024
"""Content of one frame at most, as UTF-8. Source: the contract."""

KEEP_ALIVE = b": keep-alive\n\n"
"""A comment: readers skip it, proxies see a living connection."""

LAST_TYPES = ("done", "error")

NEVER_STARTED: Mapping[str, tuple[int, str, str, str]] = {
    **run_object.ANSWERS,
    "cancelled": (200, "Cancelled", "CANCELLED", "The run was cancelled before it was started."),
}
"""What the last event of a run says whose program was never started, by status."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event: what it is, which bytes of the merged output (UTF-8) it covers, and its line of JSON."""

    type: str
    start: int
    end: int
    data: str

    @property
    def is_last(self) -> bool:
        """Whether the stream ends after this event."""
        return self.type in LAST_TYPES

    def stored(self) -> str:
        """The line in which the event lies in Valkey; :func:`parse` reads it."""
        return f"{self.type} {self.start} {self.end} {self.data}"

    def frame(self) -> bytes:
        """The event on the wire; its id is the offset after which a reader goes on."""
        return f"event: {self.type}\nid: {self.end}\ndata: {self.data}\n\n".encode("ascii")

    def after(self, offset: int) -> Event | None:
        """What of this event a reader that has ``offset`` bytes lacks; a character cut by ``offset`` comes whole."""
        if self.is_last or offset <= self.start:
            return self
        if offset >= self.end:
            return None
        content = json.loads(self.data)["content"].encode()
        cut = offset - self.start
        while cut and content[cut] & 0xC0 == 0x80:
            cut -= 1
        return _output(self.type, self.start + cut, content[cut:])


def parse(stored: str) -> list[Event]:
    """The events whose lines (:meth:`Event.stored`) were stored together."""
    return [_parse_line(line) for line in stored.split("\n")]


def output(stream: str, start: int, text: str) -> Iterator[Event]:
    """Events of at most :data:`CONTENT_BYTES` that carry ``text`` from offset ``start`` on."""
    content = text.encode()
    at = 0
    while at < len(content):
        end = min(at + CONTENT_BYTES, len(content))
        while end < len(content) and content[end] & 0xC0 == 0x80:
            end -= 1
        yield _output(stream, start + at, content[at:end])
        at = end


def last(run: Mapping[str, Any], offset: int) -> Event:
    """The one last event of a run (a run object) whose merged output has ``offset`` bytes."""
    if run["status"] in NEVER_STARTED and not _was_started(run):
        return Event("error", offset, offset, json.dumps(_error(run), separators=(",", ":")))
    first = ("exit_code", "duration", "run_id", "status")
    rest = {name: value for name, value in run.items() if name not in (*first, "stdout", "stderr")}
    done = {"type": "done", **{name: run[name] for name in first}, **rest}
    return Event("done", offset, offset, run_object.one_line(done))


def _parse_line(line: str) -> Event:
    type_, start, end, data = line.split(" ", 3)
    return Event(type_, int(start), int(end), data)


def _was_started(run: Mapping[str, Any]) -> bool:
    if run["status"] == "sandbox_error":  # claimed, but perhaps no sandbox came up
        return run["execution_time_ms"] is not None
    return run["started_at"] is not None


def _error(run: Mapping[str, Any]) -> dict[str, Any]:
    _, title, code, sentence = NEVER_STARTED[run["status"]]
    message = run.get("message") or sentence
    return {"type": "error", "error": title, "message": message, "code": code, "run_id": run["run_id"]}


def _output(stream: str, start: int, content: bytes) -> Event:
    data = json.dumps({"type": stream, "content": content.decode()}, separators=(",", ":"))
    return Event(stream, start, start + len(content), data)
