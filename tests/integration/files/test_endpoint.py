"""The files endpoint: what is stored, what is refused, and what an upload that breaks off leaves (nothing)."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from era_project import conf
from sessions_app.api import body_bytes
from sessions_app.models import Entry, Session
from storage_app import objects
from tests.integration.files.asgi import BROKEN, STALLED, request


@pytest.fixture
def small_limits(real_db: None) -> Iterator[None]:
    conf.set_for_this_process({"ERA_WORKSPACE_BYTES": "1000", "ERA_WORKSPACE_FILES": "3"})
    yield
    conf.set_for_this_process({"ERA_WORKSPACE_BYTES": "", "ERA_WORKSPACE_FILES": ""})


def put(session: Session, path: str, *pieces: bytes, **more: Any) -> Any:
    return request("PUT", session.name, path, pieces=pieces or (b"",), **more)


def get(session: Session, path: str, **more: Any) -> Any:
    return request("GET", session.name, path, **more)


def link(session: Session, path: str, target: str) -> None:
    Entry.objects.create(session=session, path=path, kind="l", target=target)


def spooled() -> list[str]:
    return sorted(file.name for file in objects.spool_dir().iterdir())


def test_put_and_get(session: Session) -> None:
    content = bytes(range(256)) * 5000
    stored = put(session, "sub/f%C3%BCr%20alle.bin", content[:100], content[100:700_000], content[700_000:])
    assert (stored.status, json.loads(stored.body)) == (200, {"path": "sub/für alle.bin", "size": len(content)})
    found = get(session, "sub/f%C3%BCr%20alle.bin")
    assert (found.status, found.body) == (200, content)
    assert found.headers["etag"] == f'"{hashlib.sha256(content).hexdigest()}"'
    assert found.headers["content-length"] == str(len(content))
    assert found.headers["content-type"] == "application/octet-stream"
    assert found.headers["x-content-type-options"] == "nosniff"
    assert found.headers["content-security-policy"] == "sandbox"
    session.refresh_from_db()
    assert (session.file_count, session.total_bytes) == (1, len(content))


def test_an_empty_file(session: Session) -> None:
    assert put(session, "empty.txt").status == 200
    found = get(session, "empty.txt")
    assert (found.status, found.body, found.headers["content-length"]) == (200, b"", "0")
    assert found.headers["content-type"].startswith("text/plain")


def test_head_sends_no_body(session: Session) -> None:
    put(session, "a", b"content")
    found = get(session, "a", head=True)
    assert (found.status, found.body, found.headers["content-length"]) == (200, b"", "7")


def test_list(session: Session) -> None:
    for path in ("b", "a/2", "a/1", "c%0Ad"):
        put(session, path, b"xx")
    link(session, "a/link", "1")
    listed = json.loads(get(session, "").body)
    assert [file["path"] for file in listed["files"]] == ["a/1", "a/2", "b", "c\nd"]
    assert (listed["total_count"], listed["total_size_bytes"]) == (4, 8)
    assert listed["files"][0]["modified_at"].endswith("Z")
    assert [file["path"] for file in json.loads(get(session, "", query="prefix=a/").body)["files"]] == ["a/1", "a/2"]
    assert get(session, "", query="prefx=a").code == "UNKNOWN_FIELD"
    assert get(session, "", query="prefix=%00").status == 400
    assert get(session, "", query="prefix=%ff").status == 400


def test_delete(session: Session) -> None:
    put(session, "a/b", b"x")
    assert request("DELETE", session.name, "a").status == 404
    deleted = request("DELETE", session.name, "a/b")
    assert (deleted.status, json.loads(deleted.body)) == (200, {"success": True, "path": "a/b"})
    assert request("DELETE", session.name, "a/b").status == 404
    assert get(session, "a/b").status == 404
    session.refresh_from_db()
    assert (session.file_count, session.total_bytes) == (0, 0)


@pytest.mark.parametrize("range_", ["bytes=0-3", "bytes=3-", "bytes=-4"])
def test_ranges(session: Session, range_: str) -> None:
    put(session, "a", b"0123456789")
    found = get(session, "a", headers={"Range": range_})
    start, end = {"bytes=0-3": (0, 4), "bytes=3-": (3, 10), "bytes=-4": (6, 10)}[range_]
    assert (found.status, found.body) == (206, b"0123456789"[start:end])
    assert found.headers["content-range"] == f"bytes {start}-{end - 1}/10"


def test_a_range_past_the_end(session: Session) -> None:
    put(session, "a", b"0123456789")
    found = get(session, "a", headers={"Range": "bytes=10-"})
    assert (found.status, found.headers["content-range"]) == (416, "bytes */10")
    assert json.loads(found.body)["code"] == "RANGE_NOT_SATISFIABLE"


def test_conditions(session: Session) -> None:
    etag = put(session, "a", b"one").headers["etag"]
    assert get(session, "a", headers={"If-None-Match": etag}).status == 304
    assert get(session, "a", headers={"Range": "bytes=0-0", "If-Range": '"other"'}).status == 200
    assert put(session, "a", b"two", headers={"If-Match": '"other"'}).code == "PRECONDITION_FAILED"
    assert put(session, "a", b"two", headers={"If-None-Match": "*"}).status == 412
    assert put(session, "a", b"two", headers={"If-Match": etag}).status == 200
    assert request("DELETE", session.name, "a", headers={"If-Match": etag}).status == 412
    assert put(session, "b", b"", headers={"If-Match": "*"}).status == 412
    assert get(session, "a").body == b"two"


@pytest.mark.parametrize(
    "path",
    ["..", "../x", "a/../b", "a//b", "/etc/passwd", "a/", ".", "a%2Fb", "%2e%2e/x", "a%00b", "%ff", "x" * 256,
     "/".join(["d" * 200] * 21), ".session_data.json", ".session_data.json/x"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_paths_that_are_refused(session: Session, method: str, path: str) -> None:
    answer = request(method, session.name, path)
    assert (answer.status, answer.code) == (400, "INVALID_INPUT")


def test_files_and_folders_in_each_others_place(session: Session) -> None:
    put(session, "a/b", b"x")
    assert put(session, "a", b"y").status == 409
    assert put(session, "a/b/c", b"y").status == 409
    Entry.objects.create(session=session, path="empty", kind="d")
    assert put(session, "empty", b"y").status == 409
    assert get(session, "empty").status == 404
    assert put(session, "empty/c", b"y").status == 200
    assert sorted(Entry.objects.filter(session=session).values_list("path", flat=True)) == ["a/b", "empty/c"]


def test_links_are_not_followed(session: Session) -> None:
    put(session, "real/file", b"x")
    link(session, "file", "real/file")
    link(session, "folder", "real")
    for path in ("file", "folder/file"):
        assert get(session, path).status == 404
        assert put(session, path, b"y").status == 400
        assert request("DELETE", session.name, path).status == 404
    assert get(session, "real/file").body == b"x"


def test_an_upload_that_breaks_off_leaves_nothing(session: Session) -> None:
    put(session, "a", b"old")
    before = spooled()
    assert put(session, "a", b"n" * 3_000_000, BROKEN).status == 0
    assert put(session, "b", b"n", BROKEN).status == 0
    assert put(session, "c", BROKEN).status == 0
    assert spooled() == before
    assert get(session, "a").body == b"old"
    assert get(session, "b").status == 404


def test_an_upload_that_stalls_is_given_up(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_bytes, "STALL_S", 0.05)
    put(session, "a", b"old")
    before = spooled()
    for pieces in ((STALLED,), (b"n", STALLED), (b"n" * 3_000_000, STALLED)):
        answer = put(session, "a", *pieces)
        assert (answer.status, answer.code) == (408, "BODY_STALLED")
    assert spooled() == before
    assert get(session, "a").body == b"old"


def test_an_unknown_session(session: Session) -> None:
    for method in ("GET", "PUT", "DELETE"):
        assert request(method, "missing", "a").status == 404
    assert request("GET", "missing", "").status == 404
    assert request("PUT", "missing", "a", pieces=(b"x" * 2_000_000, BROKEN)).status == 404


def test_limits(session: Session, small_limits: None) -> None:
    assert put(session, "a", b"x" * 600).status == 200
    assert put(session, "a", b"x" * 1000).status == 200
    assert put(session, "b", b"x").code == "TOO_LARGE"
    assert put(session, "a", b"x" * 1001).status == 413
    assert put(session, "b", b"x", headers={"Content-Length": "1001"}).status == 413
    assert put(session, "a", b"x" * 1_500_000, b"x", BROKEN).status == 413
    assert get(session, "a").headers["content-length"] == "1000"
    for path in ("b", "c"):
        assert put(session, path).status == 200
    assert put(session, "d").status == 413
    assert put(session, "c").status == 200
    assert request("DELETE", session.name, "c").status == 200
    assert put(session, "d").status == 200


def test_compressed_bodies_are_refused(session: Session) -> None:
    assert put(session, "a", b"x", headers={"Content-Encoding": "gzip"}).status == 415
    assert put(session, "a", b"x", headers={"Content-Type": "application/x-www-form-urlencoded"}).status == 200


def test_racing_uploads_lose_nothing(session: Session) -> None:
    barrier = threading.Barrier(8)

    def race(number: int) -> int:
        barrier.wait()
        put(session, f"own/{number}", b"%d" % number)
        return int(put(session, "shared", b"%d" % number * 1000).status)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(race, range(8))) == {200}
    for number in range(8):
        assert get(session, f"own/{number}").body == b"%d" % number
    assert get(session, "shared").body in {b"%d" % number * 1000 for number in range(8)}
    session.refresh_from_db()
    assert (session.file_count, session.total_bytes) == (9, 8 + 1000)


def test_only_one_of_two_careful_writers_wins(session: Session) -> None:
    etag = put(session, "a", b"start").headers["etag"]
    barrier = threading.Barrier(4)

    def race(number: int) -> int:
        barrier.wait()
        return int(put(session, "a", b"%d" % number, headers={"If-Match": etag}).status)

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(race, range(4))) == [200, 412, 412, 412]


def test_bytes_that_the_store_has_lost(session: Session) -> None:
    etag = put(session, "a", b"lost bytes of their own").headers["etag"]
    objects.store().delete(etag.strip('"'))
    answer = get(session, "a")
    assert (answer.status, answer.code) == (500, "FILE_MISSING")
