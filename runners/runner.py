"""The only place where somebody else's program is started."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from runners.backends.base import Backend, Hooks, Live
from runners.backends.slot import backend as slot_backend
from runners.cancel import Cancel
from runners.languages import LANGUAGES
from runners.types import Enforcement, Limits, OnOutput, RunResult, RunSpec

VERSION_TIMEOUT_S = 20.0
PARKED = {"node": 1, "typescript": 1, "deno": 1}
"""Some 20 MB each."""


@dataclass(frozen=True)
class RunnerConfig:
    """Where a runner finds what it needs, and how much it may have."""

    runtimes: Path
    """Folder with python/ node/ deno/ go/ gocache/; read-only."""
    workspaces: Path
    """Folder of all session workspaces."""
    run_dir: Path
    """Private scratch of the runner."""
    mode: str = "auto"
    """auto, root, sub or one."""
    strict: bool = False
    """Build the slot anew after each run: nothing is reused."""
    slots: int = 4
    live: int = 16
    languages: tuple[str, ...] = ("python", "node", "typescript", "go", "deno")
    uid_base: int | None = None
    uid_count: int = 0
    cgroup: str | None = None
    """Name of the runner's own subtree; two living runners need two names."""
    parked: Mapping[str, int] = field(default_factory=lambda: dict(PARKED))
    """Language -> children that are kept booted ahead; of languages that are not offered none."""
    usual: Limits = field(default_factory=Limits)
    """What most runs have: children that are booted ahead serve these."""


class Runner:
    """Runs programs that nobody trusts. Thread-safe; `start` makes one."""

    def __init__(self, backend: Backend, versions: Mapping[str, str]) -> None:
        """Use `start`."""
        self._backend = backend
        self.enforcement: Enforcement = backend.enforcement
        self.versions = versions

    @classmethod
    def start(cls, config: RunnerConfig) -> Runner:
        """A runner that has really run a program in its sandbox.

        Raises:
            SandboxUnavailable: One sentence with what to do.
        """
        backend = slot_backend.start(
            slot_backend.SlotConfig(
                runtimes=config.runtimes,
                workspaces=config.workspaces,
                run_dir=config.run_dir,
                mode=config.mode,
                strict=config.strict,
                once=config.slots,
                live=config.live,
                cgroup=config.cgroup or "",
                uid_base=config.uid_base,
                uid_count=config.uid_count,
                parked={name: count for name, count in config.parked.items() if name in config.languages},
                usual=config.usual,
            )
        )
        return cls(backend, _versions(config))

    def run(
        self,
        spec: RunSpec,
        *,
        on_output: OnOutput | None = None,
        on_start: Callable[[], None] | None = None,
        cancel: Cancel | None = None,
    ) -> RunResult:
        """Run a program to its end and say how it ended; blocks, from any thread.

        User code that fails is a result, never an exception.

        Args:
            spec: the program and everything it is given.
            on_output: called on this thread with raw output as it is read.
            on_start: called when the program is handed to its sandbox, where the wall clock starts.
            cancel: lets another thread stop the run.
        """
        return self._backend.run(spec, Hooks(on_output, on_start, cancel))

    def open(self, *, language: str, workspace: str, limits: Limits) -> Live:
        """A sandbox that stays, for a session's live interpreter.

        Raises:
            SandboxUnavailable: It could not be built.
        """
        return self._backend.open(language=language, workspace=workspace, limits=limits)

    def close(self) -> None:
        """Kill everything; leave no process, mount or cgroup. More calls do nothing."""
        self._backend.close()


def _versions(config: RunnerConfig) -> dict[str, str]:
    """Language -> version, as its program says; one that cannot say is not offered."""
    versions = {}
    for name in config.languages:
        language = LANGUAGES[name]
        runtimes = str(config.runtimes)
        try:
            done = subprocess.run(
                language.version.argv(runtimes=runtimes),
                env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"} | language.version.env(runtimes=runtimes),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=VERSION_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        if version := language.read_version(done.stdout):
            versions[name] = version
    return versions
