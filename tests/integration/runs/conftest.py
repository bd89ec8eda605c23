"""A worker node of this stack, and the services in this process beside it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from era_project.serve import control_groups
from sessions_app import connections
from sessions_app.models import Run, Session
from sessions_app.reaper import Reaper
from sessions_app.services import nodes, owners, runs
from sessions_app.services.runs import NewRun, Started
from tests import servers, stack
from tests.waiting import wait_until

ANSWER_S = 60.0
LEASE_S = "8"
"""Twice the default: a machine may be busy for longer than a lease."""


@dataclass(frozen=True)
class Told:
    """An answer: HTTP status and body."""

    status: int
    run: dict[str, Any]


def told(started: Started) -> Told:
    """The answer to a run, waited for."""
    finished = started.finished.result(ANSWER_S)
    return Told(finished.http_status, json.loads(finished.body))


def ask(code: str | None, *, language: str = "python", **more: Any) -> Told:
    """Run something and wait for the answer."""
    return told(start(code, language=language, **more))


def start(code: str | None, *, language: str = "python", **more: Any) -> Started:
    """Start a run of the default owner."""
    return runs.start(NewRun(owner_id=owners.default_id(), language=language, code=code, **more))


def record(*, age: timedelta = timedelta(), **more: Any) -> Run:
    """The record of a run that succeeded so long ago."""
    at = timezone.now() - age
    return Run.objects.create(
        id=runs.uuid7(),
        owner_id=owners.default_id(),
        session_name=uuid.uuid4().hex,
        language="python",
        status="succeeded",
        timeout_s=1.0,
        queue_until=at,
        finished_at=at,
        **more,
    )


def nobodys_language() -> str:
    """A language that no worker serves."""
    return f"x{uuid.uuid4().hex[:12]}"


class WorkerProcess:
    """A worker node of this stack as a process of its own, with uids, a cgroup and a scratch folder of its own."""

    def __init__(self, name: str, *, part: int, languages: str, embedded: bool = False) -> None:
        own = stack.current
        self.name = name
        self._log = own.base / f"{name}-{uuid.uuid4().hex[:6]}.log"
        self._cgroup = f"{own.cgroup}-{part}"
        uids = own.uid_count // 4
        scratch = own.state / f"run{part}"
        scratch.mkdir(mode=0o755, exist_ok=True)
        places = {
            "ERA_UID_BLOCK": str(own.uid_block + part * uids if own.uid_block else 0),
            "ERA_UID_COUNT": str(uids),
            "ERA_CGROUP": self._cgroup,
            "ERA_RUN_DIR": str(scratch),
            "ERA_LEASE_S": LEASE_S,
        }
        command = [sys.executable, "manage.py", "worker", "--languages", languages, "--slots", "2", "--name", name]
        with self._log.open("wb") as output:
            self.process = subprocess.Popen(
                [*command, *(["--embedded"] if embedded else [])],
                env={**os.environ, **places},
                cwd=servers.ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def wait_alive(self) -> None:
        """Return when the node's lease holds."""
        wait_until(self._serves, 60, "the node lives")

    def said(self) -> str:
        """The end of its log."""
        return self._log.read_text(errors="replace")[-5000:]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end."""
        self.process.send_signal(number)
        status = self.process.wait(60)
        control_groups.clear(self._cgroup)
        return status

    def _serves(self) -> bool:
        assert self.process.poll() is None, f"the worker ended:\n{self.said()}"
        return any(one.name == self.name for one in nodes.alive())


@pytest.fixture(scope="session")
def node(django_db_setup: None, django_db_blocker: Any) -> Iterator[str]:
    """The name of a worker node that serves python and node."""
    worker = WorkerProcess(f"runs-{stack.current.name}", part=1, languages="python,node")
    with django_db_blocker.unblock():
        try:
            worker.wait_alive()
            yield worker.name
        finally:
            assert worker.stop() == 0, worker.said()


@pytest.fixture(scope="session")
def reaper(django_db_setup: None) -> Iterator[None]:
    """A reaper at work."""
    thread = Reaper()
    thread.start()
    yield
    thread.stop()
    thread.join()


@pytest.fixture
def own(real_db: None) -> Iterator[connections.Connection]:
    """A connection of the kind that the writers have."""
    with connections.postgres() as made:
        yield made


@pytest.fixture
def session(real_db: None) -> Callable[..., Session]:
    """Makes a session of the default owner with a name of its own."""

    def make(**more: Any) -> Session:
        return Session.objects.create(
            **{"owner_id": owners.default_id(), "name": f"s-{uuid.uuid4().hex}", "language": "python", **more}
        )

    return make


@pytest.fixture(autouse=True)
def rested(real_db: None) -> Iterator[None]:
    """Every test here sees what other processes commit, and leaves no transaction open."""
    yield
    connection.close()
