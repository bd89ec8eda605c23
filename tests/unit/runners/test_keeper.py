"""Who is looked after between runs, and when."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from runners.backends.slot.keeper import Keeper
from tests.waiting import wait_until


class Pipe:
    """Counts how often it is looked at; with something to read it never is quiet."""

    def __init__(self, keeper: Keeper, content: bytes) -> None:
        self.keeper = keeper
        self.ends = os.pipe()
        os.write(self.ends[1], content)
        self.looks = 0
        keeper.add(self)
        keeper.arm(self)

    def descriptors(self) -> tuple[int, ...]:
        return (self.ends[0],)

    def attend(self) -> None:
        self.looks += 1
        self.keeper.arm(self)

    def close(self) -> None:
        self.keeper.remove(self)
        for end in self.ends:
            os.close(end)


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    made = Keeper(watches_memory=True)
    yield made
    made.close()


def test_one_that_is_never_quiet_leaves_the_others_watched(keeper: Keeper) -> None:
    loud, quiet = Pipe(keeper, b"x"), Pipe(keeper, b"")
    try:
        wait_until(lambda: loud.looks > 3 and quiet.looks > 3, 30, "looks at both")
    finally:
        loud.close()
        quiet.close()


def test_what_is_forgotten_wakes_nobody(keeper: Keeper) -> None:
    pipe = Pipe(keeper, b"")
    try:
        keeper.forget(pipe.ends[0])
        keeper.arm(pipe)
        assert not keeper._kept
    finally:
        pipe.close()
