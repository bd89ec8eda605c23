"""The thread that commits what has queued up: together, in words of its own for each, and through outages."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest

from sessions_app.connections import Connection
from sessions_app.writer import Writer


@pytest.fixture
def writer(real_db: None) -> Writer:
    return Writer("test-writer")


def backend(connection: Connection, items: Sequence[Any]) -> list[int]:
    """The server's process behind the writer's connection."""
    (pid,) = connection.execute("SELECT pg_backend_pid()").fetchone() or (0,)
    return [pid] * len(items)


def test_what_queues_up_meanwhile_is_done_at_once(writer: Writer) -> None:
    begun, go = threading.Event(), threading.Event()
    batches: list[Sequence[int]] = []

    def flush(connection: Connection, items: Sequence[int]) -> Sequence[int]:
        batches.append(items)
        begun.set()
        assert go.wait(60)
        return [item * 2 for item in items]

    first = writer.submit(flush, 1)
    assert begun.wait(60)
    rest = [writer.submit(flush, number) for number in (2, 3, 4)]
    go.set()
    assert [one.result(60) for one in (first, *rest)] == [2, 4, 6, 8]
    assert batches == [[1], [2, 3, 4]]


def test_one_can_be_refused_without_the_others(writer: Writer) -> None:
    def flush(connection: Connection, items: Sequence[int]) -> Sequence[int | Exception]:
        return [ValueError("odd") if item % 2 else item for item in items]

    assert writer.submit(flush, 2).result(60) == 2
    with pytest.raises(ValueError, match="odd"):
        writer.submit(flush, 3).result(60)


def test_a_fault_is_told_and_the_writer_goes_on(writer: Writer) -> None:
    def fail(connection: Connection, items: Sequence[int]) -> Sequence[int]:
        raise RuntimeError("a fault")

    with pytest.raises(RuntimeError, match="a fault"):
        writer.submit(fail, 1).result(60)
    assert writer.submit(backend, None).result(60) > 0


def test_what_must_not_be_lost_outlasts_a_broken_connection(writer: Writer, own: Connection) -> None:
    before = writer.submit(backend, None).result(60)
    own.execute("SELECT pg_terminate_backend(%s)", (before,))
    after = writer.submit(backend, None, persist_s=60.0).result(60)
    assert after != before


def test_a_thread_that_may_block_does_its_own_order_while_nobody_waits(writer: Writer) -> None:
    def where(connection: Connection, items: Sequence[Any]) -> list[int]:
        return [threading.get_ident()] * len(items)

    assert writer.submit(where, None, may_block=True).result(60) == threading.get_ident()
    assert writer.submit(where, None).result(60) != threading.get_ident()


def test_a_thread_that_may_block_waits_its_turn_behind_others(writer: Writer) -> None:
    begun, go = threading.Event(), threading.Event()

    def flush(connection: Connection, items: Sequence[int]) -> Sequence[int]:
        begun.set()
        assert go.wait(60)
        return [threading.get_ident()] * len(items)

    first = writer.submit(flush, 1)
    assert begun.wait(60)
    second = writer.submit(flush, 2, may_block=True)
    go.set()
    assert threading.get_ident() not in (first.result(60), second.result(60))
