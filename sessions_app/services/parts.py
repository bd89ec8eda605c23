"""The server's parts as health sees them: each check returns something when its part answers, else it raises."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from django.conf import settings
from django.db import close_old_connections, connection

from era_project import full_disk
from sessions_app import connections
from sessions_app.services import nodes
from storage_app import objects

log = logging.getLogger(__name__)


def postgres() -> bool:
    """Whether Postgres answers."""
    close_old_connections()
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return True


def broker() -> bool:
    """Whether the broker answers."""
    if connections.broker_is_redis():
        return bool(connections.broker().ping())
    from kombu import Connection

    with Connection(settings.CELERY_BROKER_URL, connect_timeout=1) as amqp:
        amqp.connect()
    return True


def object_store() -> bool:
    """Whether the object store can be written and read."""
    objects.store().check()
    return True


CHECKS: Mapping[str, Callable[[], bool]] = {"postgres": postgres, "broker": broker, "objects": object_store}
STORES = {"postgres": "database", "broker": "broker"}
"""Those that the server may run itself, in the words of :mod:`era_project.full_disk`."""


def sandbox() -> dict[str, Any]:
    """How programs are isolated here: backend, mode and how each limit is held; empty while no worker is up.

    Nodes may differ: the one that holds the fewest limits speaks for all; ``/api/languages`` has each.
    """
    close_old_connections()
    enforced = [node.enforced for node in nodes.alive() if node.enforced]
    return dict(min(enforced, key=lambda told: len(told.get("limits", ())), default={}))


def is_for_want_of_room(part: str, error: Exception) -> bool:
    """Whether a full disk keeps ``part``, a name of :data:`CHECKS`, from answering."""
    return full_disk.is_behind(STORES[part], error) if part in STORES else full_disk.is_told_by(error)


def report(question: Callable[[], Any], error: Exception) -> None:
    """Log that a part did not answer."""
    log.warning("A part is down: %s (%s).", question.__name__, error or type(error).__name__)
