"""Finds every request and every shown answer in the copies of the user's documents that lie beside this file."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
DOCUMENTS = tuple(sorted(path.stem for path in FOLDER.glob("*.txt")))
_START = re.compile(
    r"""(?P<curl>(?:^|\$\(|\|\ )curl\ .*(?:https?://|"https?://))
      | (?P<requests>\brequests\.(?:get|post|request)\()
      | (?P<fetch>(?<!_or_)\bfetch\((?:['"`]|$))
      | (?P<axios>\baxios\.(?:get|post)\b)
      | (?P<go>\bhttp\.Post\()""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Found:
    """A request in a document.

    Attributes:
        document: file name without ``.txt``.
        line: number of the line on which it starts, from 1.
        client: ``curl``, ``requests``, ``fetch``, ``axios`` or ``go``.
        text: the whole command (curl), or the line that calls (programs).
    """

    document: str
    line: int
    client: str
    text: str


@dataclass(frozen=True)
class Command:
    """A curl command taken apart: what it sends where."""

    method: str
    url: str
    headers: dict[str, str]
    body: str | None
    """Text of the body; ``@name`` stands for a file's content, ``@-`` for the standard input."""
    output: str | None = None
    """File that takes the answer."""


def lines_of(document: str) -> list[str]:
    """The lines of a document, without their ends."""
    return (FOLDER / f"{document}.txt").read_text(encoding="utf-8").split("\n")


def requests_in(document: str) -> list[Found]:
    """Every request that a document shows, in its order."""
    lines = lines_of(document)
    found = []
    for index, line in enumerate(lines):
        match = _START.search(line)
        if match and match.lastgroup:
            client = match.lastgroup
            text = _whole_command(lines, index) if client == "curl" else line
            found.append(Found(document, index + 1, client, text))
    return found


def _whole_command(lines: list[str], start: int) -> str:
    """The shell command that starts on a line: on to where its quotes are closed and no backslash goes on."""
    text = lines[start]
    for following in lines[start + 1 :]:
        if not text.endswith("\\") and _closed(text):
            return text
        text += "\n" + following
    return text


def _closed(text: str) -> bool:
    try:
        shlex.split(text)
    except ValueError:
        return False
    return True


def take_apart(command: str) -> Command:
    """What a curl command of the documents sends."""
    inner = re.sub(r"^.*?\$\((.*)\)$", r"\1", command) if "$(curl" in command else command
    words = shlex.split(inner.replace("\\\n", " "))
    words = words[words.index("curl") + 1 :]
    words = words[: words.index("|")] if "|" in words else words
    method, url, body, output = "", "", None, None
    headers: dict[str, str] = {}
    rest = iter(words)
    for word in rest:
        if word == "-X":
            method = next(rest)
        elif word == "-H":
            name, _, value = next(rest).partition(":")
            headers[name.strip()] = value.strip()
        elif word in ("-d", "--data-binary"):
            body = next(rest)
        elif word == "-o":
            output = next(rest)
        elif word == "-w":
            next(rest)
        elif not word.startswith("-"):
            url = word
    return Command(method or ("GET" if body is None else "POST"), url, headers, body, output)


def shown(document: str, line: int) -> Any:
    """The answer that starts on a line, as a value; ``number``, ``object`` and so on stay words.

    Raises:
        ValueError: no JSON-like text starts there.
    """
    text = "\n".join(lines_of(document)[line - 1 :])
    text = re.sub(r"\s//[^\n]*", "", text)
    text = re.sub(r":\s*(number|object|boolean)\b", r': "\1"', text)
    text = re.sub(r",\s*\.\.\.\s*\}", "}", text)
    value, _ = json.JSONDecoder().raw_decode(text)
    return value


def program(document: str, first: int, last: int) -> str:
    """The lines first to last of a document, as they stand there."""
    return "\n".join(lines_of(document)[first - 1 : last]) + "\n"
