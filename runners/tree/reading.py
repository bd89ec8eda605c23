"""Opening folders and files of an untrusted tree, one name after the other, each without following a link."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
HANDLE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class NotRegularError(OSError):
    """The path names something that is no regular file."""


def open_root(folder: Path) -> int:
    """Descriptor of a folder of our own, whose path nobody else can change."""
    return os.open(folder, FOLDER)


def open_folder(root_fd: int, names: Sequence[str]) -> int:
    """A descriptor of its own of the folder below ``root_fd``; names are walked down only.

    Raises:
        FileNotFoundError: nothing there.
        NotADirectoryError: one of the names is a file or a link.
    """
    fd = os.open(".", FOLDER, dir_fd=root_fd)
    for name in names:
        above = fd
        try:
            fd, _ = enter_folder(above, name)
        finally:
            os.close(above)
    return fd


def enter_folder(above: int, name: str) -> tuple[int, os.stat_result]:
    """Opens one folder, also where its mode forbids it to its owner; the status is the one found."""
    try:
        fd = os.open(name, FOLDER, dir_fd=above)
    except PermissionError:
        fd = _unlock_folder(above, name)
    status = os.fstat(fd)
    if status.st_mode & 0o700 != 0o700 and os.geteuid() != 0:
        os.fchmod(fd, stat.S_IMODE(status.st_mode) | 0o700)
    return fd, status


def _unlock_folder(above: int, name: str) -> int:
    """Opens a folder of ours of which we may not even read the names."""
    handle = os.open(name, HANDLE | os.O_DIRECTORY, dir_fd=above)
    try:
        Path(f"/proc/self/fd/{handle}").chmod(0o700)
        return os.open(".", FOLDER, dir_fd=handle)
    finally:
        os.close(handle)


def split(path: str) -> tuple[Sequence[str], str]:
    """Folder names and last name of a relative path.

    Raises:
        ValueError: a name that is empty, ``.`` or ``..``, or holds NUL.
    """
    names = path.split("/")
    if "\0" in path or any(name in ("", ".", "..") for name in names):
        raise ValueError(f"not a path inside a tree: {path!r}")
    return names[:-1], names[-1]


def open_file(root_fd: int, path: str) -> int:
    """Descriptor to read a regular file of the tree from, whatever its mode.

    The file is looked at before it is opened, so that no device or fifo ever is; a lease that somebody holds on it
    fails instead of blocking.

    Raises:
        NotRegularError: it is a link, folder, device, socket or fifo.
        OSError: it is not there or cannot be read.
    """
    folders, name = split(path)
    above = open_folder(root_fd, folders)
    try:
        handle = os.open(name, HANDLE, dir_fd=above)
    finally:
        os.close(above)
    try:
        mode = os.fstat(handle).st_mode
        if not stat.S_ISREG(mode):
            raise NotRegularError(f"no regular file: {path!r}")
        return _read_handle(handle, stat.S_IMODE(mode))
    finally:
        os.close(handle)


def _read_handle(handle: int, mode: int) -> int:
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    same_file = Path(f"/proc/self/fd/{handle}")
    try:
        return os.open(same_file, flags)
    except PermissionError:
        same_file.chmod(mode | 0o400)
        try:
            return os.open(same_file, flags)
        finally:
            same_file.chmod(mode)
