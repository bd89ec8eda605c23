"""Reaching into a session's sandbox from outside: a fresh interpreter, or SIGINT to what runs."""

from __future__ import annotations

from django.db import transaction

from era_project.errors import Conflict
from sessions_app.models import OPEN, Run, RunStatus, Session
from sessions_app.services import live_sessions, nodes, runs, sessions


def restart(name: str, *, owner_id: int) -> Session:
    """The session with a fresh interpreter at its next run; what runs is cancelled, files and data stay.

    Raises:
        NotFound: there is no such session.
    """
    with transaction.atomic():
        session = sessions.locked(name, owner_id=owner_id)
        running = _running(session)
        live_sessions.drop(session)
        session.state, session.node, session.snapshot = "none", None, None
        session.snapshot_lost, session.lost_reason = [], None
        session.save(update_fields=["state", "node", "snapshot", "snapshot_lost", "lost_reason"])
    if running is not None:
        runs.cancel(str(running.pk), owner_id=owner_id)
    return session


def interrupt(name: str, *, owner_id: int) -> Run:
    """The run that got SIGINT.

    Raises:
        NotFound: there is no such session.
        Conflict: nothing runs in it.
    """
    session = sessions.get(name, owner_id=owner_id)
    running = _running(session)
    if running is None or running.node is None:
        raise Conflict("Nothing runs in this session, so there is nothing to interrupt.", code="NOTHING_RUNS")
    nodes.send(running.node, {"op": "interrupt", "session_id": session.pk})
    return running


def _running(session: Session) -> Run | None:
    return Run.objects.filter(OPEN, session=session, status=RunStatus.RUNNING).only("id", "node").first()
