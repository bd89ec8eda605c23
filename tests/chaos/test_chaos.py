"""The whole of the fault trials: 1,000 runs that count themselves while a part dies three times."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests import faults, stack
from tests.chaos import verdict
from tests.chaos.load import SESSIONS, Load, orders
from tests.servers import Server, running
from tests.waiting import wait_until

pytestmark = pytest.mark.chaos

RUNS = 1_000
STRIKES = (0.2, 0.45, 0.7)
"""After which parts of the load the fault happens."""
PROGRESS_S = 300.0


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    state = stack.current.base / f"chaos-{stack.current.name}"
    env = {"ERA_RUNTIMES_DIR": str(stack.current.runtimes.parent)}
    with running(env, state=state) as started:
        verdict.watch_claims(started)
        yield started


@pytest.mark.parametrize("fault", faults.FAULTS)
def test_under_load(server: Server, fault: str) -> None:
    names = [f"chaos-{uuid.uuid4().hex}" for _ in range(SESSIONS)]
    for name in names:
        assert server.post("/api/sessions", {"language": "python", "session_id": name}).status == 201
    since = verdict.now(server)
    load = Load(server, orders(RUNS, names, seed=len(fault)))
    load.start()
    for part in STRIKES:
        wait_until(lambda at=part: load.taken() >= RUNS * at or not load.is_going_on, PROGRESS_S, "the load goes on")  # type: ignore[misc]
        faults.FAULTS[fault](server)
    verdict.await_settled(load)
    ends = verdict.check(load, since)
    print(f"{fault}: {dict(ends)}")
    assert ends["succeeded"] > RUNS / 2
