"""Cleaning up works on whichever thread it is given, whatever became of the connection there."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from django import db
from django.db import connection

from sessions_app import connections, execution, tasks

Do = Callable[[Callable[[], object]], object]


@pytest.fixture
def in_thread(real_db: None) -> Iterator[Do]:
    """Does something in a thread of Celery's pool, always the same one."""
    with ThreadPoolExecutor(1) as pool:
        yield lambda work: pool.submit(work).result(60)
        pool.submit(db.connections.close_all).result(60)


def backend() -> int:
    """The process at the other end of this thread's connection, which is opened."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
        return int(pid)


def test_cleaning_up_outlives_a_restart_of_postgres(in_thread: Do, own: connections.Connection) -> None:
    in_thread(tasks.clean_up)
    pid = in_thread(backend)
    assert own.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,)).fetchone() == (True,)
    in_thread(tasks.clean_up)


def test_a_run_that_cannot_be_claimed_is_no_fault_of_ours(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(run_id: uuid.UUID) -> None:
        raise psycopg.errors.AdminShutdown("terminating connection due to unexpected postmaster exit")

    monkeypatch.setattr(execution, "execute", away)
    tasks.execute_run(str(uuid.uuid4()))
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_cleaning_up_leaves_no_connection_open(in_thread: Do) -> None:
    in_thread(tasks.clean_up)
    assert in_thread(lambda: connection.connection) is None
