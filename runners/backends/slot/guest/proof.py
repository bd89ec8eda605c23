"""Proof that a run left nothing behind in what the next one reuses, by the kernel's own figures."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from dataclasses import dataclass

from runners.backends.slot.guest import linux

_SHM_INFO, _SEM_INFO, _MSG_INFO = 14, 19, 12
_SIOCSIFFLAGS, _IFF_UP_RUNNING = 0x8914, 0x49
_TCP_BUFFER = b"4096 65536 262144"  # bytes: a socket's buffers grow to 256 KiB, not to 6 MiB


@dataclass(frozen=True)
class Touched:
    """What a run changed."""

    workspace: bool
    scratch: bool
    queues: bool
    """System V objects or POSIX message queues."""

    @property
    def any(self) -> bool:
        """Whether anything was."""
        return self.workspace or self.scratch or self.queues


_UNTOUCHED = Touched(False, False, False)


def _tmpfs(path: str) -> tuple[int, int]:
    """Inodes and blocks in use: figures that a change of the bounds leaves alone."""
    figures = os.statvfs(path)
    return figures.f_files - figures.f_ffree, figures.f_blocks - figures.f_bfree


class _QueueObjects:
    """System V objects alive in this ipc namespace; three system calls."""

    def __init__(self) -> None:
        self._buffer = ctypes.create_string_buffer(256)

    def count(self) -> int:
        buffer = self._buffer
        linux.HOT.shmctl(0, _SHM_INFO, buffer)
        count = int.from_bytes(buffer.raw[:4], "little")  # used_ids
        linux.HOT.semctl(0, 0, _SEM_INFO, buffer)
        count += int.from_bytes(buffer.raw[28:32], "little")  # semusz
        linux.HOT.msgctl(0, _MSG_INFO, buffer)
        return count + int.from_bytes(buffer.raw[:4], "little")  # msgpool


class Proof:
    """Figures of an untouched slot, and whether they still hold."""

    def __init__(self, proc: int) -> None:
        """Before the filter and the loss of rights; ``proc`` is the writable view of /proc."""
        self._proc = proc
        self._queues = _QueueObjects()
        self._last_pid = os.open("sys/kernel/ns_last_pid", os.O_WRONLY, dir_fd=proc)
        self._network: list[int] = []
        self._fresh_network()

    def begin(self) -> None:
        """Take the figures that are to hold from now on."""
        self._network_figures = self._read_network()
        self.begin_files()

    def begin_files(self) -> None:
        """The same for files and queues only."""
        self._workspace, self._scratch, self._queue_figures = self._figures()

    def reset_pids(self) -> None:
        """The next child is pid 2 again."""
        os.pwrite(self._last_pid, b"1", 0)

    def touched(self) -> Touched:
        """What the run that just ended changed."""
        workspace, scratch, queues = self._figures()
        if workspace == self._workspace and scratch == self._scratch and queues == self._queue_figures:
            return _UNTOUCHED
        return Touched(workspace != self._workspace, scratch != self._scratch, queues != self._queue_figures)

    def _figures(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """The ctime of the roots (it moves on create + unlink, chmod, utime, xattr), inodes and blocks in use, objects."""
        queues = os.stat("/dev/mqueue")  # its times have a granularity of one second: the size tells
        return (
            (os.stat("/workspace").st_ctime_ns, *_tmpfs("/workspace")),
            (
                os.stat("/tmp").st_ctime_ns,
                os.stat("/dev/shm").st_ctime_ns,
                os.stat("/home/sandbox").st_ctime_ns,
                *_tmpfs("/tmp"),
            ),
            (queues.st_size, queues.st_ctime_ns, self._queues.count()),
        )

    def restore_network(self) -> bool:
        """Replace the network namespace if it was used; always True."""
        if self._read_network() != self._network_figures:
            linux.unshare(linux.NEWNET)
            self._fresh_network()
            self._network_figures = self._read_network()
        return True

    def _fresh_network(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP_RUNNING))
        for name in ("tcp_rmem", "tcp_wmem"):
            descriptor = os.open("sys/net/ipv4/" + name, os.O_WRONLY, dir_fd=self._proc)
            os.write(descriptor, _TCP_BUFFER)
            os.close(descriptor)
        for descriptor in self._network:
            os.close(descriptor)
        # The files stay bound to the namespace in which they were opened.
        names = ("self/net/dev", "self/net/sockstat", "self/net/snmp")
        self._network = [os.open(name, os.O_RDONLY, dir_fd=self._proc) for name in names]

    def _read_network(self) -> tuple[object, ...]:
        devices, sockets, counters = self._network
        words = os.pread(sockets, 999, 0).split()
        # TCP orphan, alloc, mem and UDP mem are the whole machine's: the server's own traffic would look like a
        # used namespace. Kept: sockets used, TCP inuse and tw, UDP inuse, UDPLITE, RAW, FRAG.
        own = (words[2], words[5], words[9], words[16], *words[19:])
        return os.pread(devices, 8192, 0), own, os.pread(counters, 8192, 0)
