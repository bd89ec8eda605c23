"""A session's files as a folder that a sandbox works in: checked out, brought up to date, read back, removed."""

from __future__ import annotations

import os
import secrets
import stat
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from era_project import conf
from era_project.errors import Conflict
from runners import tree
from runners.types import Changes
from sessions_app import entries, session_data
from sessions_app.entries import FILE, FOLDER, LINK, Change, Row
from sessions_app.session_data import DataError
from sessions_app.tree_diff import Diff, Known
from storage_app import blobs, objects

DATA_NAMES = frozenset((session_data.FILE_NAME,))

forget_run_files = entries.forget_run_files


@dataclass(slots=True)
class Collected:
    """What a run did to the files. Its blobs are stored; its rows wait for :func:`apply`.

    Attributes:
        changes: what the run created, changed and deleted: files and links.
        warnings: what was dropped, and why; one sentence each.
        change: the rows.
        version: the session's ``files_version`` after :func:`apply`.
        counts: whether the run does, so that what it did stays.
    """

    changes: Changes = field(default_factory=Changes)
    warnings: tuple[str, ...] = ()
    change: Change = field(default_factory=Change)
    version: int | None = None
    counts: bool = False

    @property
    def is_change(self) -> bool:
        """Whether there are rows to write; they may be of files that came with the run."""
        return bool(self.change.upserts or self.change.deletes)

    @property
    def files_modified(self) -> int:
        """Number of paths that the run created, changed or deleted."""
        return len(self.changes.created) + len(self.changes.changed) + len(self.changes.deleted)


def apply(session_id: int, collected: Collected, cursor: entries.Cursor) -> None:
    """Makes a run's changes the session's, inside the transaction that finishes the run.

    Raises:
        LookupError: the session was deleted meanwhile.
    """
    collected.version = entries.apply(cursor, session_id, collected.change)


