"""The life of a server as a person at a terminal sees it: start, join, crash, end, and nothing left."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from era_project.serve import control_groups, place
from era_project.serve.records import Identity
from tests import stack
from tests.servers import READY_WITHIN_S, ROOT, Launch, Server, free_port, running
from tests.waiting import wait_until

# One after the other on one worker: each starts a whole server.
pytestmark = pytest.mark.xdist_group("serving")

LONG_S = 60.0
PR_SET_CHILD_SUBREAPER = 36
"""Source: linux/prctl.h."""
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


def test_three_at_once_and_one_end(state: Path, env: dict[str, str]) -> None:
    servers = [Server.start(env, state=state, wait=False) for _ in range(3)]
    try:
        for server in servers:
            server.wait_ready()
        (owner,) = (server for server in servers if "Admin: " in server.said())
        joined, alone = (server for server in servers if server is not owner)
        assert all(server.get("/health").json["status"] == "healthy" for server in servers)
        answer = joined.post("/api/execute", HELLO).json
        assert (answer["stdout"], answer["sandbox"]) == ("42\n", "slot")
        assert (state / "admin-password").stat().st_mode & 0o777 == 0o600

        again = Server.start(env, state=state, port=owner.port, wait=False)
        assert again.wait_end() == 0
        assert f"runs already at http://localhost:{owner.port}" in again.said()

        assert alone.stop() == 0
        assert _says_42(joined)
        parts = _noted(state)
        assert owner.stop(signal.SIGINT) == 0
        assert joined.wait_end() == 0
        _wait_gone(parts)
    finally:
        for server in servers:
            server.stop()


def test_a_stopping_web_process_answers_its_callers_and_cancels_nothing(state: Path, env: dict[str, str]) -> None:
    slow = {"language": "python", "code": "import time\ntime.sleep(8)\nprint('done')"}
    with running(env, state=state) as owner, ThreadPoolExecutor(2) as pool:
        joined = Server.start(env, state=state)
        keys: list[dict[str, str]] = [{}, {"Idempotency-Key": "stopping"}]
        waiting = [pool.submit(joined.request, "POST", "/api/execute", slow, key) for key in keys]
        wait_until(lambda: owner.get("/api/runs?status=running").json["count"] == 2, LONG_S, "both runs go on")
        assert joined.stop() == 0
        answers = [one.result() for one in waiting]
        assert [(answer.status, answer.json["code"]) for answer in answers] == [(503, "UNAVAILABLE")] * 2
        again = owner.request("POST", "/api/execute", slow, keys[1])
        assert (again.status, again.json["stdout"]) == (200, "done\n")
        paths = [f"/api/runs/{answer.json['run_id']}" for answer in answers]
        wait_until(lambda: all(owner.get(path).json["finished_at"] for path in paths), LONG_S, "both have ended")
        assert [owner.get(path).json["status"] for path in paths] == ["succeeded"] * 2
        assert again.json["run_id"] == answers[1].json["run_id"]


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


@contextlib.contextmanager
def _reaping_nothing() -> Iterator[None]:
    """What is orphaned below this process stays a zombie in the block, as where a container's first process is deaf."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def test_a_server_starts_beside_the_zombies_of_a_killed_one(state: Path, env: dict[str, str]) -> None:
    first = Server.start(env, state=state)
    parts = _noted(state)
    with _reaping_nothing():
        os.kill(first.process.pid, signal.SIGSTOP)  # it reaps and restarts nothing
        for part in parts.values():
            os.kill(part.pid, signal.SIGKILL)
        first.process.kill()
        first.process.wait()
        _wait_gone(parts)
        with running(env, state=state) as second:
            assert Path(f"/proc/{parts['postgres'].pid}").exists()
            assert _says_42(second)
        for part in parts.values():
            os.waitpid(part.pid, 0)


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


def test_a_background_job_of_a_script_ends_on_interrupt(state: Path, env: dict[str, str]) -> None:
    port = free_port()
    settings = {**os.environ, **env, "ERA_STATE_DIR": str(state), "PORT": str(port)}
    # Without job control the shell lets a job ignore SIGINT: the second line shows it.
    script = 'sh -c "kill -INT \\$\\$; echo ignored" & wait; ./agent serve >"$1" 2>&1 & echo $!; wait $!; echo $?'
    said = state.parent / f"{state.name}.log"
    said.touch()
    with subprocess.Popen(
        ["sh", "-c", script, "sh", str(said)], cwd=ROOT, env=settings, stdout=subprocess.PIPE
    ) as shell:
        assert shell.stdout
        assert shell.stdout.readline() == b"ignored\n"
        pid = int(shell.stdout.readline())
        try:
            ready = f"ERA runs at http://localhost:{port}"
            wait_until(lambda: shell.poll() is not None or ready in said.read_text(), READY_WITHIN_S, "the job serves")
            assert shell.poll() is None, said.read_text()
            parts = _noted(state)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)
        assert shell.stdout.read() == b"0\n"
    _wait_gone(parts)


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
    others = _processes_of(own.tester_uid)
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
    wait_until(lambda: _processes_of(own.tester_uid) <= others, LONG_S, "no process of the server is left")
    assert not Path(f"/tmp/era-{own.tester_uid}-{place.name_of(state)}").exists()


WITHOUT_NAMESPACES = """
import ctypes, os, sys
uid, program = int(sys.argv[1]), sys.argv[2:]
libc = ctypes.CDLL(None)
ready, mapped = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    libc.unshare(0x10000000)
    os.write(ready[1], b"x")
    os.read(mapped[0], 1)
    os.setresuid(0, 0, 0)
    open("/proc/sys/user/max_user_namespaces", "w").write("0")
    os.setresgid(1000, 1000, 1000)
    os.setresuid(1000, 1000, 1000)
    os.execv(program[0], program)
os.read(ready[0], 1)
for kind in ("uid", "gid"):
    open(f"/proc/{child}/{kind}_map", "w").write(f"0 0 1\\n1000 {uid} 1\\n")
os.write(mapped[1], b"x")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
"""Runs a program as an ordinary user where the kernel allows no further user namespace; the host stays as it is."""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make such a place")
def test_without_user_namespaces_nothing_runs_unsandboxed(env: dict[str, str]) -> None:
    own = stack.current
    home = own.base / f"bare-{own.name}"
    home.mkdir(mode=0o700)
    os.chown(home, own.tester_uid, own.tester_uid)
    program = [sys.executable, "-c", WITHOUT_NAMESPACES, str(own.tester_uid)]
    done = subprocess.run(
        [*program, str(own.python), "-m", "era_project.serve"],
        env={**env, "HOME": str(home), "ERA_STATE_DIR": str(home / "state"), "PORT": str(free_port())},
        cwd=own.code,
        capture_output=True,
        text=True,
        timeout=LONG_S,
        check=False,
    )
    assert done.returncode == 1, done
    assert "forbid" in done.stderr
    assert "user namespaces" in done.stderr
    assert not (home / "state").exists()


def _processes_of(uid: int) -> set[int]:
    """Pids of the user's processes: other tests' sandboxes are among them."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if folder.stat().st_uid == uid:
                found.add(int(folder.name))
    return found


def test_free_ports_differ() -> None:
    assert len({free_port() for _ in range(20)}) == 20
