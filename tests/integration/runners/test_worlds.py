"""What a slot or a world that cannot be built costs: itself, and nothing that lives beside it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runners.backends.base import Live
from runners.backends.slot import slot as slots
from runners.backends.slot import sockets, stock, worlds
from runners.backends.slot.backend import SlotBackend
from runners.backends.slot.cgroups import Cgroups, _places
from runners.backends.slot.guest.birth import Order
from runners.backends.slot.pool import Builder
from runners.backends.slot.slot import Owner, SlotBroken
from runners.backends.slot.starter import World, WorldSpec
from runners.backends.slot.worlds import Worlds
from runners.runner import Runner
from runners.types import Limits, RunSpec
from tests import boxes
from tests import stack as services
from tests.boxes import output
from tests.processes import children, descendants
from tests.waiting import wait_until

SET = {"python": "x = 41", "node": "globalThis.x = 41"}
"""By language, what a session keeps."""


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Runner]:
    """A runner that a test may break."""
    made = boxes.start_runner(tmp_path, "auto", slots=1, languages=("python", "node"))
    yield made
    made.close()


def builder_of(runner: Runner) -> Builder:
    assert isinstance(runner._backend, SlotBackend)
    return runner._backend._builder


def worlds_of(runner: Runner) -> Worlds:
    return builder_of(runner)._worlds


def is_stocked(runner: Runner) -> bool:
    """Whether nothing more is built ahead."""
    assert isinstance(runner._backend, SlotBackend)
    return all(map(runner._backend._pool.count, map(stock._is_plain, (False, True))))


def inner_pids(pid: int) -> list[str]:
    """Its pid in each of its namespaces, the outermost first; of one that is gone an empty one."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return [""]
    return next(line for line in text.splitlines() if line.startswith("NSpid:")).split()[1:]


def master(world: World, *, preloaded: bool) -> int:
    """Pid of a master: one is pid 1 of the world, the other the first process that is born there."""
    (plain,) = children(world._process.pid)
    if not preloaded:
        return plain
    (second,) = [pid for pid in children(plain) if inner_pids(pid)[-1] == "2"]
    return second


def session(runner: Runner, home: Path, language: str) -> Live:
    """One that keeps something."""
    (home / "workspaces" / language).mkdir(mode=0o700)
    live = runner.open(language=language, workspace=language, limits=Limits())
    assert live.run(RunSpec(language, SET[language])).exit_code == 0
    return live


@contextlib.contextmanager
def no_forks(builder: Builder, pid: int) -> Iterator[None]:
    """The kernel refuses the process one more of its kind."""
    if not builder._cgroups:
        pytest.skip("only a cgroup holds another process's number of children")
    group = builder._cgroups.make(Limits())
    folder = group._folders["pids"]
    (folder / "cgroup.procs").write_text(str(pid))
    (folder / "pids.max").write_text("0")
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):  # back to where this process is, for `close` kills who is left
            (_places()["pids"].folder / "cgroup.procs").write_text(str(pid))
        group.close()


@pytest.mark.parametrize("language", list(SET))
def test_a_master_that_cannot_fork_goes_on_serving(own: Runner, tmp_path: Path, language: str) -> None:
    builder, world = builder_of(own), worlds_of(own)._current
    preloaded = language == "python"
    live = session(own, tmp_path, language)
    with no_forks(builder, master(world, preloaded=preloaded)), pytest.raises(SlotBroken, match="died while"):
        builder.build(preloaded=preloaded)
    slot = builder.build(preloaded=preloaded)
    assert slot.world is world
    builder.destroy(slot)
    assert live.run(RunSpec(language, "x + 1")).result == "42"


def marks(*descriptors: int) -> list[tuple[int, int]]:
    """What tells the open files from all others."""
    return [(found.st_dev, found.st_ino) for found in map(os.fstat, descriptors)]


