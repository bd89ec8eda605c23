"""One signed POST to an address that a stranger gave: where it may lead, how long it may take."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from era_project import conf, secrets

ATTEMPT_S = 15.0
"""One attempt in all: name, connection, answer."""
ANSWER_BYTES = 64 * 1024
"""Read of the answer's body at most; it is thrown away."""

V4_INSIDE_V6 = (
    (ipaddress.ip_network("64:ff9b::/96"), 0),
    (ipaddress.ip_network("::ffff:0:0/96"), 0),
    (ipaddress.ip_network("::/96"), 0),
    (ipaddress.ip_network("2002::/16"), 80),
)
"""IPv6 networks that lead to an IPv4 address, and how many bits from the right it stands. Source: RFC 6052, 3056."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class RefusedError(Exception):
    """The URL leads where webhooks may not go, or nowhere; the text says why."""


@dataclass(frozen=True, slots=True)
class Answered:
    """How one attempt ended: the HTTP status, or why there is none."""

    status: int | None = None
    error: str | None = None

    @property
    def is_delivered(self) -> bool:
        """Whether the receiver took it: any 2xx."""
        return self.status is not None and 200 <= self.status < 300


def post(url: str, body: bytes, *, delivery: str) -> Answered:
    """POST ``body`` once; redirects are not followed."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        address = resolve(parts.hostname or "", port)
        return Answered(_post(parts, port, address, _headers(body, delivery)))
    except (RefusedError, OSError, http.client.HTTPException, ValueError) as error:
        return Answered(error=f"{type(error).__name__}: {error}"[:500])


def resolve(host: str, port: int) -> str:
    """The address to connect to: checked, and every other one of the same name too.

    Raises:
        RefusedError: one of them is no public address and private ones are not allowed, or there is none.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise RefusedError(f"the name {host!r} cannot be resolved: {error}") from None
    addresses = [str(entry[4][0]) for entry in found]
    for address in addresses:
        if not (conf.get().webhook_allow_private or is_public(address)):
            raise RefusedError(f"{host!r} leads to {address}, which is no public address")
    return addresses[0]


def is_public(text: str) -> bool:
    """Whether an address is one of the public internet, also where IPv6 only wraps an IPv4 one."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:  # with a zone: link-local
        return False
    wrapped: list[Address] = [_inside(address, shift) for network, shift in V4_INSIDE_V6 if address in network]
    return all(one.is_global and not one.is_multicast for one in wrapped or [address])


def _inside(address: Address, shift: int) -> ipaddress.IPv4Address:
    return ipaddress.IPv4Address(int(address) >> shift & 0xFFFFFFFF)


def signature(body: bytes, *, at: int) -> str:
    """The value of ``X-ERA-Signature``. Its key is the text of ``webhook`` in the server's file of secrets."""
    key = base64.b64encode(secrets.get().webhook)
    return f"t={at},v1={hmac.new(key, b'%d.' % at + body, hashlib.sha256).hexdigest()}"


@dataclass(frozen=True, slots=True)
class _Sent:
    body: bytes
    headers: dict[str, str]


def _headers(body: bytes, delivery: str) -> _Sent:
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "era-webhook",
        "X-ERA-Delivery": delivery,
        "X-ERA-Signature": signature(body, at=int(time.time())),
    }
    return _Sent(body, headers)


def _post(parts: SplitResult, port: int, address: str, sent: _Sent) -> int:
    connection = http.client.HTTPConnection(parts.hostname or "", port, timeout=ATTEMPT_S)
    with _connected(parts, port, address) as sock:
        connection.sock = sock
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        host = parts.netloc.rpartition("@")[2]
        connection.request("POST", path, body=sent.body, headers={"Host": host, **sent.headers})
        response = connection.getresponse()
        response.read(ANSWER_BYTES)
        return response.status


@contextlib.contextmanager
def _connected(parts: SplitResult, port: int, address: str) -> Iterator[socket.socket]:
    """A connection to the very address that was checked; broken off when the attempt's time is over."""
    with socket.create_connection((address, port), timeout=ATTEMPT_S) as plain, plain.dup() as same:
        clock = threading.Timer(ATTEMPT_S, _break_off, (same,))  # TLS takes the descriptor away from ``plain``
        clock.daemon = True
        clock.start()
        try:
            if parts.scheme == "https":
                with ssl.create_default_context().wrap_socket(plain, server_hostname=parts.hostname) as secure:
                    yield secure
            else:
                yield plain
        finally:
            clock.cancel()
            clock.join()


def _break_off(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