class Workspace:
    """One checked-out folder below the workspaces folder. Not thread-safe: a session's runs come one by one."""

    def __init__(self, session_id: int, name: str) -> None:
        self.session_id = session_id
        self.name = name
        self._parent = conf.get().workspaces_dir
        self._parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        (self._parent / name).mkdir(mode=0o700)
        self._fd = tree.open_root(self._parent / name)
        self._known: dict[str, Known] = {}
        self._laid: dict[str, Row] = {}
        self._version = -1
        self._last: Collected | None = None
        self._data = b""

    @classmethod
    def checkout(cls, session_id: int) -> Self:
        """A new folder with everything that the session has.

        Raises:
            LookupError: there is no such session any more.
            Unavailable: the disk is full, or the object store is down.
            MissingObjectError: the object store has lost a file.
        """
        workspace = cls(session_id, f"{session_id}-{secrets.token_hex(6)}")
        try:
            workspace.sync(0)
        except BaseException:
            workspace.remove()
            raise
        return workspace

    def sync(self, version: int) -> tuple[str, ...]:
        """Brings in what was uploaded and deleted since we last looked.

        Args:
            version: the session's ``files_version``; what comes after it may be left to the next sync.

        Returns:
            Warnings for what could not be laid.

        Raises:
            LookupError: the session is gone.
        """
        if self._last is not None:
            if not self._last.counts:
                self._version = -1  # nothing that it did to the files stays
            elif self._last.version == self._version + 1:  # else others changed them too
                self._version = self._last.version
        self._last = None
        if self._version >= version:
            return ()
        self._version, rows = entries.load(self.session_id)
        return self._follow({row.path: row for row in rows})

    def _follow(self, rows: dict[str, Row]) -> tuple[str, ...]:
        for path in sorted(self._known.keys() - rows.keys(), reverse=True):
            tree.discard(self._fd, path)
            del self._known[path]
        warnings = []
        for path, row in rows.items():
            known = self._known.get(path)
            if known is not None and known.row == row:
                continue
            try:
                self._lay_row(row)
            except (IsADirectoryError, NotADirectoryError):
                warnings.append(f"{path!r} could not be laid into the workspace: something else is in its place.")
        return tuple(warnings)

    def _lay_row(self, row: Row) -> None:
        if row.kind != FOLDER:
            tree.discard_folder(self._fd, row.path)
        if row.kind == LINK:
            mark = tree.make_link(self._fd, row.path, row.target or "", mtime_ns=row.mtime_ns)
        elif row.kind == FOLDER:
            mark = tree.make_folder(self._fd, row.path, mode=row.mode, mtime_ns=row.mtime_ns)
        else:
            mark = self._lay_file(row)
        self._known[row.path] = Known.taken(row, mark, time.time_ns())

    def _lay_file(self, row: Row) -> tree.Mark:
        blob, store = row.blob or "", objects.store()
        with objects.disk_errors():
            return tree.write_file(
                self._fd,
                row.path,
                lambda fd: objects.copy_to(store, blob, fd, row.size),
                mode=row.mode,
                mtime_ns=row.mtime_ns,
            )

    def settle(self) -> None:
        """Takes note of what the runner itself did to the tree (it gives it to the sandbox's user).

        To be called when no user code runs yet. Without it everything is right too, but hashed once more.
        """
        listing = tree.scan(self._fd, ignored=DATA_NAMES)
        now_ns = time.time_ns()
        for path, mark in listing.marks.items():
            known = self._known.get(path)
            if known is not None and known.mark is not None and known.mark[:1] + known.mark[2:] == mark[:1] + mark[2:]:
                self._known[path] = Known.taken(known.row, mark, now_ns)

    def lay(self, path: str, content: bytes) -> None:
        """Puts in a file that comes with the run: an upload that stays, and no change of the run's.

        Args:
            path: checked by :mod:`sessions_app.paths`.
            content: its bytes.

        Raises:
            Conflict: a file or link where the path needs a folder, or a folder in its place.
        """
        self._check_place(path)
        stored = blobs.put_bytes(content)
        old = self._known.get(path)
        mode = old.row.mode if old is not None and old.row.kind == FILE else 0o644
        row = Row(path, FILE, mode, time.time_ns(), stored.size, stored.sha256)
        self._lay_row(row)
        self._laid[path] = row

    def _check_place(self, path: str) -> None:
        for above in entries.ancestors(path):
            if above in self._known and self._known[above].row.kind != FOLDER:
                raise Conflict(f"{above!r} is no folder; the file {path!r} cannot be put below it.", field="files")
        below = path + "/"
        here = self._known.get(path)
        if (here is not None and here.row.kind != FILE) or any(known.startswith(below) for known in self._known):
            raise Conflict(f"{path!r} is a folder or a link; no file can be put in its place.", field="files")

    def write_data(self, data: str) -> None:
        """Lays the session's data where the program reads it."""
        self._data = data.encode()
        if self._has_data():
            return
        try:
            self._write_data()
        except IsADirectoryError:
            tree.remove_tree(self._parent / self.name, session_data.FILE_NAME)
            self._write_data()

    def _has_data(self) -> bool:
        """Whether the file is there just as we would lay it. Source: measured, looking takes a fifth of laying it anew."""
        try:
            fd = tree.open_file(self._fd, session_data.FILE_NAME)
        except OSError:
            return False
        try:
            found, root = os.fstat(fd), os.fstat(self._fd)
            is_ours = (found.st_mode, found.st_nlink, found.st_uid) == (stat.S_IFREG | 0o644, 1, root.st_uid)
            return is_ours and _read(fd, len(self._data) + 1) == self._data
        except OSError:
            return False
        finally:
            os.close(fd)

    def _write_data(self) -> None:
        tree.discard(self._fd, session_data.FILE_NAME)  # ext4 flushes a file that is replaced: milliseconds a run
        with objects.disk_errors():
            tree.write_file(self._fd, session_data.FILE_NAME, lambda fd: objects.write_all(fd, self._data))

    def read_data(self) -> str | DataError:
        """The data as the program left it, or why the session keeps what it had."""
        try:
            fd = tree.open_file(self._fd, session_data.FILE_NAME)
        except OSError:
            return DataError(f"{session_data.FILE_NAME} is missing; the data from before the run is kept.")
        try:
            content = _read(fd, conf.get().max_data_bytes + 1)
        except OSError:
            return DataError(f"{session_data.FILE_NAME} cannot be read; the data from before the run is kept.")
        finally:
            os.close(fd)
        return self._data.decode() if content == self._data else session_data.check(content)

    def collect(self) -> Collected:
        """What has changed since the checkout, the last sync or the last collect; new contents are stored.

        Raises:
            Unavailable: the disk is full, or the object store is down.
        """
        diff = Diff(self._fd, dict(self._known), ignored=DATA_NAMES)
        diff.run()
        self._known = diff.known
        laid = [row for path, row in self._laid.items() if path in self._known and path not in diff.upserts]
        self._laid.clear()
        change = Change([*diff.upserts.values(), *laid], diff.deletes, self._version)
        self._last = Collected(diff.changes(), tuple(diff.warnings), change)
        return self._last

    def remove(self) -> None:
        """Removes the folder; nothing of the sandbox may run any more. May be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        tree.remove_tree(self._parent, self.name)


def _read(fd: int, most: int) -> bytes:
    pieces: list[bytes] = []
    left = most
    while left > 0 and (piece := os.read(fd, min(left, 1 << 20))):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def leftovers(alive: Sequence[str]) -> list[str]:
    """Folders of workspaces that a crash has left: all but those named."""
    parent = conf.get().workspaces_dir
    return sorted({entry.name for entry in os.scandir(parent)} - set(alive)) if parent.is_dir() else []
