"""From what a sandbox says to the final columns of a run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import close_old_connections

from runners.types import Changes, Kept, RunResult, Usage
from sessions_app.claiming import Claimed
from sessions_app.run_object import milliseconds
from storage_app import blobs

INLINE_BYTES = 64 << 10
"""More of a stream goes to the object store before the row is written."""
LISTED_CHANGES = 1_000
"""Source: the contract, Sessions."""


@dataclass(frozen=True, slots=True)
class SessionPart:
    """What only a session's run has: columns of the same names."""

    data: str | None = None
    data_error: str | None = None
    result: str | None = None
    state: dict[str, Any] | None = None


NO_SESSION = SessionPart()


@dataclass(frozen=True, slots=True)
class Outcome:
    """A result with what the node adds to it.

    Attributes:
        claimed_at: monotonic time of the claim, s: the row's times are by the database's clock.
        chunks: order of the two streams.
    """

    result: RunResult
    node: str
    backend: str
    claimed_at: float
    warnings: Sequence[str] = ()
    chunks: list[list[int]] | None = None
    changes: Changes | None = None
    session: SessionPart = NO_SESSION


def made(claimed: Claimed, outcome: Outcome) -> dict[str, Any]:
    """The columns of the final row by name; large output is stored on the way."""
    result = outcome.result
    elapsed = timedelta(seconds=time.monotonic() - outcome.claimed_at)
    changes = outcome.changes or result.changes
    return {
        **_given(claimed),
        "status": str(result.status),
        **_stream("stdout", result.stdout),
        **_stream("stderr", result.stderr),
        "chunks": outcome.chunks,
        "exit_code": result.exit_code,
        "signal": result.signal,
        "execution_time_ms": milliseconds(result.usage.wall_time_s),
        "usage": _usage(result.usage, claimed),
        "changes": _listed(changes) if changes else None,
        "files_modified": _count(changes) if changes else None,
        "data": outcome.session.data,
        "data_error": outcome.session.data_error,
        "result": outcome.session.result,
        "state": outcome.session.state,
        "warnings": [*outcome.warnings, *result.warnings],
        "sandbox": outcome.backend,
        "node": outcome.node,
        "finished_at": claimed.started_at + elapsed,
        "message": result.reason,
    }


def _given(claimed: Claimed) -> dict[str, Any]:
    return {
        "id": claimed.id,
        "session_name": claimed.session_name,
        "seq": claimed.seq,
        "language": claimed.language,
        "created_at": claimed.created_at,
        "started_at": claimed.started_at,
    }


def _stream(name: str, kept: Kept) -> dict[str, Any]:
    is_large = len(kept.content) > INLINE_BYTES
    return {
        name: kept.content,
        f"{name}_blob": _stored(kept.content) if is_large else None,
        f"{name}_bytes": kept.written_bytes,
        f"{name}_truncated": kept.truncated,
    }


def _stored(content: bytes) -> str:
    close_old_connections()
    return blobs.put_bytes(content).sha256


def _usage(usage: Usage, claimed: Claimed) -> dict[str, Any]:
    waited = claimed.started_at - claimed.created_at
    return {
        "cpu_time_ms": milliseconds(usage.cpu_time_s),
        "memory_peak_bytes": usage.memory_peak_bytes,
        "wall_time_ms": milliseconds(usage.wall_time_s),
        "compile_time_ms": milliseconds(usage.compile_time_s),
        "queue_time_ms": milliseconds(waited.total_seconds()),
    }


def _count(changes: Changes) -> int:
    return len(changes.created) + len(changes.changed) + len(changes.deleted)


def _listed(changes: Changes) -> dict[str, list[str]]:
    """At most :data:`LISTED_CHANGES` paths in all."""
    left, listed = LISTED_CHANGES, {}
    for kind in ("created", "changed", "deleted"):
        listed[kind] = list(getattr(changes, kind)[:left])
        left -= len(listed[kind])
    return listed
