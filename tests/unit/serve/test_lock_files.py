"""What a killed PostgreSQL leaves must not keep the next one from starting."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from era_project.serve import lock_files
from era_project.serve.postgres import Postgres

IPC_RMID = 0
"""Source: linux/ipc.h."""


@pytest.fixture
def server(tmp_path: Path) -> Postgres:
    """One whose cluster is made already."""
    data, sockets = tmp_path / "data", tmp_path / "sockets"
    data.mkdir()
    sockets.mkdir()
    (data / "PG_VERSION").write_text("18\n")
    return Postgres(programs=tmp_path, data=data, sockets=sockets, log=tmp_path / "log")


def _locks(server: Postgres, pid: int, memory: str = "") -> list[Path]:
    """The lock files of a PostgreSQL with this pid, as it writes them."""
    locks = [server.data / "postmaster.pid", server.sockets / ".s.PGSQL.5432.lock"]
    locks[0].write_text(f"{pid}\n{server.data}\n1795891400\n5432\n{server.sockets}\n\n{memory}\nready   \n")
    locks[1].write_text(f"{pid}\n{server.data}\n1795891400\n5432\n{server.sockets}\n")
    return locks


@contextlib.contextmanager
def _zombie() -> Iterator[int]:
    """The pid of a process that has ended and that nobody has waited for."""
    process = subprocess.Popen(["/bin/true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    try:
        yield process.pid
    finally:
        process.wait()


@contextlib.contextmanager
def _attached_memory() -> Iterator[str]:
    """Key and id of a shared memory segment that this process uses."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.shmat.restype = ctypes.c_void_p
    segment = libc.shmget(0, ctypes.c_size_t(56), 0o600)
    address = libc.shmat(segment, None, 0)
    libc.shmctl(segment, IPC_RMID, None)  # it goes with its last user
    try:
        yield f"        0  {segment:9d}"
    finally:
        libc.shmdt(ctypes.c_void_p(address))


def test_the_locks_of_a_zombie_go(server: Postgres) -> None:
    with _zombie() as pid:
        locks = _locks(server, pid, " 10199537   4161553")
        server.prepare()
        assert not any(lock.exists() for lock in locks)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_locks_of_a_process_that_is_gone_go(server: Postgres, sign: int) -> None:
    process = subprocess.Popen(["/bin/true"])
    process.wait()
    locks = _locks(server, sign * process.pid)
    server.prepare()
    assert not any(lock.exists() for lock in locks)


def test_the_locks_of_a_living_process_stay(server: Postgres) -> None:
    locks = _locks(server, os.getpid())
    server.prepare()
    assert all(lock.exists() for lock in locks)


def test_the_lock_of_a_zombie_stays_while_its_backends_live(server: Postgres) -> None:
    with _zombie() as pid:
        with _attached_memory() as memory:
            lock, _ = _locks(server, pid, memory)
            lock_files.clear(server.data, server.sockets, within_s=0.0)
            assert lock.exists()
        lock_files.clear(server.data, server.sockets, within_s=0.0)
        assert not lock.exists()


@pytest.mark.parametrize(
    ("listed", "noted"), [("-2", "18446744073709551614"), ("10199537", "10199537"), ("-1", "4294967295")]
)
def test_a_key_is_the_same_however_it_is_written(
    server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: str, noted: str
) -> None:
    segments = tmp_path / "shm"
    segments.write_text(f"key shmid perms size cpid lpid nattch\n{listed} 77 600 56 1 1 6\n")
    monkeypatch.setattr(lock_files, "SHARED_MEMORY", segments)
    with _zombie() as pid:
        lock, _ = _locks(server, pid, f"{noted:>9} {77:9d}")
        lock_files.clear(server.data, server.sockets, within_s=0.0)
        assert lock.exists()


@pytest.mark.parametrize("text", ["", "\n", "?\n"])
def test_a_lock_that_names_no_process_stays(server: Postgres, text: str) -> None:
    lock = server.data / "postmaster.pid"
    lock.write_text(text)
    server.prepare()
    assert lock.exists()
