"""The doors of sessions: create, list, get, change, delete, copy, restart, interrupt, stored code."""

from __future__ import annotations

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from era_project import conf
from era_project.errors import InvalidInput
from runners import languages
from sessions_app import session_object
from sessions_app.api import bodies
from sessions_app.api.doors import Door, body_of, query_of, whole_number
from sessions_app.models import Session
from sessions_app.run_object import moment
from sessions_app.services import control, endings, files, owners, sessions, stored_code
from sessions_app.services.sessions import NewSession, Search

MAX_OFFSET = 10**9

COLUMNS = {
    "default_timeout": "default_timeout_s",
    "allowInternetAccess": "allow_internet",
    "allowPublicAccess": "allow_public",
    "cpu_count": "cpu_count",
    "memory_mib": "memory_mib",
    "metadata": "metadata",
    "data": "data",
}
"""The wire's names of what PATCH sets, and the row's."""


class Sessions(Door):
    """``/api/sessions``."""

    patient = True

    def get(self, request: Request) -> Response:
        """List, newest first."""
        query = query_of(request, "limit", "offset", "language", "q", prefix="metadata.")
        found, count = sessions.list_(
            _search(query),
            owner_id=owners.default_id(),
            limit=whole_number(query, "limit", least=1, most=MAX_OFFSET),
            offset=whole_number(query, "offset", least=0, most=MAX_OFFSET) or 0,
        )
        return Response({"sessions": [session_object.listed(session) for session in found], "count": count})

    def post(self, request: Request) -> Response:
        """Create."""
        fields = bodies.NewSession.of(body_of(request))
        return Response(session_object.whole(sessions.create(_new_session(fields))), status=201)

    def delete(self, request: Request) -> Response:
        """Delete all."""
        names, at = endings.delete_all(owner_id=owners.default_id())
        answer = {"success": True, "deleted_count": len(names), "deleted_sessions": names, "deleted_at": moment(at)}
        return Response(answer)


def _search(query: dict[str, str]) -> Search:
    language = query.get("language")
    if language is not None:
        known = languages.canonical(language)
        if known is None:
            names = ", ".join(languages.LANGUAGES)
            raise InvalidInput(f"`language` must be one of {names}.", field="language")
        language = known
    wanted = tuple(
        (name.removeprefix("metadata."), value) for name, value in query.items() if name.startswith("metadata.")
    )
    return Search(language=language, text=query.get("q"), metadata=wanted)


def _new_session(fields: dict[str, Any]) -> NewSession:
    settings = conf.get()
    return NewSession(
        owner_id=owners.default_id(),
        language=fields["language"],
        name=fields.get("session_id"),
        persistent=fields.get("persistent", True),
        data=fields.get("data", "{}"),
        metadata=fields.get("metadata", {}),
        default_timeout_s=fields.get("default_timeout"),
        cpu_count=fields.get("cpu_count", settings.default_cpu),
        memory_mib=fields.get("memory_mib", settings.default_memory_mib),
        sandbox=fields.get("sandbox", "standard"),
    )


class SessionDoor(Door):
    """``/api/sessions/{id}``."""

    patient = True

    def get(self, request: Request, session: str) -> Response:
        """The session and its files."""
        found = sessions.get(session, owner_id=owners.default_id())
        return Response({**session_object.whole(found), "files": files.of_session(found)})

    def patch(self, request: Request, session: str) -> Response:
        """Change settings, metadata, data."""
        fields = bodies.SessionPatch.of(body_of(request))
        changes = {COLUMNS[name]: value for name, value in fields.items()}
        changed = sessions.patch(session, owner_id=owners.default_id(), changes=changes)
        answer = {
            "success": True,
            "id": changed.name,
            "metadata": session_object.exact({**changed.metadata, **session_object.settings(changed)}),
            "updated_at": moment(changed.updated_at),
        }
        return Response(answer)

    def delete(self, request: Request, session: str) -> Response:
        """Delete, also in mid-run."""
        at = endings.delete(session, owner_id=owners.default_id())
        return Response({"success": True, "id": session, "deleted_at": moment(at)})


class Duplicate(Door):
    """``/api/sessions/{id}/duplicate``."""

    patient = True

    def post(self, request: Request, session: str) -> Response:
        """Copy files, packages, variables and data."""
        fields = bodies.Duplicate.of(body_of(request))
        copy = sessions.duplicate(
            session, owner_id=owners.default_id(), new=fields.get("new_id"), data=fields.get("data")
        )
        return Response({**session_object.whole(copy), "source_session_id": session}, status=201)


class Restart(Door):
    """``/api/sessions/{id}/restart``."""

    patient = True

    def post(self, request: Request, session: str) -> Response:
        """A fresh interpreter; files and data stay."""
        bodies.Nothing.of(body_of(request))
        restarted = control.restart(session, owner_id=owners.default_id())
        return Response({"success": True, "id": restarted.name, "state": restarted.state})


class Interrupt(Door):
    """``/api/sessions/{id}/interrupt``."""

    def post(self, request: Request, session: str) -> Response:
        """SIGINT to the current run."""
        bodies.Nothing.of(body_of(request))
        interrupted = control.interrupt(session, owner_id=owners.default_id())
        return Response({"success": True, "id": session, "run_id": str(interrupted.pk)})


class Code(Door):
    """``/api/sessions/{id}/code``."""

    def get(self, request: Request, session: str) -> Response:
        """The stored code."""
        found = stored_code.get(session, owner_id=owners.default_id())
        return Response({"code": found.code, "description": found.code_description, **_about(found)})

    def put(self, request: Request, session: str) -> Response:
        """Store code."""
        fields = bodies.StoredCode.of(body_of(request))
        kept = stored_code.put(
            session, owner_id=owners.default_id(), code=fields["code"], description=fields.get("description")
        )
        return Response({"success": True, **_about(kept)})


def _about(session: Session) -> dict[str, Any]:
    return {"code_length": len(session.code or ""), "updated_at": moment(session.code_updated_at)}
