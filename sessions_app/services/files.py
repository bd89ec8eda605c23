"""A session's files from outside: listed, found, put, deleted. What a run does to them goes through the workspace."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.db import connection, transaction

from era_project import conf
from era_project.errors import Conflict, InvalidInput, NotFound, TooLarge
from sessions_app import entries
from sessions_app.entries import FILE, FOLDER, LINK, Row
from sessions_app.models import SEARCHED_CHARACTERS, Session
from sessions_app.services.preconditions import Precondition
from storage_app.blobs import Stored

NS = 1_000_000_000
NEW_MODE = 0o644


@dataclass(frozen=True, slots=True)
class File:
    """One file. ``sha256`` names its blob and is its entity tag; ``mtime_ns`` is since 1970."""

    path: str
    size: int
    sha256: str
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class _Held:
    """A session whose row is locked: whoever wants to change its entries waits."""

    id: int
    file_count: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class _There:
    """What lies at a path already."""

    kind: str
    size: int
    blob: str | None
    mode: int


def modified_at(mtime_ns: int) -> str:
    """A time as the wire has it: UTC, RFC 3339, milliseconds."""
    seconds, rest = divmod(mtime_ns, NS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest // 1_000_000:03d}Z"


def list_files(session: str, *, owner_id: int, prefix: str = "") -> dict[str, Any]:
    """The files whose paths begin with ``prefix``, by path, with their number and sum.

    Raises:
        NotFound: no such session of this owner.
    """
    found = _listed(_session_id(session, owner_id), prefix)
    return {"files": found, "total_count": len(found), "total_size_bytes": sum(file["size"] for file in found)}


def of_session(session: Session) -> list[dict[str, Any]]:
    """``[{"path", "size", "modified_at"}]`` of a session that was looked up already, by path."""
    return _listed(session.pk, "")


def _listed(session_id: int, prefix: str) -> list[dict[str, Any]]:
    if "\0" in prefix:
        raise InvalidInput("The prefix must not contain a NUL.", field="prefix")
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT path, size, mtime_ns FROM sessions_app_entry "
            "WHERE session_id = %s AND kind = 'f' AND starts_with(path, %s) ORDER BY path",
            [session_id, prefix],
        )
        return [
            {"path": path, "size": size, "modified_at": modified_at(mtime_ns)}
            for path, size, mtime_ns in cursor.fetchall()
        ]


def find(session: str, path: str, *, owner_id: int) -> File:
    """One file.

    Raises:
        NotFound: no such session of this owner, or nothing there, or a folder or link.
    """
    session_id = _session_id(session, owner_id)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT size, blob, mtime_ns FROM sessions_app_entry "
            "WHERE session_id = %s AND path_sha256 = %s AND kind = 'f'",
            [session_id, *entries.digests([path])],
        )
        row = cursor.fetchone()
    if row is None:
        raise _no_file(path)
    return File(path, row[0], row[1], row[2])


def check_put(session: str, path: str, *, owner_id: int, precondition: Precondition) -> None:
    """Raises what :func:`put` would raise now: before a gigabyte is sent in vain."""
    session_id = _session_id(session, owner_id)
    with connection.cursor() as cursor:
        there = _at(cursor, session_id, [path, *entries.ancestors(path)])
        _check_place(cursor, session_id, path, there)
    precondition.check(_etag(there.get(path)))


def put(session: str, path: str, stored: Stored, *, owner_id: int, precondition: Precondition) -> File:
    """Makes a stored blob the file at ``path``; modes of files that are replaced are kept.

    Args:
        session: name.
        path: checked by :mod:`sessions_app.paths`.
        stored: committed just now.
        owner_id: who asks.
        precondition: what has to be there.

    Raises:
        NotFound: no such session of this owner.
        Conflict: a folder lies there, or a file where the path needs a folder.
        InvalidInput: a link lies there or on the way.
        PreconditionFailed: the file is another one by now.
        TooLarge: the workspace would have more files or bytes than it may.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        held = _hold(cursor, session, owner_id)
        above = entries.ancestors(path)
        there = _at(cursor, held.id, [path, *above])
        _check_place(cursor, held.id, path, there)
        old = there.get(path)
        precondition.check(_etag(old))
        _check_room(held, old, stored)
        row = Row(path, FILE, old.mode if old else NEW_MODE, time.time_ns(), stored.size, stored.sha256)
        removed = _remove(cursor, held.id, [path, *above])
        entries.insert(cursor, held.id, [row], uploaded=True)
        entries.count(cursor, held.id, added=[(FILE, stored.size)], removed=removed)
    return File(path, stored.size, stored.sha256, row.mtime_ns)


