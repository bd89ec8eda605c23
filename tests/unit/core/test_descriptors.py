"""A worker's room for open files."""

from __future__ import annotations

import os
import resource
import socket

from sessions_app import worker, writer


def test_a_worker_takes_what_it_may_have() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 900), hard))
    try:
        worker.allow_descriptors()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= min(worker.DESCRIPTORS, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_connection_of_a_high_number() -> None:
    """With many files open, a new connection to Postgres has a number that select does not bear."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    near, far = socket.socketpair()
    high = os.dup2(near.fileno(), min(hard, 4096) - 1)
    connection = socket.socket(fileno=high)
    try:
        assert not writer._has_word(connection)  # type: ignore[arg-type]
        far.send(b"x")
        assert writer._has_word(connection)  # type: ignore[arg-type]
    finally:
        for one in (near, far, connection):
            one.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
