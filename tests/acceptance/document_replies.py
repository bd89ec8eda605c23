"""Checks of single answers to the documents' requests, by the name that the table gives them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from tests.documents.sending import DEADLINE_S, Answer

CLIENTS = Path(__file__).parent.parent / "documents/clients"
IN_SANDBOX = "/opt/rt"
TOKENS = [word for number in range(10) for word in ("Token", str(number))]
"""What the documents' reader logs; each piece of output gets a line, however the output is cut."""


@dataclass
class Desk:
    """Where the documents' requests are sent from: a server, a folder with files, shell variables, runtimes."""

    base: str
    folder: Path
    runtimes: Path
    variables: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)

    def output(self, name: str, command: Callable[[], list[str]]) -> str:
        """What a client program prints when it is given our address; each runs once."""
        if name not in self.outputs:
            done = subprocess.run(
                [*command(), self.base],
                cwd=self.folder,
                env={"PATH": "/usr/bin:/bin", "HOME": str(self.folder)},
                capture_output=True,
                text=True,
                timeout=DEADLINE_S,
            )
            assert done.returncode == 0, done.stderr
            self.outputs[name] = done.stdout
        return self.outputs[name]

    def node(self, name: str) -> str:
        """The output of a JavaScript client."""
        return self.output(name, lambda: [str(self.runtimes / "node/bin/node"), str(CLIENTS / name)])

    def go(self) -> str:
        """The output of the Go client, compiled by the runtimes' own compiler."""
        return self.output("client.go", self._compiled)

    def _compiled(self) -> list[str]:
        config = (self.runtimes / "go-importcfg").read_text().replace(IN_SANDBOX, str(self.runtimes))
        (self.folder / "importcfg").write_text(config)
        tools = next((self.runtimes / "go/pkg/tool").glob("linux_*"))
        options = ["-importcfg", "importcfg", "-o"]
        self._build([str(tools / "compile"), "-p", "main", *options, "client.a", str(CLIENTS / "client.go")])
        self._build([str(tools / "link"), *options, "client", "client.a"])
        return [str(self.folder / "client")]

    def _build(self, command: list[str]) -> None:
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(self.folder), "GOROOT": str(self.runtimes / "go")}
        subprocess.run(command, cwd=self.folder, env=environment, check=True, timeout=DEADLINE_S)


def _run(answer: Answer, **wanted: object) -> None:
    run = answer.json()
    found = {key: run[key] for key in wanted}
    assert found == wanted, run


def hello(desk: Desk, answer: Answer) -> None:
    _run(answer, stdout="Hello World\n", stderr="", exit_code=0)


def api_key(desk: Desk, answer: Answer) -> None:
    _run(answer, stdout="Session: my-session\nAPI Key: secret123\n", exit_code=0)


def data_json(desk: Desk, answer: Answer) -> None:
    assert json.loads((desk.folder / "data.json").read_text()) == {"from": "the test"}
    assert answer.text == ""


def output_txt(desk: Desk, answer: Answer) -> None:
    assert answer.text == "some output\n"


def stream(desk: Desk, answer: Answer) -> None:
    frames = [frame for frame in answer.text.split("\n\n") if frame and not frame.startswith(":")]
    events = [dict(line.split(": ", 1) for line in frame.split("\n")) for frame in frames]
    values = [json.loads(event["data"]) for event in events]
    assert "".join(v["content"] for v in values if v["type"] == "stdout") == "".join(
        f"Processing {number}\n" for number in range(5)
    )
    assert [event["event"] for event in events] == [value["type"] for value in values]
    assert values[-1]["type"] == "done"
    assert values[-1]["exit_code"] == 0
    assert re.fullmatch(r"\d+\.\d+s", values[-1]["duration"])


def javascript_stream(desk: Desk, answer: Answer | None) -> None:
    assert desk.node("stream.mjs").split() == TOKENS


