"""Where a session's run happens: a folder checked out for this run, or the session's live sandbox."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Protocol, Self

from runners.cancel import Cancel
from runners.types import Enforcement, OnOutput, RunResult, RunSpec
from sessions_app.claiming import Claimed
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
    """A context: in it the workspace stands, as the session has it.

    Attributes:
        workspace: the session's files as a folder.
        state: the contract's ``state``, valid after :meth:`run`; None in languages without.
        session_update: columns of the session's row that change with the end of this run.
    """

    workspace: Workspace
    state: dict[str, Any] | None
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

    def __enter__(self) -> Self:
        """Make it stand."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave it."""


class Lives(Protocol):
    """The live sandboxes of a node."""

    def place(self, claimed: Claimed) -> Place | None:
        """Where the run happens live; None where it cannot."""


class CheckedOut:
    """A folder for this run alone, and a fresh sandbox."""

    def __init__(self, runner: Runs, claimed: Claimed) -> None:
        if claimed.session_id is None:
            raise ValueError("a one-shot has no workspace of a session")
        self._runner = runner
        self._session_id = claimed.session_id
        has_state = claimed.language not in WITHOUT_STATE
        self.state: dict[str, Any] | None = {"status": "fresh", "lost": []} if has_state else None
        self.session_update: Mapping[str, Any] = {}
        self.workspace: Workspace

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

    def __enter__(self) -> Self:
        self.workspace = Workspace.checkout(self._session_id)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.workspace.remove()


def place(runner: Runs, lives: Lives | None, claimed: Claimed) -> Place:
    """Where ``claimed``, a session's run, happens."""
    is_live = lives is not None and claimed.session is not None and claimed.session.persistent
    found = lives.place(claimed) if lives is not None and is_live else None
    return found or CheckedOut(runner, claimed)
