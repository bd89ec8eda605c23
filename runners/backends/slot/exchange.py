"""One run as the runner's thread sees it: pipes, waiting, stopping, reading, until pid 1 of the slot has answered.

Every channel that user code can write to is read without blocking and within bounds.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from runners.backends.base import Hooks
from runners.backends.slot import sockets
from runners.backends.slot.diskwatch import Stop
from runners.backends.slot.guest.pid1 import KILLED, REPLY, WORN
from runners.backends.slot.slot import Slot, SlotBroken, Wires
from runners.output import Collector
from runners.types import Limits, Status, Stream, Terminal

FAREWELL_S = 0.25
"""How long a process may take to end that has said farewell."""
KILL_GRACE_S = 2.0
"""How long pid 1 may take to kill everything before the whole slot is killed."""
READ_BYTES = 65536
_ANCILLARY_BYTES = 64
_CREDENTIALS_BYTES = socket.CMSG_SPACE(12)
"""Room for the kernel's word on the sender, and for no descriptor that user code may send along."""
_FAREWELL = b"D"
_CPU_CLOCK = 2
"""Makes the complement of a pid the clock of its CPU time. Source: Linux, include/linux/posix-timers.h."""
_STREAMS: tuple[Stream, Stream] = ("stdout", "stderr")
_DRAIN_BYTES = 16 << 20
"""Read at most after the end: a pipe holds 1 MiB at most, more can only come from a writer that should be dead."""


def open_wires(
    slot: Slot, *, strangers: bool, channel: bool = False, terminal: Terminal | None = None
) -> tuple[Wires, list[int], socket.socket | None]:
    """Pipes, and a socket if asked for; returns our ends, the child's two and the child's end of the socket.

    Args:
        strangers: User code has another uid than the runner, who cannot give files away.
        terminal: A pseudo terminal takes the place of both pipes; its output counts as stdout.
    """
    out, out_end, err, err_end = _pipes() if terminal is None or terminal.master is None else _terminal(terminal)
    for end in (out_end, err_end):  # or /dev/stdout could not be opened inside
        if slot.owner.uid >= 0:
            os.fchown(end, slot.owner.uid, slot.owner.uid)
        elif strangers:
            os.fchmod(end, 0o622)
    os.set_blocking(out, False)
    os.set_blocking(err, False)
    ours = theirs = None
    if channel:
        ours, theirs = sockets.pair(socket.SOCK_STREAM)
    return Wires(out, err, ours), [out_end, err_end], theirs


def _pipes() -> tuple[int, int, int, int]:
    return *os.pipe2(os.O_CLOEXEC), *os.pipe2(os.O_CLOEXEC)


def _terminal(terminal: Terminal) -> tuple[int, int, int, int]:
    assert terminal.master is not None
    nothing, end = os.pipe2(os.O_CLOEXEC)  # whoever reads it finds its end at once
    os.close(end)
    return os.dup(terminal.master), os.dup(terminal.stdin), nothing, os.dup(terminal.stdin)


@dataclass
class Ended:
    """What pid 1 said."""

    wait_status: int
    cpu_time_s: float
    peak_bytes: int
    flags: int
    workspace: int
    """Descriptor of the workspace that was replaced, or -1."""
    is_last: bool = False
    """The slot is not to be used again."""
    is_early: bool = False
    """Said by the driver: its process has yet to end, and pid 1 to answer for it."""


@dataclass
class Compiling:
    """What the driver of a compiled language says before it runs user code: ``C`` + 8 bytes, or ``E`` + 1 byte."""

    on_success: Callable[[], None]
    heard: bytes = b""
    is_over: bool = False
    compile_time_s: float | None = None
    exit_code: int | None = None

    @property
    def succeeded(self) -> bool:
        """The program runs."""
        return self.compile_time_s is not None

    def add(self, part: bytes) -> bytes:
        """Take the next stretch, empty at the end of the channel; returns what lies behind the word."""
        self.heard += part
        self.heard, rest = self.heard[:9], self.heard[9:]
        if self.heard[:1] == b"C" and len(self.heard) >= 9:
            self.compile_time_s = min(int.from_bytes(self.heard[1:9], "big") / 1e9, 1e6)
            self.is_over = True
        elif self.heard[:1] == b"E" and len(self.heard) >= 2:
            self.exit_code, self.is_over = self.heard[1], True
        elif not part or len(self.heard) == 9:
            self.is_over = True
        return rest


