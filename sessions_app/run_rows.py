"""Rows of runs as the rest reads them: columns by name, output fetched from wherever it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from era_project.errors import NotFound
from sessions_app import run_object
from sessions_app.connections import Connection
from storage_app import blobs

COLUMNS = (
    *("id", "session_name", "seq", "language", "status", "stdout_bytes", "stderr_bytes", "exit_code", "signal"),
    *("execution_time_ms", "files_modified", "changes", "data", "data_error", "result", "state", "warnings"),
    *("stdout_truncated", "stderr_truncated", "usage", "sandbox", "node", "created_at", "started_at", "finished_at"),
    *("message", "owner_id", "queue_until", "streamed", "detached"),
)
OUTPUT = ("stdout", "stderr", "stdout_blob", "stderr_blob")

LISTED = ", ".join(f"r.{name}" for name in COLUMNS)
WITH_OUTPUT = ", ".join(f"r.{name}" for name in (*COLUMNS, *OUTPUT))

Row = dict[str, Any]


def states(connection: Connection, run_ids: Sequence[UUID]) -> dict[UUID, bool]:
    """Which of ``run_ids`` there are, and whether each is final."""
    sql = "SELECT id, finished_at IS NOT NULL FROM sessions_app_run WHERE id = ANY(%s::uuid[])"
    return dict(connection.execute(sql, (list(run_ids),)).fetchall())


def one(connection: Connection, run_id: UUID) -> run_object.Run:
    """The run object of ``run_id``.

    Raises:
        NotFound: there is no such run.
    """
    found = many(connection, [run_id])
    if run_id not in found:
        raise NotFound("There is no such run.")
    return run_object.render(found[run_id])


def many(connection: Connection, run_ids: Sequence[UUID]) -> dict[UUID, Row]:
    """Those of ``run_ids`` that there are, with their output."""
    sql = f"SELECT {WITH_OUTPUT} FROM sessions_app_run r WHERE r.id = ANY(%s::uuid[])"
    rows = [named(values, output=True) for values in connection.execute(sql, (list(run_ids),)).fetchall()]
    return {row["id"]: row for row in rows}


def named(values: Sequence[Any], *, output: bool) -> Row:
    """A fetched tuple by the names of its columns; output that lies in the object store is read."""
    row = dict(zip((*COLUMNS, *OUTPUT) if output else COLUMNS, values, strict=True))
    if output:
        for stream in ("stdout", "stderr"):
            if row[f"{stream}_blob"]:
                row[stream] = blobs.read(row[f"{stream}_blob"])
    return row
