"""Frames are sent one a write, comments in silence, and work ends with its reader."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sessions_app import frames
from sessions_app.api import sse


async def written(*given: bytes | None) -> list[bytes]:
    sent: list[bytes] = []

    async def send(message: Any) -> None:
        sent.append(message["body"])

    async def source() -> AsyncIterator[bytes | None]:
        for frame in given:
            yield frame

    await sse.write(send, source())
    return sent


def test_each_frame_is_a_write_of_its_own() -> None:
    assert asyncio.run(written(b"one", None, b"two")) == [b"one", b"two", b""]


def test_silence_is_filled_with_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "KEEP_ALIVE_S", 0.0)
    assert asyncio.run(written(None, b"one")) == [frames.KEEP_ALIVE, b"one", b""]
    assert frames.KEEP_ALIVE.startswith(b":")


def test_work_that_swallows_a_cancellation_ends_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "CANCEL_AGAIN_S", 0.01)
    swallowed = []

    async def stubborn() -> None:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                swallowed.append(1)
                if len(swallowed) > 1:
                    raise

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    with pytest.raises(sse.LeftError):
        asyncio.run(sse.while_present(stubborn(), receive))
    assert len(swallowed) == 2


@pytest.mark.parametrize(("given", "offset"), [(b"", 0), (b" 12 ", 12), (b"0", 0)])
def test_offsets_that_can_be_resumed_from(given: bytes, offset: int) -> None:
    assert sse.last_event_id({"headers": [(b"last-event-id", given)]}) == offset
