"""Objects as files in a folder: the store of a server that stands on one machine."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import uuid
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from storage_app.objects import CHUNK_BYTES, Waiting, disk_errors, missing, store_down, write_all

SYNCED_ALONE = 8
"""Up to so many files an fsync each costs less than one syncfs."""

_DIGEST = re.compile("[0-9a-f]{64}")
_libc = ctypes.CDLL(None, use_errno=True)


class FolderStore:
    """``<root>/ab/cdef…``: a file for each object, complete or not there.

    Several users share the folder by its group: modes are left to the umask.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True)

    def put_all(self, files: Sequence[Waiting]) -> None:
        """Moves files that lie on the same disk into place, once their bytes are durable."""
        places = [self._path(file.sha256) for file in files]
        with disk_errors():
            _sync([file.path for file in files])
            for file, place in zip(files, places, strict=True):
                with contextlib.suppress(FileExistsError):
                    place.parent.mkdir()
                file.path.replace(place)
            _sync({place.parent for place in places})

    def open(self, sha256: str, offset: int = 0, length: int | None = None) -> AbstractContextManager[Iterator[bytes]]:
        """See :class:`storage_app.objects.ObjectStore`."""
        return self._opened(sha256, offset, length)

    @contextlib.contextmanager
    def _opened(self, sha256: str, offset: int, length: int | None) -> Iterator[Iterator[bytes]]:
        try:
            fd = os.open(self._path(sha256), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            raise missing(sha256) from None
        try:
            yield _chunks(fd, offset, length)
        finally:
            os.close(fd)

    def exists(self, sha256: str) -> bool:
        """See :class:`storage_app.objects.ObjectStore`."""
        return self._path(sha256).exists()

    def delete(self, sha256: str) -> None:
        """See :class:`storage_app.objects.ObjectStore`."""
        self._path(sha256).unlink(missing_ok=True)

    def iterate(self) -> Iterator[str]:
        """See :class:`storage_app.objects.ObjectStore`."""
        for folder in self._root.iterdir():
            if len(folder.name) == 2 and folder.is_dir():
                for file in folder.iterdir():
                    yield folder.name + file.name

    def check(self) -> None:
        """Writes and removes a byte."""
        probe = self._root / f".check-{uuid.uuid4().hex}"
        try:
            with disk_errors(), open(probe, "xb", buffering=0) as file:
                write_all(file.fileno(), b"x")
        except OSError as error:
            raise store_down(error.strerror or "unknown error") from error
        finally:
            with contextlib.suppress(OSError):
                probe.unlink()

    def _path(self, sha256: str) -> Path:
        if not _DIGEST.fullmatch(sha256):
            raise ValueError(f"not a sha-256: {sha256!r}")
        return self._root / sha256[:2] / sha256[2:]


def _chunks(fd: int, offset: int, length: int | None) -> Iterator[bytes]:
    left = length
    while left is None or left > 0:
        chunk = os.pread(fd, CHUNK_BYTES if left is None else min(CHUNK_BYTES, left), offset)
        if not chunk:
            return
        offset += len(chunk)
        left = None if left is None else left - len(chunk)
        yield chunk


def _sync(paths: Collection[Path]) -> None:
    """Makes a few files durable one by one, many by one call for the whole disk."""
    if len(paths) <= SYNCED_ALONE:
        for path in paths:
            with _opened_fd(path) as fd:
                os.fsync(fd)
        return
    with _opened_fd(next(iter(paths))) as fd:
        if _libc.syncfs(fd) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


@contextlib.contextmanager
def _opened_fd(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)
