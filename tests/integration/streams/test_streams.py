"""Streams over HTTP: frames, headers, order, resuming, and what becomes of a run whose readers leave."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.integration.streams.clients import frames, reading, run_id, text
from tests.servers import Server
from tests.waiting import wait_until

MIXED = "import sys\nfor i in range(3):\n    print('é', i)\n    sys.stderr.write(f'e{i}\\n')"
TICKING = "import time\nfor i in range({count}):\n    print('tick', i, '\\U0001f600')\n    time.sleep(0.05)"


def program(code: str, **fields: Any) -> dict[str, Any]:
    return {"language": "python", "code": code, **fields}


def status(server: Server, run: str) -> str:
    return str(server.get(f"/api/runs/{run}").json["status"])


def test_a_stream_has_the_contracts_headers_and_frames(server: Server) -> None:
    answer = server.post("/api/execute/stream", program(MIXED))
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["cache-control"] == "no-cache, no-transform"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["location"] == f"/api/runs/{run_id(answer)}"
    got = frames(answer.body)
    assert text(got) == "é 0\né 1\né 2\n"
    assert text(got, "stderr") == "e0\ne1\ne2\n"
    assert [event.type for event in got].count("done") == 1
    done = got[-1]
    assert done.type == "done"
    assert done.id == len("é 0\né 1\né 2\ne0\ne1\ne2\n".encode())
    whole = server.get(f"/api/runs/{run_id(answer)}").json
    assert {**done.data, "stdout": whole["stdout"], "stderr": whole["stderr"]} == {"type": "done", **whole}


def test_a_flood_is_complete_and_every_offset_resumes_exactly(server: Server) -> None:
    answer = server.post("/api/execute/stream", program("for i in range(200_000): print('line', i, 'é')", timeout=90))
    got = frames(answer.body)
    whole = "".join(f"line {i} é\n" for i in range(200_000))
    assert text(got) == whole
    path = f"/api/runs/{run_id(answer)}/events"
    for event in (got[0], got[len(got) // 3], got[-2], got[-1]):
        rest = frames(server.get(path, **{"Last-Event-ID": str(event.id)}).body)
        assert text(rest) == whole.encode()[event.id :].decode()
        assert rest[-1] == got[-1]


def test_a_reader_that_leaves_and_resumes_gets_exactly_the_rest(server: Server) -> None:
    wanted = "".join(f"tick {i} \U0001f600\n" for i in range(60))
    seen, at, run = "", 0, ""
    for _ in range(3):
        method, path = ("GET", f"/api/runs/{run}/events") if run else ("POST", "/api/execute/stream")
        body = None if run else program(TICKING.format(count=60))
        with reading(server, method, path, body, {"Last-Event-ID": str(at)} if run else {}) as reader:
            run = reader.headers["x-run-id"]
            for _ in range(4):
                event = reader.next()
                seen, at = seen + event.data["content"], event.id
    rest = frames(server.get(f"/api/runs/{run}/events", **{"Last-Event-ID": str(at)}).body)
    assert seen + text(rest) == wanted
    assert rest[-1].data["status"] == "succeeded"


def test_followers_of_a_plain_run_get_its_events(server: Server) -> None:
    started = server.post("/api/execute", program(TICKING.format(count=40), wait=False))
    assert started.status == 202
    assert started.json["status"] == "queued"
    got = frames(server.get(f"/api/runs/{started.json['run_id']}/events").body)
    assert text(got).count("tick") == 40
    assert len(got) > 2


def test_a_session_streams_its_runs_and_ends_with_its_result(server: Server) -> None:
    session = f"stream-{uuid.uuid4().hex}"
    assert server.post("/api/sessions", {"language": "python", "session_id": session}).status == 201
    answer = server.post(f"/api/sessions/{session}/stream", {"code": "x = 20\nprint('hi')\nx + 1"})
    got = frames(answer.body)
    assert text(got) == "hi\n"
    assert got[-1].data["result"] == "21"
    assert got[-1].data["session_id"] == session


@pytest.mark.parametrize(
    ("code", "fields", "expected"),
    [
        ("import time; print('a'); time.sleep(60)", {"timeout": 3}, ("timed_out", 124)),
        ("print('a'); raise SystemExit(3)", {}, ("failed", 3)),
    ],
)
def test_whatever_was_started_ends_with_done(
    server: Server, code: str, fields: dict[str, Any], expected: tuple[str, int]
) -> None:
    got = frames(server.post("/api/execute/stream", program(code, **fields)).body)
    assert [event.type for event in got] == ["stdout", "done"]
    assert (got[-1].data["status"], got[-1].data["exit_code"]) == expected


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/api/execute/stream", {"language": "cobol", "code": ""}, (400, "INVALID_INPUT")),
        ("/api/execute/stream", {"language": "python", "code": "", "wait": False}, (400, "INVALID_INPUT")),
        ("/api/sessions/no-such-session/stream", {"code": "1"}, (404, "NOT_FOUND")),
    ],
)
def test_faults_before_the_first_byte_are_plain_errors(
    server: Server, path: str, body: dict[str, Any], expected: tuple[int, str]
) -> None:
    answer = server.post(path, body)
    assert (answer.status, answer.json["code"]) == expected
    assert answer.headers["content-type"] == "application/json"


def test_events_of_no_run_and_bad_offsets_are_refused(server: Server) -> None:
    assert server.get(f"/api/runs/{uuid.uuid4()}/events").status == 404
    assert server.get("/api/runs/none/events").status == 404
    started = server.post("/api/execute", program("print(1)")).json["run_id"]
    for bad in ("x", "-1", "1.5", "9" * 30):
        assert server.get(f"/api/runs/{started}/events", **{"Last-Event-ID": bad}).status == 400
    beyond = frames(server.get(f"/api/runs/{started}/events", **{"Last-Event-ID": "1000"}).body)
    assert [event.type for event in beyond] == ["done"]


def test_only_streams_that_everybody_left_are_cancelled(server: Server) -> None:
    endless = TICKING.format(count=100_000)
    left: list[str] = []
    for fields in ({}, {"on_disconnect": "detach"}, {}):
        with reading(server, "POST", "/api/execute/stream", program(endless, timeout=300, **fields)) as reader:
            reader.next()
            left.append(reader.headers["x-run-id"])
    abandoned, detached, followed = left
    with reading(server, "GET", f"/api/runs/{followed}/events") as reader:
        reader.next()
        wait_until(lambda: status(server, abandoned) == "cancelled", 60, "the abandoned run is cancelled")
        assert status(server, detached) == "running"
        assert status(server, followed) == "running"
        for run in (detached, followed):
            assert server.delete(f"/api/runs/{run}").json["status"] == "cancelled"
    got = frames(server.get(f"/api/runs/{abandoned}/events").body)
    assert got[-1].data["status"] == "cancelled"
