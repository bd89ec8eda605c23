"""Answers come back: the thread that fetches them outlives one that cannot be had."""

from __future__ import annotations

import json
import threading
import uuid
from concurrent.futures import Future

import pytest

from era_project.errors import EraError
from sessions_app import connections, replies, run_rows
from sessions_app.models import Run
from sessions_app.replies import Reply, ReplyList
from sessions_app.run_object import Finished
from storage_app import blobs, objects
from storage_app.objects import MissingObjectError
from tests.integration.runs.conftest import record

ANSWER_S = 20.0


def asked(mine: ReplyList, *ended: Run) -> list[Future[Finished]]:
    """What somebody waits for whose replies say that the rows of ``ended`` are to be asked."""
    answers = [mine.expect(run.id) for run in ended]
    replies.send([Reply(mine.key, run.id, None) for run in ended])
    return answers


def arrives(answer: Future[Finished], run: Run) -> None:
    assert json.loads(answer.result(ANSWER_S).body)["run_id"] == str(run.id)


def test_output_that_is_lost_fails_its_own_run_and_no_other() -> None:
    mine, lost, whole = replies.mine(), record(stdout_blob=uuid.uuid4().hex * 2), record()
    first, second = asked(mine, lost, whole)
    with pytest.raises(MissingObjectError) as told:
        first.result(ANSWER_S)
    assert told.value.extra == {"run_id": str(lost.id)}
    arrives(second, whole)
    arrives(asked(mine, whole)[0], whole)


@pytest.mark.parametrize("fault", [objects.store_down("refused"), PermissionError(13, "Permission denied")])
def test_a_store_that_is_away_fails_its_own_run_and_no_other(monkeypatch: pytest.MonkeyPatch, fault: Exception) -> None:
    def away(_: str) -> bytes:
        raise fault

    monkeypatch.setattr(blobs, "read", away)
    mine, unread, whole = replies.mine(), record(stderr_blob=uuid.uuid4().hex * 2), record()
    first, second = asked(mine, unread, whole)
    with pytest.raises(type(fault)):
        first.result(ANSWER_S)
    arrives(second, whole)


def test_a_fault_of_ours_ends_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    happened = threading.Event()

    def fault(*_: object) -> dict[uuid.UUID, bool]:
        monkeypatch.undo()
        happened.set()
        raise ValueError("once")

    monkeypatch.setattr(run_rows, "states", fault)
    mine, run = replies.mine(), record()
    asked(mine, run)
    assert happened.wait(ANSWER_S)
    arrives(asked(mine, run)[0], run)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_ended_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def fault() -> None:
        raise EraError("The first thread ends.")

    monkeypatch.setattr(connections, "blocking_valkey", fault)
    mine = ReplyList()
    mine.expect(uuid.uuid4())
    assert mine._thread is not None
    mine._thread.join(ANSWER_S)
    monkeypatch.undo()
    run = record()
    arrives(asked(mine, run)[0], run)
