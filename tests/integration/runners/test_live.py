"""Kept slots: what a session's interpreter keeps, how it is stopped, and what it cannot break."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runners.backends.base import Live
from runners.cancel import Cancel
from runners.runner import Runner
from runners.types import MIB, Limits, RunResult, RunSpec, SandboxUnavailable, Status
from tests.boxes import output
from tests.waiting import wait_until


@pytest.fixture
def live(runner: Runner, workspace: Path) -> Iterator[Live]:
    sandbox = runner.open(language="python", workspace=workspace.name, limits=Limits())
    yield sandbox
    sandbox.close()
    assert not sandbox.is_alive


def run(sandbox: Live, code: str, *, wall_time_s: float = 30.0, cancel: Cancel | None = None, **spec: Any) -> RunResult:
    spec.setdefault("limits", Limits(wall_time_s=wall_time_s))
    return sandbox.run(RunSpec(sandbox.language, code, **spec), cancel=cancel)


def test_state_result_and_output(live: Live) -> None:
    assert run(live, "x = 20\nprint('set')").stdout.content == b"set\n"
    assert run(live, "x + 22").result == "42"
    failed = run(live, "1 / 0")
    assert (failed.status, failed.exit_code, failed.state_lost) == (Status.FAILED, 1, None)
    assert run(live, "exit(7)").exit_code == 7
    assert run(live, "x").result == "20"


def test_environment_and_input_of_one_run(live: Live) -> None:
    seen = run(
        live, "import os, sys\nprint(os.environ['A'], sys.argv[1:], input())", env={"A": "b"}, args=("c",), stdin=b"d\n"
    )
    assert output(seen) == "b ['c'] d"
    assert run(live, "'A' in os.environ").result == "False"


def test_files_are_the_sessions(live: Live, workspace: Path) -> None:
    assert run(live, "open('out', 'w').write('hi')").exit_code == 0
    assert (workspace / "out").read_text() == "hi"
    (workspace / "in").write_text("there")
    assert run(live, "open('in').read()").result == "'there'"


def test_time_is_up_and_the_state_stays(live: Live) -> None:
    run(live, "x = 1")
    result = run(live, "import time\nprint('on', end='')\nwhile True: time.sleep(.01)", wall_time_s=3.0)
    assert (result.status, result.exit_code, result.state_lost) == (Status.TIMED_OUT, 124, None)
    assert result.stdout.content == b"on"
    assert run(live, "x").result == "1"


def test_cancel_and_interrupt_keep_the_state(live: Live) -> None:
    run(live, "x = 1")
    cancel = Cancel()
    spin = "print('on')\nwhile True: pass"
    result = live.run(RunSpec("python", spin), cancel=cancel, on_output=lambda stream, chunk: cancel.request())
    assert (result.status, result.exit_code, result.state_lost) == (Status.CANCELLED, 143, None)
    result = live.run(RunSpec("python", spin), on_output=lambda stream, chunk: live.interrupt())
    assert (result.status, result.exit_code) == (Status.FAILED, 130)
    live.interrupt()  # between runs: nothing
    assert run(live, "x").result == "1"


def test_who_does_not_listen_is_killed(live: Live) -> None:
    code = "import signal\nfor s in (2, 15): signal.signal(s, signal.SIG_IGN)\nwhile True: pass"
    result = run(live, code, wall_time_s=3.0)
    assert (result.status, result.exit_code) == (Status.TIMED_OUT, 124)
    assert result.state_lost and not live.is_alive
    after = run(live, "1")
    assert after.status is Status.SANDBOX_ERROR and after.state_lost


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        ("import os; os._exit(7)", 7),
        ("import os; os.kill(os.getpid(), 9)", 137),
        ("import ctypes; ctypes.string_at(0)", 139),
        ("import os; os.close(3)", None),
        ("import os; os.closerange(0, 100)", None),
        ("import os; os.write(3, b'x' * 100)", None),
        ("import os; os.write(3, (2 ** 31).to_bytes(4, 'big'))", None),
        ("import os; os.write(3, (5).to_bytes(4, 'big') + b'{')\nwhile True: pass", 124),
        ("import os; os.write(3, (2).to_bytes(4, 'big') + b'[]')", None),
        ('import os; m = b\'{"id": 1, "exit": 99999}\'; os.write(3, len(m).to_bytes(4, "big") + m)', None),
        ("import os; m = b'[' * 100000; os.write(3, len(m).to_bytes(4, 'big') + m)", None),
    ],
    ids=[
        "exits",
        "killed",
        "crashes",
        "closes",
        "closes-all",
        "noise",
        "too-long",
        "half",
        "list",
        "no-code",
        "nesting",
    ],
)
def test_what_it_can_break_is_its_own(runner: Runner, live: Live, code: str, exit_code: int | None) -> None:
    result = run(live, code, wall_time_s=2.0)
    assert result.status is not Status.SANDBOX_ERROR
    if exit_code is None:  # found out at once, or by the next run
        if not result.state_lost:
            result = run(live, "1")
        assert result.state_lost
    else:
        assert result.exit_code == exit_code
    assert output(runner.run(RunSpec("python", "print('fine')"))) == "fine"


def test_forged_answer_ahead_of_the_next_run(live: Live) -> None:
    forged = 'import os, threading\nm = b\'{"id": 2, "exit": 0, "result": "forged"}\'\nthreading.Timer(.2, os.write, (3, len(m).to_bytes(4, "big") + m)).start()'
    assert run(live, forged).exit_code == 0
    wait_until(lambda: not run(live, "print(1)").result, 30, "an answer")
    result = run(live, "'real'")
    assert result.result in ("'real'", None)


def test_memory(live: Live) -> None:
    assert live.memory_bytes() > MIB
    result = run(live, "x = bytearray(10**9)")
    if result.status is Status.OUT_OF_MEMORY:
        assert result.exit_code == 137 and result.state_lost
    else:
        assert "MemoryError" in output(result)


def test_end_between_runs_is_noticed(live: Live) -> None:
    run(live, "import threading, os\nthreading.Timer(.1, os._exit, (3,)).start()")
    wait_until(lambda: not live.is_alive, 30, "the end of the interpreter")


def test_output_between_runs_is_dropped_with_a_warning(live: Live) -> None:
    code = "import threading, time\ndef talk():\n  for _ in range(3000): print('x' * 100)\nthreading.Timer(.1, talk).start()"
    run(live, code)
    wait_until(lambda: run(live, "threading.active_count()").result == "1", 60, "the end of the thread")
    warned = [run(live, "print('mine')") for _ in range(2)]
    assert output(warned[1]) == "mine" and not warned[1].warnings


def test_forked_child_does_not_answer(live: Live) -> None:
    code = "import os\npid = os.fork()\nif pid == 0:\n  print('child')\nelse:\n  os.waitpid(pid, 0)\npid > 0"
    result = run(live, code)
    assert output(result) == "child" and result.result == "True"
    assert run(live, "40 + 2").result == "42"


def test_multiprocessing_and_threads_live_on(live: Live) -> None:
    run(
        live,
        "import multiprocessing, threading, time\ndef double(x): return 2 * x\nn = 0\ndef count():\n  global n\n  while True: n += 1; time.sleep(.001)\nthreading.Thread(target=count, daemon=True).start()",
    )
    assert (
        run(live, "with multiprocessing.Pool(2) as pool: print(pool.map(double, [1, 2]))").stdout.content == b"[2, 4]\n"
    )
    wait_until(lambda: int(run(live, "n").result or 0) > 5, 30, "the thread")


def test_frozen_does_nothing(live: Live) -> None:
    run(
        live,
        "import threading, time\nn = 0\ndef count():\n  global n\n  while True: n += 1; time.sleep(.001)\nthreading.Thread(target=count, daemon=True).start()",
    )
    live.freeze()
    live.thaw()
    before = int(run(live, "n").result or 0)
    wait_until(lambda: int(run(live, "n").result or 0) > before, 30, "the thread after the thaw")


def test_a_frozen_one_can_be_closed(runner: Runner, workspace: Path) -> None:
    sandbox = runner.open(language="python", workspace=workspace.name, limits=Limits())
    assert run(sandbox, "1").result == "1"
    sandbox.freeze()
    sandbox.close()
    assert not sandbox.is_alive


def test_close_in_the_middle_of_a_run(runner: Runner, workspace: Path) -> None:
    sandbox = runner.open(language="python", workspace=workspace.name, limits=Limits())
    threading.Timer(0.3, sandbox.close).start()
    result = run(sandbox, "while True: pass")
    assert result.state_lost


def test_snapshot_and_restore(runner: Runner, live: Live, workspace: Path) -> None:
    run(live, "x = [1, 2]\ndef f(n): return n + len(x)\nimport threading\nlock = threading.Lock()")
    snapshot = live.snapshot(timeout_s=60)
    assert snapshot and snapshot.content
    other = runner.open(language="python", workspace=workspace.name, limits=Limits())
    try:
        other.restore(snapshot.content, timeout_s=60)
        assert run(other, "f(40)").result == "42"
    finally:
        other.close()


@pytest.mark.parametrize("language", ["node", "typescript", "deno"])
def test_javascript_keeps_state(runner: Runner, workspace: Path, language: str) -> None:
    sandbox = runner.open(language=language, workspace=workspace.name, limits=Limits())
    try:
        assert output(run(sandbox, "let x = 40; console.log('set')")) == "set"
        assert run(sandbox, "x + 2").result == "42"
    finally:
        sandbox.close()


def test_go_keeps_nothing(runner: Runner, workspace: Path) -> None:
    with pytest.raises(SandboxUnavailable):
        runner.open(language="go", workspace=workspace.name, limits=Limits())
