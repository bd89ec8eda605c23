"""A slot as the runner holds it: its sockets, its pid 1, its cgroup."""

from __future__ import annotations

import contextlib
import fcntl
import json
import marshal
import os
import select
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field

from runners.backends.slot import sockets
from runners.backends.slot.cgroups import Group
from runners.backends.slot.guest.birth import Order
from runners.backends.slot.starter import SCRATCH_BYTES, World
from runners.types import Limits

BUILD_TIMEOUT_S = 20.0
AID_TIMEOUT_S = 10.0
BLOCK_MS = 15
"""How long a run is waited for by one blocking call before its output is looked at."""
_INLINE_BYTES = 64 << 10
_ADD_SEALS, _ALL_SEALS = 1033, 0xF


class SlotBroken(Exception):
    """The slot does not do what it must; it is to be destroyed."""


class NoRoomError(Exception):
    """The helper could not write the run's files."""


def memory_file(name: str, content: bytes) -> int:
    """Descriptor of a sealed file that holds ``content`` and can never grow."""
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    fill(descriptor, content)
    return descriptor


def fill(descriptor: int, content: bytes) -> None:
    """Write a memory file for good; where it is read from stays."""
    at = 0
    while at < len(content):
        at += os.pwrite(descriptor, content[at : at + (1 << 20)], at)
    fcntl.fcntl(descriptor, _ADD_SEALS, _ALL_SEALS)


@dataclass(frozen=True)
class Owner:
    """Numbers of a slot: its pair of uids and what user code's uid is on the host."""

    index: int
    uid: int
    """Host uid of user code; -1: the runner cannot give files to it."""


@dataclass(frozen=True)
class Prepared:
    """A driver that has been started in the slot's child, ahead of its request."""

    key: object
    """What it was started for: programs that differ in it need another one."""
    wires: Wires
    stdin: int
    """File that the driver reads as standard input; written and sealed when the request comes."""

    def close(self) -> None:
        """Let go of the runner's ends."""
        self.wires.close()
        os.close(self.stdin)


@dataclass
class Wires:
    """The runner's ends of a run's pipes, and of its channel."""

    out: int
    err: int
    channel: socket.socket | None = None

    def close(self) -> None:
        """Close all of them."""
        for descriptor in (self.out, self.err):
            os.close(descriptor)
        if self.channel:
            self.channel.close()


