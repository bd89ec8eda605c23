"""The body of a JSON request: whole, too large, broken off, or never to come."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from era_project.errors import TooLarge
from sessions_app.api import body_bytes
from sessions_app.api.body_bytes import Gone, Stalled

LIMIT = 10
MORE = {"type": "http.request", "body": b"{", "more_body": True}
LAST = {"type": "http.request", "body": b"}"}


def read(messages: Sequence[dict[str, Any]]) -> bytes:
    """The body that these messages carry; after the last one nothing comes any more."""
    waiting = list(messages)

    async def receive() -> dict[str, Any]:
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop(0)

    scope = {"type": "http", "headers": [(b"content-type", b"application/json")]}
    return asyncio.run(body_bytes.read(scope, receive, limit=LIMIT))


def test_pieces_are_put_together() -> None:
    assert read([MORE, MORE, LAST]) == b"{{}"


def test_too_much_is_refused_as_soon_as_it_is_there() -> None:
    with pytest.raises(TooLarge):
        read([MORE] * (LIMIT + 1))


@pytest.mark.parametrize("begun", [[], [MORE]])
def test_a_client_that_goes_away(begun: list[dict[str, Any]]) -> None:
    with pytest.raises(Gone):
        read([*begun, {"type": "http.disconnect"}])


@pytest.mark.parametrize("begun", [[], [MORE]])
def test_a_client_that_stops_sending(begun: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_bytes, "STALL_S", 0.05)
    with pytest.raises(Stalled):
        read(begun)
