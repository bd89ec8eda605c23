"""A program of its own: from the request to the result, in a slot that is taken for it."""

from __future__ import annotations

import marshal
import os
import re
import resource
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from runners import tree
from runners.backends.base import Hooks
from runners.backends.slot.diskwatch import PAUSE_S, DiskWatch, Stop
from runners.backends.slot.exchange import Ended, Exchange, open_wires
from runners.backends.slot.slot import Slot, SlotBroken, memory_file
from runners.backends.slot.watchdog import WATCH_S, Watchdog
from runners.languages import LANGUAGES
from runners.types import Changes, Limits, RunResult, RunSpec, Status, Terminal, Usage

DATA_FILE = ".session_data.json"
_MAY_LOOK = re.compile(
    r"session_data|open|read|file|File|path|Path|dir|glob|walk|stat|exec|eval|spawn|system|getattr|__"
    r"|require|subprocess|import\(|Deno|\b(os|io|fs)\b"
)
"""What a program that looks into its folder has in its code, one way or another."""
KILLED_CODE = 137
TIMEOUT_CODE = 124
_AS_SLACK_BYTES = 4 << 30


@dataclass(frozen=True)
class Terms:
    """What holds for every run of a backend."""

    strangers: bool
    """User code has a uid that the runner can neither be nor give files to."""
    cgroups: bool
    workspaces: str
    """Host folder of all session workspaces."""


def rlimits(limits: Limits, terms: Terms, *, is_python: bool) -> list[tuple[int, int, int]]:
    """What the child sets on itself where no cgroup holds it."""
    memory = limits.memory_bytes
    wanted = {resource.RLIMIT_FSIZE: max(memory, limits.workspace_bytes)}
    if not terms.cgroups:
        wanted[resource.RLIMIT_NPROC] = limits.processes + 2  # pid 1 counts where the uid is shared
    if (
        is_python and not terms.cgroups
    ):  # the engines of the other languages reserve far more address space than they use
        wanted[resource.RLIMIT_DATA] = 2 * memory
        wanted[resource.RLIMIT_AS] = max(_AS_SLACK_BYTES, 8 * memory)  # bounds page tables
    return [(kind, value, value) for kind, value in wanted.items()]


def run_python(slot: Slot, spec: RunSpec, hooks: Hooks, terms: Terms) -> RunResult:
    """Run Python in the slot's parked child.

    Raises:
        SlotBroken: The slot is to be destroyed.
        OSError: The input files do not fit.
    """
    before = settle(slot, spec, spec.limits)
    wires, ends, _ = open_wires(slot, strangers=terms.strangers, terminal=spec.terminal)
    exchange = Exchange(slot, wires, spec.limits, hooks, pause_s=PAUSE_S if terms.cgroups else WATCH_S)
    try:
        try:
            if spec.terminal:
                ends.append(os.dup(spec.terminal.stdin))
            elif spec.stdin:
                ends.append(memory_file("stdin", spec.stdin))
            slot.send(_request(spec, terms), ends)
        finally:
            for end in ends:
                os.close(end)
        exchange.watches = watches(slot, spec.limits, terms)
        exchange.start_clock()
        try:
            return conclude(exchange, exchange.wait(), before)
        except SlotBroken:
            if result := salvage(exchange):
                return result
            raise
    finally:
        wires.close()


def _request(spec: RunSpec, terms: Terms) -> dict[str, object]:
    return {
        "kind": "python",
        "code": spec.code,
        "args": list(spec.args),
        "env": dict(spec.env),
        "limits": rlimits(spec.limits, terms, is_python=True) if spec.workspace or not terms.cgroups else [],
        "stdin": bool(spec.stdin or spec.terminal),
        "channel": False,
        "tty": is_tty(spec.terminal),
        "fork_start": "rocess" in spec.code,
    }


def is_tty(terminal: Terminal | None) -> bool:
    """Whether the program gets a controlling terminal."""
    return terminal is not None and terminal.master is not None


def disk_watch(slot: Slot, limits: Limits, terms: Terms) -> DiskWatch:
    """A watch on the session's folder that the slot works in."""
    return DiskWatch(f"{terms.workspaces}/{slot.order.workspace}", limits, slot.proc)


def watches(
    slot: Slot, limits: Limits, terms: Terms, disk: DiskWatch | None = None
) -> tuple[Callable[[], Stop | None], ...]:
    """What has to be looked at from outside while a run goes on; ``disk`` has been watching already."""
    looks: list[Callable[[], Stop | None]] = []
    if not terms.cgroups:
        looks.append(Watchdog(slot, limits).look)
    if slot.order.workspace:
        looks.append((disk or disk_watch(slot, limits, terms)).look)
    return tuple(looks)


