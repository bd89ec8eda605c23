"""Pairs of sockets for processes inside, whatever a library in this process wants of new sockets."""

from __future__ import annotations

import socket


def pair(kind: int) -> tuple[socket.socket, socket.socket]:
    """Two connected sockets of the Unix family; both block, and a process that is given one may rely on that.

    While a default timeout is set, Python makes every new socket non-blocking, and it is set for all threads at once.
    kombu sets one whenever it gives up a connection to the broker; two threads that do so at the same time leave it
    set for good. Source: kombu 5.7, ``Connection.collect``.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    for end in (ours, theirs):
        end.setblocking(True)
    return ours, theirs
