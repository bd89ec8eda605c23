from __future__ import annotations

import os
import subprocess
from pathlib import Path

from era_project.serve import records


def _sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["/bin/sleep", "600"])


def test_a_process_is_itself_until_it_ends() -> None:
    process = _sleeper()
    identity = records.identify(process.pid)
    assert identity.is_alive
    process.kill()
    process.wait()
    assert not identity.is_alive


def test_a_pid_that_came_again_is_another_process() -> None:
    own = records.identify(os.getpid())
    assert not records.Identity(own.pid, own.started + 1).is_alive


def test_leftovers_end_and_strangers_stay(tmp_path: Path) -> None:
    left, stranger = _sleeper(), _sleeper()
    try:
        known = records.identify(stranger.pid)
        noted = {"web": records.identify(left.pid), "worker": records.Identity(stranger.pid, known.started + 1)}
        records.write_parts(tmp_path, noted)
        records.clear_leftovers(tmp_path)
        assert left.wait(timeout=30) == -9
        assert known.is_alive
        assert not (tmp_path / "pids.json").exists()
    finally:
        stranger.kill()
        stranger.wait()


def test_records_of_killed_servers_go(tmp_path: Path) -> None:
    (tmp_path / "servers").mkdir()
    for pid in (1, 2):
        dead = records.Identity(os.getpid() + pid, 0)
        records.write(tmp_path, records.Server(process=dead, port=pid, is_owner=True))
    records.clear_leftovers(tmp_path)
    assert list((tmp_path / "servers").iterdir()) == []


def test_a_broken_note_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "pids.json").write_text('{"web": 5}')
    records.clear_leftovers(tmp_path)


def test_servers_are_found_while_they_live(tmp_path: Path) -> None:
    (tmp_path / "servers").mkdir()
    process = _sleeper()
    mine = records.Server(process=records.identify(os.getpid()), port=1, is_owner=False)
    other = records.Server(process=records.identify(process.pid), port=2, is_owner=True, is_ready=True, home="/x")
    records.write(tmp_path, mine)
    records.write(tmp_path, other)
    assert records.owner(tmp_path) == other
    process.kill()
    process.wait()
    assert list(records.servers(tmp_path)) == [mine]
    records.remove(tmp_path)
    assert list(records.servers(tmp_path)) == []
