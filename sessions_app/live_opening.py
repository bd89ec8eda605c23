"""Opening a session's live sandbox: its files laid out, its stored variables brought back, its state told."""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass
from typing import Protocol

from runners.backends.base import Live as Sandbox
from runners.types import Limits
from sessions_app import control, states
from sessions_app.live import Live
from sessions_app.states import LIVE_STATES, State
from sessions_app.workspace import Workspace
from storage_app import blobs

logger = logging.getLogger(__name__)

RELEASE_S = 20.0
"""How long another node may take to store the variables that it has."""
RELEASE_LOOK_S = 0.1
UNRESTORED = "The stored variables could not be restored."


class Opens(Protocol):
    """What live sessions need of a runner."""

    def open(self, *, language: str, workspace: str, limits: Limits) -> Sandbox:
        """A sandbox that stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The session whose live sandbox a run needs.

    Attributes:
        session_id: its row.
        language: canonical name.
        limits: of the run; a sandbox with others is opened anew, with its variables.
    """

    session_id: int
    language: str
    limits: Limits


def opened(runner: Opens, wanted: Wanted, *, node: str) -> Live:
    """A live sandbox for the session, its variables restored if they were stored.

    Raises:
        LookupError: the session is gone.
        SandboxUnavailable: no sandbox could be built.
    """
    state = _released(wanted.session_id, node)
    workspace = Workspace.checkout(wanted.session_id)
    with contextlib.ExitStack() as undo:
        undo.callback(workspace.remove)
        live = _with_variables(runner, wanted, workspace, state)
        undo.callback(live.kill)
        if not states.opened(wanted.session_id, node):
            raise LookupError(wanted.session_id)
        undo.pop_all()
    return live


def _released(session_id: int, node: str) -> State:
    """The session's state once no other living node has its sandbox."""
    end = time.monotonic() + RELEASE_S
    is_asked = False
    while True:
        state = states.read(session_id)
        if state is None:
            raise LookupError(session_id)
        other = state.node if state.state in LIVE_STATES and state.node != node else None
        if other is None or time.monotonic() > end or not states.node_is_alive(other):
            return state
        if not is_asked:
            control.send(other, {"op": "evict", "session_id": session_id})
            is_asked = True
        time.sleep(RELEASE_LOOK_S)


def _with_variables(runner: Opens, wanted: Wanted, workspace: Workspace, state: State) -> Live:
    live = _bare(runner, wanted, workspace)
    try:
        reason = state.lost_reason
        if not reason and state.state in LIVE_STATES:
            reason = states.ENDED.format(node=state.node)
        if state.snapshot:
            live.started = _restored(live, state, reason)
        elif reason:
            live.started = _lost(reason)
        if not live.sandbox.is_alive:
            live.kill()
            live = _bare(runner, wanted, workspace)
            live.started = _lost(UNRESTORED)
    except BaseException:
        live.kill()
        raise
    return live


def _bare(runner: Opens, wanted: Wanted, workspace: Workspace) -> Live:
    sandbox = runner.open(language=wanted.language, workspace=workspace.name, limits=wanted.limits)
    try:
        workspace.settle()
    except BaseException:
        sandbox.close()
        raise
    return Live(wanted.session_id, sandbox, workspace, wanted.limits, {"status": "fresh", "lost": []})


def _restored(live: Live, state: State, reason: str | None) -> dict[str, object]:
    """Bring the snapshot back; an interpreter that fails at it starts with nothing.

    ``reason`` says why the variables may have been others since.
    """
    try:
        names = live.restore(blobs.read(state.snapshot or ""))
    except (OSError, ValueError) as error:
        extra = {"action": "restore_failed", "session": live.session_id}
        logger.warning("Variables could not be restored: %s", error, extra=extra)
        return _lost(UNRESTORED)
    told: dict[str, object] = {"status": "restored", "lost": sorted({*state.snapshot_lost, *names})}
    if reason:
        told["reason"] = f"{reason} They are as they were last stored."
    return told


def _lost(reason: str) -> dict[str, object]:
    return {"status": "lost", "reason": reason, "lost": []}
