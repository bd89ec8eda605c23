"""The doors that start a run and wait for it: ``POST /api/execute`` and ``POST /api/sessions/{id}/run``."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from django.db import close_old_connections
from django.http import HttpRequest, HttpResponse

from era_project.errors import NotFound, Unavailable
from sessions_app.api import answers, bodies, idempotent
from sessions_app.api.doors import takes
from sessions_app.outage import ANSWER_WITHIN_S
from sessions_app.services import runs
from sessions_app.services.runs import NewRun, Started

log = logging.getLogger(__name__)

ROW_WITHIN_S = 30
"""How long a caller's leaving waits for the row of the run that it has just asked for."""

_cancelling = ThreadPoolExecutor(2, "caller-gone")


@takes("POST")
async def execute(request: HttpRequest) -> HttpResponse:
    """Run a program that leaves nothing behind but its record."""
    return await _start(request, bodies.execute(request.body))


@takes("POST")
async def run(request: HttpRequest, session: str) -> HttpResponse:
    """Run a program in a session."""
    return await _start(request, bodies.run(request.body, session=session))


async def _start(request: HttpRequest, new: NewRun) -> HttpResponse:
    new = idempotent.adopted(new, request.scope)  # type: ignore[attr-defined]
    started = runs.start(new)
    if not new.wait:
        await outcome(started.accepted, started, new.owner_id)
        location = {"Location": f"/api/runs/{started.run_id}"}
        return answers.json({"run_id": started.run_id, "status": "queued"}, status=202, headers=location)
    try:
        finished = await outcome(started.finished, started, new.owner_id)
    except asyncio.CancelledError:
        if not request.client_gone:  # type: ignore[attr-defined]
            raise _stopping(started.run_id) from None
        if not new.detached:
            _cancelling.submit(_cancel, started, new.owner_id)
        raise
    return finished_answer(finished)


def _stopping(run_id: str) -> Unavailable:
    return Unavailable(
        f"This server is stopping and the run goes on: GET /api/runs/{run_id} tells its end.", run_id=run_id
    )


def finished_answer(finished: runs.Finished) -> HttpResponse:
    """The answer for whoever waited."""
    headers = {} if finished.retry_after is None else {"Retry-After": str(finished.retry_after)}
    return answers.raw(finished.body, status=finished.http_status, headers=headers)


async def outcome(future: Future[Any], started: Started, owner_id: int) -> Any:
    """What ``future`` comes to; unlike ``wrap_future``, a cancelled waiter leaves it alone.

    Raises:
        TimeoutError: the database does not take the run's row; once it does, the run is cancelled.
    """
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()
    timer = loop.call_later(ANSWER_WITHIN_S, _give_up, waiter, started, owner_id)

    def tell(_: Future[Any]) -> None:
        try:
            loop.call_soon_threadsafe(_settle, waiter)
        except RuntimeError:  # the loop is closed: nobody waits any more
            log.debug("A run ended after its web process.")

    future.add_done_callback(tell)
    try:
        await waiter
    finally:
        timer.cancel()
    return future.result()


def _give_up(waiter: asyncio.Future[None], started: Started, owner_id: int) -> None:
    if not waiter.done() and not started.accepted.done():
        waiter.set_exception(TimeoutError("the run's row is not written"))
        runs.withdraw(started)
        started.accepted.add_done_callback(lambda _: _cancelling.submit(_cancel, started, owner_id))


def _settle(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _cancel(started: Started, owner_id: int) -> None:
    """In a thread: the caller is gone, nobody waits for it. The run may not even have its row yet."""
    wait([started.accepted], timeout=ROW_WITHIN_S)
    close_old_connections()
    try:
        runs.cancel(started.run_id, owner_id=owner_id, wait_s=0)
    except NotFound:
        return  # it was refused
    except Exception:
        log.exception("A run whose caller went away could not be cancelled.", extra={"run_id": started.run_id})
