"""The end of sessions: rows first, then whatever runs in them, so that nothing new can start meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime

from django.db import connection, transaction
from django.utils import timezone

from era_project.errors import Unavailable
from sessions_app.services import nodes, runs, sessions

logger = logging.getLogger(__name__)

DELETED = tuple[int, str, str | None]
"""Key, name and node of a session that is gone."""

LOCK = """
SELECT id FROM sessions_app_session WHERE owner_id = %s {which} ORDER BY id FOR UPDATE"""
DELETE_ENTRIES = "DELETE FROM sessions_app_entry WHERE session_id = ANY(%s)"
DELETE_SESSIONS = "DELETE FROM sessions_app_session WHERE id = ANY(%s) RETURNING id, name, node"


def delete(name: str, *, owner_id: int) -> datetime:
    """Delete one session with its files, state and sandbox, in mid-run too; when it was done.

    Raises:
        NotFound: there is no such session.
    """
    if not _end(owner_id, names=[name]):
        raise sessions.unknown(name)
    return timezone.now()


def delete_all(*, owner_id: int) -> tuple[list[str], datetime]:
    """Delete all sessions of an owner in one go; their names and when it was done."""
    return [name for _, name, _ in _end(owner_id, names=None)], timezone.now()


def delete_many(names: Sequence[str], *, owner_id: int) -> int:
    """Delete those of the named sessions that there are; how many they were."""
    return len(_end(owner_id, names=names))


def _end(owner_id: int, *, names: Sequence[str] | None) -> list[DELETED]:
    gone = _deleted(owner_id, names)
    if gone:
        _drop(gone)
        runs.end_of_sessions([session_id for session_id, _, _ in gone])
    return gone


def _drop(gone: Sequence[DELETED]) -> None:
    """End the sandboxes at once. Without Valkey they end as idle ones do: the sessions are gone all the same."""
    try:
        for session_id, _, node in gone:
            if node is not None:
                nodes.send(node, {"op": "drop", "session_id": session_id})
    except Unavailable as error:
        logger.warning("Sandboxes of deleted sessions were not ended at once: %s", error)


@transaction.atomic
def _deleted(owner_id: int, names: Sequence[str] | None) -> list[DELETED]:
    with connection.cursor() as cursor:
        if names is None:
            cursor.execute(LOCK.format(which=""), (owner_id,))
        else:
            cursor.execute(LOCK.format(which="AND name = ANY(%s)"), (owner_id, list(names)))
        ids = [row[0] for row in cursor.fetchall()]
        if not ids:
            return []
        cursor.execute(DELETE_ENTRIES, (ids,))
        cursor.execute(DELETE_SESSIONS, (ids,))
        return list(cursor.fetchall())
