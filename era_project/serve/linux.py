"""The few system calls that Python 3.11 has no function for."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
MS_RDONLY, MS_NOSUID, MS_NODEV = 1, 2, 4
MS_BIND, MS_REC, MS_SLAVE = 0x1000, 0x4000, 1 << 19
MNT_DETACH = 2
PR_SET_PDEATHSIG = 1
"""Source: linux/sched.h, linux/mount.h, linux/prctl.h."""

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def own_mount_namespace() -> None:
    """Gives the calling process mounts of its own; what the host mounts later still appears in them."""
    _checked(_libc.unshare(CLONE_NEWNS), "unshare")
    _mount("none", Path("/"), None, MS_REC | MS_SLAVE)


def has_user_namespaces() -> bool:
    """Whether an ordinary process may make one; tried in a child, so that the caller stays as it is."""
    child = os.fork()
    if child == 0:
        os._exit(0 if _libc.unshare(CLONE_NEWUSER) == 0 else 1)
    return os.waitpid(child, 0)[1] == 0


def enter_mount_namespace(descriptor: int) -> None:
    """Moves the calling process (of one thread) into the mount namespace that ``descriptor`` stands for."""
    _checked(_libc.setns(descriptor, CLONE_NEWNS), "setns")


def _mount(source: Path | str, target: Path, kind: str | None, flags: int, options: str = "") -> None:
    arguments = (os.fsencode(source), os.fsencode(target), kind.encode() if kind else None)
    _checked(_libc.mount(*arguments, ctypes.c_ulong(flags), options.encode()), f"mount {target}")


def bind(source: Path, target: Path) -> None:
    """Makes ``source`` (a folder or a file) appear at ``target`` too, without walking through source's parents later."""
    _mount(source, target, None, MS_BIND | MS_REC)


def unmount(target: Path) -> None:
    """Takes down what is mounted at ``target`` and below, also while something still uses it."""
    _checked(_libc.umount2(os.fsencode(target), MNT_DETACH), f"unmount {target}")


def mount_memory(target: Path, *, size_bytes: int) -> None:
    """A fresh file system in memory at ``target``, which everybody may walk through."""
    _mount("era", target, "tmpfs", MS_NOSUID | MS_NODEV, f"mode=0755,size={size_bytes}")


def dying_with_parent(death_signal: int) -> Callable[[], None]:
    """What a child runs before its exec so that ``death_signal`` reaches it when the calling thread ends.

    It must run after the change of uid, which clears the setting; subprocess does it in that order.
    """
    parent = os.getpid()

    def set_up() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return set_up
