"""Files over the wire of a whole server: paths as they come, uploads that break off, runs that use them."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import socket
from collections.abc import Iterator

import pytest

from tests.servers import Server
from tests.waiting import wait_until


@pytest.fixture
def name(server: Server) -> str:
    return str(server.post("/api/sessions", {"language": "python"}).json["id"])


def put(server: Server, name: str, path: str, content: bytes, **headers: str) -> int:
    return server.request("PUT", f"/api/sessions/{name}/files/{path}", content, headers).status


def test_bytes_come_back_as_they_went(server: Server, name: str) -> None:
    content = os.urandom(300_000)
    stored = server.request(
        "PUT",
        f"/api/sessions/{name}/files/a%20b/%C3%BC.bin",
        content,
        {"Content-Type": "application/x-www-form-urlencoded"},
    )
    assert (stored.status, stored.json) == (200, {"path": "a b/ü.bin", "size": 300_000})
    found = server.get(f"/api/sessions/{name}/files/a%20b/%C3%BC.bin")
    assert found.body == content
    assert found.headers["etag"] == f'"{hashlib.sha256(content).hexdigest()}"'
    assert found.headers["content-security-policy"] == "sandbox"
    assert "x-request-id" in found.headers
    part = server.get(f"/api/sessions/{name}/files/a%20b/%C3%BC.bin", Range="bytes=299990-")
    assert (part.status, part.body) == (206, content[-10:])
    listed = server.get(f"/api/sessions/{name}/files").json
    assert [(file["path"], file["size"]) for file in listed["files"]] == [("a b/ü.bin", 300_000)]
    whole = server.get(f"/api/sessions/{name}").json
    assert (whole["file_count"], whole["total_size_bytes"], whole["files"]) == (1, 300_000, listed["files"])


def test_head(server: Server, name: str) -> None:
    put(server, name, "a.txt", b"hello")
    found = server.request("HEAD", f"/api/sessions/{name}/files/a.txt")
    assert (found.status, found.headers["content-length"], found.body) == (200, "5", b"")


@pytest.mark.parametrize("path", ["../x", "%2e%2e/x", "a%2Fb", "a//b", "a%00", "%ff", "./a", ".session_data.json"])
def test_paths_are_read_as_they_were_sent(server: Server, name: str, path: str) -> None:
    answer = server.request("PUT", f"/api/sessions/{name}/files/{path}", b"x")
    assert (answer.status, answer.json["code"]) == (400, "INVALID_INPUT")


def test_other_methods(server: Server, name: str) -> None:
    answer = server.request("POST", f"/api/sessions/{name}/files/a", b"{}")
    assert answer.status == 405
    assert "PUT" in answer.headers["allow"]
    assert server.request("PUT", f"/api/sessions/{name}/files", b"x").status == 405


def pieces() -> Iterator[bytes]:
    for _ in range(40):
        yield b"x" * 100_000


def test_a_body_of_unknown_length(server: Server, name: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    with contextlib.closing(connection):
        connection.request("PUT", f"/api/sessions/{name}/files/big", pieces(), encode_chunked=True,
                           headers={"Transfer-Encoding": "chunked"})  # fmt: skip
        assert connection.getresponse().status == 200
    assert server.get(f"/api/sessions/{name}/files/big").headers["content-length"] == "4000000"


def test_an_upload_that_breaks_off(server: Server, name: str) -> None:
    put(server, name, "a", b"old")
    spool = server.state / "objects/tmp"
    with socket.create_connection(("127.0.0.1", server.port), 30) as client:
        head = f"PUT /api/sessions/{name}/files/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n\r\n"
        client.sendall(head.encode() + b"n" * 4_000_000)
        wait_until(lambda: list(spool.iterdir()), 30, "the upload has begun")
    wait_until(lambda: not list(spool.iterdir()), 30, "nothing is left of the upload")
    assert server.get(f"/api/sessions/{name}/files/a").body == b"old"


def test_runs_see_uploads_and_leave_files(server: Server, name: str) -> None:
    put(server, name, "in/data.txt", b"from outside")
    code = """
import os
print(open("in/data.txt").read())
os.makedirs("out")
open("out/result.bin", "wb").write(bytes([0, 255, 10]))
open("in/data.txt", "a").write("!")
os.symlink("out/result.bin", "link")
os.symlink("/etc/passwd", "bad")
"""
    first = server.post(f"/api/sessions/{name}/run", {"code": code}).json
    assert (first["status"], first["stdout"]) == ("succeeded", "from outside\n"), first
    assert first["changes"] == {"created": ["link", "out/result.bin"], "changed": ["in/data.txt"], "deleted": []}
    assert first["files_modified"] == 3
    assert any("'bad'" in warning for warning in first["warnings"])
    assert server.get(f"/api/sessions/{name}/files/out/result.bin").body == bytes([0, 255, 10])
    assert server.get(f"/api/sessions/{name}/files/link").status == 404
    put(server, name, "late.txt", b"between two runs")
    server.delete(f"/api/sessions/{name}/files/out/result.bin")
    code = 'import os; print(open("late.txt").read(), os.path.exists("out/result.bin")); os.remove("in/data.txt")'
    second = server.post(f"/api/sessions/{name}/run", {"code": code}).json
    assert second["stdout"] == "between two runs False\n", second
    assert second["changes"]["deleted"] == ["in/data.txt"]
    assert server.get(f"/api/sessions/{name}/files/in/data.txt").status == 404


def test_a_duplicate_has_files_of_its_own(server: Server, name: str) -> None:
    put(server, name, "a", b"shared")
    copy = server.post(f"/api/sessions/{name}/duplicate").json["id"]
    put(server, copy, "a", b"its own")
    assert server.get(f"/api/sessions/{name}/files/a").body == b"shared"
    assert server.get(f"/api/sessions/{copy}/files/a").body == b"its own"


def test_files_of_a_session_that_keeps_none(server: Server) -> None:
    name = server.post("/api/sessions", {"language": "python", "persistent": False}).json["id"]
    put(server, name, "given", b"x")
    code = 'import os; print(sorted(os.listdir())); open("made", "w").write("y")'
    first = server.post(f"/api/sessions/{name}/run", {"code": code}).json
    assert "given" in first["stdout"], first
    assert server.get(f"/api/sessions/{name}/files/made").body == b"y"
    put(server, name, "next", b"z")
    second = server.post(f"/api/sessions/{name}/run", {"code": code}).json
    assert "next" in second["stdout"]
    assert "given" not in second["stdout"]
    assert "made" not in second["stdout"]
