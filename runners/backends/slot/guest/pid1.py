"""pid 1 of a slot: forks one child a run, kills and reaps what is left of it, and proves the slot untouched.

Whatever cannot be proved untouched by the kernel's own figures is replaced; what cannot be replaced ends the slot.
"""

from __future__ import annotations

import mmap
import os
import resource
import signal
import socket
import struct
from dataclasses import dataclass

from runners.backends.slot.guest import child, linux, rootfs, stillness
from runners.backends.slot.guest.proof import Proof
from runners.backends.slot.guest.settings import Settings

REPLY = struct.Struct("<iddqI")
"""Wait status, user s, system s, peak KiB of the largest process, flags."""

LEFT_OVER, KILLED, WORKSPACE, SCRATCH, NETWORK, WORN = 1, 2, 4, 8, 16, 32
"""Flags: processes were left; killed on the runner's word; replaced: workspace, scratch, network; the slot ends."""

FREEZE, THAW, TERMINATE = 34, 35, 36
"""Real-time signals to pid 1."""


@dataclass(frozen=True)
class Post:
    """What kind of pid 1 this is; see birth.Order."""

    live: bool
    workspace: str
    index: int


def main(post: Post, requests: socket.socket, control: socket.socket, aid: socket.socket, settings: Settings) -> None:
    """Serve one run after the other until the slot is worn or its session over."""
    linux.prctl(linux.PR_SET_DUMPABLE, 1)  # or /proc/self belongs to somebody else after the change of uid
    proc = rootfs.build_slot_root(settings, post.workspace)
    _bound_namespaces(proc, settings)
    _pin(post, settings)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    linux.check(linux.LIBC.sethostname(b"sandbox", 7), "sethostname")
    os.environ.clear()
    os.environ.update(settings.environment)
    proof = Proof(proc)
    _confine(settings)
    proof.begin()
    init = Init(post, child.Post(requests, proc, settings.shared_uid, post.live, mmap.mmap(-1, 1)), control, aid, proof)
    stillness.keep()
    view = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    socket.send_fds(control, [b"ready"], [view])  # the watchdog's view of this pid namespace
    os.close(view)
    while init.serve_one():
        pass


def _bound_namespaces(proc: int, settings: Settings) -> None:
    bounds = {
        "max_inotify_instances": settings.inotify_instances,
        "max_inotify_watches": 4096,
        "max_user_namespaces": 0,
        "max_pid_namespaces": 0,
        "max_mnt_namespaces": 0,
    }
    for name, value in bounds.items():
        descriptor = os.open("sys/user/" + name, os.O_WRONLY, dir_fd=proc)
        os.write(descriptor, str(value).encode())
        os.close(descriptor)


def _pin(post: Post, settings: Settings) -> None:
    if settings.cpus:
        all_cpus = sorted(os.sched_getaffinity(0))
        chosen = {all_cpus[(post.index + step) % len(all_cpus)] for step in range(settings.cpus)}
        os.sched_setaffinity(0, chosen)


def _confine(settings: Settings) -> None:
    """Give up for good what no run may have: once, inherited by every run."""
    linux.drop_bounding_set()
    linux.prctl(linux.PR_SET_PDEATHSIG, 9)
    # 1, not 0: with a core_pattern pipe 0 still starts the host's handler, 1 never does. Source: fs/coredump.c.
    limits = {
        resource.RLIMIT_CORE: 1,
        resource.RLIMIT_NOFILE: settings.descriptors,
        resource.RLIMIT_MEMLOCK: 1 << 20,
        resource.RLIMIT_MSGQUEUE: 819_200 if settings.cgroups else 0,
        resource.RLIMIT_SIGPENDING: 1024,
    }
    for kind, value in limits.items():
        resource.setrlimit(kind, (value, value))
    if not settings.cgroups:
        linux.prctl(linux.PR_SET_THP_DISABLE, 1)  # a bomb then faults 4 KiB at a time, so the watchdog can follow
    linux.install_filter(bytes.fromhex(settings.filter))
    # Not dumpable: no ptrace, no /proc/1/{mem,fd,root} for the same uid.
    linux.prctl(linux.PR_SET_DUMPABLE, 0 if settings.shared_uid else 1)


