"""Worker processes that are stopped, killed and told to drain."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Callable, Iterator

import pytest

from sessions_app.models import Run, Session
from sessions_app.services import nodes, owners, runs
from tests import stack
from tests.integration.runs.conftest import WorkerProcess, start, told
from tests.waiting import wait_until

MakeWorker = Callable[..., WorkerProcess]

SLEEP = "import time; print('begun', flush=True); time.sleep({})"


@pytest.fixture
def worker(real_db: None) -> Iterator[MakeWorker]:
    """Starts worker nodes; ends them all."""
    started: list[WorkerProcess] = []

    def make(name: str, **more: object) -> WorkerProcess:
        one = WorkerProcess(name, part=2 + len(started) % 2, **{"languages": "python", **more})  # type: ignore[arg-type]
        started.append(one)
        one.wait_alive()
        return one

    yield make
    for one in started:
        if one.process.poll() is None:
            one.stop(signal.SIGKILL)


def at(node: WorkerProcess, name: str, *, persistent: bool = False) -> str:
    """A session whose runs go to ``node``, wherever else its language is served."""
    return Session.objects.create(
        owner_id=owners.default_id(), name=name, language="python", persistent=persistent, node=node.name
    ).name


def name() -> str:
    return f"{stack.current.name}-{uuid.uuid4().hex[:8]}"


def running(run_id: str) -> None:
    wait_until(lambda: Run.objects.get(id=run_id).status == "running", 60, "the run is running")


@pytest.mark.usefixtures("reaper")
def test_a_killed_workers_runs_are_lost_and_what_waited_runs_elsewhere(worker: MakeWorker, node: str) -> None:
    doomed = worker(name())
    session = at(doomed, name())
    lost, waiting = start(SLEEP.format(60), session=session), start("print('after')", session=session)
    lost.accepted.result(30)
    running(lost.run_id)
    doomed.stop(signal.SIGKILL)
    answer = told(lost)
    assert (answer.status, answer.run["status"], answer.run["node"]) == (500, "lost", doomed.name)
    answer = told(waiting)
    assert (answer.run["status"], answer.run["stdout"]) == ("succeeded", "after\n")
    assert answer.run["node"] != doomed.name


@pytest.mark.usefixtures("node")
def test_a_worker_that_is_stopped_finishes_what_runs_and_hands_over_what_waits(worker: MakeWorker) -> None:
    leaving = worker(name())
    session = at(leaving, name())
    last, waiting = start(SLEEP.format(1.5), session=session), start("print('after')", session=session)
    last.accepted.result(30)
    running(last.run_id)
    assert leaving.stop() == 0, leaving.said()
    answer = told(last)
    assert (answer.run["status"], answer.run["node"]) == ("succeeded", leaving.name)
    answer = told(waiting)
    assert answer.run["stdout"] == "after\n"
    assert leaving.name not in {one.name for one in nodes.alive()}


def test_an_embedded_worker_that_is_stopped_ends_its_runs_as_lost_at_once(worker: MakeWorker) -> None:
    leaving = worker(name(), embedded=True)
    started = start(SLEEP.format(60), session=at(leaving, name()))
    started.accepted.result(30)
    running(started.run_id)
    assert leaving.stop() == 0, leaving.said()
    answer = told(started)
    assert (answer.status, answer.run["status"]) == (500, "lost")
    assert answer.run["message"].startswith("server_stopped")


def test_a_run_that_is_lost_with_its_server_leaves_no_variables(worker: MakeWorker, node: str) -> None:
    leaving = worker(name(), embedded=True)
    session = at(leaving, name(), persistent=True)
    assert told(start("x = 1; x", session=session)).run["result"] == "1"
    started = start(f"x = 2; {SLEEP.format(60)}", session=session)
    started.accepted.result(30)
    running(started.run_id)
    assert leaving.stop() == 0, leaving.said()
    assert told(started).run["status"] == "lost"
    run = told(start("'x' in globals()", session=session)).run
    assert (run["node"], run["result"], run["state"]["status"]) == (node, "False", "lost")


def test_a_second_worker_of_a_name_takes_it_over(worker: MakeWorker) -> None:
    old = worker(name())
    new = worker(old.name)
    assert old.process.wait(60) == 1, old.said()
    assert new.process.poll() is None


def test_a_running_run_is_cancelled_by_its_node(worker: MakeWorker) -> None:
    there = worker(name())
    started = start(SLEEP.format(60), session=at(there, name()))
    started.accepted.result(30)
    running(started.run_id)
    runs.cancel(started.run_id, owner_id=owners.default_id(), wait_s=60)
    answer = told(started)
    assert (answer.status, answer.run["status"]) == (200, "cancelled")
    assert answer.run["exit_code"] in (137, 143)
