from __future__ import annotations

import contextlib
import errno
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from era_project.serve import parts
from era_project.serve.failures import NEVER_WORKS, CannotServe, Stopped
from era_project.serve.parts import Part, PartError
from era_project.serve.records import identify
from era_project.serve.signals import Signals
from era_project.serve.supervisor import Supervisor
from tests.waiting import wait_until

LONG_S = 30.0


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    signals = Signals()
    signals.install()
    made = Supervisor(signals, note=tmp_path, backoff_s=[0.01])
    yield made
    made.stop()
    signals.restore()


def _shell(name: str, script: str, log: Path) -> Part:
    return Part(name=name, argv=["/bin/sh", "-c", script], log=log)


def _watch(supervisor: Supervisor, condition_file: Path, lines: int) -> None:
    end = time.monotonic() + LONG_S
    supervisor.watch(until=lambda: _lines(condition_file) >= lines or time.monotonic() > end)
    assert _lines(condition_file) >= lines


def _lines(path: Path) -> int:
    return path.read_text().count("\n") if path.exists() else 0


def test_what_crashes_starts_again(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.is_ready = True
    supervisor.start(_shell("beat", "echo started; exit 3", tmp_path / "log"))
    _watch(supervisor, tmp_path / "log", 3)


def test_a_part_that_never_starts_ends_the_server(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start(_shell("beat", "exit 3", tmp_path / "log"))
    with pytest.raises(CannotServe, match="code 3"):
        supervisor.watch(until=lambda: False)


def test_a_part_that_can_never_work_ends_the_server(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.is_ready = True
    supervisor.start(_shell("worker", f"exit {NEVER_WORKS}", tmp_path / "log"))
    with pytest.raises(CannotServe, match="worker"):
        supervisor.watch(until=lambda: False)


@pytest.mark.parametrize("script", ["exit 0", "kill -TERM $$", "kill -INT $$"])
def test_the_end_of_web_by_a_signal_ends_the_server(supervisor: Supervisor, tmp_path: Path, script: str) -> None:
    supervisor.is_ready = True
    supervisor.start(_shell("web", script, tmp_path / "log"))
    with pytest.raises(Stopped):
        supervisor.watch(until=lambda: False)


def test_what_is_done_once_is_not_started_again(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.is_ready = True
    once = Part(name="go", argv=["/bin/sh", "-c", "echo done"], log=tmp_path / "log", is_once=True)
    supervisor.start(once)
    supervisor.start(_shell("beat", "echo started; exit 3", tmp_path / "other"))
    _watch(supervisor, tmp_path / "other", 3)
    assert _lines(tmp_path / "log") == 1


def test_the_end_takes_the_stubborn_and_their_children_too(tmp_path: Path) -> None:
    supervisor = Supervisor(Signals(), note=None)
    log = tmp_path / "log"
    supervisor.start(_shell("worker", "trap '' TERM; sleep 600 & echo $!; while :; do sleep 600; done", log))
    child = identify(int(wait_until(lambda: log.read_text().strip(), LONG_S, "the child's pid")))
    supervisor.stop()
    wait_until(lambda: not child.is_alive, LONG_S, "the child ends")


def test_a_part_that_ends_while_it_starts_names_its_log(supervisor: Supervisor, tmp_path: Path) -> None:
    part = Part(name="postgres", argv=["/bin/false"], log=tmp_path / "pg.log", ready=lambda process: False)
    supervisor.start(part)
    with pytest.raises(PartError, match=r"pg\.log"):
        supervisor.wait_ready("postgres")


def test_parts_die_with_the_process_that_started_them(tmp_path: Path) -> None:
    program = (
        "import sys, time; from era_project.serve.parts import Part, start\n"
        "print(start(Part(name='x', argv=['/bin/sleep', '600'])).pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    try:
        assert parent.stdout is not None
        child = identify(int(parent.stdout.readline()))
        assert child.is_alive
        parent.send_signal(signal.SIGKILL)
        wait_until(lambda: not child.is_alive, LONG_S, "the part dies")
    finally:
        with contextlib.suppress(OSError):
            parent.kill()
        parent.communicate()


def test_what_cannot_start_again_is_tried_until_it_can(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refusals = [OSError(errno.EAGAIN, "no room for a process"), OSError(errno.ENOSPC, "no room for its log")]
    supervisor.is_ready = True
    supervisor.start(_shell("beat", "echo started; exit 3", tmp_path / "log"))
    start = parts.start

    def refuse(part: Part) -> subprocess.Popen[bytes]:
        if refusals:
            raise refusals.pop()
        return start(part)

    monkeypatch.setattr(parts, "start", refuse)
    _watch(supervisor, tmp_path / "log", 3)
    said = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(said) == 2
    assert "no room for its log" in said[0]
    assert "no room for a process" in said[1]


def test_what_cannot_start_again_ends_a_server_that_is_not_ready(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor.start(_shell("beat", "exit 3", tmp_path / "log"))

    def refuse(part: Part) -> subprocess.Popen[bytes]:
        raise OSError(errno.ENOMEM, "no memory")

    monkeypatch.setattr(parts, "start", refuse)
    with pytest.raises(CannotServe, match="no memory"):
        supervisor.watch(until=lambda: False)
