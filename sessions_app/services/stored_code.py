"""The code that a session keeps, which runs when a run brings none."""

from __future__ import annotations

from django.db.models.functions import Now

from era_project.errors import NotFound
from sessions_app.models import Session
from sessions_app.services import sessions


def put(name: str, *, owner_id: int, code: str, description: str | None) -> Session:
    """Keep ``code``; the session afterwards.

    Raises:
        NotFound: there is no such session.
    """
    kept = Session.objects.filter(name=name, owner_id=owner_id).update(
        code=code, code_description=description, code_updated_at=Now()
    )
    if not kept:
        raise sessions.unknown(name)
    return sessions.get(name, owner_id=owner_id)


def get(name: str, *, owner_id: int) -> Session:
    """The session, which has code.

    Raises:
        NotFound: there is no such session, or it has none.
    """
    session = sessions.get(name, owner_id=owner_id)
    if session.code is None:
        raise NotFound("The session has no stored code; PUT some first.")
    return session
