"""Waiting: order, limits, cancelling and expiring, with runs that no worker takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable

import pytest

from era_project.conf import get as conf
from era_project.errors import InvalidInput, LimitExceeded, NotFound
from sessions_app import connections, messages, reaper, sealing
from sessions_app.connections import Connection
from sessions_app.models import Owner, Run, RunStatus, Session
from sessions_app.services import owners, runs
from tests import servers
from tests.integration.runs.conftest import nobodys_language, start, told
from tests.waiting import wait_until

MakeSession = Callable[..., Session]

WITHOUT_BROKER = """
import sys, django; django.setup()
from sessions_app.services import owners, runs
started = runs.start(runs.NewRun(owner_id=owners.default_id(), language=sys.argv[1], code="print(1)"))
error = started.accepted.exception(60)
assert started.finished.exception(60) is error
print(started.run_id, error.status, error.code)
"""


def test_a_queued_run_says_where_it_stands_and_that_nobody_serves_it(own: Connection) -> None:
    language = nobodys_language()
    first = start("", language=language)
    first.accepted.result(30)  # two that come in the same millisecond have no order
    second = start("", language=language)
    second.accepted.result(30)
    run = runs.get(second.run_id, owner_id=owners.default_id())
    assert (run["status"], run["queue_position"], run["eta_ms"]) == ("queued", 2, None)
    assert "message" not in run
    own.execute("UPDATE sessions_app_run SET created_at = now() - interval '6 s' WHERE id = %s", (second.run_id,))
    assert language in runs.get(second.run_id, owner_id=owners.default_id())["message"]
    for started in (first, second):
        runs.cancel(started.run_id, owner_id=owners.default_id())


def test_a_queued_run_is_cancelled_at_once_and_its_caller_told() -> None:
    started = start("", language=nobodys_language())
    started.accepted.result(30)
    runs.cancel(started.run_id, owner_id=owners.default_id())
    answer = told(started)
    assert (answer.status, answer.run["status"], answer.run["exit_code"]) == (200, "cancelled", 143)
    runs.cancel(started.run_id, owner_id=owners.default_id())
    assert runs.get(started.run_id, owner_id=owners.default_id())["finished_at"] == answer.run["finished_at"]


def test_another_owner_neither_sees_nor_cancels_it() -> None:
    stranger = Owner.objects.create(name=uuid.uuid4().hex)
    started = start("", language=nobodys_language())
    started.accepted.result(30)
    with pytest.raises(NotFound):
        runs.get(started.run_id, owner_id=stranger.pk)
    with pytest.raises(NotFound):
        runs.cancel(started.run_id, owner_id=stranger.pk)
    assert runs.list_(stranger.pk) == ([], 0, "")
    runs.cancel(started.run_id, owner_id=owners.default_id())


@pytest.mark.usefixtures("reaper")
def test_a_run_that_nobody_starts_in_time_expires() -> None:
    answer = told(start("", language=nobodys_language(), queue_timeout_s=1.0))
    assert answer.status == 503
    assert (answer.run["code"], answer.run["status"], answer.run["exit_code"]) == ("QUEUE_TIMEOUT", "expired", None)
    assert answer.run["retry_after"] > 0


def test_only_the_head_of_a_session_has_a_message(own: Connection, session: MakeSession) -> None:
    language = nobodys_language()
    name = session(language=language).name
    started = [start("", session=name) for _ in range(3)]
    for one in started:
        one.accepted.result(30)
    queue = messages.queue_of(language, None)
    assert messages.waiting(queue, at_most=10) == {started[0].run_id}
    runs.cancel(started[0].run_id, owner_id=owners.default_id())
    assert messages.waiting(queue, at_most=10) == {started[0].run_id, started[1].run_id}
    runs.cancel(started[2].run_id, owner_id=owners.default_id())
    assert messages.waiting(queue, at_most=10) == {started[0].run_id, started[1].run_id}
    runs.cancel(started[1].run_id, owner_id=owners.default_id())


def test_a_full_queue_refuses_and_a_deleted_session_ends_its_runs(session: MakeSession) -> None:
    made = session(language=nobodys_language())
    limit = conf().max_queued_runs
    started = [start("", session=made.name) for _ in range(limit + 1)]
    for one in started[:limit]:
        one.accepted.result(60)
    with pytest.raises(LimitExceeded) as refused:
        started[limit].accepted.result(60)
    assert refused.value.code == "QUEUE_FULL"
    assert refused.value.extra["queued"] == limit
    assert refused.value.extra["retry_after"] > 0
    with pytest.raises(LimitExceeded):
        started[limit].finished.result(60)
    Session.objects.filter(id=made.pk).delete()
    runs.end_of_sessions([made.pk])
    assert {told(one).run["status"] for one in started[:limit]} == {"cancelled"}


def test_a_session_that_is_not_there_and_one_without_code(session: MakeSession) -> None:
    with pytest.raises(NotFound):
        start("", session=uuid.uuid4().hex).accepted.result(30)
    with pytest.raises(InvalidInput) as refused:
        start(None, session=session().name).finished.result(30)
    assert refused.value.code == "NO_CODE"


def test_starting_the_same_id_twice_makes_one_run() -> None:
    run_id, language = runs.uuid7(), nobodys_language()
    for _ in range(2):
        start("", language=language, run_id=run_id).accepted.result(30)
    assert Run.objects.filter(language=language).count() == 1
    runs.cancel(str(run_id), owner_id=owners.default_id())


def test_a_request_lies_sealed_in_its_row(own: Connection) -> None:
    started = start("", language=nobodys_language(), env={"KEY": "s3cr3t"}, files={"f": b"s3cr3t"})
    started.accepted.result(30)
    (request,) = own.execute("SELECT request FROM sessions_app_run WHERE id = %s", (started.run_id,)).fetchone() or ()
    assert b"s3cr3t" not in request
    opened = sealing.unseal(request, run_id=uuid.UUID(started.run_id).bytes)
    assert (opened.env, opened.files) == ({"KEY": "s3cr3t"}, {"f": b"s3cr3t"})
    runs.cancel(started.run_id, owner_id=owners.default_id())


def test_without_a_broker_the_run_is_ended_before_its_caller_hears_of_it() -> None:
    broken = {**os.environ, "ERA_BROKER_URL": "redis+socket:///nowhere/valkey.sock"}
    command = [sys.executable, "-c", WITHOUT_BROKER, nobodys_language()]
    environment = {**broken, "DJANGO_SETTINGS_MODULE": "era_project.settings"}
    done = subprocess.run(
        command, env=environment, cwd=servers.ROOT, capture_output=True, text=True, timeout=90, check=True
    )
    run_id, status, code = done.stdout.split()
    assert (status, code) == ("503", "UNAVAILABLE")
    run = runs.get(run_id, owner_id=owners.default_id())
    assert run["status"] == RunStatus.EXPIRED
    assert "broker" in run["message"]


def test_a_lost_message_is_sent_again(own: Connection) -> None:
    language = nobodys_language()
    started = start("", language=language)
    started.accepted.result(30)
    queue = messages.queue_of(language, None)
    connections.broker().delete(queue)
    own.execute(
        "UPDATE sessions_app_run SET published_at = now() - interval '6 s', created_at = now() - interval '6 s' "
        "WHERE id = %s",
        (started.run_id,),
    )

    def sent_again() -> bool:
        reaper.reap(own, judge=False)
        return messages.waiting(queue, at_most=10) == {started.run_id}

    wait_until(sent_again, 30, "the message is there again")
    before = connections.broker().llen(queue)
    own.execute("UPDATE sessions_app_run SET published_at = now() - interval '6 s' WHERE id = %s", (started.run_id,))
    reaper.reap(own, judge=False)
    assert connections.broker().llen(queue) == before
    runs.cancel(started.run_id, owner_id=owners.default_id())


def test_the_answer_is_found_in_the_database_when_the_reply_is_lost(own: Connection) -> None:
    started = start("", language=nobodys_language())
    started.accepted.result(30)
    own.execute(
        "UPDATE sessions_app_run SET status = 'lost', finished_at = now(), message = 'gone' WHERE id = %s",
        (started.run_id,),
    )
    answer = told(started)
    assert (answer.status, answer.run["code"], answer.run["message"]) == (500, "RUN_LOST", "gone")
    assert json.dumps(answer.run)
