"""The first server of a state folder: it runs the stores and every other part, and others may join it."""

from __future__ import annotations

import compileall
import dataclasses
import os
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from era_project.conf import Conf
from era_project.serve import (
    control_groups,
    database,
    health,
    layout,
    messages,
    place,
    postgres,
    records,
    runtimes,
    uids,
)
from era_project.serve.failures import CannotServe
from era_project.serve.layout import Plan
from era_project.serve.parts import Part
from era_project.serve.place import Place
from era_project.serve.records import Server
from era_project.serve.signals import Signals
from era_project.serve.supervisor import Supervisor
from era_project.serve.uids import UidBlock

READABLE_WITHIN_S = 30
HEALTHY_WITHIN_S = 60.0
LAST_BLOCK = "uids"
PACKAGES = ("era_project", "sessions_app", "storage_app", "runners")


def run(conf: Conf, sockets: Sequence[socket.socket], signals: Signals) -> None:
    """Serves until a signal; the caller holds the state's lock."""
    state = conf.state_dir
    group = f"era-{place.name_of(state)}"
    records.clear_leftovers(state)
    control_groups.clear(group, note=state / "cgroups")
    _compile()
    made = runtimes.prepare(conf.runtimes_root)
    plan = _plan(conf, made, group)
    supervisor = Supervisor(signals, note=state)
    try:
        _start(plan, sockets, supervisor)
        _serve(plan, made, sockets, supervisor)
    finally:
        supervisor.stop()
        control_groups.clear(group)
        if plan.place.home:
            (place.leave if plan.block else place.leave_short)(plan.place.home)


def _compile() -> None:
    """Compiles the product's modules: the parts' users may not write beside them."""
    before = os.umask(0o022)
    for package in PACKAGES:
        compileall.compile_dir(place.code_folder() / package, quiet=2)
    os.umask(before)


def _plan(conf: Conf, made: Path, group: str) -> Plan:
    state = conf.state_dir
    block = _claim(conf) if os.geteuid() == 0 else None
    layout.make_folders(state, block)
    if block is None:
        return Plan(conf=conf, place=place.for_user(state, made), block=None, cgroup=group)
    where = place.for_root(state, made, block, shown=layout.SHOWN)
    _check_readable(where, block)
    return Plan(conf=conf, place=where, block=block, cgroup=group)


def _claim(conf: Conf) -> UidBlock:
    """The block of the last start where it is free: then nothing changes its owner."""
    last = conf.state_dir / LAST_BLOCK
    noted = last.read_text().strip() if last.exists() else ""  # empty: there was no room for it
    liked = int(noted) if noted.isdecimal() else 0
    block = uids.claim(uids.needed(conf), base=conf.uid_base, liked=liked)
    last.write_text(f"{block.base}\n")
    return block


def _check_readable(where: Place, block: UidBlock) -> None:
    """Tries as the web's user what its parts will do.

    Raises:
        CannotServe: that user cannot read the checkout, or not run its Python.
    """
    probe = Part(
        name="probe",
        argv=[str(where.python), "-c", "import django, era_project"],
        cwd=where.code,
        uid=block.web,
        gid=block.web,
        env={"LANG": "C.UTF-8"},
        log=Path(os.devnull),
    )
    try:
        code = _wait(probe)
    except OSError:
        code = -1
    if code:
        raise CannotServe(
            f"The server's unprivileged user cannot read {place.code_folder()} or run {Path(sys.executable).resolve()}: "
            "run `chmod -R go+rX .` here; if that Python lies in somebody's home, `make clean`, then "
            "`PYTHON=/usr/bin/python3 make serve`."
        )


def _wait(part: Part) -> int:
    from era_project.serve import parts

    return parts.start(part).wait(READABLE_WITHIN_S)


def _start(plan: Plan, sockets: Sequence[socket.socket], supervisor: Supervisor) -> None:
    """Starts every part in its order; returns when the web process answers."""
    port = sockets[0].getsockname()[1]
    stores = layout.stores(plan)
    for store in stores:
        if isinstance(store, postgres.Postgres):
            store.prepare()
        supervisor.start(store.part())
    for store in stores:
        supervisor.wait_ready(store.part().name)
    env = layout.environment(plan, port=port)
    database.prepare(plan, env)
    supervisor.start(layout.web(plan, env, [listener.fileno() for listener in sockets], with_beat=True))
    supervisor.start(layout.worker(plan, env))


def _serve(plan: Plan, made: Path, sockets: Sequence[socket.socket], supervisor: Supervisor) -> None:
    """Waits for health, says that it runs, and keeps it so."""
    address = sockets[0].getsockname()
    deadline = time.monotonic() + HEALTHY_WITHIN_S
    found = health.Probe(address)
    supervisor.watch(until=lambda: found.is_healthy() or (found.is_alive and time.monotonic() > deadline))
    supervisor.is_ready = True
    records.write(plan.conf.state_dir, _record(plan, made, port=address[1]))
    messages.say_started(plan.conf, port=address[1], health=found.answer)
    if not runtimes.is_go_ready(made):
        supervisor.start(_go_part(plan, made))
    supervisor.watch(until=lambda: False)


def _record(plan: Plan, made: Path, *, port: int) -> Server:
    return Server(
        process=records.identify(os.getpid()),
        port=port,
        is_owner=True,
        is_ready=True,
        home=str(plan.place.home) if plan.block else "",
        web_uid=plan.web_uid or 0,
        runtimes=str(made),
        cgroup=plan.cgroup,
    )


def _go_part(plan: Plan, made: Path) -> Part:
    argv = [sys.executable, "-m", "era_project.serve.runtimes", str(plan.conf.runtimes_root)]
    log = plan.conf.state_dir / "log" / "go.log"
    env = layout.environment(plan, port=0)
    return dataclasses.replace(
        Part(name="go", argv=argv, env=env, cwd=place.code_folder(), log=log), umask=0o022, is_once=True
    )
