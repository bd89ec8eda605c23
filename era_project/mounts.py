"""Raw ASGI endpoints beside Django, found by the path as it came over the wire (nothing is decoded too early)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes

from era_project.errors import InvalidInput, NotFound
from sessions_app.api import attach, files, streams

App = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Mount:
    """An endpoint, the methods that it takes and the parts of the path that it is given by name."""

    app: App
    methods: Sequence[str]
    parts: dict[str, Any] = field(default_factory=dict)


def segments(scope: Any) -> list[bytes]:
    """The path's segments, still percent-encoded; at least one."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return raw.partition(b"?")[0].split(b"/")[1:] or [b""]


def decoded(segment: bytes) -> str:
    """One segment as text.

    Raises:
        InvalidInput: it is no UTF-8 or has a NUL.
        NotFound: it has a slash inside, which no id has.
    """
    if b"%" not in segment and segment.isascii():
        return segment.decode("ascii")
    try:
        text = unquote_to_bytes(segment).decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidInput("The path must be UTF-8, percent-encoded.", field="path") from None
    if "\0" in text:
        raise InvalidInput("The path must not contain a NUL.", field="path")
    if "/" in text:
        raise NotFound("There is no such thing: no id has a slash.")
    return text


def check_decoded(path: Sequence[bytes]) -> None:
    """Refuse what Django would silently turn into another path.

    Raises:
        InvalidInput, NotFound: as :func:`decoded`.
    """
    for segment in path:
        decoded(segment)


def http(path: Sequence[bytes]) -> Mount | None:
    """The raw endpoint of an HTTP path; None: Django's."""
    if len(path) < 3 or path[0] != b"api":
        return None
    if path[1] == b"sessions" and len(path) >= 4:
        return _of_session(path)
    if path[1] == b"runs":
        return _of_runs(path)
    if path[1:] == [b"execute", b"stream"]:
        return Mount(streams.stream_execute, ("POST",))
    return None


def _of_session(path: Sequence[bytes]) -> Mount | None:
    if path[3] == b"stream" and len(path) == 4:
        return Mount(streams.stream_session, ("POST",), {"session": decoded(path[2])})
    if path[3] == b"files":
        parts = {"session": decoded(path[2]), "path": b"/".join(path[4:])}
        if len(path) == 5 and not path[4]:
            raise NotFound("There is no such route: leave the slash at the end away.")
        return Mount(files.files_app, ("GET", "PUT", "DELETE") if len(path) > 4 else ("GET",), parts)
    return None


def _of_runs(path: Sequence[bytes]) -> Mount | None:
    if path[2] == b"batch" and len(path) == 3:
        return Mount(streams.batch, ("POST",))
    if len(path) == 4 and path[3] == b"events":
        return Mount(streams.events, ("GET",), {"run_id": decoded(path[2])})
    return None


def web_socket(path: Sequence[bytes]) -> Mount | None:
    """The endpoint of a web socket's path."""
    if len(path) == 4 and path[0] == b"api" and path[1] == b"runs" and path[3] == b"attach":
        return Mount(attach.attach, ("GET",), {"run_id": decoded(path[2])})
    return None
