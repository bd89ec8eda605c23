"""The admin: who gets in, what is shown and found, and that ends and cancels go by the services."""

from __future__ import annotations

import uuid
from io import StringIO
from pathlib import Path

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.test import Client

from sessions_app.models import Entry, Node, Run, Session
from sessions_app.services import admins, owners, runs, sessions
from sessions_app.services.runs import NewRun
from sessions_app.services.sessions import NewSession

pytestmark = pytest.mark.usefixtures("real_db")


@pytest.fixture
def person(tmp_path: Path) -> Client:
    """Somebody who has logged in with the generated password."""
    password = admins.renew(tmp_path).read_text().strip()
    client = Client(headers={"host": "localhost"})
    answer = client.post("/admin/login/", {"username": admins.NAME, "password": password, "next": "/admin/"})
    assert answer.status_code == 302
    return client


@pytest.fixture
def session() -> Session:
    """A session with a file and a run that waits: no worker of the tests serves its language."""
    made = sessions.create(NewSession(owner_id=owners.default_id(), language="deno", name=f"adm-{uuid.uuid4()}"))
    Entry.objects.create(session=made, path=f"dir/{made.name}.txt", blob="0" * 64, size=3)
    runs.start(NewRun(owner_id=made.owner_id, session=made.name, code="1", wait=False)).accepted.result(30)
    return made


def page(person: Client, path: str) -> str:
    answer = person.get(path)
    assert answer.status_code == 200, (path, answer.status_code)
    return answer.content.decode()


def test_the_first_user_is_made_once(tmp_path: Path) -> None:
    get_user_model().objects.all().delete()
    made = admins.ensure(tmp_path)
    assert made == tmp_path / "admin-password"
    assert made.stat().st_mode & 0o777 == 0o600
    assert len(made.read_text().strip()) >= 20
    assert admins.ensure(tmp_path) is None


def test_the_command_renews_the_password(tmp_path: Path) -> None:
    old = admins.renew(tmp_path).read_text().strip()
    told = StringIO()
    call_command("admin-password", stdout=told)
    user = get_user_model().objects.get(username=admins.NAME)
    path = Path(told.getvalue().split()[-1])
    assert not user.check_password(old)
    assert user.check_password(path.read_text().strip())


def test_strangers_are_asked_to_log_in() -> None:
    answer = Client(headers={"host": "localhost"}).get("/admin/sessions_app/session/")
    assert answer.status_code == 302
    assert answer["location"].startswith("/admin/login/")


def test_a_form_without_its_token_is_refused() -> None:
    answer = Client(enforce_csrf_checks=True, headers={"host": "localhost"}).post("/admin/login/", {"username": "a"})
    assert (answer.status_code, answer.json()["code"]) == (403, "FORBIDDEN")


def test_sessions_are_shown_found_and_counted(person: Client, session: Session) -> None:
    found = page(person, f"/admin/sessions_app/session/?q={session.name}&language=deno&state=none")
    assert session.name in found
    assert f'/admin/sessions_app/run/?session__id__exact={session.pk}">1</a>' in found
    link = f"/admin/sessions_app/session/{session.pk}/change/"
    assert link in found
    assert link not in page(person, f"/admin/sessions_app/session/?q={session.name}&language=go")
    assert (
        "default_timeout" in page(person, f"/admin/sessions_app/session/{session.pk}/change/").replace(" ", "_").lower()
    )


def test_files_are_found(person: Client, session: Session) -> None:
    found = page(person, f"/admin/sessions_app/entry/?session__id__exact={session.pk}")
    assert f"/api/sessions/{session.name}/files/dir/{session.name}.txt" in found
    assert session.name in page(person, f"/admin/sessions_app/entry/?q={session.name}.txt")


def test_nodes_are_shown(person: Client) -> None:
    node = Node.objects.create(name=f"node-{uuid.uuid4()}", languages={"python": "3.14"}, slots=4)
    assert node.name in page(person, f"/admin/sessions_app/node/?q={node.name}")
    assert page(person, f"/admin/sessions_app/node/{node.pk}/change/")
    node.delete()


def test_nothing_is_added_by_hand(person: Client) -> None:
    for kind in ("session", "run", "entry", "node"):
        assert person.get(f"/admin/sessions_app/{kind}/add/").status_code == 403


def test_runs_are_found_and_cancelled(person: Client, session: Session) -> None:
    run = Run.objects.get(session_name=session.name)
    assert str(run.pk) in page(person, f"/admin/sessions_app/run/?q={session.name}&status=queued")
    assert str(run.pk) in page(person, f"/admin/sessions_app/run/?q={str(run.pk)[:13]}")
    assert page(person, f"/admin/sessions_app/run/{run.pk}/change/")
    chosen = {"action": "cancel_runs", "_selected_action": [str(run.pk)]}
    answer = person.post("/admin/sessions_app/run/", chosen, follow=True)
    assert answer.status_code == 200
    run.refresh_from_db()
    assert run.status == "cancelled"


def test_what_was_printed_is_escaped(person: Client, session: Session) -> None:
    run = Run.objects.get(session_name=session.name)
    Run.objects.filter(pk=run.pk).update(stdout=b"<script>alert(1)</script>\xff")
    shown = page(person, f"/admin/sessions_app/run/{run.pk}/change/")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\ufffd" in shown
    assert "<script>alert(1)" not in shown


def test_deleting_goes_by_the_service(person: Client, session: Session) -> None:
    asked = page(person, f"/admin/sessions_app/session/{session.pk}/delete/")
    assert "files" in asked.lower()
    answer = person.post(f"/admin/sessions_app/session/{session.pk}/delete/", {"post": "yes"})
    assert answer.status_code == 302
    assert not Session.objects.filter(pk=session.pk).exists()
    assert Run.objects.get(session_name=session.name).status == "cancelled"


def test_chosen_sessions_are_deleted_together(person: Client, session: Session) -> None:
    chosen = {"action": "delete_selected", "_selected_action": [str(session.pk)], "post": "yes"}
    assert person.post("/admin/sessions_app/session/", chosen).status_code == 302
    assert not Session.objects.filter(pk=session.pk).exists()
    assert not Entry.objects.filter(session_id=session.pk).exists()


def test_people_are_managed(person: Client) -> None:
    assert admins.NAME in page(person, "/admin/auth/user/")
    assert page(person, "/admin/auth/user/add/")
    assert page(person, "/admin/")
