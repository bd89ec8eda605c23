"""The id of the request that is being answered: in every answer's ``X-Request-Id`` and in every log line of it."""

from __future__ import annotations

import itertools
import re
import secrets
from contextvars import ContextVar

current: ContextVar[str] = ContextVar("era_request_id", default="")

_USABLE = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_PREFIX = secrets.token_hex(6)
_COUNT = itertools.count(1)


def choose(given: bytes | None) -> str:
    """The caller's own id where it is short and plain, else a new one (this process's prefix and a number)."""
    if given is not None and _USABLE.fullmatch(given):
        return given.decode("ascii")
    return f"{_PREFIX}-{next(_COUNT):x}"
