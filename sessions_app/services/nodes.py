"""Worker nodes: which there are, what they serve, and words to one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import redis
from django.db.models.functions import Now

from era_project import full_disk
from sessions_app import control
from sessions_app.models import Node


def alive() -> Sequence[Node]:
    """Nodes whose lease holds by the database's clock, by name."""
    return list(Node.objects.filter(lease_until__gt=Now()).order_by("name"))


def serving(language: str) -> Sequence[Node]:
    """Nodes that take runs of ``language`` now."""
    return [node for node in alive() if language in node.languages and not node.draining]


def send(node: str, command: Mapping[str, Any]) -> None:
    """Tell ``node`` to do something; ``command["op"]`` names it.

    Raises:
        Unavailable: Valkey cannot be reached.
    """
    try:
        control.send(node, command)
    except (redis.RedisError, OSError) as error:
        raise full_disk.unavailable("broker", error) from error