def _kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # it has just ended


class Init:
    """The loop of pid 1."""

    def __init__(
        self, post: Post, child_post: child.Post, control: socket.socket, aid: socket.socket, proof: Proof
    ) -> None:
        self._post, self._child_post, self._control, self._aid, self._proof = post, child_post, control, aid, proof
        self._killed = False
        self._child = 0
        signal.signal(signal.SIGUSR1, self._on_kill)
        if post.live:
            signal.signal(signal.SIGUSR2, lambda *_: _kill(self._child, signal.SIGINT))
            signal.signal(FREEZE, lambda *_: _kill(-1, signal.SIGSTOP))
            signal.signal(THAW, lambda *_: _kill(-1, signal.SIGCONT))
            signal.signal(TERMINATE, lambda *_: _kill(self._child, signal.SIGTERM))

    def _on_kill(self, *_: object) -> None:
        self._killed = True
        _kill(-1, signal.SIGKILL)

    def serve_one(self) -> bool:
        """Fork, wait, clean, answer; False when this slot has had its day."""
        self._proof.reset_pids()
        started = self._child_post.started
        started[0] = 0
        # Not os.fork: pid 1 has one thread and holds no lock, so Python's work after a fork has nothing to repair.
        self._child = linux.HOT.fork()
        if self._child == 0:
            child.live(self._child_post)
        if self._killed:  # the word came when there was nobody to kill yet
            _kill(-1, signal.SIGKILL)
        status, user_s, system_s, peak_kib = self._wait()
        if not started[0] and not self._killed:  # the next one would fare no better
            self._control.send(b"!the run's child ended before its request")
            return False
        left_over, more_s = self._clear()
        flags = LEFT_OVER if left_over else 0
        if self._killed:
            flags, self._killed = flags | KILLED, False
        if not started[0]:
            flags |= WORN  # its request still lies in the socket: the next child must never see it
        if self._post.live:
            self._control.send(REPLY.pack(status, user_s + more_s, system_s, peak_kib, flags | WORN))
            return False
        flags, old_workspace = self._restore(flags)
        reply = REPLY.pack(status, user_s + more_s, system_s, peak_kib, flags)
        if old_workspace < 0:
            self._control.send(reply)
        else:
            socket.send_fds(self._control, [reply], [old_workspace])
            os.close(old_workspace)
        return not flags & WORN and self._proof.restore_network()

    def _wait(self) -> tuple[int, float, float, int]:
        more_s = 0.0
        while True:
            pid, status, used = os.wait4(-1, 0)
            if pid == self._child:
                return status, used.ru_utime + more_s, used.ru_stime, used.ru_maxrss
            more_s += used.ru_utime + used.ru_stime

    def _clear(self) -> tuple[bool, float]:
        """Kill and reap everybody; returns whether anybody was left and their CPU seconds.

        Done by the init of a pid namespace kill(-1) is atomic against fork: ESRCH is the kernel's word that nobody
        is left.
        """
        more_s = 0.0
        try:
            os.kill(-1, signal.SIGKILL)
            while True:
                used = os.wait4(-1, 0)[2]
                more_s += used.ru_utime + used.ru_stime
        except ProcessLookupError:
            return False, more_s
        except ChildProcessError:
            return True, more_s

    def _restore(self, flags: int) -> tuple[int, int]:
        """Replace what the run touched; returns flags and a descriptor of the old workspace, or -1."""
        touched = self._proof.touched()
        old_workspace = -1
        if touched.queues:
            flags |= WORN  # System V objects and message queues outlive processes
        if touched.workspace and not self._post.workspace:
            flags |= WORKSPACE
            old_workspace = os.open("/workspace", os.O_RDONLY | os.O_DIRECTORY)
            self._ask(b"w")
        if touched.scratch:
            flags |= SCRATCH
            self._ask(b"s")
        if touched.any:
            self._proof.begin_files()
        return flags, old_workspace

    def _ask(self, word: bytes) -> None:
        self._aid.send(word)
        self._aid.recv(1)
