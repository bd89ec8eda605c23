"""A consumer that loses its broker with messages in its hands."""

from __future__ import annotations

import tempfile
import uuid
from pathlib import Path
from typing import NoReturn

import pytest
from redis import ConnectionError as BrokerAway

from era_project.celery import app


def away(*_: object, **__: object) -> NoReturn:
    raise BrokerAway("nobody listens")


def test_messages_that_cannot_be_put_back_are_written_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with app.connection_for_write() as connection:
        queue = connection.SimpleQueue(f"q-{uuid.uuid4().hex}")
        queue.put({"run": "text"})
        taken = queue.get(timeout=10)
        assert taken.channel is not None
        with monkeypatch.context() as patch:
            patch.setattr(taken.channel, "_restore", away)
            taken.channel.qos.restore_unacked_once()
        queue.clear()
    assert not list(tmp_path.iterdir())
