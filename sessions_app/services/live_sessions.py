"""Words to the node that keeps a session live: store it, end it, interrupt it."""

from __future__ import annotations

import secrets

import redis
from django.conf import settings

from era_project import full_disk
from sessions_app import connections
from sessions_app.models import Session
from sessions_app.services import nodes
from sessions_app.states import LIVE_STATES

SAVE_S = 20.0
"""How long a node may take to store a session's variables, a run that goes on included."""


def save(session: Session, *, wait_s: float = SAVE_S) -> bool:
    """Have the variables of a live session stored now; True if they are current, or none are live.

    Raises:
        Unavailable: Valkey cannot be reached.
    """
    if session.state not in LIVE_STATES or session.node is None:
        return True
    reply_to = f"era:saved:{secrets.token_hex(8)}"
    nodes.send(session.node, {"op": "save", "session_id": session.id, "reply_to": reply_to})
    try:
        answer = _client(wait_s).blpop([reply_to], timeout=wait_s)
    except (redis.RedisError, OSError) as error:
        raise full_disk.unavailable("broker", error) from error
    return answer is not None and answer[1] == b"1"


def drop(session: Session) -> None:
    """End the session's live sandbox, if it has one, in mid-run too."""
    if session.node is not None:
        nodes.send(session.node, {"op": "drop", "session_id": session.id})


def interrupt(session: Session) -> None:
    """SIGINT to what runs in the session's live sandbox."""
    if session.node is not None:
        nodes.send(session.node, {"op": "interrupt", "session_id": session.id})


def _client(wait_s: float) -> redis.Redis:
    return redis.Redis(**settings.REDIS_CONNECTION, socket_timeout=wait_s + connections.CONNECT_TIMEOUT_S)
