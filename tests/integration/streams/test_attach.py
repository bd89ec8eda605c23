"""A client talks to a run while it runs: through pipes, and as a terminal in a browser does."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.integration.streams.clients import frames, text
from tests.servers import Server

PATIENCE_S = 60


class Attached:
    """An attached client that reads until it sees what it waits for."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.output = ""
        self.last: dict[str, Any] = {}

    def say(self, **word: Any) -> None:
        self.socket.send(json.dumps(word))

    def read_until(self, wanted: str) -> None:
        """Until ``wanted`` is in the output."""
        while wanted not in self.output:
            self._take()

    def read_to_end(self) -> dict[str, Any]:
        """The last event, after which the server closes."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                self._take()
        return self.last

    def _take(self) -> None:
        self.last = json.loads(self.socket.recv(timeout=PATIENCE_S))
        self.output += self.last.get("content", "")


@contextlib.contextmanager
def attached(server: Server, run: str) -> Iterator[Attached]:
    address = f"ws://127.0.0.1:{server.port}/api/runs/{run}/attach"
    with connect(address, open_timeout=PATIENCE_S, close_timeout=5) as socket:
        yield Attached(socket)


def started(server: Server, code: str, language: str = "python", **fields: Any) -> str:
    body = {"language": language, "code": code, "wait": False, "timeout": 120, **fields}
    answer = server.post("/api/execute", body)
    assert answer.status == 202, answer.body
    return str(answer.json["run_id"])


def test_a_program_reads_what_is_said_to_it_until_the_end_of_input(server: Server) -> None:
    code = "import sys\nprint('name?')\nprint('hello', input())\nprint('rest:', sys.stdin.read())"
    run = started(server, code, interactive=True)
    with attached(server, run) as client:
        client.read_until("name?\n")
        client.say(type="stdin", content="Zoë\n")
        client.read_until("hello Zoë\n")
        client.say(type="stdin", base64="b25lIA==")
        client.socket.send(b"two")
        client.say(type="eof")
        done = client.read_to_end()
    assert client.output.endswith("rest: one two\n")
    assert (done["type"], done["status"], done["exit_code"]) == ("done", "succeeded", 0)
    assert text(frames(server.get(f"/api/runs/{run}/events").body)) == client.output


def test_the_order_of_the_two_streams_is_kept(server: Server) -> None:
    code = "import sys\nfor i in range(4):\n    print(i, file=(sys.stdout, sys.stderr)[i % 2])\n    input()"
    run = started(server, code, interactive=True)
    with attached(server, run) as client:
        for number in range(4):
            client.read_until(f"{number}\n")
            client.say(type="stdin", content="on\n")
        client.read_to_end()
    for _ in range(2):
        got = frames(server.get(f"/api/runs/{run}/events").body)
        assert [event.type for event in got] == ["stdout", "stderr", "stdout", "stderr", "done"]


@pytest.mark.parametrize(
    ("language", "code", "prompt", "farewell"),
    [
        ("python", "import code; code.interact(banner='')", ">>> ", "exit()\n"),
        ("node", "require('repl').start({prompt: '>>> ', terminal: false})", ">>> ", ".exit\n"),
    ],
)
def test_a_terminal_drives_a_repl(server: Server, language: str, code: str, prompt: str, farewell: str) -> None:
    run = started(server, code, language, tty={"columns": 100, "rows": 30})
    with attached(server, run) as client:
        client.read_until(prompt)
        client.say(type="stdin", content="6*7\n")
        client.read_until("42")
        client.say(type="stdin", content=farewell)
        assert client.read_to_end()["type"] == "done"


def test_a_terminal_has_a_size_and_makes_signals(server: Server) -> None:
    code = (
        "import os, signal, sys, time\n"
        "print(sys.stdin.isatty(), *os.get_terminal_size())\n"
        "signal.signal(signal.SIGWINCH, lambda *_: print('resized', *os.get_terminal_size()))\n"
        "print('ready')\n"
        "try:\n    time.sleep(100)\nexcept KeyboardInterrupt:\n    print('interrupted')\n"
    )
    run = started(server, code, tty={"columns": 100, "rows": 30})
    with attached(server, run) as client:
        client.read_until("ready")
        assert "True 100 30" in client.output
        client.say(type="resize", columns=90, rows=20)
        client.read_until("resized 90 20")
        client.say(type="signal", signal="INT")
        client.read_until("interrupted")
        assert client.read_to_end()["exit_code"] == 0


def test_a_fatal_signal_ends_the_run(server: Server) -> None:
    run = started(server, "import time\nprint('on')\ntime.sleep(100)", interactive=True)
    with attached(server, run) as client:
        client.read_until("on")
        client.say(type="signal", signal="KILL")
        assert client.read_to_end()["status"] == "cancelled"


@pytest.mark.parametrize(
    "message",
    ["no json", "[]", '{"type":"stdin"}', '{"type":"stdin","base64":"?"}', '{"type":"signal","signal":"FOO"}',
     '{"type":"resize","columns":0,"rows":1}', '{"type":"eof","more":1}', '{"type":"stdin","content":"x","base64":""}'],
)  # fmt: skip
def test_nonsense_is_answered_and_ends_the_connection(server: Server, message: str) -> None:
    run = started(server, "input()", interactive=True)
    with attached(server, run) as client:
        client.socket.send(message)
        assert client.read_to_end()["code"] == "INVALID_INPUT"
    server.delete(f"/api/runs/{run}")


def test_an_ordinary_run_is_listened_to_but_not_talked_to(server: Server) -> None:
    run = started(server, "import time\nprint('on')\ntime.sleep(100)")
    with attached(server, run) as client:
        client.read_until("on")
        client.say(type="stdin", content="x")
        assert client.read_to_end()["code"] == "INVALID_INPUT"
    with attached(server, run) as client:
        server.delete(f"/api/runs/{run}")
        assert client.read_to_end()["status"] == "cancelled"
    assert client.output == "on\n"


def test_nobody_attaches_to_a_run_that_there_is_not(server: Server) -> None:
    with pytest.raises(InvalidStatus) as refused, attached(server, str(uuid.uuid4())):
        pass
    assert refused.value.response.status_code == 404
    assert json.loads(refused.value.response.body)["code"] == "NOT_FOUND"
