"""A pytest plugin that starts the real services before Django's settings are read.

The controller starts one PostgreSQL for all; every process of the tests (controller or xdist worker) gets a database of
its own in it, a Valkey, a state folder, a block of uids and a control group's name. It must be loaded by ``-p``: settings
are read before any conftest.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psycopg

from era_project import conf, secrets
from era_project.serve import parts, place, postgres, runtimes, uids, valkey

SHARED = "ERA_TEST_STACK"
TEMPLATE = "era_template"
TESTER = 1000
"""Its place in this process's block of uids; sandboxes leave out the last ones."""
POSTGRES = {"fsync": "off", "max_connections": "300", "unix_socket_permissions": "0777"}
VALKEY = {"appendonly": "no"}


@dataclasses.dataclass(frozen=True)
class Stack:
    """What this process of the tests has for itself."""

    name: str
    base: Path
    """Folder of the whole test session; short, removed at its end."""
    state: Path
    database_url: str
    valkey_url: str
    runtimes: Path
    uid_block: int
    uid_count: int
    cgroup: str
    code: Path
    """The checkout and its Python under names that every user can walk to (as root)."""
    python: Path
    tester_uid: int
    """As root: a uid with a passwd line of its own, for what an ordinary user does; 0 otherwise."""

    def environment(self) -> dict[str, str]:
        """The settings that stand for this stack."""
        return {
            "ERA_STATE_DIR": str(self.state),
            "ERA_RUNTIMES": str(self.runtimes),
            "ERA_RUN_DIR": str(self.state / "run"),
            "DATABASE_URL": self.database_url,
            "ERA_BROKER_URL": self.valkey_url,
            "ERA_REDIS_URL": self.valkey_url,
            "ERA_UID_BLOCK": str(self.uid_block),
            "ERA_UID_COUNT": str(self.uid_count),
            "ERA_CGROUP": self.cgroup,
            "ERA_NODE_NAME": f"node-{self.name}",
            "ERA_LOG_LEVEL": "warning",
        }


_started: dict[str, tuple[parts.Part, subprocess.Popen[bytes]]] = {}
_blocks: list[uids.UidBlock] = []
current: Stack
"""This process's stack."""


def _is_root() -> bool:
    return os.geteuid() == 0


def _claim() -> uids.UidBlock | None:
    if not _is_root():
        return None
    block = uids.claim()
    _blocks.append(block)
    return block


def _run(part: parts.Part) -> None:
    process = parts.start(part)
    _started[part.name] = (part, process)
    parts.wait_ready(part, process)


def _start_shared() -> dict[str, str]:
    """The controller's part: a folder, one PostgreSQL, and a migrated template in it."""
    base = Path(tempfile.mkdtemp(prefix="era-test-"))
    base.chmod(0o755 if _is_root() else 0o700)
    made = runtimes.prepare(conf.get().runtimes_root)
    runtimes.prepare_go(made)
    cluster = base / "shared" / "postgres"
    cluster.mkdir(parents=True, mode=0o755)
    block = _claim()
    if block:
        os.chown(cluster, block.postgres, block.web)
        where = place.for_root(base / "shared", made, block, shown=["postgres"])
    else:
        where = place.for_user(base / "shared", made)
    sockets = (where.home or base) / "pg"
    sockets.mkdir(mode=0o755)
    if block:
        os.chown(sockets, block.postgres, block.web)
    server = postgres.Postgres(
        programs=where.seen(postgres.programs()),
        data=where.state / "postgres" / "data",
        sockets=sockets,
        log=base / "postgres.log",
        uid=block.postgres if block else None,
        gid=block.web if block else None,
        settings=POSTGRES,
        is_durable=False,
    )
    server.prepare()
    _run(server.part())
    shared = {
        "base": str(base),
        "postgres": str(sockets),
        "runtimes": str(made),
        "valkey": str(where.seen(valkey.program())),
        "home": str(where.home or ""),
        "code": str(where.code),
        "python": str(where.python),
    }
    return shared | {"error": _make_template(sockets)}


def _make_template(sockets: Path) -> str:
    """Migrates the template; what went wrong, for the tests that need a database."""
    _sql(sockets, f"CREATE DATABASE {TEMPLATE}")
    environment = {**os.environ, "DATABASE_URL": _database_url(sockets, TEMPLATE), "ERA_STATE_DIR": "/nonexistent"}
    command = [sys.executable, "manage.py", "migrate", "-v", "0", "--skip-checks"]
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, timeout=120, check=False)
    return done.stderr[-3000:] if done.returncode else ""


