"""Ways to have two uids, or one, inside: what each needs of the host, and what is said about it."""

from __future__ import annotations

import os
import pwd
import shutil
from pathlib import Path

from runners.types import Enforcement

_UIDS = {
    "root": "two host uids of its own",
    "sub": "two subordinate uids of its own",
    "one": "this server's uid, shared",
}
_BY_CGROUP = {
    "memory": "kernel (cgroup)",
    "processes": "kernel (cgroup)",
    "cpu": "kernel (cgroup quota)",
}
_WITHOUT = {
    "memory": "watched every 10 ms, can overshoot by about the limit",
    "processes": "kernel (RLIMIT_NPROC in a user namespace)",
    "cpu": "pinned to one core, no share",
}


def candidates(wanted: str) -> tuple[str, ...]:
    """The modes to try, in this order."""
    if wanted != "auto":
        return (wanted,)
    return ("root",) if os.geteuid() == 0 else ("sub", "one")


def enforcement(mode: str, *, cgroups: bool) -> Enforcement:
    """How limits are held, in words for people."""
    held = dict(_BY_CGROUP if cgroups else _WITHOUT)
    held["workspace"] = "kernel (tmpfs size and inodes)"
    held["network"] = "kernel (a network namespace with nothing but loopback)"
    held["uid"] = _UIDS[mode]
    return Enforcement("slot", mode, held)


def sub_ranges(wanted: int) -> tuple[str, tuple[int, int], tuple[int, int]]:
    """Folder of newuidmap, and the user's ranges (first, count) of subordinate uids and gids.

    Raises:
        OSError: There are none, or too few.
    """
    mapper = shutil.which("newuidmap")
    if not mapper or not shutil.which("newgidmap"):
        raise OSError("newuidmap is not installed (package uidmap)")
    return str(Path(mapper).parent), _range(Path("/etc/subuid"), wanted), _range(Path("/etc/subgid"), wanted)


def _range(path: Path, wanted: int) -> tuple[int, int]:
    names = {str(os.getuid())}
    try:
        names.add(pwd.getpwuid(os.getuid()).pw_name)
    except KeyError:
        pass  # a uid without a line in passwd
    for line in path.read_text().splitlines():
        name, _, rest = line.partition(":")
        first, _, count = rest.partition(":")
        if name in names and first.isdecimal() and count.isdecimal() and int(count) >= wanted:
            return int(first), int(count)
    raise OSError(f"{path} has no range of {wanted} ids for this user")


def remedy(reasons: list[str]) -> str:
    """What to do about the reasons why no mode works."""
    text = " ".join(reasons)
    if "mount proc" in text:
        return (
            "This container masks /proc: start it with an unmasked one (Docker: --security-opt systempaths=unconfined)."
        )
    if "unshare" in text or "uid_map" in text or "uid map" in text:
        return (
            "User namespaces are forbidden: allow them (sysctl user.max_user_namespaces, "
            "kernel.apparmor_restrict_unprivileged_userns=0, or in Docker a seccomp profile that lets unshare pass)."
        )
    return "Linux 5.14 or newer with user namespaces is needed."
