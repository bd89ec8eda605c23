"""The doors of runs as objects: list, get, cancel."""

from __future__ import annotations

import msgspec
from django.http import HttpResponse
from rest_framework.request import Request

from sessions_app import run_object
from sessions_app.api import answers, bodies
from sessions_app.api.doors import Door, body_of, query_of, whole_number
from sessions_app.services import owners, runs

PAGE = 100
MAX_PAGE = 1000


class Runs(Door):
    """``/api/runs``."""

    def get(self, request: Request) -> HttpResponse:
        """List, newest first, without output."""
        query = query_of(request, "session_id", "status", "limit", "cursor")
        found, count, cursor = runs.list_(
            owners.default_id(),
            session=query.get("session_id"),
            status=query.get("status"),
            limit=whole_number(query, "limit", least=1, most=MAX_PAGE) or PAGE,
            cursor=query.get("cursor", ""),
        )
        return answers.raw(msgspec.json.encode({"runs": found, "count": count, "cursor": cursor}))


class RunDoor(Door):
    """``/api/runs/{id}``."""

    patient = True

    def get(self, request: Request, run_id: str) -> HttpResponse:
        """The run as it stands, always 200."""
        found = runs.get(run_id, owner_id=owners.default_id())
        return answers.raw(run_object.encode(found))

    def delete(self, request: Request, run_id: str) -> HttpResponse:
        """Cancel; the run as it is then."""
        bodies.Nothing.of(body_of(request))
        runs.cancel(run_id, owner_id=owners.default_id())
        return answers.raw(run_object.encode(runs.get(run_id, owner_id=owners.default_id())))
