"""Runs of sessions: order, files, data. The sandboxes here are of one run each (``persistent: false``, go) or live."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection, transaction

from era_project import addresses
from sessions_app import connections, queueing, replies, session_execution
from sessions_app.connections import Connection
from sessions_app.models import Entry, Run, Session
from sessions_app.services import nodes, owners, runs
from tests.integration.runs.conftest import ask, start, told
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("node")

MakeSession = Callable[..., Session]

CALLERS, STARTS = 4, 50

GIVE_UP = "UPDATE sessions_app_run SET status = 'lost', finished_at = now() WHERE id = %s"

ADD = """
import json
data = json.load(open('.session_data.json'))
data.setdefault('seen', []).append({})
json.dump(data, open('.session_data.json', 'w'))
"""


def paths(session: Session) -> set[str]:
    return set(Entry.objects.filter(session=session).values_list("path", flat=True))


@pytest.mark.parametrize("persistent", [True, False])
def test_runs_of_a_session_happen_one_after_another_in_their_order(session: MakeSession, persistent: bool) -> None:
    made = session(persistent=persistent)
    started = [start(ADD.format(number), session=made.name) for number in range(12)]
    assert told(started[-1]).run["data"] == {"seen": list(range(12))}
    assert [len(told(one).run["data"]["seen"]) for one in started[:-1]] == list(range(1, 12))


def test_a_run_that_comes_when_another_ends_is_sent_once_and_for_all(session: MakeSession) -> None:
    """Several processes start runs in one session; each waits for its own, so that the queue empties again and again."""
    name = session().name
    with ThreadPoolExecutor(CALLERS) as pool:
        counts = list(pool.map(start_again_and_again, [name] * CALLERS))
    assert counts == [STARTS] * CALLERS
    found = Run.objects.filter(session_name=name).order_by("seq")
    assert [run.seq for run in found] == list(range(1, CALLERS * STARTS + 1))
    ends = [run.finished_at for run in found if run.finished_at]
    assert ends == sorted(ends)


def start_again_and_again(name: str) -> int:
    """As a process with a writer of its own; how many of the runs succeeded."""
    succeeded, mine = 0, replies.mine()
    with connections.postgres(keeps_plans=True) as own:
        for _ in range(STARTS):
            new = runs.NewRun(owner_id=owners.default_id(), session=name, code="")
            run_id = runs.uuid7()
            finished = mine.expect(run_id)
            assert queueing.in_sessions(own, [runs._row(new, run_id, reply_to=mine.key)]) == [None]
            succeeded += json.loads(finished.result(60).body)["status"] == "succeeded"
    connection.close()
    return succeeded


def test_files_stay_and_changes_are_told(session: MakeSession) -> None:
    made = session()
    first = ask("open('a', 'w').write('1'); open('b', 'w').write('1')", session=made.name)
    assert first.run["changes"] == {"created": ["a", "b"], "changed": [], "deleted": []}
    assert first.run["files_modified"] == 2
    second = ask("import os; os.remove('a'); open('b', 'a').write('2')", session=made.name)
    assert second.run["changes"] == {"created": [], "changed": ["b"], "deleted": ["a"]}
    assert paths(made) == {"b"}
    made.refresh_from_db()
    assert (made.file_count, made.total_bytes) == (1, 2)
    assert made.last_run_at is not None


def test_files_that_come_with_a_run_stay_and_are_no_change_of_it(session: MakeSession) -> None:
    made = session()
    answer = ask("print(open('d/f').read())", session=made.name, files={"d/f": b"given"})
    assert (answer.run["stdout"], answer.run["files_modified"]) == ("given\n", 0)
    assert paths(made) == {"d/f"}


def test_without_persistence_files_end_with_the_next_run(session: MakeSession) -> None:
    made = session(persistent=False)
    ask("open('written', 'w').write('x')", session=made.name, files={"given": b"x"})
    assert paths(made) == {"written", "given"}
    answer = ask("import os; print(sorted(os.listdir('.')))", session=made.name)
    assert answer.run["stdout"] == "['.session_data.json']\n"
    assert paths(made) == set()


def test_update_data_is_merged_before_the_run_and_digits_are_kept(session: MakeSession) -> None:
    made = session(data='{"b":1.10,"a":1e400}')
    code = "print(open('.session_data.json').read())"
    answer = ask(code, session=made.name, update_data='{"c":[1.0],"a":null}')
    assert answer.run["stdout"] == '{"b":1.10,"c":[1.0]}\n'
    made.refresh_from_db()
    assert made.data == '{"b":1.10,"c":[1.0]}'


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import os; os.remove('.session_data.json')", "missing"),
        ("open('.session_data.json', 'w').write('[1]')", "no JSON object"),
        ("open('.session_data.json', 'w').write('{\"a\": NaN}')", "NaN"),
        ("open('.session_data.json', 'w').write('{\"a\": \"' + 'x' * 1048577 + '\"}')", "larger"),
    ],
)
def test_data_that_cannot_be_taken_over_is_kept_as_it_was(session: MakeSession, code: str, why: str) -> None:
    made = session(data='{"kept":1}')
    answer = ask(code, session=made.name)
    assert why in answer.run["data_error"]
    assert answer.run["data"] == {"kept": 1}
    made.refresh_from_db()
    assert made.data == '{"kept":1}'


@pytest.mark.parametrize(("end", "status"), [("while True: pass", "timed_out"), ("1/0", "failed")])
def test_data_and_files_are_read_back_after_a_run_that_went_wrong(session: MakeSession, end: str, status: str) -> None:
    made = session(persistent=False)
    code = "open('.session_data.json', 'w').write('{\"n\": 1}'); open('f', 'w').write('x')\n" + end
    answer = ask(code, session=made.name, timeout_s=1.0)
    assert answer.run["status"] == status
    assert answer.run["data"] == {"n": 1}
    assert answer.run["changes"]["created"] == ["f"]
    assert paths(made) == {"f"}


def test_stored_code_runs_where_none_is_given(session: MakeSession) -> None:
    made = session(code="print('stored')")
    assert ask(None, session=made.name).run["stdout"] == "stored\n"
    assert ask("print('given')", session=made.name).run["stdout"] == "given\n"


def test_the_sessions_own_limits_hold(session: MakeSession) -> None:
    made = session(default_timeout_s=0.5)
    assert ask("while True: pass", session=made.name).run["status"] == "timed_out"
    assert ask("import time; time.sleep(0.7)", session=made.name, timeout_s=30.0).run["status"] == "succeeded"


def test_a_file_in_the_place_of_a_folder_is_refused_in_words(session: MakeSession) -> None:
    made = session()
    ask("open('f', 'w').write('x')", session=made.name)
    answer = ask("print(1)", session=made.name, files={"f/g": b"x"})
    assert answer.run["status"] == "failed"
    assert "no folder" in answer.run["message"]
    assert ask("print(1)", session=made.name).run["stdout"] == "1\n"


def test_a_run_whose_sandbox_ends_with_its_session_is_cancelled(session: MakeSession, node: str) -> None:
    made = session()
    ask("open('begun', 'w').close()", session=made.name)
    started = start("import time; print('begun', flush=True); time.sleep(60)", session=made.name)
    wait_until(lambda: Run.objects.filter(id=started.run_id, status="running").exists(), 30, "the run goes on")
    Entry.objects.filter(session=made).delete()
    Session.objects.filter(id=made.pk).delete()
    nodes.send(node, {"op": "drop", "session_id": made.pk})
    run = told(started).run
    assert run["status"] == "cancelled"
    assert run["exit_code"] in {137, 143}
    assert run["state"] == {"status": "lost", "reason": "The session was deleted.", "lost": []}


def test_a_run_that_was_given_up_meanwhile_leaves_no_variables(session: MakeSession, own: Connection) -> None:
    made = session()
    assert ask("x = 1; x", session=made.name).run["result"] == "1"
    started = start("x = 2\nimport time\nwhile True: time.sleep(0.1)", session=made.name)
    wait_until(lambda: Run.objects.filter(id=started.run_id, status="running").exists(), 30, "the run goes on")
    own.execute(GIVE_UP, (started.run_id,))
    run = ask("'x' in globals()", session=made.name).run
    assert (run["result"], run["state"]["status"]) == ("False", "lost")
    assert "A run was lost" in run["state"]["reason"]


def test_who_stands_still_in_a_transaction_loses_its_locks_and_writes_again(session: MakeSession) -> None:
    made, tries = session(), []

    def write() -> str:
        """At its first try as good as stopped, with the row locked."""
        tries.append(1)
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SHOW idle_in_transaction_session_timeout")
            assert cursor.fetchone() == (f"{addresses.IDLE_IN_TRANSACTION_S}s",)
            if len(tries) == 1:
                cursor.execute("SET idle_in_transaction_session_timeout = 1")
            cursor.execute("SELECT name FROM sessions_app_session WHERE id = %s FOR UPDATE", [made.pk])
            if len(tries) == 1:
                wait_until(lambda: unlocked(made), 30, "Postgres lets go of the row")
            cursor.execute("SELECT name FROM sessions_app_session WHERE id = %s", [made.pk])
            (name,) = cursor.fetchone()
            return str(name)

    assert session_execution._persist(write, 30.0) == made.name
    assert len(tries) == 2


def unlocked(session: Session) -> bool:
    with connections.postgres() as other:
        sql = "SELECT 1 FROM sessions_app_session WHERE id = %s FOR UPDATE SKIP LOCKED"
        return other.execute(sql, (session.pk,)).fetchone() is not None
