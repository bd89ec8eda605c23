"""Live sessions over HTTP: a way to say a session's runs in one line each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import servers, stack
from tests.servers import Server

LIVE_MAX = 2


@dataclass(frozen=True)
class Talk:
    """One session of a server."""

    server: Server
    id: str

    def run(self, code: str, **more: Any) -> dict[str, Any]:
        """The run object of ``code``, whatever became of it."""
        answer: dict[str, Any] = self.server.post(f"/api/sessions/{self.id}/run", {"code": code, **more}).json
        return answer

    def result(self, code: str) -> str | None:
        """The value of the last expression of ``code``, which succeeds."""
        run = self.run(code)
        assert run["status"] == "succeeded", run
        result: str | None = run["result"]
        return result

    @property
    def state(self) -> str:
        """Where its variables are."""
        told: str = self.server.get(f"/api/sessions/{self.id}").json["state"]
        return told

    def post(self, what: str, body: Any = None) -> Any:
        """``POST /api/sessions/{id}/what``."""
        return self.server.post(f"/api/sessions/{self.id}/{what}", body).json


def talk(server: Server, language: str = "python", **more: Any) -> Talk:
    """A new session of ``server``."""
    answer = server.post("/api/sessions", {"language": language, **more})
    assert answer.status == 201, answer.body
    return Talk(server, answer.json["id"])


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of its own that keeps two sessions live and stores early."""
    settings = {
        "ERA_RUNTIMES_DIR": str(stack.current.runtimes.parent),
        "ERA_LIVE_MAX": str(LIVE_MAX),
        "ERA_LIVE_FREEZE_S": "0.2",
        "ERA_LIVE_SAVE_S": "600",
        "ERA_NODE_NAME": f"small-{stack.current.name}",
    }
    with servers.running(settings, state=Path(tmp_path_factory.mktemp("small")) / "state") as server:
        yield server
