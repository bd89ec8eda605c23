"""What only a real server over a real socket shows: garbage, large bodies, callers who leave, ends in mid-run."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from http.cookiejar import CookieJar
from typing import Any
from urllib.parse import urlencode

import psycopg
import pytest

from tests.servers import Server
from tests.waiting import wait_until

SLEEPS = "import time\nprint('begun', flush=True)\ntime.sleep(60)"
WITHIN_S = 30
CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"


def exchanged(server: Server, sent: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the one answer to ``sent``."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=WITHIN_S) as client:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        got = b"".join(iter(lambda: client.recv(65536), b""))
    head, _, body = got.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return int(first.split()[1]), headers, body


def test_the_admin_keeps_no_connection(server: Server) -> None:
    cookies = CookieJar()
    person = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(cookies))
    person.open(f"{server.url}/admin/login/", timeout=WITHIN_S)
    (token,) = [cookie.value for cookie in cookies if cookie.name == "csrftoken"]
    password = (server.state / "admin-password").read_text().strip()
    form = {"username": "admin", "password": password, "csrfmiddlewaretoken": token, "next": "/admin/"}
    person.open(f"{server.url}/admin/login/", urlencode(form).encode(), timeout=WITHIN_S)
    with psycopg.connect(server.env["DATABASE_URL"], autocommit=True) as own:
        (before,) = own.execute(CONNECTIONS).fetchone() or (0,)
        for _ in range(60):
            assert b"admin" in person.open(f"{server.url}/admin/sessions_app/run/", timeout=WITHIN_S).read()
        kept = before + 10  # other parts of the server may have opened theirs meanwhile
        wait_until(lambda: own.execute(CONNECTIONS).fetchone() <= (kept,), WITHIN_S, "they are closed again")  # type: ignore[operator]


def running(server: Server, session: str) -> Any:
    """The id of the run that runs in ``session``; None: none does."""
    runs = server.get(f"/api/runs?session_id={session}&status=running").json["runs"]
    return runs[0]["run_id"] if runs else None


def new_session(server: Server, *, persistent: bool = True) -> str:
    name = f"http-{uuid.uuid4()}"
    made = server.post("/api/sessions", {"language": "python", "session_id": name, "persistent": persistent})
    assert made.status == 201, made.body
    return name


def test_garbage_gets_an_error_of_ours(server: Server) -> None:
    status, headers, body = exchanged(server, b"GARBAGE\r\n\r\n")
    assert (status, json.loads(body)["code"]) == (400, "MALFORMED_REQUEST")
    assert headers["x-request-id"]
    assert int(headers["content-length"]) == len(body)


def test_another_host_is_refused(server: Server) -> None:
    status, _, body = exchanged(server, b"GET /health HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
    assert (status, json.loads(body)["code"]) == (400, "BAD_HOST")


def test_an_upgrade_that_is_none_is_an_ordinary_request(server: Server) -> None:
    for upgrade in ("", "Upgrade: h2c\r\n", "Upgrade: websocket\r\n"):
        sent = f"GET /health/live HTTP/1.1\r\nHost: localhost\r\n{upgrade}Connection: upgrade, close\r\n\r\n"
        assert exchanged(server, sent.encode())[0] == 200, upgrade


def test_a_chunked_body_is_counted(server: Server) -> None:
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=WITHIN_S)
    with contextlib.closing(client):
        pieces = (b" " * (1 << 20) for _ in range(17))
        kind = {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}
        client.request("POST", "/api/execute", body=pieces, headers=kind, encode_chunked=True)
        response = client.getresponse()
        assert (response.status, json.loads(response.read())["code"]) == (413, "TOO_LARGE")


@pytest.mark.parametrize("persistent", [True, False])
def test_deleting_a_session_ends_its_run(server: Server, persistent: bool) -> None:
    name = new_session(server, persistent=persistent)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(server.post, f"/api/sessions/{name}/run", {"code": SLEEPS})
        wait_until(lambda: running(server, name), WITHIN_S, "the run")
        assert server.delete(f"/api/sessions/{name}").status == 200
        answer = waiting.result(WITHIN_S)
    assert (answer.status, answer.json["status"]) == (200, "cancelled")
    assert server.get(f"/api/sessions/{name}").status == 404


def test_a_caller_who_leaves_ends_the_run(server: Server) -> None:
    name = new_session(server)
    body = json.dumps({"code": SLEEPS}).encode()
    head = f"POST /api/sessions/{name}/run HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=WITHIN_S) as client:
        client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        run_id = wait_until(lambda: running(server, name), WITHIN_S, "the run")
    ended = wait_until(lambda: ended_run(server, run_id), WITHIN_S, "the end of the run")
    assert ended["status"] == "cancelled"
    server.delete(f"/api/sessions/{name}")


def ended_run(server: Server, run_id: str) -> Any:
    run = server.get(f"/api/runs/{run_id}").json
    return run if run["finished_at"] else None


def test_cancelling_answers_with_the_end(server: Server) -> None:
    name = new_session(server)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(server.post, f"/api/sessions/{name}/run", {"code": SLEEPS})
        run_id = wait_until(lambda: running(server, name), WITHIN_S, "the run")
        assert server.delete(f"/api/runs/{run_id}").status == 200
        assert waiting.result(WITHIN_S).json["status"] == "cancelled"
    assert server.delete(f"/api/runs/{run_id}").json["status"] == "cancelled"
    server.delete(f"/api/sessions/{name}")


def test_a_run_over_its_time_is_a_408(server: Server) -> None:
    answer = server.post("/api/execute", {"language": "python", "code": SLEEPS, "timeout_ms": 500})
    assert (answer.status, answer.json["code"], answer.json["status"]) == (408, "TIMEOUT", "timed_out")
    assert (answer.json["stdout"], answer.json["exit_code"]) == ("begun\n", 124)
