"""The documents as a test: every request in them is found, classified, sent, and answered as they show."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests import servers, stack
from tests.acceptance.document_replies import REPLIES, Desk
from tests.documents import finding, table
from tests.documents.finding import Found
from tests.documents.programs import PROGRAMS, SESSION_DATA, Program
from tests.documents.sending import DEADLINE_S, Answer, send
from tests.documents.shape import differences
from tests.documents.table import DATA, TABLE, V1, V2, Row

FOUND = {(found.document, found.line): found for name in finding.DOCUMENTS for found in finding.requests_in(name)}
STATE_MACHINE = finding.program(DATA, 378, 421)
PNG = b"\x89PNG\r\n\x1a\n\x00\xff"


def test_each_request_that_the_documents_show_stands_in_the_table_once(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [(row.document, row.line) for row in TABLE]
    assert sorted(rows) == sorted(FOUND)
    assert all(row.reason for row in TABLE if row.verdict != "matched")
    assert {row.reply for row in TABLE if row.reply} <= set(REPLIES)
    counts = Counter(row.verdict for row in TABLE)
    with capsys.disabled():
        sys.stderr.write(
            f"\nthe documents' requests: {len(FOUND)} found, {counts['matched']} matched,"
            f" {counts['departed']} departed, {counts['later']} later\n"
        )


@pytest.mark.timeout(400)
def test_each_request_gets_the_answer_that_the_documents_show(desk: Desk) -> None:
    problems = []
    for row in sorted(TABLE, key=lambda row: (row.document, row.line)):
        problems += [f"{row.document}:{row.line}: {problem}" for problem in _problems(desk, row)]
    for number, shown in enumerate(PROGRAMS):
        problems += _program_problems(desk, shown, name=f"program-{number}")
    assert not problems, "\n".join(problems)


def _program_problems(desk: Desk, shown: Program, *, name: str) -> list[str]:
    """A program of the pages in a session of its own, with the pages' data."""
    _create(desk, name, shown.language, data=SESSION_DATA)
    url = f"{desk.base}/api/sessions/{name}/run"
    run = requests.post(url, json={"code": shown.code()}, timeout=DEADLINE_S).json()
    prints = shown.prints.format(session=name, port=desk.base.rsplit(":", 1)[1])
    is_as_shown = (run["stdout"], run["exit_code"]) == (prints, 0)
    return [] if is_as_shown else [f"{DATA}:{shown.first}: {run}"]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A server of its own, as the README starts it: the documents delete all sessions."""
    folder = tmp_path / "desk"
    folder.mkdir()
    (folder / "image.png").write_bytes(PNG)
    runtimes = stack.current.runtimes
    with servers.running({"ERA_RUNTIMES_DIR": str(runtimes.parent)}, state=tmp_path / "state") as server:
        yield Desk(server.url, folder, runtimes, {"SESSION_ID": "counter-1"})


def _problems(desk: Desk, row: Row) -> list[str]:
    found = FOUND[row.document, row.line]
    _prepare(desk, row)
    if found.client != "curl":
        return _by_program(desk, row)
    answer = send(_command(found), base=desk.base, folder=desk.folder, variables=desk.variables)
    if answer.status != row.status:
        return [f"status {answer.status}, not {row.status}: {answer.text[:300]}"]
    if row.verdict == "later":
        code = answer.json()["code"]
        return [] if code == "NOT_AVAILABLE" else [f"code {code}"]
    problems = _shape(row, answer) if row.answer and row.verdict == "matched" else []
    return problems + _reply(desk, row, answer)


def _by_program(desk: Desk, row: Row) -> list[str]:
    """Requests of programs: a client of ours makes them; code that leaves a sandbox cannot be sent."""
    return [] if row.verdict == "later" else _reply(desk, row, None)


def _shape(row: Row, answer: Answer) -> list[str]:
    assert row.answer is not None
    return differences(finding.shown(row.document, row.answer), answer.json())


def _reply(desk: Desk, row: Row, answer: Answer | None) -> list[str]:
    if not row.reply:
        return []
    try:
        REPLIES[row.reply](desk, answer)
    except AssertionError as error:
        return [f"{row.reply}: {error}"[:600]]
    return []


def _command(found: Found) -> str:
    """The command; where the page writes "..." for the program shown above it, that program."""
    if '"code": "..."' not in found.text:
        return found.text
    quoted = json.dumps(STATE_MACHINE).replace("'", "'\\''")
    return found.text.replace('"..."', quoted)


def _prepare(desk: Desk, row: Row) -> None:
    """Makes what the page takes for granted at this place."""
    place = (row.document, row.line)
    if place in ((V1, 127), (V2, 127)):
        for name, text in (("data.json", '{"from": "the test"}'), ("output.txt", "some output\n")):
            _put(desk, name, text)
    elif place in ((V1, 237), (V2, 363)):
        (desk.folder / "data.json").unlink(missing_ok=True)
    elif place == (DATA, 185):
        _create(desk, "my-session", "python")
    elif place == (DATA, 427):
        _create(desk, "state-machine", "node")


def _put(desk: Desk, name: str, text: str) -> None:
    url = f"{desk.base}/api/sessions/my-session/files/{name}"
    assert requests.put(url, data=text.encode(), timeout=DEADLINE_S).status_code == 200


def _create(desk: Desk, name: str, language: str, **more: Any) -> None:
    body: dict[str, Any] = {"session_id": name, "language": language, **more}
    assert requests.post(f"{desk.base}/api/sessions", json=body, timeout=DEADLINE_S).status_code == 201


def test_the_table_names_documents_that_are_here() -> None:
    assert {row.document for row in TABLE} == set(finding.DOCUMENTS)
    assert table.RA in finding.DOCUMENTS
