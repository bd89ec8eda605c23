"""The slot's other process: outside its pid namespace and unfiltered, it does the mounts that pid 1 may not."""

from __future__ import annotations

import marshal
import os
import select
import socket
import stat
import struct

from runners.backends.slot.guest import linux, rootfs
from runners.backends.slot.guest.settings import GUEST_ID, Settings

DEPTH_MAX = 128
"""Folders below each other that are walked at most."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class _Bounds:
    def __init__(self, settings: Settings) -> None:
        self.size_bytes = settings.workspace_bytes
        self.files = settings.workspace_files
        self.scratch_bytes = settings.scratch_bytes


def serve(init_socket: socket.socket, aid: socket.socket, init: int, settings: Settings) -> None:
    """Answer pid 1 and the runner until pid 1 is gone; never returns."""
    linux.prctl(linux.PR_SET_DUMPABLE, 0)
    bounds = _Bounds(settings)
    poller = select.poll()
    poller.register(init_socket, select.POLLIN)
    poller.register(aid, select.POLLIN)
    while True:
        for descriptor, _ in poller.poll():
            if descriptor == init_socket.fileno():
                word = init_socket.recv(1)
                if not word:
                    os.waitpid(init, 0)  # as an orphan it would stay in pids.current until somebody looks
                    os._exit(0)
                _replace(word, bounds, settings)
                init_socket.send(b"k")
            elif not _aid(aid, bounds):
                poller.unregister(aid)


def _replace(word: bytes, bounds: _Bounds, settings: Settings) -> None:
    if word == b"w":
        if settings.harvest:
            make_readable(os.open("/workspace", _FOLDER), strangers=settings.harvest == "others")
        rootfs.replace_workspace(bounds.size_bytes, bounds.files)
    else:
        rootfs.replace_scratch(bounds.scratch_bytes)


def make_readable(folder: int, *, strangers: bool, depth: int = 0) -> None:
    """Let the runner's user read a tree whose processes are all dead; closes ``folder``.

    Args:
        strangers: The runner has another uid than the files, so "others" get the bits.
    """
    folder_bits, file_bits = (0o005, 0o004) if strangers else (0o700, 0o400)
    os.fchmod(folder, stat.S_IMODE(os.fstat(folder).st_mode) | folder_bits)
    with os.scandir(folder) as entries:
        for entry in entries:
            mode = os.stat(entry.name, dir_fd=folder, follow_symlinks=False).st_mode
            bits = folder_bits if stat.S_ISDIR(mode) else file_bits if stat.S_ISREG(mode) else 0
            if mode & bits != bits:
                os.chmod(entry.name, stat.S_IMODE(mode) | bits, dir_fd=folder)
            if stat.S_ISDIR(mode) and depth < DEPTH_MAX:
                inner = os.open(entry.name, _FOLDER, dir_fd=folder)
                make_readable(inner, strangers=strangers, depth=depth + 1)
    os.close(folder)


def _aid(aid: socket.socket, bounds: _Bounds) -> bool:
    message, descriptors, _, _ = socket.recv_fds(aid, 256, 4)
    if not message:
        return False
    workspace = os.open("/workspace", _FOLDER)
    try:
        if message[:1] == b"s":
            bounds.size_bytes, bounds.files, bounds.scratch_bytes = struct.unpack("<qqq", message[1:])
            rootfs.resize_scratch(bounds.scratch_bytes)
            rootfs.resize_workspace(bounds.size_bytes, bounds.files)
        else:
            _lay_in(workspace, descriptors[0])
        socket.send_fds(aid, [b"ok"], [workspace])
    except OSError as error:
        aid.send(b"!" + os.strerror(error.errno or 0).encode())
    for descriptor in (*descriptors, workspace):
        os.close(descriptor)
    return True


def _lay_in(workspace: int, packed: int) -> None:
    """Write files below a workspace in which no user code has run yet; contents go from file to file by the kernel.

    ``packed``: 8 bytes length of the index, the index of (path, mode, size), then the contents one after the other.
    """
    (length,) = struct.unpack("<q", os.pread(packed, 8, 0))
    offset = 8 + length
    for path, mode, size in marshal.loads(os.pread(packed, length, 8)):
        *parents, name = path.split("/")
        folder = os.dup(workspace)
        for parent in parents:
            folder = _descend(folder, parent)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        file = os.open(name, flags, 0o600, dir_fd=folder)
        os.close(folder)
        os.fchown(file, GUEST_ID, GUEST_ID)
        os.fchmod(file, mode)
        end = offset + size
        while offset < end:
            offset += os.sendfile(file, packed, offset, end - offset)
        os.close(file)


def _descend(folder: int, name: str) -> int:
    """Descriptor of a sub-folder, made if missing; closes ``folder``."""
    try:
        os.mkdir(name, 0o755, dir_fd=folder)
        os.chown(name, GUEST_ID, GUEST_ID, dir_fd=folder, follow_symlinks=False)
    except FileExistsError:
        pass
    inner = os.open(name, _FOLDER, dir_fd=folder)
    os.close(folder)
    return inner
