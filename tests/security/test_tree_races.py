"""A program that swaps folders for links under the host's eyes gets nothing of the host's read or written."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runners import tree
from tests.waiting import wait_until

ROUNDS = 300
SECRET = b"of the host"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "file").write_bytes(SECRET)
    return folder


@pytest.fixture
def root(tmp_path: Path, outside: Path) -> Iterator[Path]:
    """A tree whose ``folder`` and ``file`` are theirs at one moment and links to the outside at the next."""
    place = tmp_path / "tree"
    (place / "folder").mkdir(parents=True)
    (place / "folder/file").write_bytes(b"of the program")
    (place / "file").write_bytes(b"of the program")
    command = [sys.executable, "-m", "tests.security.swapping", str(place), str(outside)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as swapping:
        assert swapping.stdout is not None
        swapping.stdout.readline()
        yield place
        swapping.kill()


def test_the_race_is_real(root: Path) -> None:
    """Negative control: whoever opens by path name reads the host's file."""

    def is_fooled() -> bool:
        for _ in range(ROUNDS):
            with contextlib.suppress(OSError):
                if (root / "file").read_bytes() == SECRET:
                    return True
        return False

    wait_until(is_fooled, 60, "a read by path name follows the link")


def test_reading(root: Path) -> None:
    fd = tree.open_root(root)
    try:
        for _ in range(ROUNDS):
            for path in ("folder/file", "file"):
                with contextlib.suppress(OSError):
                    opened = tree.open_file(fd, path)
                    content = os.read(opened, 100)
                    os.close(opened)
                    assert content != SECRET
    finally:
        os.close(fd)


def test_listing(root: Path, outside: Path) -> None:
    (outside / "only outside").write_bytes(b"")
    fd = tree.open_root(root)
    try:
        for _ in range(ROUNDS):
            assert not any("only outside" in path for path in tree.scan(fd).marks)
    finally:
        os.close(fd)


def test_writing(root: Path, outside: Path) -> None:
    fd = tree.open_root(root)
    try:
        for _ in range(ROUNDS):
            for path in ("folder/file", "file", "folder/new"):
                with contextlib.suppress(OSError):
                    tree.write_file(fd, path, lambda opened: os.write(opened, b"upload"))
                with contextlib.suppress(OSError):
                    tree.discard(fd, "folder/file")
    finally:
        os.close(fd)
    assert [entry.name for entry in outside.iterdir()] == ["file"]
    assert (outside / "file").read_bytes() == SECRET


def test_removing(root: Path, outside: Path, tmp_path: Path) -> None:
    tree.remove_tree(tmp_path, "tree")
    assert (outside / "file").read_bytes() == SECRET