def _database_url(sockets: Path, name: str) -> str:
    return f"postgres://era@/{name}?host={sockets}"


def _sql(sockets: Path, statement: str) -> None:
    with psycopg.connect(host=str(sockets), user="era", dbname="era", autocommit=True) as connection:
        connection.execute(statement.encode())


def _start_own(shared: dict[str, str]) -> Stack:
    name = os.environ.get("PYTEST_XDIST_WORKER", "main")
    base = Path(shared["base"])
    state = base / name
    for folder in (state, state / "run", state / "workspaces", state / "objects"):
        folder.mkdir(mode=0o755)
    (state / "objects").chmod(0o2770)
    secrets.ensure(state / "secrets.json")
    database_url, valkey_url = _start_stores(shared, name)
    block = _claim()
    return Stack(
        name=name,
        base=base,
        state=state,
        database_url=database_url,
        valkey_url=valkey_url,
        runtimes=Path(shared["runtimes"]),
        uid_block=block.slots if block else 0,
        uid_count=TESTER - uids.FIRST_SLOT if block else 0,
        cgroup=f"era-test-{os.getpid()}",
        code=Path(shared["code"]),
        python=Path(shared["python"]),
        tester_uid=_add_account(Path(shared["home"]), block) if block else 0,
    )


def _start_stores(shared: dict[str, str], name: str) -> tuple[str, str]:
    """URLs of a database from the template and of a Valkey that nobody else uses."""
    base, sockets = Path(shared["base"]), Path(shared["postgres"])
    _sql(sockets, f"CREATE DATABASE era_{name} TEMPLATE {TEMPLATE} STRATEGY file_copy")
    data = base / f"valkey-{name}"
    data.mkdir()
    socket = Path(shared["home"] or base) / f"valkey-{name}.sock"
    server = valkey.Valkey(
        program=Path(shared["valkey"]),
        data=data,
        socket=socket,
        log=base / f"valkey-{name}.log",
        socket_mode="777",
        settings=VALKEY,
    )
    _run(dataclasses.replace(server.part(), name=f"valkey-{name}"))
    return _database_url(sockets, f"era_{name}"), f"redis+socket://{socket}"


def settings_of_a_server(name: str) -> dict[str, str]:
    """Settings of a whole server with stores of its own: its worker must not take the runs of other tests."""
    database_url, valkey_url = _start_stores(json.loads(os.environ[SHARED]), f"{current.name}_{name}")
    return {
        "DATABASE_URL": database_url,
        "ERA_BROKER_URL": valkey_url,
        "ERA_REDIS_URL": valkey_url,
        "ERA_RUNTIMES_DIR": str(current.runtimes.parent),
        "ERA_NODE_NAME": f"{name}-{current.name}",
        "ERA_LOG_LEVEL": "info",
    }


def _add_account(home: Path, block: uids.UidBlock) -> int:
    """A line in the /etc/passwd that this namespace sees; the host's own stays as it is."""
    uid = block.base + TESTER
    with (home / "passwd").open("a") as accounts:
        accounts.write(f"era-tester-{uid}:x:{uid}:{uid}::/nonexistent:/bin/sh\n")
    return uid


def template_error() -> str:
    """Why there is no migrated database; empty when there is one."""
    return str(json.loads(os.environ[SHARED])["error"])


def _is_controller() -> bool:
    return "PYTEST_XDIST_WORKER" not in os.environ


def _begin() -> None:
    global current
    # Under `cmd &` SIGINT is inherited as ignored: services would then ignore it as well.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if _is_controller():
        os.environ[SHARED] = json.dumps(_start_shared())
    current = _start_own(json.loads(os.environ[SHARED]))
    conf.set_for_this_process(current.environment())


def pytest_unconfigure(config: Any) -> None:
    """Ends what this process started; the controller, which comes last, removes the folder too."""
    parts.stop(_started, within_s=10)
    _started.clear()
    if _is_controller():
        shared = json.loads(os.environ[SHARED])
        base = Path(shared["base"])
        with contextlib.suppress(OSError):
            shutil.rmtree(base)
        if shared["home"]:
            place.leave(Path(shared["home"]))


try:
    _begin()
except BaseException:
    parts.stop(_started, within_s=10)
    raise
