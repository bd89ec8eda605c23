"""Second stage, pid 1 of the world: boots Python once and forks slots from it on the runner's word.

A second master, forked from the first, imports common modules ahead, so that programs which use them find them loaded.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import signal
import socket
import sys
import traceback

sys.path[0] = "/app"

from runners.backends.slot.guest import birth, drivers, linux, program, stillness, uncaught  # noqa: E402
from runners.backends.slot.guest.settings import Settings, read_json  # noqa: E402

_MESSAGE_BYTES = 4096


def main(descriptor: int) -> None:
    """Serve both control sockets until the runner closes them."""
    settings = Settings(**json.loads(read_json(descriptor)))
    os.close(descriptor)
    _reset_signals()
    _silence()
    _forget_own_modules()
    plain = socket.socket(fileno=settings.control)
    preloaded = socket.socket(fileno=settings.control_preloaded)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    if os.fork() == 0:
        plain.close()
        linux.prctl(linux.PR_SET_PDEATHSIG, 9)
        _preload(settings.preload)
        _serve(preloaded, settings)
    preloaded.close()
    _serve(plain, settings)


def _reset_signals() -> None:
    """What the server's starter ignored or blocked must not be the guest's: `serve &` ignores SIGINT, for one."""
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ}:
        signal.signal(number, signal.SIG_DFL)


def _silence() -> None:
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    _make_output_anew()
    os.dup2(null, 1)
    os.close(null)


def _make_output_anew() -> None:
    """sys.stdout on a pipe, as every run has one: streams keep in mind whether they could be sought in at first."""
    reader, writer = os.pipe()
    os.dup2(writer, 1)
    old = sys.stdout
    raw = io.FileIO(1, "wb", closefd=False)
    raw.name = "<stdout>"
    made = io.TextIOWrapper(raw, encoding=old.encoding, errors=old.errors, newline="\n", write_through=True)
    made.mode = "w"  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = made  # type: ignore[misc]
    os.close(reader)
    os.close(writer)


def _forget_own_modules() -> None:
    """User code finds neither our modules nor their folder."""
    sys.path.pop(0)
    for name in [name for name in sys.modules if name == "runners" or name.startswith("runners.")]:
        del sys.modules[name]


def _preload(names: list[str]) -> None:
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError:
            continue


def _warm_up() -> None:
    """Walk the paths that every failing run takes, so that their pages and caches are there before the fork."""
    stderr, sys.stderr = sys.stderr, io.StringIO()
    try:
        exec(compile("1 / 0", "/workspace/main.py", "exec"), {})
    except ZeroDivisionError as error:
        uncaught.show(error)
    finally:
        sys.stderr = stderr


def _serve(control: socket.socket, settings: Settings) -> None:
    _warm_up()
    program.note_boot()
    drivers.compile_all()
    stillness.keep()
    os.dup2(1, 2)  # the starter listens no longer
    control.send(b"ready")
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, _MESSAGE_BYTES, 16)
        if not message:
            os._exit(0)
        if _became_child():
            control.close()
            _bear(json.loads(message), descriptors, settings)
        for descriptor in descriptors:
            os.close(descriptor)


def _became_child() -> bool:
    """Fork, if the kernel has room for a process; if not, the slot's closed sockets tell the runner."""
    try:
        return os.fork() == 0
    except OSError:
        return False


def _bear(order: dict[str, object], descriptors: list[int], settings: Settings) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    channels = birth.Channels(
        requests=socket.socket(fileno=descriptors[0]),
        control=socket.socket(fileno=descriptors[1]),
        aid=socket.socket(fileno=descriptors[2]),
    )
    try:
        birth.become_slot(birth.Order(**order), channels, descriptors[3:], settings)  # type: ignore[arg-type]
    except BaseException:
        channels.control.send(b"!" + traceback.format_exc().encode()[:60_000])
    os._exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]))
