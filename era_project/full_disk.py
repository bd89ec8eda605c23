"""A full disk: how it is recognised behind what failed of it, and what the caller is told."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import Any

from era_project import addresses
from era_project.conf import Conf
from era_project.conf import get as conf
from era_project.errors import Unavailable

FULL = "The server's storage is full; nothing was changed. Free some space on it and try again."
ERRNOS = (errno.ENOSPC, errno.EDQUOT)
NEEDED_BYTES = 16 << 20
"""With less room the embedded Postgres stops. Source: it makes the segments of its log whole, each of this size."""
NOT_WRITTEN = "MISCONF"
"""How Valkey's answer to any writing command begins once its own log cannot be written."""
FOLDERS = {"database": "postgres", "broker": "valkey"}
"""Where in the state folder an embedded part keeps what it has."""


def disk_full(**extra: Any) -> Unavailable:
    """The error of a server without room."""
    return Unavailable(FULL, code="DISK_FULL", **extra)


def unavailable(part: str, cause: BaseException, **extra: Any) -> Unavailable:
    """The error of a failed part, ``database`` or ``broker``: ``DISK_FULL`` where it failed for want of room."""
    if is_behind(part, cause):
        return disk_full(**extra)
    return Unavailable(f"The {part} cannot be reached; try again, and look at /health.", **extra)


def is_behind(part: str, cause: BaseException) -> bool:
    """Whether ``part`` failed for want of room: the error says so, or it is embedded and has none."""
    return is_told_by(cause) or not _has_room(part)


def is_told_by(error: BaseException) -> bool:
    """Whether ``error``, or what caused it, says that a disk is full."""
    return any(_is_told_by(one) for one in _with_causes(error))


def _with_causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _is_told_by(error: BaseException) -> bool:
    if isinstance(error, Unavailable):
        return error.code == "DISK_FULL"
    if isinstance(error, OSError):
        return error.errno in ERRNOS
    # Not at the top: the supervisor, which needs the numbers alone, would hold 13 MB more.
    import psycopg
    import redis

    if isinstance(error, redis.ResponseError):
        return str(error).startswith(NOT_WRITTEN)
    return isinstance(error, psycopg.errors.DiskFull)


def _has_room(part: str) -> bool:
    """Whether the embedded ``part`` could go on; True of a part that somebody else runs."""
    settings, folder = conf(), FOLDERS[part]
    if f"{settings.state_dir}/sockets/{folder}" not in _url(part, settings):
        return True
    try:
        figures = os.statvfs(settings.state_dir / folder)
    except OSError:
        return True
    has_inodes = figures.f_favail > 0 or figures.f_files == 0
    return has_inodes and figures.f_bavail * figures.f_frsize >= NEEDED_BYTES


def _url(part: str, settings: Conf) -> str:
    if part == "broker":
        return addresses.broker_url(settings)
    return settings.database_url or addresses.embedded_database_url(settings)
