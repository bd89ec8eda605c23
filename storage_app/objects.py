"""The object store: bytes under their sha-256, in MinIO or in a folder behind one Protocol."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol

from era_project import conf
from era_project.errors import EraError, Unavailable
from era_project.full_disk import ERRNOS, disk_full

CHUNK_BYTES = 256 * 1024


class MissingObjectError(EraError):
    """The store has no object of that name: bytes that we had are lost."""

    code = "FILE_MISSING"


class Waiting(NamedTuple):
    """A complete file of ours in the spool folder, and the digest that it has to be stored under."""

    sha256: str
    path: Path
    size: int


class ObjectStore(Protocol):
    """Where bytes lie. Every method may raise ``Unavailable`` (``DISK_FULL`` or ``OBJECT_STORE_DOWN``)."""

    def put_all(self, files: Sequence[Waiting]) -> None:
        """Stores files durably under their digests; they may be gone afterwards. Storing again is harmless."""

    def open(self, sha256: str, offset: int = 0, length: int | None = None) -> AbstractContextManager[Iterator[bytes]]:
        """The bytes from ``offset`` on in chunks; entering raises ``MissingObjectError``."""

    def exists(self, sha256: str) -> bool:
        """Whether there is such an object."""

    def delete(self, sha256: str) -> None:
        """Removes an object; none is fine."""

    def iterate(self) -> Iterator[str]:
        """The digests of all objects, in no order."""

    def check(self) -> None:
        """Returns when the store can be read and written to."""


@contextlib.contextmanager
def disk_errors() -> Iterator[None]:
    """Turns a full disk into the error that callers are told."""
    try:
        yield
    except OSError as error:
        if error.errno in ERRNOS:
            raise disk_full() from error
        raise


def missing(sha256: str) -> MissingObjectError:
    """The error of bytes that are gone."""
    return MissingObjectError(f"The object store has lost the bytes {sha256}.")


def store_down(reason: str) -> EraError:
    """The error of a store that cannot be reached."""
    return Unavailable(f"The object store does not answer ({reason}); try again soon.", code="OBJECT_STORE_DOWN")


def spool_dir() -> Path:
    """The folder on this host where bytes wait until their digest is known."""
    folder = conf.get().objects_dir / "tmp"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@functools.cache
def store() -> ObjectStore:
    """This process's object store, as the settings say."""
    settings = conf.get()
    if not settings.s3_endpoint:
        from storage_app.folder_store import FolderStore

        return FolderStore(settings.objects_dir)
    from storage_app.minio_store import MinioStore

    return MinioStore.from_settings(settings)


def copy_to(objects: ObjectStore, sha256: str, fd: int, size: int) -> None:
    """Writes a whole object to a descriptor.

    Raises:
        MissingObjectError: there is none, or it has another size.
    """
    written = 0
    with objects.open(sha256) as chunks, disk_errors():
        for chunk in chunks:
            written += len(chunk)
            write_all(fd, chunk)
    if written != size:
        raise missing(sha256)


def write_all(fd: int, content: bytes | memoryview) -> None:
    """Writes everything, however often it takes."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(fd, rest) :]
