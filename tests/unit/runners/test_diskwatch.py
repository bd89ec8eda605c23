"""How much lies in a session's folder, wherever a program hides it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from runners.backends.slot.diskwatch import DEPTH_MAX, DiskWatch
from runners.types import MIB, Limits

LIMITS = Limits(workspace_bytes=MIB, workspace_files=300)


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[DiskWatch]:
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield DiskWatch(str(tmp_path), LIMITS, proc)
    finally:
        os.close(proc)


def write(path: Path, size: int) -> None:
    path.write_bytes(os.urandom(size))  # a file system may compress
    with path.open("rb") as file:
        os.fsync(file.fileno())


def test_within_the_limits(tmp_path: Path, watch: DiskWatch) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    write(tmp_path / "a/b/file", MIB // 2)
    assert watch.excess() is None
    assert watch.excess(is_full=True) == "The host's disk is nearly full."


def test_a_full_disk_ends_no_small_folder(tmp_path: Path, watch: DiskWatch) -> None:
    write(tmp_path / "file", 1000)
    assert watch.excess(is_full=True) is None


def test_bytes_and_files(tmp_path: Path, watch: DiskWatch) -> None:
    write(tmp_path / "file", 2 * MIB)
    assert watch.excess() == "Its workspace grew over 1 MiB."
    (tmp_path / "file").unlink()
    for number in range(LIMITS.workspace_files + 1):
        (tmp_path / str(number)).touch()
    assert watch.excess() == "Its workspace grew over 300 files."


def test_below_more_folders_than_are_walked(tmp_path: Path, watch: DiskWatch) -> None:
    folder = tmp_path
    for _ in range(DEPTH_MAX + 1):
        folder /= "d"
        folder.mkdir()
    write(folder / "file", 2 * MIB)
    assert watch.excess() == f"Its workspace has more than {DEPTH_MAX} folders below each other."


def test_deleted_and_still_open_or_mapped(tmp_path: Path, watch: DiskWatch) -> None:
    write(tmp_path / "file", 2 * MIB)
    with (tmp_path / "file").open("rb"):
        (tmp_path / "file").unlink()
        assert watch.excess() == "Its workspace grew over 1 MiB."
    assert watch.excess() is None
