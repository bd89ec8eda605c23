"""RabbitMQ as the broker, Valkey beside it for replies and live output: runs, their order, and a restart that heals."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests import rabbitmq, stack
from tests.integration.streams.clients import frames
from tests.rabbitmq import Broker
from tests.servers import Server, running
from tests.waiting import wait_until

pytestmark = pytest.mark.xdist_group("serving")

SETTLED_S = 100.0
LONG = "import time; print('begun', flush=True); time.sleep(3); print('ended')"


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    with rabbitmq.serve(stack.current.base / f"rabbitmq-{stack.current.name}") as serving:
        yield serving


@pytest.fixture(scope="module")
def server(broker: Broker) -> Iterator[Server]:
    env = {
        "ERA_RUNTIMES_DIR": str(stack.current.runtimes.parent),
        "ERA_BROKER_URL": broker.url,
        "ERA_REDIS_URL": stack.current.valkey_url,
        "ERA_NODE_NAME": f"amqp-{stack.current.name}",
    }
    with running(env, state=stack.current.base / f"amqp-{stack.current.name}") as started:
        yield started


@pytest.mark.skipif(
    not rabbitmq.is_at_hand(), reason="SKIPPED, NOT TESTED: RabbitMQ is not here; `make chaos` fetches it"
)
@pytest.mark.timeout(300)
def test_runs_their_order_and_streams(server: Server) -> None:
    _check_all(server)


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_a_restart_of_the_broker_heals(server: Server, broker: Broker) -> None:
    _check_all(server)
    running_id = server.post("/api/execute", {"language": "python", "code": LONG, "wait": False}).json["run_id"]
    wait_until(lambda: _status(server, running_id) == "running", SETTLED_S, "the long run has begun")
    broker.stop()
    wait_until(lambda: server.get("/health").json["checks"]["broker"] != "ok", SETTLED_S, "the outage is told")
    refused = server.post("/api/execute", {"language": "python", "code": "print(1)"})
    assert (refused.status, refused.json["code"]) == (503, "UNAVAILABLE"), refused.body
    wait_until(lambda: _status(server, running_id) == "succeeded", SETTLED_S, "what ran has ended without the broker")
    broker.start()
    wait_until(lambda: server.get("/health").json["status"] == "healthy", SETTLED_S, "the server is well again")
    assert _status(server, refused.json["run_id"]) == "expired"
    _check_all(server)


def _check_all(server: Server) -> None:
    assert server.get("/health").json["checks"]["broker"] == "ok"
    name = f"amqp-{uuid.uuid4().hex}"
    assert server.post("/api/sessions", {"language": "python", "session_id": name}).status == 201
    _check_runs(server)
    _check_order(server, name, 8)
    _check_stream(server)


def _status(server: Server, run_id: str) -> str:
    return str(server.get(f"/api/runs/{run_id}").json["status"])


def _check_runs(server: Server) -> None:
    """Each caller gets the answer to its own run."""

    def ask(number: int) -> str:
        answer = server.post("/api/execute", {"language": "python", "code": f"print({number} * 7)"})
        assert answer.status == 200, answer.body
        return str(answer.json["stdout"])

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(ask, range(12))) == [f"{number * 7}\n" for number in range(12)]


def _check_order(server: Server, name: str, count: int) -> None:
    """Runs of one session, all queued at once, are done in the order in which they came."""
    path = f"/api/sessions/{name}/run"
    assert server.post(path, {"code": "seen = []"}).status == 200
    queued = [
        server.post(path, {"code": f"seen.append({number}); print(seen)", "wait": False}).json["run_id"]
        for number in range(count)
    ]
    last = server.post(path, {"code": "print(seen)"})
    assert last.json["stdout"] == f"{list(range(count))}\n", last.body
    outputs = [server.get(f"/api/runs/{run_id}").json["stdout"] for run_id in queued]
    assert outputs == [f"{list(range(number + 1))}\n" for number in range(count)]


def _check_stream(server: Server) -> None:
    answer = server.post("/api/execute/stream", {"language": "python", "code": "print('flows')"})
    assert [event.type for event in frames(answer.body)] == ["stdout", "done"]
