"""The rows of a session's workspace: read, changed under the session's lock, copied; the counts kept right."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from django.db import connection, transaction

FILE, FOLDER, LINK = "f", "d", "l"


class Cursor(Protocol):
    """What is needed of a cursor, Django's or psycopg's."""

    def execute(self, query: Any, params: Any = None) -> Any:
        """Runs one statement."""

    def fetchone(self) -> tuple[Any, ...] | None:
        """The next row."""

    def fetchall(self) -> list[tuple[Any, ...]]:
        """All rows that are left."""


class Row(NamedTuple):
    """One entry. ``mode``: permission bits; ``blob`` only of files, ``target`` only of links."""

    path: str
    kind: str
    mode: int
    mtime_ns: int
    size: int = 0
    blob: str | None = None
    target: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """A difference to apply to a session's entries.

    Attributes:
        upserts: entries as they are now.
        deletes: paths that are gone.
        seen_version: the session's ``files_version`` that the difference was made against.
    """

    upserts: Sequence[Row] = ()
    deletes: Sequence[str] = ()
    seen_version: int = 0


_COLUMNS = "path, kind, mode, mtime_ns, size, blob, target"
_DELETE = """
DELETE FROM sessions_app_entry WHERE session_id = %s AND path_sha256 = ANY(%s::bytea[]) RETURNING kind, size"""
_INSERT = f"""
INSERT INTO sessions_app_entry (session_id, uploaded, {_COLUMNS})
SELECT %s, %s, * FROM unnest(%s::text[], %s::text[], %s::int[], %s::bigint[], %s::bigint[], %s::text[], %s::text[])"""
_COUNT = """
UPDATE sessions_app_session
SET file_count = file_count + %s, total_bytes = total_bytes + %s, files_version = files_version + 1
WHERE id = %s RETURNING files_version"""


def load(session_id: int) -> tuple[int, list[Row]]:
    """The session's ``files_version`` and its entries by path, which are at least as new as that version.

    Raises:
        LookupError: there is no such session any more.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT files_version FROM sessions_app_session WHERE id = %s", [session_id])
        version = _only(cursor.fetchone(), session_id)
        cursor.execute(f"SELECT {_COLUMNS} FROM sessions_app_entry WHERE session_id = %s ORDER BY path", [session_id])
        return version, [Row(*row) for row in cursor.fetchall()]


def _only(row: tuple[Any, ...] | None, session_id: int) -> int:
    if row is None:
        raise LookupError(f"session {session_id} is gone")
    return int(row[0])


def apply(cursor: Cursor, session_id: int, change: Change, *, uploaded: bool = False) -> int:
    """Applies a difference inside the caller's transaction; the last writer wins, path by path.

    Takes the session's row lock. Uploads that came since ``seen_version`` stay, unless the change touches the same
    path or makes a file where they need a folder.

    Returns:
        The session's ``files_version`` afterwards.

    Raises:
        LookupError: there is no such session any more.
    """
    cursor.execute("SELECT files_version FROM sessions_app_session WHERE id = %s FOR NO KEY UPDATE", [session_id])
    version = _only(cursor.fetchone(), session_id)
    if version != change.seen_version:
        change = _reconciled(change, _kinds(cursor, session_id))
    gone = {*change.deletes, *(row.path for row in change.upserts)}
    cursor.execute(_DELETE, [session_id, digests(gone)])
    removed = cursor.fetchall()
    insert(cursor, session_id, change.upserts, uploaded=uploaded)
    return count(cursor, session_id, added=[(row.kind, row.size) for row in change.upserts], removed=removed)


def digests(paths: Iterable[str]) -> list[bytes]:
    """What ``path_sha256`` of these paths is."""
    return [hashlib.sha256(path.encode()).digest() for path in paths]


def insert(cursor: Cursor, session_id: int, rows: Sequence[Row], *, uploaded: bool) -> None:
    """Adds entries whose paths are free."""
    if rows:
        cursor.execute(_INSERT, [session_id, uploaded, *(list(column) for column in zip(*rows, strict=True))])


def count(
    cursor: Cursor, session_id: int, *, added: Iterable[tuple[Any, ...]], removed: Iterable[tuple[Any, ...]]
) -> int:
    """Keeps the session's counts right after entries (kind, size) were added and removed; its new version."""
    files_added = [size for kind, size in added if kind == FILE]
    files_removed = [size for kind, size in removed if kind == FILE]
    cursor.execute(_COUNT, [len(files_added) - len(files_removed), sum(files_added) - sum(files_removed), session_id])
    return _only(cursor.fetchone(), session_id)


def _kinds(cursor: Cursor, session_id: int) -> dict[str, str]:
    cursor.execute("SELECT path, kind FROM sessions_app_entry WHERE session_id = %s", [session_id])
    return dict(cursor.fetchall())


def _reconciled(change: Change, existing: dict[str, str]) -> Change:
    """The change as it can be applied to entries that others have changed meanwhile."""
    deletes = set(change.deletes)
    staying = existing.keys() - deletes
    folders = {above for path in staying for above in ancestors(path)}
    upserts = [row for row in change.upserts if row.kind != FOLDER or row.path not in folders]
    replaced = {row.path for row in upserts if row.kind != FOLDER and row.path in folders}
    if replaced:
        deletes.update(path for path in staying if not replaced.isdisjoint(ancestors(path)))
    deletes.update(above for row in upserts for above in ancestors(row.path) if above in existing)
    return Change(upserts, sorted(deletes - {row.path for row in upserts}), change.seen_version)


def ancestors(path: str) -> list[str]:
    """The folders that a path lies in, the outermost first."""
    names = path.split("/")[:-1]
    return ["/".join(names[: index + 1]) for index in range(len(names))]


def forget_run_files(session_id: int) -> None:
    """What the start of a run does to a session whose files end with each run.

    Everything that a run had or wrote goes; uploads that came since are there for this run, and go with the next.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT FROM sessions_app_session WHERE id = %s FOR NO KEY UPDATE", [session_id])
        cursor.execute(
            "DELETE FROM sessions_app_entry WHERE session_id = %s AND NOT uploaded RETURNING kind, size", [session_id]
        )
        removed = cursor.fetchall()
        cursor.execute(
            "UPDATE sessions_app_entry SET uploaded = false WHERE session_id = %s AND uploaded", [session_id]
        )
        if removed or cursor.rowcount:
            count(cursor, session_id, added=(), removed=removed)


def copy(source_id: int, target_id: int) -> None:
    """Gives a new session the entries of another: rows, not bytes. To be called inside a transaction.

    The source's lock keeps its entries, and so their blobs, from going before the copies are committed.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT FROM sessions_app_session WHERE id = %s FOR NO KEY UPDATE", [source_id])
        cursor.execute(
            f"INSERT INTO sessions_app_entry (session_id, uploaded, {_COLUMNS}) "
            f"SELECT %s, uploaded, {_COLUMNS} FROM sessions_app_entry WHERE session_id = %s",
            [target_id, source_id],
        )
        cursor.execute(
            "UPDATE sessions_app_session t SET file_count = s.file_count, total_bytes = s.total_bytes, "
            "files_version = t.files_version + 1 FROM sessions_app_session s WHERE t.id = %s AND s.id = %s",
            [target_id, source_id],
        )
