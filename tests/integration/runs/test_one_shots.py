"""One-shots end to end: row, message, worker, sandbox, final row, answer."""

from __future__ import annotations

from typing import Any

import pytest

from sessions_app.connections import Connection
from sessions_app.models import Run, RunStatus, Session
from sessions_app.services import owners, runs
from tests.integration.runs.conftest import ask, start, told
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("node")

FIELDS = [
    *("run_id", "session_id", "language", "status", "stdout", "stderr", "stdout_bytes", "stderr_bytes", "exit_code"),
    *("signal", "execution_time_ms", "duration", "files_modified", "changes", "warnings", "truncated", "usage"),
    *("sandbox", "node", "created_at", "started_at", "finished_at"),
]


def test_the_run_object_has_the_contracts_fields_in_their_order() -> None:
    answer = ask("print('hello')")
    assert answer.status == 200
    assert list(answer.run) == FIELDS
    assert answer.run["stdout"] == "hello\n"
    assert answer.run["stdout_bytes"] == 6
    assert answer.run["exit_code"] == 0
    assert answer.run["sandbox"] == "slot"
    assert answer.run["duration"].endswith("s")
    assert answer.run["usage"]["queue_time_ms"] >= 0
    assert answer.run["created_at"].endswith("Z")


def test_the_record_says_the_same_as_the_answer() -> None:
    answer = ask("import sys; print('out'); print('err', file=sys.stderr); open('f', 'w').write('x')")
    record = runs.get(answer.run["run_id"], owner_id=owners.default_id())
    record.pop("finished_at"), answer.run.pop("finished_at")
    assert record == answer.run
    assert answer.run["changes"] == {"created": ["f"], "changed": [], "deleted": []}


@pytest.mark.parametrize(
    ("code", "status", "exit_code", "signal"),
    [
        ("import sys; sys.exit(3)", "failed", 3, None),
        ("1/0", "failed", 1, None),
        ("import os; os.kill(os.getpid(), 9)", "failed", 137, 9),
        ("", "succeeded", 0, None),
    ],
)
def test_how_it_ended(code: str, status: str, exit_code: int, signal: int | None) -> None:
    answer = ask(code)
    assert answer.status == 200
    assert (answer.run["status"], answer.run["exit_code"], answer.run["signal"]) == (status, exit_code, signal)


def test_what_a_request_gives_is_there() -> None:
    code = "import os, sys; print(sys.argv[1:], input(), os.environ['A'], open('d/f').read())"
    answer = ask(code, args=("x", "y z"), stdin="line\n", env={"A": "ä"}, files={"d/f": b"content"})
    assert answer.run["stdout"] == "['x', 'y z'] line ä content\n"


def test_our_own_variables_win_over_the_users() -> None:
    code = "import os; print(os.environ['ERA_SESSION'], os.environ['ERA_LANGUAGE'], os.environ.get('ERA_OTHER'))"
    answer = ask(code, env={"ERA_SESSION": "no", "ERA_OTHER": "x"})
    assert answer.run["stdout"] == "true python None\n"
    assert "ERA_OTHER, ERA_SESSION" in answer.run["warnings"][0]


def test_the_session_of_a_one_shot_is_shown_and_not_kept() -> None:
    answer = ask("import os; print(os.environ['ERA_SESSION_ID'])")
    assert answer.run["stdout"].strip() == answer.run["session_id"]
    assert not Session.objects.filter(name=answer.run["session_id"]).exists()


def test_a_time_limit_is_a_408_with_the_runs_fields() -> None:
    answer = ask("print('before', flush=True)\nwhile True: pass", timeout_s=0.5)
    assert answer.status == 408
    assert answer.run["code"] == "TIMEOUT"
    assert (answer.run["status"], answer.run["exit_code"], answer.run["stdout"]) == ("timed_out", 124, "before\n")


def test_output_that_is_no_text_is_shown_as_replacement_characters() -> None:
    answer = ask(r"import sys; sys.stdout.buffer.write(b'a\x00\xff\xc3\xa9')")
    assert answer.run["stdout"] == "a\0\ufffdé"
    assert runs.get(answer.run["run_id"], owner_id=owners.default_id())["stdout"] == "a\0\ufffdé"


@pytest.mark.parametrize("size", [70_000, 400_000])
def test_large_output_lies_in_the_object_store(size: int) -> None:
    answer = ask(f"print('x' * {size})")
    row = Run.objects.get(id=answer.run["run_id"])
    assert answer.run["stdout"] == "x" * size + "\n"
    assert row.stdout is None
    assert row.stdout_blob
    assert runs.get(str(row.id), owner_id=owners.default_id())["stdout"] == answer.run["stdout"]


def test_a_run_that_nobody_waits_for_ends_all_the_same() -> None:
    started = start("print(1)", wait=False)
    started.accepted.result(30)

    def run() -> dict[str, Any]:
        return runs.get(started.run_id, owner_id=owners.default_id())

    wait_until(lambda: run()["status"] == "succeeded", 60, "the run ends")
    assert run()["stdout"] == "1\n"
    assert not started.finished.done()


def test_many_at_once_get_their_own_answers() -> None:
    started = [start(f"print({number})") for number in range(60)]
    assert [told(one).run["stdout"] for one in started] == [f"{number}\n" for number in range(60)]


def test_secrets_are_sealed_while_they_wait_and_gone_once_claimed(own: Connection) -> None:
    slow = start("import time; time.sleep(1)", env={"KEY": "s3cr3t-in-env"}, stdin="s3cr3t-in-stdin")
    slow.accepted.result(30)
    assert told(slow).status == 200
    (request,) = own.execute("SELECT request FROM sessions_app_run WHERE id = %s", (slow.run_id,)).fetchone() or (b"",)
    assert request is None


def test_the_list_of_runs_goes_on_where_the_cursor_says() -> None:
    name = ask("print(1)").run["session_id"]
    for number in range(3):
        ask(f"print({number})")
    first, count, cursor = runs.list_(owners.default_id(), limit=2)
    second, _, _ = runs.list_(owners.default_id(), limit=2, cursor=cursor)
    assert count >= 4
    assert len({run["run_id"] for run in (*first, *second)}) == 4
    assert "stdout" not in first[0]
    only, count, cursor = runs.list_(owners.default_id(), session=name, status=RunStatus.SUCCEEDED)
    assert (len(only), count, cursor) == (1, 1, "")


def test_sleeping_runs_of_other_languages_do_not_hold_python_back() -> None:
    sleeping = [start("setTimeout(() => {}, 20000)", language="node") for _ in range(6)]
    for one in sleeping:
        one.accepted.result(30)
    assert ask("print('awake')").run["stdout"] == "awake\n"
    assert not any(one.finished.done() for one in sleeping)
    for one in reversed(sleeping):
        runs.cancel(one.run_id, owner_id=owners.default_id())
    assert {told(one).run["status"] for one in sleeping} == {"cancelled"}
