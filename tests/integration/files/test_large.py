"""A gigabyte up and down while the web process stays as small as it was."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import Server

MIB = 1 << 20
SIZE = 1024 * MIB
GROWTH_KB = 48 * 1024
"""Source: the build decisions, Tests."""

pytestmark = [pytest.mark.large, pytest.mark.timeout(600)]


def peak_kb(server: Server) -> int:
    """The web process's largest resident memory so far."""
    pids = json.loads((server.state / "pids.json").read_text())
    text = Path(f"/proc/{pids['web']['pid']}/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("VmHWM")))


def zeros() -> Iterator[bytes]:
    piece = bytes(MIB)
    for _ in range(SIZE // MIB):
        yield piece


def test_a_gigabyte(server: Server) -> None:
    name = server.post("/api/sessions", {"language": "python"}).json["id"]
    server.request("PUT", f"/api/sessions/{name}/files/small", bytes(4 * MIB))
    server.get(f"/api/sessions/{name}/files/small")
    before = peak_kb(server)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=300)
    with contextlib.closing(connection):
        connection.request("PUT", f"/api/sessions/{name}/files/big", zeros(), {"Content-Length": str(SIZE)})
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["size"]) == (200, SIZE)
        connection.request("GET", f"/api/sessions/{name}/files/big")
        answer = connection.getresponse()
        size = 0
        while piece := answer.read(MIB):
            size += len(piece)
        assert size == SIZE
    assert peak_kb(server) - before < GROWTH_KB
    server.delete(f"/api/sessions/{name}")
