"""The admin as a person uses it, in a real browser: log in, look, cancel a run, delete a session."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.browser import Browser, browser
from tests.servers import Server
from tests.waiting import wait_until

ENDLESS = "import time\nprint('on', flush=True)\ntime.sleep(600)"
CHOSEN_ACTION = "button[name=index], button[type=submit][form=changelist-form]"
LONG_S = 60.0


@pytest.fixture
def person(server: Server, tmp_path: Path) -> Iterator[Browser]:
    """Somebody who has logged in with the generated password."""
    password = (server.state / "admin-password").read_text().strip()
    with browser(tmp_path / "profile") as made:
        made.open(f"{server.url}/admin/login/?next=/admin/", "[name=username]")
        made.fill("[name=username]", "admin")
        made.fill("[name=password]", password)
        made.click("#login-form [type=submit], form [type=submit]")
        made.see("location.pathname === '/admin/' && document.body.innerText.includes('Sessions')")
        yield made


def _act(person: Browser, row: str, action: str) -> None:
    """Choose a row of the list that is open, and an action for it."""
    person.click(f'[name=_selected_action][value="{row}"]')
    person.fill("select[name=action]", action)
    person.click(CHOSEN_ACTION)


def test_sessions_and_runs_are_seen_cancelled_and_deleted(server: Server, person: Browser) -> None:
    name = f"seen-{uuid.uuid4().hex}"
    assert server.post("/api/sessions", {"language": "python", "session_id": name}).status == 201
    fields = {"code": ENDLESS, "timeout": 600, "wait": False}
    run = server.post(f"/api/sessions/{name}/run", fields).json["run_id"]
    wait_until(lambda: server.get(f"/api/runs/{run}").json["status"] == "running", LONG_S, "the run goes on")

    person.open(f"{server.url}/admin/sessions_app/run/?q={name}", f'[value="{run}"]')
    shown = person.text()
    assert name in shown
    assert run in shown
    _act(person, run, "cancel_runs")
    person.see("document.body.innerText.includes('1 unfinished runs were told to end.')")
    wait_until(lambda: server.get(f"/api/runs/{run}").json["status"] == "cancelled", LONG_S, "the run is cancelled")

    person.open(f"{server.url}/admin/sessions_app/session/?q={name}", "[name=_selected_action]")
    assert name in person.text()
    row = person.see("document.querySelector('[name=_selected_action]').value")
    _act(person, row, "delete_selected")
    person.see(f"document.body.innerText.includes({json.dumps(name)}) && !!document.querySelector('form [name=post]')")
    person.click("form:has([name=post]) [type=submit]")
    person.see(f"""!document.querySelector('[name=post], [name=_selected_action][value="{row}"]')""")
    assert server.get(f"/api/sessions/{name}").status == 404
