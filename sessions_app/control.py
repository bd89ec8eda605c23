"""Words to one worker node: a list in Valkey that a thread of the node reads."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import redis

from sessions_app import connections
from sessions_app.outage import Outage

logger = logging.getLogger(__name__)

UNREAD_TTL_S = 60
"""What a node has not read by then it will not need: it is dead, and what it ran is lost."""

RETRY_S = 0.5

Handler = Callable[[Mapping[str, Any]], None]


def key(node: str) -> str:
    """The list of ``node``."""
    return f"era:control:{node}"


def send(node: str, command: Mapping[str, Any]) -> None:
    """Tell ``node`` to do something; ``command["op"]`` names it.

    Raises:
        redis.RedisError: Valkey cannot be reached.
    """
    pipeline = connections.valkey().pipeline(transaction=False)
    pipeline.rpush(key(node), msgspec.json.encode(command))
    pipeline.expire(key(node), UNREAD_TTL_S)
    pipeline.execute()


class Reader(threading.Thread):
    """Hands each command to the handler of its ``op``, in a thread of its own: a slow one blocks no other."""

    def __init__(self, node: str, handlers: Mapping[str, Handler]) -> None:
        super().__init__(name="era-control", daemon=True)
        self._key = key(node)
        self._handlers = handlers
        self._stopped = threading.Event()

    def run(self) -> None:
        """Read until :meth:`stop`."""
        client = connections.blocking_valkey()
        away = Outage(logger, "Commands cannot be read")
        while not self._stopped.is_set():
            try:
                got: Any = client.blpop([self._key], timeout=connections.BLOCK_S)
            except (redis.RedisError, OSError) as error:
                away.failed(error)
                self._stopped.wait(RETRY_S)
                continue
            away.worked()
            if got:
                self._take(got[1])

    def stop(self) -> None:
        """End the thread within :data:`connections.BLOCK_S`."""
        self._stopped.set()

    def _take(self, word: bytes) -> None:
        try:
            self._handle(msgspec.json.decode(word))
        except Exception:  # a node that reads no commands would keep sandboxes of deleted sessions
            logger.exception("A command could not be taken.", extra={"action": "control_failed"})

    def _handle(self, command: Mapping[str, Any]) -> None:
        handler = self._handlers.get(command["op"])
        if handler is None:
            logger.warning("No such command: %s", command["op"], extra={"action": "control_failed"})
            return
        threading.Thread(target=_call, args=(handler, command), name="era-command", daemon=True).start()


def _call(handler: Handler, command: Mapping[str, Any]) -> None:
    try:
        handler(command)
    except Exception:
        logger.exception("The command %s failed.", command["op"], extra={"action": "control_failed"})
