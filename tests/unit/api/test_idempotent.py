"""What becomes of an Idempotency-Key when the answer to its first call goes out."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from sessions_app.api import idempotent
from sessions_app.services import idempotency
from sessions_app.services.idempotency import Claim


@dataclass
class Hub:
    """Knows how the run stands, and notes what is done to the key."""

    finished: bool | None
    done: list[str] = field(default_factory=list)

    async def is_finished(self, run_id: uuid.UUID) -> bool | None:
        return self.finished

    async def in_thread(self, work: Callable[..., None], *given: Any) -> None:
        self.done.append({idempotency.release: "released", idempotent._keep: "kept"}[work])


@pytest.mark.parametrize(
    ("status", "code", "finished", "becomes"),
    [
        (200, "", True, ["kept"]),
        (400, "INVALID_INPUT", None, ["released"]),
        (503, "UNAVAILABLE", True, ["released"]),
        (503, "UNAVAILABLE", False, []),
        (503, "QUEUE_TIMEOUT", True, ["kept"]),
        (503, "OBJECT_STORE_DOWN", None, ["released"]),
        (503, "OBJECT_STORE_DOWN", True, []),
    ],
)
def test_a_key_after_its_first_answer(
    status: int, code: str, finished: bool | None, becomes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub, sent = Hub(finished), []
    monkeypatch.setattr(idempotent, "hub", lambda: hub)

    async def send(message: Any) -> None:
        sent.append(message)

    async def answer() -> None:
        kept = idempotent._Kept(send, Claim(id=1, run_id=uuid.uuid4(), is_first=True))
        await kept({"type": "http.response.start", "status": status, "headers": []})
        await kept({"type": "http.response.body", "body": f'{{"code":"{code}"}}'.encode()})

    asyncio.run(answer())
    assert hub.done == becomes
    assert len(sent) == 2
