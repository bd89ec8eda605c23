"""Our own pages: their links lead somewhere, their examples get the shown answers from a running server."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from era_project import conf
from sessions_app import webhook_posts
from tests import servers, stack
from tests.docs.examples import PAGES, TOP, Example, examples_of
from tests.documents.sending import Answer, send
from tests.documents.shape import differences

EXACT = (
    "status",
    "stdout",
    "stderr",
    "exit_code",
    "files_modified",
    "result",
    "data",
    "success",
    "language",
    "file_count",
)
"""Keys whose shown value, not only its type, must come."""
LINK = re.compile(r"\]\(([^)#:]+?)(?:#[^)]*)?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    links = LINK.findall(page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_page_is_in_the_index() -> None:
    index = set(LINK.findall((TOP / "docs/index.md").read_text(encoding="utf-8")))
    assert {page.name for page in PAGES[1:]} - {"index.md"} <= index


def test_generated_pages_are_what_the_code_says() -> None:
    call_command("docs", "--check")


def _program(page: str, language: str) -> str:
    """The one program in that language that a page shows."""
    (code,) = re.findall(rf"^```{language}\n(.*?)^```$", (TOP / page).read_text(), re.MULTILINE | re.DOTALL)
    return str(code)


def test_the_shown_reader_of_a_stream_reads_it(server: servers.Server, tmp_path: Path) -> None:
    assert server.post("/api/sessions", {"language": "python", "session_id": "pages-reader"}).status == 201
    reader = _program("docs/streams.md", "js").replace("my-session", "pages-reader")
    (tmp_path / "reader.mjs").write_text(f"const base = process.argv[2];\n{reader}")
    node = stack.current.runtimes / "node/bin/node"
    done = subprocess.run([node, "reader.mjs", server.url], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "".join(re.findall(r"type: 'stdout', content: '(.*)'", done.stdout)) == "hello\\n"
    assert "type: 'done'" in done.stdout


def test_the_shown_check_of_a_webhook_is_right() -> None:
    code = _program("docs/streams.md", "python")
    page: dict[str, Any] = {}
    exec(code, page)
    secret = json.loads(conf.get().secrets_file.read_text())["webhook"]
    header = webhook_posts.signature(b"{}", at=1_700_000_000)
    assert page["is_genuine"](secret, header, b"{}")
    assert not page["is_genuine"](secret, header, b"[]")


def test_examples_get_the_answers_that_the_pages_show(server: servers.Server, tmp_path: Path) -> None:
    problems = []
    examples = [example for page in PAGES for example in examples_of(page)]
    assert len(examples) >= 7
    for example in examples:
        command = example.command.replace("my-session", "pages-session")
        answer = send(command, base=server.url, folder=tmp_path, variables={})
        problems += [f"{example.page}: {example.command}: {problem}" for problem in _problems(example, answer)]
    assert not problems, "\n".join(problems)


def _problems(example: Example, answer: Answer) -> list[str]:
    if "event: " in example.answer:
        return _stream_problems(example, answer)
    if not example.answer.startswith("{"):
        return [] if answer.text == example.answer else [f"{answer.text!r}"]
    shown = json.loads(re.sub(r",\s*\.\.\.\s*\}", "}", example.answer))
    found = answer.json()
    return differences(shown, found) + [
        f"{key} is {found.get(key)!r}, shown is {shown[key]!r}"
        for key in EXACT
        if key in shown and not _same(shown, found, key)
    ]


def _same(shown: dict[str, Any], found: dict[str, Any], key: str) -> bool:
    return bool(shown[key] == found.get(key))


def _stream_problems(example: Example, answer: Answer) -> list[str]:
    """The same text and the same last event; how the text is cut into events may differ on a busy machine."""
    shown, found = _told(example.answer), _told(answer.text)
    return [] if shown == found else [f"{found}, shown is {shown}"]


def _told(stream: str) -> tuple[str, list[str]]:
    """The text of a stream's stdout, and name and id of its last event."""
    contents = re.findall(r'"type":"stdout","content":("(?:[^"\\]|\\.)*")', stream)
    last = re.findall(r"^(?:event|id): (.*)$", stream, re.MULTILINE)[-2:]
    return "".join(json.loads(content) for content in contents), last
