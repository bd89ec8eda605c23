"""Sessions through the door: what is sent comes back, copies are copies, ends are ends."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from sessions_app.models import Entry, Owner, Run, Session
from sessions_app.services import endings, sessions
from sessions_app.services.sessions import NewSession
from tests.integration.api.client import call
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("real_db")

LONG = "import time; time.sleep(60)"
FIELDS = {
    "id", "created_at", "last_run_at", "language", "persistent", "file_count", "total_size_bytes", "metadata", "data",
    "default_timeout", "allowInternetAccess", "allowPublicAccess", "cpu_count", "memory_mib", "sandbox", "state",
}  # fmt: skip


def fresh(**fields: Any) -> Any:
    answer = call("POST", "/api/sessions", {"language": "python", "session_id": f"s-{uuid.uuid4()}", **fields})
    assert answer.status == 201, answer.body
    return answer.json


def test_a_new_session_has_every_field() -> None:
    made = fresh()
    assert set(made) == FIELDS
    assert made["language"] == "python"
    assert made["persistent"] is True
    assert (made["data"], made["metadata"]) == ({}, {})
    assert made["last_run_at"] is None
    assert made["created_at"].endswith("Z")
    assert len(made["created_at"]) == len("2026-01-01T00:00:00.000Z")
    assert call("GET", f"/api/sessions/{made['id']}").json == {**made, "files": []}


def test_ids_are_made_and_not_guessed() -> None:
    made = {call("POST", "/api/sessions", {"language": "js"}).json["id"] for _ in range(3)}
    assert len(made) == 3
    assert all(len(name) >= 32 for name in made)


def test_odd_ids_are_fine() -> None:
    name = f"-a_b:c.{uuid.uuid4()}"
    assert fresh(session_id=name)["id"] == name
    assert call("GET", f"/api/sessions/{name}").status == 200
    assert call("GET", f"/api/sessions/{name.replace(':', '%3A')}").status == 200


def test_numbers_of_metadata_are_as_large_as_they_are() -> None:
    metadata = {"n": 12345678901234567890123, "large": 10**300, "d": 1.5}
    made = fresh(metadata=metadata)
    assert made["metadata"] == metadata
    assert call("GET", f"/api/sessions?q={made['id']}").json["sessions"][0]["metadata"] == metadata
    changed = call("PATCH", f"/api/sessions/{made['id']}", {"metadata": {"n": -(10**30)}}).json["metadata"]
    assert (changed["n"], changed["large"]) == (-(10**30), 10**300)


def test_a_float_of_metadata_may_be_the_largest() -> None:
    made = fresh(metadata={"f": 1e308})
    assert float(made["metadata"]["f"]) == 1e308


def test_data_keeps_order_and_digits() -> None:
    text = b'{"b":1.10,"a":[1e3,12345678901234567890123],"c":"\\u0000\\u00e9"}'
    name = f"s-{uuid.uuid4()}"
    made = call("POST", "/api/sessions", b'{"language":"go","session_id":"%s","data":%s}' % (name.encode(), text))
    assert made.status == 201
    assert text in made.body
    assert text in call("GET", f"/api/sessions/{name}").body
    changed = call("PATCH", f"/api/sessions/{name}", b'{"data":{"b":null,"d":0.50}}')
    assert changed.status == 200
    expected = b'{"a":[1e3,12345678901234567890123],"c":"\\u0000\\u00e9","d":0.50}'
    assert expected in call("GET", f"/api/sessions/{name}").body


def test_patch_merges_and_shows_settings() -> None:
    name = fresh(metadata={"team": "a", "old": 1, "kept_null": None})["id"]
    changes = {
        "metadata": {"old": None, "n": 5},
        "default_timeout": 120,
        "cpu_count": 0.5,
        "allowInternetAccess": False,
    }
    answer = call("PATCH", f"/api/sessions/{name}", changes).json
    assert answer["success"] is True
    assert answer["metadata"] == {
        "team": "a", "kept_null": None, "n": 5, "default_timeout": 120, "allowInternetAccess": False,
        "allowPublicAccess": False, "cpu_count": 0.5, "memory_mib": 256,
    }  # fmt: skip
    assert call("PATCH", f"/api/sessions/{name}", {"default_timeout": None}).status == 200
    found = call("GET", f"/api/sessions/{name}").json
    assert (found["default_timeout"], found["metadata"]) == (None, {"team": "a", "kept_null": None, "n": 5})


def test_what_is_merged_has_a_limit() -> None:
    name = fresh(data={"a": "x" * 700_000})["id"]
    answer = call("PATCH", f"/api/sessions/{name}", {"data": {"b": "x" * 700_000}})
    assert (answer.status, answer.json["field"]) == (413, "data")
    assert list(call("GET", f"/api/sessions/{name}").json["data"]) == ["a"]


def test_lists_are_filtered_and_paged() -> None:
    mark = uuid.uuid4().hex
    names = [fresh(session_id=f"{mark}-{n}", metadata={"0": str(n % 2), "a__b.c": True})["id"] for n in range(5)]
    listed = call("GET", f"/api/sessions?q={mark.upper()}").json
    assert [found["id"] for found in listed["sessions"]] == names[::-1]
    assert listed["count"] == 5
    assert set(listed["sessions"][0]) == FIELDS - {"data"}
    paged = call("GET", f"/api/sessions?q={mark}&limit=2&offset=1").json
    assert [found["id"] for found in paged["sessions"]] == names[::-1][1:3]
    assert paged["count"] == 5
    odd = call("GET", f"/api/sessions?q={mark}&metadata.0=1&metadata.a__b.c=true&language=py").json
    assert [found["id"] for found in odd["sessions"]] == [names[3], names[1]]
    assert call("GET", f"/api/sessions?q={mark}&language=go").json == {"sessions": [], "count": 0}


def test_a_copy_has_files_and_data_of_its_own() -> None:
    name = fresh(data={"a": 1}, metadata={"m": 1})["id"]
    put = call("PUT", f"/api/sessions/{name}/files/a%20b/c.txt", b"hello", headers={"content-type": "text/plain"})
    assert put.status == 200, put.body
    copy = call("POST", f"/api/sessions/{name}/duplicate").json
    assert copy["source_session_id"] == name
    assert (copy["file_count"], copy["total_size_bytes"], copy["data"], copy["metadata"]) == (1, 5, {"a": 1}, {"m": 1})
    assert call("DELETE", f"/api/sessions/{name}").status == 200
    assert call("GET", f"/api/sessions/{copy['id']}/files/a%20b/c.txt").body == b"hello"
    other = call("POST", f"/api/sessions/{copy['id']}/duplicate", {"id": f"c-{uuid.uuid4()}", "data": {"z": 0}}).json
    assert (other["data"], other["file_count"]) == ({"z": 0}, 1)


def test_deleted_means_gone_and_free() -> None:
    name = fresh()["id"]
    answer = call("DELETE", f"/api/sessions/{name}").json
    assert (answer["success"], answer["id"]) == (True, name)
    assert call("GET", f"/api/sessions/{name}").status == 404
    assert call("DELETE", f"/api/sessions/{name}").status == 404
    assert fresh(session_id=name)["id"] == name


def test_deleting_ends_what_waits() -> None:
    name = fresh()["id"]
    waiting = call("POST", f"/api/sessions/{name}/run", {"code": "1", "wait": False})
    assert waiting.status == 202
    assert call("DELETE", f"/api/sessions/{name}").status == 200
    run = call("GET", f"/api/runs/{waiting.json['run_id']}").json
    assert (run["status"], run["session_id"]) == ("cancelled", name)


def test_thousands_end_in_one_call() -> None:
    owner = Owner.objects.create(name=f"owner-{uuid.uuid4()}")
    made = Session.objects.bulk_create(
        [Session(owner=owner, name=f"{owner.name}-{n}", language="python") for n in range(1000)]
    )
    blob = "0" * 64
    Entry.objects.bulk_create([Entry(session=session, path="a", blob=blob) for session in made])
    kept = sessions.create(NewSession(owner_id=Owner.objects.create(name=f"o-{uuid.uuid4()}").pk, language="go"))
    names, _ = endings.delete_all(owner_id=owner.pk)
    assert len(names) == 1000
    assert not Session.objects.filter(owner=owner).exists()
    assert not Entry.objects.filter(session__in=[session.pk for session in made]).exists()
    assert Session.objects.filter(pk=kept.pk).exists()


def test_stored_code() -> None:
    name = fresh()["id"]
    put = call("PUT", f"/api/sessions/{name}/code", {"code": "print('é')", "description": "says é"}).json
    assert (put["success"], put["code_length"]) == (True, 10)
    got = call("GET", f"/api/sessions/{name}/code").json
    assert got == {"code": "print('é')", "description": "says é", "code_length": 10, "updated_at": put["updated_at"]}


def test_others_sessions_are_not_there() -> None:
    other = Owner.objects.create(name=f"owner-{uuid.uuid4()}")
    theirs = sessions.create(NewSession(owner_id=other.pk, language="python")).name
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/duplicate"), ("GET", "/files"), ("GET", "/code")):
        assert call(method, f"/api/sessions/{theirs}{path}").status == 404
    taken = call("POST", "/api/sessions", {"language": "python", "session_id": theirs})
    assert taken.json["code"] == "SESSION_EXISTS"


def test_restart_forgets_the_state_alone() -> None:
    name = fresh(data={"a": 1})["id"]
    Session.objects.filter(name=name).update(state="stored", snapshot="0" * 64)
    assert call("POST", f"/api/sessions/{name}/restart").json["state"] == "none"
    found = Session.objects.get(name=name)
    assert (found.state, found.snapshot, found.data) == ("none", None, '{"a": 1}')


def test_runs_wait_in_their_order() -> None:
    name = fresh()["id"]
    first, second = (
        call("POST", f"/api/sessions/{name}/run", {"code": LONG, "wait": False}).json["run_id"] for _ in range(2)
    )
    listed = call("GET", f"/api/runs?session_id={name}").json
    assert [run["run_id"] for run in listed["runs"]] == [second, first]
    assert listed["count"] == 2
    assert "stdout" not in listed["runs"][0]
    page = call("GET", f"/api/runs?session_id={name}&limit=1").json
    rest = call("GET", f"/api/runs?session_id={name}&limit=1&cursor={page['cursor']}").json
    assert [run["run_id"] for run in rest["runs"]] == [first]
    assert call("DELETE", f"/api/runs/{first}").json["status"] == "cancelled"
    assert call("DELETE", f"/api/runs/{first}").json["status"] == "cancelled"
    call("DELETE", f"/api/sessions/{name}")
    wait_until(lambda: Run.objects.get(pk=second).finished_at, 15, "the end of the second run")
