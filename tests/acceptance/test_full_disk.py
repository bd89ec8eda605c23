"""A server whose disk is full says so at every door, loses nothing, and is well again once there is room."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import os
import signal
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests import faults, stack
from tests.servers import Answer, Launch, Server, running
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.xdist_group("serving"),
    pytest.mark.skipif(os.geteuid() != 0, reason="a disk of its own is mounted for the server"),
]

MOUNT = 'mount -t tmpfs -o size=256m,mode=755 era-full "$1" && shift && exec "$@"'
TOO_MUCH = 600_000
"""Bytes of which no part fits into the pages that Postgres has already."""
SECRET = "only-for-the-owners-eyes"
ATTEMPTS = 60
"""So many small rows and messages need more than those pages."""
LOG_MIB = 64
"""More than all segments of a fresh database's log."""
SETTLED_S = 120.0
LONG = "import time\nprint('before', flush=True)\ntime.sleep(5)\nprint('after')"


@pytest.fixture
def server() -> Iterator[Server]:
    state = stack.current.base / f"full-{stack.current.name}"
    state.mkdir()
    by = ("unshare", "--mount", "sh", "-c", MOUNT, "sh", str(state))
    env = {"ERA_RUNTIMES_DIR": str(stack.current.runtimes.parent)}
    with running(env, state=state, launch=Launch(by=by)) as started:
        yield dataclasses.replace(started, state=Path(f"/proc/{started.process.pid}/root{state}"))


def test_full_disk(server: Server) -> None:
    assert server.post("/api/sessions", {"language": "python", "session_id": "full"}).status == 201
    assert server.request("PUT", "/api/sessions/full/files/a", b"old").status == 200
    with ThreadPoolExecutor(1) as pool:
        long = pool.submit(server.post, "/api/execute", {"language": "python", "code": LONG})
        wait_until(lambda: server.get("/api/runs?status=running").json["count"], SETTLED_S, "the long run goes on")
        fill(server.state)
        for door in DOORS.values():
            assert_full(door(server))
        assert SECRET not in (server.state / "log/postgres.log").read_text()
        assert server.get("/api/sessions/full/files/a").body == b"old"
        marks = [uuid.uuid4().hex for _ in range(ATTEMPTS)]
        answers = {mark: start(server, mark) for mark in marks}
        assert_full(server.get("/health"))
        exhaust_log(server)
        fill(server.state)
        wait_until(lambda: server.get("/health").json["checks"]["postgres"] == "down", SETTLED_S, "Postgres is down")
        for answer in (server.get("/health"), server.get("/api/sessions"), *(door(server) for door in DOORS.values())):
            assert_full(answer)
        faults.end(faults.living(server, "valkey"), signal.SIGKILL)
        wait_until(lambda: "valkey ended, it starts again" in server.said(), SETTLED_S, "the server has noticed")
        make_room(server.state)
        wait_until(lambda: server.get("/health").status == 200, SETTLED_S, "the server is healthy")
        assert long.result(SETTLED_S).json["stdout"] == "before\nafter\n"
    assert_all_told(server, answers)
    assert server.get("/api/sessions/full/files/a").body == b"old"
    assert server.request("PUT", "/api/sessions/full/files/a", b"new").status == 200
    assert server.post("/api/sessions/full/run", {"code": "print(open('a').read())"}).json["stdout"] == "new\n"


def fill(state: Path) -> None:
    """Leave nothing of the disk."""
    with contextlib.suppress(OSError), (state / "objects" / f"fill-{uuid.uuid4().hex}").open("wb", 0) as file:
        while True:
            file.write(bytes(1 << 20))
    with contextlib.suppress(OSError), (state / "objects" / f"fill-{uuid.uuid4().hex}").open("wb", 0) as file:
        while True:
            file.write(bytes(1 << 12))


def make_room(state: Path) -> None:
    """Undo :func:`fill`."""
    for file in (state / "objects").glob("fill-*"):
        file.unlink()


def exhaust_log(server: Server) -> None:
    """Have Postgres write its log until it dies of it."""
    statements = "SELECT pg_logical_emit_message(false, 'full', repeat('x', 1 << 20));" * LOG_MIB
    with faults.database(server) as connection, pytest.raises(psycopg.OperationalError):
        connection.execute(statements.encode())


def _much() -> str:
    return f"{SECRET} {base64.b64encode(os.urandom(TOO_MUCH)).decode()}"


DOORS: dict[str, Callable[[Server], Answer]] = {
    "a one-shot": lambda server: server.post(
        "/api/execute", {"language": "python", "code": "print(1)", "stdin": _much()}
    ),
    "a stream": lambda server: server.post(
        "/api/execute/stream", {"language": "python", "code": "print(1)", "stdin": _much()}
    ),
    "a session's run": lambda server: server.post("/api/sessions/full/run", {"code": "print(1)", "stdin": _much()}),
    "a session's data": lambda server: server.request("PATCH", "/api/sessions/full", {"data": {"much": _much()}}),
    "stored code": lambda server: server.request("PUT", "/api/sessions/full/code", {"code": f"# {_much()}"}),
    "a file": lambda server: server.request("PUT", "/api/sessions/full/files/a", b"newer"),
}


def start(server: Server, mark: str) -> Answer:
    """Have a program run that prints ``mark``."""
    return server.post("/api/execute", {"language": "python", "code": f"print('{mark}')", "wait": False})


def assert_full(answer: Answer) -> None:
    """That the caller is told that the disk is full."""
    assert (answer.status, answer.json["code"]) == (503, "DISK_FULL"), answer.body


def assert_all_told(server: Server, answers: dict[str, Answer]) -> None:
    """Runs that were taken have ended, those that were refused have not run."""
    taken = {mark for mark, answer in answers.items() if answer.status == 202}
    for mark in answers.keys() - taken:
        assert_full(answers[mark])
    assert len(taken) < ATTEMPTS
    for mark in taken:
        run_id = answers[mark].json["run_id"]
        wait_until(lambda run_id=run_id: _run(server, run_id)["finished_at"], SETTLED_S, "a run has ended")  # type: ignore[misc]
    listed = [_run(server, run["run_id"]) for run in server.get("/api/runs?limit=1000").json["runs"]]
    assert {run["stdout"].strip() for run in listed} - {"", "before\nafter"} <= taken, json.dumps(listed, indent=1)


def _run(server: Server, run_id: str) -> dict[str, Any]:
    found: dict[str, Any] = server.get(f"/api/runs/{run_id}").json
    return found
