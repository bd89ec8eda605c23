"""The session object of the contract, made from a session's row."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import orjson

from sessions_app.models import Session
from sessions_app.run_object import moment


def settings(session: Session) -> dict[str, Any]:
    """What PATCH can set, beside data and the user's metadata."""
    return {
        "default_timeout": _plain(session.default_timeout_s),
        "allowInternetAccess": session.allow_internet,
        "allowPublicAccess": session.allow_public,
        "cpu_count": _plain(session.cpu_count),
        "memory_mib": session.memory_mib,
    }


def _plain(number: float | None) -> float | None:
    """Whole numbers without a point, as callers write them."""
    return int(number) if number is not None and number.is_integer() else number


def exact(metadata: Mapping[str, Any]) -> orjson.Fragment:
    """``metadata`` as JSON; ``orjson`` itself writes no whole number of more than 64 bits."""
    try:
        return orjson.Fragment(orjson.dumps(metadata))
    except orjson.JSONEncodeError:
        return orjson.Fragment(json.dumps(metadata, ensure_ascii=False))


def listed(session: Session) -> dict[str, Any]:
    """The session without its data, as lists show it."""
    return {
        "id": session.name,
        "created_at": moment(session.created_at),
        "last_run_at": moment(session.last_run_at),
        "language": session.language,
        "persistent": session.persistent,
        "file_count": session.file_count,
        "total_size_bytes": session.total_bytes,
        "metadata": exact(session.metadata),
        **settings(session),
        "sandbox": session.sandbox,
        "state": session.state,
    }


def whole(session: Session) -> dict[str, Any]:
    """The session with its data, whose order and digits stay; ``orjson`` writes it."""
    return {**listed(session), "data": orjson.Fragment(session.data)}
