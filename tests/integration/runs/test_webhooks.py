"""Deliveries of webhooks stand by themselves: one that cannot be made holds up no other."""

from __future__ import annotations

import dataclasses
import http.server
import json
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from era_project import conf
from sessions_app import webhooks
from sessions_app.models import Run, WebhookDelivery
from storage_app import blobs, objects
from tests.integration.runs.conftest import record
from tests.waiting import wait_until

LONG_AGO = datetime(2001, 1, 1, tzinfo=UTC)
"""Before whatever other tests have left to be delivered."""


class Receiver(http.server.ThreadingHTTPServer):
    """Takes everything. ``told``: the ids of the runs."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.told: set[str] = set()


class Handler(http.server.BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.told.add(json.loads(body)["run_id"])
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A receiver on this machine, where webhooks may go."""
    allowed = dataclasses.replace(conf.get(), webhook_allow_private=True)
    monkeypatch.setattr(conf, "get", lambda: allowed)
    with Receiver() as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def sender(real_db: None) -> Iterator[webhooks.Sender]:
    """What sends webhooks, not started yet."""
    made = webhooks.Sender()
    yield made
    made.stop()


def due(receiver: Receiver, run: Run) -> WebhookDelivery:
    url = f"http://127.0.0.1:{receiver.server_port}/"
    return WebhookDelivery.objects.create(run=run, url=url, next_at=LONG_AGO)


@pytest.mark.parametrize("fault", [objects.store_down("refused"), PermissionError(13, "Permission denied")])
def test_output_that_cannot_be_read_fails_its_own_delivery_only(
    receiver: Receiver, sender: webhooks.Sender, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def away(_: str) -> bytes:
        raise fault

    monkeypatch.setattr(blobs, "read", away)
    unread = due(receiver, record(stdout_blob=uuid.uuid4().hex * 2))
    others = [due(receiver, record()) for _ in range(3)]
    sender.start()
    wait_until(lambda: receiver.told >= {str(other.run_id) for other in others}, 20, "the others are delivered")
    wait_until(lambda: WebhookDelivery.objects.get(pk=unread.pk).log, 20, "the failure is written down")
    unread.refresh_from_db()
    first = unread.log[0]
    assert first["status"] is None
    assert str(fault) in first["error"]
    assert unread.delivered_at is None
    assert unread.next_at is not None
    assert str(unread.run_id) not in receiver.told
