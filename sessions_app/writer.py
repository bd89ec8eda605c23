"""The thread of a process that owns one connection and commits whatever has queued up meanwhile together."""

from __future__ import annotations

import functools
import logging
import queue
import select
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import psycopg

from sessions_app import connections
from sessions_app.connections import Connection
from sessions_app.outage import Outage

logger = logging.getLogger(__name__)

BATCH = 128
"""Orders committed at once at most."""
IDLE_S = 0.2
"""A connection that was used so lately is taken to be whole: looking costs a system call."""
RETRY_S = 0.25
"""Pause before an order that must not be lost is tried again while Postgres is away."""

GONE = (psycopg.OperationalError, psycopg.errors.IdleInTransactionSessionTimeout)
"""The connection is no more: Postgres is away, or we stood still in mid-transaction."""
Flush = Callable[[Connection, Sequence[Any]], Sequence[Any]]
"""Does all orders of one kind: takes their items, gives one result for each, an exception to refuse it."""


@dataclass(frozen=True, slots=True)
class Order:
    """One item for a flush. ``until``: time (monotonic, s) up to which it is tried again while Postgres is away."""

    flush: Flush
    item: Any
    until: float
    done: Future[Any]


class Writer:
    """Collects orders from many threads; each batch is one statement (or transaction) of each kind."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        """Whoever holds it works with the connection."""
        self._connection: Connection | None = None
        self._used_at = 0.0
        self._away = Outage(logger, "Nothing can be written")

    def submit(self, flush: Flush, item: Any, *, persist_s: float = 0.0, may_block: bool = False) -> Future[Any]:
        """Have ``flush`` do ``item`` together with the others that wait; the future is done after its commit.

        Args:
            flush: must bear being called twice with the same item if ``persist_s`` is given.
            item: what it takes.
            persist_s: how long to try again while Postgres cannot be reached, s.
            may_block: the caller's thread does it itself if nothing waits: two changes of thread less.
        """
        order = Order(flush, item, time.monotonic() + persist_s, Future())
        if not (may_block and self._done_here(order)):
            self._orders.put(order)
        if self._thread is None:
            self._start()
        return order.done

    def _done_here(self, order: Order) -> bool:
        """Whether the writer was idle, so that ``order`` was done on the calling thread."""
        if not self._turn.acquire(blocking=False):
            return False
        try:
            is_idle = self._orders.empty()
            if is_idle:
                self._do(order.flush, [order])
            return is_idle
        finally:
            self._turn.release()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while True:
            first = self._orders.get()
            with self._turn:
                kinds: dict[Flush, list[Order]] = {}
                for order in self._batch(first):
                    kinds.setdefault(order.flush, []).append(order)
                for flush, orders in kinds.items():
                    self._do(flush, orders)

    def _batch(self, first: Order) -> list[Order]:
        batch = [first]
        try:
            while len(batch) < BATCH:
                batch.append(self._orders.get_nowait())
        except queue.Empty:
            pass
        return batch

    def _do(self, flush: Flush, orders: list[Order]) -> None:
        try:
            results = flush(self._usable(), [order.item for order in orders])
        except GONE as error:
            self._later(orders, error)
        except Exception as error:
            logger.exception("Nothing was written.", extra={"action": "write_failed"})
            _settle(orders, [error] * len(orders))
        else:
            self._away.worked()
            _settle(orders, results)

    def _later(self, orders: list[Order], error: psycopg.Error) -> None:
        self._away.failed(error)
        if self._connection is not None:
            self._connection.close()
        now = time.monotonic()
        lasting = [order for order in orders if order.until > now]
        _settle([order for order in orders if order.until <= now], [error] * len(orders))
        if lasting:
            time.sleep(RETRY_S)
        for order in lasting:
            self._orders.put(order)

    def _usable(self) -> Connection:
        """The connection; a new one where the server closed it meanwhile (an idle socket has nothing to read)."""
        now = time.monotonic()
        was_idle, self._used_at = now - self._used_at > IDLE_S, now
        if self._connection is not None and not self._connection.closed:
            if not was_idle or not _has_word(self._connection):
                return self._connection
            self._connection.close()
        self._connection = connections.postgres(keeps_plans=True)
        return self._connection


def _has_word(connection: Connection) -> bool:
    poller = select.poll()  # select bears no descriptor above 1,023
    poller.register(connection.fileno(), select.POLLIN)
    return bool(poller.poll(0))


def _settle(orders: Sequence[Order], results: Sequence[Any]) -> None:
    for order, result in zip(orders, results, strict=False):
        if isinstance(result, Exception):
            order.done.set_exception(result)
        else:
            order.done.set_result(result)


@functools.cache
def rows() -> Writer:
    """The writer of short statements that wait for nobody's lock: one-shots, claims, final rows."""
    return Writer("era-writer")


@functools.cache
def sessions() -> Writer:
    """The writer of what takes a session's lock, apart so that one busy session holds up nothing else."""
    return Writer("era-session-writer")
