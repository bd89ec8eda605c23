"""What a run changes in its session's row, each in one transaction under the session's lock."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import psycopg
from django.db import connection, transaction

from era_project.conf import get as conf
from sessions_app import connections, data_text, finishing, workspace
from sessions_app.finishing import Final
from sessions_app.workspace import Collected

DATA = "SELECT data FROM sessions_app_session WHERE id = %s FOR NO KEY UPDATE"
SET_DATA = "UPDATE sessions_app_session SET data = %s, updated_at = now() WHERE id = %s"

COLUMNS = frozenset({"data", "state", "node", "snapshot", "snapshot_lost", "lost_reason"})
AS_JSON = frozenset({"snapshot_lost"})


@dataclass(frozen=True, slots=True)
class Data:
    """The data that a run starts with; ``error``: why ``update_data`` was not merged into it."""

    text: str
    error: str | None = None


def exists(session_id: int) -> bool:
    """Whether the session is there still."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM sessions_app_session WHERE id = %s", [session_id])
        return cursor.fetchone() is not None


def merge(session_id: int, update_data: str) -> Data:
    """Merge ``update_data`` into the session's data.

    Raises:
        LookupError: the session is gone.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(DATA, [session_id])
        (text,) = _only(cursor.fetchone(), session_id)
        merged = data_text.merge(text, update_data)
        limit = conf().max_data_bytes
        if len(merged.encode()) > limit:
            return Data(text, f"With update_data the data would be larger than {limit} bytes; it was not merged.")
        cursor.execute(SET_DATA, [merged, session_id])
        return Data(merged)


def end(session_id: int, final: Final, collected: Collected | None, columns: Mapping[str, Any]) -> bool:
    """Write the final row and what the run did to its session; then the session's next run is sent.

    Args:
        session_id: the session; where it is gone only the run's row is written.
        final: the run.
        collected: what it did to the files; None: nothing is taken over.
        columns: of the session's row, see :data:`COLUMNS`.

    Returns:
        Whether it counts; False where the run had been ended by somebody else: then nothing is written.
    """
    row, node = finishing.parameters([final])
    values = [row, node, *_values(columns), session_id]
    size = sum(len(value) for value in values if isinstance(value, str))
    is_changed = collected is not None and collected.is_change
    with _undressed() as raw, connections.together(raw, size=size, is_read=is_changed):
        ended = psycopg.Cursor(raw).execute(_end(columns), values)
        if collected is not None and is_changed and ended.fetchone() == (session_id,):
            workspace.apply(session_id, collected, psycopg.Cursor(raw))
        waiting = psycopg.Cursor(raw).execute(finishing.NEXT, [finishing.array([session_id])])
    finishing.send_next(waiting.fetchall())
    counts = ended.rowcount == 1
    if collected is not None:
        collected.counts = counts
    return counts


@contextlib.contextmanager
def _undressed() -> Iterator[connections.Connection]:
    """The driver's own connection: Postgres plans its statements once; Django sends each as a new text.

    Source: measured, planning was most of what a session's final row cost.
    """
    connection.ensure_connection()
    with connection.wrap_database_errors:
        yield connection.connection


def _end(columns: Mapping[str, Any]) -> str:
    """The final row and, where it counts, the session's, which is locked from then on; one row if it does.

    The session's next run is looked for afterwards: only then all that were started before the lock are seen.
    """
    if unknown := columns.keys() - COLUMNS:
        raise ValueError(f"no columns of a session that a run changes: {sorted(unknown)}")
    changes = ["last_run_at = now()", *(f"{name} = %s{'::jsonb' * (name in AS_JSON)}" for name in columns)]
    return f"""
WITH final AS ({finishing.FINISH}),
    session AS (UPDATE sessions_app_session SET {", ".join(changes)} WHERE id = %s AND EXISTS (SELECT FROM final)
        RETURNING id)
SELECT session.id FROM final LEFT JOIN session ON true"""


def _values(columns: Mapping[str, Any]) -> list[Any]:
    return [msgspec.json.encode(value).decode() if name in AS_JSON else value for name, value in columns.items()]


def _only(row: tuple[Any, ...] | None, session_id: int) -> tuple[Any, ...]:
    if row is None:
        raise LookupError(f"session {session_id} is gone")
    return row
