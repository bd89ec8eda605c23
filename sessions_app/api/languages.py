"""``GET /api/languages``: what can be run, with which limits, and how each node holds them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from era_project import conf
from runners.languages import LANGUAGES
from sessions_app.api.bodies import LEAST_MEMORY_MIB
from sessions_app.api.doors import Door
from sessions_app.models import Node
from sessions_app.services import nodes

COMPILE_TIME_S = 30
"""Source: the contract, General."""


class Languages(Door):
    """``/api/languages``."""

    def get(self, request: Request) -> Response:
        """The table."""
        return Response(_table())


def _table() -> dict[str, Any]:
    living = nodes.alive()
    return {
        "languages": [_language(name, living) for name in LANGUAGES],
        "defaults": _defaults(),
        "maxima": _maxima(),
        "nodes": [
            {"name": node.name, "languages": node.languages, "slots": node.slots, "sandbox": node.enforced}
            for node in living
        ],
    }


def _language(name: str, living: Sequence[Node]) -> dict[str, Any]:
    language = LANGUAGES[name]
    versions = sorted({str(node.languages[name]) for node in living if name in node.languages})
    return {
        "name": name,
        "aliases": list(language.aliases),
        "version": versions[-1] if versions else None,
        "available": bool(versions),
        "keeps_state": language.keeps_state,
    }


def _defaults() -> dict[str, Any]:
    settings = conf.get()
    return {
        "timeout": settings.default_timeout_s,
        "queue_timeout": settings.queue_timeout_s,
        "cpu_count": settings.default_cpu,
        "memory_mib": settings.default_memory_mib,
        "sandbox": "standard",
    }


def _maxima() -> dict[str, Any]:
    settings = conf.get()
    return {
        "timeout": settings.max_timeout_s,
        "compile_time": COMPILE_TIME_S,
        "cpu_count": settings.max_cpu,
        "memory_mib": settings.max_memory_mib,
        "least_memory_mib": LEAST_MEMORY_MIB,
        "body_bytes": settings.max_body_bytes,
        "code_bytes": settings.max_code_bytes,
        "env_bytes": settings.max_env_bytes,
        "data_bytes": settings.max_data_bytes,
        "metadata_bytes": settings.max_data_bytes,
        "workspace_bytes": settings.workspace_bytes,
        "workspace_files": settings.workspace_files,
        "queued_runs": settings.max_queued_runs,
    }