def delete(session: str, path: str, *, owner_id: int, precondition: Precondition) -> None:
    """Removes a file.

    Raises:
        NotFound: no such session of this owner, or nothing there, or a folder or link.
        PreconditionFailed: the file is another one by now.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        held = _hold(cursor, session, owner_id)
        there = _at(cursor, held.id, [path]).get(path)
        if there is None or there.kind != FILE:
            raise _no_file(path)
        precondition.check(_etag(there))
        entries.count(cursor, held.id, added=(), removed=_remove(cursor, held.id, [path]))


def _session_id(session: str, owner_id: int) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM sessions_app_session WHERE name = %s AND owner_id = %s", [session, owner_id])
        row = cursor.fetchone()
    if row is None:
        raise _no_session(session)
    return int(row[0])


def _hold(cursor: Any, session: str, owner_id: int) -> _Held:
    cursor.execute(
        "SELECT id, file_count, total_bytes FROM sessions_app_session "
        "WHERE name = %s AND owner_id = %s FOR NO KEY UPDATE",
        [session, owner_id],
    )
    row = cursor.fetchone()
    if row is None:
        raise _no_session(session)
    return _Held(*row)


def _no_session(session: str) -> NotFound:
    return NotFound(f"There is no session {session!r}; POST /api/sessions makes one.")


def _no_file(path: str) -> NotFound:
    return NotFound(f"There is no file {path!r} in this session.")


def _at(cursor: Any, session_id: int, paths: Sequence[str]) -> dict[str, _There]:
    cursor.execute(
        "SELECT path, kind, size, blob, mode FROM sessions_app_entry "
        "WHERE session_id = %s AND path_sha256 = ANY(%s::bytea[])",
        [session_id, entries.digests(paths)],
    )
    return {path: _There(*rest) for path, *rest in cursor.fetchall()}


def _remove(cursor: Any, session_id: int, paths: Sequence[str]) -> list[tuple[Any, ...]]:
    cursor.execute(
        "DELETE FROM sessions_app_entry WHERE session_id = %s AND path_sha256 = ANY(%s::bytea[]) RETURNING kind, size",
        [session_id, entries.digests(paths)],
    )
    removed: list[tuple[Any, ...]] = cursor.fetchall()
    return removed


def _check_place(cursor: Any, session_id: int, path: str, there: dict[str, _There]) -> None:
    for name, entry in sorted(there.items()):
        if entry.kind == LINK:
            raise InvalidInput(f"{name!r} is a link; files are not written to or through links.", field="path")
        if entry.kind == FILE and name != path:
            raise Conflict(f"{name!r} is a file; {path!r} cannot be put below it.", field="path")
        if entry.kind == FOLDER and name == path:
            raise _is_folder(path)
    if path not in there and _has_below(cursor, session_id, path):
        raise _is_folder(path)


def _is_folder(path: str) -> Conflict:
    return Conflict(f"{path!r} is a folder; a file cannot be put in its place.", field="path")


def _has_below(cursor: Any, session_id: int, path: str) -> bool:
    """Whether entries lie below ``path``; by the index, which has only the beginnings of paths."""
    prefix = path + "/"
    start = prefix[:SEARCHED_CHARACTERS]
    end = start[:-1] + chr(ord(start[-1]) + 1) if start is prefix or len(prefix) <= SEARCHED_CHARACTERS else None
    bound, values = ("< %s", [end]) if end else ("= %s", [start])
    cursor.execute(
        f'SELECT EXISTS (SELECT FROM sessions_app_entry WHERE session_id = %s AND "left"(path, {SEARCHED_CHARACTERS}) '
        f'>= %s AND "left"(path, {SEARCHED_CHARACTERS}) {bound} AND starts_with(path, %s))',
        [session_id, start, *values, prefix],
    )
    return bool(cursor.fetchone()[0])


def _check_room(held: _Held, old: _There | None, stored: Stored) -> None:
    settings = conf.get()
    if old is None and held.file_count >= settings.workspace_files:
        most = settings.workspace_files
        raise TooLarge(f"The session has as many files as it may: at most {most}.", limit_files=most)
    if held.total_bytes - (old.size if old else 0) + stored.size > settings.workspace_bytes:
        raise too_large()


def too_large() -> TooLarge:
    """The error of a file for which the workspace has no room."""
    most = conf.get().workspace_bytes
    return TooLarge(f"A session's files may have at most {most} bytes together.", limit_bytes=most)


def _etag(there: _There | None) -> str | None:
    return there.blob if there is not None else None
