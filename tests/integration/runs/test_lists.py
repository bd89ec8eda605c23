"""Lists of runs cost the same however many are kept."""

from __future__ import annotations

import uuid

import pytest
from django.db import connection

from sessions_app.models import Owner
from sessions_app.services import run_lookup

KEPT = """
INSERT INTO sessions_app_run (id, owner_id, language, status, timeout_s, queue_until, finished_at)
SELECT gen_random_uuid(), %s, 'python', 'succeeded', 1, now(), now() FROM generate_series(1, %s)"""


@pytest.mark.django_db
def test_runs_are_counted_up_to_a_bound() -> None:
    owner = Owner.objects.create(name=f"lists-{uuid.uuid4().hex}")
    with connection.cursor() as cursor:
        cursor.execute(KEPT, [owner.pk, run_lookup.COUNTED + 50])
    runs, count, after = run_lookup.list_(owner.pk, limit=3)
    assert (len(runs), count) == (3, run_lookup.COUNTED)
    assert len(run_lookup.list_(owner.pk, limit=3, cursor=after)[0]) == 3
    assert run_lookup.list_(owner.pk, status="running")[:2] == ([], 0)
