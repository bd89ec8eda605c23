"""What can befall a running server: parts that are killed, restarted or paused."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import psycopg

from era_project.serve import records
from era_project.serve.records import Identity
from tests.processes import children
from tests.servers import Server
from tests.waiting import wait_until

DEAD_S = 30.0
LEASES_END_S = 60.0
EMBEDDED = ("postgres", "valkey", "web", "worker")

LEFT_S = """
SELECT coalesce(max(extract(epoch FROM lease_until - now())), 0) FROM sessions_app_node WHERE name NOT LIKE 'other%'"""


def noted(server: Server, part: str) -> Identity:
    """The process of a part, as the server itself noted it."""
    return Identity(**json.loads((server.state / "pids.json").read_text())[part])


def world(server: Server) -> int:
    """The worker's child that holds all of its sandboxes, once there is one."""
    return wait_until(lambda: _world(server), DEAD_S, "the worker has a world of sandboxes")


def _world(server: Server) -> int:
    for pid in children(noted(server, "worker").pid):
        try:
            if b"world.py" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
        except OSError:
            continue
    return 0


def database(server: Server) -> psycopg.Connection[tuple[object, ...]]:
    """A connection to the server's embedded PostgreSQL."""
    sockets = server.state / "sockets/postgres"
    return psycopg.connect(host=str(sockets), user="era", dbname="era", autocommit=True, connect_timeout=10)


def end(victim: Identity, number: signal.Signals) -> None:
    """Send a deadly signal and wait for the death."""
    os.kill(victim.pid, number)
    wait_until(lambda: not victim.is_alive, DEAD_S, f"process {victim.pid} is dead")


def living(server: Server, part: str) -> Identity:
    """The process of a part that may just be being started again."""
    found: list[Identity] = []

    def lives() -> bool:
        found[:] = [noted(server, part)]
        return found[0].is_alive

    wait_until(lives, DEAD_S, f"{part} lives")
    return found[0]


def _kill(part: str, server: Server) -> None:
    end(living(server, part), signal.SIGKILL)


def _kill_world(server: Server) -> None:
    """The processes that all slots live in: on the host the one that stands for them, inside the one that forks them."""
    outer = records.identify(world(server))
    (master, *_) = wait_until(lambda: children(outer.pid), DEAD_S, "the world has its first process")
    inner = records.identify(master)
    end(inner, signal.SIGKILL)
    if outer.is_alive:
        with contextlib.suppress(ProcessLookupError):
            end(outer, signal.SIGKILL)


def _restart(part: str, number: signal.Signals, server: Server) -> None:
    """End a store as its administrator would; the server starts it again."""
    end(living(server, part), number)


def _pause_worker(server: Server) -> None:
    """Hold the worker until its lease has run out and its runs are judged, then let it go on."""
    worker = living(server, "worker")
    os.kill(worker.pid, signal.SIGSTOP)
    try:
        with database(server) as connection:
            wait_until(lambda: _lease_left_s(connection) < 0, LEASES_END_S, "the lease has run out")
            wait_until(lambda: not _running(connection), LEASES_END_S, "its runs are given up")
    finally:
        os.kill(worker.pid, signal.SIGCONT)


def _lease_left_s(connection: psycopg.Connection[tuple[object, ...]]) -> float:
    (left,) = connection.execute(LEFT_S).fetchone() or (0,)
    return float(str(left))


def _running(connection: psycopg.Connection[tuple[object, ...]]) -> bool:
    return bool(connection.execute("SELECT 1 FROM sessions_app_run WHERE status = 'running' LIMIT 1").fetchone())


FAULTS: Mapping[str, Callable[[Server], None]] = {
    **{f"killed {part}": partial(_kill, part) for part in ("worker", "web", "valkey", "postgres")},
    "killed world": _kill_world,
    "restarted valkey": partial(_restart, "valkey", signal.SIGTERM),
    "restarted postgres": partial(_restart, "postgres", signal.SIGINT),
    "paused worker": _pause_worker,
}
"""What to do to a server, by its name."""
