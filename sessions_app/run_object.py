"""The run object of the contract, made from a run's row, and the answer to whoever waited for it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

ANSWERS: Mapping[str, tuple[int, str, str, str]] = {
    "timed_out": (408, "Timeout", "TIMEOUT", "The run reached its time limit; give it a longer timeout."),
    "expired": (503, "Queue timeout", "QUEUE_TIMEOUT", "Nobody could start the run in time; try again later."),
    "sandbox_error": (500, "Sandbox error", "SANDBOX_ERROR", "The sandbox failed, not the program; try again."),
    "lost": (500, "Run lost", "RUN_LOST", "The run was lost with its node; it is not run again by itself."),
}
"""Statuses that are an error for whoever waited: HTTP status, title, code, sentence. Source: the contract's table."""

RETRY_AFTER_S = 5
"""What ``Retry-After`` says when nobody could start a run in time."""

Run = dict[str, Any]
"""The run object: what the contract calls so, as a dict in the order of its fields."""

_encode = msgspec.json.Encoder(enc_hook=str).encode
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")


@dataclass(frozen=True, slots=True)
class Finished:
    """An answer that is ready to be sent: JSON text, HTTP status, seconds for ``Retry-After``."""

    body: bytes
    http_status: int
    retry_after: int | None = None


def render(row: Mapping[str, Any], *, output: bool = True) -> dict[str, Any]:
    """The run object of a row (columns by name, ``stdout`` and ``stderr`` as bytes).

    Args:
        row: the columns of ``sessions_app_run``.
        output: whether it holds ``stdout`` and ``stderr``.
    """
    made: dict[str, Any] = {
        "run_id": str(row["id"]),
        "session_id": row["session_name"],
        "language": row["language"],
        "status": row["status"],
    }
    if output:
        made["stdout"] = decode(row["stdout"])
        made["stderr"] = decode(row["stderr"])
    made |= _figures(row)
    if row["seq"] is not None:
        made |= _of_session(row)
    made |= _circumstances(row)
    return made


def encode(run: Mapping[str, Any]) -> bytes:
    """JSON bytes of a run object; the user's ``data`` goes out as it was written."""
    return _encode(run)


def one_line(run: Mapping[str, Any]) -> str:
    """The same in ASCII and without line ends, as a ``data:`` line of a stream needs it."""
    return line(_encode(run))


def line(encoded: bytes) -> str:
    """Any JSON in ASCII and without line ends."""
    text = encoded.decode().replace("\r", " ").replace("\n", " ")
    return _NOT_ASCII.sub(_escaped, text)


def answer(run: Mapping[str, Any]) -> Finished:
    """What the caller who waited for ``run`` gets."""
    status = run["status"]
    if status not in ANSWERS:
        return Finished(_encode(run), 202 if status in ("queued", "running") else 200)
    http_status, title, code, sentence = ANSWERS[status]
    error = {"error": title, "message": run.get("message") or sentence, "code": code}
    if status != "expired":
        return Finished(_encode({**run, **error}), http_status)
    return Finished(_encode({**run, **error, "retry_after": RETRY_AFTER_S}), http_status, RETRY_AFTER_S)


def decode(content: bytes | memoryview | None) -> str:
    """Output as text: what is no UTF-8 becomes U+FFFD."""
    return bytes(content).decode("utf-8", "replace") if content else ""


def milliseconds(seconds: float | None) -> float | None:
    """Seconds as the wire's ``*_ms``: one decimal."""
    return None if seconds is None else round(seconds * 1e3, 1)


def moment(at: datetime | None) -> str | None:
    """RFC 3339 in UTC with milliseconds, ending in Z."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z") if at else None


def _figures(row: Mapping[str, Any]) -> dict[str, Any]:
    elapsed_ms = row["execution_time_ms"]
    return {
        "stdout_bytes": row["stdout_bytes"],
        "stderr_bytes": row["stderr_bytes"],
        "exit_code": row["exit_code"],
        "signal": row["signal"],
        "execution_time_ms": elapsed_ms,
        "duration": None if elapsed_ms is None else f"{elapsed_ms / 1e3:.3f}s",
        "files_modified": row["files_modified"],
        "changes": _in_order(CHANGES, row["changes"]) if row["changes"] else None,
    }


def _of_session(row: Mapping[str, Any]) -> dict[str, Any]:
    data = row["data"]
    return {
        "data": None if data is None else msgspec.Raw(data.encode()),
        "data_error": row["data_error"],
        "result": row["result"],
        "state": row["state"],
    }


def _circumstances(row: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {
        "warnings": row["warnings"],
        "truncated": {"stdout": row["stdout_truncated"], "stderr": row["stderr_truncated"]},
        "usage": _in_order(USAGE, row["usage"] or {}),
        "sandbox": row["sandbox"],
        "node": row["node"],
        "created_at": moment(row["created_at"]),
        "started_at": moment(row["started_at"]),
        "finished_at": moment(row["finished_at"]),
    }
    if row["message"]:
        made["message"] = row["message"]
    return made


USAGE = ("cpu_time_ms", "memory_peak_bytes", "wall_time_ms", "compile_time_ms", "queue_time_ms")
CHANGES = ("created", "changed", "deleted")


def _in_order(names: Sequence[str], made: Mapping[str, Any]) -> dict[str, Any]:
    """The contract's order, whatever Postgres' jsonb makes of it: an answer made again has the same bytes."""
    return {name: made.get(name) for name in names}


def _escaped(match: re.Match[str]) -> str:
    point = ord(match.group())
    if point < 0x10000:
        return f"\\u{point:04x}"
    point -= 0x10000
    return f"\\u{0xD800 + (point >> 10):04x}\\u{0xDC00 + (point & 0x3FF):04x}"
