"""The port: taken before anything is set up, on IPv4 and IPv6, and handed on to the web process."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
from collections.abc import Iterator
from pathlib import Path

from era_project.serve.failures import CannotServe

BACKLOG = 2048
ATTEMPTS = 20
LISTEN = "0A"
"""Source: TCP_LISTEN in /proc/net/tcp."""
LOOPBACK = ("127.0.0.1", "::1")


class PortTaken(CannotServe):
    """Somebody listens there already."""

    def __init__(self, port: int, pid: int | None) -> None:
        who = f"process {pid}" if pid else "another process"
        super().__init__(f"Port {port} is taken by {who}: stop it, or choose another one (PORT={port + 1}).")
        self.pid = pid


def check_host(host: str) -> None:
    """Refuses to listen where others could call: there are no tokens yet that would tell them apart.

    Raises:
        CannotServe: ``host`` is not loopback.
    """
    with contextlib.suppress(ValueError):
        if not host or host == "localhost" or ipaddress.ip_address(host).is_loopback:
            return
    raise CannotServe(
        f"ERA_HOST={host} would let everybody there run code, as no token exists: leave it empty and put a reverse "
        "proxy with a login on this machine before the port."
    )


def listen(host: str, port: int) -> list[socket.socket]:
    """Listening sockets on ``host`` (empty: both loopback addresses where both exist) and one port.

    Raises:
        PortTaken: another process listens there.
        CannotServe: the address is not this machine's, or the port needs more rights.
    """
    addresses = LOOPBACK if host in ("", "localhost") else (host,)
    for _ in range(ATTEMPTS):
        try:
            return _listen_all(addresses, port)
        except PortTaken:
            if port:
                raise
    raise CannotServe("No port is free on both IPv4 and IPv6: set PORT.")


def _listen_all(addresses: tuple[str, ...], port: int) -> list[socket.socket]:
    made: list[socket.socket] = []
    try:
        for address in addresses:
            listener = _listen_one(address, port, is_needed=not made)
            if listener is not None:
                made.append(listener)
                port = listener.getsockname()[1]
    except BaseException:
        for listener in made:
            listener.close()
        raise
    return made


def _listen_one(address: str, port: int, *, is_needed: bool) -> socket.socket | None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError:
        if is_needed:
            raise
        return None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(port, next(listeners(port), None)) from error
        if error.errno == errno.EADDRNOTAVAIL and not is_needed:
            return None  # a machine without IPv6
        raise CannotServe(
            f"Cannot listen on {address} port {port} ({error.strerror}): set ERA_HOST or PORT."
        ) from error
    return listener


def listeners(port: int) -> Iterator[int]:
    """Pids, as far as they can be seen, of the processes that listen on ``port``."""
    inodes = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    for folder in sorted(Path("/proc").glob("[0-9]*/fd"), key=lambda path: int(path.parts[2])):
        with contextlib.suppress(OSError):
            if any(str(link.readlink()) in inodes for link in folder.iterdir()):
                yield int(folder.parts[2])


def _listening_inodes(port: int) -> Iterator[str]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                columns = line.split()
                if columns[3] == LISTEN and int(columns[1].rpartition(":")[2], 16) == port:
                    yield columns[9]
