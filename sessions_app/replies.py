"""Answers on their way back: one list in Valkey for each process that waits, and the database when a reply is lost."""

from __future__ import annotations

import functools
import logging
import math
import os
import struct
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
import redis

from era_project.errors import EraError, NotFound
from sessions_app import connections, run_object, run_rows
from sessions_app.outage import Outage
from sessions_app.run_object import Finished

logger = logging.getLogger(__name__)

LIST_TTL_S = 60
"""A list whose reader died is gone after this."""
CHECK_S = 2.0
"""How often the database is asked for runs whose reply may be lost."""
LARGEST_REPLY_BYTES = 256 << 10
"""A larger answer stays in its row; the reply then says "ask the row"."""
TOGETHER = 64
RETRY_S = 0.2

_HEAD = struct.Struct("!16sHHB")
_WHOLE, _ASK_THE_ROW = 0, 1


class Reply(NamedTuple):
    """An answer for whoever reads the list ``to``; None of it: it is in the row, whose id says enough."""

    to: str
    run_id: UUID
    finished: Finished | None


def send(answers: Iterable[Reply]) -> None:
    """Put ``answers`` on their lists; without Valkey they are dropped: the waiting side asks the database."""
    pipeline = connections.valkey().pipeline(transaction=False)
    for key, encoded in _by_list(answers).items():
        pipeline.rpush(key, *encoded)
        pipeline.expire(key, LIST_TTL_S)
    try:
        pipeline.execute()
    except (redis.RedisError, OSError) as error:
        logger.warning("Replies were not sent: %s", error, extra={"action": "reply_failed"})


def _by_list(answers: Iterable[Reply]) -> dict[str, list[bytes]]:
    lists: dict[str, list[bytes]] = {}
    for key, run_id, finished in answers:
        if finished is None or len(finished.body) > LARGEST_REPLY_BYTES:
            encoded = _HEAD.pack(run_id.bytes, 0, 0, _ASK_THE_ROW)
        else:
            encoded = _HEAD.pack(run_id.bytes, finished.http_status, finished.retry_after or 0, _WHOLE) + finished.body
        lists.setdefault(key, []).append(encoded)
    return lists


@dataclass(slots=True)
class Awaited:
    """A run whose answer somebody here waits for; ``since``: when its row was committed (monotonic, s), else inf."""

    answer: Future[Finished]
    since: float


class ReplyList:
    """This process's list: a thread reads it and, every :data:`CHECK_S`, asks the database for what did not come."""

    def __init__(self) -> None:
        self.key = f"era:reply:{os.getpid()}:{os.urandom(8).hex()}"
        self._awaited: dict[UUID, Awaited] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._connection: connections.Connection | None = None
        self._valkey_away = Outage(logger, "Replies cannot be read")
        self._postgres_away = Outage(logger, "Postgres cannot be asked for answers")

    def expect(self, run_id: UUID) -> Future[Finished]:
        """The answer to ``run_id``, once there is one."""
        answer: Future[Finished] = Future()
        self._awaited[run_id] = Awaited(answer, math.inf)
        if self._thread is None or not self._thread.is_alive():
            self._start()
        return answer

    def accepted(self, run_id: UUID) -> None:
        """The row of ``run_id`` is there: from now on the database may be asked for it."""
        awaited = self._awaited.get(run_id)
        if awaited is not None:
            awaited.since = time.monotonic()

    def fail(self, run_id: UUID, error: BaseException) -> None:
        """Nobody will answer ``run_id``: its waiter gets ``error``."""
        awaited = self._awaited.pop(run_id, None)
        if awaited is not None and awaited.answer.set_running_or_notify_cancel():
            awaited.answer.set_exception(error)

    def _start(self) -> None:
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name="era-replies", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        client = connections.blocking_valkey()
        checked = time.monotonic()
        while True:
            try:
                self._read(client)
                if time.monotonic() - checked >= CHECK_S:
                    checked = time.monotonic()
                    self._check(older_than=checked - CHECK_S)
            except Exception:
                logger.exception("Answers could not be fetched.", extra={"action": "reply_failed"})
                time.sleep(RETRY_S)

    def _read(self, client: redis.Redis) -> None:
        try:
            got: Any = client.blmpop(connections.BLOCK_S, 1, self.key, direction="LEFT", count=TOGETHER)
        except (redis.RedisError, OSError) as error:
            self._valkey_away.failed(error)
            time.sleep(RETRY_S)
            return
        self._valkey_away.worked()
        ask: list[UUID] = []
        for reply in got[1] if got else ():
            run_id, status, retry_after, where = _HEAD.unpack_from(reply)
            if where == _ASK_THE_ROW:
                ask.append(UUID(bytes=run_id))
            else:
                self._settle(UUID(bytes=run_id), Finished(reply[_HEAD.size :], status, retry_after or None))
        if ask:
            self._ask(ask)

    def _settle(self, run_id: UUID, finished: Finished) -> None:
        awaited = self._awaited.pop(run_id, None)
        if awaited is not None and awaited.answer.set_running_or_notify_cancel():
            awaited.answer.set_result(finished)

    def _check(self, *, older_than: float) -> None:
        late = [run_id for run_id, awaited in list(self._awaited.items()) if awaited.since < older_than]
        if late:
            self._ask(late)

    def _ask(self, run_ids: list[UUID]) -> None:
        """Settle those of ``run_ids`` that are final in the database; those that it does not know fail."""
        try:
            if self._connection is None or self._connection.closed:
                self._connection = connections.postgres()
            found = run_rows.states(self._connection, run_ids)
            for run_id in run_ids:
                if run_id not in found:
                    self.fail(run_id, NotFound("The run was deleted before it had ended."))
                elif found[run_id]:
                    self._answer(self._connection, run_id)
        except (psycopg.Error, OSError) as error:
            self._postgres_away.failed(error)
            if self._connection is not None:
                self._connection.close()
        else:
            self._postgres_away.worked()

    def _answer(self, connection: connections.Connection, run_id: UUID) -> None:
        """Settle a final run; one whose output cannot be read fails alone, for others wait behind it."""
        try:
            finished = run_object.answer(run_rows.one(connection, run_id))
        except psycopg.Error:
            raise
        except Exception as error:
            if isinstance(error, EraError):
                error.extra.setdefault("run_id", str(run_id))
            self.fail(run_id, error)
        else:
            self._settle(run_id, finished)


@functools.cache
def mine() -> ReplyList:
    """The list of this process."""
    return ReplyList()