@dataclass
class Exchange:
    """Waits for one started run."""

    slot: Slot
    wires: Wires
    limits: Limits
    hooks: Hooks
    watches: tuple[Callable[[], Stop | None], ...] = ()
    """Called every few milliseconds of a longer run; they say why it has to end."""
    pause_s: float = 0.01
    """Between two looks."""
    compiling: Compiling | None = None
    """The driver compiles first and says so on the channel; the wall clock starts after that."""
    farewell: bool = False
    """The driver says when a program has ended well without a trace, before its process ends."""
    stopped: Status | None = None
    reason: str | None = None
    collectors: tuple[Collector, Collector] = field(init=False)
    started_at_s: float = 0.0
    wall_time_s: float = 0.0

    def __post_init__(self) -> None:
        self.collectors = (Collector(self.limits.kept_bytes), Collector(self.limits.kept_bytes))
        self._deadline_s = 0.0
        self._next_watch_s = 0.0
        self._wake = -1
        self._early: Ended | None = None

    def start_clock(self) -> None:
        """The program has been handed over."""
        self.started_at_s = time.monotonic()
        patience_s = self.limits.compile_time_s if self.compiling else self.limits.wall_time_s
        self._deadline_s = self.started_at_s + patience_s
        if self.hooks.on_start:
            self.hooks.on_start()

    def wait(self) -> Ended:
        """Until pid 1 answers, or the driver has said farewell.

        Raises:
            SlotBroken: It does not, or says what it should not. The slot is to be destroyed; what was read stays.
        """
        cancel = self.hooks.cancel
        if cancel:
            cancel.attach(self._wake_up)
        try:
            answer = None if self.compiling or self.farewell else self._receive()
            if answer is None:
                answer = self._wait_long()
        finally:
            if cancel:
                cancel.detach()
            if self._wake >= 0:
                os.close(self._wake)
        self.wall_time_s = time.monotonic() - self.started_at_s
        if answer is None:
            assert self._early
            ended, self._deadline_s = self._early, time.monotonic() + FAREWELL_S
        else:
            ended = self._judge(answer)
            if self.compiling:
                self._hear()  # it may have ended in the same breath
        self.drain()
        return ended

    def outlast(self) -> Ended | None:
        """The word of pid 1 on a run whose result is known by a farewell; None if there is none within BLOCK_MS.

        Who has not ended FAREWELL_S after it is killed.

        Raises:
            SlotBroken: See `wait`.
        """
        self.watches = ()
        if answer := self._receive():
            return self._judge(answer)
        self._stop_if_due()
        return None

    def _judge(self, answer: tuple[bytes, list[int]]) -> Ended:
        ended = _parse(*answer)
        # A kill that pid 1 has not told of may yet arrive, and hit the child of the next run.
        ended.is_last = bool(ended.flags & WORN or (self.stopped and not ended.flags & KILLED))
        return ended

    def _receive(self) -> tuple[bytes, list[int]] | None:
        """The answer of pid 1, or None if there is none within BLOCK_MS."""
        try:
            message, ancillary, _, _ = self.slot.control.recvmsg(4096, _ANCILLARY_BYTES)
        except BlockingIOError:
            return None
        passed = ancillary[0][2] if ancillary else b""
        return message, list(struct.unpack(f"{len(passed) // 4}i", passed))

    def _wake_up(self) -> None:
        """On a request to cancel: any thread, once."""
        if self._wake >= 0:
            os.eventfd_write(self._wake, 1)

    def _wait_long(self) -> tuple[bytes, list[int]] | None:
        """The answer of pid 1; None where the driver has said farewell before."""
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        poller = select.poll()
        control = self.slot.control.fileno()
        for descriptor in (control, self.wires.out, self.wires.err, self._wake):
            poller.register(descriptor, select.POLLIN)
        is_heard = self.compiling or self.farewell
        channel = self.wires.channel.fileno() if is_heard and self.wires.channel else -1
        if channel >= 0:
            poller.register(channel, select.POLLIN)
        streams = {self.wires.out: 0, self.wires.err: 1}
        while True:
            self._stop_if_due()
            ready = [descriptor for descriptor, _ in poller.poll(1000 * self._patience_s())]
            if channel in ready and self._hear():
                poller.unregister(channel)
            if control in ready and (answer := self._receive()):
                return answer
            if self._early:
                return None
            for descriptor in ready:
                if descriptor in streams and not self._read(descriptor, streams[descriptor]):
                    poller.unregister(descriptor)

    def _hear(self) -> bool:
        """Take the driver's word, on compiling or of farewell; True when nothing more is to be heard."""
        compiling, channel = self.compiling, self.wires.channel
        if not channel or (compiling and compiling.is_over and not self.farewell):
            return True
        try:
            room = _CREDENTIALS_BYTES if self.farewell else 0
            part, ancillary, _, _ = channel.recvmsg(16, room, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            part, ancillary = b"", []
        is_over = not part
        if compiling and not compiling.is_over:
            part = compiling.add(part)
            if compiling.succeeded:
                self._begin_program(compiling)
            is_over = is_over or (compiling.is_over and not self.farewell)
        if self.farewell and part == _FAREWELL and not self.stopped:
            self._early = _early(ancillary)
        return is_over or bool(part)  # a program that goes on talking must not keep us listening

    def _begin_program(self, compiling: Compiling) -> None:
        self.started_at_s = time.monotonic()
        if not self.stopped:
            self._deadline_s = self.started_at_s + self.limits.wall_time_s
        compiling.on_success()

    def _patience_s(self) -> float:
        until_s = min(self._deadline_s, self._next_watch_s) if self.watches and not self.stopped else self._deadline_s
        if self.hooks.cancel and self.hooks.cancel.requested and not self.stopped:
            return 0.0
        return max(0.0, min(until_s - time.monotonic(), 3600.0))

    def _stop_if_due(self) -> None:
        now_s = time.monotonic()
        if self.stopped:
            if now_s >= self._deadline_s:
                raise SlotBroken("pid 1 of the slot did not answer")
            return
        if self.hooks.cancel and self.hooks.cancel.requested:
            self.stop(Status.CANCELLED)
        elif any(collector.written_bytes > self.limits.written_bytes for collector in self.collectors):
            self.stop(Status.OUTPUT_LIMIT)
        elif now_s >= self._deadline_s:
            is_compiling = self.compiling and not self.compiling.is_over
            self.stop(Status.COMPILE_ERROR if is_compiling else Status.TIMED_OUT)
        elif self.watches and now_s >= self._next_watch_s:
            stop = next(filter(None, (watch() for watch in self.watches)), None)
            spent_s = time.monotonic() - now_s
            self._next_watch_s = now_s + max(self.pause_s, 6 * spent_s)  # a sixth of this thread's time at most
            if stop:
                self.reason = stop[1]
                self.stop(stop[0])

    def stop(self, status: Status) -> None:
        """Have pid 1 kill everything; the first reason counts."""
        self.stopped = status
        self._deadline_s = time.monotonic() + KILL_GRACE_S
        if self.slot.group:
            self.slot.group.free_cpu()  # a spent quota would delay pid 1 as well
        self.slot.signal(signal.SIGUSR1)

    def _read(self, descriptor: int, stream: int) -> bool:
        """Take what is there; False at the end of the stream."""
        try:
            chunk = os.read(descriptor, READ_BYTES)
        except BlockingIOError:
            return True
        except OSError:  # a pseudo terminal that nobody holds any more
            return False
        if chunk:
            self.collectors[stream].add(chunk)
            if self.hooks.on_output:
                self.hooks.on_output(_STREAMS[stream], chunk)
        return bool(chunk)

    def drain(self) -> None:
        """Read what lies in the pipes; every writer is dead, but somebody's cycle may hold a pipe open."""
        for stream, descriptor in enumerate((self.wires.out, self.wires.err)):
            collector = self.collectors[stream]
            end = collector.written_bytes + _DRAIN_BYTES
            while collector.written_bytes < end:
                before = collector.written_bytes
                if not self._read(descriptor, stream) or collector.written_bytes - before < READ_BYTES:
                    break


def _parse(message: bytes, descriptors: list[int]) -> Ended:
    if len(message) != REPLY.size:
        for descriptor in descriptors:
            os.close(descriptor)
        raise SlotBroken(message[1:].decode("utf-8", "replace").strip() or "the slot ended")
    status, user_s, system_s, peak_kib, flags = REPLY.unpack(message)
    return Ended(status, user_s + system_s, peak_kib << 10, flags, descriptors[0] if descriptors else -1)


def _early(ancillary: list[tuple[int, int, bytes]]) -> Ended | None:
    """The end of a process that has just said farewell, of which the kernel tells the pid; None if it is gone."""
    for _, kind, content in ancillary:
        if kind == socket.SCM_CREDENTIALS:
            pid = int.from_bytes(content[:4], "little")
            try:
                return Ended(0, cpu_time_s(pid), 0, 0, -1, is_early=True)
            except OSError:
                return None
    return None


def cpu_time_s(pid: int) -> float:
    """Seconds that a living process and the children that it has waited for have used.

    Raises:
        OSError: It is gone.
    """
    with open(f"/proc/{pid}/stat", "rb") as file:
        children = file.read().rpartition(b")")[2].split()[13:15]
    ticks = sum(map(int, children))
    return time.clock_gettime(~pid << 3 | _CPU_CLOCK) + ticks / os.sysconf("SC_CLK_TCK")
