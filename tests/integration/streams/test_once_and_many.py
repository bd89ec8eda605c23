"""Keyed calls run once; batches run many; webhooks tell how a run ended."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import http.server
import json
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.integration.streams.clients import frames
from tests.servers import Answer, Server
from tests.waiting import wait_until

RANDOM = {"language": "python", "code": "import time, uuid\ntime.sleep(0.3)\nprint(uuid.uuid4())"}


def keyed(server: Server, path: str, body: Any, key: str) -> Answer:
    return server.request("POST", path, body, {"Idempotency-Key": key})


@pytest.mark.parametrize("path", ["/api/execute", "/api/execute/stream"])
def test_calls_with_one_key_run_once_and_get_the_same_answer(server: Server, path: str) -> None:
    key = uuid.uuid4().hex
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda _: keyed(server, path, RANDOM, key), range(4)))
    got.append(keyed(server, path, RANDOM, key))
    assert {answer.status for answer in got} == {200}
    if path == "/api/execute":
        assert len({answer.body for answer in got}) == 1
    else:
        assert len({"".join(f.data.get("content", "") for f in frames(answer.body)) for answer in got}) == 1
        assert len({answer.headers["x-run-id"] for answer in got}) == 1


def test_a_key_belongs_to_one_body_and_one_route(server: Server) -> None:
    key = uuid.uuid4().hex
    first = keyed(server, "/api/execute", {"language": "python", "code": "print(1)"}, key)
    other = keyed(server, "/api/execute", {"language": "python", "code": "print(2)"}, key)
    assert (other.status, other.json["code"]) == (409, "IDEMPOTENCY_MISMATCH")
    session = keyed(server, "/api/sessions", {"language": "python"}, key)
    assert session.status == 201
    assert keyed(server, "/api/sessions", {"language": "python"}, key).body == session.body
    assert keyed(server, "/api/execute", {"language": "python", "code": "print(1)"}, key).body == first.body


def test_a_call_that_did_nothing_leaves_its_key_free(server: Server) -> None:
    key = uuid.uuid4().hex
    assert keyed(server, "/api/execute", {"language": "cobol", "code": "1"}, key).status == 400
    assert keyed(server, "/api/execute", {"language": "python", "code": "print(1)"}, key).status == 200
    assert keyed(server, "/api/execute", {}, "k" * 300).status == 400


def test_a_keyed_call_that_does_not_wait_is_answered_alike(server: Server) -> None:
    key = uuid.uuid4().hex
    body = {**RANDOM, "wait": False}
    first, second = keyed(server, "/api/execute", body, key), keyed(server, "/api/execute", body, key)
    assert (first.status, second.status) == (202, 202)
    assert first.body == second.body


def test_a_batch_answers_in_its_order_with_errors_in_their_places(server: Server) -> None:
    runs: list[dict[str, Any]] = [{"language": "python", "code": f"print({number})"} for number in range(100)]
    runs[7] = {"session_id": "no-such-session", "code": "1"}
    answer = server.post("/api/runs/batch", {"runs": runs})
    assert answer.status == 200
    assert answer.json["count"] == 100
    results = answer.json["results"]
    assert results[7]["code"] == "NOT_FOUND"
    for number, result in enumerate(results):
        assert number == 7 or result["stdout"] == f"{number}\n"


def test_a_batch_streams_results_as_they_come(server: Server) -> None:
    runs = [{"language": "python", "code": f"print({number})"} for number in range(10)]
    got = frames(server.post("/api/runs/batch", {"runs": runs, "stream": True}).body)
    assert [event.type for event in got] == ["result"] * 10 + ["done"]
    assert {event.data["index"]: event.data["run"]["stdout"] for event in got[:-1]} == {n: f"{n}\n" for n in range(10)}
    assert got[-1].data == {"type": "done", "count": 10}


def test_a_keyed_batch_runs_once(server: Server) -> None:
    key, body = uuid.uuid4().hex, {"runs": [RANDOM] * 3}
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: keyed(server, "/api/runs/batch", body, key), range(2))
    outputs = [[run["stdout"] for run in answer.json["results"]] for answer in (first, second)]
    assert outputs[0] == outputs[1]
    assert len(set(outputs[0])) == 3


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"runs": []},
        {"runs": [{"language": "python"}]},
        {"runs": [{"language": "python", "code": "1", "wait": False}]},
        {"runs": [{"language": "python", "code": "1"}], "stream": 1},
        {"runs": [{"language": "python", "code": "1"}] * 1001},
        {"runs": [7]},
        {"runs": "x", "more": 1},
    ],
)
def test_a_batch_is_checked_before_anything_runs(server: Server, body: dict[str, Any]) -> None:
    answer = server.post("/api/runs/batch", body)
    assert answer.status == 400
    assert {"error", "message", "code"} <= answer.json.keys()


def test_a_batch_whose_client_leaves_is_cancelled(server: Server) -> None:
    def going() -> set[str]:
        return {run["run_id"] for run in server.get("/api/runs?status=running").json["runs"]}

    before = going()
    body = json.dumps({"runs": [{"language": "python", "code": "import time; time.sleep(300)", "timeout": 300}] * 2})
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    with contextlib.closing(connection):
        connection.request("POST", "/api/runs/batch", body, {"Content-Type": "application/json"})
        ours = wait_until(lambda: len(new := going() - before) == 2 and new, 60, "both run")
    wait_until(lambda: not going() & (ours or set()), 60, "nothing of it goes on")
    assert {server.get(f"/api/runs/{run}").json["status"] for run in ours or ()} == {"cancelled"}


class Receiver:
    """A webhook's receiver: fails the first time, takes the second."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.got.append((dict(self.headers), body))
                self.send_response(500 if len(outer.got) == 1 else 204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                return

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def test_a_webhook_is_signed_and_tried_again(server: Server, receiver: Receiver) -> None:
    hook = f"http://127.0.0.1:{receiver.server.server_port}/hook?x=1"
    body = {"language": "python", "code": "print('told')", "wait": False, "webhook": hook}
    run = server.post("/api/execute", body).json["run_id"]
    wait_until(lambda: len(receiver.got) >= 2, 60, "the webhook is tried again")
    secret = json.loads((server.state / "secrets.json").read_text())["webhook"].encode()
    for headers, content in receiver.got:
        parts = dict(part.split("=", 1) for part in headers["X-ERA-Signature"].split(","))
        expected = hmac.new(secret, parts["t"].encode() + b"." + content, hashlib.sha256).hexdigest()
        assert hmac.compare_digest(parts["v1"], expected)
        told = json.loads(content)
        assert (told["run_id"], told["status"], told["stdout"]) == (run, "succeeded", "told\n")
