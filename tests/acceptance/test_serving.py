"""The life of a server as a person at a terminal sees it: start, join, crash, end, and nothing left."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from era_project.serve import control_groups, place
from era_project.serve.records import Identity
from tests import stack
from tests.servers import Launch, Server, free_port, running
from tests.waiting import wait_until

# One after the other on one worker: each starts a whole server.
pytestmark = pytest.mark.xdist_group("serving")

LONG_S = 60.0
HELLO = {"language": "python", "code": "print(6 * 7)"}


@pytest.fixture
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A short path that the server's uids cannot walk to: its parent is 0700."""
    parent = stack.current.base / f"private-{stack.current.name}"
    parent.mkdir(mode=0o700, exist_ok=True)
    folder = parent / f"s{len(list(parent.iterdir()))}"
    yield folder
    assert _leftovers(folder) == []


@pytest.fixture
def env() -> dict[str, str]:
    return {"ERA_RUNTIMES_DIR": str(stack.current.runtimes.parent)}


def _noted(state: Path) -> dict[str, Identity]:
    stored = json.loads((state / "pids.json").read_text())
    return {name: Identity(**value) for name, value in stored.items()}


def _leftovers(state: Path) -> list[str]:
    """What is still there of a server: control groups, and mounts in the namespace of the tests."""
    group = f"era-{place.name_of(state)}"
    mounts = [line for line in Path("/proc/self/mounts").read_text().splitlines() if place.name_of(state) in line]
    return [str(folder) for folder in control_groups.folders(group)] + mounts


def _wait_gone(processes: dict[str, Identity]) -> None:
    def gone() -> bool:
        return not any(process.is_alive for process in processes.values())

    wait_until(gone, LONG_S, "every part ends")


def _wait_started_again(state: Path, name: str, before: Identity) -> None:
    wait_until(lambda: _noted(state)[name] != before, LONG_S, f"{name} starts again")


def _says_42(server: Server) -> bool:
    answer = server.post("/api/execute", HELLO)
    return answer.status == 200 and answer.json["stdout"] == "42\n"


def test_start_join_and_end(state: Path, env: dict[str, str]) -> None:
    first = Server.start(env, state=state)
    try:
        assert first.get("/health").json["status"] == "healthy"
        answer = first.post("/api/execute", HELLO).json
        assert (answer["stdout"], answer["sandbox"]) == ("42\n", "slot")
        assert "password in" in first.said()
        assert (state / "admin-password").stat().st_mode & 0o777 == 0o600

        again = Server.start(env, state=state, port=first.port, wait=False)
        assert again.wait_end() == 0
        assert f"runs already at http://localhost:{first.port}" in again.said()

        alone = Server.start(env, state=state)
        assert _says_42(alone)
        assert alone.stop() == 0
        assert _says_42(first)

        second = Server.start(env, state=state)
        assert _says_42(second)
        parts = _noted(state)
        assert first.stop(signal.SIGINT) == 0
        assert second.wait_end() == 0
        _wait_gone(parts)
    finally:
        first.stop()


def test_a_killed_server_leaves_nothing_and_its_state_lives_on(state: Path, env: dict[str, str]) -> None:
    first = Server.start(env, state=state)
    made = first.post("/api/sessions", {"language": "python", "session_id": "kept"})
    assert made.status == 201, made.body
    assert _says_42(first)
    parts = _noted(state)
    first.process.kill()
    first.process.wait()
    with running(env, state=state) as second:
        _wait_gone(parts)
        assert second.get("/api/sessions/kept").status == 200
        assert _says_42(second)


def test_crashed_parts_come_back_and_the_end_of_web_ends_all(state: Path, env: dict[str, str]) -> None:
    with running(env, state=state) as server:
        before = _noted(state)
        for name in ("web", "worker", "valkey", "postgres"):
            os.kill(before[name].pid, signal.SIGKILL)
            _wait_started_again(state, name, before[name])
            wait_until(lambda: server.get("/health").status == 200, LONG_S, f"the server is well after {name} crashed")
        wait_until(lambda: _says_42(server), LONG_S, "runs work again")
        parts = _noted(state)
        os.kill(parts["web"].pid, signal.SIGTERM)
        assert server.wait_end() == 0
        _wait_gone(parts)


def test_a_taken_port_is_named_before_anything_is_made(state: Path, env: dict[str, str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        server = Server.start(env, state=state, port=other.getsockname()[1], wait=False)
        assert server.wait_end() == 1
        assert f"taken by process {os.getpid()}" in server.said()
        assert not state.exists()


@pytest.mark.parametrize(
    ("name", "value", "code"), [("ERA_HOST", "0.0.0.0", 1), ("ERA_MAX_CPU", "many", 2), ("ERA_SLOTS", "never", 2)]
)
def test_a_wrong_setting_is_one_sentence(state: Path, env: dict[str, str], name: str, value: str, code: int) -> None:
    server = Server.start({**env, name: value}, state=state, wait=False)
    assert server.wait_end() == code
    said = server.said().strip()
    assert said.startswith("era: ")
    assert name in said
    assert "\n" not in said


@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests are an ordinary user's already")
def test_an_ordinary_user_needs_no_root(env: dict[str, str]) -> None:
    own = stack.current
    home = own.base / f"home-{own.name}"
    home.mkdir(mode=0o700)
    os.chown(home, own.tester_uid, own.tester_uid)
    launch = Launch(python=own.python, code=own.code, uid=own.tester_uid)
    # A path that is too long for a socket: the server finds a short one.
    state = home / ("long-" * 20) / "state"
    log_parent = state.parent
    log_parent.mkdir()
    os.chown(log_parent, own.tester_uid, own.tester_uid)
    programs = {
        "python": "print(6 * 7)",
        "node": "console.log(6 * 7)",
        "typescript": "const n: number = 42; console.log(n)",
        "deno": "console.log(6 * 7)",
        "go": 'package main\nimport "fmt"\nfunc main() { fmt.Println(6 * 7) }\n',
    }
    with running({**env, "HOME": str(home)}, state=state, launch=launch) as server:
        assert server.get("/health").json["sandbox"]["mode"] in ("sub", "one")
        for language, code in programs.items():
            answer = server.post("/api/execute", {"language": language, "code": code}).json
            assert (answer["stdout"], answer["sandbox"]) == ("42\n", "slot"), answer
    wait_until(lambda: not _processes_of(own.tester_uid), LONG_S, "no process of the user is left")


def _processes_of(uid: int) -> list[str]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if folder.stat().st_uid == uid:
                found.append((folder / "cmdline").read_text())
        except OSError:
            continue
    return found


def test_free_ports_differ() -> None:
    assert len({free_port() for _ in range(20)}) == 20
