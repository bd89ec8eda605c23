"""The ASGI handler of the API: Django's URLs, views and responses without a thread or a signal hop per request.

Why stock is slow: a new OS thread for each request, hops to it for two signals, two hops for every middleware.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

from django.core.handlers.asgi import ASGIRequest
from django.db import close_old_connections
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template.response import SimpleTemplateResponse
from django.urls import get_resolver

from era_project import api_errors, conf
from era_project.errors import InvalidInput, MethodNotAllowed
from sessions_app.api import body_bytes
from sessions_app.api.body_bytes import Message, Receive, Scope, Send
from sessions_app.outage import ANSWER_WITHIN_S

QUICK_THREADS = 4
"""Threads of the plain views: each keeps one database connection. Source: the stack study, four fixed executors."""

PATIENT_THREADS = 12
"""Threads of views that may wait seconds for a run to end, so that they hold up nobody else."""

PATIENCE_S = 60.0
WAITING = ("POST", "DELETE")
"""How long those may take, all in all, and the methods that do."""

WATCH_AFTER_S = 0.03
"""Before that nobody looks whether the client is still there: a task for each short run would cost more than it tells."""

View = Callable[..., Any]


class DoorRequest(ASGIRequest):
    """A request whose body is whole; ``client_gone`` turns true when its client goes away before the answer."""

    def __init__(self, scope: Scope, body: bytes) -> None:
        try:
            super().__init__(scope, BytesIO(body))
        except UnicodeDecodeError:
            raise InvalidInput("The query must be percent-encoded.", field="query") from None
        self._body = body
        self.client_gone = False


def methods_of(view: View) -> Sequence[str]:
    """The methods that a view takes: told by ``@takes`` or by the handlers of its class."""
    told: Sequence[str] | None = getattr(view, "methods", None)
    if told is None:
        cls = view.cls  # type: ignore[attr-defined]
        told = tuple(name.upper() for name in ("get", "post", "put", "patch", "delete") if hasattr(cls, name))
        view.methods = told  # type: ignore[attr-defined]
    return told


def check_method(method: str, allowed: Sequence[str]) -> HttpResponse | None:
    """The answer to OPTIONS; None: go on.

    Raises:
        MethodNotAllowed: with the methods for the ``Allow`` header.
    """
    if method in allowed:
        return None
    shown = (*allowed, *(("HEAD",) if "GET" in allowed else ()), "OPTIONS")
    if method == "OPTIONS":
        return HttpResponse(status=204, headers={"Allow": ", ".join(shown)})
    raise MethodNotAllowed(f"This route takes {', '.join(allowed)}, not {method}.", allow=shown)


class LeanHandler:
    """Resolves, calls and answers; async views on the loop, sync ones on a few threads that stay."""

    def __init__(self) -> None:
        self._quick = ThreadPoolExecutor(QUICK_THREADS, "door")
        self._patient = ThreadPoolExecutor(PATIENT_THREADS, "patient-door")
        self._resolve = get_resolver().resolve

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request; whatever is raised becomes its error answer."""
        try:
            response = await self._answer(scope, receive)
        except body_bytes.Gone:
            return
        except Exception as exc:
            response = api_errors.response(exc)
        if response is not None:
            await _send(response, send)

    async def _answer(self, scope: Scope, receive: Receive) -> HttpResponseBase | None:
        view, args, kwargs = self._resolve(scope["path"])
        options = check_method(scope["method"], methods_of(view))
        if options is not None:
            return options
        body = await body_bytes.read(scope, receive, limit=conf.get().max_body_bytes)
        request = DoorRequest(scope, body)
        if inspect.iscoroutinefunction(view):
            return await _watched(view, request, kwargs, receive)
        pool = self._patient if getattr(view.cls, "patient", False) else self._quick
        wait_s = PATIENCE_S if pool is self._patient and scope["method"] in WAITING else ANSWER_WITHIN_S
        call = contextvars.copy_context().run
        async with asyncio.timeout(wait_s):
            return await asyncio.get_running_loop().run_in_executor(pool, call, _sync, view, request, args, kwargs)


def _sync(view: View, request: HttpRequest, args: tuple[Any, ...], kwargs: dict[str, Any]) -> HttpResponseBase:
    close_old_connections()  # no request signals here: a connection that broke is replaced now
    response: HttpResponseBase = view(request, *args, **kwargs)
    if isinstance(response, SimpleTemplateResponse):
        response.render()
    return response


async def _watched(
    view: View, request: DoorRequest, kwargs: dict[str, Any], receive: Receive
) -> HttpResponseBase | None:
    """The view's answer; None if the client went away, which the view is told by a cancellation."""
    watch = _Watch(request, receive)
    try:
        response: HttpResponseBase = await view(request, **kwargs)
        return response
    except asyncio.CancelledError:
        if not request.client_gone:
            raise
        watch.task.uncancel()
        return None
    finally:
        watch.end()


class _Watch:
    """Tells a request's task when its client goes away; most answers are there before a watcher is even needed."""

    def __init__(self, request: DoorRequest, receive: Receive) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.task: asyncio.Task[Any] = task
        self._request = request
        self._receive = receive
        self._watcher: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(WATCH_AFTER_S, self._begin)

    def end(self) -> None:
        """The answer is there."""
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()

    def _begin(self) -> None:
        self._watcher = asyncio.create_task(self._wait_until_gone())

    async def _wait_until_gone(self) -> None:
        message: Message = await self._receive()
        if message["type"] == "http.disconnect":
            self._request.client_gone = True
            self.task.cancel()


async def _send(response: HttpResponseBase, send: Send) -> None:
    content: bytes = response.content  # type: ignore[attr-defined]
    if "Content-Length" not in response.headers and response.status_code != 204:
        response.headers["Content-Length"] = str(len(content))
    headers = [(name.encode("ascii"), value.encode("latin-1")) for name, value in response.items()]
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": content})
