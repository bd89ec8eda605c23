"""Who may call from a browser: the Host and Origin headers of a request, judged before anything else looks at it."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from era_project import conf
from era_project.errors import Denied, InvalidInput

Scope = Mapping[str, Any]

EXPOSED = b"X-Request-Id, X-Run-Id, Location, Retry-After, ETag, Content-Range, Accept-Ranges, Allow"
"""Headers of ours that scripts of an allowed origin may read."""

PREFLIGHT_METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
PREFLIGHT_AGE_S = b"600"


class BadHost(InvalidInput):
    """The Host header is no name of this server."""

    code = "BAD_HOST"


class ForeignOrigin(Denied):
    """A page of another origin called."""

    code = "FOREIGN_ORIGIN"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the guard found: the headers that the answer must carry, and whether the request was a preflight."""

    headers: tuple[tuple[bytes, bytes], ...] = ()
    preflight: bool = False


def host_name(authority: str) -> str | None:
    """The name of ``name[:port]`` in lower case, without brackets and final dot; None if it is malformed."""
    name, port = authority, ""
    if authority.startswith("["):
        name, bracket, rest = authority[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            return None
        port = rest[1:]
    elif ":" in authority:
        name, _, port = authority.partition(":")
    if port and not (port.isascii() and port.isdigit()):
        return None
    name = name.lower().removesuffix(".")
    if not name or any(c in name for c in "/@\\?#, \t") or not name.isascii():
        return None
    return name


def is_loopback(name: str) -> bool:
    """Whether ``name`` is one of this machine's loopback names."""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class Guard:
    """The judge of one configuration.

    Args:
        public_url: base of the URLs that we make; its host is a name of ours and its origin is our own.
        allowed_hosts: further names; ``.example.org`` stands for all names below, ``*`` for any.
        cors_origins: origins whose pages may call.
    """

    def __init__(self, *, public_url: str, allowed_hosts: Collection[str], cors_origins: Collection[str]) -> None:
        public = urlsplit(public_url)
        self._own_origin = f"{public.scheme}://{public.netloc}".lower()
        self._names = {name.lower().removesuffix(".") for name in allowed_hosts} | {(public.hostname or "").lower()}
        self._names |= {host_name(name) or name for name in self._names}
        self._suffixes = tuple(name for name in self._names if name.startswith("."))
        self._origins = {origin.lower().rstrip("/") for origin in cors_origins}
        self._good_hosts: set[bytes] = set()

    def judge(self, scope: Scope) -> Verdict:
        """What ``scope``'s Host and Origin allow.

        Raises:
            BadHost: the Host header is missing, double, malformed or not ours.
            ForeignOrigin: the Origin header is neither ours nor allowed.
        """
        hosts: list[bytes] = []
        origins: list[bytes] = []
        for name, value in scope["headers"]:
            if name == b"host":
                hosts.append(value)
            elif name == b"origin":
                origins.append(value)
        self._check_host(hosts, scope.get("http_version", "1.1"))
        return self._check_origin(scope, origins, hosts) if origins else Verdict()

    def _check_host(self, hosts: list[bytes], http_version: str) -> None:
        if len(hosts) == 1 and hosts[0] in self._good_hosts:
            return
        if not hosts and http_version == "1.0":
            return  # no browser speaks it; probes of load balancers do
        name = host_name(hosts[0].decode("latin-1").strip()) if len(hosts) == 1 else None
        if name is None or not self._is_ours(name):
            raise BadHost(
                "The Host header names no address of this server; "
                "set ERA_PUBLIC_URL, or list the name in ERA_ALLOWED_HOSTS.",
                hint="A proxy can also pass the name that its clients use: `proxy_set_header Host $host`.",
            )
        if len(self._good_hosts) < 64:
            self._good_hosts.add(hosts[0])

    def _is_ours(self, name: str) -> bool:
        if name in self._names or "*" in self._names or is_loopback(name):
            return True
        return any(name.endswith(suffix) for suffix in self._suffixes)

    def _check_origin(self, scope: Scope, origins: list[bytes], hosts: list[bytes]) -> Verdict:
        origin = origins[0].decode("latin-1").lower() if len(origins) == 1 else "null"
        if origin in self._origins or ("*" in self._origins and origin != "null"):
            return self._allowed(scope, origins[0])
        authority = hosts[0].decode("latin-1").strip().lower() if hosts else ""
        if origin == self._own_origin or origin in (f"http://{authority}", f"https://{authority}"):
            return Verdict()
        raise ForeignOrigin("Pages of this origin may not call; list it in ERA_CORS_ORIGINS if they should.")

    @staticmethod
    def _allowed(scope: Scope, origin: bytes) -> Verdict:
        common = ((b"access-control-allow-origin", origin), (b"vary", b"Origin"))
        asked = dict(scope["headers"])
        if scope.get("method") != "OPTIONS" or b"access-control-request-method" not in asked:
            return Verdict((*common, (b"access-control-expose-headers", EXPOSED)))
        wanted = asked.get(b"access-control-request-headers", b"")
        return Verdict(
            (
                *common,
                (b"access-control-allow-methods", PREFLIGHT_METHODS),
                (b"access-control-allow-headers", wanted or b"Content-Type"),
                (b"access-control-max-age", PREFLIGHT_AGE_S),
            ),
            preflight=True,
        )


@functools.cache
def configured() -> Guard:
    """The guard of this process's settings."""
    settings = conf.get()
    return Guard(public_url=settings.base_url, allowed_hosts=settings.allowed_hosts, cors_origins=settings.cors_origins)
