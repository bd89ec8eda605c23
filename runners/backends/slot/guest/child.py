"""The run's process: gives up every right, parks until the runner's request, then becomes the user's program."""

from __future__ import annotations

import _signal
import ctypes
import fcntl
import marshal
import mmap
import os
import resource
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from typing import Any, NoReturn

from runners.backends.slot.guest import drivers, linux, program
from runners.backends.slot.guest.settings import GUEST_ID

_CAPABILITY_HEADER = ctypes.create_string_buffer(struct.pack("Ii", 0x20080522, 0))
_NO_CAPABILITIES = ctypes.create_string_buffer(24)
_REQUEST_BYTES = 1 << 17
_FIRST_FREE = 3
_TIOCSCTTY = 0x540E
_prctl = linux.HOT.prctl
# Plain numbers and the C module: enumerations touch 20 pages more.
_DEFAULT, _SIGUSR1, _SIGINT, _LIVE_SIGNALS = 0, 10, 2, (12, 34, 35, 36)


@dataclass(frozen=True)
class Post:
    """Where the child finds its request, and how it gives up its rights."""

    requests: socket.socket
    proc: int
    shared_uid: bool
    live: bool
    started: mmap.mmap
    """Shared with pid 1: whether the child came as far as its request."""


def live(post: Post) -> NoReturn:
    """From birth to exit."""
    try:
        _give_up_rights(post)
        message, ancillary, _, _ = post.requests.recvmsg(_REQUEST_BYTES, 64)
        post.started[0] = 1
        post.started.close()
        _begin(message, ancillary)
    except BaseException:
        try:
            os.write(2, traceback.format_exc().encode())
        except OSError:
            pass
    os._exit(125)


def _give_up_rights(post: Post) -> None:
    os.setsid()
    if post.shared_uid:
        _prctl(linux.PR_SET_DUMPABLE, 1, 0, 0, 0)  # nobody else lives here yet; /proc/self must be its own
    score = os.open("self/oom_score_adj", os.O_WRONLY, dir_fd=post.proc)
    if "random" in sys.modules:  # what Python's own hook would have done after the fork
        sys.modules["random"].seed()
    threading.main_thread()._set_native_id()  # type: ignore[attr-defined]
    os.pwrite(score, b"1000", 0)  # the kernel takes the run, not pid 1
    if post.shared_uid:
        if linux.HOT.capset(_CAPABILITY_HEADER, _NO_CAPABILITIES):
            os._exit(125)
    else:  # leaving uid 0 clears every capability
        os.setgroups([])
        os.setresgid(GUEST_ID, GUEST_ID, GUEST_ID)
        os.setresuid(GUEST_ID, GUEST_ID, GUEST_ID)
    _signal.signal(_SIGUSR1, _DEFAULT)
    if post.live:
        for number in _LIVE_SIGNALS:
            _signal.signal(number, _DEFAULT)
    _signal.signal(_SIGINT, _signal.default_int_handler)
    _prctl(linux.PR_SET_DUMPABLE, 1, 0, 0, 0)


def _begin(message: bytes, ancillary: list[tuple[int, int, bytes]]) -> NoReturn:
    if not message:
        os._exit(0)
    passed = ancillary[0][2]
    descriptors = list(struct.unpack(f"{len(passed) // 4}i", passed))
    if message == b"M":  # too long for a message
        packed = descriptors.pop()
        message = os.pread(packed, os.fstat(packed).st_size, 0)
        os.close(packed)
    request: dict[str, Any] = marshal.loads(message)
    _arrange(descriptors, has_stdin=request["stdin"], has_channel=request["channel"])
    if request.get("tty"):
        fcntl.ioctl(0, _TIOCSCTTY, 0)  # or Ctrl-C would reach nobody
    for kind, soft, hard in request["limits"]:
        resource.setrlimit(kind, (soft, hard))
    os.chdir("/workspace")
    if request["env"]:
        os.environ.update(request["env"])
        if "TZ" in request["env"]:
            time.tzset()
    if request["kind"] == "python":
        program.run(request["code"], request["args"], fork_start=request["fork_start"])
    if request["kind"] == "script":
        drivers.run(request["argv"][-1])
    _exec(request["argv"])


def _arrange(descriptors: list[int], *, has_stdin: bool, has_channel: bool) -> None:
    """0, 1, 2 and maybe 3 as the program expects them, and nothing else."""
    os.dup2(descriptors[0], 1)
    os.dup2(descriptors[1], 2)
    os.dup2(descriptors[2] if has_stdin else os.open("/dev/null", os.O_RDONLY), 0)
    if not has_channel:
        linux.HOT.close_range(_FIRST_FREE, 0xFFFFFFFF, 0)
        return
    channel = descriptors[-1]
    if channel != _FIRST_FREE:
        os.dup2(channel, _FIRST_FREE)
    os.set_inheritable(_FIRST_FREE, True)
    linux.HOT.close_range(_FIRST_FREE + 1, 0xFFFFFFFF, 0)


def _exec(argv: list[str]) -> NoReturn:
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them; the program should not
        signal.signal(number, signal.SIG_DFL)
    os.execve(argv[0], argv, os.environ)
