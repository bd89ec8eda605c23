"""System calls that the standard library does not offer: mounts, namespaces, prctl."""

from __future__ import annotations

import ctypes
import os

# PyDLL keeps the interpreter's lock: these processes have one thread, and a fork must not race with anything.
LIBC = ctypes.PyDLL(None, use_errno=True)
HOT = ctypes.PyDLL(None)
"""The same without errno, for calls made in every run: keeping errno touches 30 more pages, each copied after a fork."""

NEWNS, NEWCGROUP, NEWUTS, NEWIPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
NEWUSER, NEWPID, NEWNET = 0x10000000, 0x20000000, 0x40000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_NOATIME, MS_BIND, MS_REC, MS_PRIVATE = 32, 1024, 4096, 16384, 1 << 18
MNT_DETACH = 2

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP = 1, 4, 22, 24
PR_SET_NO_NEW_PRIVS, PR_SET_THP_DISABLE, PR_CAP_AMBIENT = 38, 41, 47

_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x1000, 0x8000
_OPEN_TREE_CLONE, _MOVE_MOUNT_F_EMPTY_PATH = 1, 4
# The same numbers on every architecture since Linux 5.2; mount_setattr since 5.12.
_SYS_OPEN_TREE, _SYS_MOVE_MOUNT, _SYS_MOUNT_SETATTR = 428, 429, 442


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


class _FilterProgram(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def check(result: int, what: str) -> int:
    """The result of a call, or OSError with what was tried."""
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def _encoded(text: str | None) -> bytes | None:
    return None if text is None else os.fsencode(text)


def mount(source: str | None, target: str, kind: str | None = None, flags: int = 0, options: str | None = None) -> None:
    """Call mount."""
    result = LIBC.mount(_encoded(source), os.fsencode(target), _encoded(kind), ctypes.c_ulong(flags), _encoded(options))
    check(result, f"mount {kind or source} on {target}")


def umount(target: str) -> None:
    """Take the mount out of sight; it ends when nothing holds it open any more."""
    check(LIBC.umount2(os.fsencode(target), MNT_DETACH), f"umount {target}")


def unshare(flags: int) -> None:
    """Call unshare."""
    check(LIBC.unshare(flags), f"unshare {flags:#x}")


def prctl(option: int, value: int, third: int = 0) -> int:
    """Call prctl with integers; the result is not checked."""
    return int(LIBC.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(third), 0, 0))


def pivot(root: str, old: str) -> None:
    """Make ``root`` the root and let go of the earlier one, which passes through ``root``/``old``."""
    os.chdir(root)
    check(LIBC.pivot_root(b".", old.encode()), "pivot_root")
    os.chdir("/")
    umount("/" + old)
    os.rmdir("/" + old)


def clone_tree(path: str, *, read_only: bool = True) -> int:
    """Descriptor of a detached copy of the mounts at ``path``, submounts too.

    Read-only is set on every submount: MS_REMOUNT would reach the top one only.
    """
    flags = _OPEN_TREE_CLONE | _AT_RECURSIVE | os.O_CLOEXEC
    tree = check(LIBC.syscall(_SYS_OPEN_TREE, _AT_FDCWD, os.fsencode(path), flags), f"open_tree {path}")
    attributes = _MountAttr(MS_NOSUID | MS_NODEV | (MS_RDONLY if read_only else 0), 0, 0, 0)
    reference = ctypes.byref(attributes)
    result = LIBC.syscall(_SYS_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH | _AT_RECURSIVE, reference, 32)
    check(result, f"mount_setattr {path}")
    return tree


def attach_tree(tree: int, target: str) -> None:
    """Show a detached tree at ``target`` and close its descriptor."""
    result = LIBC.syscall(_SYS_MOVE_MOUNT, tree, b"", _AT_FDCWD, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH)
    check(result, f"move_mount {target}")
    os.close(tree)


def bind(source: str, target: str, flags: int = 0) -> None:
    """One mount shown at a second place, with ``flags`` set on it."""
    mount(source, target, None, MS_BIND)
    if flags:
        mount(None, target, None, MS_BIND | MS_REMOUNT | flags)


def drop_bounding_set() -> None:
    """No exec can ever give a capability again."""
    for capability in range(64):
        if prctl(PR_CAPBSET_DROP, capability) < 0:
            break
    prctl(PR_CAP_AMBIENT, 4)  # 4 = clear all


def install_filter(program: bytes) -> None:
    """Confine this process, and all that it will start, to the seccomp program (raw BPF instructions)."""
    check(prctl(PR_SET_NO_NEW_PRIVS, 1), "no_new_privs")
    instructions = ctypes.create_string_buffer(program, len(program))
    header = _FilterProgram(len(program) // 8, ctypes.addressof(instructions))
    check(int(LIBC.prctl(PR_SET_SECCOMP, 2, ctypes.byref(header), 0, 0)), "seccomp")
