"""Whether the server can work: its parts asked at once, each with a deadline of its own."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from era_project.version import VERSION
from sessions_app.api import answers
from sessions_app.api.doors import takes
from sessions_app.run_object import moment
from sessions_app.services import parts

DEADLINE_S = 2.0
"""How long a part may take to answer; then it counts as down."""

_pool = ThreadPoolExecutor(len(parts.CHECKS) + 1, "health")
_asked: dict[Callable[[], Any], Future[Any]] = {}
"""Questions under way: a part that hangs is not asked again, so that it holds one thread and no more."""


@takes("GET")
async def health(request: HttpRequest) -> HttpResponse:
    """The state of the parts; 503 when one is down."""
    names = list(parts.CHECKS)
    *found, sandbox = await asyncio.gather(*(ask(parts.CHECKS[name]) for name in names), ask(parts.sandbox))
    down = {name: answer for name, answer in zip(names, found, strict=True) if isinstance(answer, Exception)}
    body = {
        "status": "unhealthy" if down else "healthy",
        "timestamp": moment(timezone.now()),
        "version": VERSION,
        "checks": {name: "down" if name in down else "ok" for name in names},
        "sandbox": None if isinstance(sandbox, Exception) else sandbox or None,
    }
    if down:
        body |= _reason(down)
    return answers.json(body, status=503 if down else 200, headers={"Cache-Control": "no-store"})


def _reason(down: Mapping[str, Exception]) -> dict[str, str]:
    """The error's keys of an answer that names the parts that are down, and a full disk where that is why."""
    message, code = f"Down: {', '.join(down)}.", "UNAVAILABLE"
    if any(parts.is_for_want_of_room(name, error) for name, error in down.items()):
        message, code = f"{message} The server's storage is full: free some space on it.", "DISK_FULL"
    return {"error": "Unavailable", "message": message, "code": code}


@takes("GET")
async def live(request: HttpRequest) -> HttpResponse:
    """That this process answers; touches nothing else."""
    return answers.json({"status": "healthy", "timestamp": moment(timezone.now()), "version": VERSION})


async def ask(question: Callable[[], Any]) -> Any:
    """The answer, or the exception if it failed or did not come in time."""
    under_way = _asked.get(question)
    if under_way is None or under_way.done():
        under_way = _pool.submit(contextvars.copy_context().run, question)
        _asked[question] = under_way
    try:
        return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(under_way)), DEADLINE_S)
    except Exception as error:
        parts.report(question, error)
        return error
