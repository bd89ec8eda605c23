"""One run in a kept interpreter: the request, the output, the way it is stopped, and what became of the interpreter."""

from __future__ import annotations

import base64
import os
import select
import signal
import time
from typing import TYPE_CHECKING, Any

from runners.backends.base import Hooks
from runners.backends.slot.diskwatch import PAUSE_S
from runners.backends.slot.exchange import READ_BYTES
from runners.backends.slot.frames import FrameError, plain
from runners.backends.slot.guest.pid1 import REPLY, TERMINATE
from runners.backends.slot.oneshot import watches
from runners.backends.slot.slot import Slot, read_proc
from runners.backends.slot.watchdog import WATCH_S, Watchdog
from runners.output import Collector
from runners.types import RunResult, RunSpec, Status, Stream, Usage

if TYPE_CHECKING:
    from runners.backends.slot.live import LiveSandbox

REPLY_BYTES_MAX = 2 << 20
RESULT_CHARS_MAX = 65_536
INTERRUPT_GRACE_S = 2.0
"""After SIGINT; then the interpreter is killed and its state is lost."""
BOOT_TIMEOUT_S = 30.0
_TICKS = os.sysconf("SC_CLK_TCK")
_STREAMS: tuple[Stream, Stream] = ("stdout", "stderr")
_DROPPED = "Output that was written between runs was dropped."


def how_it_ended(word: bytes) -> str:
    """The word of pid 1 on an interpreter, for people."""
    if len(word) != REPLY.size:
        return "its sandbox broke"
    code = os.waitstatus_to_exitcode(REPLY.unpack(word)[0])
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