@dataclass
class Slot:
    """Made by `build`; ended by `destroy`."""

    world: World
    owner: Owner
    order: Order
    preloaded: bool
    group: Group | None
    requests: socket.socket
    control: socket.socket
    aid: socket.socket
    pid: int
    pidfd: int
    proc: int
    """Descriptor of the slot's /proc."""
    shared_bytes: int = 0
    """Anonymous memory that a child shares with pid 1 at birth."""
    bounds: tuple[int, int, int] = (0, 0, 0)
    """Bytes and files of the workspace, bytes of scratch."""
    runs: int = 0
    built_at_s: float = field(default_factory=time.monotonic)
    destroyed: bool = False
    prepared: Prepared | None = None
    unanswered: Callable[[], bool] | None = None
    """The result of its run is known; whether pid 1 has given its word by now, without which it cannot be used again."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self, request: Mapping[str, object], descriptors: list[int]) -> None:
        """Hand a request and its descriptors to the parked child.

        Raises:
            SlotBroken: Nobody is there to take it.
        """
        message = marshal.dumps(dict(request))
        packed = -1
        if len(message) > _INLINE_BYTES:
            packed = memory_file("request", message)
            message, descriptors = b"M", [*descriptors, packed]
        rights = struct.pack(f"{len(descriptors)}i", *descriptors)
        try:
            self.requests.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        except ConnectionError as error:
            raise SlotBroken("it died before its request") from error
        finally:
            if packed >= 0:
                os.close(packed)

    def has_word(self) -> bool:
        """Whether pid 1 said something that nobody asked for, i.e. its parked child died."""
        try:
            self.control.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        return True

    def signal(self, number: int) -> None:
        """Signal pid 1 of the slot; from any thread."""
        with self._lock:
            if not self.destroyed:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self.pidfd, number)

    def ask(self, word: bytes, descriptors: list[int]) -> int:
        """Ask the helper; returns a descriptor of the workspace's root.

        Raises:
            NoRoomError: It could not; the text says why.
            SlotBroken: It does not answer.
        """
        socket.send_fds(self.aid, [word], descriptors)
        try:
            answer, passed, _, _ = socket.recv_fds(self.aid, 256, 4)
        except TimeoutError as error:
            raise SlotBroken("the helper does not answer") from error
        if answer == b"ok" and passed:
            return passed[0]
        if answer[:1] == b"!":
            raise NoRoomError(answer[1:].decode("utf-8", "replace"))
        raise SlotBroken("the helper is gone")

    def bound_files(self, limits: Limits) -> None:
        """Let the workspace hold half of the run's memory and the run's number of files, /tmp a quarter at most."""
        bounds = (limits.memory_bytes // 2, limits.workspace_files, min(SCRATCH_BYTES, limits.memory_bytes // 4))
        if bounds != self.bounds and not self.order.workspace:
            os.close(self.ask(b"s" + struct.pack("<qqq", *bounds), []))
            self.bounds = bounds

    def destroy(self) -> None:
        """Kill pid 1, and with it all that lives in the slot, and let go of everything."""
        if self.group:
            self.group.free_cpu()  # to die takes time too
        self.signal(signal.SIGKILL)
        with self._lock:
            if self.destroyed:
                return
            self.destroyed = True
        poller = select.poll()
        poller.register(self.pidfd, select.POLLIN)
        poller.poll(5000)
        for descriptor in (self.pidfd, self.proc):
            os.close(descriptor)
        if self.prepared:
            self.prepared.close()
        for end in (self.requests, self.control, self.aid):
            end.close()
        if self.group:
            self.group.close()


def build(world: World, order: Order, owner: Owner, group: Group | None, *, preloaded: bool = False) -> Slot:
    """A slot that is ready for its first request.

    Raises:
        SlotBroken: It could not be built; the text says why.
        OSError: The same, for want of something on the host; either way ``group`` is closed.
    """
    with contextlib.ExitStack() as undo:
        if group:
            undo.callback(group.close)
        requests, control, aid = _place_order(world, order, group, undo, preloaded=preloaded)
        control.settimeout(BUILD_TIMEOUT_S)
        pid, proc = _await_ready(control)
        undo.callback(os.close, proc)
        pidfd = os.pidfd_open(pid)
        undo.callback(os.close, pidfd)
        aid.settimeout(AID_TIMEOUT_S)
        slot = Slot(world, owner, order, preloaded, group, requests, control, aid, pid, pidfd, proc)
        _, resident, shared, *_ = read_proc(proc, "1/statm").split()
        slot.shared_bytes = (int(resident) - int(shared)) * os.sysconf("SC_PAGESIZE")
        slot.bounds = (world.spec.workspace_bytes, world.spec.workspace_files, SCRATCH_BYTES)
        undo.pop_all()
    return slot


def _place_order(
    world: World, order: Order, group: Group | None, undo: contextlib.ExitStack, *, preloaded: bool
) -> list[socket.socket]:
    """Ask the world for the slot; returns the runner's ends of its three sockets, which ``undo`` closes."""
    ours: list[socket.socket] = []
    given: list[int] = []
    with contextlib.ExitStack() as theirs:
        for _ in range(3):
            near, far = sockets.pair(socket.SOCK_SEQPACKET)
            ours.append(undo.enter_context(near))
            given.append(theirs.enter_context(far).fileno())
        for member in group.open_members() if group else ():
            theirs.callback(os.close, member)
            given.append(member)
        ours[1].setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        world.order(json.dumps(asdict(order)).encode(), given, preloaded=preloaded)
    return ours


def _await_ready(control: socket.socket) -> tuple[int, int]:
    try:
        message, ancillary, _, _ = control.recvmsg(65536, 256)
    except TimeoutError as error:
        raise SlotBroken("the slot was not ready in time") from error
    found = {kind: content for _, kind, content in ancillary}
    if message != b"ready" or socket.SCM_RIGHTS not in found:
        raise SlotBroken(message[1:].decode("utf-8", "replace").strip() or "the slot died while it was built")
    control.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 0)
    control.settimeout(None)
    control.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, BLOCK_MS * 1000))
    (pid,) = struct.unpack("i", found[socket.SCM_CREDENTIALS][:4])
    (proc,) = struct.unpack("i", found[socket.SCM_RIGHTS][:4])
    os.set_inheritable(proc, False)
    return pid, proc


def read_proc(proc: int, name: str) -> bytes:
    """The first 4 KiB of a file of the slot's /proc."""
    descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)
    try:
        return os.read(descriptor, 4096)
    finally:
        os.close(descriptor)
