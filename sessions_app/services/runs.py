"""Runs: start, look at, list, cancel. Every door starts runs here and nowhere else."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from uuid import UUID

from era_project import full_disk
from era_project.conf import get as conf
from era_project.errors import EraError
from sessions_app import queueing, replies, sealing, writer
from sessions_app.queueing import NewRow
from sessions_app.run_object import Finished
from sessions_app.sealing import Inputs
from sessions_app.services.run_lookup import get, list_
from sessions_app.services.run_stopping import cancel, end_of_sessions

TAKE_BACK_S = 120.0
"""How long that is tried while Postgres is away."""

__all__ = ["Finished", "NewRun", "Started", "cancel", "end_of_sessions", "get", "list_", "start", "uuid7", "withdraw"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """A run to be started; everything is checked already.

    Attributes:
        language: canonical name; in a session the session's own is taken.
        code: None: the session's stored code.
        session: its name; None: a one-shot.
        update_data: text of a JSON object, merged into the session's data when the run is claimed.
        timeout_s: wall time; None: the session's default, else the server's.
        queue_timeout_s: how long it waits to be started; None: the server's default.
        streamed: whether its events are wanted live.
        interactive: whether input comes while it runs (one-shots only).
        tty: columns and rows of the terminal that an interactive run gets; None: pipes.
        detached: whether it goes on without its caller.
        wait: whether an answer is sent; without, only ``accepted`` of what :func:`start` gives is ever done.
        webhook: address that the run object is sent to at the end.
        run_id: an id chosen ahead by :func:`uuid7`; starting the same id twice makes one run.
    """

    owner_id: int
    language: str = ""
    code: str | None = None
    session: str | None = None
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    stdin: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict)
    update_data: str | None = None
    timeout_s: float | None = None
    queue_timeout_s: float | None = None
    cpu_count: float | None = None
    memory_mib: int | None = None
    streamed: bool = False
    interactive: bool = False
    tty: tuple[int, int] | None = None
    detached: bool = False
    wait: bool = True
    webhook: str | None = None
    run_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """A run on its way.

    Attributes:
        run_id: its id, good for :func:`get` once ``accepted`` is done.
        session_id: the session's name, or the one made up for a one-shot.
        accepted: done when its row is committed and its message sent; else NotFound, InvalidInput (``NO_CODE``),
            LimitExceeded (``QUEUE_FULL``) or Unavailable.
        finished: the answer; fails as ``accepted`` does.
    """

    run_id: str
    session_id: str
    accepted: Future[None]
    finished: Future[Finished]


def start(new: NewRun) -> Started:
    """Queue a run; returns at once."""
    run_id = new.run_id or uuid7()
    mine = replies.mine()
    finished: Future[Finished] = mine.expect(run_id) if new.wait else Future()
    row = _row(new, run_id, reply_to=mine.key if new.wait else None)
    if new.session is None:
        order = writer.rows().submit(queueing.one_shots, row)
    else:
        order = writer.sessions().submit(queueing.in_sessions, row)
    accepted: Future[None] = Future()
    order.add_done_callback(lambda done: _settle(done, run_id, accepted, is_keyed=new.run_id is not None))
    return Started(str(run_id), row.session_name, accepted, finished)


def withdraw(started: Started) -> None:
    """Give up a run that is not accepted yet: once its row is there it is ended, not sent."""
    run_id = UUID(started.run_id)
    queueing.withdraw(run_id)
    started.accepted.add_done_callback(lambda _: queueing.settled(run_id))


def _row(new: NewRun, run_id: UUID, *, reply_to: str | None) -> NewRow:
    settings = conf()
    inputs = Inputs(new.args, new.env, new.stdin, new.files, new.update_data, new.interactive, new.tty)
    is_own = new.session is None
    return NewRow(
        id=run_id,
        owner_id=new.owner_id,
        session_name=new.session or secrets.token_hex(16),
        language=new.language,
        code=new.code,
        request=sealing.seal(inputs, run_id=run_id.bytes),
        timeout_s=new.timeout_s or (settings.default_timeout_s if is_own else None),
        cpu_count=new.cpu_count or (settings.default_cpu if is_own else None),
        memory_mib=new.memory_mib or (settings.default_memory_mib if is_own else None),
        streamed=new.streamed,
        interactive=new.interactive,
        detached=new.detached,
        webhook=new.webhook,
        reply_to=reply_to,
        queue_timeout_s=new.queue_timeout_s or settings.queue_timeout_s,
    )


def _settle(order: Future[None], run_id: UUID, accepted: Future[None], *, is_keyed: bool) -> None:
    """In the writer's thread: tell both futures what became of the row.

    A row that may stand although Postgres did not say so is taken back; under a key the next call gets its end instead.
    """
    refusal = order.exception()
    if refusal is None:
        replies.mine().accepted(run_id)
        accepted.set_result(None)
        return
    if not isinstance(refusal, EraError):
        fault, refusal = refusal, full_disk.unavailable("database", refusal)
        refusal.__cause__ = fault
        if not is_keyed:
            writer.rows().submit(queueing.take_back, run_id, persist_s=TAKE_BACK_S)
    replies.mine().fail(run_id, refusal)
    accepted.set_exception(refusal)


def uuid7() -> UUID:
    """An id that sorts by the time at which it was made. Source: RFC 9562, 5.7."""
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10), "big")
    high, low = random >> 68, random & ((1 << 62) - 1)
    return UUID(int=milliseconds << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low)
