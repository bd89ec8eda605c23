"""A store that stands still hangs nobody: callers are told, and what they were refused never happens."""

from __future__ import annotations

import contextlib
import os
import signal
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests import faults, stack
from tests.processes import children
from tests.servers import Server, running
from tests.waiting import wait_until

pytestmark = pytest.mark.xdist_group("serving")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    state = stack.current.base / f"still-{stack.current.name}"
    with running({"ERA_RUNTIMES_DIR": str(stack.current.runtimes.parent)}, state=state) as started:
        yield started


@contextlib.contextmanager
def paused(server: Server, part: str) -> Iterator[None]:
    """A part with all of its processes stands still inside the block."""
    pid = faults.living(server, part).pid
    stopped: list[int] = []
    try:
        for one in (pid, *children(pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGSTOP)
                stopped.append(one)
        yield
    finally:
        for one in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGCONT)


def test_a_key_is_good_again_when_its_run_could_not_be_sent(server: Server) -> None:
    mark = uuid.uuid4().hex
    body, key = {"language": "python", "code": f"print('{mark}')"}, {"Idempotency-Key": mark}
    with paused(server, "valkey"):
        refused = server.request("POST", "/api/execute", body, key)
    assert (refused.status, refused.json["code"]) == (503, "UNAVAILABLE")
    answer = server.request("POST", "/api/execute", body, key)
    assert (answer.status, answer.json["stdout"]) == (200, f"{mark}\n")
    assert server.request("POST", "/api/execute", body, key).body == answer.body
    first = server.get(f"/api/runs/{refused.json['run_id']}").json
    assert (first["status"], first["stdout"]) == ("expired", "")


def test_nothing_hangs_while_the_database_stands_still(server: Server) -> None:
    mark, name = uuid.uuid4().hex, f"still-{uuid.uuid4().hex}"
    assert server.post("/api/sessions", {"language": "python", "session_id": name}).status == 201
    asked = (
        ("POST", "/api/execute", {"language": "python", "code": f"print('{mark}')"}),
        ("POST", f"/api/sessions/{name}/run", {"code": f"print('{mark}')"}),
        ("PUT", f"/api/sessions/{name}/files/a", b"new"),
        ("PUT", f"/api/sessions/{name}/code", {"code": "1"}),
        *[("GET", f"/api/sessions/{name}", None)] * 8,
    )
    for method, path, body in asked[2:]:  # each thread has a connection now
        assert server.request(method, path, body).status == 200
    with paused(server, "postgres"), ThreadPoolExecutor(len(asked)) as pool:
        answers = list(pool.map(lambda one: server.request(*one), asked))
        assert server.get("/health").json["checks"]["postgres"] == "down"
    assert {(answer.status, answer.json["code"]) for answer in answers} == {(503, "UNAVAILABLE")}
    wait_until(lambda: server.get("/health").json["status"] == "healthy", 60, "the server is healthy")
    assert server.post(f"/api/sessions/{name}/run", {"code": "1"}).status == 200
    printed = [server.get(f"/api/runs/{run['run_id']}").json for run in server.get("/api/runs?limit=20").json["runs"]]
    assert all(mark not in run["stdout"] for run in printed)


def test_a_session_is_deleted_while_the_broker_stands_still(server: Server) -> None:
    name = f"gone-{uuid.uuid4().hex}"
    assert server.post("/api/sessions", {"language": "python", "session_id": name}).status == 201
    assert server.post(f"/api/sessions/{name}/run", {"code": "1"}).json["state"]["status"] == "fresh"  # it lives on
    slow = {"code": "import time\ntime.sleep(90)"}
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(server.post, f"/api/sessions/{name}/run", slow)
        path = f"/api/runs?session_id={name}&status=running"
        wait_until(lambda: server.get(path).json["count"], 60, "the run goes on")
        with paused(server, "valkey"):
            assert server.delete(f"/api/sessions/{name}").status == 200
        assert server.get(f"/api/sessions/{name}").status == 404
        assert waiting.result().json["status"] == "cancelled"
