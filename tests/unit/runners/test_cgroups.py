"""Cgroups of this machine: what is set is what the kernel says."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace

import pytest

from runners.backends.slot.cgroups import Cgroups
from runners.types import MIB, Limits
from tests import stack
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user has no cgroups here")


@pytest.fixture
def cgroups() -> Iterator[Cgroups]:
    made = Cgroups(f"{stack.current.cgroup}-unit")
    yield made
    made.close()
    assert not any(top.folder.exists() for top in made._tops.values())


def read(cgroups: Cgroups, controller: str, name: str) -> str:
    (folder,) = [entry for entry in cgroups._tops[controller].folder.iterdir() if entry.is_dir()]
    return (folder / name).read_text().strip()


def test_limits(cgroups: Cgroups) -> None:
    group = cgroups.make(Limits())
    for limits in (
        Limits(memory_bytes=64 * MIB, processes=9, cpu_count=0.5),
        Limits(memory_bytes=512 * MIB, processes=99, cpu_count=2),
        Limits(memory_bytes=100 * MIB),
    ):
        group.set(limits)
        group.set(limits)
        if not cgroups._tops["memory"].is_v2:
            assert read(cgroups, "memory", "memory.limit_in_bytes") == str(limits.memory_bytes)
            assert read(cgroups, "cpu", "cpu.cfs_quota_us") == str(round(20_000 * limits.cpu_count))
        assert read(cgroups, "pids", "pids.max") == str(limits.processes + 3)
    group.free_cpu()
    group.set(Limits(memory_bytes=100 * MIB))
    assert group.memory_bytes() >= 0 and group.oom_kills() == 0 and not group.has_new_oom_kills()
    group.close()


def test_names_are_never_used_again(cgroups: Cgroups) -> None:
    first = cgroups.make(Limits())
    folders = set(first._folders.values())
    first.close()
    second = cgroups.make(replace(Limits(), processes=5))
    assert not folders & set(second._folders.values())
    second.close()


def test_close_kills_who_is_left(cgroups: Cgroups) -> None:
    group = cgroups.make(Limits())
    process = subprocess.Popen(["sleep", "100"])
    for member in group.open_members():
        os.write(member, str(process.pid).encode())
        os.close(member)
    group.close()
    wait_until(lambda: process.poll() is not None, 20, "the end of the process")