def settle(slot: Slot, spec: RunSpec, limits: Limits) -> tree.Listing | None:
    """Set the slot to the limits and lay the run's files in; returns what then lies in the workspace."""
    if slot.group:
        try:
            slot.group.set(limits)
            slot.group.reset_peak()
        except OSError as error:
            raise SlotBroken(f"its limits cannot be set: {error}") from error
    if spec.workspace:
        return None
    slot.bound_files(spec.limits)
    files = [(file.path, file.mode, file.content) for file in spec.files]
    files += _own_files(spec)
    return lay_in(slot, files) if files else None


def _own_files(spec: RunSpec) -> list[tuple[str, int, bytes]]:
    """Files that are there for every program, laid in only where it may look for them.

    An untouched workspace is what makes the next run cheap; with files of the run's own it is none.
    """
    files = []
    if spec.files or _MAY_LOOK.search(spec.code):
        files.append((DATA_FILE, 0o644, spec.data))
    if spec.language != "deno" and keeps_source(spec):  # deno's driver lays it itself
        files.append((LANGUAGES[spec.language].file_name, 0o644, spec.code.encode()))
    return files


def keeps_source(spec: RunSpec) -> bool:
    """Whether the program's source lies in its folder while it runs."""
    language = LANGUAGES[spec.language]
    if spec.workspace or any(file.path == language.file_name for file in spec.files):
        return False
    words = [word.encode() for word in language.self_words]
    return any(word in text for text in (spec.code.encode(), *(file.content for file in spec.files)) for word in words)


def lay_in(slot: Slot, files: list[tuple[str, int, bytes]]) -> tree.Listing:
    """Have the helper write the files into the fresh workspace."""
    index = marshal.dumps([(path, mode, len(content)) for path, mode, content in files])
    contents = (content for _, _, content in files)
    packed = memory_file("files", b"".join((struct.pack("<q", len(index)), index, *contents)))
    try:
        workspace = slot.ask(b"f", [packed])
    finally:
        os.close(packed)
    try:
        return tree.scan(workspace, ignored=frozenset({DATA_FILE}))
    finally:
        os.close(workspace)


def conclude(
    exchange: Exchange, ended: Ended, before: tree.Listing | None, ignored: frozenset[str] = frozenset()
) -> RunResult:
    """The result of a run that pid 1 has answered for; files that are ignored are none of its changes."""
    slot = exchange.slot
    changes = None
    if ended.workspace >= 0:
        try:
            changes = compare(before, tree.scan(ended.workspace, ignored=ignored | {DATA_FILE}))
        finally:
            os.close(ended.workspace)
    elif not slot.order.workspace:
        changes = Changes()
    slot.runs += 1
    status, reason = exchange.stopped, exchange.reason
    compiling = exchange.compiling
    if compiling and not status and compiling.exit_code is not None:
        status = Status.COMPILE_ERROR
    if slot.group and slot.group.has_new_oom_kills() and not status:
        status, reason = Status.OUT_OF_MEMORY, "The kernel ended it at its memory limit."
    code = os.waitstatus_to_exitcode(ended.wait_status)
    number = -code if code < 0 else None
    peak_bytes = (slot.group and slot.group.peak_bytes()) or ended.peak_bytes
    if ended.is_last:
        slot.destroy()
    return RunResult(
        status=status or (Status.FAILED if code else Status.SUCCEEDED),
        exit_code=_exit_code(status, code),
        signal=number,
        stdout=exchange.collectors[0].kept(),
        stderr=exchange.collectors[1].kept(),
        usage=Usage(
            ended.cpu_time_s,
            peak_bytes,
            exchange.wall_time_s,
            compiling.compile_time_s if compiling else None,
        ),
        changes=changes,
        reason=reason,
    )


def salvage(exchange: Exchange) -> RunResult | None:
    """The result of a run in whose midst the slot broke, if the run is known to be the reason; ends the slot."""
    slot, status = exchange.slot, exchange.stopped
    reason = exchange.reason
    if not status and slot.group and slot.group.has_new_oom_kills():
        status, reason = Status.OUT_OF_MEMORY, "The kernel ended it at its memory limit."
    slot.destroy()
    if not status:
        return None
    exchange.drain()
    return RunResult(
        status=status,
        exit_code=_exit_code(status, -KILLED_CODE + 128),
        signal=9,
        stdout=exchange.collectors[0].kept(),
        stderr=exchange.collectors[1].kept(),
        usage=Usage(wall_time_s=time.monotonic() - exchange.started_at_s),
        changes=None if slot.order.workspace else Changes(),
        reason=reason,
    )


def _exit_code(status: Status | None, code: int) -> int:
    if status is Status.TIMED_OUT:
        return TIMEOUT_CODE
    if status and status is not Status.COMPILE_ERROR:
        return KILLED_CODE
    return 128 - code if code < 0 else code


def compare(before: tree.Listing | None, after: tree.Listing) -> Changes:
    """What differs between two listings."""
    old = before.marks if before else {}
    created = sorted(path for path in after.marks if path not in old)
    changed = sorted(path for path, mark in after.marks.items() if path in old and old[path] != mark)
    deleted = sorted(path for path in old if path not in after.marks)
    return Changes(tuple(created), tuple(changed), tuple(deleted))
