"""A node's word that it lives: a row in Postgres that a thread renews each second, by the database's clock."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

from era_project.conf import get as conf
from sessions_app import connections
from sessions_app.connections import Connection
from sessions_app.outage import Outage

logger = logging.getLogger(__name__)

RENEW_S = 1.0
"""A lease of four seconds survives three renewals that come to nothing."""
STRAY_AFTER_S = 5.0
"""A claim is told to its thread within this, or its answer was lost on the way."""

REGISTER = """
INSERT INTO sessions_app_node (name, languages, slots, enforced, lease, lease_until, draining, started_at)
VALUES (%(name)s, %(languages)s, %(slots)s, %(enforced)s, 1, now() + make_interval(secs => %(lease_s)s), false, now())
ON CONFLICT (name) DO UPDATE SET languages = excluded.languages, slots = excluded.slots,
    enforced = excluded.enforced, lease = sessions_app_node.lease + 1, lease_until = excluded.lease_until,
    draining = false, started_at = now()
RETURNING lease"""

RENEW = """
UPDATE sessions_app_node SET lease_until = now() + make_interval(secs => %s)
WHERE name = %s AND lease = %s RETURNING id"""

HOLD = """
UPDATE sessions_app_run SET published_at = now() WHERE id = ANY(%s::uuid[]) AND status = 'queued'"""

OURS = """
SELECT id, extract(epoch FROM now() - started_at), cancel_requested FROM sessions_app_run
WHERE finished_at IS NULL AND status = 'running' AND node = %s AND lease = %s"""

SERVES = "UPDATE sessions_app_node SET languages = %s WHERE name = %s AND lease = %s"
RELEASE = "UPDATE sessions_app_node SET lease_until = now() WHERE name = %s AND lease = %s"
DRAIN = "UPDATE sessions_app_node SET draining = true WHERE name = %s AND lease = %s"


@dataclass(frozen=True, slots=True)
class Lease:
    """``number`` rises each time that a worker of the name ``node`` starts: what an older one writes does not count."""

    node: str
    number: int


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What a node tells of itself: ``languages`` with their versions, ``enforced`` as ``Enforcement`` says it."""

    name: str
    languages: Mapping[str, str]
    slots: int
    enforced: Mapping[str, Any]


class Held(Protocol):
    """What the worker has in its hands."""

    def reserved(self) -> Iterable[UUID]:
        """Runs whose messages it took and that wait for a thread."""

    def executing(self) -> Iterable[UUID]:
        """Runs that it claimed and has not ended."""

    def stop(self, run_id: UUID) -> None:
        """End the program of a run that somebody else has ended."""

    def lose(self, run_id: UUID, reason: str) -> None:
        """Have a run ended that was claimed and that nobody executes; returns at once, and may be called again."""


def register(facts: NodeFacts) -> Lease:
    """Announce this node; whatever an earlier worker of its name still runs is lost."""
    with connections.postgres() as connection:
        row = connection.execute(
            REGISTER,
            {
                "name": facts.name,
                "languages": Jsonb(dict(facts.languages)),
                "slots": facts.slots,
                "enforced": Jsonb(dict(facts.enforced)),
                "lease_s": conf().lease_s,
            },
        ).fetchone()
    assert row is not None
    return Lease(facts.name, row[0])


class Heart(threading.Thread):
    """Renews a lease, keeps what waits here from being sent again, and stops what was ended behind our back."""

    def __init__(self, lease: Lease, held: Held, *, on_fenced: Callable[[], None]) -> None:
        super().__init__(name="era-heart", daemon=True)
        self._lease = lease
        self._held = held
        self._on_fenced = on_fenced
        self._stopped = threading.Event()

    def run(self) -> None:
        """Beat until :meth:`stop`."""
        away = Outage(logger, "The lease is not renewed")
        connection: Connection | None = None
        while not self._stopped.is_set():
            began = time.monotonic()
            try:
                if connection is None or connection.closed:
                    connection = connections.postgres()
                self._beat(connection)
                away.worked()
            except (psycopg.Error, OSError) as error:
                away.failed(error)
                if connection is not None:
                    connection.close()
            except Exception:  # a node without a heart loses all of its runs
                logger.exception("The heart missed a beat.", extra={"action": "beat_failed"})
            self._stopped.wait(max(0.0, RENEW_S - (time.monotonic() - began)))
        if connection is not None:
            connection.close()

    def stop(self) -> None:
        """End the thread; the lease runs out by itself unless it is released."""
        self._stopped.set()

    def _beat(self, connection: Connection) -> None:
        ours = (self._lease.node, self._lease.number)
        if not connection.execute(RENEW, (conf().lease_s, *ours)).fetchone():
            logger.error("Another worker took the name %s.", self._lease.node, extra={"action": "fenced"})
            self._on_fenced()
            self._stopped.set()
            return
        if reserved := list(self._held.reserved()):
            connection.execute(HOLD, (reserved,))
        self._compare(connection)

    def _compare(self, connection: Connection) -> None:
        """Runs that go on here against those that do by the database.

        What began while the database was asked is judged at the next beat: it may be missing in the answer.
        """
        before = set(self._held.executing())
        rows = connection.execute(OURS, (self._lease.node, self._lease.number)).fetchall()
        after = set(self._held.executing())
        for run_id, age_s, is_unwanted in rows:
            if run_id not in before | after and age_s > STRAY_AFTER_S:
                self._held.lose(run_id, "Its worker never heard that it had claimed the run.")
            elif is_unwanted:
                self._held.stop(run_id)
        for run_id in (before & after) - {row[0] for row in rows}:
            self._held.stop(run_id)


def serves(lease: Lease, languages: Mapping[str, str]) -> None:
    """Tell which languages, by version, this node takes from now on."""
    with connections.postgres() as connection:
        connection.execute(SERVES, (Jsonb(dict(languages)), lease.node, lease.number))


def release(lease: Lease) -> None:
    """Give the lease up at once: the worker is gone."""
    with connections.postgres() as connection:
        connection.execute(RELEASE, (lease.node, lease.number))


def drain(lease: Lease) -> None:
    """Tell that this node takes nothing new."""
    with connections.postgres() as connection:
        connection.execute(DRAIN, (lease.node, lease.number))
