"""What a runner is told and what it answers: the vocabulary of the sandbox room."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

MIB = 1 << 20

Stream = Literal["stdout", "stderr"]
OnOutput = Callable[[Stream, bytes], None]
"""Called from the run's thread with each stretch of raw output as it is read."""


class Status(StrEnum):
    """How a run ended, as far as a sandbox can tell. Source: the contract's table of statuses."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    COMPILE_ERROR = "compile_error"
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    OUTPUT_LIMIT = "output_limit"
    CANCELLED = "cancelled"
    SANDBOX_ERROR = "sandbox_error"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run may use. Defaults are the contract's."""

    wall_time_s: float = 30.0
    cpu_count: float = 1.0
    memory_bytes: int = 256 * MIB
    processes: int = 128
    compile_time_s: float = 30.0
    kept_bytes: int = 10 * MIB
    """Kept of each stream; past it half is head, half is tail."""
    written_bytes: int = 100 * MIB
    """Written to a stream before the run ends as ``output_limit``."""
    workspace_bytes: int = 4096 * MIB
    workspace_files: int = 100_000


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file laid into the workspace before the run; ``path`` is relative and checked by the caller."""

    path: str
    content: bytes
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class Terminal:
    """What an interactive one-shot is connected to. The descriptors stay the caller's, open until the run has ended."""

    stdin: int
    """Read end of a pipe, or the side of a pseudo terminal that programs use, which is then their output as well."""
    master: int | None = None
    """The other side of the pseudo terminal, not blocking: output is read from it. None: output has its own pipes."""


@dataclass(frozen=True, slots=True)
class RunSpec:
    """One run: a program of ``language`` (canonical name) with everything that it is given."""

    language: str
    code: str
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    """The whole environment that the program gets beside the sandbox's own (PATH, HOME, LANG, TMPDIR, USER)."""
    stdin: bytes = b""
    files: tuple[InputFile, ...] = ()
    """One-shots only: a session's files lie in its workspace already."""
    data: bytes = b"{}"
    """What ``.session_data.json`` holds at the start of a one-shot."""
    limits: Limits = field(default_factory=Limits)
    workspace: str | None = None
    """Name of a folder below the runner's workspaces folder, bound in as /workspace; None: a tmpfs of the run's own."""
    terminal: Terminal | None = None
    """One-shots only: read instead of ``stdin``."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Paths that a run created, changed or deleted (relative, links included, `.session_data.json` not), sorted."""

    created: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """What a run used; None where it was not measured."""

    cpu_time_s: float | None = None
    memory_peak_bytes: int | None = None
    wall_time_s: float = 0.0
    compile_time_s: float | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of one stream: raw bytes, marker line included where something was left out."""

    content: bytes = b""
    written_bytes: int = 0
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended. ``exit_code`` is None only for ``sandbox_error``."""

    status: Status
    exit_code: int | None
    signal: int | None = None
    stdout: Kept = field(default_factory=Kept)
    stderr: Kept = field(default_factory=Kept)
    usage: Usage = field(default_factory=Usage)
    changes: Changes | None = None
    """Of a one-shot's own workspace; None where the workspace is a folder of the caller's (who compares it)."""
    warnings: tuple[str, ...] = ()
    reason: str | None = None
    """One sentence for ``sandbox_error`` and ``out_of_memory``."""
    result: str | None = None
    """Live sessions: the repr of the last expression's value, at most 64 KiB."""
    state_lost: str | None = None
    """Live sessions: why the interpreter did not survive this run; None: it lives."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A live interpreter's state, as far as it could be saved."""

    content: bytes
    lost: tuple[str, ...] = ()
    """Names that could not be saved."""


class SandboxUnavailable(Exception):
    """No sandbox can be had here; the text is one sentence that says what to do."""


@dataclass(frozen=True, slots=True)
class Enforcement:
    """How this node isolates: the backend, its mode, and per limit how it is held, in words for people."""

    backend: str
    mode: str
    limits: Mapping[str, str]
