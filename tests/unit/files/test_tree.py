"""Untrusted trees: what is listed, what is dropped, and that no link is ever followed."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from runners import tree
from runners.tree import writing


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    folder.mkdir()
    return folder


@pytest.fixture
def fd(root: Path) -> Iterator[int]:
    descriptor = tree.open_root(root)
    yield descriptor
    os.close(descriptor)


def read(fd: int, path: str) -> bytes:
    opened = tree.open_file(fd, path)
    try:
        return os.read(opened, 1 << 20)
    finally:
        os.close(opened)


def fill(content: bytes) -> writing.Fill:
    return lambda fd: os.write(fd, content)


class TestListing:
    def test_has_files_links_and_empty_folders(self, root: Path, fd: int) -> None:
        (root / "a/b").mkdir(parents=True)
        (root / "a/b/file").write_bytes(b"123")
        (root / "empty").mkdir()
        (root / "a/link").symlink_to("b/file")
        listing = tree.scan(fd)
        assert set(listing.marks) == {"a/b/file", "empty", "a/link"}
        assert listing.marks["a/b/file"].size == 3
        assert listing.targets == {"a/link": "b/file"}
        assert listing.warnings == []
        assert listing.is_complete

    def test_paths_take_bounded_memory(self, root: Path, fd: int) -> None:
        """A deep folder of long names costs its owner little and would cost us 4 KiB for each file in it."""
        for number in range(10):
            (root / f"{number}-{'x' * 200}").write_bytes(b"")
            (root / f"link-{number}").symlink_to("y" * 400)
        listing = tree.scan(fd, caps=tree.Caps(characters=2000))
        assert 0 < len(listing.marks) < 20
        assert not listing.is_complete
        assert "not all of them are kept" in listing.warnings[-1]

    def test_our_own_faults_make_nothing_vanish(self, root: Path, fd: int) -> None:
        """A server without descriptors must not take a folder for deleted."""
        (root / "a/b").mkdir(parents=True)
        (root / "a/b/file").write_bytes(b"123")
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest = os.dup(fd)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 3, hard))
        try:
            with pytest.raises(OSError, match="Too many open files"):
                tree.scan(fd)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    def test_leaves_out_ignored_names_at_the_top_only(self, root: Path, fd: int) -> None:
        (root / "x").write_bytes(b"")
        (root / "sub").mkdir()
        (root / "sub/x").write_bytes(b"")
        assert set(tree.scan(fd, ignored=frozenset(("x",))).marks) == {"sub/x"}

    @pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "sub/../../outside", "..", "./../tree/x"])
    def test_drops_links_that_leave(self, root: Path, fd: int, target: str) -> None:
        (root / "bad").symlink_to(target)
        listing = tree.scan(fd)
        assert listing.marks == {}
        assert "'bad' was dropped" in listing.warnings[0]

    @pytest.mark.parametrize("target", ["file", "./file", "sub/../file", "missing", "."])
    def test_keeps_links_that_stay(self, root: Path, fd: int, target: str) -> None:
        (root / "good").symlink_to(target)
        assert tree.scan(fd).targets == {"good": target}

    def test_drops_fifos_and_sockets(self, root: Path, fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
        os.mkfifo(root / "fifo")
        monkeypatch.chdir(root)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("socket")
        listing = tree.scan(fd)
        assert listing.marks == {}
        assert len(listing.warnings) == 2

    def test_drops_names_that_are_no_utf8(self, root: Path, fd: int) -> None:
        os.close(os.open(os.fsencode(root) + b"/bad\xff", os.O_CREAT | os.O_WRONLY))
        listing = tree.scan(fd)
        assert listing.marks == {}
        assert "not UTF-8" in listing.warnings[0]
        listing.warnings[0].encode()

    def test_drops_what_lies_too_deep(self, root: Path, fd: int) -> None:
        (root / "/".join("d" * 64)).mkdir(parents=True)
        (root / "/".join("d" * 64) / "file").write_bytes(b"")
        (root / "/".join("d" * 63) / "file").write_bytes(b"")
        listing = tree.scan(fd)
        assert "/".join("d" * 63) + "/file" in listing.marks
        assert any("deep" in warning for warning in listing.warnings)

    def test_is_cut_off_at_the_cap(self, root: Path, fd: int) -> None:
        for number in range(20):
            (root / str(number)).write_bytes(b"")
        listing = tree.scan(fd, caps=tree.Caps(entries=10))
        assert len(listing.marks) == 10
        assert not listing.is_complete

    def test_tells_only_some_of_many_drops(self, root: Path, fd: int) -> None:
        for number in range(100):
            (root / str(number)).symlink_to("/")
        warnings = tree.scan(fd).warnings
        assert len(warnings) == tree.SHOWN_WARNINGS + 1
        assert warnings[-1].startswith("80 more")


class TestReading:
    def test_reads_a_file_of_any_mode(self, root: Path, fd: int) -> None:
        (root / "secret").write_bytes(b"x")
        (root / "secret").chmod(0)
        assert read(fd, "secret") == b"x"
        assert (root / "secret").stat().st_mode & 0o777 == 0

    def test_follows_no_link_at_the_end(self, root: Path, fd: int) -> None:
        (root / "link").symlink_to("/etc/passwd")
        with pytest.raises(tree.NotRegularError):
            tree.open_file(fd, "link")

    def test_follows_no_link_on_the_way(self, root: Path, fd: int, tmp_path: Path) -> None:
        (tmp_path / "outside").mkdir()
        (tmp_path / "outside/file").write_bytes(b"secret")
        (root / "way").symlink_to(tmp_path / "outside")
        with pytest.raises(NotADirectoryError):
            tree.open_file(fd, "way/file")

    def test_never_opens_a_fifo(self, root: Path, fd: int) -> None:
        os.mkfifo(root / "fifo")
        with pytest.raises(tree.NotRegularError):
            tree.open_file(fd, "fifo")

    @pytest.mark.parametrize("path", ["", "/etc/passwd", "..", "../x", "a/../b", "a//b", "./a", "a\0b"])
    def test_takes_only_paths_inside(self, fd: int, path: str) -> None:
        with pytest.raises(ValueError):
            tree.open_file(fd, path)


class TestWriting:
    def test_makes_folders_and_sets_mode_and_time(self, root: Path, fd: int) -> None:
        mark = tree.write_file(fd, "a/b/file", fill(b"hello"), mode=0o4755, mtime_ns=1_500_000_000_123_456_789)
        status = (root / "a/b/file").stat()
        assert (root / "a/b/file").read_bytes() == b"hello"
        assert status.st_mode & 0o7777 == 0o755
        assert status.st_mtime_ns == 1_500_000_000_123_456_789
        assert tree.mark_of(status) == mark

    def test_replaces_a_link_instead_of_writing_through_it(self, root: Path, fd: int, tmp_path: Path) -> None:
        (tmp_path / "victim").write_bytes(b"untouched")
        (root / "file").symlink_to(tmp_path / "victim")
        tree.write_file(fd, "file", fill(b"new"))
        assert (tmp_path / "victim").read_bytes() == b"untouched"
        assert (root / "file").read_bytes() == b"new"

    def test_replaces_a_link_on_the_way(self, root: Path, fd: int, tmp_path: Path) -> None:
        (tmp_path / "victim").mkdir()
        (root / "way").symlink_to(tmp_path / "victim")
        tree.write_file(fd, "way/file", fill(b"new"))
        assert list((tmp_path / "victim").iterdir()) == []
        assert (root / "way/file").read_bytes() == b"new"

    def test_leaves_the_old_file_when_it_fails(self, root: Path, fd: int) -> None:
        (root / "file").write_bytes(b"old")

        def fail(descriptor: int) -> None:
            os.write(descriptor, b"half")
            raise OSError(28, "No space left on device")

        with pytest.raises(OSError, match="No space"):
            tree.write_file(fd, "file", fail)
        assert [entry.name for entry in root.iterdir()] == ["file"]
        assert (root / "file").read_bytes() == b"old"

    def test_gives_files_to_the_owner_of_the_tree(self, root: Path, fd: int) -> None:
        if os.geteuid() != 0:
            pytest.skip("only root can give files away")
        os.chown(root, 12345, 23456)
        tree.write_file(fd, "a/file", fill(b""))
        tree.make_link(fd, "a/link", "file")
        tree.make_folder(fd, "folder")
        for path in ("a", "a/file", "a/link", "folder"):
            status = (root / path).lstat()
            assert (status.st_uid, status.st_gid) == (12345, 23456)

    def test_discards_files_links_and_empty_folders_only(self, root: Path, fd: int) -> None:
        (root / "full").mkdir()
        (root / "full/file").write_bytes(b"")
        (root / "link").symlink_to("full")
        (root / "empty").mkdir()
        for path in ("full", "link", "empty", "missing", "missing/below"):
            tree.discard(fd, path)
        assert sorted(entry.name for entry in root.iterdir()) == ["full"]
        tree.discard(fd, "full/file")
        assert list((root / "full").iterdir()) == []


class TestRemoving:
    def test_removes_links_but_not_their_targets(self, root: Path, tmp_path: Path) -> None:
        (tmp_path / "outside").mkdir()
        (tmp_path / "outside/file").write_bytes(b"")
        (root / "link").symlink_to(tmp_path / "outside")
        (root / "locked").mkdir()
        (root / "locked/file").write_bytes(b"")
        (root / "locked").chmod(0)
        assert tree.remove_tree(tmp_path, "tree")
        assert not root.exists()
        assert (tmp_path / "outside/file").exists()

    def test_removes_a_tree_deeper_than_any_path(self, root: Path, tmp_path: Path) -> None:
        fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        for _ in range(1000):
            os.mkdir("deeper", dir_fd=fd)
            below = os.open("deeper", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = below
        os.close(fd)
        assert tree.remove_tree(tmp_path, "tree")
        assert not root.exists()

    def test_nothing_there_is_fine(self, tmp_path: Path) -> None:
        assert tree.remove_tree(tmp_path, "missing")
