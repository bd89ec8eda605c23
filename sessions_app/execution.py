"""The only code that executes: a run's id comes in, its final row and its answer go out."""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any
from uuid import UUID

from runners.types import InputFile, Limits, RunResult, RunSpec, Status
from sessions_app import ending, final_rows, finishing, run_limits, sealing, session_execution, terminals, writer
from sessions_app.claiming import Claim, Claimed, claim
from sessions_app.connections import Connection
from sessions_app.ending import End
from sessions_app.events import RunEvents
from sessions_app.final_rows import Outcome
from sessions_app.finishing import Final
from sessions_app.lease import Lease
from sessions_app.lives import Lives
from sessions_app.places import Runs
from sessions_app.running import Running

logger = logging.getLogger(__name__)

PERSIST_S = 120.0
"""How long a final row is tried again while Postgres is away."""
EARLY_S = 60.0
"""How long a word to stop a run waits for that run to arrive here."""
SHORT_S = 0.080
"""A run that nobody follows and that took less sends no events. Must be below the publisher's own figure."""
UNSEEN_S = 0.015
"""Nobody is looked for who might follow a run that took less than this."""
LOOK_S = 0.01
LOST_WITH_SERVER = End(ending.OF_LEASE, "lost", "server_stopped: the server was stopped while the run was going on.")
FAILED = End(ending.OF_LEASE, Status.SANDBOX_ERROR, "The server failed to execute the run.")


