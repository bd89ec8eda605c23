"""Sends the documents' curl commands to a server of ours: by curl itself, or by requests where no curl is installed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from tests.documents.finding import take_apart

HOSTS = re.compile(r"https?://(?:era-agent\.yawnxyz\.workers\.dev|anewera\.dev|localhost:(?:8787|3000))")
_JQ = re.compile(r"\s*\|\s*jq\s+'\.(\w+)'\s*$")
_SHELL = 'curl() { command curl -sS -D "$ANSWER_HEADERS" "$@"; }\n'
DEADLINE_S = 60.0


@dataclass(frozen=True)
class Answer:
    """What came back: the last status line's number, and the text that the command printed."""

    status: int
    text: str

    def json(self) -> Any:
        """The text as a JSON value."""
        return json.loads(self.text)


def send(command: str, *, base: str, folder: Path, variables: Mapping[str, str]) -> Answer:
    """The answer to one curl command of a document.

    Args:
        command: the text as the document shows it; its host is replaced by ``base``; a last ``| jq '.name'`` is
            applied here, so that no jq is needed.
        base: ``http://host:port`` of the server.
        folder: working directory, with the files that the command uploads.
        variables: shell variables; ``{name}`` in the command is replaced too.
    """
    picked = _JQ.search(command)
    text = HOSTS.sub(base, _JQ.sub("", command))
    for name, value in variables.items():
        text = text.replace("{" + name + "}", value)
    by_curl = shutil.which("curl") and shutil.which("bash")
    answer = _by_curl(text, folder, variables) if by_curl else _by_requests(text, folder, variables)
    if picked is None:
        return answer
    return Answer(answer.status, json.dumps(answer.json()[picked[1]]))


def _by_curl(text: str, folder: Path, variables: Mapping[str, str]) -> Answer:
    headers = folder / "answer-headers.txt"
    done = subprocess.run(
        ["bash", "-c", _SHELL + text],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "ANSWER_HEADERS": str(headers), **variables},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, f"{text}\n{done.stderr}"
    statuses = re.findall(r"^HTTP/\S+ (\d{3})", headers.read_text(), re.MULTILINE)
    return Answer(int(statuses[-1]), done.stdout)


def _by_requests(text: str, folder: Path, variables: Mapping[str, str]) -> Answer:
    for name, value in variables.items():
        text = text.replace(f"${name}", value)
    command = take_apart(text)
    content = (command.body or "").encode()
    if command.body == "@-":
        content = b"Hello World\n"
    elif command.body and command.body.startswith("@"):
        content = (folder / command.body[1:]).read_bytes()
    answer = requests.request(command.method, command.url, headers=command.headers, data=content, timeout=DEADLINE_S)
    if command.output is None or command.output == "/dev/null":
        return Answer(answer.status_code, answer.text)
    (folder / command.output).write_bytes(answer.content)
    return Answer(answer.status_code, "")