def counter(desk: Desk, answer: Answer) -> None:
    assert answer.json() == {
        "counter": 1,
        "users": ["alice", "bob"],
        "config": {"theme": "dark", "max_items": 100},
    }


def count_1(desk: Desk, answer: Answer) -> None:
    _run(answer, stdout="Count: 1\n", exit_code=0)
    assert answer.json()["data"]["count"] == 1


def count_2(desk: Desk, answer: Answer) -> None:
    _run(answer, stdout="Count: 2\n", exit_code=0)
    assert len(answer.json()["data"]["history"]) == 2


def environment(desk: Desk, answer: Answer) -> None:
    _run(answer, stdout="API Key: sk-test-12345\nDebug: true\n", exit_code=0)


def metadata(desk: Desk, answer: Answer) -> None:
    assert answer.json() == {
        "environment": "production",
        "team": "data-science",
        "project": "ml-pipeline",
        "cost_center": "eng-ml",
    }


def machine_started(desk: Desk, answer: Answer) -> None:
    _run(answer, stdout="Started processing\nCurrent state: processing\n", exit_code=0)


def machine_completed(desk: Desk, answer: Answer) -> None:
    _run(answer, stdout="Processing completed\nCurrent state: completed\n", exit_code=0)


def no_internet(desk: Desk, answer: Answer) -> None:
    assert answer.text == "false"


def healthy(desk: Desk, answer: Answer) -> None:
    assert answer.json()["status"] == "healthy"


def hello_agent(desk: Desk, answer: Answer) -> None:
    _run(answer, stdout="Hello from ERA Agent!\n", exit_code=0)


def two_cpus(desk: Desk, answer: Answer) -> None:
    session: dict[str, Any] = answer.json()
    assert (session["cpu_count"], session["memory_mib"]) == (2, 512)
    desk.variables["session_id"] = session["id"]


def four(desk: Desk, answer: Answer) -> None:
    _run(answer, stdout="4\n", exit_code=0)


def python_client(desk: Desk, answer: Answer | None) -> None:
    output = desk.output("client.py", lambda: [sys.executable, str(CLIENTS / "client.py")])
    executed, session, first, second = json.loads(output)
    assert (executed["stdout"], executed["exit_code"]) == ("Hello!\n", 0)
    assert session["language"] == "python"
    assert (first["exit_code"], second["stdout"]) == (0, "84\n"), second


def javascript_client(desk: Desk, answer: Answer | None) -> None:
    executed, session, first, second = json.loads(desk.node("client.mjs"))
    assert (executed["stdout"], executed["exit_code"]) == ("Hello!\n", 0)
    assert session["language"] == "node"
    assert (first["exit_code"], second["stdout"]) == (0, "84\n"), second


def go_client(desk: Desk, answer: Answer | None) -> None:
    executed = json.loads(desk.go())
    assert (executed["stdout"], executed["exit_code"]) == ("Hello!\n", 0)


def python_wrapper(desk: Desk, answer: Answer | None) -> None:
    body = {"language": "python", "code": "print(1)"}
    posted = requests.request(method="POST", url=f"{desk.base}/api/execute", json=body, timeout=DEADLINE_S).json()
    listed = requests.request(method="GET", url=f"{desk.base}/api/sessions", json=None, timeout=DEADLINE_S).json()
    assert posted["stdout"] == "1\n"
    assert listed["count"] == len(listed["sessions"])


def health_script(desk: Desk, answer: Answer) -> None:
    assert answer.status == 200


REPLIES: dict[str, Callable[[Desk, Any], None]] = {
    reply.__name__: reply
    for reply in (
        hello, api_key, data_json, output_txt, stream, javascript_stream, counter, count_1, count_2, environment,
        metadata, machine_started, machine_completed, no_internet, healthy, hello_agent, two_cpus, four,
        python_client, javascript_client, go_client, python_wrapper, health_script,
    )
}  # fmt: skip
