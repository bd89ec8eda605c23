"""One part of the server: a program, the uid it runs under, and how to tell that it is ready."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from era_project.serve import linux
from era_project.serve.failures import CannotServe

POLL_S = 0.01


class PartError(CannotServe):
    """A part did not come up; the text is one sentence that names its log."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """How to start one part; ``uid`` None leaves the supervisor's own."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path = Path("/")
    uid: int | None = None
    gid: int | None = None
    umask: int = 0o077
    log: Path | None = None
    """Where its output goes; None: the supervisor's own stderr."""
    stop_signal: int = signal.SIGTERM
    death_signal: int = signal.SIGTERM
    """Reaches the part when the supervisor dies."""
    descriptors: Sequence[int] = ()
    is_once: bool = False
    """It does its work and ends: nothing restarts it."""
    ready: Callable[[subprocess.Popen[bytes]], bool] = lambda process: True
    ready_within_s: float = 60.0


def start(part: Part) -> subprocess.Popen[bytes]:
    """The started process, in a session of its own. Call it from the main thread: the part dies with the calling one."""
    with contextlib.ExitStack() as files:
        output = files.enter_context(part.log.open("ab")) if part.log else None
        return subprocess.Popen(
            list(part.argv),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(part.env),
            cwd=part.cwd,
            start_new_session=True,
            user=part.uid,
            group=part.gid,
            extra_groups=None if part.uid is None else [],
            umask=part.umask,
            pass_fds=tuple(part.descriptors),
            restore_signals=True,
            preexec_fn=linux.dying_with_parent(part.death_signal),  # noqa: PLW1509
        )


def wait_ready(part: Part, process: subprocess.Popen[bytes], *, stopped: Callable[[], bool] = lambda: False) -> None:
    """Returns when the part is ready, or when ``stopped`` says that nobody waits any more.

    Raises:
        PartError: it ended or took too long.
    """
    deadline = time.monotonic() + part.ready_within_s
    where = f", see {part.log}" if part.log else ""
    while not stopped():
        if process.poll() is not None:
            raise PartError(f"{part.name} ended with code {process.returncode} while it started{where}.")
        if part.ready(process):
            return
        if time.monotonic() > deadline:
            raise PartError(f"{part.name} was not ready after {part.ready_within_s:.0f} s{where}.")
        time.sleep(POLL_S)


def stop(processes: Mapping[str, tuple[Part, subprocess.Popen[bytes]]], *, within_s: float) -> None:
    """Asks every process to end, then kills those that are still there after ``within_s``."""
    for part, process in processes.values():
        if process.poll() is None:
            process.send_signal(part.stop_signal)
    deadline = time.monotonic() + within_s
    for _, process in processes.values():
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        # What it started and did not end is in its group still.
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
