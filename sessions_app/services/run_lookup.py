"""Looking at runs: one by its id, many by newest first."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec
from django.db import connection

from era_project.errors import InvalidInput, NotFound
from sessions_app import run_object, run_rows
from sessions_app.models import UNFINISHED, RunStatus
from sessions_app.services import nodes

LARGEST_PAGE = 1_000
COUNTED = 10_000
"""More matching runs are not counted: a list must not cost more with each run that is kept."""
UNSERVED_AFTER_S = 5.0
"""How long a run waits before it says that nobody serves its language. Source: the contract."""

JSON_COLUMNS = ("changes", "state", "warnings", "usage")

AHEAD = """
SELECT count(*), extract(epoch FROM now() - %s)
FROM sessions_app_run
WHERE finished_at IS NULL AND status = 'queued' AND language = %s AND (created_at, id) < (%s, %s)"""

RECENT = """
SELECT avg(execution_time_ms) FROM (SELECT execution_time_ms FROM sessions_app_run
    WHERE language = %s AND finished_at > now() - interval '10 minutes' AND execution_time_ms IS NOT NULL
    ORDER BY finished_at DESC LIMIT 50) recent"""


def get(run_id: str, *, owner_id: int, output: bool = True) -> run_object.Run:
    """The run object as it is now.

    Raises:
        NotFound: there is no such run, or it is somebody else's.
    """
    names = run_rows.WITH_OUTPUT if output else run_rows.LISTED
    sql = f"SELECT {names} FROM sessions_app_run r WHERE r.id = %s AND r.owner_id = %s"
    with connection.cursor() as cursor:
        cursor.execute(sql, [parse_id(run_id), owner_id])
        found = cursor.fetchone()
        if found is None:
            raise NotFound(f"There is no run {run_id}.")
        return _rendered(cursor, found, output=output)


def list_(
    owner_id: int, *, session: str | None = None, status: str | None = None, limit: int = 100, cursor: str = ""
) -> tuple[Sequence[run_object.Run], int, str]:
    """A page of runs without output, newest first; how many match, up to COUNTED; the next page's cursor or ``""``.

    Raises:
        InvalidInput: no such status, no page size, no cursor of ours.
    """
    if status is not None and status not in RunStatus.values:
        raise InvalidInput(f"status must be one of {', '.join(RunStatus.values)}.", field="status")
    if not 1 <= limit <= LARGEST_PAGE:
        raise InvalidInput(f"limit must be from 1 to {LARGEST_PAGE}.", field="limit")
    wanted = ["r.owner_id = %s"]
    wanted += ["r.session_name = %s"] if session is not None else []
    wanted += ["r.status = %s"] if status is not None else []
    wanted += ["r.finished_at IS NULL"] if status in UNFINISHED else []
    values: list[Any] = [owner_id, *(value for value in (session, status) if value is not None)]
    where = " AND ".join(wanted)
    page = " AND (r.created_at, r.id) < (%s, %s)" if cursor else ""
    after = _after(cursor) if cursor else ()
    with connection.cursor() as statement:
        counted = f"SELECT FROM sessions_app_run r WHERE {where} LIMIT {COUNTED}"
        statement.execute(f"SELECT count(*) FROM ({counted}) counted", values)
        (count,) = statement.fetchone()
        statement.execute(
            f"SELECT {run_rows.LISTED} FROM sessions_app_run r WHERE {where}{page} "
            "ORDER BY r.created_at DESC, r.id DESC LIMIT %s",
            [*values, *after, limit + 1],
        )
        found = statement.fetchall()
        runs = [_rendered(statement, row, output=False) for row in found[:limit]]
    return runs, count, _cursor(found[limit - 1]) if len(found) > limit else ""


def parse_id(run_id: str) -> UUID:
    """A run's id from a path.

    Raises:
        NotFound: it cannot be one.
    """
    try:
        return UUID(run_id)
    except ValueError:
        raise NotFound(f"There is no run {run_id}.") from None


def _rendered(cursor: Any, values: Sequence[Any], *, output: bool) -> run_object.Run:
    row = run_rows.named(values, output=output)
    for name in JSON_COLUMNS:
        if isinstance(row[name], str):
            row[name] = msgspec.json.decode(row[name])
    run = run_object.render(row, output=output)
    return run | _waiting(cursor, row) if row["status"] == RunStatus.QUEUED else run


def _waiting(cursor: Any, row: run_rows.Row) -> dict[str, Any]:
    """Where a queued run stands; ``eta_ms`` from the last ten minutes' runs of its language, else null."""
    created_at, language = row["created_at"], row["language"]
    cursor.execute(AHEAD, [created_at, language, created_at, row["id"]])
    ahead, waited_s = cursor.fetchone()
    cursor.execute(RECENT, [language])
    (average_ms,) = cursor.fetchone()
    serving = nodes.serving(language)
    slots = sum(node.slots for node in serving)
    eta_ms = round(average_ms * (ahead // slots + 1), 1) if average_ms is not None and slots else None
    told: dict[str, Any] = {"queue_position": ahead + 1, "eta_ms": eta_ms}
    if not serving and waited_s > UNSERVED_AFTER_S:
        told["message"] = f"No worker serves {language} at present; the run starts when one comes."
    return told


def _cursor(row: Sequence[Any]) -> str:
    named = run_rows.named(row, output=False)
    return base64.urlsafe_b64encode(f"{named['created_at'].isoformat()} {named['id']}".encode()).decode()


def _after(cursor: str) -> tuple[str, UUID]:
    try:
        created_at, _, run_id = base64.urlsafe_b64decode(cursor.encode()).decode().partition(" ")
        return created_at, UUID(run_id)
    except (ValueError, binascii.Error):
        raise InvalidInput("cursor is not one that this server gave.", field="cursor") from None
