"""A session's run: its files and data in, the program, its files and data out."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol, TypeVar

from django.db import InternalError, OperationalError, close_old_connections, connection

from era_project.errors import Conflict, EraError
from runners.types import Limits, RunResult, RunSpec, SandboxUnavailable, Status
from sessions_app import ending, places, run_limits, session_rows, workspace
from sessions_app.ending import End
from sessions_app.events import RunEvents
from sessions_app.final_rows import Outcome, SessionPart
from sessions_app.finishing import Final
from sessions_app.live_place import KILLED_CODE
from sessions_app.lives import Lives
from sessions_app.places import Place
from sessions_app.running import Running
from sessions_app.session_data import DataError
from sessions_app.session_rows import Data
from sessions_app.workspace import Collected

logger = logging.getLogger(__name__)

T = TypeVar("T")

RETRY_S = 0.25
DELETED = End(ending.OF_LEASE, "cancelled", "The session was deleted.", 143)


class Executor(Protocol):
    """What a session's run needs of :class:`sessions_app.execution.Executor`."""

    runner: places.Runs
    lives: Lives | None

    def spec(self, running: Running, limits: Limits, *, workspace: str | None = None) -> RunSpec:
        """What the runner is told."""

    def outcome(self, running: Running, result: RunResult, events: RunEvents, **more: Any) -> Outcome:
        """The result with what the node knows."""

    def final(self, running: Running, outcome: Outcome) -> Final:
        """The row to be written."""

    def is_lost(self, result: RunResult) -> bool:
        """Whether the server's stop ended the program."""

    def lose(self, running: Running, events: RunEvents) -> None:
        """End it as lost with the server."""

    def end(self, running: Running, what: End) -> None:
        """End a run that came to no result."""

    def announce(self, running: Running, final: Final, events: RunEvents) -> None:
        """Tell the end to whoever follows or waits."""


@dataclass(slots=True)
class Left:
    """What a run left behind. ``changed``: columns of the session that it changed."""

    collected: Collected | None
    part: SessionPart
    warnings: list[str] = field(default_factory=list)
    changed: dict[str, Any] = field(default_factory=dict)


def execute(executor: Executor, running: Running, *, persist_s: float) -> None:
    """Run ``running`` and end it.

    Args:
        executor: this node's.
        running: a claimed run of a session.
        persist_s: how long its final row is tried again while Postgres is away.
    """
    close_old_connections()
    claimed = running.claimed
    if claimed.session is None or claimed.session_id is None:
        executor.end(running, DELETED)
        return
    try:
        update = running.inputs.update_data
        data = Data(claimed.session.data)
        if update is not None:
            data = _persist(partial(session_rows.merge, claimed.session_id, update), persist_s)
        if not claimed.session.persistent:
            workspace.forget_run_files(claimed.session_id)
        limits = run_limits.limits(running, in_session=True)
        with places.place(executor.runner, executor.lives, claimed, claimed.session, limits) as place:
            running.warnings += place.workspace.sync(claimed.session.files_version)
            _lay(place, running, data)
            _run(executor, running, place, _Terms(data, limits, persist_s))
    except LookupError as error:
        if type(error) is not LookupError:  # a KeyError or IndexError is a fault of ours
            raise
        executor.end(running, DELETED)
    except Conflict as error:
        executor.end(running, End(ending.OF_LEASE, Status.FAILED, str(error)))
    except (EraError, SandboxUnavailable) as error:
        executor.end(running, End(ending.OF_LEASE, Status.SANDBOX_ERROR, str(error)))


@dataclass(frozen=True, slots=True)
class _Terms:
    data: Data
    limits: Limits
    persist_s: float


def _lay(place: Place, running: Running, data: Data) -> None:
    for path, content in running.inputs.files.items():
        place.workspace.lay(path, content)
    place.workspace.write_data(data.text)


def _run(executor: Executor, running: Running, place: Place, terms: _Terms) -> None:
    events = RunEvents(running.claimed.id, streamed=running.claimed.streamed)
    try:
        spec = executor.spec(running, terms.limits, workspace=place.workspace.name)
        result = place.run(spec, on_output=events.write, cancel=running.cancel)
    except BaseException:
        events.close()
        raise
    if executor.is_lost(result):
        try:
            executor.lose(running, events)
        finally:
            place.forfeit()
        return
    result = _of_deleted(running, place, result, terms.persist_s)
    left = _nothing(place, terms) if result.status is Status.SANDBOX_ERROR else _left(place, terms, result)
    running.warnings += left.warnings
    changes = left.collected.changes if left.collected else None
    final = executor.final(running, executor.outcome(running, result, events, changes=changes, session=left.part))
    if _counts(place, running, final, left, terms.persist_s):
        executor.announce(running, final, events)
    else:
        events.close()


def _counts(place: Place, running: Running, final: Final, left: Left, persist_s: float) -> bool:
    """Write the end; False where somebody else ended the run meanwhile. What does not count leaves nothing."""
    counts = False
    try:
        counts = _persist(lambda: _end(running, final, left), persist_s)
    finally:
        if not counts:
            place.forfeit()
    return counts


def _of_deleted(running: Running, place: Place, result: RunResult, persist_s: float) -> RunResult:
    """``result``, told as cancelled where the sandbox ended because its session was deleted."""
    session_id = running.claimed.session_id
    assert session_id is not None
    if result.state_lost is None or _persist(partial(session_rows.exists, session_id), persist_s):
        return result
    place.state = {"status": "lost", "reason": DELETED.message, "lost": []}
    return replace(result, status=Status.CANCELLED, exit_code=KILLED_CODE, reason=DELETED.message)


def _end(running: Running, final: Final, left: Left) -> bool:
    session_id = running.claimed.session_id
    assert session_id is not None
    return session_rows.end(session_id, final, left.collected, left.changed)


def _nothing(place: Place, terms: _Terms) -> Left:
    """What a run left whose sandbox broke: files and data of half a run would be there twice once it is tried again."""
    state = dict(place.state) if place.state is not None else None
    return Left(None, SessionPart(terms.data.text, terms.data.error, None, state), [], dict(place.session_update))


def _left(place: Place, terms: _Terms, result: RunResult) -> Left:
    """Read files and data back, timeouts and failures included."""
    data = terms.data
    found = place.workspace.read_data()
    is_error = isinstance(found, DataError)
    text = data.text if isinstance(found, DataError) else found
    error = found.message if isinstance(found, DataError) else data.error
    part = SessionPart(text, error, result.result, dict(place.state) if place.state is not None else None)
    changed = dict(place.session_update)
    if not is_error and text != data.text:
        changed["data"] = text
    try:
        collected = _persist(place.workspace.collect, terms.persist_s)
    except EraError as fault:
        return Left(None, part, [f"The files that the run changed were not kept: {fault}"], changed)
    return Left(collected, part, list(collected.warnings), changed)


def _persist(write: Callable[[], T], persist_s: float) -> T:
    """Do ``write``, again and again while Postgres is away: what the program did is done."""
    until = time.monotonic() + persist_s
    pause = threading.Event()
    while True:
        try:
            return write()
        except (OperationalError, InternalError) as error:  # the latter: we stood still in mid-transaction
            if time.monotonic() > until:
                raise
            logger.warning("Postgres did not answer: %s", error, extra={"action": "write_failed"})
            connection.close()
            pause.wait(RETRY_S)
