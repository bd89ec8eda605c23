"""``python -m era_project.serve``: the whole server on this machine, until INT or TERM."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from era_project import conf, full_disk, logs, secrets
from era_project.serve import joined, linux, listening, locks, messages, owner, records
from era_project.serve.failures import CannotServe, RunsAlready, Stopped
from era_project.serve.signals import Signals

POLL_S = 0.05
RECORD_WITHIN_S = 1.0


def main() -> int:
    """The exit code: 0 after a signal, 1 when the server cannot run."""
    signals = Signals()
    signals.install()
    try:
        _run(conf.get(), signals)
    except Stopped:
        return 0
    except conf.ConfError as error:
        sys.stderr.write(f"era: {error}\n")
        return 2
    except OSError as error:
        if error.errno not in full_disk.ERRNOS:
            raise
        sys.stderr.write(f"era: The disk of the state folder is full ({error}): free some space on it.\n")
        return 1
    except CannotServe as error:
        sys.stderr.write(f"era: {error}\n")
        return error.exit_code
    return 0


def _run(settings: conf.Conf, signals: Signals) -> None:
    _check_machine()
    _configure_logs(settings.log_level)
    listening.check_host(settings.host)
    sockets = _listen(settings)
    state = settings.state_dir
    try:
        _make_state(state)
        _announce(state, sockets)
        _own_or_join(settings, sockets, signals)
    finally:
        for listener in sockets:
            listener.close()
        with contextlib.suppress(OSError):
            records.remove(state)


def _own_or_join(settings: conf.Conf, sockets: Sequence[socket.socket], signals: Signals) -> None:
    """The first on a state owns it; whoever comes later joins it, or takes over if it did not come up."""
    while True:
        lock = locks.taken(settings.state_dir / "lock")
        if lock is not None:
            try:
                secrets.ensure(settings.state_dir / "secrets.json")
                owner.run(settings, sockets, signals)
            finally:
                os.close(lock)
            return
        first = records.owner(settings.state_dir)
        if first is not None and first.is_ready:
            joined.run(settings, sockets, signals, first)
            return
        signals.wait(POLL_S)


def _listen(settings: conf.Conf) -> list[socket.socket]:
    try:
        return listening.listen(settings.host, settings.port)
    except listening.PortTaken:
        deadline = time.monotonic() + RECORD_WITHIN_S
        while time.monotonic() < deadline:
            for server in records.servers(settings.state_dir):
                if server.port == settings.port:
                    raise RunsAlready(messages.runs_already(server)) from None
            time.sleep(POLL_S)
        raise


def _announce(state: Path, sockets: Sequence[socket.socket]) -> None:
    process = records.identify(os.getpid())
    records.write(state, records.Server(process=process, port=sockets[0].getsockname()[1], is_owner=False))


def _make_state(state: Path) -> None:
    """The state folder, open to others for walking only as far as root's parts need it: not at all.

    Raises:
        CannotServe: it cannot be written.
    """
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        (state / "servers").mkdir(exist_ok=True, mode=0o700)
        (state / "log").mkdir(exist_ok=True, mode=0o700)
    except OSError as error:
        raise CannotServe(
            f"The state folder {state} cannot be written ({error.strerror}): set ERA_STATE_DIR."
        ) from error


def _check_machine() -> None:
    if platform.system() != "Linux":
        raise CannotServe("The server needs Linux: use a virtual machine or a container here.")
    if os.geteuid() and not linux.has_user_namespaces():
        raise CannotServe(messages.no_user_namespaces())


def _configure_logs(level: str) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logs.formatter())
    logging.basicConfig(level=logs.LEVELS[level], handlers=[handler])


if __name__ == "__main__":
    sys.exit(main())
