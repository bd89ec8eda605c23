"""Asks the started server how it is."""

from __future__ import annotations

import contextlib
import http.client
import json
from typing import Any

WITHIN_S = 2.0


class Probe:
    """Asks one address; ``answer`` is the last answer of ``/health``."""

    def __init__(self, address: tuple[Any, ...]) -> None:
        self._host, self._port = str(address[0]), int(address[1])
        self.is_alive = False
        self.answer: dict[str, Any] = {}

    def is_healthy(self) -> bool:
        """Whether ``/health`` answers 200 and knows a worker's sandbox; ``is_alive``: whether it answered at all."""
        connection = http.client.HTTPConnection(self._host, self._port, timeout=WITHIN_S)
        with contextlib.closing(connection), contextlib.suppress(OSError, ValueError, http.client.HTTPException):
            connection.request("GET", "/health")
            response = connection.getresponse()
            self.answer = json.loads(response.read())
            self.is_alive = True
            return response.status == 200 and bool(self.answer.get("sandbox"))
        return False
