"""The proxy configurations of the docs pass streams through as they come, and resuming too."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from pathlib import Path

import pytest

from tests.integration.streams import proxies
from tests.integration.streams.clients import Reader, frames, text
from tests.servers import Server

ENDLESS = "import time\nprint('first')\ntime.sleep(0.5)\nprint('second')\ntime.sleep(600)"


@pytest.mark.parametrize("proxy", [proxies.nginx, proxies.caddy])
def test_output_comes_through_while_the_run_goes_on(
    server: Server, proxy: Callable[[int, Path], AbstractContextManager[int]], tmp_path: Path
) -> None:
    credentials = base64.b64encode(f"admin:{proxies.PASSWORD}".encode()).decode()
    headers = {"Content-Type": "application/json", "Authorization": f"Basic {credentials}"}
    with proxy(server.port, tmp_path) as port:
        connection = http.client.HTTPConnection("localhost", port, timeout=60)
        with closing(connection):
            body = json.dumps({"language": "python", "code": ENDLESS, "timeout": 600})
            connection.request("POST", "/api/execute/stream", body, {"Content-Type": "application/json"})
            refused = connection.getresponse()
            assert refused.status == 401
            refused.read()
            connection.request("POST", "/api/execute/stream", body, headers)
            reader = Reader(connection.getresponse())
            run = reader.headers["x-run-id"]
            while "second" not in text(reader.seen):
                reader.next()
            assert server.get(f"/api/runs/{run}").json["status"] == "running"
            at = reader.seen[-1].id
            server.delete(f"/api/runs/{run}")
            assert reader.next().data["status"] == "cancelled"
        with closing(http.client.HTTPConnection("localhost", port, timeout=60)) as again:
            again.request("GET", f"/api/runs/{run}/events", headers={**headers, "Last-Event-ID": str(at)})
            rest = frames(again.getresponse().read())
    assert text(reader.seen) == "first\nsecond\n"
    assert [event.type for event in rest] == ["done"]
