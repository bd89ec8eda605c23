"""Runs that no worker ends: cancelled or expired while they waited, lost with their node."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg

from sessions_app import finishing, replies, run_object, run_rows
from sessions_app.connections import Connection
from sessions_app.replies import Reply

logger = logging.getLogger(__name__)

FOLLOWED_AFTER = timedelta(seconds=1)
"""Nobody follows a run that was not streamed and is younger than this."""
TOGETHER = 1_000
"""Rows ended in one statement at most, so that nothing waits long for them."""

END = """
WITH chosen AS (
    SELECT id FROM sessions_app_run r WHERE {which} LIMIT {limit} FOR UPDATE SKIP LOCKED
)
UPDATE sessions_app_run r SET status = %(status)s, finished_at = now(), message = %(message)s, request = NULL,
    exit_code = %(exit_code)s
FROM chosen WHERE r.id = chosen.id
RETURNING r.id, r.reply_to, r.session_id"""

QUEUED = "r.status = 'queued' AND r.id = ANY(%(ids)s::uuid[])"
LATE = "r.finished_at IS NULL AND r.status = 'queued' AND r.queue_until <= now()"
OF_LEASE = "r.status = 'running' AND r.id = ANY(%(ids)s::uuid[]) AND r.node = %(node)s AND r.lease = %(lease)s"
OF_DEAD_NODES = """r.finished_at IS NULL AND r.status = 'running' AND NOT EXISTS (SELECT FROM sessions_app_node n
    WHERE n.name = r.node AND n.lease = r.lease AND n.lease_until > now())"""


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that was just ended: who waits for it and whose turn comes next."""

    id: UUID
    reply_to: str | None
    session_id: int | None


@dataclass(frozen=True, slots=True)
class End:
    """Which runs to end (a condition on ``r`` with its parameters) and what becomes of them."""

    which: str
    status: str
    message: str
    exit_code: int | None = None


def end(connection: Connection, what: End, **parameters: Any) -> Sequence[Ended]:
    """End runs, publish their sessions' next ones, send last events, answer the callers."""
    sql = END.format(which=what.which, limit=TOGETHER)
    values = {"status": what.status, "message": what.message, "exit_code": what.exit_code, **parameters}
    ended = [Ended(*row) for row in connection.execute(sql, values).fetchall()]
    sessions = [one.session_id for one in ended if one.session_id is not None]
    if sessions:
        finishing.publish_next(connection, sessions)
    if ended:
        _tell(connection, ended)
    return ended


def _tell(connection: Connection, ended: Sequence[Ended]) -> None:
    """Send last events and answers; whoever misses them asks the database."""
    from sessions_app import events  # brings 8 MB, and beat seldom ends a run

    try:
        rows = run_rows.many(connection, [one.id for one in ended])
    except psycopg.Error as error:
        logger.warning("The end of runs was not told: %s", error, extra={"action": "reply_failed"})
        return
    answers = []
    for one in ended:
        row = rows.get(one.id)
        if row is None:
            continue
        run = run_object.render(row)
        if row["streamed"] or row["finished_at"] - row["created_at"] > FOLLOWED_AFTER:
            events.publish_end(run)
        if one.reply_to:
            answers.append(Reply(one.reply_to, one.id, run_object.answer(run)))
    if answers:
        replies.send(answers)
