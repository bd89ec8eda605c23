"""What is no hello: sessions, sleepers, spinning neighbours, time limits, much output, idle memory."""

from __future__ import annotations

import itertools
import json
import threading
import time

from benchmarks import load, processes
from benchmarks.hello import call, say
from benchmarks.server import Server

MIB = 1 << 20
SLEEP = "import time; time.sleep(1); print(1)"
SPIN = "while True: pass"
FLOOD = "import sys\nfor _ in range(10): sys.stdout.write('x' * 1048575 + '\\n')"


def session_runs(server: Server, language: str, count: int) -> None:
    """Prints how long a run in a live session with three small files takes."""
    name = f"bench-{language}"
    server.ask("POST", "/api/sessions", {"language": language, "session_id": name})
    files = {f"file{number}.txt": "small\n" for number in range(3)}
    server.ask("POST", f"/api/sessions/{name}/run", {"code": "", "files": files})
    numbers = itertools.count()
    shown = "print({n})" if language == "python" else "console.log({n})"

    def body() -> bytes:
        return json.dumps({"code": shown.replace("{n}", str(next(numbers)))}).encode()

    measured = load.times(load.Call(server.port, f"/api/sessions/{name}/run", body, (b'"succeeded"',)), count=count)
    p50, p95 = measured.percentile_ms(50), measured.percentile_ms(95)
    say(f"session run, {language}: p50 {p50:.2f} p95 {p95:.2f} ms{_bad(measured)}")
    server.ask("DELETE", f"/api/sessions/{name}")


def sleepers(server: Server, count: int) -> None:
    """Prints how long ``count`` runs take that sleep 1 s each and come at once."""
    body = load.execute_body("python", SLEEP, queue_timeout=120)
    asked = load.Call(server.port, "/api/execute", body, load.printed("1\n"))
    measured = load.times(asked, count=count, callers=count)
    say(f"{count} runs that sleep 1 s, at once: all answered after {measured.wall_s:.2f} s{_bad(measured)}")


def beside_spinners(server: Server, spinners: int, seconds: float) -> None:
    """Prints how long hello takes while ``spinners`` runs spin on their CPU."""
    body = {"language": "python", "code": SPIN, "timeout": seconds + 2}
    threads = [threading.Thread(target=server.ask, args=("POST", "/api/execute", body)) for _ in range(spinners)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    measured = load.for_seconds(call(server, "python"), callers=1, seconds=seconds)
    for thread in threads:
        thread.join()
    say(
        f"hello beside {spinners} spinning runs: p50 {measured.percentile_ms(50):.1f}"
        f" p95 {measured.percentile_ms(95):.1f} ms{_bad(measured)}"
    )


def time_limit(server: Server, count: int) -> None:
    """Prints how soon a run with a limit of 1 s is answered."""
    body = load.execute_body("python", SPIN, timeout_ms=1000)
    measured = load.times(load.Call(server.port, "/api/execute", body, (b'"timed_out"',)), count=count)
    say(f"a 1 s limit is answered after p50 {measured.percentile_ms(50) / 1e3:.3f} s{_bad(measured)}")


def much_output(server: Server, count: int) -> None:
    """Prints how long 10 MiB of output take, and how much the server grew over it."""
    body = load.execute_body("python", FLOOD)
    flood = load.Call(server.port, "/api/execute", body, (b'"stdout_bytes":10485760', b'"stdout_bytes": 10485760'))
    load.times(flood, count=2)
    before = processes.memory(server.pid).total
    measured = load.times(flood, count=count)
    grown = (processes.memory(server.pid).total - before) / MIB
    say(f"10 MiB of output: p50 {measured.percentile_ms(50) / 1e3:.3f} s, memory {grown:+.1f} MiB{_bad(measured)}")


def idle_memory(server: Server) -> None:
    """Prints the memory of the whole server and of its parts."""
    usage = processes.memory(server.pid)
    _, languages = server.ask("GET", "/api/languages")
    slots = sum(node["slots"] for node in languages["nodes"])
    parts = "  ".join(f"{part} {size / MIB:.0f}" for part, size in usage.by_part.items())
    say(f"idle memory (PSS) {usage.total / MIB:.0f} MiB: {parts} ({slots} slots and what is parked in them)")


def slot_cost(few: Server, few_slots: int, many: Server, many_slots: int) -> None:
    """Prints what one more slot costs in memory."""
    less, more = (processes.memory(server.pid).by_part["slots"] for server in (few, many))
    say(f"one slot: {(more - less) / (many_slots - few_slots) / MIB:.2f} MiB (PSS)")


def _bad(measured: load.Measured) -> str:
    return f"  WRONG ANSWERS {measured.wrong}: {measured.example!r}" if measured.wrong else ""
