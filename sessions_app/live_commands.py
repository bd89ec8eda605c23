"""What a node is told about its live sessions, and the answers that it gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import db

from sessions_app import connections
from sessions_app.control import Handler
from sessions_app.lives import Lives

REPLY_TTL_S = 60


def handlers(lives: Lives) -> dict[str, Handler]:
    """Handlers by operation: drop, evict, interrupt, save."""
    return {
        "drop": lambda command: lives.drop(command["session_id"]),
        "evict": lambda command: _closing(lives.evict, command["session_id"]),
        "interrupt": lambda command: lives.interrupt(command["session_id"]),
        "save": lambda command: _save(lives, command),
    }


def _save(lives: Lives, command: Mapping[str, Any]) -> None:
    try:
        is_saved = lives.save(command["session_id"])
    finally:
        db.connections.close_all()
    pipeline = connections.valkey().pipeline(transaction=False)
    pipeline.rpush(command["reply_to"], b"1" if is_saved else b"0")
    pipeline.expire(command["reply_to"], REPLY_TTL_S)
    pipeline.execute()


def _closing(work: Any, session_id: int) -> None:
    try:
        work(session_id)
    finally:
        db.connections.close_all()
