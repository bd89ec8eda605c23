"""Kept slots: a session's interpreter stays between runs, with the session's folder as its workspace."""

from __future__ import annotations

import base64
import contextlib
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from runners.backends.base import Hooks
from runners.backends.slot.exchange import READ_BYTES
from runners.backends.slot.frames import FrameError, Frames, plain
from runners.backends.slot.guest.pid1 import FREEZE, THAW
from runners.backends.slot.keeper import Keeper
from runners.backends.slot.liverun import LiveRun, how_it_ended
from runners.backends.slot.oneshot import Terms, disk_watch
from runners.backends.slot.slot import Prepared, Slot, SlotBroken
from runners.backends.slot.watchdog import Watchdog
from runners.cancel import Cancel
from runners.types import Limits, OnOutput, RunResult, RunSpec, Snapshot, Status

SNAPSHOT_BYTES_MAX = 64 << 20
"""Of a snapshot's frame."""


@dataclass(frozen=True)
class Care:
    """What a live sandbox needs of its backend."""

    keeper: Keeper
    destroy: Callable[[Slot], None]
    terms: Terms


class LiveSandbox:
    """One kept interpreter; one run after the other."""

    def __init__(self, slot: Slot, prepared: Prepared, language: str, limits: Limits, care: Care) -> None:
        """Of a slot whose child has become the language's live driver."""
        assert prepared.wires.channel is not None
        self.language, self.workspace = language, slot.order.workspace
        self.slot, self._prepared, self._limits, self._care = slot, prepared, limits, care
        self.frames = Frames(prepared.wires.channel)
        self.streams = {prepared.wires.out: 0, prepared.wires.err: 1}
        """Output that something inside can still write to, and which it is."""
        self.terms = care.terms
        self.disk = disk_watch(slot, limits, care.terms)
        self._lock = threading.RLock()
        self.number = 0
        self._lost: str | None = None
        self.has_dropped = False
        self._running = False
        self.watchdog = None if care.terms.cgroups else Watchdog(slot, limits)
        care.keeper.add(self)
        care.keeper.arm(self)

    @property
    def is_alive(self) -> bool:
        """Whether the interpreter still lives, as far as is known."""
        return self._lost is None

    def descriptors(self) -> tuple[int, ...]:
        """What the keeper watches."""
        return *self.streams, self.slot.control.fileno()

    def attend(self) -> None:
        """Between runs: drop output, notice the end."""
        if not self._lock.acquire(blocking=False):
            if not self._running:  # somebody only looks, or takes a snapshot
                self._care.keeper.arm(self)
            return
        try:
            if self._lost is None and not self._running:
                self.drop_output()
                if self.slot.has_word():
                    self.end(_ended_between(self.read_word()))
                elif self.watchdog and (stop := self.watchdog.look()):
                    self.end(stop[1])
                else:
                    self._care.keeper.arm(self)
        finally:
            self._lock.release()

    def drop_output(self) -> None:
        """Read away what was printed since the last run."""
        for descriptor in tuple(self.streams):
            if self.take(descriptor):
                self.has_dropped = True

    def take(self, descriptor: int) -> bytes:
        """A stretch of output, if there is any. What nobody can write to any more is not looked at again."""
        try:
            chunk = os.read(descriptor, READ_BYTES)
        except BlockingIOError:
            return b""
        if not chunk:
            self._care.keeper.forget(descriptor)
            del self.streams[descriptor]
        return chunk

    def read_word(self) -> bytes:
        """The word of pid 1 on the end of the interpreter; empty if the slot itself is gone."""
        try:
            return self.slot.control.recv(4096)
        except OSError:
            return b""

    def run(
        self,
        spec: RunSpec,
        *,
        on_output: OnOutput | None = None,
        on_start: Callable[[], None] | None = None,
        cancel: Cancel | None = None,
    ) -> RunResult:
        """Run in the interpreter; what it leaves there is there in the next run.

        ``state_lost`` says why the interpreter did not survive, if it did not.
        """
        with self._lock:
            if self._lost is not None:
                return RunResult(Status.SANDBOX_ERROR, None, reason="The interpreter has ended.", state_lost=self._lost)
            self._care.keeper.disarm(self)
            self._running = True
            run = LiveRun(self, spec, Hooks(on_output, on_start, cancel))
            try:
                return run.go()
            except BaseException:
                self.end("The run was broken off.")
                raise
            finally:
                self._running = False
                if self._lost is None:
                    self._care.keeper.arm(self)

    def interrupt(self) -> None:
        """SIGINT to the current run; nothing happens between runs."""
        if self._running:
            self.slot.signal(signal.SIGUSR2)

    def freeze(self) -> None:
        """Stop every process of it where it stands."""
        self.slot.signal(FREEZE)
        if self.slot.group:
            with contextlib.suppress(OSError):  # it has just ended
                self.slot.group.hold_cpu()

    def thaw(self) -> None:
        """Let them go on."""
        if self.slot.group:
            with contextlib.suppress(OSError):
                self.slot.group.set(self._limits)
        self.slot.signal(THAW)

    def memory_bytes(self) -> int:
        """What it holds now."""
        with self._lock:
            if self._lost is not None:
                return 0
            if self.slot.group:
                return self.slot.group.memory_bytes()
            return Watchdog(self.slot, self._limits).memory_bytes()

    def excess(self) -> str | None:
        """Between runs: why it has to end, if it holds more memory or files than it may."""
        with self._lock:
            if self.memory_bytes() > self._limits.memory_bytes:
                return "It held more memory than its limit."
            stop = self.disk.look() if self._lost is None else None
            return stop[1] if stop else None

    def snapshot(self, *, timeout_s: float) -> Snapshot | None:
        """The interpreter's state as it saved it itself, inside; None: it gave none."""
        reply = self._call({"op": "snapshot"}, timeout_s=timeout_s)
        content, lost = reply.get("content"), reply.get("lost")
        if reply.get("ok") is not True or not isinstance(content, str):
            return None
        try:
            return Snapshot(base64.b64decode(content, validate=True), _names(lost))
        except ValueError:
            return None

    def restore(self, content: bytes, *, timeout_s: float) -> tuple[str, ...]:
        """Bring a saved state back, before the first run; returns the names that did not come back.

        Raises:
            SlotBroken: Nothing came back.
        """
        request = {"op": "restore", "content": base64.b64encode(content).decode()}
        reply = self._call(request, timeout_s=timeout_s)
        if reply.get("ok") is not True:
            raise SlotBroken(f"the state could not be restored: {plain(str(reply.get('error'))[:300])}")
        return _names(reply.get("lost"))

    def _call(self, request: dict[str, Any], *, timeout_s: float) -> dict[str, Any]:
        with self._lock:
            if self._lost is not None:
                return {}
            try:
                return self.frames.call(
                    request,
                    timeout_s=timeout_s,
                    size_max=SNAPSHOT_BYTES_MAX,
                    is_over=self.slot.has_word,
                )
            except FrameError as error:
                self.end(f"The interpreter broke: {error}.")
                return {"error": str(error)}

    def end(self, why: str) -> None:
        """The interpreter is gone, or has to go."""
        if self._lost is None:
            self._lost = why
            self._care.keeper.remove(self)
            self._care.destroy(self.slot)
            self._prepared.close()

    def close(self) -> None:
        """End it, with everything in it; in mid-run too, whose caller is answered then."""
        self.slot.signal(signal.SIGKILL)
        with self._lock:
            self.end("The sandbox was closed.")


def _names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        return ()
    return tuple(plain(item[:200]) for item in value[:1000] if isinstance(item, str))


def _ended_between(word: bytes) -> str:
    return f"The interpreter ended between runs: {how_it_ended(word)}."
