"""Several web processes on one state: alone, behind nginx as the docs show it, and when one is killed under a reader."""

from __future__ import annotations

import base64
import http.client
import json
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import faults, stack
from tests.integration.streams import proxies
from tests.integration.streams.clients import Resuming, frames, text
from tests.servers import Answer, Server
from tests.waiting import wait_until

AGAIN_S = 60.0
TICKS = 80
TICKING = f"import time\nfor i in range({TICKS}):\n    print('tick', i, 'é')\n    time.sleep(0.05)"
COUNT = "n = globals().get('n', 0) + 1\nn"


@pytest.fixture(scope="module")
def trio() -> Iterator[list[Server]]:
    """An owner and two that joined it."""
    env = {"ERA_RUNTIMES_DIR": str(stack.current.runtimes.parent)}
    state = stack.current.base / f"doors-{stack.current.name}"
    servers = [Server.start(env, state=state)]
    try:
        servers += [Server.start(env, state=state, wait=False) for _ in range(2)]
        for server in servers[1:]:
            server.wait_ready()
        yield servers
    finally:
        for server in reversed(servers):
            server.stop()


@dataclass(frozen=True)
class Door:
    """Requests through nginx, each on a connection of its own."""

    port: int

    def request(self, method: str, path: str, body: Any = None, *, authorized: bool = True) -> Answer:
        headers = {"Content-Type": "application/json"}
        if authorized:
            credentials = base64.b64encode(f"admin:{proxies.PASSWORD}".encode()).decode()
            headers["Authorization"] = f"Basic {credentials}"
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        with closing(http.client.HTTPConnection("localhost", self.port, timeout=AGAIN_S)) as connection:
            connection.request(method, path, content, headers)
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())


def test_a_session_made_at_one_door_is_used_at_the_others(trio: list[Server], tmp_path: Path) -> None:
    name = f"doors-{uuid.uuid4().hex}"
    owner, *joined = trio
    with proxies.nginx(owner.port, tmp_path, [server.port for server in joined]) as port:
        door = Door(port)
        assert door.request("GET", "/health", authorized=False).status == 401
        made = joined[0].post("/api/sessions", {"language": "python", "session_id": name, "persistent": True})
        assert made.status == 201, made.body
        for number in range(1, 7):
            assert door.request("POST", f"/api/sessions/{name}/run", {"code": COUNT}).json["result"] == str(number)
        assert door.request("PUT", f"/api/sessions/{name}/files/a.txt", b"through nginx").status == 200
        assert {server.get(f"/api/sessions/{name}/files/a.txt").body for server in trio} == {b"through nginx"}
        for _ in trio:
            streamed = frames(door.request("POST", f"/api/sessions/{name}/stream", {"code": "print('é')"}).body)
            assert text(streamed) == "é\n"
        assert owner.delete(f"/api/sessions/{name}").status == 200
        assert [door.request("GET", f"/api/sessions/{name}").status for _ in trio] == [404] * 3
        asked = set((tmp_path / "upstreams.log").read_text().split()) - {"-"}
    assert asked == {f"127.0.0.1:{server.port}" for server in trio}


def test_a_reader_loses_nothing_when_its_web_process_is_killed(trio: list[Server]) -> None:
    owner = trio[0]
    body = {"language": "python", "code": TICKING, "timeout": 60, "wait": False}
    run = owner.post("/api/execute", body).json["run_id"]
    reader, elsewhere = Resuming(owner, run), Resuming(trio[1], run)
    wait_until(lambda: "tick 5 " in reader.output, AGAIN_S, "output comes")
    web = faults.noted(owner, "web")
    faults.FAULTS["killed web"](owner)
    for one in (reader, elsewhere):
        one.finish()
        assert one.output == "".join(f"tick {i} é\n" for i in range(TICKS))
        assert one.last["status"] == "succeeded"
    assert faults.noted(owner, "web") != web
