"""Exploit museum: what code in a kept interpreter does to whoever looks after it from outside."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runners.backends.slot.cgroups import Group
from runners.backends.slot.live import LiveSandbox
from runners.runner import Runner
from runners.types import MIB, Limits, RunResult, RunSpec
from tests import boxes
from tests.waiting import wait_until

LIMITS = Limits(workspace_bytes=8 * MIB)
WRITE = """
import itertools, os, threading
numbers = itertools.count()
def write():
  with open(str(next(numbers)), 'wb') as file:
    file.write(os.urandom(400_000)); file.flush(); os.fsync(file.fileno())
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sessions")


@pytest.fixture(scope="module")
def runner(home: Path) -> Iterator[Runner]:
    made = boxes.start_runner(home, "auto", slots=1, languages=("python",))
    yield made
    made.close()


@pytest.fixture
def live(runner: Runner, home: Path, request: pytest.FixtureRequest) -> Iterator[LiveSandbox]:
    folder = home / "workspaces" / f"ws-{abs(hash(request.node.nodeid)):x}"
    folder.mkdir(mode=0o700)
    sandbox = runner.open(language="python", workspace=folder.name, limits=LIMITS)
    assert isinstance(sandbox, LiveSandbox)
    yield sandbox
    sandbox.close()


def run(sandbox: LiveSandbox, code: str) -> RunResult:
    return sandbox.run(RunSpec("python", code, limits=LIMITS))


def test_closed_output_costs_the_server_nothing(live: LiveSandbox) -> None:
    before_s = time.thread_time()
    result = run(live, "import os, time\nprint('said')\nos.close(1); os.close(2)\ntime.sleep(1)\n42")
    assert (result.stdout.content, result.result) == (b"said\n", "42")
    assert time.thread_time() - before_s < 0.25, "the run's thread span"
    assert live.descriptors() == (live.slot.control.fileno(),), "the keeper would be woken for ever"
    assert run(live, "6 * 7").result == "42"


def test_closed_output_between_runs(live: LiveSandbox) -> None:
    run(live, "import os, threading\nthreading.Timer(.2, os.close, (1,)).start()")
    wait_until(lambda: len(live.descriptors()) == 2, 30, "the end of the output")
    assert run(live, "6 * 7").result == "42"


def test_a_look_leaves_it_looked_after(live: LiveSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens while somebody measures it, or takes a snapshot, is seen to afterwards."""
    seen: list[bool] = []
    attend = live.attend

    def note() -> None:
        attend()
        seen.append(True)

    monkeypatch.setattr(live, "attend", note)
    with live._lock:
        run(live, "import threading\nthreading.Timer(.2, print, 'x').start()")
        wait_until(lambda: seen, 30, "a look at the output")
    wait_until(lambda: live.has_dropped, 30, "a reader of the output")


FORGED = """
import json, os
message = json.dumps({"id": %d, "exit": 0, "ok": True, "result": "\\0\\ud800x", "content": "", "lost": ["\\udfff\\0"]})
os.write(3, len(message).to_bytes(4, "big") + message.encode())
"""


def test_forged_result_can_be_stored(live: LiveSandbox) -> None:
    assert run(live, FORGED % 1).result == "\ufffd?x"


def test_forged_names_can_be_stored(live: LiveSandbox) -> None:
    run(
        live, "class Forge:\n  def __reduce__(self):\n" + "".join(f"    {line}\n" for line in (FORGED % 1).splitlines())
    )
    run(live, "forge = Forge()")
    snapshot = live.snapshot(timeout_s=30)
    assert snapshot is not None
    assert snapshot.lost == ("?\ufffd",)


def _if_ended(result: RunResult) -> RunResult | None:
    return result if result.reason else None


def test_files_that_grow_from_run_to_run(live: LiveSandbox) -> None:
    run(live, WRITE)
    ended = wait_until(lambda: _if_ended(run(live, "write()")), 60, "an end to it")
    assert ended and ended.state_lost
    assert ended.reason == "Its workspace grew over 8 MiB."


def test_files_that_grow_between_runs(live: LiveSandbox) -> None:
    run(live, WRITE + "def go():\n  while next(numbers) < 400: write()\nthreading.Thread(target=go).start()")
    assert wait_until(live.excess, 60, "a look at it") == "Its workspace grew over 8 MiB."


def test_files_that_are_deleted_and_open(live: LiveSandbox) -> None:
    run(live, WRITE + "held = []")
    code = "write(); held.append(open(os.listdir()[0])); os.unlink(os.listdir()[0])"
    ended = wait_until(lambda: _if_ended(run(live, code)), 60, "an end to it")
    assert ended and ended.state_lost
    assert ended.reason == "Its workspace grew over 8 MiB."


def test_what_continues_itself_when_frozen_gets_no_time(live: LiveSandbox) -> None:
    """A timer may send SIGCONT to a process that is stopped."""
    group = live.slot.group
    if group is None:
        pytest.skip("no cgroup holds sandboxes here")
    run(live, "x = 42")
    free = _quota(group)
    live.freeze()
    assert _quota(group) == "1000"
    live.thaw()
    assert _quota(group) == free
    live.freeze()
    live.thaw()
    assert run(live, "x").result == "42"


def _quota(group: Group) -> str:
    """Microseconds of CPU time in each 20 ms."""
    folder = group._folders["cpu"]
    return (folder / ("cpu.max" if group._is_v2["cpu"] else "cpu.cfs_quota_us")).read_text().split()[0]
