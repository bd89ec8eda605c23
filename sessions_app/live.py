"""One session that is live here: its sandbox, its folder, and what is known of its variables."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from runners.backends.base import Live as Sandbox
from runners.types import Limits, Snapshot
from sessions_app.workspace import Workspace

SNAPSHOT_TIMEOUT_S = 15.0
"""What an interpreter may take to save its variables."""
RESTORE_TIMEOUT_S = 15.0


@dataclass(slots=True, eq=False)
class Live:
    """A live session. Whoever holds :attr:`lock` works with it; only :meth:`kill` needs no lock.

    Attributes:
        session_id: whose it is.
        limits: what it was opened with.
        used_at: monotonic time of its last use, s.
        is_dirty: whether variables may differ from the stored snapshot.
        is_frozen: whether nothing of it runs.
        is_mute: whether it gave no snapshot when it was last asked.
        is_dropped: whether it was ended from outside, in mid-run maybe.
        is_gone: whether it was closed; whoever waited for the lock asks for a new one.
        is_awaited: whether a thread is to store it.
        retry_at: monotonic time before which a failed store is not tried again, s.
        started: how its first run finds the variables: SPEC's `state`.
    """

    session_id: int
    sandbox: Sandbox
    workspace: Workspace
    limits: Limits
    started: dict[str, object]
    lock: threading.Lock = field(default_factory=threading.Lock)
    used_at: float = field(default_factory=time.monotonic)
    is_dirty: bool = False
    is_frozen: bool = False
    is_mute: bool = False
    is_dropped: bool = False
    is_gone: bool = False
    is_awaited: bool = False
    retry_at: float = 0.0

    def fits(self, limits: Limits) -> bool:
        """Whether a run with ``limits`` may use this sandbox as it is."""
        mine = self.limits
        return mine.cpu_count == limits.cpu_count and mine.memory_bytes == limits.memory_bytes

    def thaw(self) -> None:
        """Let it run."""
        if self.is_frozen:
            self.sandbox.thaw()
            self.is_frozen = False

    def freeze(self) -> None:
        """Let nothing of it run."""
        if not self.is_frozen:
            self.sandbox.freeze()
            self.is_frozen = True

    def take_state(self) -> dict[str, object]:
        """SPEC's `state` for the run that begins now: told in full once, ``live`` ever after."""
        state, self.started = self.started, {"status": "live", "lost": []}
        return state

    def snapshot(self, timeout_s: float) -> Snapshot | None:
        """Its variables, made inside it; None: it gave none in time."""
        self.thaw()
        return self.sandbox.snapshot(timeout_s=timeout_s)

    def restore(self, content: bytes) -> Sequence[str]:
        """Brings stored variables back; names of those that could not be."""
        return self.sandbox.restore(content, timeout_s=RESTORE_TIMEOUT_S)

    def kill(self) -> None:
        """Ends the sandbox, in mid-run too; its folder stays for whoever holds the lock."""
        self.sandbox.close()

    def close(self) -> None:
        """Ends the sandbox and removes the folder. The caller holds the lock. More calls do nothing."""
        if self.is_gone:
            return
        self.is_gone = True
        try:
            self.sandbox.close()
        finally:
            self.workspace.remove()
