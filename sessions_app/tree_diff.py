"""What a program did to a workspace: its tree against what we know of it, hashing only what may have changed."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterator
from typing import NamedTuple, Self

from era_project import conf
from runners import tree
from runners.types import Changes
from sessions_app.entries import FILE, FOLDER, LINK, Row
from storage_app.blobs import Upload, commit_all

SETTLED_NS = 40_000_000
"""A file written so shortly before it was marked may change again under the same time stamps.

Source: a file system's clock ticks every 1 to 10 ms."""
UPLOADS_AT_ONCE = 64
READ_BYTES = 1 << 20


class Known(NamedTuple):
    """An entry as we last saw it, and its mark on disk; None: it has to be looked at again."""

    row: Row
    mark: tree.Mark | None

    @classmethod
    def taken(cls, row: Row, mark: tree.Mark, now_ns: int) -> Self:
        """What is known of an entry whose mark was taken at ``now_ns``."""
        return cls(row, mark if mark.mtime_ns < now_ns - SETTLED_NS else None)


class _TooLargeError(Exception):
    """The workspace has no room for this file."""


class Diff:
    """One comparison. ``known`` ends as what the tree now is; the difference is in ``upserts`` and ``deletes``."""

    def __init__(self, fd: int, known: dict[str, Known], *, ignored: frozenset[str]) -> None:
        settings = conf.get()
        self._fd = fd
        self.known = known
        self._ignored = ignored
        self._max_files = settings.workspace_files
        self._max_bytes = settings.workspace_bytes
        self._total_bytes = 0
        self._files = 0
        self._now_ns = 0
        self._waiting: list[tuple[Upload, Row, tree.Mark]] = []
        self.upserts: dict[str, Row] = {}
        self.deletes: list[str] = []
        self.warnings: list[str] = []
        self._created: list[str] = []
        self._changed: list[str] = []
        self._deleted: list[str] = []

    def changes(self) -> Changes:
        """The paths of files and links, sorted."""
        return Changes(*(tuple(sorted(paths)) for paths in (self._created, self._changed, self._deleted)))

    def run(self) -> None:
        """Compares the whole tree.

        Raises:
            Unavailable: the disk is full, or the object store is down.
        """
        self._now_ns = time.time_ns()
        listing = tree.scan(self._fd, caps=tree.Caps(entries=2 * self._max_files), ignored=self._ignored)
        self.warnings.extend(listing.warnings)
        suspects = [(path, mark) for path, mark in sorted(listing.marks.items()) if not self._is_as_known(path, mark)]
        try:
            self._look_at(suspects, listing)
        finally:
            for upload, _, _ in self._waiting:
                upload.abort()
        self._find_deleted(listing)

    def _is_as_known(self, path: str, mark: tree.Mark) -> bool:
        known = self.known.get(path)
        if known is None or known.mark != mark:
            return False
        if known.row.kind == FILE:
            self._files += 1
            self._total_bytes += known.row.size
        return True

    def _look_at(self, suspects: list[tuple[str, tree.Mark]], listing: tree.Listing) -> None:
        for path, mark in suspects:
            if mark.is_file:
                self._file(path, mark)
            elif mark.is_link:
                mode, size = 0o777, 0
                self._found(Row(path, LINK, mode, mark.mtime_ns, size, None, listing.targets[path]), mark)
            else:
                self._found(Row(path, FOLDER, stat.S_IMODE(mark.mode) & 0o777, mark.mtime_ns), mark)
        self._commit()

    def _file(self, path: str, mark: tree.Mark) -> None:
        if self._files >= self._max_files and path not in self.known:
            self._refuse(path, f"a workspace has at most {self._max_files} files")
            return
        try:
            fd = tree.open_file(self._fd, path)
        except OSError as error:
            self._unreadable(path, error)
            return
        try:
            self._read_file(fd, path, mark)
            self._files += 1
        except _TooLargeError:
            self._refuse(path, f"a workspace has at most {self._max_bytes} bytes")
        finally:
            os.close(fd)

    def _read_file(self, fd: int, path: str, mark: tree.Mark) -> None:
        room = self._max_bytes - self._total_bytes
        if mark.size > room:
            raise _TooLargeError
        row = Row(path, FILE, stat.S_IMODE(mark.mode) & 0o777, mark.mtime_ns)
        known = self.known.get(path)
        if known is not None and known.row.kind == FILE and known.row.size == mark.size:
            digest, size = _hash(fd, room)
            if digest == known.row.blob:
                self._total_bytes += size
                self._found(row._replace(size=size, blob=digest), mark)
                return
            os.lseek(fd, 0, os.SEEK_SET)
        self._upload(fd, row, mark, room)

    def _upload(self, fd: int, row: Row, mark: tree.Mark, room: int) -> None:
        upload = Upload()
        try:
            for piece in _pieces(fd, room):
                upload.write(piece)
        except BaseException:
            upload.abort()
            raise
        stored = upload.stored
        self._total_bytes += stored.size
        self._waiting.append((upload, row._replace(size=stored.size, blob=stored.sha256), mark))
        if len(self._waiting) >= UPLOADS_AT_ONCE:
            self._commit()

    def _commit(self) -> None:
        """Stores the contents that wait; only then their rows count."""
        if not self._waiting:
            return
        commit_all([upload for upload, _, _ in self._waiting])
        for _, row, mark in self._waiting:
            self._found(row, mark)
        self._waiting.clear()

    def _found(self, row: Row, mark: tree.Mark) -> None:
        """Compares one entry that was read with what we knew of its path."""
        known = self.known.get(row.path)
        self.known[row.path] = Known.taken(row, mark, self._now_ns)
        if known is not None and known.row == row:
            return
        self.upserts[row.path] = row
        if row.kind == FOLDER:
            if known is not None and known.row.kind != FOLDER:
                self._deleted.append(row.path)
        elif known is None or known.row.kind == FOLDER:
            self._created.append(row.path)
        elif known.row._replace(mtime_ns=row.mtime_ns) != row:
            self._changed.append(row.path)

    def _find_deleted(self, listing: tree.Listing) -> None:
        """What we knew and did not see; where the listing was cut off, only what is really not there."""
        for path in sorted(self.known.keys() - listing.marks.keys()):
            if not listing.is_complete and self._is_there(path):
                continue
            known = self.known.pop(path)
            self.deletes.append(path)
            if known.row.kind != FOLDER:
                self._deleted.append(path)

    def _is_there(self, path: str) -> bool:
        folders, _, name = path.rpartition("/")
        try:
            above = tree.open_folder(self._fd, folders.split("/") if folders else ())
        except OSError as error:
            return error.errno in tree.OURS
        try:
            os.stat(name, dir_fd=above, follow_symlinks=False)
        except OSError as error:
            return error.errno in tree.OURS
        finally:
            os.close(above)
        return True

    def _unreadable(self, path: str, error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            self._warn(f"{tree.shown(path)} could not be read and is kept as it was: {error.strerror}.")

    def _refuse(self, path: str, reason: str) -> None:
        self._warn(f"{tree.shown(path)} was not kept: {reason}.")

    def _warn(self, text: str) -> None:
        if len(self.warnings) < 2 * tree.SHOWN_WARNINGS:
            self.warnings.append(text)


def _pieces(fd: int, room: int) -> Iterator[bytes]:
    """A file's bytes, counted as they are read: its stated size proves nothing."""
    while piece := os.read(fd, READ_BYTES):
        room -= len(piece)
        if room < 0:
            raise _TooLargeError
        yield piece


def _hash(fd: int, room: int) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    for piece in _pieces(fd, room):
        digest.update(piece)
        size += len(piece)
    return digest.hexdigest(), size
