"""A run's place in a live session: the kept sandbox, its folder, and what becomes of the session's state."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from runners.cancel import Cancel
from runners.types import OnOutput, RunResult, RunSpec, Status
from sessions_app import states
from sessions_app.live import Live
from sessions_app.live_opening import Wanted
from sessions_app.lives import Lives
from sessions_app.workspace import Workspace

KILLED_CODE = 137
RESTARTED = "The session was restarted."
FORFEITED = "A run was lost, and with it what it had changed."


class LivePlace:
    """Where one run of a live session takes place. Valid while the session's sandbox is the run's alone."""

    def __init__(self, live: Live, node: str) -> None:
        self._live = live
        self._node = node
        self.workspace: Workspace = live.workspace
        self.state: Mapping[str, Any] | None = live.take_state()
        self.session_update: Mapping[str, Any] = {"state": "live", "node": node, "lost_reason": None}

    def run(
        self,
        spec: RunSpec,
        *,
        on_output: OnOutput | None = None,
        on_start: Callable[[], None] | None = None,
        cancel: Cancel | None = None,
    ) -> RunResult:
        """Run in the kept interpreter; :attr:`state` and :attr:`session_update` then say what became of it."""
        self._live.is_dirty = True
        result = self._live.sandbox.run(spec, on_output=on_output, on_start=on_start, cancel=cancel)
        if self._live.is_dropped and result.status in (Status.SANDBOX_ERROR, Status.CANCELLED):
            result = replace(
                result, status=Status.CANCELLED, exit_code=KILLED_CODE, reason=RESTARTED, state_lost=RESTARTED
            )
        if result.state_lost is not None or not self._live.sandbox.is_alive:
            reason = result.state_lost or "The sandbox ended with the run."
            self.state = {"status": "lost", "reason": reason, "lost": []}
            self.session_update = {
                "state": "none",
                "node": None,
                "snapshot": None,
                "snapshot_lost": [],
                "lost_reason": None,
            }
            self._live.kill()
        return result

    def forfeit(self) -> None:
        """End the interpreter: its variables are those of a run that nobody may believe to have happened."""
        self._live.kill()
        states.forfeited(self._live.session_id, self._node, FORFEITED)


@contextlib.contextmanager
def place(lives: Lives, wanted: Wanted) -> Iterator[LivePlace]:
    """The live place of a session's run, opened if need be.

    Raises:
        LookupError: the session is gone.
        SandboxUnavailable: no sandbox could be built.
    """
    with lives.use(wanted) as live:
        yield LivePlace(live, lives.node)
