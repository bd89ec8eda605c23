"""Celery's consumers in this process: one for python, one for the other languages, one for this node's own queue.

Each has threads and a prefetch of its own, so that sleeping runs of one language do not hold another back.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from celery.app import trace
from celery.platforms import EX_OK
from celery.worker import WorkController
from celery.worker import state as celery_state
from celery.worker.consumer import Consumer
from kombu.asynchronous import set_event_loop

from era_project.celery import MAINTENANCE, app, language_queue, make, node_queue

logger = logging.getLogger(__name__)

PYTHON = "python"
SPARE_THREADS = 2
"""More threads than slots: one run's end is written while the next one begins."""

LOOK_S = 1.0
ATTEMPTS = 20
"""At reading a set that another thread changes."""


@dataclass(frozen=True, slots=True)
class Group:
    """Queues that are consumed together by ``threads`` threads."""

    name: str
    queues: tuple[str, ...]
    threads: int


def groups(*, node: str, languages: Sequence[str], slots: int) -> list[Group]:
    """The groups of a node: where it serves python, that keeps at least half of the slots to itself."""
    return [Group("node", (node_queue(node), MAINTENANCE), slots + SPARE_THREADS), *by_language(languages, slots)]


def by_language(languages: Sequence[str], slots: int) -> list[Group]:
    """Those of the groups that serve a language whatever the session."""
    others = tuple(language_queue(language) for language in languages if language != PYTHON)
    made = []
    if PYTHON in languages:
        made.append(Group(PYTHON, (language_queue(PYTHON),), slots + SPARE_THREADS))
    if others:
        threads = max(1, slots // 2) if PYTHON in languages else slots + SPARE_THREADS
        made.append(Group("-".join(languages), others, threads))
    return made


class Persistent(Consumer):
    """Looks for a broker that is away each :data:`LOOK_S`, for ever; the library would wait up to half a minute."""

    def ensure_connected(self, conn: Any) -> Any:
        """``conn``, once it is connected."""
        conn.ensure_connection = functools.partial(
            conn.ensure_connection, interval_start=LOOK_S, interval_step=0, interval_max=LOOK_S
        )
        return super().ensure_connected(conn)

    def on_close(self) -> None:
        """The library's clean-up, which reads sets of requests that the process's other consumers change meanwhile."""
        for _ in range(ATTEMPTS - 1):
            with contextlib.suppress(RuntimeError):
                super().on_close()
                return
        super().on_close()

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """The library's clean-up, then a pause: a broker that is there and refuses does so at once."""
        super().on_connection_error_after_connected(exc)
        time.sleep(LOOK_S)


class Consumers:
    """Runs a Celery worker for each group, each in a thread."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._threads: list[threading.Thread] = []
        self._seen: set[UUID] = set()

    def start(self, wanted: Iterable[Group]) -> None:
        """Begin to take the messages of ``wanted``; may be called again with others."""
        made = [self._thread(group) for group in wanted]
        self._threads += made
        for thread in made:
            thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether every group consumes."""
        return all(thread.is_alive() for thread in self._threads)

    def reserved(self) -> list[UUID]:
        """Runs whose messages wait here for a thread, and did so at the last call."""
        waiting = set(self.waiting())
        held = waiting & self._seen
        self._seen = waiting
        return list(held)

    def waiting(self) -> list[UUID]:
        """Runs whose messages wait here for a thread."""
        try:
            requests = list(celery_state.reserved_requests - celery_state.active_requests)
        except RuntimeError:  # another thread changed the set just then: the next call will tell
            return []
        return [UUID(request.id) for request in requests]

    def stop(self) -> None:
        """Take nothing more and wait for the runs that go on."""
        celery_state.should_stop = EX_OK  # type: ignore[assignment]  # the stubs only know its first value
        for thread in self._threads:
            thread.join()

    def _thread(self, group: Group) -> threading.Thread:
        celery = app if group.name == PYTHON else make(group.name)
        hostname = f"{group.name}@{self._node}"
        set_event_loop(None)  # else all workers of the process would share the first one's loop
        controller = WorkController(
            app=celery,
            hostname=hostname,
            pool_cls="threads",
            concurrency=group.threads,
            queues=list(group.queues),
            loglevel="WARNING",
            consumer_cls=Persistent,
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
        )
        if group.name == PYTHON:  # its settings are the process's: the other applications have the same tasks
            trace.setup_worker_optimizations(celery, hostname)
        return threading.Thread(target=controller.start, name=f"era-{group.name}")