class Executor:
    """Executes the runs of one node. Thread-safe: each run has a thread of its own."""

    def __init__(self, runner: Runs, lease: Lease, lives: Lives | None = None) -> None:
        self.runner = runner
        self.lives = lives
        self._lease = lease
        self._running: dict[UUID, Running] = {}
        self._writing: set[UUID] = set()
        self._early: dict[UUID, float] = {}
        self._lock = threading.Lock()
        self._is_stopping = False

    def execute(self, run_id: UUID) -> None:
        """Claim ``run_id``, run it, write how it ended, answer. Whatever is not ours to run is left alone."""
        claimed: Claimed | None = writer.rows().submit(claim, Claim(run_id, self._lease), may_block=True).result()
        if claimed is None:
            return
        claimed_at = time.monotonic()
        try:
            running = Running(claimed, sealing.unseal(claimed.request, run_id=run_id.bytes), claimed_at)
            with self._registered(running):
                self._execute(running)
        except Exception:
            logger.exception("A run could not be executed.", extra={"action": "execute_failed", "run": str(run_id)})
            self._end_row(run_id, FAILED)

    def executing(self) -> list[UUID]:
        """Ids of the runs that go on here, or whose end is being written."""
        return [*self._running, *self._writing]

    def wait_written(self, *, timeout_s: float) -> None:
        """Return when every end is written, or after ``timeout_s``."""
        until = time.monotonic() + timeout_s
        pause = threading.Event()
        while self.executing() and time.monotonic() < until:
            pause.wait(LOOK_S)

    def stop(self, run_id: UUID) -> None:
        """Cancel a run; one that has not arrived yet is cancelled when it does."""
        with self._lock:
            running = self._running.get(run_id)
            if running is None:
                now = time.monotonic()
                self._early = {one: at for one, at in self._early.items() if at > now - EARLY_S}
                self._early[run_id] = now
        if running is not None:
            running.cancel.request()

    def stop_all(self) -> None:
        """Kill everything: what goes on ends as ``lost``, and so does what begins from now on."""
        self._is_stopping = True
        for running in list(self._running.values()):
            running.cancel.request()

    def give_up(self, run_id: UUID, reason: str) -> None:
        """Have a run ended as lost that this node had claimed and does not execute; waits for nothing."""
        self._ended(run_id, End(ending.OF_LEASE, "lost", reason))

    def _execute(self, running: Running) -> None:
        if running.claimed.session_id is not None:
            session_execution.execute(self, running, persist_s=PERSIST_S)
            return
        events = RunEvents(running.claimed.id, streamed=running.claimed.streamed)
        try:
            spec = self.spec(running, run_limits.limits(running, in_session=False))
            with terminals.opened(running) as terminal:
                spec = replace(spec, terminal=terminal) if terminal else spec
                result = self.runner.run(spec, on_output=events.write, cancel=running.cancel)
        except BaseException:
            events.close()
            raise
        self._finish(running, result, events)

    def _finish(self, running: Running, result: RunResult, events: RunEvents) -> None:
        """The end of a one-shot. A short one is answered by the writer, with all others that it commits together."""
        if self.is_lost(result):
            self.lose(running, events)
            return
        final = self.final(running, self.outcome(running, result, events))
        if _is_short(running, events):
            events.close()
            self._writing.add(final.id)
            written = writer.rows().submit(finishing.finish, final, persist_s=PERSIST_S, may_block=True)
            written.add_done_callback(lambda _: self._writing.discard(final.id))
        elif writer.rows().submit(finishing.finish_quietly, final, persist_s=PERSIST_S, may_block=True).result():
            self.announce(running, final, events)
        else:
            events.close()

    def spec(self, running: Running, limits: Limits, *, workspace: str | None = None) -> RunSpec:
        """What the runner is told."""
        claimed, inputs = running.claimed, running.inputs
        return RunSpec(
            language=claimed.language,
            code=claimed.code,
            args=inputs.args,
            env=run_limits.environment(running),
            stdin=inputs.stdin.encode(),
            files=() if workspace else tuple(InputFile(path, content) for path, content in inputs.files.items()),
            limits=limits,
            workspace=workspace,
        )

    def outcome(self, running: Running, result: RunResult, events: RunEvents, **more: Any) -> Outcome:
        """``result`` with what this node knows."""
        return Outcome(
            result=result,
            node=self._lease.node,
            backend=self.runner.enforcement.backend,
            claimed_at=running.claimed_at,
            warnings=running.warnings,
            chunks=events.order(),
            **more,
        )

    def final(self, running: Running, outcome: Outcome) -> Final:
        """The row to be written under this node's lease."""
        claimed = running.claimed
        return Final(final_rows.made(claimed, outcome), self._lease.node, self._lease.number, claimed.reply_to)

    def is_lost(self, result: RunResult) -> bool:
        """Whether the server's stop ended the program."""
        return self._is_stopping and result.status is Status.CANCELLED

    def lose(self, running: Running, events: RunEvents) -> None:
        """End a run as lost with the server."""
        events.close()
        self.end(running, LOST_WITH_SERVER)

    def end(self, running: Running, what: End) -> None:
        """End a run that came to no result."""
        self._end_row(running.claimed.id, what)

    def announce(self, running: Running, final: Final, events: RunEvents) -> None:
        """Send the last event of a run whose row is final, then its answer."""
        if _is_short(running, events):
            events.close()
        else:
            events.finish(final.run(output=False))
        finishing.reply([final])

    def _end_row(self, run_id: UUID, what: End) -> None:
        self._ended(run_id, what).result()

    def _ended(self, run_id: UUID, what: End) -> Future[None]:
        flush = functools.partial(_end_flush, what, self._lease)
        return writer.rows().submit(flush, run_id, persist_s=PERSIST_S)

    @contextlib.contextmanager
    def _registered(self, running: Running) -> Iterator[None]:
        run_id = running.claimed.id
        with self._lock:
            self._running[run_id] = running
            if self._early.pop(run_id, None) is not None or self._is_stopping:
                running.cancel.request()
        try:
            yield
        finally:
            del self._running[run_id]


def _end_flush(what: End, lease: Lease, connection: Connection, run_ids: Sequence[UUID]) -> list[None]:
    ending.end(connection, what, ids=list(run_ids), node=lease.node, lease=lease.number)
    return [None] * len(run_ids)


def _is_short(running: Running, events: RunEvents) -> bool:
    """Whether nobody follows the run, who would have to be told of its end."""
    if running.claimed.streamed or events.feed.is_public:
        return False
    took_s = time.monotonic() - running.claimed_at
    if took_s < UNSEEN_S or (took_s < SHORT_S and not events.is_wanted()):
        return True
    events.want()
    return False


_executor: Executor | None = None


def install(executor: Executor) -> None:
    """Make ``executor`` the one of this process; its worker does so before it takes messages."""
    global _executor
    _executor = executor


def execute(run_id: UUID) -> None:
    """Execute ``run_id`` on this process's node.

    Raises:
        RuntimeError: this process is no worker.
    """
    if _executor is None:
        raise RuntimeError("Runs are executed by `manage.py worker` only.")
    _executor.execute(run_id)
