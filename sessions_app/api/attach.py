"""``WS /api/runs/{id}/attach``: the terminal of a run."""

from __future__ import annotations

from era_project.errors import NotAvailable
from sessions_app.api.body_bytes import Receive, Scope, Send


async def attach(scope: Scope, receive: Receive, send: Send, *, run_id: str) -> None:
    """Refuse: interactive runs are not available in this version.

    Raises:
        NotAvailable: always.
    """
    raise NotAvailable("Attaching to a run is not available in this version; follow its events instead.")
