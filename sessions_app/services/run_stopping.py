"""Ending runs before their time."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from uuid import UUID

import redis
from django.db import connection

from era_project.errors import NotFound
from sessions_app import connections, control, ending
from sessions_app.ending import End
from sessions_app.models import RunStatus
from sessions_app.services.run_lookup import parse_id

WAIT_S = 3.0
"""How long :func:`cancel` waits for the end. Source: the contract."""
LOOK_S = 0.02

CANCELLED = End(ending.QUEUED, RunStatus.CANCELLED, "The run was cancelled before it was started.", 143)

ASK = """
UPDATE sessions_app_run SET cancel_requested = true
WHERE id = %s AND owner_id = %s RETURNING status, node, finished_at IS NOT NULL"""

OF_SESSIONS = End(
    "r.finished_at IS NULL AND r.status = 'queued' AND r.session_id = ANY(%(sessions)s::bigint[])",
    RunStatus.CANCELLED,
    "The session was deleted before the run was started.",
    143,
)
RUNNING_OF_SESSIONS = """
SELECT id, node FROM sessions_app_run
WHERE session_id = ANY(%s::bigint[]) AND finished_at IS NULL AND status = 'running'"""
MARK = "UPDATE sessions_app_run SET cancel_requested = true WHERE id = ANY(%s::uuid[]) AND status = 'running'"


def cancel(run_id: str, *, owner_id: int, wait_s: float = WAIT_S) -> None:
    """End a run: at once while it is queued, else by its node; waits up to ``wait_s`` for the end.

    Raises:
        NotFound: there is no such run, or it is somebody else's.
    """
    wanted = parse_id(run_id)
    deadline = time.monotonic() + wait_s
    pause = threading.Event()
    told = None
    while True:
        status, node, is_final = _ask(wanted, owner_id)
        if is_final:
            return
        if status == RunStatus.QUEUED:
            _end_queued([wanted])
            continue
        if told != node:
            _tell(node, [wanted])
            told = node
        if time.monotonic() >= deadline:
            return
        pause.wait(LOOK_S)


def end_of_sessions(session_ids: Sequence[int]) -> None:
    """End the runs of sessions that were deleted: at once what waits, by its node what goes on; waits up to 3 s."""
    ids = list(session_ids)
    deadline = time.monotonic() + WAIT_S
    pause = threading.Event()
    told: set[UUID] = set()
    with connections.postgres() as own:
        while True:
            while ending.end(own, OF_SESSIONS, sessions=ids):
                pass
            running: dict[UUID, str] = dict(own.execute(RUNNING_OF_SESSIONS, (ids,)).fetchall())
            if new := running.keys() - told:
                own.execute(MARK, (list(new),))
                _tell_all({run_id: running[run_id] for run_id in new})
                told |= new
            if not running or time.monotonic() >= deadline:
                return
            pause.wait(LOOK_S)


def _tell_all(running: Mapping[UUID, str]) -> None:
    by_node: dict[str, list[UUID]] = {}
    for run_id, node in running.items():
        by_node.setdefault(node, []).append(run_id)
    for node, run_ids in by_node.items():
        _tell(node, run_ids)


def _ask(run_id: UUID, owner_id: int) -> tuple[str, str | None, bool]:
    with connection.cursor() as cursor:
        cursor.execute(ASK, [run_id, owner_id])
        found = cursor.fetchone()
    if found is None:
        raise NotFound(f"There is no run {run_id}.")
    return found  # type: ignore[no-any-return]


def _end_queued(run_ids: Sequence[UUID]) -> None:
    with connections.postgres() as own:
        ending.end(own, CANCELLED, ids=list(run_ids))


def _tell(node: str | None, run_ids: Sequence[UUID]) -> None:
    """Without Valkey the node learns it from the rows, at its next beat."""
    if node is None:
        return
    try:
        for run_id in run_ids:
            control.send(node, {"op": "cancel", "run_id": str(run_id)})
    except (redis.RedisError, OSError):
        return
