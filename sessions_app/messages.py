"""Celery messages that say "execute this run": made from one template of Celery's own, sent many at once."""

from __future__ import annotations

import base64
import functools
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec
from amqp.exceptions import AMQPError
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from era_project.celery import app, language_queue, node_queue
from sessions_app import connections

TASK = "sessions_app.execute_run"

PUBLISH_ERRORS = (OperationalError, AMQPError, RedisError, OSError)
"""What a broker that is away raises."""

ONCE_MORE = {"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0}


class Message(NamedTuple):
    """The word that a run waits: ``run_id`` as text, and where a worker will look for it."""

    run_id: str
    queue: str


def queue_of(language: str, node: str | None) -> str:
    """Where runs of ``language`` go; ``node``: where the session's sandbox lives, if it does."""
    return node_queue(node) if node else language_queue(language)


def publish(messages: Iterable[Message]) -> None:
    """Send ``messages``.

    Raises:
        PUBLISH_ERRORS: the broker is away; some of the messages may have been sent.
    """
    if connections.broker_is_redis():
        _push(messages)
    else:
        _send(messages)


def waiting(queue: str, *, at_most: int) -> set[str] | None:
    """Ids of the runs that have a message in ``queue``; None where that cannot be told (too many, no list)."""
    if not connections.broker_is_redis():
        return set() if _depth(queue) == 0 else None
    pushed = connections.broker().lrange(queue, 0, at_most)
    if len(pushed) > at_most:
        return None
    return {msgspec.json.decode(message)["headers"]["id"] for message in pushed}


def _push(messages: Iterable[Message]) -> None:
    """One pipeline of LPUSHes: what Celery's own Redis transport does for each message."""
    by_queue: dict[str, list[bytes]] = {}
    for message in messages:
        by_queue.setdefault(message.queue, []).append(_encode(message))
    if len(by_queue) == 1:
        ((queue, encoded),) = by_queue.items()
        connections.broker().lpush(queue, *encoded)
        return
    pipeline = connections.broker().pipeline(transaction=False)
    for queue, encoded in by_queue.items():
        pipeline.lpush(queue, *encoded)
    pipeline.execute()


def _send(messages: Iterable[Message]) -> None:
    """Sends each, a second time where the connection had died since its last use: a run that is told twice runs once."""
    with app.producer_or_acquire() as producer:
        for message in messages:
            app.send_task(
                TASK,
                (message.run_id,),
                task_id=message.run_id,
                queue=message.queue,
                producer=producer,
                retry=True,
                retry_policy=ONCE_MORE,
            )


def _depth(queue: str) -> int:
    """How many messages wait; none where there is no such queue yet. One of the pool's connections may have died."""
    with app.connection_for_write() as connection:
        channel: Any = connection.channel()
        try:
            declared = channel.queue_declare(queue=queue, passive=True)
        except connection.channel_errors:
            return 0
        else:
            return int(declared.message_count)
        finally:
            channel.close()


@functools.cache
def _template() -> tuple[dict[str, Any], Any]:
    """Headers and the last part of the body, as Celery makes them for a task without result."""
    made = app.amqp.as_task_v2("0", TASK, args=(), kwargs={}, ignore_result=True, argsrepr="", kwargsrepr="")
    return dict(made.headers), made.body[2]


def _encode(message: Message) -> bytes:
    headers, embedded = _template()
    run_id, queue = message
    body = base64.b64encode(msgspec.json.encode([[run_id], {}, embedded])).decode()
    return msgspec.json.encode(
        {
            "body": body,
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {**headers, "id": run_id, "root_id": run_id},
            "properties": {
                "correlation_id": run_id,
                "reply_to": "",
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": queue},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": run_id,
            },
        }
    )
