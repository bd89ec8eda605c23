"""Runs enter here: the row first, then its message; what cannot be sent is ended before its caller hears of it."""

from __future__ import annotations

import logging
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import psycopg

from era_project import full_disk
from era_project.conf import get as conf
from era_project.errors import EraError, InvalidInput, LimitExceeded, NotFound, Unavailable
from sessions_app import connections, messages
from sessions_app.connections import Connection
from sessions_app.messages import Message

logger = logging.getLogger(__name__)

FULL_RETRY_S = 5
"""What ``Retry-After`` says when a session's queue is full."""
NOT_SENT = "The broker cannot be reached, so the run was not started; try again, and look at /health."

UNHEARD = "The database went away before it had confirmed the run, so it was not started; try again."
TOO_LATE = "The database took too long to take the run, so it was not started; try again, and look at /health."

_withdrawn: set[UUID] = set()

INSERT = """
INSERT INTO sessions_app_run (id, owner_id, session_name, language, code, request, timeout_s, cpu_count, memory_mib,
    streamed, interactive, detached, webhook, reply_to, queue_until, published_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, now() + make_interval(secs => %s), now())
ON CONFLICT (id) DO NOTHING"""

LOCK_SESSION = """
SELECT s.language, s.code IS NOT NULL,
    (SELECT n.name FROM sessions_app_node n WHERE n.name = s.node AND n.lease_until > now() AND NOT n.draining)
FROM sessions_app_session s WHERE s.name = %s AND s.owner_id = %s FOR NO KEY UPDATE OF s"""

INSERT_IN_SESSION = """
WITH added AS (INSERT INTO sessions_app_run (id, owner_id, session_id, session_name, seq, language, code, request,
        timeout_s, cpu_count, memory_mib,
        streamed, detached, webhook, reply_to, queue_until, published_at)
    SELECT %(id)s, s.owner_id, s.id, s.name, s.next_seq, s.language, %(code)s, %(request)s,
        coalesce(%(timeout_s)s, s.default_timeout_s, %(default_timeout_s)s), coalesce(%(cpu_count)s, s.cpu_count),
        coalesce(%(memory_mib)s, s.memory_mib), %(streamed)s, %(detached)s, %(webhook)s, %(reply_to)s,
        now() + make_interval(secs => %(queue_timeout_s)s), CASE WHEN w.unfinished = 0 THEN now() END
    FROM sessions_app_session s CROSS JOIN LATERAL (
        SELECT count(*) AS unfinished, count(*) FILTER (WHERE e.status = 'queued') AS queued
        FROM sessions_app_run e WHERE e.session_id = s.id AND e.finished_at IS NULL) w
    WHERE s.name = %(session_name)s AND s.owner_id = %(owner_id)s AND w.queued < %(max_queued_runs)s
        AND (%(code)s::text IS NOT NULL OR s.code IS NOT NULL)
    RETURNING session_id, published_at),
taken AS (UPDATE sessions_app_session SET next_seq = next_seq + 1 WHERE id = (SELECT session_id FROM added))
SELECT published_at IS NOT NULL FROM added"""
"""The second of two statements: only what comes after :data:`LOCK_SESSION` sees all runs that others have added or ended."""

UNSENT = """
UPDATE sessions_app_run SET status = 'expired', finished_at = now(), request = NULL, message = %s
WHERE id = ANY(%s::uuid[]) AND status = 'queued' RETURNING id"""
FORGET = "DELETE FROM sessions_app_run WHERE id = ANY(%s::uuid[]) AND status = 'queued' RETURNING id"


@dataclass(frozen=True, slots=True)
class NewRow:
    """A run's row before it is written, its fields in the order of :data:`INSERT`.

    In a session, ``language`` is ignored and None of ``timeout_s``, ``cpu_count``, ``memory_mib`` means the session's.
    """

    id: UUID
    owner_id: int
    session_name: str
    language: str
    code: str | None
    request: bytes | None
    timeout_s: float | None
    cpu_count: float | None
    memory_mib: int | None
    streamed: bool
    interactive: bool
    detached: bool
    webhook: str | None
    reply_to: str | None
    queue_timeout_s: float


def withdraw(run_id: UUID) -> None:
    """Have a run not sent whose row is not written yet: its caller was told so."""
    _withdrawn.add(run_id)


def settled(run_id: UUID) -> None:
    """The row of a run that was withdrawn is written, or never will be."""
    _withdrawn.discard(run_id)


