"""The run object and the answers."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessions_app import run_object

AT = datetime(2026, 1, 2, 3, 4, 5, 678_999, tzinfo=UTC)


def row(**more: Any) -> dict[str, Any]:
    """A finished one-shot's row."""
    names = ("seq", "signal", "execution_time_ms", "files_modified", "changes", "data", "data_error", "result", "state")
    nothing = dict.fromkeys((*names, "usage", "sandbox", "node", "message"))
    given: dict[str, Any] = {
        "id": uuid.UUID(int=1),
        "session_name": "s",
        "language": "python",
        "status": "succeeded",
        "stdout": b"",
        "stderr": b"",
        "stdout_bytes": 0,
        "stderr_bytes": 0,
        "exit_code": 0,
        "warnings": [],
        "stdout_truncated": False,
        "stderr_truncated": False,
        "created_at": AT,
        "started_at": AT,
        "finished_at": AT,
    }
    return nothing | given | more


def test_figures_are_shown_as_the_contract_writes_them() -> None:
    run = run_object.render(row(execution_time_ms=123.4))
    assert (run["execution_time_ms"], run["duration"]) == (123.4, "0.123s")
    assert run["created_at"] == "2026-01-02T03:04:05.678Z"
    assert set(run["usage"].values()) == {None}


def test_data_result_and_state_are_in_sessions_only() -> None:
    assert "data" not in run_object.render(row())
    run = run_object.render(row(seq=1, data='{"a": 1.10}', state={"status": "fresh", "lost": []}))
    assert b'"data":{"a": 1.10}' in run_object.encode(run)
    assert run["data_error"] is None


def test_output_is_left_out_where_it_is_not_wanted() -> None:
    assert "stdout" not in run_object.render(row(), output=False)


@pytest.mark.parametrize(
    ("status", "http", "code"),
    [
        ("queued", 202, None),
        ("running", 202, None),
        ("succeeded", 200, None),
        ("failed", 200, None),
        ("compile_error", 200, None),
        ("out_of_memory", 200, None),
        ("output_limit", 200, None),
        ("cancelled", 200, None),
        ("timed_out", 408, "TIMEOUT"),
        ("expired", 503, "QUEUE_TIMEOUT"),
        ("sandbox_error", 500, "SANDBOX_ERROR"),
        ("lost", 500, "RUN_LOST"),
    ],
)
def test_each_status_has_its_answer(status: str, http: int, code: str | None) -> None:
    answer = run_object.answer(run_object.render(row(status=status)))
    body = json.loads(answer.body)
    assert answer.http_status == http
    assert body["status"] == status
    if code:
        assert body["code"] == code
        assert body["error"]
        assert body["message"].endswith(".")
    else:
        assert "code" not in body
    assert (answer.retry_after is not None) == (status == "expired")


def test_the_rows_own_words_are_told_to_the_caller() -> None:
    body = json.loads(run_object.answer(run_object.render(row(status="lost", message="The node died."))).body)
    assert body["message"] == "The node died."


@given(st.text(), st.dictionaries(st.text(), st.text()))
def test_one_line_is_ascii_and_means_the_same(text: str, data: dict[str, str]) -> None:
    shown = json.dumps(data, ensure_ascii=False, indent=1)
    encodable = text.encode("utf-8", "replace").decode()
    run = run_object.render(row(seq=1, stdout=encodable.encode(), data=shown.encode("utf-8", "replace").decode()))
    line = run_object.one_line(run)
    assert line.isascii()
    assert "\n" not in line
    assert "\r" not in line
    assert json.loads(line)["stdout"] == encodable


@given(st.binary())
def test_any_bytes_become_text(content: bytes) -> None:
    assert run_object.decode(content) == content.decode("utf-8", "replace")
