"""``python -m benchmarks.soak RUNS=20000``: a long mixed load; prints at intervals what must not grow."""

from __future__ import annotations

import itertools
import json
import os
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import load, processes
from benchmarks.hello import call, say
from benchmarks.server import Server, running

MIB = 1 << 20
INTERVALS = 10
CALLERS = 4
SESSIONS = 8
ALLOWED_GROWTH = 1.15
"""From the second interval (pools are full, caches warm) to the last."""

ONE_SHOTS = (
    ("python", "print({n})"),
    ("python", "open('a.txt', 'w').write('{n}'); print({n})"),
    ("python", "import asyncio, json, subprocess; print({n})"),
    ("python", "import os\nfor _ in range(5):\n    if not os.fork(): os._exit(0)\nprint({n})"),
    ("python", "import socket; s = socket.create_server(('127.0.0.1', 0)); print({n})"),
    ("python", "raise SystemExit({n} % 3)"),
    ("node", "console.log({n})"),
)
IN_SESSION = "n = globals().get('n', 0) + 1\nopen(f'f{n % 20}.txt', 'w').write('x' * {n})\nprint(n)"


@dataclass(frozen=True)
class Sample:
    """What is looked at; sizes in bytes, times in milliseconds."""

    runs: int
    memory: float
    buffers: float
    """Postgres' shared buffers, which are bounded and no part of ``memory``."""
    descriptors: float
    cgroups: int
    processes: int
    temporary: int
    hello_ms: float
    lookup_ms: float

    def line(self) -> str:
        """The sample as a line of the report."""
        return (
            f"{self.runs:7d} runs  memory {self.memory / MIB:4.0f} MiB + {self.buffers / MIB:3.0f} of buffers"
            f"  descriptors {self.descriptors:5.0f}  cgroups {self.cgroups:3d}  processes {self.processes:3d}"
            f"  temporary files {self.temporary:4d}"
            f"  hello {self.hello_ms:5.2f} ms  list of runs {self.lookup_ms:5.2f} ms"
        )


def main() -> int:
    """Runs the load; 1 when something grew."""
    wanted = dict(word.split("=", 1) for word in sys.argv[1:])
    runs = int(wanted.get("RUNS", "20000"))
    with running(user=wanted.get("AS")) as server:
        names = [f"soak-{number}" for number in range(SESSIONS)]
        for name in names:
            server.ask("POST", "/api/sessions", {"language": "python", "session_id": name})
        samples = _soak(server, names, runs)
    grown = _grown(samples)
    say("nothing grew" if not grown else "GREW: " + ", ".join(grown))
    return 1 if grown else 0


def _soak(server: Server, names: list[str], runs: int) -> list[Sample]:
    samples: list[Sample] = []
    for done in range(0, runs, runs // INTERVALS):
        _interval(server, names, runs // INTERVALS)
        samples.append(_sample(server, done + runs // INTERVALS))
        say(samples[-1].line())
    return samples


def _interval(server: Server, names: list[str], runs: int) -> None:
    """One interval's load: nine one-shots to one run in a session."""
    anything = (b'"run_id"',)
    mixed = load.Call(server.port, "/api/execute", _mixture(), anything)
    _complain(load.times(mixed, count=runs * 9 // 10, callers=CALLERS))
    for name in names:
        inside = load.Call(server.port, f"/api/sessions/{name}/run", _session_body(), (b'"succeeded"',))
        _complain(load.times(inside, count=max(1, runs // 10 // len(names))))


def _complain(measured: load.Measured) -> None:
    if measured.wrong:
        say(f"WRONG ANSWERS {measured.wrong}: {measured.example!r}")


def _mixture() -> Callable[[], bytes]:
    numbers = itertools.count()
    choice = random.Random(1)  # the same mixture each time

    def body() -> bytes:
        language, code = choice.choice(ONE_SHOTS)
        return json.dumps({"language": language, "code": code.replace("{n}", str(next(numbers)))}).encode()

    return body


def _session_body() -> Callable[[], bytes]:
    numbers = itertools.count()
    return lambda: json.dumps({"code": IN_SESSION.replace("{n}", str(next(numbers) % 500))}).encode()


def _sample(server: Server, runs: int) -> Sample:
    buffers = processes.buffers(server.pid)
    return Sample(
        runs=runs,
        memory=processes.memory(server.pid).total - buffers,
        buffers=buffers,
        descriptors=processes.descriptors(server.pid).total,
        cgroups=processes.cgroups(server.pid),
        processes=len(processes.tree(server.pid)),
        temporary=_temporary(server.state),
        hello_ms=load.times(call(server, "python"), count=100).percentile_ms(50),
        lookup_ms=_lookup_ms(server),
    )


def _temporary(state: Path) -> int:
    """Files below the state folder that are neither the database's nor kept objects."""
    kept = ({"postgres"}, {"valkey"}, {"objects"})
    walked = ((set(Path(top).relative_to(state).parts), files) for top, _, files in os.walk(state))
    return sum(len(files) for parts, files in walked if "tmp" in parts or not any(name <= parts for name in kept))


def _lookup_ms(server: Server) -> float:
    times = []
    for _ in range(20):
        started = time.perf_counter()
        server.ask("GET", "/api/runs?limit=10")
        times.append(time.perf_counter() - started)
    return sorted(times)[10] * 1e3


def _grown(samples: list[Sample]) -> list[str]:
    first, last = samples[min(1, len(samples) - 1)], samples[-1]
    slack = {"memory": 24 * MIB, "descriptors": 20, "cgroups": 4, "processes": 8, "temporary": 400}
    names = [name for name in slack if getattr(last, name) > getattr(first, name) * ALLOWED_GROWTH + slack[name]]
    slower = [name for name in ("hello_ms", "lookup_ms") if getattr(last, name) > 2 * getattr(first, name) + 5]
    return names + slower


if __name__ == "__main__":
    sys.exit(main())
