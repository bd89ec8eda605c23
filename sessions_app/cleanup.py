"""What expires, and when: run records with their output, keys of POSTs, dead nodes, blobs that nothing refers to."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import connection

from era_project.conf import get as conf
from storage_app import collector
from storage_app.collector import Reference

BATCH = 2_000
NODE_KEPT_S = 24 * 3600
KEY_KEPT_S = 24 * 3600
"""Source: the contract, Streaming and runs."""

REFERENCES = (
    Reference("sessions_app_entry", "blob"),
    Reference("sessions_app_run", "stdout_blob"),
    Reference("sessions_app_run", "stderr_blob"),
    Reference("sessions_app_session", "snapshot"),
)
"""Every column that keeps a blob."""

OLD_RUNS = "finished_at < now() - make_interval(secs => %s)"
OLD_KEYS = "created_at < now() - make_interval(secs => %s)"
OLD_NODES = "lease_until < now() - make_interval(secs => %s)"


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What was removed, or would be."""

    runs: int
    keys: int
    nodes: int
    blobs: int
    blob_bytes: int
    stray_objects: int
    abandoned_uploads: int


def run(*, dry_run: bool = False) -> Cleaned:
    """Remove what has expired; with ``dry_run`` only count it."""
    runs = _expire("sessions_app_run", OLD_RUNS, conf().run_keep_hours * 3600, dry_run=dry_run)
    keys = _expire("sessions_app_idempotencykey", OLD_KEYS, KEY_KEPT_S, dry_run=dry_run)
    nodes = _expire("sessions_app_node", OLD_NODES, NODE_KEPT_S, dry_run=dry_run)
    found = collector.collect(REFERENCES, dry_run=dry_run)
    return Cleaned(runs, keys, nodes, found.blobs, found.size_bytes, found.strays, found.spooled)


def _expire(table: str, condition: str, age_s: float, *, dry_run: bool) -> int:
    if dry_run:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT count(*) FROM {table} WHERE {condition}", [age_s])
            (count,) = cursor.fetchone()
            return int(count)
    removed: int = 0
    while True:
        with connection.cursor() as cursor:
            if table == "sessions_app_run":
                cursor.execute(DELETE_DELIVERIES.format(condition=condition), [age_s])
            cursor.execute(DELETE.format(table=table, condition=condition), [age_s])
            removed += cursor.rowcount
            if cursor.rowcount < BATCH:
                return removed


DELETE = f"DELETE FROM {{table}} WHERE id IN (SELECT id FROM {{table}} WHERE {{condition}} ORDER BY id LIMIT {BATCH})"
DELETE_DELIVERIES = f"""
DELETE FROM sessions_app_webhookdelivery WHERE run_id IN (
    SELECT id FROM sessions_app_run WHERE {{condition}} ORDER BY id LIMIT {BATCH})"""
