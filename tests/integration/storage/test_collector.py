"""The collector: removes what nobody uses, and cannot take a blob from under an upload."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest
from django.db import connection, transaction

from sessions_app.cleanup import REFERENCES
from sessions_app.models import Entry, Session
from sessions_app.services import owners
from storage_app import blobs, collector, objects
from storage_app.blobs import Stored
from storage_app.models import Blob
from storage_app.objects import ObjectStore
from tests import minio
from tests.waiting import wait_until

T = TypeVar("T")

pytestmark = [pytest.mark.timeout(minio.BUILD_S), pytest.mark.xdist_group("minio")]


def age(stored: Stored) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE storage_app_blob SET touched_at = now() - interval '2 hours' WHERE sha256 = %s", [stored.sha256]
        )


def refer(stored: Stored) -> Entry:
    session = Session.objects.create(owner_id=owners.default_id(), name=f"s-{uuid.uuid4().hex}", language="python")
    return Entry.objects.create(session=session, path="a", kind="f", blob=stored.sha256, size=stored.size)


def test_takes_what_is_old_and_unused(store: ObjectStore) -> None:
    used, unused, young = (blobs.put_bytes(os.urandom(20)) for _ in range(3))
    refer(used)
    age(used)
    age(unused)
    told = collector.collect(REFERENCES, dry_run=True)
    assert told.blobs >= 1
    assert store.exists(unused.sha256)
    collector.collect(REFERENCES)
    assert [store.exists(stored.sha256) for stored in (used, unused, young)] == [True, False, True]
    assert not Blob.objects.filter(sha256=unused.sha256).exists()


@pytest.mark.parametrize("reference", REFERENCES, ids=lambda reference: f"{reference.table}.{reference.column}")
def test_every_reference_is_a_real_column(real_db: None, reference: collector.Reference) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {reference.column} FROM {reference.table} LIMIT 1")


def test_adopts_strays_and_takes_them_the_next_time(store: ObjectStore) -> None:
    stray = blobs.put_bytes(os.urandom(20))
    Blob.objects.filter(sha256=stray.sha256).delete()
    collector.collect(REFERENCES)
    assert store.exists(stray.sha256)
    age(stray)
    collector.collect(REFERENCES)
    assert not store.exists(stray.sha256)


def test_clears_abandoned_uploads_only(store: ObjectStore) -> None:
    abandoned = objects.spool_dir() / uuid.uuid4().hex
    abandoned.write_bytes(b"half")
    with blobs.Upload() as upload:
        long_ago = time.time() - 2 * collector.SPOOL_GRACE_S
        os.utime(upload.waiting, (long_ago, long_ago))
        os.utime(abandoned, (long_ago, long_ago))
        collector.collect(REFERENCES)
        assert not abandoned.exists()
        assert upload.waiting.exists()
        upload.write(b"x")
        upload.commit()


def alone(call: Callable[..., T], *args: Any) -> T:
    """For another thread: its database connection ends with the call."""
    try:
        return call(*args)
    finally:
        connection.close()


def _waiters() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND wait_event_type = 'Lock' AND query LIKE %s",
            ["%storage_app_blob%"],
        )
        return int(cursor.fetchone()[0])


def test_an_upload_waits_for_the_collector_that_holds_its_blob(store: ObjectStore) -> None:
    """The very moment of the race: the row is deleted, not yet committed, and the same bytes come again."""
    content = os.urandom(20)
    stored = blobs.put_bytes(content)
    age(stored)
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("DELETE FROM storage_app_blob WHERE sha256 = %s", [stored.sha256])
            upload = pool.submit(alone, blobs.put_bytes, content)
            wait_until(_waiters, 30, "the upload waits at the row")
            store.delete(stored.sha256)
        assert upload.result(timeout=60) == stored
    assert blobs.read(stored.sha256) == content
    assert Blob.objects.filter(sha256=stored.sha256).exists()


def test_a_collector_that_waited_for_an_upload_spares_it(store: ObjectStore) -> None:
    stored = blobs.put_bytes(os.urandom(20))
    age(stored)
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("UPDATE storage_app_blob SET touched_at = now() WHERE sha256 = %s", [stored.sha256])
            collecting = pool.submit(alone, collector.collect, REFERENCES)
            wait_until(_waiters, 30, "the collector waits at the row")
        collecting.result(timeout=60)
    assert store.exists(stored.sha256)