def held(wanted: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Those of the files that this process still has open."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found += marks(int(entry.name))
    return [mark for mark in wanted if mark in found]


@pytest.mark.parametrize("where", ["order", "pidfd_open", "read_proc"])
def test_a_failed_build_leaves_nothing_open(own: Runner, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    builder, world, me = builder_of(own), worlds_of(own)._current, threading.get_ident()
    group = builder._cgroups.make(Limits()) if builder._cgroups else None
    index = builder._take_index(-1)
    opened: list[tuple[int, int]] = []

    def pair(kind: int) -> tuple[socket.socket, socket.socket]:
        both = socket.socketpair(socket.AF_UNIX, kind)
        if threading.get_ident() == me:
            opened.extend(marks(*(end.fileno() for end in both)))
        return both

    def await_ready(control: socket.socket) -> tuple[int, int]:
        pid, proc = real_await_ready(control)
        if threading.get_ident() == me:
            opened.extend(marks(proc))
        return pid, proc

    def fail(*_: object, **__: object) -> None:
        raise OSError("no room for it")

    real_await_ready = slots._await_ready
    monkeypatch.setattr(sockets, "pair", pair)
    monkeypatch.setattr(slots, "_await_ready", await_ready)
    monkeypatch.setattr({"order": world, "pidfd_open": os, "read_proc": slots}[where], where, fail)
    with pytest.raises(OSError, match="no room for it"):
        slots.build(world, Order(index), Owner(index, -1), group)
    assert opened and not held(opened)
    assert not group or not any(folder.exists() for folder in group._folders.values())


def test_a_dead_preloaded_master_is_replaced_and_sessions_beside_it_stay(own: Runner, tmp_path: Path) -> None:
    world = worlds_of(own)._current
    beside, within = session(own, tmp_path, "node"), session(own, tmp_path, "python")
    wait_until(lambda: is_stocked(own), 30, "the end of what else is being built")
    pid = master(world, preloaded=True)
    mine = [pid, *descendants(pid)]
    os.kill(pid, 9)
    wait_until(lambda: not any(Path(f"/proc/{each}").exists() for each in mine), 30, "the end of its slots")
    assert output(own.run(RunSpec("python", "import json\nprint(json.dumps(1))"))) == "1"
    assert worlds_of(own)._current is not world
    assert beside.run(RunSpec("node", "x + 1")).result == "42"
    assert within.run(RunSpec("python", "x")).state_lost
    beside.close()


class Interleaved(dict[str, Any]):
    """Calls what it is given when somebody first looks through it, as if another thread came in between."""

    def __init__(self, content: dict[str, Any], then: Callable[[], object]) -> None:
        super().__init__(content)
        self._then: list[Callable[[], object]] = [then]

    def items(self) -> Any:
        if self._then:
            self._then.pop()()
        return super().items()


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user has no cgroups here")
def test_groups_made_at_once_have_names_of_their_own() -> None:
    cgroups = Cgroups(f"{services.current.cgroup}-at-once")
    made = []
    try:
        cgroups._tops = Interleaved(cgroups._tops, lambda: made.append(cgroups.make(Limits())))
        made.append(cgroups.make(Limits()))
        first, second = (set(group._folders.values()) for group in made)
        assert not first & second
        for group in made:
            group.close()
    finally:
        cgroups.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user has no cgroups here")
def test_a_group_that_takes_no_limits_is_removed() -> None:
    cgroups = Cgroups(f"{services.current.cgroup}-no-limits")
    try:
        with pytest.raises(OSError, match="Invalid argument"):
            cgroups.make(Limits(processes=-9))
        assert not any(list(top.folder.glob("slot-*")) for top in cgroups._tops.values())
    finally:
        cgroups.close()


def test_the_stock_outlives_whatever_befalls_a_build(own: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(own._backend, SlotBackend)
    filler, pool = own._backend._stock, own._backend._pool
    failed = threading.Event()

    def fail(**_: object) -> None:
        failed.set()
        raise subprocess.TimeoutExpired("world", 5)

    wait_until(lambda: is_stocked(own), 30, "the first slots")
    with monkeypatch.context() as broken:
        broken.setattr(pool, "add", fail)
        pool.drop(lambda slot: True)
        filler._missing.set()
        assert failed.wait(30)
    filler._missing.set()
    wait_until(lambda: is_stocked(own), 30, "the slots that are built after a failure")


def test_a_world_that_will_not_end_is_given_up(own: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    builder, world = builder_of(own), worlds_of(own)._current

    def stays(timeout: float) -> int:
        raise subprocess.TimeoutExpired("world", timeout)

    wait_until(lambda: is_stocked(own), 30, "the end of what else is being built")
    index = builder.build().owner.index
    monkeypatch.setattr(worlds, "AGE_MAX_S", 0.0)
    worlds_of(own).release(worlds_of(own).acquire())
    with monkeypatch.context() as stuck:
        stuck.setattr(world._process, "wait", stays)
        for slot in list(builder._living.values()):
            if slot.world is world:
                builder.destroy(slot)
    assert index in builder._free_indexes and world not in worlds_of(own)._slots
    world._process.wait(20)


def test_no_new_world_is_tried_right_after_one_that_failed(own: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def fail(spec: WorldSpec) -> World:
        tried.append(spec)
        raise OSError("no room for it")

    wait_until(lambda: is_stocked(own), 30, "the end of what else is being built")
    found = worlds_of(own)
    monkeypatch.setattr(worlds, "World", fail)
    monkeypatch.setattr(worlds, "RETRY_S", 3600.0)
    monkeypatch.setattr(worlds, "AGE_MAX_S", 0.0)
    for _ in range(2):
        assert found.acquire() is found._current, "an old one serves on"
        found.release(found._current)
    assert len(tried) == 1
    found._current._process.kill()
    found._current._process.wait(20)
    for _ in range(2):
        with pytest.raises(OSError, match="no room for it"):
            found.acquire()
    assert len(tried) == 1
    found._next_try_s = 0.0
    monkeypatch.setattr(worlds, "World", World)
    assert found.acquire().is_alive
    found.release(found._current)


def test_a_world_that_cannot_be_started_leaves_nothing_open(own: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[tuple[int, int]] = []

    def fail(_: object, *, pass_fds: tuple[int, ...], stderr: int, **__: object) -> None:
        opened.extend(marks(*pass_fds, stderr))
        raise OSError("no room for it")

    wait_until(lambda: is_stocked(own), 30, "the end of what else is being built")
    monkeypatch.setattr(subprocess, "Popen", fail)
    with pytest.raises(OSError, match="no room for it"):
        World(worlds_of(own).spec)
    assert len(opened) == 4 and not held(opened)
