"""What a session's row says of its variables: live on a node, frozen there, stored as a snapshot, or gone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet
from django.db.models.functions import Now

from sessions_app.models import Node, Session
from storage_app import blobs

LIVE_STATES = ("live", "frozen")


@dataclass(frozen=True, slots=True)
class State:
    """The columns of a session that tell where its variables are.

    Attributes:
        state: none, live, frozen or stored.
        node: where its live sandbox is; None: nowhere.
        snapshot: sha-256 of the variables as they were last stored.
        snapshot_lost: names that could not be stored then.
        lost_reason: why the variables are gone, or older than they were, told to the next run.
    """

    state: str
    node: str | None
    snapshot: str | None
    snapshot_lost: list[str]
    lost_reason: str | None


def read(session_id: int) -> State | None:
    """The session's state now; None: the session is gone."""
    row = (
        Session.objects.filter(id=session_id)
        .values_list("state", "node", "snapshot", "snapshot_lost", "lost_reason")
        .first()
    )
    return State(*row) if row else None


def node_is_alive(name: str) -> bool:
    """Whether the lease of ``name`` holds by the database's clock."""
    return Node.objects.filter(name=name, lease_until__gt=Now()).exists()


def opened(session_id: int, node: str) -> bool:
    """Writes that ``node`` has the session's sandbox now; False: the session is gone."""
    changed = Session.objects.filter(id=session_id).update(state="live", node=node, lost_reason=None)
    return changed == 1


def froze(session_ids: Sequence[int], node: str) -> None:
    """Writes that sandboxes of ``node`` are frozen."""
    Session.objects.filter(id__in=session_ids, node=node, state="live").update(state="frozen")


def saved(session_id: int, node: str, content: bytes, lost: Sequence[str], *, goes: bool) -> bool:
    """Stores a snapshot of the variables.

    Args:
        session_id: whose.
        node: the node that has the sandbox; nothing is written if that is another one by now.
        content: what the interpreter gave; never looked into outside a sandbox.
        lost: names that it could not save.
        goes: whether the sandbox ends with it.

    Raises:
        EraError, OSError, django.db.Error: it could not be stored.
    """
    stored = blobs.put_bytes(content)
    columns: dict[str, Any] = {"snapshot": stored.sha256, "snapshot_lost": list(lost)}
    if goes:
        columns |= {"state": "stored", "node": None, "lost_reason": None}
    return Session.objects.filter(id=session_id, node=node).update(**columns) == 1


def parted(session_id: int, node: str) -> None:
    """Writes that the sandbox ended with its variables stored, if it had any."""
    mine = Session.objects.filter(id=session_id, node=node)
    mine.filter(snapshot__isnull=False).update(state="stored", node=None)
    mine.filter(snapshot__isnull=True).update(state="none", node=None)


def lost(session_id: int, node: str, reason: str) -> None:
    """Writes that the variables are gone, for the next run to tell."""
    Session.objects.filter(id=session_id, node=node).update(
        state="none", node=None, snapshot=None, snapshot_lost=[], lost_reason=reason
    )


def forfeited(session_id: int, node: str, reason: str) -> None:
    """Writes that the sandbox is gone with what its variables had become since they were last stored."""
    _gone(Session.objects.filter(id=session_id, node=node), reason)


def left_by(node: str) -> None:
    """Writes, at the start of ``node``'s worker, that what an earlier one had kept live is gone with it."""
    _gone(Session.objects.filter(node=node, state__in=LIVE_STATES), ENDED.format(node=node))


def _gone(sessions: QuerySet[Session], reason: str) -> None:
    sessions.filter(snapshot__isnull=False).update(state="stored", node=None, lost_reason=reason)
    sessions.filter(snapshot__isnull=True).update(state="none", node=None, lost_reason=reason)


ENDED = "The node {node} that kept the variables has ended."
