"""The doors that start a run and wait for it: ``POST /api/execute`` and ``POST /api/sessions/{id}/run``."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from django.db import close_old_connections
from django.http import HttpRequest, HttpResponse

from era_project.errors import NotFound
from sessions_app.api import answers, bodies, idempotent
from sessions_app.api.doors import takes
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
        await outcome(started.accepted)
        location = {"Location": f"/api/runs/{started.run_id}"}
        return answers.json({"run_id": started.run_id, "status": "queued"}, status=202, headers=location)
    try:
        finished = await outcome(started.finished)
    except asyncio.CancelledError:
        if request.client_gone and not new.detached:  # type: ignore[attr-defined]
            _cancelling.submit(_cancel, started, new.owner_id)
        raise
    return finished_answer(finished)


def finished_answer(finished: runs.Finished) -> HttpResponse:
    """The answer for whoever waited."""
    headers = {} if finished.retry_after is None else {"Retry-After": str(finished.retry_after)}
    return answers.raw(finished.body, status=finished.http_status, headers=headers)


async def outcome(future: Future[Any]) -> Any:
    """What ``future`` comes to; unlike ``wrap_future``, a cancelled waiter leaves it alone."""
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()

    def tell(_: Future[Any]) -> None:
        try:
            loop.call_soon_threadsafe(_settle, waiter)
        except RuntimeError:  # the loop is closed: nobody waits any more
            log.debug("A run ended after its web process.")

    future.add_done_callback(tell)
    await waiter
    return future.result()


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
