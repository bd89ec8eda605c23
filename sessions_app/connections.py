"""Connections of our own threads to Postgres and Valkey, outside Django's per-request rules."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import psycopg
import redis
from django.conf import settings
from django.db import connection as django_connection
from redis.backoff import NoBackoff
from redis.retry import Retry

from era_project import addresses

Connection = psycopg.Connection[tuple[Any, ...]]

CONNECT_TIMEOUT_S = 5
BLOCK_S = 1
"""How long a blocking read of a list waits before its thread looks up."""


KEPT_PLANS = " -c plan_cache_mode=force_generic_plan -c enable_seqscan=off"
"""Each statement is planned once, for its index: else Postgres plans those with arrays anew at each call.

Source: measured, a claim and a final row together take .6 ms of its CPU time instead of 1.25.
"""


def postgres(*, keeps_plans: bool = False) -> Connection:
    """A new connection: autocommit, UTC, each statement prepared at its first use.

    Args:
        keeps_plans: for a few statements that find their rows by an index, again and again.

    Raises:
        psycopg.OperationalError: Postgres cannot be reached.
    """
    given = dict(django_connection.get_connection_params())
    for name in ("cursor_factory", "context", "prepare_threshold", "autocommit"):
        given.pop(name, None)
    given.setdefault("connect_timeout", CONNECT_TIMEOUT_S)
    more = KEPT_PLANS if keeps_plans else ""
    given["options"] = f"{given.get('options', '')} -c timezone=UTC{more}".strip()
    return psycopg.connect(**given, autocommit=True, prepare_threshold=0)


PIPELINED_BYTES = 4 << 10
"""What is longer the driver sends in parts: whoever is stopped between two of them would keep its locks for ever."""


def together(connection: Connection, *, size: int, is_read: bool = False) -> AbstractContextManager[object]:
    """A transaction around a few statements: in one round trip if that can be, without BEGIN and COMMIT.

    Nothing but statements may stand in it: what they gave is to be fetched afterwards, unless ``is_read``.

    Source: measured, three short statements take .7 ms in a pipeline, 1.05 in one with BEGIN and COMMIT, 1.3 one by one.

    Args:
        connection: in autocommit.
        size: about how many bytes they send.
        is_read: whether what they give is looked at within. Postgres ends a transaction that stands still, no pipeline.
    """
    return connection.transaction() if is_read or size > PIPELINED_BYTES else connection.pipeline()


@functools.cache
def valkey() -> redis.Redis:
    """The process's pool of connections for live events and replies, for short commands (thread-safe)."""
    return _client(settings.REDIS_CONNECTION)


@functools.cache
def broker() -> redis.Redis:
    """The broker as a Redis client; only where :func:`broker_is_redis`."""
    return _client(addresses.redis_arguments(settings.CELERY_BROKER_URL))


def broker_is_redis() -> bool:
    """Whether messages go through Valkey or Redis, not RabbitMQ."""
    return addresses.is_redis(settings.CELERY_BROKER_URL)


def blocking_valkey() -> redis.Redis:
    """A client for one thread that blocks on a list for up to :data:`BLOCK_S`."""
    return _client(settings.REDIS_CONNECTION, patience_s=BLOCK_S + CONNECT_TIMEOUT_S)


def _client(arguments: Mapping[str, Any], *, patience_s: float = CONNECT_TIMEOUT_S) -> redis.Redis:
    """A client that tries a second time at once, for a connection that the server has closed, and then gives up.

    The library's own patience (three tries with pauses of seconds) would hold up everything that waits behind.
    """
    given = {**arguments, "socket_timeout": patience_s, "socket_connect_timeout": CONNECT_TIMEOUT_S}
    return redis.Redis(**given, retry=Retry(NoBackoff(), 1))
