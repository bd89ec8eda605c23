"""What keeps blobs alive, and the removal of those that nothing keeps."""

from __future__ import annotations

from sessions_app.models import Entry, Run, Session
from storage_app import collector
from storage_app.collector import Collected, Reference

REFERENCES = (
    Reference(Entry._meta.db_table, "blob"),
    Reference(Session._meta.db_table, "snapshot"),
    Reference(Run._meta.db_table, "stdout_blob"),
    Reference(Run._meta.db_table, "stderr_blob"),
)
"""Every column that holds a blob's digest; whoever adds one adds it here."""


def collect(*, dry_run: bool = False) -> Collected:
    """Removes blobs that no file, output or snapshot has used for an hour, and uploads that were abandoned."""
    return collector.collect(REFERENCES, dry_run=dry_run)
