"""What a runner begins with, wears out, replaces and leaves behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from era_project import conf
from era_project.serve import uids
from runners.backends.slot import pool, worlds
from runners.backends.slot.backend import SlotBackend
from runners.backends.slot.starter import World
from runners.runner import PARKED, Runner
from runners.types import Limits, RunSpec, SandboxUnavailable, Status
from sessions_app import worker
from tests import boxes, stack
from tests.boxes import output
from tests.processes import descendants
from tests.waiting import wait_until

SLEEPER = """
import sys
from pathlib import Path
from runners.runner import Runner, RunnerConfig
from runners.types import RunSpec
runner = Runner.start(RunnerConfig(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), cgroup=sys.argv[4], languages=("python",)))
code = "import os, time\\nfor _ in range(5): os.fork()\\nprint('on', flush=True)\\nwhile True: pass"
runner.run(RunSpec("python", code), on_output=lambda stream, chunk: print("running", flush=True))
"""


def backend_of(runner: Runner) -> SlotBackend:
    assert isinstance(runner._backend, SlotBackend)
    return runner._backend


def groups(name: str) -> list[Path]:
    """Every cgroup folder of this name."""
    return [Path(folder) for folder, _, _ in os.walk("/sys/fs/cgroup") if Path(folder).name == name]


def identity(pid: int) -> tuple[int, str]:
    """A process that no later one of the same pid is taken for."""
    try:
        return pid, Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except OSError:
        return pid, ""


def lives(process: tuple[int, str]) -> bool:
    """Whether it is still there, and no zombie that its own parent has yet to look at."""
    try:
        return identity(process[0]) == process and Path(f"/proc/{process[0]}/cmdline").read_bytes() != b""
    except OSError:
        return False


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Runner]:
    """A runner that a test may break."""
    made = boxes.start_runner(tmp_path, "auto", slots=1)
    yield made
    made.close()


def test_close_leaves_nothing(tmp_path: Path) -> None:
    name = f"{stack.current.cgroup}-leftover"
    runner = boxes.start_runner(tmp_path, "auto", cgroup=name)
    (tmp_path / "workspaces" / "s").mkdir()
    live = runner.open(language="python", workspace="s", limits=Limits())
    live.run(
        RunSpec(
            "python",
            "import os\nfor _ in range(3): os.fork()\nimport time; time.sleep(60)",
            limits=Limits(wall_time_s=0.2),
        )
    )
    results = []
    thread = threading.Thread(
        target=lambda: results.append(runner.run(RunSpec("python", "import time; time.sleep(60)")))
    )
    thread.start()
    (world,) = backend_of(runner)._builder._worlds._slots
    started = [identity(pid) for pid in descendants(world._process.pid)]
    assert len(started) > 3
    runner.close()
    runner.close()
    thread.join(30)
    assert results[0].status is Status.SANDBOX_ERROR or results[0].exit_code is not None
    assert not live.is_alive or live.run(RunSpec("python", "1")).state_lost
    wait_until(lambda: not any(map(lives, started)), 30, "the end of every process")
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
    assert not groups(name)
    assert runner.run(RunSpec("python", "1")).status is Status.SANDBOX_ERROR


def test_kill_of_the_server_leaves_nothing(tmp_path: Path) -> None:
    name = f"{stack.current.cgroup}-killed"
    argv = [sys.executable, "-c", SLEEPER, str(stack.current.runtimes), str(tmp_path / "w"), str(tmp_path / "r"), name]
    server = subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3])
    assert server.stdout
    assert server.stdout.readline() == b"running\n"
    wait_until(lambda: len(descendants(server.pid)) > 20, 30, "the forks")
    started = [identity(pid) for pid in descendants(server.pid)]
    server.send_signal(signal.SIGKILL)
    server.wait(20)
    server.stdout.close()
    wait_until(lambda: not any(map(lives, started)), 30, "the end of every process")
    # The next start under the same name clears the cgroups.
    runner = boxes.start_runner(tmp_path, "auto", cgroup=name, languages=("python",))
    assert output(runner.run(RunSpec("python", "print(1)"))) == "1"
    runner.close()
    assert not groups(name)


def test_a_slot_that_died_before_its_request_is_replaced(own: Runner) -> None:
    with contextlib.ExitStack() as kept:
        for slot in list(backend_of(own)._builder._living.values()):
            kept.enter_context(slot.requests)
            slot.requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            theirs.close()
        assert output(own.run(RunSpec("python", "print(1)"))) == "1"


def test_slots_wear_out(own: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "RUNS_MAX", 3)
    builder = backend_of(own)._builder
    seen = set()
    for _ in range(7):
        assert output(own.run(RunSpec("python", "print(1)"))) == "1"
        seen |= {slot.pid for slot in builder._living.values() if not slot.preloaded}
    assert len(seen) >= 3


def test_a_world_that_dies_is_begun_anew(own: Runner) -> None:
    builder = backend_of(own)._builder

    def is_over(world: World) -> bool:
        slots = [slot for slot in list(builder._living.values()) if slot.world is world]
        return all(slot.destroyed or slot.has_word() for slot in slots)

    for world in list(builder._worlds._slots):
        inner = [identity(pid) for pid in descendants(world._process.pid)]
        world._process.kill()
        world._process.wait(20)
        # A run that begins while its slot dies is told so.
        wait_until(lambda inner=inner: not any(map(lives, inner)), 30, "the end of every process inside")  # type: ignore[misc]
        wait_until(lambda world=world: is_over(world), 30, "the end of slots that were being built")  # type: ignore[misc]
    for _ in range(3):
        result = own.run(RunSpec("python", "print(1)"))
        assert output(result) == "1", result.reason


def test_the_end_of_the_outer_process_ends_the_world(own: Runner) -> None:
    (world,) = backend_of(own)._builder._worlds._slots
    inner = [identity(pid) for pid in descendants(world._process.pid)]
    assert len(inner) > 2
    world._process.kill()
    world._process.wait(20)
    wait_until(lambda: not any(map(lives, inner)), 30, "the end of every process inside")


def test_a_world_that_dies_costs_a_live_session_its_run_and_says_so(own: Runner, tmp_path: Path) -> None:
    (tmp_path / "workspaces" / "s").mkdir()
    live = own.open(language="python", workspace="s", limits=Limits())
    (world,) = backend_of(own)._builder._worlds._slots

    def kill() -> None:
        first = min(descendants(world._process.pid))  # the kernel ends all others with it
        for pid in (first, world._process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    endless = RunSpec("python", "import time\nprint('on')\ntime.sleep(60)")
    result = live.run(endless, on_output=lambda stream, chunk: kill())
    assert (result.status, result.exit_code, result.signal) == (Status.SANDBOX_ERROR, None, None)
    assert result.reason and result.state_lost and not live.is_alive
    assert result.stdout.content == b"on\n"


def test_an_old_world_ends_with_its_last_slot(own: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worlds, "AGE_MAX_S", 0.0)
    monkeypatch.setattr(pool, "RUNS_MAX", 1)
    builder = backend_of(own)._builder
    for _ in range(3):
        assert output(own.run(RunSpec("python", "print(1)"))) == "1"
    monkeypatch.setattr(worlds, "AGE_MAX_S", 3600.0)
    for _ in range(3):
        assert output(own.run(RunSpec("python", "import json\nprint(1)"))) == "1"
        assert output(own.run(RunSpec("python", "print(1)"))) == "1"
    assert len(builder._worlds._slots) <= 3


def test_pid1_that_is_killed_costs_its_run_only(own: Runner) -> None:
    builder = backend_of(own)._builder

    def kill() -> None:
        for slot in builder._living.values():
            slot.signal(signal.SIGKILL)

    result = own.run(
        RunSpec("python", "import time\nprint('on')\ntime.sleep(60)"), on_output=lambda stream, chunk: kill()
    )
    assert result.status is Status.SANDBOX_ERROR and result.exit_code is None and result.reason
    assert output(own.run(RunSpec("python", "print(1)"))) == "1"


def test_strict_reuses_nothing(tmp_path: Path) -> None:
    runner = boxes.start_runner(tmp_path, "auto", slots=1, strict=True, languages=("python",))
    try:
        builder = backend_of(runner)._builder
        seen: list[int] = []
        for _ in range(4):
            result = runner.run(
                RunSpec("python", "print(1)"),
                on_start=lambda: seen.append(max(builder._living.values(), key=lambda slot: slot.runs).pid),
            )
            assert output(result) == "1"
        assert all(slot.runs == 0 for slot in builder._living.values())
    finally:
        runner.close()


def test_unavailable_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SandboxUnavailable, match=r"No sandbox can be built here \(root: .*few"):
        boxes.start_runner(tmp_path, "root", uid_base=1_950_000_000, uid_count=3)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has uids to give")
@pytest.mark.parametrize("slots", [8, 500])
def test_the_uids_that_serve_claims_are_enough_for_its_slots(tmp_path: Path, slots: int) -> None:
    settings = conf.load({"ERA_SLOT_COUNT": str(slots)})
    config = worker.runner_config(worker.Options("many", ("python",), settings.one_shot_slots, True))
    block = uids.claim(uids.needed(settings))
    live, parked = config.live, dict(PARKED)
    given = {"uid_base": block.slots, "uid_count": block.slot_count, "languages": ("python",)}
    runner = boxes.start_runner(tmp_path, "root", slots=slots, live=live, parked=parked, **given)
    try:
        assert output(runner.run(RunSpec("python", "print(1)"))) == "1"
    finally:
        runner.close()
        for lock in block.locks:
            os.close(lock)


def test_enforcement_and_versions(runner: Runner) -> None:
    assert runner.enforcement.backend == "slot"
    assert set(runner.enforcement.limits) == {"memory", "processes", "cpu", "workspace", "network", "uid"}
    assert set(runner.versions) == {"python", "node", "typescript", "go", "deno"}


def test_command_line(tmp_path: Path) -> None:
    program = tmp_path / "hello.py"
    program.write_text("import sys\nprint('hello', sys.argv[1:])\nsys.exit(3)")
    argv = [sys.executable, "-m", "runners", "py", str(program), "a", "--runtimes", str(stack.current.runtimes)]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=Path(__file__).parents[3], stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout) == (3, "hello ['a']\n"), done.stderr
