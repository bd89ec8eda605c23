"""A reader that resumes gets exactly the run's output while parts of the server are killed under it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from tests import servers, stack
from tests.integration.streams.clients import FAULTS, Resuming
from tests.servers import Server
from tests.waiting import wait_until

TICKS = 120
PROGRAM = f"import time\nfor i in range({TICKS}):\n    print('tick', i, 'é')\n    time.sleep(0.1)"
WHOLE = "".join(f"tick {i} é\n" for i in range(TICKS))
pytestmark = pytest.mark.chaos


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with services of its own, to be broken."""
    settings = {"ERA_RUNTIMES_DIR": str(stack.current.runtimes.parent), "ERA_NODE_NAME": "broken"}
    with servers.running(settings, state=tmp_path_factory.mktemp("broken") / "state") as running:
        yield running


def kill(server: Server, words: str) -> None:
    """Kill -9 the part whose command line has ``words``."""
    parts = psutil.Process(server.process.pid).children(recursive=True)
    part = next(part for part in parts if words in " ".join(part.cmdline()))
    part.kill()


def healthy(server: Server) -> bool:
    with contextlib.suppress(*FAULTS):
        return server.get("/health").status == 200
    return False


@pytest.mark.parametrize("part", ["valkey-server", "serve.web", "manage.py worker"])
def test_a_reader_that_resumes_gets_everything(own_server: Server, part: str, tmp_path: Path) -> None:
    body = {"language": "python", "code": PROGRAM, "timeout": 100, "wait": False}
    run = own_server.post("/api/execute", body).json["run_id"]
    reader = Resuming(own_server, run)
    wait_until(lambda: "tick 10" in reader.output, 60, "output comes")
    kill(own_server, part)
    reader.finish()
    if part == "manage.py worker":
        assert reader.last["status"] == "lost"
        assert WHOLE.startswith(reader.output)
    else:
        assert reader.last["status"] == "succeeded"
        assert reader.output == WHOLE
    again = Resuming(own_server, run)
    again.finish()
    assert again.output == reader.output
    wait_until(lambda: healthy(own_server), 60, "the server is whole again")
