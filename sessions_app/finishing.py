"""The end of a run: one fenced UPDATE, then the session's next run is sent, then the caller is answered."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec

from sessions_app import messages, replies, run_object
from sessions_app.connections import Connection
from sessions_app.messages import Message
from sessions_app.replies import Reply

logger = logging.getLogger(__name__)

SET = """status = v.status, finished_at = v.finished_at, exit_code = v.exit_code, signal = v.signal,
    stdout = decode(v.stdout, 'base64'), stderr = decode(v.stderr, 'base64'),
    stdout_blob = v.stdout_blob, stderr_blob = v.stderr_blob,
    stdout_bytes = v.stdout_bytes, stderr_bytes = v.stderr_bytes, stdout_truncated = v.stdout_truncated,
    stderr_truncated = v.stderr_truncated, chunks = v.chunks, execution_time_ms = v.execution_time_ms,
    usage = v.usage, changes = v.changes, files_modified = v.files_modified, data = v.data,
    data_error = v.data_error, result = v.result, state = v.state, warnings = v.warnings, sandbox = v.sandbox,
    message = v.message"""

FINISH = f"""
UPDATE sessions_app_run r SET {SET}
FROM jsonb_to_recordset(%s::jsonb) AS v(id uuid, lease bigint, status text, finished_at timestamptz,
    exit_code int, signal int, stdout text, stderr text, stdout_blob text, stderr_blob text,
    stdout_bytes bigint, stderr_bytes bigint, stdout_truncated bool, stderr_truncated bool,
    chunks jsonb, execution_time_ms float8, usage jsonb, changes jsonb, files_modified int, data text,
    data_error text, result text, state jsonb, warnings jsonb, sandbox text, message text)
WHERE r.id = v.id AND r.status = 'running' AND r.node = %s AND r.lease = v.lease
RETURNING r.id"""

NEXT = """
UPDATE sessions_app_run r SET published_at = now()
FROM sessions_app_session s
    LEFT JOIN sessions_app_node n ON n.name = s.node AND n.lease_until > now() AND NOT n.draining
WHERE s.id = r.session_id AND r.session_id = ANY(%s::bigint[]) AND r.status = 'queued' AND r.published_at IS NULL
    AND NOT EXISTS (SELECT FROM sessions_app_run e
        WHERE e.session_id = r.session_id AND e.seq < r.seq AND e.finished_at IS NULL)
RETURNING r.id, r.language, n.name"""

KEPT = ("stdout", "stderr")
NUL = b"\\u0000"
"""NUL as JSON writes it, or text that looks so."""


@dataclass(frozen=True, slots=True)
class Final:
    """A run as it ended.

    Attributes:
        row: the columns of its row by name.
        lease: number of the lease under which ``node`` had claimed it.
        reply_to: the list that its caller reads.
    """

    row: dict[str, Any]
    node: str
    lease: int
    reply_to: str | None

    @property
    def id(self) -> UUID:
        """The run's."""
        return self.row["id"]  # type: ignore[no-any-return]

    def run(self, *, output: bool = True) -> run_object.Run:
        """The run object, with or without what the program wrote."""
        return run_object.render(self.row, output=output)


def finish(connection: Connection, finals: Sequence[Final]) -> Sequence[bool]:
    """A flush of the writer for runs that no stream follows: final rows, then the replies.

    Returns:
        For each whether it counts; False where the run had been ended by somebody else.
    """
    done = write(connection, finals)
    reply([final for final in finals if final.id in done])
    return [final.id in done for final in finals]


def finish_quietly(connection: Connection, finals: Sequence[Final]) -> Sequence[bool]:
    """The same without the replies: its thread sends the last event first."""
    done = write(connection, finals)
    return [final.id in done for final in finals]


def write(connection: Connection, finals: Sequence[Final]) -> set[UUID]:
    """Write final rows where the lease still holds; ids of those that count."""
    return {run_id for (run_id,) in connection.execute(FINISH, parameters(finals)).fetchall()}


def parameters(finals: Sequence[Final]) -> tuple[Any, ...]:
    """What :data:`FINISH` takes; all of ``finals`` are of one node."""
    return _plain(finals), finals[0].node


def reply(finals: Iterable[Final]) -> None:
    """Answer the callers of final runs."""
    answers = [Reply(final.reply_to, final.id, _answer(final)) for final in finals if final.reply_to]
    if answers:
        replies.send(answers)


def _answer(final: Final) -> run_object.Finished | None:
    """What goes out as a reply; None where it would be too large for one."""
    size = sum(len(final.row[stream]) for stream in KEPT)
    return None if size > replies.LARGEST_REPLY_BYTES else run_object.answer(final.run())


def publish_next(connection: Connection, session_ids: Sequence[int]) -> None:
    """Send the runs whose turn has come. A broker that is away is no error here: the reaper sends them again."""
    send_next(connection.execute(NEXT, (array(session_ids),)).fetchall())


def send_next(found: Iterable[tuple[Any, ...]]) -> None:
    """Send the runs that :data:`NEXT` found."""
    send([Message(str(run_id), messages.queue_of(language, node)) for run_id, language, node in found])


def array(numbers: Iterable[int]) -> str:
    """``numbers`` as a parameter; the driver is slow at arrays."""
    return f"{{{','.join(map(str, numbers))}}}"


def send(heads: Sequence[Message]) -> None:
    """Publish ``heads``; what cannot be sent now is left to the reaper."""
    try:
        if heads:
            messages.publish(heads)
    except messages.PUBLISH_ERRORS as error:
        logger.warning("The broker did not answer: %s", error, extra={"action": "publish_failed"})


def _plain(finals: Sequence[Final]) -> str:
    """The rows as JSON, output in base64, without NUL, which Postgres' texts refuse."""
    rows = [{**final.row, **_inline(final.row), "lease": final.lease} for final in finals]
    encoded = msgspec.json.encode(rows)
    return (msgspec.json.encode(_clean(rows)) if NUL in encoded else encoded).decode()


def _inline(row: Mapping[str, Any]) -> dict[str, bytes | None]:
    """What of the streams lies in the row itself."""
    return {stream: None if row[f"{stream}_blob"] else row[stream] for stream in KEPT}


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "\ufffd") if "\0" in value else value
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(item) for item in value]
    return value
