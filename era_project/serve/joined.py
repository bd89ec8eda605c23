"""A further server on the state of a running one: one more web process, on a port of its own."""

from __future__ import annotations

import dataclasses
import os
import socket
from collections.abc import Sequence
from pathlib import Path

from era_project.conf import Conf
from era_project.serve import health, layout, linux, messages, place, records
from era_project.serve.failures import CannotServe
from era_project.serve.layout import Plan
from era_project.serve.records import Server
from era_project.serve.signals import Signals, process_end
from era_project.serve.supervisor import Supervisor
from era_project.serve.uids import UidBlock


def run(conf: Conf, sockets: Sequence[socket.socket], signals: Signals, owner: Server) -> None:
    """Serves until a signal, or until the owner ends."""
    plan = _plan(conf, owner)
    port = sockets[0].getsockname()[1]
    env = layout.environment(plan, port=port)
    supervisor = Supervisor(signals, note=None)
    try:
        with process_end(owner.process.pid) as ended:
            if not owner.process.is_alive:
                return
            supervisor.start(layout.web(plan, env, [listener.fileno() for listener in sockets]))
            found = health.Probe(sockets[0].getsockname())
            supervisor.watch(until=lambda: found.is_healthy() or not owner.process.is_alive, also=[ended])
            supervisor.is_ready = True
            record = Server(process=records.identify(os.getpid()), port=port, is_owner=False, is_ready=True)
            records.write(conf.state_dir, record)
            messages.say_joined(port=port, owner=owner)
            supervisor.watch(until=lambda: not owner.process.is_alive, also=[ended])
    finally:
        supervisor.stop()


def _plan(conf: Conf, owner: Server) -> Plan:
    """The owner's place: as root by entering its mount namespace."""
    if not owner.web_uid:
        return Plan(conf=conf, place=place.for_user(conf.state_dir, Path(owner.runtimes)), block=None, cgroup="")
    if os.geteuid():
        raise CannotServe(
            f"The server on this state is root's (process {owner.process.pid}): start this one as root too."
        )
    descriptor = os.open(f"/proc/{owner.process.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        linux.enter_mount_namespace(descriptor)
    finally:
        os.close(descriptor)
    block = UidBlock(owner.web_uid - UidBlock(0).web)
    where = place.inside(Path(owner.home))
    return dataclasses.replace(Plan(conf=conf, place=where, block=block, cgroup=owner.cgroup))
