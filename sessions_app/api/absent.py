"""The routes of the contract that this version does not have: they say so."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse

from era_project.errors import NotAvailable
from sessions_app.api.doors import takes


@takes("GET", "POST", "PUT", "PATCH", "DELETE")
async def absent(request: HttpRequest, **parts: str) -> HttpResponse:
    """Never answers.

    Raises:
        NotAvailable: always.
    """
    raise NotAvailable("This route is not available in this version.")
