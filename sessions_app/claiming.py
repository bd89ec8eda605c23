"""Taking a run: one conditional UPDATE decides who executes it, and the sealed request is gone from the row with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sessions_app.connections import Connection
from sessions_app.lease import Lease

CLAIM = """
UPDATE sessions_app_run r
SET status = 'running', node = n.name, lease = n.lease, started_at = now(), request = NULL
FROM (SELECT q.id, q.request, s.id, s.state, s.node, s.snapshot, s.snapshot_lost, s.lost_reason, s.files_version,
        s.persistent, s.data, CASE WHEN q.code IS NULL THEN s.code END
    FROM sessions_app_run q LEFT JOIN sessions_app_session s ON s.id = q.session_id WHERE q.id = ANY(%s::uuid[])
) given(id, request, session, state, live_on, snapshot, snapshot_lost, lost_reason, files_version, persistent, data,
        code),
    sessions_app_node n
WHERE r.id = given.id AND r.status = 'queued' AND r.queue_until > now()
    AND n.name = %s AND n.lease = %s AND n.lease_until > now()
    AND (r.session_id IS NULL OR NOT EXISTS (SELECT FROM sessions_app_run e
        WHERE e.session_id = r.session_id AND e.seq < r.seq AND e.finished_at IS NULL))
RETURNING r.id, given.request, r.session_id, r.session_name, r.seq, r.language, coalesce(r.code, given.code, ''),
    r.timeout_s, r.cpu_count, r.memory_mib, r.streamed, r.reply_to, r.created_at, r.started_at,
    given.session, given.state, given.live_on, given.snapshot, given.snapshot_lost, given.lost_reason,
    given.files_version, given.persistent, given.data"""


OF_RUN = 14
"""So many of the columns are the run's, the rest are its session's."""


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """What the claim saw of the run's session: columns of its row, ``node`` where its live sandbox is."""

    id: int
    state: str
    node: str | None
    snapshot: str | None
    snapshot_lost: list[str]
    lost_reason: str | None
    files_version: int
    persistent: bool
    data: str


@dataclass(frozen=True, slots=True)
class Claimed:
    """A run that this node, and nobody else, executes; its fields are the columns that CLAIM returns.

    A run whose ``session_id`` is not None belongs to a session, even where ``session`` says that this is gone.
    """

    id: UUID
    request: bytes | None
    session_id: int | None
    session_name: str
    seq: int | None
    language: str
    code: str
    timeout_s: float
    cpu_count: float
    memory_mib: int
    streamed: bool
    reply_to: str | None
    created_at: datetime
    started_at: datetime
    session: SessionFacts | None
    """None: a one-shot, or the session is gone."""


@dataclass(frozen=True, slots=True)
class Claim:
    """An order for the writer: take ``run_id`` under ``lease``."""

    run_id: UUID
    lease: Lease


def claim(connection: Connection, claims: Sequence[Claim]) -> Sequence[Claimed | None]:
    """A flush of the writer; None for a run that is taken, ended, late or not yet its session's turn."""
    lease = claims[0].lease
    ids = ",".join(str(one.run_id) for one in claims)  # the driver is slow at arrays
    taken = connection.execute(CLAIM, (f"{{{ids}}}", lease.node, lease.number)).fetchall()
    by_id = {row[0]: _claimed(row) for row in taken}
    return [by_id.pop(one.run_id, None) for one in claims]


def _claimed(row: Sequence[Any]) -> Claimed:
    facts = None if row[OF_RUN] is None else SessionFacts(*row[OF_RUN:])
    return Claimed(*(*row[:OF_RUN], facts))
