"""Runs of other languages: the child becomes the language's driver, ahead of its request or at once."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Hashable
from dataclasses import replace

from runners import tree
from runners.backends.base import Hooks
from runners.backends.slot.diskwatch import PAUSE_S
from runners.backends.slot.exchange import Compiling, Exchange, open_wires
from runners.backends.slot.oneshot import Terms, conclude, is_tty, keeps_source, rlimits, salvage, settle, watches
from runners.backends.slot.slot import Prepared, Slot, SlotBroken, fill
from runners.backends.slot.watchdog import WATCH_S
from runners.languages import LANGUAGES, Language, Program
from runners.types import MIB, Limits, RunResult, RunSpec, Terminal

COMPILE_MEMORY_BYTES = 512 * MIB
REQUEST_TIMEOUT_S = 20.0
_PYTHON = "/opt/rt/python/bin/python3"
_NODE = "/opt/rt/node/bin/node"
_DENO = "/opt/rt/deno/deno"


def key_of(language: str, limits: Limits, terms: Terms) -> Hashable:
    """What a driver must have been started with to serve a run: its language, and limits that hold from its start."""
    held = () if terms.cgroups else tuple(rlimits(limits, terms, is_python=False))
    return language, limits.memory_bytes, held


def boot_variables(spec: RunSpec) -> dict[str, str]:
    """Those of the run's environment that its runtime reads when it starts: it cannot have started before."""
    names = LANGUAGES[spec.language].boot_variables
    return {name: value for name, value in spec.env.items() if name.startswith(names)}


def argv_of(program: Program, limits: Limits) -> list[str]:
    """The words to exec; JavaScript engines are told how much memory there is, which they cannot see."""
    first, *rest = program.argv()
    heap = f"--max-old-space-size={limits.memory_bytes // MIB}"
    if first == _NODE:
        return [first, heap, *rest]
    if first == _DENO:
        return [first, rest[0], f"--v8-flags={heap}", *rest[1:]]
    return [first, *rest]


def start_driver(
    slot: Slot, program: Program, limits: Limits, terms: Terms, key: Hashable, terminal: Terminal | None = None
) -> Prepared:
    """Have the parked child become the driver; it boots and waits for its request on descriptor 3."""
    wires, ends, channel_end = open_wires(slot, strangers=terms.strangers, channel=True, terminal=terminal)
    stdin = os.dup(terminal.stdin) if terminal else os.memfd_create("stdin", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    argv = argv_of(program, limits)
    request = {
        # A driver in Python needs no interpreter of its own: the child is one.
        "kind": "script" if argv[0] == _PYTHON else "exec",
        "argv": argv,
        "env": program.env(),
        "limits": rlimits(limits, terms, is_python=False),
        "stdin": True,
        "channel": True,
        "tty": is_tty(terminal),
    }
    prepared = Prepared(key, wires, stdin)
    try:
        assert channel_end is not None
        slot.send(request, [*ends, stdin, channel_end.fileno()])
    except BaseException:
        prepared.close()
        raise
    finally:
        for end in ends:
            os.close(end)
        if channel_end:
            channel_end.close()
    return prepared


def prepare(slot: Slot, language: str, limits: Limits, terms: Terms) -> None:
    """Boot the language's driver in an idle slot, with the limits that most runs have."""
    program = LANGUAGES[language].once
    if program:
        if slot.group:
            slot.group.set(limits)
        slot.prepared = start_driver(slot, program, limits, terms, key_of(language, limits, terms))


def run(slot: Slot, spec: RunSpec, hooks: Hooks, terms: Terms) -> RunResult:
    """Run a program by its language's driver, the one that waits in the slot if there is one.

    Raises:
        SlotBroken: The slot is to be destroyed.
        OSError: The input files do not fit.
    """
    language = LANGUAGES[spec.language]
    limits = _compile_limits(spec.limits) if language.compiles else spec.limits
    before = settle(slot, spec, limits)
    prepared, slot.prepared = slot.prepared, None
    if prepared is None:
        assert language.once is not None
        program = replace(language.once, environment={**language.once.environment, **boot_variables(spec)})
        prepared = start_driver(slot, program, spec.limits, terms, None, spec.terminal)
    ignored = frozenset({language.file_name}) if _is_kept_by_driver(spec) else frozenset()
    try:
        pause_s = PAUSE_S if terms.cgroups else WATCH_S
        exchange = Exchange(slot, prepared.wires, spec.limits, hooks, pause_s=pause_s)
        exchange.watches = watches(slot, limits, terms)
        if language.compiles:
            exchange.compiling = Compiling(lambda: _hold_program(slot, spec, exchange, terms))
        if not spec.terminal:
            fill(prepared.stdin, spec.stdin)
        exchange.farewell = _may_leave_early(slot, language, before, spec)
        _send_request(prepared, language, spec, farewell=exchange.farewell)
        exchange.start_clock()
        try:
            ended = exchange.wait()
            if ended.is_early:
                slot.unanswered = lambda: _see_out(exchange)
            return conclude(exchange, ended, before, ignored)
        except SlotBroken:
            if result := salvage(exchange):
                return result
            raise
    finally:
        prepared.close()


def _is_kept_by_driver(spec: RunSpec) -> bool:
    """Deno's driver has to lay the program anyway; it leaves it there."""
    return spec.language == "deno" and keeps_source(spec)


def _may_leave_early(slot: Slot, language: Language, before: tree.Listing | None, spec: RunSpec) -> bool:
    """Whether all that the result needs is known before the process has ended: figures of a cgroup, no files."""
    if not language.says_farewell or before or spec.workspace or spec.terminal or not slot.group:
        return False
    return slot.group.tells_peak


def _see_out(exchange: Exchange) -> bool:
    """Whether a run that left early has ended by now. Raises SlotBroken."""
    ended = exchange.outlast()
    if ended is None:
        return False
    if ended.workspace >= 0:
        os.close(ended.workspace)
    if exchange.slot.group:
        exchange.slot.group.has_new_oom_kills()  # or the next run would be told of what came after the farewell
    if ended.is_last:
        exchange.slot.destroy()
    return True


def _compile_limits(limits: Limits) -> Limits:
    return replace(limits, memory_bytes=max(limits.memory_bytes, COMPILE_MEMORY_BYTES))


def _hold_program(slot: Slot, spec: RunSpec, exchange: Exchange, terms: Terms) -> None:
    """Compiling is over: from here on the run's own limits hold."""
    exchange.watches = watches(slot, spec.limits, terms)
    if slot.group:
        try:
            slot.group.set(spec.limits)
        except OSError as error:
            raise SlotBroken(f"its limits cannot be set: {error}") from error


def _send_request(prepared: Prepared, language: Language, spec: RunSpec, *, farewell: bool) -> None:
    request = {
        "code": spec.code,
        "args": list(spec.args),
        "env": dict(spec.env),
        "file": language.file_name,
        "keep": _is_kept_by_driver(spec),
        "farewell": farewell,
    }
    content = json.dumps(request).encode()
    channel = prepared.wires.channel
    assert channel is not None
    channel.settimeout(REQUEST_TIMEOUT_S)
    if farewell:
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    try:
        channel.sendall(len(content).to_bytes(4, "big") + content)
        channel.shutdown(socket.SHUT_WR)
    except OSError as error:
        raise SlotBroken(f"the driver of {language.name} took no request: {error}") from error