def one_shots(connection: Connection, rows: Sequence[NewRow]) -> Sequence[BaseException | None]:
    """A flush of the writer: insert ``rows``, then publish them."""
    _insert(connection, rows)
    heads = [Message(str(row.id), messages.queue_of(row.language, None)) for row in rows]
    unsent = _send(connection, heads)
    return [unsent.get(row.id) for row in rows]


def in_sessions(connection: Connection, rows: Sequence[NewRow]) -> Sequence[BaseException | None]:
    """A flush of the session writer: each row in a transaction of its own, then the heads' messages."""
    results: dict[UUID, BaseException | None] = {}
    heads: list[Message] = []
    for row in rows:
        try:
            head = _in_session(connection, row)
        except (EraError, psycopg.OperationalError) as refusal:  # the others' rows stand, and will be run
            results[row.id] = refusal
        else:
            heads += [head] if head else []
    results |= _send(connection, heads)
    return [results.get(row.id) for row in rows]


def take_back(connection: Connection, run_ids: Sequence[UUID]) -> Sequence[None]:
    """A flush of the writer: end runs that were refused for a fault of Postgres, whose rows may stand nevertheless."""
    connection.execute(UNSENT, (UNHEARD, list(run_ids)))
    return [None] * len(run_ids)


def _insert(connection: Connection, rows: Sequence[NewRow]) -> None:
    """All in one round trip and one commit; the driver would take longer to write their columns as arrays."""
    if len(rows) == 1:
        connection.execute(INSERT, _values(rows[0]))
        return
    with connection.cursor() as cursor:
        cursor.executemany(INSERT, list(map(_values, rows)))


_values = operator.attrgetter(*NewRow.__slots__)


def _in_session(connection: Connection, row: NewRow) -> Message | None:
    """Write one row under its session's lock; its message if no earlier run of the session is unfinished."""
    limit = conf().max_queued_runs
    values = {name: getattr(row, name) for name in NewRow.__slots__} | {
        "default_timeout_s": conf().default_timeout_s,
        "max_queued_runs": limit,
    }
    with connections.together(connection, size=len(row.code or "") + len(row.request or b"")):
        locked = connection.execute(LOCK_SESSION, (row.session_name, row.owner_id))
        added = connection.execute(INSERT_IN_SESSION, values)
    session, written = locked.fetchone(), added.fetchone()
    if session is None:
        raise NotFound(f"There is no session {row.session_name!r}.")
    language, has_code, node = session
    if row.code is None and not has_code:
        raise InvalidInput("The session has no stored code; give `code`.", code="NO_CODE", field="code")
    if written is None:
        raise _full(limit)
    (is_head,) = written
    return Message(str(row.id), messages.queue_of(language, node)) if is_head else None


def _full(limit: int) -> LimitExceeded:
    return LimitExceeded(
        f"{limit} runs of the session wait already; try again in {FULL_RETRY_S} s.",
        code="QUEUE_FULL",
        queued=limit,
        limit=limit,
        retry_after=FULL_RETRY_S,
    )


def _send(connection: Connection, heads: Sequence[Message]) -> dict[UUID, BaseException]:
    """:func:`_publish`, but for runs that were withdrawn."""
    if not _withdrawn:
        return _publish(connection, heads)
    late = [head for head in heads if UUID(head.run_id) in _withdrawn]
    ended = _end_unsent(connection, late, TOO_LATE)
    told = {run_id: Unavailable(TOO_LATE, run_id=str(run_id)) for run_id in ended}
    return told | _publish(connection, [head for head in heads if head not in late])


def _publish(connection: Connection, heads: Sequence[Message]) -> dict[UUID, BaseException]:
    """Send ``heads``; those of them that could not be sent and that nobody has claimed are ended."""
    if not heads:
        return {}
    try:
        messages.publish(heads)
    except messages.PUBLISH_ERRORS as error:
        logger.warning("The broker did not answer: %s", error, extra={"action": "publish_failed"})
        is_full = full_disk.is_behind("broker", error)
        ended = _end_unsent(connection, heads, full_disk.FULL if is_full else NOT_SENT)
        if is_full:
            return {run_id: full_disk.disk_full(run_id=str(run_id)) for run_id in ended}
        return {run_id: Unavailable(NOT_SENT, run_id=str(run_id)) for run_id in ended}
    return {}


def _end_unsent(connection: Connection, heads: Sequence[Message], message: str) -> list[UUID]:
    """The ids of those of ``heads`` that nobody has claimed and nobody will; without room for new rows they go."""
    ids = [head.run_id for head in heads]
    try:
        ended = connection.execute(UNSENT, (message, ids)).fetchall()
    except psycopg.errors.DiskFull:
        ended = connection.execute(FORGET, (ids,)).fetchall()
    return [run_id for (run_id,) in ended]
