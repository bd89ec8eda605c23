"""Health's questions: a part that fails or hangs is down, and one that hangs is asked once."""

from __future__ import annotations

import asyncio
import threading

from sessions_app.api import health


def test_a_part_that_fails_is_down() -> None:
    def fails() -> bool:
        raise OSError("no")

    assert isinstance(asyncio.run(health.ask(fails)), OSError)


def test_a_part_that_hangs_is_down_and_not_asked_again() -> None:
    asked = []
    may_end = threading.Event()

    def hangs() -> bool:
        asked.append(1)
        return may_end.wait(60)

    async def twice() -> list[object]:
        return list(await asyncio.gather(health.ask(hangs), health.ask(hangs)))

    try:
        assert [type(answer) for answer in asyncio.run(twice())] == [TimeoutError, TimeoutError]
        assert len(asked) == 1
    finally:
        may_end.set()
