"""What a slot or a world that cannot be built costs: itself, and nothing that lives beside it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from runners.backends.base import Live
from runners.backends.slot.backend import SlotBackend
from runners.backends.slot.cgroups import _places
from runners.backends.slot.pool import Builder
from runners.backends.slot.slot import SlotBroken
from runners.backends.slot.starter import World
from runners.backends.slot.worlds import Worlds
from runners.runner import Runner
from runners.types import Limits, RunSpec
from tests import boxes

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


def children(pid: int) -> list[int]:
    """Pids of the direct ones."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError):
                continue
            if parent == pid:
                found.append(int(entry.name))
    return found


def inner_pids(pid: int) -> list[str]:
    """Its pid in each of its namespaces, the outermost first."""
    text = Path(f"/proc/{pid}/status").read_text()
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
