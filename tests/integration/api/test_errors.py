"""Every error has the one shape; the contract's cases get the answers that the table tells."""

from __future__ import annotations

import ast
import asyncio
import json
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import OperationalError

from era_project import api_errors, exchange
from era_project.codes import CODES
from sessions_app.services import owners, sessions
from sessions_app.services.sessions import NewSession
from tests.integration.api.client import Answer, begin, call
from tests.spec.errors import CASES, ELSEWHERE, Case

ROOT = Path(__file__).resolve().parents[3]
REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


@pytest.fixture
def names(real_db: None) -> dict[str, str]:
    """What stands for the placeholders of the table."""
    made = {"session": f"spec-{uuid.uuid4()}", "empty": f"spec-{uuid.uuid4()}"}
    for name in made.values():
        sessions.create(NewSession(owner_id=owners.default_id(), language="python", name=name))
    return made


def filled(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, str):
        for placeholder, name in names.items():
            value = value.replace(f"{{{placeholder}}}", name)
    elif isinstance(value, dict):
        value = {key: filled(inner, names) for key, inner in value.items()}
    return value


def assert_shape(answer: Answer, code: str) -> None:
    assert answer.headers["content-type"] == "application/json"
    assert int(answer.headers["content-length"]) == len(answer.body)
    assert REQUEST_ID.fullmatch(answer.headers["x-request-id"])
    body = answer.json
    assert body["code"] == code, body
    assert body["error"]
    assert body["message"].endswith("."), body
    assert answer.status == CODES[code].status


@pytest.mark.parametrize("case", CASES, ids=[case.name.replace(" ", "_") for case in CASES])
def test_bad_input(case: Case, names: dict[str, str]) -> None:
    method, path = filled(case.request, names).split(" ", 1)
    answer = call(method, path, filled(case.body, names), headers=case.headers)
    assert (answer.status, answer.json.get("code")) == (case.status, case.code), answer.body
    assert_shape(answer, case.code)
    if case.field is not None:
        assert answer.json["field"] == case.field
    if case.status == 405:
        assert method not in answer.headers["allow"].split(", ")


def test_names_of_cases_differ() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


def test_every_code_is_tried() -> None:
    assert {case.code for case in CASES} | set(ELSEWHERE) >= set(CODES)


def test_table_and_sources_have_the_same_codes() -> None:
    folders = ("era_project", "sessions_app", "storage_app")
    used = {code for folder in folders for file in (ROOT / folder).rglob("*.py") for code in codes_in(file)}
    assert used - set(CODES) == set(), "add these to era_project/codes.py"
    assert set(CODES) - used == set(), "nothing answers these any more"


def codes_in(file: Path) -> Iterator[str]:
    """Words that stand where codes do: ``code="X"``, ``code = "X"``, and tuples of status, title, code."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.keyword) and node.arg == "code":
            yield from words(node.value)
        if isinstance(node, ast.Assign) and any(map(names_code, node.targets)):
            yield from words(node.value)
        if isinstance(node, ast.Tuple) and len(node.elts) > 2 and is_status(node.elts[0]):
            yield from words(node.elts[2])


def is_status(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, int) and 200 <= node.value < 600


def names_code(target: ast.expr) -> bool:
    if isinstance(target, ast.Tuple):
        return any(map(names_code, target.elts))
    return isinstance(target, ast.Name) and target.id == "code"


def words(node: ast.AST) -> Iterator[str]:
    for inner in ast.walk(node):
        value = inner.value if isinstance(inner, ast.Constant) else None
        if isinstance(value, str) and re.fullmatch(r"[A-Z]+(_[A-Z]+)*", value):
            yield value


def test_docs_are_made_from_the_code() -> None:
    call_command("docs", "--check")


def test_a_fault_of_ours_tells_nothing_of_it() -> None:
    async def fails(scope: Any, receive: Any, send: Any) -> None:
        raise ZeroDivisionError("secret")

    async def exchanged() -> Answer | None:
        under_way = begin("GET", "/api/sessions")
        await exchange.answer(fails, under_way.scope, under_way.receive, under_way.send)
        return under_way.answer()

    answer = asyncio.run(exchanged())
    assert answer is not None
    assert_shape(answer, "INTERNAL")
    assert b"secret" not in answer.body


def test_a_part_that_is_down_is_named() -> None:
    rendered = api_errors.render(OperationalError("connection refused"))
    assert rendered.status == 503
    assert json.loads(rendered.json())["code"] == "UNAVAILABLE"
    assert "refused" not in rendered.body["message"]
