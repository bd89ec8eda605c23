"""What lies in an untrusted folder: files, relative links and empty folders, with marks that tell what has changed."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, field
from typing import NamedTuple

from runners.tree.reading import enter_folder, open_folder

MAX_INT64 = (1 << 63) - 1
SHOWN_WARNINGS = 20
"""Dropped things that are told one by one; of the rest only the number."""
OURS = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO))
"""Errors of this server, which say nothing about what was looked at: it is not gone."""


class Mark(NamedTuple):
    """What of a file's status changes whenever the file does. ``mode`` is the whole ``st_mode``, type included."""

    mtime_ns: int
    ctime_ns: int
    size: int
    inode: int
    mode: int

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return stat.S_ISREG(self.mode)

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link."""
        return stat.S_ISLNK(self.mode)


def mark_of(status: os.stat_result) -> Mark:
    """The mark of one status; times are clamped to what 64 bits hold."""
    mtime_ns = max(-MAX_INT64, min(status.st_mtime_ns, MAX_INT64))
    return Mark(mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_mode)


@dataclass(frozen=True, slots=True)
class Caps:
    """How much of a tree is looked at. Source: the contract's file limits; depth is ours."""

    entries: int = 200_000
    """Files, links and folders in all; a tree with more is listed in part."""
    depth: int = 64
    """Names in a path."""
    path_bytes: int = 4096
    characters: int = 32 << 20
    """Of all paths and links' targets together: what is listed lies in memory of ours."""


@dataclass(slots=True)
class Listing:
    """Everything of a tree that can be kept; paths are relative, ``/`` between names, valid UTF-8.

    Attributes:
        marks: of files, links and empty folders.
        targets: of the links.
        warnings: one sentence for each thing that was dropped, and why.
        is_complete: False where the caps cut the listing off.
    """

    marks: dict[str, Mark] = field(default_factory=dict)
    targets: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    is_complete: bool = True


def scan(root_fd: int, *, caps: Caps = Caps(), ignored: frozenset[str] = frozenset()) -> Listing:
    """Lists the tree below a folder that may change meanwhile.

    Args:
        root_fd: descriptor of the folder.
        caps: where to stop.
        ignored: names directly in the folder that do not exist for the caller.

    Raises:
        OSError: This server's own fault, see `OURS`.
    """
    walk = _Walk(caps, ignored)
    fd = open_folder(root_fd, ())
    try:
        walk.folder(fd, "", 0)
    finally:
        os.close(fd)
    if walk.dropped > SHOWN_WARNINGS:
        walk.listing.warnings.append(f"{walk.dropped - SHOWN_WARNINGS} more paths were dropped.")
    return walk.listing


class _Walk:
    """One scan in progress."""

    def __init__(self, caps: Caps, ignored: frozenset[str]) -> None:
        self.caps = caps
        self.ignored = ignored
        self.listing = Listing()
        self.seen = 0
        self.characters = 0
        self.dropped = 0

    def folder(self, fd: int, prefix: str, depth: int) -> bool:
        """Lists one open folder; tells whether something in it was recorded."""
        found = False
        with os.scandir(fd) as entries:
            for entry in entries:
                if depth == 0 and entry.name in self.ignored:
                    continue
                self.seen += 1
                if self.seen > self.caps.entries or self.characters > self.caps.characters:
                    self._cut_off()
                    return True
                try:
                    found = self._entry(fd, entry, prefix, depth + 1) or found
                except OSError as error:
                    if error.errno in OURS:
                        raise
                    continue  # it vanished or became something else under our eyes: the next scan tells
        return found

    def _entry(self, fd: int, entry: os.DirEntry[str], prefix: str, depth: int) -> bool:
        path = prefix + entry.name
        self.characters += len(path)
        if reason := self._unfit(path, depth):
            return self._drop(path, reason)
        status = entry.stat(follow_symlinks=False)
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFREG:
            self.listing.marks[path] = mark_of(status)
            return True
        if kind == stat.S_IFDIR:
            return self._folder(fd, entry.name, path, depth)
        if kind == stat.S_IFLNK:
            return self._link(fd, entry.name, path, mark_of(status))
        return self._drop(path, "it is neither a file, a folder nor a link")

    def _folder(self, fd: int, name: str, path: str, depth: int) -> bool:
        below, status = enter_folder(fd, name)
        try:
            if not self.folder(below, path + "/", depth):
                self.listing.marks[path] = mark_of(status)
        finally:
            os.close(below)
        return True

    def _link(self, fd: int, name: str, path: str, mark: Mark) -> bool:
        target = os.readlink(name, dir_fd=fd)
        self.characters += len(target)
        if not _is_utf8(target) or not _stays_inside(path, target):
            return self._drop(path, "its target is absolute or outside of the workspace")
        self.listing.marks[path] = mark
        self.listing.targets[path] = target
        return True

    def _unfit(self, path: str, depth: int) -> str | None:
        if not path.isascii() and not _is_utf8(path):
            return "its name is not UTF-8"
        if depth > self.caps.depth:
            return f"it lies more than {self.caps.depth} folders deep"
        if len(path) > self.caps.path_bytes // 4 and len(path.encode()) > self.caps.path_bytes:
            return f"its path has more than {self.caps.path_bytes} bytes"
        return None

    def _drop(self, path: str, reason: str) -> bool:
        self.dropped += 1
        if self.dropped <= SHOWN_WARNINGS:
            self.listing.warnings.append(f"{shown(path)} was dropped: {reason}.")
        return False

    def _cut_off(self) -> None:
        if self.listing.is_complete:
            self.listing.is_complete = False
            self.listing.warnings.append(
                f"The workspace has more than {self.caps.entries} files and folders, or {self.caps.characters} "
                "characters in their paths; not all of them are kept."
            )


def shown(path: str) -> str:
    """A hostile path as people may see it: one line, printable, at most about 120 characters."""
    text = path.encode("utf-8", "backslashreplace").decode()
    text = text if len(text) <= 120 else text[:80] + "…" + text[-39:]
    return repr(text)


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _stays_inside(path: str, target: str) -> bool:
    """Whether a link's target, read as text, is relative and never climbs above the tree's root."""
    if not target or target.startswith("/") or len(target.encode()) > 4095:
        return False
    depth = path.count("/")
    for name in target.split("/"):
        if name == "..":
            depth -= 1
        elif name not in ("", "."):
            depth += 1
        if depth < 0:
            return False
    return True
