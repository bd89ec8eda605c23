"""Where a session's run happens: a folder checked out for this run, or the session's live sandbox."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from runners.cancel import Cancel
from runners.types import Enforcement, Limits, OnOutput, RunResult, RunSpec
from sessions_app import live_place
from sessions_app.claiming import Claimed, SessionFacts
from sessions_app.live_opening import Wanted
from sessions_app.lives import Lives
from sessions_app.workspace import Workspace

WITHOUT_STATE = frozenset({"go"})
"""Languages whose runs are programs of their own. Source: the contract, Sessions."""


class Runs(Protocol):
    """What execution needs of a runner. :class:`runners.runner.Runner` is one."""

    enforcement: Enforcement

    def run(
        self,
        spec: RunSpec,
        *,
        on_output: OnOutput | None = None,
        on_start: Callable[[], None] | None = None,
        cancel: Cancel | None = None,
    ) -> RunResult:
        """Run one program to its end."""


class Place(Protocol):
    """Where the session's files stand while the run goes on.

    Attributes:
        state: the contract's ``state``, valid after :meth:`run`; None in languages without.
        session_update: columns of the session's row that change with the end of this run, valid after it too.
    """

    workspace: Workspace
    state: Mapping[str, Any] | None
    session_update: Mapping[str, Any]

    def run(
        self,
        spec: RunSpec,
        *,
        on_output: OnOutput | None = None,
        on_start: Callable[[], None] | None = None,
        cancel: Cancel | None = None,
    ) -> RunResult:
        """Run one program to its end."""

    def forfeit(self) -> None:
        """The run does not count: nothing that it changed may be found by the next one."""


class CheckedOut:
    """A folder for this run alone, and a fresh sandbox."""

    def __init__(self, runner: Runs, workspace: Workspace, *, has_state: bool) -> None:
        self._runner = runner
        self.workspace = workspace
        self.state: Mapping[str, Any] | None = {"status": "fresh", "lost": []} if has_state else None
        self.session_update: Mapping[str, Any] = {}

    def run(
        self,
        spec: RunSpec,
        *,
        on_output: OnOutput | None = None,
        on_start: Callable[[], None] | None = None,
        cancel: Cancel | None = None,
    ) -> RunResult:
        """Run one program to its end."""
        return self._runner.run(spec, on_output=on_output, on_start=on_start, cancel=cancel)

    def forfeit(self) -> None:
        """Nothing stays of it anyway."""


@contextlib.contextmanager
def checked_out(runner: Runs, claimed: Claimed, session: SessionFacts) -> Iterator[Place]:
    """A place of the run's own.

    Raises:
        LookupError: the session is gone.
    """
    workspace = Workspace.checkout(session.id)
    try:
        yield CheckedOut(runner, workspace, has_state=claimed.language not in WITHOUT_STATE)
    finally:
        workspace.remove()


def place(
    runner: Runs, lives: Lives | None, claimed: Claimed, session: SessionFacts, limits: Limits
) -> AbstractContextManager[Place]:
    """Where ``claimed``, a run of ``session``, happens.

    Raises:
        LookupError: on entering: the session is gone.
        SandboxUnavailable: on entering: no sandbox could be built.
    """
    if lives is None or not session.persistent or claimed.language in WITHOUT_STATE:
        return checked_out(runner, claimed, session)
    return live_place.place(lives, Wanted(session_id=session.id, language=claimed.language, limits=limits))
