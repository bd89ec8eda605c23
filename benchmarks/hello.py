"""Hello in each language through HTTP, against a bare interpreter of the same build, measured in turns."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field

from benchmarks import load, processes
from benchmarks.floor import DEBIAN, GO, TYPESCRIPT, Floor, children_cpu_s
from benchmarks.server import Server

CODE = {
    "python": "print(1)",
    "node": "console.log(1)",
    "typescript": TYPESCRIPT,
    "go": GO,
    "deno": "console.log(1)",
}
LANGUAGES = tuple(CODE)


@dataclass(frozen=True)
class Plan:
    """How long to measure: rounds of the sequential part, answers a round, seconds for each number of callers."""

    rounds: int
    count: int
    seconds: float
    callers: tuple[int, ...]


PLANS = {
    "quick": Plan(rounds=3, count=20, seconds=1.5, callers=(1, 8, 32)),
    "full": Plan(rounds=6, count=60, seconds=5.0, callers=(1, 2, 4, 8, 16, 32)),
}
SLOW = Plan(rounds=3, count=8, seconds=3.0, callers=(1, 2, 4))
"""For languages whose bare program takes tens of milliseconds; their floor alone would take minutes."""

PACED = 3
"""Answers a round with pauses."""

PAUSE_S = 0.3


@dataclass
class Sequential:
    """Times of one after another, floor and server taken in turns."""

    floor: load.Measured = field(default_factory=load.Measured)
    debian: load.Measured = field(default_factory=load.Measured)
    server: load.Measured = field(default_factory=load.Measured)


def say(line: str) -> None:
    """One line of the report, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def call(server: Server, language: str) -> load.Call:
    """Hello in a language as a call to ``POST /api/execute``."""
    body = load.execute_body(language, CODE[language])
    return load.Call(server.port, "/api/execute", body, load.printed("1\n"))


def measure(server: Server, floor: Floor, *, language: str, plan: Plan) -> None:
    """Prints the lines of one language."""
    if language != "python":
        plan = Plan(min(plan.rounds, SLOW.rounds), SLOW.count, min(plan.seconds, SLOW.seconds), SLOW.callers)
    hello = call(server, language)
    load.times(hello, count=6)
    floor.times(language, 2)
    _say_sequential(f"{language}: one after another", _in_turns(hello, floor, language=language, plan=plan))
    _say_sequential("  with pauses", _paced(hello, floor, language=language, count=plan.rounds * PACED))
    before, cpu = floor.saturated(language, plan.seconds / 2), children_cpu_s()
    lines = [_callers(server, hello, callers=callers, seconds=plan.seconds) for callers in plan.callers]
    after = floor.saturated(language, plan.seconds / 2)
    bare_ms = (children_cpu_s() - cpu) / max(1, len(after.times_s)) * 1e3
    rate = (len(before.times_s) + len(after.times_s)) / (before.wall_s + after.wall_s)
    say(f"  floor saturated {rate:.1f}/s, {bare_ms:.1f} ms CPU a run")
    for callers, measured, usage in lines:
        _say_callers(callers, measured, usage, rate)


def _in_turns(hello: load.Call, floor: Floor, *, language: str, plan: Plan) -> Sequential:
    found = Sequential()
    for _ in range(plan.rounds):
        _add(found.floor, floor.times(language, plan.count))
        _add(found.server, load.times(hello, count=plan.count))
        if language == "python" and DEBIAN.exists():
            _add(found.debian, floor.times("debian", plan.count))
    return found


def _paced(hello: load.Call, floor: Floor, *, language: str, count: int) -> Sequential:
    """Now and then, as a person or a program that thinks in between: what is booted ahead has time to boot."""
    found = Sequential()
    for _ in range(count):
        _add(found.floor, floor.times(language, 1))
        time.sleep(PAUSE_S)
        _add(found.server, load.times(hello, count=1))
        time.sleep(PAUSE_S)
    return found


def _add(to: load.Measured, part: load.Measured) -> None:
    to.times_s += part.times_s
    to.wrong += part.wrong
    to.example = part.example or to.example


def _say_sequential(title: str, found: Sequential) -> None:
    bare, ours = found.floor.percentile_ms(50), found.server.percentile_ms(50)
    debian = f", Debian's {found.debian.percentile_ms(50):.1f} ms" if found.debian.times_s else ""
    p95 = f"p95 {found.server.percentile_ms(95):.2f}, bare {found.floor.percentile_ms(95):.2f} ms"
    say(f"{title}: p50 {ours:.2f} ms = {ours / bare:.2f}x of bare {bare:.2f} ms{debian}; {p95}")
    for name, measured in (("bare", found.floor), ("server", found.server)):
        if measured.wrong:
            say(f"  WRONG ANSWERS ({name}): {measured.wrong} {measured.example!r}")


def _callers(
    server: Server, hello: load.Call, *, callers: int, seconds: float
) -> tuple[int, load.Measured, processes.Usage]:
    before = processes.cpu(server.pid)
    measured = load.for_seconds(hello, callers=callers, seconds=seconds)
    return callers, measured, processes.cpu(server.pid).minus(before)


def _say_callers(callers: int, measured: load.Measured, usage: processes.Usage, floor_rate: float) -> None:
    count = len(measured.times_s)
    each = "  ".join(f"{part} {seconds / count * 1e3:.2f}" for part, seconds in usage.by_part.items())
    wrong = f"  WRONG {measured.wrong} {measured.example!r}" if measured.wrong else ""
    say(
        f"  {callers:3d} callers {measured.rate:7.1f}/s = {measured.rate / floor_rate:.2f}x"
        f"  p50 {measured.percentile_ms(50):.1f} p95 {measured.percentile_ms(95):.1f} ms"
        f"  | ms CPU a run: {each}  sum {usage.total / count * 1e3:.2f}{wrong}"
    )
