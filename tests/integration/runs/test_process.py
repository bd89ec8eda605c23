"""A worker's process: what asks it to end, and threads that must not die."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping
from typing import Any

import pytest
from celery.worker.consumer import Consumer

from sessions_app import connections, control
from sessions_app.consumers import Persistent
from sessions_app.worker import Options, Worker
from tests.waiting import wait_until


def test_a_signal_in_the_midst_of_waiting_ends_it() -> None:
    worker = Worker(Options("n", ("python",), 1, is_embedded=True))
    threading.Thread(target=worker._heed, daemon=True).start()
    done = threading.Event()

    def interrupted() -> None:
        with worker._stop._cond:  # type: ignore[attr-defined]  # as the main thread holds it for an instant of each wait
            worker.stop()
        done.set()

    threading.Thread(target=interrupted, daemon=True).start()
    assert done.wait(10)
    assert worker._stop.wait(10)


@pytest.mark.parametrize("word", [b"no json", b"[]", b"{}", b'{"op": null}'])
def test_a_word_that_is_no_command_ends_no_reader(word: bytes) -> None:
    node, heard = f"n-{uuid.uuid4().hex}", threading.Event()

    def hear(command: Mapping[str, Any]) -> None:
        heard.set()

    reader = control.Reader(node, {"hear": hear})
    reader.start()
    connections.valkey().rpush(control.key(node), word)
    control.send(node, {"op": "hear"})
    wait_until(heard.is_set, 30, "the command is taken")
    reader.stop()
    reader.join(30)


def test_sets_that_other_consumers_change_end_no_consumer(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def close(self: Consumer) -> None:
        calls.append(self)
        if len(calls) < 3:
            raise RuntimeError("Set changed size during iteration")

    monkeypatch.setattr(Consumer, "on_close", close)
    Persistent.on_close(object.__new__(Persistent))
    assert len(calls) == 3
