"""What expires goes, what is in use stays, and a dry run only tells."""

from __future__ import annotations

import io
import uuid
from datetime import timedelta

from django.core.management import call_command
from django.utils import timezone

from sessions_app import cleanup
from sessions_app.models import IdempotencyKey, Node, Run, WebhookDelivery
from sessions_app.services import owners
from storage_app import blobs
from storage_app.models import Blob
from tests.integration.runs.conftest import record

OLD = timedelta(hours=25)


def stored(*, is_old: bool) -> str:
    """A blob, touched long ago or just now."""
    sha256 = blobs.put_bytes(uuid.uuid4().bytes).sha256
    if is_old:
        Blob.objects.filter(sha256=sha256).update(touched_at=timezone.now() - OLD)
    return sha256


def test_records_go_after_their_time_with_their_output(real_db: None) -> None:
    kept_blob, gone_blob, fresh_blob = stored(is_old=True), stored(is_old=True), stored(is_old=False)
    young, old = record(age=timedelta(hours=23), stdout_blob=kept_blob), record(age=OLD, stdout_blob=gone_blob)
    WebhookDelivery.objects.create(run=old, url="http://localhost/", next_at=None)
    cleanup.run()
    assert Run.objects.filter(id=young.id).exists()
    assert not Run.objects.filter(id=old.id).exists()
    left = set(Blob.objects.filter(sha256__in=[kept_blob, gone_blob, fresh_blob]).values_list("sha256", flat=True))
    assert left == {kept_blob, fresh_blob}


def test_keys_and_dead_nodes_go_too(real_db: None) -> None:
    key = IdempotencyKey.objects.create(
        owner_id=owners.default_id(), route="/", key=uuid.uuid4().hex, body_sha256="", created_at=timezone.now() - OLD
    )
    dead = Node.objects.create(name=uuid.uuid4().hex, lease_until=timezone.now() - OLD)
    lately = Node.objects.create(name=uuid.uuid4().hex, lease_until=timezone.now() - timedelta(minutes=1))
    cleanup.run()
    assert not IdempotencyKey.objects.filter(pk=key.pk).exists()
    assert list(Node.objects.filter(pk__in=[dead.pk, lately.pk])) == [lately]


def test_a_dry_run_tells_and_removes_nothing(real_db: None) -> None:
    old = record(age=OLD)
    said = io.StringIO()
    call_command("cleanup", "--dry-run", stdout=said)
    figures = dict(line.split(": ") for line in said.getvalue().splitlines())
    assert int(figures["runs"]) >= 1
    assert Run.objects.filter(id=old.id).exists()
    cleanup.run()
