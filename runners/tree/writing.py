"""Laying files, folders and links into an untrusted tree; what we make belongs to the tree's own user."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Sequence

from runners.tree.listing import Mark, mark_of
from runners.tree.reading import enter_folder, open_folder, split

NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

Fill = Callable[[int], object]
"""Writes a file's whole content to the descriptor that it is given."""


def write_file(root_fd: int, path: str, fill: Fill, *, mode: int = 0o644, mtime_ns: int | None = None) -> Mark:
    """Puts a file at a path, whole or not at all; a file or link that was there is replaced, never written through.

    Missing folders are made; whatever else stands in a folder's place is replaced by one.

    Raises:
        IsADirectoryError: a folder lies there.
        OSError: the disk is full, or the tree is changed faster than we can write.
    """
    folders, name = split(path)
    above = _folders(root_fd, folders)
    try:
        return _replace(root_fd, above, name, _Filling(fill, mode, mtime_ns))
    finally:
        os.close(above)


class _Filling:
    """A file's content, permission bits and time."""

    def __init__(self, fill: Fill, mode: int, mtime_ns: int | None) -> None:
        self.fill = fill
        self.mode = mode & 0o777
        self.mtime_ns = mtime_ns

    def into(self, root_fd: int, fd: int) -> None:
        self.fill(fd)
        _give(root_fd, fd)
        os.fchmod(fd, self.mode)
        if self.mtime_ns is not None:
            os.utime(fd, ns=(self.mtime_ns, self.mtime_ns))


def _replace(root_fd: int, above: int, name: str, filling: _Filling) -> Mark:
    temporary = f".era-{secrets.token_hex(8)}"
    fd = os.open(temporary, NEW_FILE, 0o600, dir_fd=above)
    try:
        filling.into(root_fd, fd)
        os.rename(temporary, name, src_dir_fd=above, dst_dir_fd=above)
        return mark_of(os.fstat(fd))
    except BaseException:
        _unlink(above, temporary)
        raise
    finally:
        os.close(fd)


def make_folder(root_fd: int, path: str, *, mode: int = 0o755, mtime_ns: int | None = None) -> Mark:
    """Makes a folder and those above it; one that is there is kept."""
    folders, name = split(path)
    fd = _folders(root_fd, [*folders, name])
    try:
        os.fchmod(fd, mode & 0o777)
        if mtime_ns is not None:
            os.utime(fd, ns=(mtime_ns, mtime_ns))
        return mark_of(os.fstat(fd))
    finally:
        os.close(fd)


def make_link(root_fd: int, path: str, target: str, *, mtime_ns: int | None = None) -> Mark:
    """Makes a symbolic link; a file or link that was there is replaced."""
    folders, name = split(path)
    above = _folders(root_fd, folders)
    temporary = f".era-{secrets.token_hex(8)}"
    try:
        os.symlink(target, temporary, dir_fd=above)
        try:
            _give_link(root_fd, above, temporary)
            if mtime_ns is not None:
                os.utime(temporary, ns=(mtime_ns, mtime_ns), dir_fd=above, follow_symlinks=False)
            os.rename(temporary, name, src_dir_fd=above, dst_dir_fd=above)
        except BaseException:
            _unlink(above, temporary)
            raise
        return mark_of(os.stat(name, dir_fd=above, follow_symlinks=False))
    finally:
        os.close(above)


def discard(root_fd: int, path: str) -> None:
    """Removes a file, a link or an empty folder; what is gone already, or a folder with content, is let be."""
    _remove(root_fd, path, (os.unlink, os.rmdir))


def discard_folder(root_fd: int, path: str) -> None:
    """Removes an empty folder; whatever else is there is let be."""
    _remove(root_fd, path, (os.rmdir,))


def _remove(root_fd: int, path: str, ways: Sequence[Callable[..., None]]) -> None:
    folders, name = split(path)
    try:
        above = open_folder(root_fd, folders)
    except OSError:
        return
    try:
        for way in ways:
            with contextlib.suppress(OSError):
                way(name, dir_fd=above)
    finally:
        os.close(above)


def _folders(root_fd: int, names: Sequence[str]) -> int:
    """Descriptor of a folder, made where it is missing."""
    fd = open_folder(root_fd, ())
    for name in names:
        above = fd
        try:
            fd = _enter_or_make(root_fd, above, name)
        finally:
            os.close(above)
    return fd


def _enter_or_make(root_fd: int, above: int, name: str) -> int:
    try:
        return enter_folder(above, name)[0]
    except FileNotFoundError:
        pass
    except NotADirectoryError:
        _unlink(above, name)
    os.mkdir(name, 0o755, dir_fd=above)
    fd, _ = enter_folder(above, name)
    _give(root_fd, fd)
    os.fchmod(fd, 0o755)
    return fd


def _give(root_fd: int, fd: int) -> None:
    """Gives what we made to the user that the tree belongs to; only root can, and only root has to."""
    if os.geteuid() == 0:
        root = os.fstat(root_fd)
        os.fchown(fd, root.st_uid, root.st_gid)


def _give_link(root_fd: int, above: int, name: str) -> None:
    if os.geteuid() == 0:
        root = os.fstat(root_fd)
        os.chown(name, root.st_uid, root.st_gid, dir_fd=above, follow_symlinks=False)


def _unlink(above: int, name: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(name, dir_fd=above)
