"""The filter, simulated: what each wall lets through and what not."""

from __future__ import annotations

import pytest

from runners.backends.slot.seccomp import (
    ALLOW,
    ALLOWED,
    DENIED,
    ENOSYS,
    EPERM,
    KILL,
    Walls,
    assemble,
    numbers,
    simulate,
)

NUMBERS = numbers("x86_64")
ALL = [Walls(shared_uid=shared, cgroups=cgroups) for shared in (False, True) for cgroups in (False, True)]
DONE = 0x00050000
PROGRAMS = {walls: assemble(walls, "x86_64") for walls in ALL}


def ask(walls: Walls, name: str, *arguments: int) -> int:
    return simulate(PROGRAMS[walls], "x86_64", NUMBERS[name], arguments)


@pytest.mark.parametrize("walls", ALL, ids=str)
def test_every_call_of_the_table(walls: Walls) -> None:
    checked = {"clone", "unshare", "socket", "ioctl", "prlimit64", "setrlimit", "fcntl", "pidfd_open", "setsockopt"}
    checked |= {"kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "setpriority", "ioprio_set"}
    checked |= {"sched_setattr", "sched_setparam", "sched_setscheduler", "sched_setaffinity", "memfd_create"}
    checked |= {"shmget", "semget", "msgget", "socketpair"}
    for name in NUMBERS:
        answer = ask(walls, name, 2, 2, 2)
        if name in checked:
            continue
        wanted = ALLOW if name in ALLOWED else EPERM if name in DENIED else ENOSYS
        assert answer == wanted, name
    assert not set(ALLOWED) & set(DENIED)


@pytest.mark.parametrize("walls", ALL, ids=str)
def test_namespaces_sockets_and_other_machines(walls: Walls) -> None:
    for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert ask(walls, "clone", flag | 17) == EPERM
        assert ask(walls, "unshare", flag) == (ALLOW if flag in (0x8000000, 0x40000000) else EPERM)
    assert ask(walls, "clone", 0x01200011) == ALLOW
    assert ask(walls, "clone3") == ENOSYS
    for family in range(48):
        for call in ("socket", "socketpair"):
            assert (ask(walls, call, family, 3, 0) == ALLOW) == (family in (1, 2, 10, 16)), (call, family)
    assert ask(walls, "socket", 16, 3, 2) != ALLOW
    for command in (0x5412, 0x541C, 0x5423):  # TIOCSTI, TIOCLINUX, TIOCSETD
        assert ask(walls, "ioctl", 0, command) == EPERM
    assert ask(walls, "ioctl", 0, 0x5413) == ALLOW
    assert simulate(PROGRAMS[walls], "aarch64", 0) == KILL
    assert simulate(PROGRAMS[walls], "x86_64", 0x40000000 | 1) == KILL
    assert simulate(PROGRAMS[walls], "x86_64", 600) == ENOSYS


@pytest.mark.parametrize("walls", ALL, ids=str)
def test_limits_that_stay(walls: Walls) -> None:
    assert ask(walls, "prlimit64", 0, 7, 5) == ALLOW
    assert ask(walls, "prlimit64", 0, 4, 0) == ALLOW and ask(walls, "prlimit64", 0, 4, 5) == EPERM
    assert ask(walls, "setrlimit", 4) == EPERM and ask(walls, "setrlimit", 7) == ALLOW


@pytest.mark.parametrize("walls", ALL, ids=str)
def test_pid1(walls: Walls) -> None:
    kept = EPERM if walls.shared_uid else ALLOW
    for name in ("kill", "tkill", "rt_sigqueueinfo", "sched_setattr", "sched_setparam", "sched_setscheduler"):
        assert ask(walls, name, 1, 9) == kept and ask(walls, name, (1 << 32) + 1, 9) == kept
        assert ask(walls, name, 2, 9) == ALLOW and ask(walls, name, 0xFFFFFFFF, 9) == ALLOW
    assert ask(walls, "sched_setaffinity", 1, 9) == (kept if walls.cgroups else EPERM)
    assert ask(walls, "pidfd_open", 1) == EPERM and ask(walls, "pidfd_open", 2) == ALLOW
    assert ask(walls, "tgkill", 2, 1, 9) == kept and ask(walls, "tgkill", 1, 2, 9) == kept
    assert ask(walls, "prlimit64", 1, 7, 5) == kept
    for which, who, answer in ((2, 0, kept), (0, 1, kept), (0, 0, ALLOW), (1, 0, kept)):
        assert ask(walls, "setpriority", which, who, 5) == answer
    assert ask(walls, "ioprio_set", 3, 0) == kept and ask(walls, "ioprio_set", 1, 0) == ALLOW
    assert ask(walls, "fcntl", 3, 8, 1) == kept and ask(walls, "fcntl", 3, 15, 77) == kept
    assert ask(walls, "fcntl", 3, 8, 2) == ALLOW == ask(walls, "fcntl", 3, 4, 2048)
    assert ask(walls, "ioctl", 3, 0x8901) == kept


@pytest.mark.parametrize("walls", ALL, ids=str)
def test_memory_that_no_figure_shows(walls: Walls) -> None:
    assert ask(walls, "fcntl", 3, 1031, 9) == (ALLOW if walls.cgroups else EPERM)
    for option in (7, 8):
        assert ask(walls, "setsockopt", 3, 1, option) == (ALLOW if walls.cgroups else DONE)
    for level, option in ((1, 2), (6, 7), (1, 9)):
        assert ask(walls, "setsockopt", 3, level, option) == ALLOW
    for name in ("memfd_create", "shmget", "semget", "msgget"):
        assert ask(walls, name) == (ALLOW if walls.cgroups else ENOSYS)
    assert ask(walls, "sched_setaffinity") == (ALLOW if walls.cgroups else EPERM)
