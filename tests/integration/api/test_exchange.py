"""What every exchange has: ids of requests, HEAD, OPTIONS, CORS, health, callers who go away."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Mapping

import pytest

from sessions_app.models import Run
from tests.integration.api.client import Exchange, begin, call
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("real_db")


def test_the_callers_own_request_id_comes_back() -> None:
    assert call("GET", "/health/live", headers={"x-request-id": "mine-1"}).headers["x-request-id"] == "mine-1"
    odd = call("GET", "/health/live", headers={"x-request-id": "a b"}).headers["x-request-id"]
    assert odd != "a b"


def test_head_is_get_without_a_body() -> None:
    got, asked = call("GET", "/api/languages"), call("HEAD", "/api/languages")
    assert asked.status == 200
    assert asked.body == b""
    assert asked.headers["content-length"] == got.headers["content-length"]
    assert call("HEAD", "/api/execute").status == 405


def test_options_tells_the_methods() -> None:
    answer = call("OPTIONS", "/api/sessions/anything")
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["allow"] == "GET, PATCH, DELETE, HEAD, OPTIONS"
    assert call("OPTIONS", "/api/execute/stream").headers["allow"] == "POST, OPTIONS"


def test_our_own_pages_may_call() -> None:
    own = {"origin": "http://localhost:8787"}
    assert call("GET", "/api/languages", headers=own).status == 200
    proxied = {"host": "127.0.0.1", "origin": "https://127.0.0.1"}
    assert call("GET", "/api/languages", headers=proxied).status == 200


def test_accept_changes_nothing() -> None:
    for accept in ("text/html", "image/png", ""):
        answer = call("GET", "/api/sessions?limit=1", headers={"accept": accept})
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")


def test_json_with_a_charset() -> None:
    kind = {"content-type": "Application/JSON; charset=latin-1"}
    assert call("POST", "/api/sessions", {"language": "python"}, headers=kind).status == 201


def test_a_basic_login_of_a_proxy_is_ignored() -> None:
    assert call("GET", "/api/languages", headers={"authorization": "Basic YTpi"}).status == 200


def test_health_names_its_parts() -> None:
    answer = call("GET", "/health")
    assert answer.status == 200, answer.body
    assert answer.json["status"] == "healthy"
    assert answer.json["checks"] == {"postgres": "ok", "broker": "ok", "objects": "ok"}
    assert call("GET", "/health/live").json["status"] == "healthy"


def test_languages_have_their_table() -> None:
    table = call("GET", "/api/languages").json
    assert [language["name"] for language in table["languages"]] == ["python", "node", "typescript", "go", "deno"]
    assert table["languages"][1]["aliases"] == ["js", "javascript", "nodejs"]
    assert (table["defaults"]["timeout"], table["maxima"]["timeout"]) == (30, 3600)
    assert table["maxima"]["body_bytes"] == 16 << 20


async def leave_early(body: Mapping[str, object], path: str = "/api/execute") -> Exchange:
    """Start a run and hang up once it has a row."""
    from era_project.asgi import application

    under_way = begin("POST", path, body)
    task = asyncio.create_task(application(under_way.scope, under_way.receive, under_way.send))
    mark = body["code"]
    for _ in range(3000):
        if await asyncio.to_thread(_row_exists, mark):
            break
        await asyncio.sleep(0.01)
    under_way.leave()
    await task
    return under_way


def _row_exists(code: object) -> bool:
    from django.db import connection

    try:
        return Run.objects.filter(code=code).exists()
    finally:
        connection.close()


def test_a_caller_who_leaves_cancels() -> None:
    mark = f"# {uuid.uuid4()}"
    under_way = asyncio.run(leave_early({"language": "deno", "code": mark}))
    assert under_way.answer() is None
    ended = wait_until(lambda: Run.objects.filter(code=mark, finished_at__isnull=False).first(), 15, "the end")
    assert ended is not None
    assert ended.status == "cancelled"


def test_a_caller_who_detaches_cancels_nothing() -> None:
    mark = f"# {uuid.uuid4()}"
    body = {"language": "deno", "code": mark, "on_disconnect": "detach"}
    under_way = asyncio.run(leave_early(body))
    assert under_way.answer() is None
    run = Run.objects.get(code=mark)
    assert (run.status, run.cancel_requested) == ("queued", False)
    assert json.loads(call("DELETE", f"/api/runs/{run.pk}").body)["status"] == "cancelled"
