"""Removes blobs that nothing refers to, and never one that is being uploaded."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from django.db import connection, transaction

from storage_app.models import Blob
from storage_app.objects import spool_dir, store

GRACE_S = 3600.0
"""A blob that was touched less than so long ago may be about to be referred to."""
SPOOL_GRACE_S = 60.0
"""Between making its file and locking it an upload needs microseconds."""
BATCH = 1000

_TABLE = Blob._meta.db_table


@dataclass(frozen=True, slots=True)
class Reference:
    """A column that holds digests of blobs which must stay."""

    table: str
    column: str


@dataclass(frozen=True, slots=True)
class Collected:
    """What was removed, or would be."""

    blobs: int = 0
    size_bytes: int = 0
    strays: int = 0
    """Objects without a row: they get one now and go next time, if nothing has referred to them by then."""
    spooled: int = 0
    """Uploads that were abandoned half way."""


def collect(references: Sequence[Reference], *, grace_s: float = GRACE_S, dry_run: bool = False) -> Collected:
    """Removes unused blobs, adopts stray objects and clears abandoned uploads.

    Args:
        references: every column that keeps a blob.
        grace_s: seconds that a blob is kept after it was last touched.
        dry_run: only tell what would be done.
    """
    unused = list(_unused(references, grace_s))
    removed = unused if dry_run else [blob for blob in unused if _remove(blob[0], references, grace_s)]
    return Collected(
        blobs=len(removed),
        size_bytes=sum(size for _, size in removed),
        strays=_adopt_strays(dry_run=dry_run),
        spooled=_clear_spool(dry_run=dry_run),
    )


def _condition(references: Sequence[Reference]) -> str:
    kept = "".join(
        f" AND NOT EXISTS (SELECT FROM {reference.table} WHERE {reference.column} = blob.sha256)"
        for reference in references
    )
    return f"blob.touched_at < now() - make_interval(secs => %s){kept}"


def _unused(references: Sequence[Reference], grace_s: float) -> Iterator[tuple[str, int]]:
    query = (
        f"SELECT sha256, size FROM {_TABLE} AS blob "
        f"WHERE {_condition(references)} AND sha256 > %s ORDER BY sha256 LIMIT {BATCH}"
    )
    last = ""
    while True:
        with connection.cursor() as cursor:
            cursor.execute(query, [grace_s, last])
            rows = cursor.fetchall()
        yield from rows
        if len(rows) < BATCH:
            return
        last = rows[-1][0]


def _remove(sha256: str, references: Sequence[Reference], grace_s: float) -> bool:
    """Removes one blob, if it is still unused: the row first, the object before that is committed.

    Whoever uploads the same bytes meanwhile waits at the row until we are done, then finds no object and stores it.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")  # the lock lasts as long as the store takes
        cursor.execute(
            f"DELETE FROM {_TABLE} AS blob WHERE {_condition(references)} AND sha256 = %s",
            [grace_s, sha256],
        )
        if cursor.rowcount == 0:
            return False
        store().delete(sha256)
    return True


def _adopt_strays(*, dry_run: bool) -> int:
    """Gives objects without a row one (a crash can leave them), so that they are collected like all others."""
    strays = 0
    batch: list[str] = []
    for sha256 in store().iterate():
        batch.append(sha256)
        if len(batch) == BATCH:
            strays += _adopt(batch, dry_run=dry_run)
            batch.clear()
    return strays + _adopt(batch, dry_run=dry_run)


def _adopt(digests: Sequence[str], *, dry_run: bool) -> int:
    known = set(Blob.objects.filter(sha256__in=digests).values_list("sha256", flat=True))
    strays = [digest for digest in digests if digest not in known]
    if not dry_run:
        Blob.objects.bulk_create([Blob(sha256=digest, size=0) for digest in strays], ignore_conflicts=True)
    return len(strays)


def _clear_spool(*, dry_run: bool) -> int:
    """Removes uploads whose process is gone: a living one holds a lock on its file."""
    return sum(_clear(file, dry_run=dry_run) for file in spool_dir().iterdir())


def _clear(file: Path, *, dry_run: bool) -> bool:
    try:
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        if time.time() - os.fstat(fd).st_mtime < SPOOL_GRACE_S:
            return False
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not dry_run:
            with contextlib.suppress(FileNotFoundError):
                file.unlink()
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True
