"""The ASGI application: one door for every request, which leads to the API, to raw endpoints or to stock Django.

Here is what every answer has in common: its request id, the browser guard, CORS, HEAD, the shape of errors, one log
line. ``serve`` runs it as ``era_project.asgi:application``.
"""

from __future__ import annotations

import asyncio
import gc
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "era_project.settings")

import django

django.setup(set_prefix=False)

from django.core.asgi import get_asgi_application  # noqa: E402
from django.core.signals import request_finished  # noqa: E402
from django.db import connection  # noqa: E402

from era_project import exchange, guard, mounts, static_files  # noqa: E402
from era_project.errors import NotFound  # noqa: E402
from era_project.lean import LeanHandler, check_method  # noqa: E402
from sessions_app.api import answers, idempotent  # noqa: E402
from sessions_app.api.body_bytes import Receive, Scope, Send  # noqa: E402
from sessions_app.services import owners  # noqa: E402

LEAN = frozenset((b"api", b"health", b"proxy", b"chat", b"sessions"))
"""First segments of the paths that the lean handler answers."""


class Application:
    """The root of the server."""

    def __init__(self) -> None:
        self._lean = LeanHandler()
        self._once = idempotent.once(self._route)
        self._knows_owner = False
        stock: Any = get_asgi_application()
        self._stock = exchange.with_body_limit(exchange.with_plain_host(stock))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection: HTTP, a web socket, or the server's own life."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "websocket":
            await self._web_socket(scope, receive, send)
        else:
            await exchange.answer(self._once, scope, receive, send)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        segments = mounts.segments(scope)
        if not self._knows_owner and segments[0] == b"api":
            await self._look_up_owner()
        mount = mounts.http(segments)
        if mount is not None:
            options = check_method(scope["method"], mount.methods)
            if options is None:
                await mount.app(scope, receive, send, **mount.parts)
            else:
                await answers.send_empty(send, options)
        elif segments[0] in LEAN:
            mounts.check_decoded(segments)
            await self._lean(scope, receive, send)
        elif segments[0] == b"static":
            await static_files.serve(scope, receive, send)
        elif segments[0] == b"admin":
            await self._stock(scope, receive, send)
        else:
            raise NotFound("There is nothing here: the API is below /api, the admin below /admin/.")

    async def _look_up_owner(self) -> None:
        """Ask the database once, in a thread: later the loop finds the answer in memory."""
        with ThreadPoolExecutor(1) as thread:
            await asyncio.get_running_loop().run_in_executor(thread, _owner)
        self._knows_owner = True

    async def _web_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        await exchange.answer_web_socket(_route_web_socket, scope, receive, send)


def _owner() -> None:
    try:
        owners.default_id()
    finally:
        connection.close()  # this thread ends here


async def _route_web_socket(scope: Scope, receive: Receive, send: Send) -> None:
    mount = mounts.web_socket(mounts.segments(scope))
    if mount is None:
        raise NotFound("There is no web socket here.")
    await mount.app(scope, receive, send, **mount.parts)


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message: Any = await receive()
        if message["type"] == "lifespan.startup":
            guard.configured()
            request_finished.connect(_let_go)
            gc.collect()
            gc.freeze()  # what stands after start-up lives for ever: never look at it again
            gc.set_threshold(50_000, 20, 100)
            await send({"type": "lifespan.startup.complete"})
        else:
            await send({"type": "lifespan.shutdown.complete"})
            return


def _let_go(**_: object) -> None:
    """Close what a request of stock Django had: its thread ends with it, and would leave the connection behind."""
    connection.close()


application = Application()
