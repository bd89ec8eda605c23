"""Many runs at once: a bounded number of them on their way, results as they come or in the order of the batch."""

from __future__ import annotations

import asyncio
import functools
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from uuid import UUID

from era_project.errors import EraError, NotFound
from sessions_app import run_object
from sessions_app.listening import hub
from sessions_app.run_object import Finished
from sessions_app.services import idempotency, runs
from sessions_app.services.runs import NewRun

LARGEST = 1000
"""Runs of one batch. Source: the contract."""
WINDOW = 64
"""Runs that are on their way or whose results wait for an earlier one: their queue timeouts begin no sooner."""
LOOK_S = 0.2
PAUSE_S = 2.0
"""So often whoever sends the results may send something else meanwhile."""

Result = Finished | EraError


class Batch:
    """The runs of one batch.

    Args:
        wanted: the runs, checked.
        claim: of a call with an Idempotency-Key: the runs get ids of their own that a second call finds again.
    """

    def __init__(self, wanted: Sequence[NewRun], claim: idempotency.Claim | None = None) -> None:
        self._claim = claim
        self._wanted = wanted
        self._open: dict[int, str] = {}
        """Ids of the runs on their way, by their place."""

    async def results(self, *, in_order: bool) -> AsyncGenerator[tuple[int, Result] | None, None]:
        """Each place with its result: an answer as of a single run, or why there was no run; None in pauses."""
        waiting = iter(enumerate(self._wanted))
        going: dict[asyncio.Task[Result], int] = {}
        ready: dict[int, Result] = {}
        turn = 0
        try:
            while True:
                while len(going) + len(ready) < WINDOW and (item := next(waiting, None)):
                    going[asyncio.create_task(self._result(*item))] = item[0]
                if not going:
                    return
                done, _ = await asyncio.wait(going, timeout=PAUSE_S, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    yield None
                ready |= {going.pop(task): task.result() for task in done}
                for place in sorted(ready):
                    if in_order and place != turn:
                        break
                    yield place, ready.pop(place)
                    turn += 1
        finally:
            for task in going:
                task.cancel()

    async def cancel(self) -> None:
        """End the runs that are on their way; nobody waits for them."""
        ids = [(run_id, self._wanted[place].owner_id) for place, run_id in self._open.items()]
        await hub().in_thread(_cancel, ids)

    async def _result(self, place: int, new: NewRun) -> Result:
        try:
            if self._claim is None:
                return await self._run(place, new)
            named = replace(new, run_id=uuid.uuid5(self._claim.run_id, str(place)), detached=True)
            return await (self._run(place, named) if self._claim.is_first else _awaited(named))
        except EraError as error:
            return error

    async def _run(self, place: int, new: NewRun) -> Finished:
        started = runs.start(new)
        self._open[place] = started.run_id
        finished = await asyncio.shield(asyncio.wrap_future(started.finished))
        del self._open[place]
        return finished


def _cancel(ids: Sequence[tuple[str, int]]) -> None:
    for run_id, owner_id in ids:
        try:
            runs.cancel(run_id, owner_id=owner_id, wait_s=0)
        except NotFound:
            continue


async def _awaited(new: NewRun) -> Finished:
    """The answer of a run that the first call with this key starts, or has started."""
    assert new.run_id is not None
    give_up_at = time.monotonic() + idempotency.ABANDONED_S
    while not (is_finished := await hub().is_finished(new.run_id)):
        if is_finished is None and time.monotonic() > give_up_at:
            raise NotFound("The record of this run is gone, or the first call ended before it was started.")
        await asyncio.sleep(LOOK_S)
    return await hub().in_thread(functools.partial(_answer, new.run_id, owner_id=new.owner_id))


def _answer(run_id: UUID, *, owner_id: int) -> Finished:
    return run_object.answer(runs.get(str(run_id), owner_id=owner_id))
