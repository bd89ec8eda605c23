"""Who follows a run, counted over all web processes, so that a stream that everybody left ends its run."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import weakref
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import redis

from sessions_app import events
from sessions_app.listening import Hub, hub
from sessions_app.models import Run
from sessions_app.services import runs

logger = logging.getLogger(__name__)

GRACE_S = 10.0
"""How long a streamed run goes on without a follower. Source: the contract."""
ALIVE_S = 30
"""For how long a follower counts that is not heard of again: its web process may have died."""
REFRESH_S = 10.0
MARGIN_S = 0.2

JOIN = """
local now = tonumber(redis.call('TIME')[1])
for i = 2, #ARGV do redis.call('ZADD', KEYS[1], now + ARGV[1], ARGV[i]) end
redis.call('EXPIRE', KEYS[1], ARGV[1])
"""
LEAVE = """
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('SET', KEYS[2], '1', 'PX', ARGV[2])
"""
IS_LEFT = """
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', redis.call('TIME')[1])
if redis.call('ZCARD', KEYS[1]) == 0 and redis.call('EXISTS', KEYS[2]) == 0 then return 1 end
return 0
"""
"""Nobody follows, and the latest to leave left longer ago than the grace."""


class Followers:
    """The followers of one web process."""

    def __init__(self, shared: Hub) -> None:
        self._shared = shared
        self._here: dict[UUID, set[str]] = {}
        self._refreshing: asyncio.Task[None] | None = None
        self._watches: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def follower(self, run_id: UUID) -> AsyncIterator[None]:
        """While it is entered, the run has one follower more; left by an exception, the grace begins."""
        name = uuid4().hex
        self._here.setdefault(run_id, set()).add(name)
        await self._join(run_id, [name])
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._refresh())
        try:
            yield
        except BaseException:
            self._watch(run_id, name)
            raise
        finally:
            self._here[run_id].discard(name)
            if not self._here[run_id]:
                del self._here[run_id]

    async def close(self) -> None:
        """Forget all; a web process that stops cancels nothing."""
        tasks = {*self._watches, *([self._refreshing] if self._refreshing else [])}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _watch(self, run_id: UUID, name: str) -> None:
        task = asyncio.create_task(self._cancel_if_left(run_id, name))
        self._watches.add(task)
        task.add_done_callback(self._watches.discard)

    async def _cancel_if_left(self, run_id: UUID, name: str) -> None:
        grace_ms = int(GRACE_S * 1000)
        await self._ask(LEAVE, run_id, name, grace_ms)
        await asyncio.sleep(GRACE_S + MARGIN_S)
        while run_id not in self._here:
            is_left = await self._ask(IS_LEFT, run_id)
            if is_left is not None:
                if is_left:
                    await self._shared.in_thread(_cancel, run_id)
                return
            await asyncio.sleep(GRACE_S)  # without Valkey nobody knows of the others

    async def _join(self, run_id: UUID, names: list[str]) -> None:
        await self._ask(JOIN, run_id, ALIVE_S, *names)

    async def _refresh(self) -> None:
        while self._here:
            await asyncio.sleep(REFRESH_S)
            for run_id, names in list(self._here.items()):
                await self._join(run_id, list(names))

    async def _ask(self, script: str, run_id: UUID, *arguments: Any) -> Any:
        """What a script says; None while Valkey is away."""
        keys = (events.followers_key(events.channel(run_id)), f"era:left:{run_id}")
        try:
            return await self._shared.valkey.eval(script, 2, *keys, *arguments) or 0
        except (redis.RedisError, OSError) as error:
            logger.warning("Followers cannot be counted: %s", error)
            return None


def _cancel(run_id: UUID) -> None:
    left = Run.objects.filter(pk=run_id, streamed=True, detached=False, finished_at=None)
    for owner_id in left.values_list("owner_id", flat=True):
        logger.info("A stream was left by everybody: its run is cancelled.", extra={"run_id": str(run_id)})
        runs.cancel(str(run_id), owner_id=owner_id, wait_s=0)


_followers: weakref.WeakKeyDictionary[Hub, Followers] = weakref.WeakKeyDictionary()


def followers() -> Followers:
    """Those of the running event loop."""
    shared = hub()
    if shared not in _followers:
        _followers[shared] = Followers(shared)
    return _followers[shared]
