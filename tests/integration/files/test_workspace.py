"""Workspaces: checked out, brought up to date, read back; what hostile trees leave in them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.db import connection, transaction

from era_project import conf
from era_project.errors import Conflict
from sessions_app import entries, workspace
from sessions_app.models import Entry, Session
from sessions_app.services import files, owners
from sessions_app.services.preconditions import Precondition
from sessions_app.session_data import DataError
from sessions_app.workspace import Collected, Workspace
from storage_app import blobs


def upload(session: Session, path: str, content: bytes) -> None:
    files.put(
        session.name,
        path,
        blobs.put_bytes(content),
        owner_id=owners.default_id(),
        precondition=Precondition(),
    )


def remove(session: Session, path: str) -> None:
    files.delete(session.name, path, owner_id=owners.default_id(), precondition=Precondition())


def apply(session: Session, collected: Collected) -> None:
    if collected.is_change:
        with transaction.atomic(), connection.cursor() as cursor:
            workspace.apply(session.pk, collected, cursor)
    collected.counts = True


def sync(session: Session, place: Workspace) -> tuple[str, ...]:
    session.refresh_from_db()
    return place.sync(session.files_version)


def rows(session: Session) -> dict[str, str]:
    return dict(Entry.objects.filter(session=session).values_list("path", "kind"))


def counts(session: Session) -> tuple[int, int]:
    session.refresh_from_db()
    return session.file_count, session.total_bytes


@pytest.fixture
def place(session: Session) -> Iterator[Workspace]:
    checked_out = Workspace.checkout(session.pk)
    yield checked_out
    checked_out.remove()


@pytest.fixture
def root(place: Workspace) -> Path:
    return conf.get().workspaces_dir / place.name


def test_a_checkout_has_everything(session: Session) -> None:
    first = Workspace.checkout(session.pk)
    root = conf.get().workspaces_dir / first.name
    (root / "bin").mkdir()
    (root / "bin/tool").write_bytes(b"#!/bin/sh\n")
    (root / "bin/tool").chmod(0o755)
    os.utime(root / "bin/tool", ns=(1, 1_400_000_000_000_000_123))
    (root / "empty/deep").mkdir(parents=True)
    (root / "link").symlink_to("bin/tool")
    (root / "ünïcode 文件").write_bytes(b"\0\xff")
    apply(session, first.collect())
    first.remove()
    assert not root.exists()

    second = Workspace.checkout(session.pk)
    root = conf.get().workspaces_dir / second.name
    status = (root / "bin/tool").stat()
    assert status.st_mode & 0o777 == 0o755
    assert status.st_mtime_ns == 1_400_000_000_000_000_123
    assert (root / "empty/deep").is_dir()
    assert (root / "link").readlink() == Path("bin/tool")
    assert (root / "ünïcode 文件").read_bytes() == b"\0\xff"
    assert second.collect().files_modified == 0
    second.remove()
    assert counts(session) == (2, 12)


def test_a_collect_tells_created_changed_and_deleted(session: Session, place: Workspace, root: Path) -> None:
    for name in ("kept", "touched", "rewritten", "edited", "gone", "made-executable"):
        (root / name).write_bytes(b"content")
    apply(session, place.collect())
    sync(session, place)
    (root / "new").write_bytes(b"x")
    os.utime(root / "touched")
    (root / "rewritten").write_bytes(b"content")
    (root / "edited").write_bytes(b"another")
    (root / "gone").unlink()
    (root / "made-executable").chmod(0o755)
    collected = place.collect()
    assert collected.changes.created == ("new",)
    assert collected.changes.changed == ("edited", "made-executable")
    assert collected.changes.deleted == ("gone",)
    assert collected.files_modified == 4
    apply(session, collected)
    assert counts(session) == (6, 36)


def test_a_change_within_a_clock_tick_is_seen(session: Session, place: Workspace, root: Path) -> None:
    for number in range(30):
        (root / "file").write_bytes(b"%03d" % number)
        place.collect()
        (root / "file").write_bytes(b"%03d" % (number + 500))
        assert place.collect().changes.changed == ("file",), f"round {number}"


def test_a_file_becomes_a_folder_and_back(session: Session, place: Workspace, root: Path) -> None:
    (root / "a").write_bytes(b"file")
    apply(session, place.collect())
    sync(session, place)
    (root / "a").unlink()
    (root / "a").mkdir()
    (root / "a/b").write_bytes(b"below")
    apply(session, place.collect())
    sync(session, place)
    assert rows(session) == {"a/b": "f"}
    shutil.rmtree(root / "a")
    (root / "a").symlink_to("elsewhere")
    apply(session, place.collect())
    assert rows(session) == {"a": "l"}
    assert counts(session) == (0, 0)


def test_hostile_things_are_dropped_with_a_warning(session: Session, place: Workspace, root: Path) -> None:
    os.mkfifo(root / "fifo")
    (root / "passwd").symlink_to("/etc/passwd")
    (root / "up").symlink_to("../../..")
    os.close(os.open(os.fsencode(root) + b"/\xff", os.O_CREAT | os.O_WRONLY))
    (root / "good").write_bytes(b"")
    collected = place.collect()
    assert collected.changes.created == ("good",)
    assert len(collected.warnings) == 4
    apply(session, collected)
    assert rows(session) == {"good": "f"}


def test_a_sparse_giant_is_not_read(session: Session, place: Workspace, root: Path) -> None:
    with (root / "giant").open("wb") as file:
        file.truncate(1 << 42)
    (root / "small").write_bytes(b"x")
    collected = place.collect()
    assert collected.changes.created == ("small",)
    assert "at most" in collected.warnings[0]


def test_uploads_and_deletions_reach_a_live_workspace(session: Session, place: Workspace, root: Path) -> None:
    (root / "mine").write_bytes(b"1")
    (root / "old").write_bytes(b"2")
    apply(session, place.collect())
    upload(session, "sub/new", b"uploaded")
    upload(session, "mine", b"replaced")
    remove(session, "old")
    assert sync(session, place) == ()
    assert (root / "sub/new").read_bytes() == b"uploaded"
    assert (root / "mine").read_bytes() == b"replaced"
    assert not (root / "old").exists()
    assert place.collect().files_modified == 0


def test_a_run_that_does_not_count_leaves_no_files(session: Session, place: Workspace, root: Path) -> None:
    (root / "kept").write_bytes(b"1")
    (root / "old").write_bytes(b"2")
    apply(session, place.collect())
    assert sync(session, place) == ()
    (root / "kept").write_bytes(b"changed by a run that was lost")
    (root / "new").write_bytes(b"made by it")
    (root / "old").unlink()
    place.collect()  # its node's word came too late: the rows were not written
    assert sync(session, place) == ()
    assert {path.name: path.read_bytes() for path in root.iterdir()} == {"kept": b"1", "old": b"2"}
    assert place.collect().files_modified == 0


def test_an_upload_never_goes_through_a_link(session: Session, place: Workspace, root: Path, tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"safe")
    (root / "file").symlink_to(tmp_path / "victim")
    (root / "folder").symlink_to(tmp_path)
    upload(session, "file", b"upload")
    upload(session, "folder/victim", b"upload")
    sync(session, place)
    assert (tmp_path / "victim").read_bytes() == b"safe"
    assert (root / "file").read_bytes() == b"upload"
    assert (root / "folder/victim").read_bytes() == b"upload"


def test_an_upload_in_mid_run_stays(session: Session, place: Workspace, root: Path) -> None:
    (root / "both").write_bytes(b"run")
    collected = place.collect()
    upload(session, "both", b"upload")
    upload(session, "theirs", b"upload")
    apply(session, collected)
    found = files.list_files(session.name, owner_id=owners.default_id())
    assert [(file["path"], file["size"]) for file in found["files"]] == [("both", 3), ("theirs", 6)]
    assert sync(session, place) == ()
    assert (root / "theirs").read_bytes() == b"upload"
    assert counts(session) == (2, 9)


def test_an_upload_during_a_run_that_changes_nothing(session: Session, place: Workspace, root: Path) -> None:
    collected = place.collect()
    upload(session, "theirs", b"upload")
    apply(session, collected)
    sync(session, place)
    assert (root / "theirs").read_bytes() == b"upload"


def test_an_upload_in_mid_run_gives_way_to_a_file_in_place_of_its_folder(
    session: Session, place: Workspace, root: Path
) -> None:
    (root / "x").write_bytes(b"a file")
    (root / "folder").mkdir()
    collected = place.collect()
    upload(session, "x/below", b"upload")
    upload(session, "folder/below", b"upload")
    apply(session, collected)
    assert rows(session) == {"x": "f", "folder/below": "f"}
    sync(session, place)
    assert (root / "folder/below").exists()
    assert counts(session) == (2, 12)


def test_files_that_come_with_a_run_stay_but_are_no_changes(session: Session, place: Workspace, root: Path) -> None:
    place.lay("in/put.txt", b"input")
    place.lay("edited", b"input")
    (root / "edited").write_bytes(b"output")
    collected = place.collect()
    assert collected.changes.created == ()
    assert collected.changes.changed == ("edited",)
    apply(session, collected)
    assert rows(session) == {"in/put.txt": "f", "edited": "f"}
    with pytest.raises(Conflict):
        place.lay("in", b"")
    with pytest.raises(Conflict):
        place.lay("edited/below", b"")
    sync(session, place)
    assert place.collect().files_modified == 0


def test_data_is_laid_anew_only_where_a_program_touched_it(place: Workspace, root: Path) -> None:
    file = root / ".session_data.json"
    place.write_data('{"a": 1}')
    laid = file.stat().st_ino
    place.write_data('{"a": 1}')
    assert file.stat().st_ino == laid
    changes: tuple[Callable[[], object], ...] = (
        lambda: file.write_text('{"a": 2}'),
        lambda: file.chmod(0o444),
        lambda: os.link(file, root / "another"),
        file.unlink,
        lambda: instead(file, lambda: file.symlink_to(root / "another")),
        lambda: instead(file, file.mkdir),
        lambda: instead(file, lambda: os.mkfifo(file)),
    )
    for change in changes:
        change()
        place.write_data('{"a": 1}')
        assert not file.is_symlink()
        assert (file.read_text(), file.stat().st_mode & 0o777, file.stat().st_nlink) == ('{"a": 1}', 0o644, 1)


def instead(file: Path, make: Callable[[], object]) -> None:
    file.unlink()
    make()


def test_data_goes_in_and_out(place: Workspace, root: Path) -> None:
    place.write_data('{"a":1.10}')
    assert place.read_data() == '{"a":1.10}'
    (root / ".session_data.json").write_text('{"b": 2,\n "a": 1.0}')
    assert place.read_data() == '{"b":2,"a":1.0}'
    assert place.collect().files_modified == 0


def test_data_is_read_from_a_regular_file_only(place: Workspace, root: Path) -> None:
    place.write_data("{}")
    (root / ".session_data.json").unlink()
    assert isinstance(place.read_data(), DataError)
    (root / ".session_data.json").symlink_to("/etc/hostname")
    assert isinstance(place.read_data(), DataError)
    (root / ".session_data.json").unlink()
    os.mkfifo(root / ".session_data.json")
    assert isinstance(place.read_data(), DataError)
    (root / ".session_data.json").unlink()
    (root / ".session_data.json").mkdir()
    (root / ".session_data.json/below").write_bytes(b"")
    assert isinstance(place.read_data(), DataError)
    place.write_data("{}")
    assert place.read_data() == "{}"


def test_a_session_that_is_gone(session: Session, place: Workspace, root: Path) -> None:
    (root / "file").write_bytes(b"")
    collected = place.collect()
    Session.objects.filter(pk=session.pk).delete()
    with pytest.raises(LookupError):
        apply(session, collected)
    with pytest.raises(LookupError):
        Workspace.checkout(session.pk)
    assert place.name in workspace.leftovers([])
    assert place.name not in workspace.leftovers([place.name])


def test_files_that_end_with_the_run(session: Session) -> None:
    upload(session, "first", b"1")
    workspace.forget_run_files(session.pk)
    place = Workspace.checkout(session.pk)
    (conf.get().workspaces_dir / place.name / "written").write_bytes(b"22")
    apply(session, place.collect())
    place.remove()
    upload(session, "second", b"333")
    assert set(rows(session)) == {"first", "written", "second"}
    workspace.forget_run_files(session.pk)
    assert set(rows(session)) == {"second"}
    assert counts(session) == (1, 3)
    workspace.forget_run_files(session.pk)
    assert counts(session) == (0, 0)


def test_a_copy_shares_the_bytes(session: Session) -> None:
    from tests.integration.files.conftest import make_session

    upload(session, "a/b", b"content")
    copy = make_session()
    with transaction.atomic():
        entries.copy(session.pk, copy.pk)
    assert counts(copy) == (1, 7)
    place = Workspace.checkout(copy.pk)
    assert (conf.get().workspaces_dir / place.name / "a/b").read_bytes() == b"content"
    place.remove()


def test_paths_longer_than_a_row_of_an_index(session: Session, place: Workspace, root: Path) -> None:
    names = [os.urandom(120).hex() for _ in range(16)]
    path = "/".join(names)
    upload(session, path, b"deep")
    sync(session, place)
    assert place.collect().files_modified == 0
    with pytest.raises(Conflict):
        upload(session, "/".join(names[:-1]), b"a folder lies there")
    with pytest.raises(Conflict):
        upload(session, path + "/x", b"a file lies there")
    assert counts(session) == (1, 4)
