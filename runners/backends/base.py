"""What every backend offers to the runner."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from runners.cancel import Cancel
from runners.types import Enforcement, Limits, OnOutput, RunResult, RunSpec, Snapshot


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the caller of a run wants to hear, and how it may stop it."""

    on_output: OnOutput | None = None
    on_start: Callable[[], None] | None = None
    cancel: Cancel | None = None


class Live(Protocol):
    """A sandbox that stays: its interpreter keeps its state from run to run."""

    language: str
    workspace: str

    @property
    def is_alive(self) -> bool:
        """Whether the interpreter still answers."""
        ...

    def run(
        self,
        spec: RunSpec,
        *,
        on_output: OnOutput | None = None,
        on_start: Callable[[], None] | None = None,
        cancel: Cancel | None = None,
    ) -> RunResult:
        """Run in the kept interpreter; see `Runner.run`."""
        ...

    def interrupt(self) -> None:
        """SIGINT to the current run."""
        ...

    def freeze(self) -> None:
        """Stop every process of it where it stands."""
        ...

    def thaw(self) -> None:
        """Let them go on."""
        ...

    def memory_bytes(self) -> int:
        """What it holds now."""
        ...

    def excess(self) -> str | None:
        """Between runs: why it has to end, if it holds more than it may."""
        ...

    def snapshot(self, *, timeout_s: float) -> Snapshot | None:
        """What the interpreter could save of its state."""
        ...

    def restore(self, content: bytes, *, timeout_s: float) -> tuple[str, ...]:
        """Bring a saved state back; returns names that were lost."""
        ...

    def close(self) -> None:
        """End it, with everything in it."""
        ...


class Backend(Protocol):
    """Runs programs that nobody trusts."""

    enforcement: Enforcement

    def run(self, spec: RunSpec, hooks: Hooks) -> RunResult:
        """Run to the end; what user code does is a result, never an exception."""
        ...

    def open(self, *, language: str, workspace: str, limits: Limits) -> Live:
        """A sandbox that stays."""
        ...

    def close(self) -> None:
        """Kill everything; leave no process, mount or cgroup."""
        ...