class LiveRun:
    """One run in a live sandbox."""

    def __init__(self, sandbox: LiveSandbox, spec: RunSpec, hooks: Hooks) -> None:
        """Not begun yet."""
        self._box, self._spec, self._hooks = sandbox, spec, hooks
        self._slot = sandbox.slot
        self._collectors = (Collector(spec.limits.kept_bytes), Collector(spec.limits.kept_bytes))
        self._stopped: Status | None = None
        self._reason: str | None = None
        self._warnings: list[str] = []
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._deadline_s = 0.0
        self._next_step_s = 0.0
        self._steps = [(0.0, signal.SIGUSR2), (1.5, TERMINATE), (INTERRUPT_GRACE_S, signal.SIGUSR1)]

    def go(self) -> RunResult:
        """From request to result."""
        cancel = self._hooks.cancel
        box = self._box
        try:
            self._set_limits()
            self._watches = watches(self._slot, self._spec.limits, box.terms, box.disk)
            box.drop_output()
            if box.has_dropped:
                self._warnings.append(_DROPPED)
                box.has_dropped = False
            box.number += 1
            self._cpu_before_s = _cpu_time_s(self._slot)
            self._started_s = time.monotonic()
            try:
                box.frames.expect_silence()
                box.frames.send(self._request(), timeout_s=BOOT_TIMEOUT_S)
            except FrameError as error:
                return self._broken(error)
            self._started_s = time.monotonic()
            self._deadline_s = self._started_s + self._spec.limits.wall_time_s
            if self._hooks.on_start:
                self._hooks.on_start()
            if cancel:
                cancel.attach(lambda: os.eventfd_write(self._wake, 1))
            return self._wait()
        finally:
            if cancel:
                cancel.detach()
            os.close(self._wake)

    def _set_limits(self) -> None:
        limits = self._spec.limits
        if self._slot.group:
            self._slot.group.reset_peak()
            try:
                self._slot.group.set(limits)
            except OSError:
                self._warnings.append("The memory limit was not lowered: the interpreter holds more already.")
        elif self._box.watchdog:
            self._box.watchdog = Watchdog(self._slot, limits)

    def _request(self) -> dict[str, Any]:
        spec = self._spec
        stdin = base64.b64encode(spec.stdin).decode() if spec.stdin else None
        return {
            "op": "run",
            "id": self._box.number,
            "code": spec.code,
            "args": list(spec.args),
            "env": dict(spec.env),
            "stdin": stdin,
        }

    def _wait(self) -> RunResult:
        poller = select.poll()
        control = self._slot.control.fileno()
        for descriptor in (*self._box.streams, control, self._wake, self._box.frames.fileno()):
            poller.register(descriptor, select.POLLIN)
        while True:
            self._stop_if_due()
            ready = [descriptor for descriptor, _ in poller.poll(1000 * self._patience_s())]
            if self._wake in ready:
                poller.unregister(self._wake)
            for descriptor in ready:
                if descriptor in self._box.streams and self._read(descriptor) is None:
                    poller.unregister(descriptor)
            if self._box.frames.fileno() in ready:
                try:
                    reply = self._box.frames.receive(size_max=REPLY_BYTES_MAX)
                except FrameError as error:
                    return self._broken(error)
                if reply is not None:
                    return self._answered(reply)
            if control in ready:
                return self._died()

    def _patience_s(self) -> float:
        until_s = self._next_step_s if self._stopped else self._deadline_s
        if self._watches:
            until_s = min(until_s, time.monotonic() + (WATCH_S if self._box.watchdog else PAUSE_S))
        return max(0.0, min(until_s - time.monotonic(), 3600.0))

    def _stop_if_due(self) -> None:
        now_s = time.monotonic()
        if self._stopped:
            self._press(now_s)
        elif self._hooks.cancel and self._hooks.cancel.requested:
            self._stop(Status.CANCELLED)
        elif any(collector.written_bytes > self._spec.limits.written_bytes for collector in self._collectors):
            self._stop(Status.OUTPUT_LIMIT)
        elif now_s >= self._deadline_s:
            self._stop(Status.TIMED_OUT)
        elif stop := next(filter(None, (watch() for watch in self._watches)), None):
            self._reason = stop[1]
            self._steps = self._steps[-1:] if stop[0] is Status.OUT_OF_MEMORY else self._steps
            self._stop(stop[0])

    def _stop(self, status: Status) -> None:
        self._stopped = status
        self._stopped_s = time.monotonic()
        self._press(self._stopped_s)

    def _press(self, now_s: float) -> None:
        """SIGINT, then TERM, then the end; last of all pid 1 itself is killed."""
        while self._steps and (now_s >= self._stopped_s + self._steps[0][0] or self._reason):
            number = self._steps.pop(0)[1]
            if number == signal.SIGUSR1 and self._slot.group:
                self._slot.group.free_cpu()
            self._slot.signal(number)
        if not self._steps and now_s >= self._stopped_s + 2 * INTERRUPT_GRACE_S:
            self._slot.signal(signal.SIGKILL)
        self._next_step_s = self._stopped_s + (self._steps[0][0] if self._steps else 2 * INTERRUPT_GRACE_S)
        self._next_step_s = max(self._next_step_s, now_s + 0.01)

    def _read(self, descriptor: int) -> bool | None:
        """Take what is there; whether there may be more, None at the end of the stream."""
        stream = self._box.streams[descriptor]
        chunk = self._box.take(descriptor)
        if chunk:
            self._collectors[stream].add(chunk)
            if self._hooks.on_output:
                self._hooks.on_output(_STREAMS[stream], chunk)
        return len(chunk) == READ_BYTES if descriptor in self._box.streams else None

    def _drain(self) -> None:
        """What was written before the reply lies in the pipes by now; what daemons add meanwhile is bounded."""
        for descriptor in tuple(self._box.streams):
            for _ in range(64):
                if not self._read(descriptor):
                    break

    def _answered(self, reply: dict[str, Any]) -> RunResult:
        code, result = reply.get("exit"), reply.get("result")
        if reply.get("id") != self._box.number or type(code) is not int or not 0 <= code <= 255:
            return self._broken(FrameError("its reply makes no sense"))
        if self._stopped and not self._steps:
            return self._broken(FrameError("it was killed when it had just answered"))
        self._drain()
        status = self._status(Status.FAILED if code else Status.SUCCEEDED)
        if reply.get("error") == "compile_error" and not self._stopped:
            status = Status.COMPILE_ERROR
        text = plain(result[:RESULT_CHARS_MAX]) if isinstance(result, str) else None
        return self._result(status, code, result=text)

    def _status(self, otherwise: Status) -> Status:
        killed = self._slot.group is not None and self._slot.group.has_new_oom_kills()
        if killed and not self._stopped:
            self._reason = "The kernel ended a process of it at its memory limit."
            return Status.OUT_OF_MEMORY
        return self._stopped or otherwise

    def _died(self) -> RunResult:
        word = self._box.read_word()
        self._drain()
        is_told = len(word) == REPLY.size
        status = self._status(Status.FAILED if is_told else Status.SANDBOX_ERROR)
        code = os.waitstatus_to_exitcode(REPLY.unpack(word)[0]) if is_told else -9
        lost = f"The interpreter ended: {self._reason or how_it_ended(word)}"
        self._box.end(lost)
        if status is Status.SANDBOX_ERROR:  # not by its program: pid 1 would have said how
            self._reason = "The sandbox broke."
            return self._result(status, None, lost=lost)
        return self._result(status, 128 - code if code < 0 else code, number=-code if code < 0 else None, lost=lost)

    def _broken(self, error: FrameError) -> RunResult:
        """Its channel is of no use any more; often it has just ended, and pid 1 says how."""
        poller = select.poll()
        poller.register(self._slot.control, select.POLLIN)
        if poller.poll(1000):
            return self._died()
        self._drain()
        lost = f"The interpreter broke: {error}."
        self._box.end(lost)
        return self._result(self._stopped or Status.FAILED, 1, lost=lost)

    def _result(
        self,
        status: Status,
        code: int | None,
        *,
        number: int | None = None,
        result: str | None = None,
        lost: str | None = None,
    ) -> RunResult:
        cpu_s = None if lost else _cpu_time_s(self._slot)
        if cpu_s is not None and self._cpu_before_s is not None:
            cpu_s = max(0.0, cpu_s - self._cpu_before_s)
        return RunResult(
            status=status,
            exit_code=_EXIT_CODES.get((status, lost is not None), code),
            signal=number,
            stdout=self._collectors[0].kept(),
            stderr=self._collectors[1].kept(),
            usage=Usage(
                cpu_s,
                None if lost or not self._slot.group else self._slot.group.peak_bytes(),
                time.monotonic() - self._started_s,
            ),
            warnings=tuple(self._warnings),
            reason=self._reason,
            result=result,
            state_lost=lost,
        )


_EXIT_CODES = {
    (Status.TIMED_OUT, False): 124,
    (Status.TIMED_OUT, True): 124,
    (Status.CANCELLED, False): 143,
    (Status.CANCELLED, True): 137,
    (Status.OUTPUT_LIMIT, False): 137,
    (Status.OUTPUT_LIMIT, True): 137,
    (Status.OUT_OF_MEMORY, False): 137,
    (Status.OUT_OF_MEMORY, True): 137,
}


def _cpu_time_s(slot: Slot) -> float | None:
    """CPU seconds of the interpreter and of the children that it waited for, in ticks of 10 ms; finer for one thread."""
    try:
        fields = read_proc(slot.proc, "2/stat").rsplit(b")", 1)[1].split()
        main_thread_ns = int(read_proc(slot.proc, "2/schedstat").split()[0])
    except (OSError, ValueError, IndexError):
        return None
    return max(sum(map(int, fields[11:15])) / _TICKS, main_thread_ns / 1e9)
