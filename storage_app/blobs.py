"""Blobs: bytes that are stored once however often they are used; the row comes before the object."""

from __future__ import annotations

import fcntl
import hashlib
import os
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from django.db import connection, transaction

from era_project.full_disk import disk_full
from storage_app.models import Blob
from storage_app.objects import Waiting, disk_errors, spool_dir, store, write_all

RESERVE_BYTES = 32 << 20
"""Uploads leave so much of the disk free: the database beside them stops without room for two segments of its log."""

_TOUCH = f"""
INSERT INTO {Blob._meta.db_table} (sha256, size, touched_at)
SELECT sha256, size, now() FROM unnest(%s::text[], %s::bigint[]) AS given (sha256, size) ORDER BY sha256
ON CONFLICT (sha256) DO UPDATE SET touched_at = now(), size = EXCLUDED.size
"""


class Stored(NamedTuple):
    """A blob's name and size in bytes."""

    sha256: str
    size: int


class Upload:
    """Bytes on their way into the store, hashed while they come. A context that is left uncommitted leaves nothing.

    The waiting file is locked for as long as its process lives, so that the collector knows which are abandoned.
    """

    def __init__(self) -> None:
        self.size = 0
        self._hash = hashlib.sha256()
        self._path: Path | None = spool_dir() / uuid.uuid4().hex
        with disk_errors():
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        fcntl.flock(self._fd, fcntl.LOCK_SH)

    def write(self, content: bytes | memoryview) -> None:
        """Adds bytes.

        Raises:
            Unavailable: ``DISK_FULL``.
        """
        room = os.fstatvfs(self._fd)
        if room.f_bavail * room.f_frsize < len(content) + RESERVE_BYTES:
            raise disk_full()
        with disk_errors():
            write_all(self._fd, content)
        self._hash.update(content)
        self.size += len(content)

    @property
    def stored(self) -> Stored:
        """Name and size of what was written so far."""
        return Stored(self._hash.hexdigest(), self.size)

    @property
    def waiting(self) -> Path:
        """The file that holds the bytes until they are in the store.

        Raises:
            ValueError: the upload was committed or aborted.
        """
        if self._path is None:
            raise ValueError("the upload is over")
        return self._path

    def commit(self) -> Stored:
        """Makes the bytes durable in the store; at once afterwards something has to refer to them."""
        commit_all([self])
        return self.stored

    def abort(self) -> None:
        """Forgets the bytes; after a commit nothing but the waiting file."""
        if self._path is not None:
            path, self._path = self._path, None
            os.close(self._fd)
            path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()


def commit_all(uploads: Sequence[Upload]) -> None:
    """Commits many uploads for little more than the price of one."""
    touch([upload.stored for upload in uploads])
    objects = store()
    objects.put_all(
        [
            Waiting(upload.stored.sha256, upload.waiting, upload.size)
            for upload in uploads
            if not objects.exists(upload.stored.sha256)
        ]
    )
    for upload in uploads:
        upload.abort()


def touch(blobs: Iterable[Stored]) -> None:
    """Says that blobs are about to be used: for an hour no collector takes them.

    Must be committed before the objects are looked for: it waits for a collector that is removing one of them.
    """
    sizes = dict(blobs)
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        cursor.execute(_TOUCH, [list(sizes), list(sizes.values())])


def put_bytes(content: bytes) -> Stored:
    """Stores bytes that are in memory already."""
    with Upload() as upload:
        upload.write(content)
        return upload.commit()


def read(sha256: str) -> bytes:
    """A whole blob.

    Raises:
        MissingObjectError: the store has lost it.
    """
    with store().open(sha256) as chunks:
        return b"".join(chunks)
