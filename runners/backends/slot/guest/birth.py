"""How a slot is born: cgroups, namespaces and uids of its own, then its pid 1 and the helper beside it."""

from __future__ import annotations

import os
import socket
import traceback
from dataclasses import dataclass

from runners.backends.slot.guest import helper, linux, pid1, rootfs
from runners.backends.slot.guest.settings import GUEST_ID, Settings


@dataclass(frozen=True)
class Order:
    """What the runner asks the master for."""

    index: int
    """Number of the slot's pair of uids; no two living slots have the same."""
    live: bool = False
    """The child stays: a live session."""
    workspace: str = ""
    """Name of the session's folder; empty: a tmpfs of the run's own."""


@dataclass(frozen=True)
class Channels:
    """The slot's ends of three sockets to the runner."""

    requests: socket.socket
    """Read by the run's child alone; pid 1 never sees code or output."""
    control: socket.socket
    """pid 1's word on each run."""
    aid: socket.socket
    """The helper's: sizes and input files."""


def become_slot(order: Order, channels: Channels, cgroups: list[int], settings: Settings) -> None:
    """Turn this child of the master into a slot's helper, with the slot's pid 1 as its child."""
    for descriptor in cgroups:  # first of all, so that everything later is born inside
        os.write(descriptor, b"0")
        os.close(descriptor)
    linux.prctl(linux.PR_SET_PDEATHSIG, 9)
    if settings.shared_uid:
        _share_uid()
    else:
        _take_uids(order.index)
    linux.unshare(
        linux.NEWNS | linux.NEWPID | linux.NEWNET | linux.NEWIPC | linux.NEWUTS | linux.NEWCGROUP,
    )
    linux.prctl(linux.PR_SET_PDEATHSIG, 9)  # a change of uid clears it
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    init = os.fork()
    if init:
        channels.requests.close()
        channels.control.close()
        theirs.close()
        helper.serve(ours, channels.aid, init, settings)
    ours.close()
    channels.aid.close()
    try:
        pid1.main(
            pid1.Post(order.live, order.workspace, order.index), channels.requests, channels.control, theirs, settings
        )
    except BaseException:
        channels.control.send(b"!" + traceback.format_exc().encode()[:60_000])
    os._exit(1)


def _share_uid() -> None:
    # Nested, because RLIMIT_NPROC and inotify are counted per user namespace.
    linux.unshare(linux.NEWUSER)
    for kind in ("uid", "gid"):
        rootfs.write_text(f"/proc/self/{kind}_map", f"{GUEST_ID} {GUEST_ID} 1")


def _take_uids(index: int) -> None:
    """Two uids: 0 inside for pid 1 and GUEST_ID for user code, which therefore cannot signal or inspect pid 1."""
    target = os.getpid()
    ready, start = os.pipe()
    mapper = os.fork()
    if mapper == 0:
        os.close(start)
        if os.read(ready, 1):  # keeps the world's capabilities
            for kind in ("uid", "gid"):
                text = f"0 {2 * index + 1} 1\n{GUEST_ID} {2 * index + 2} 1\n"
                rootfs.write_text(f"/proc/{target}/{kind}_map", text)
        os._exit(0)
    linux.unshare(linux.NEWUSER)
    os.write(start, b"1")
    os.close(start)
    os.close(ready)
    os.waitpid(mapper, 0)
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
