"""The reaper: a thread beside beat that sends again what has no message and ends what has no living worker."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from uuid import UUID

import psycopg

from era_project.conf import get as conf
from sessions_app import connections, ending, finishing, messages
from sessions_app.connections import Connection
from sessions_app.ending import End
from sessions_app.messages import Message
from sessions_app.outage import Outage

logger = logging.getLogger(__name__)

EACH_S = 1.0
UNSENT_AFTER_S = 5.0
"""A run that nobody took within this is looked for in its queue."""
PATIENCE_S = 1.0
"""If Postgres took longer just now, no lease is judged in this round: it may have kept the nodes waiting too."""
LOCK = 0x45524131
"""Key of the advisory lock that one reaper of all holds."""
LOOKED_THROUGH = 20_000
"""Messages of one queue that are looked through; in a longer one nothing is missed soon."""

LOST = End(ending.OF_DEAD_NODES, "lost", "The node that ran it died, or was cut off, while the run was going on.")
EXPIRED = End(ending.LATE, "expired", "Nobody could start the run within its queue timeout.")

UNTAKEN = """
SELECT r.id, r.language, n.name FROM sessions_app_run r
    LEFT JOIN sessions_app_session s ON s.id = r.session_id
    LEFT JOIN sessions_app_node n ON n.name = s.node AND n.lease_until > now() AND NOT n.draining
WHERE r.finished_at IS NULL AND r.status = 'queued'
    AND (r.published_at IS NULL OR r.published_at < now() - make_interval(secs => %s))
    AND (r.session_id IS NULL OR NOT EXISTS (SELECT FROM sessions_app_run e
        WHERE e.session_id = r.session_id AND e.seq < r.seq AND e.finished_at IS NULL))
    AND r.created_at < now() - interval '1 second'
ORDER BY r.created_at LIMIT 5000"""

SEEN = "UPDATE sessions_app_run SET published_at = now() WHERE id = ANY(%s::uuid[]) AND status = 'queued'"


class Reaper(threading.Thread):
    """Reaps each second while it holds the lock; after any fault of Postgres it waits one lease before it judges."""

    def __init__(self) -> None:
        super().__init__(name="era-reaper", daemon=True)
        self._stopped = threading.Event()
        self._judges_from = 0.0
        self._looked_at = time.monotonic()

    def run(self) -> None:
        """Reap until :meth:`stop`."""
        away = Outage(logger, "The reaper cannot work")
        connection: Connection | None = None
        while not self._stopped.is_set():
            try:
                if connection is None or connection.closed:
                    connection = connections.postgres()
                    self._judges_from = time.monotonic() + conf().lease_s
                self._reap(connection)
                away.worked()
            except (psycopg.Error, OSError) as error:
                away.failed(error)
                if connection is not None:
                    connection.close()
            except Exception:
                logger.exception("The reaper failed.", extra={"action": "reap_failed"})
            self._stopped.wait(EACH_S)
        if connection is not None:
            connection.close()

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()

    def _reap(self, connection: Connection) -> None:
        (is_mine,) = connection.execute("SELECT pg_try_advisory_lock(%s)", (LOCK,)).fetchone() or (False,)
        if not is_mine:
            self._judges_from = time.monotonic() + conf().lease_s
            return
        try:
            now = time.monotonic()
            if now - self._looked_at > conf().lease_s / 2:  # the machine or Postgres stood still, perhaps for all
                self._judges_from = now + conf().lease_s
            self._looked_at = now
            reap(connection, judge=now >= self._judges_from)
        finally:
            if not connection.closed:
                connection.execute("SELECT pg_advisory_unlock(%s)", (LOCK,))


def reap(connection: Connection, *, judge: bool = True) -> None:
    """One round.

    Args:
        connection: to Postgres.
        judge: whether leases that ran out count: not while nobody could have renewed them.
    """
    began = time.monotonic()
    ending.end(connection, EXPIRED)
    if judge and time.monotonic() - began < PATIENCE_S:
        lost = ending.end(connection, LOST)
        if lost:
            logger.error("%d runs were lost with their nodes.", len(lost), extra={"action": "lost"})
    send_again(connection)


def send_again(connection: Connection) -> None:
    """Publish runs that wait and whose messages are gone."""
    untaken = [
        Message(str(run_id), messages.queue_of(language, node))
        for run_id, language, node in connection.execute(UNTAKEN, (UNSENT_AFTER_S,)).fetchall()
    ]
    if not untaken:
        return
    try:
        missing = list(_missing(untaken))
    except messages.PUBLISH_ERRORS as error:
        logger.warning("The broker did not answer: %s", error, extra={"action": "publish_failed"})
        return
    finishing.send(missing)
    connection.execute(SEEN, ([UUID(message.run_id) for message in untaken],))
    if missing:
        logger.info("%d runs were sent again.", len(missing), extra={"action": "sent_again"})


def _missing(untaken: Iterable[Message]) -> Iterable[Message]:
    by_queue: dict[str, list[Message]] = {}
    for message in untaken:
        by_queue.setdefault(message.queue, []).append(message)
    for queue, expected in by_queue.items():
        there = messages.waiting(queue, at_most=LOOKED_THROUGH)
        if there is not None:
            yield from (message for message in expected if message.run_id not in there)
