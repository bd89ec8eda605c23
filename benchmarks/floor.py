"""The floor: what a bare interpreter of the same build needs, with a clean environment and nothing around it."""

from __future__ import annotations

import itertools
import os
import resource
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.load import Measured

GO = 'package main\n\nimport "fmt"\n\nfunc main() { fmt.Println(1) } // {n}\n'
TYPESCRIPT = "const one: number = 1;\nconsole.log(one);\n"
DEBIAN = Path("/usr/bin/python3")


@dataclass
class Floor:
    """Bare programs that print 1.

    Attributes:
        runtimes: folder with python/, node/, deno/ and go/.
        folder: scratch for source files and caches.
    """

    runtimes: Path
    folder: Path
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def command(self, language: str) -> list[str]:
        """The bare command of a language; ``debian`` is the system's own Python."""
        if language == "go":
            return [str(self.runtimes / "go/bin/go"), "run", str(self._source("main.go", GO))]
        if language == "typescript":
            return [str(self.runtimes / "node/bin/node"), str(self._source("main.ts", TYPESCRIPT))]
        return {
            "python": [str(self.runtimes / "python/bin/python3"), "-c", "print(1)"],
            "debian": [str(DEBIAN), "-c", "print(1)"],
            "node": [str(self.runtimes / "node/bin/node"), "-e", "console.log(1)"],
            "deno": [str(self.runtimes / "deno/deno"), "eval", "console.log(1)"],
        }[language]

    def _source(self, name: str, text: str) -> Path:
        number = next(self._numbers) if "{n}" in text else 0
        path = self.folder / str(number) / name
        path.parent.mkdir(exist_ok=True)
        if not path.exists():
            path.write_text(text.replace("{n}", str(number)))
        return path

    def environment(self) -> dict[str, str]:
        """What the bare program sees: nothing of ours but where go and deno may keep their caches."""
        caches = {name: str(self.folder / name.lower()) for name in ("GOCACHE", "GOPATH", "DENO_DIR")}
        return {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": str(self.folder), "GOTOOLCHAIN": "local", **caches}

    def times(self, language: str, count: int) -> Measured:
        """One after another, ``count`` times."""
        measured = Measured()
        started = time.perf_counter()
        for _ in range(count):
            self._once(language, measured)
        measured.wall_s = time.perf_counter() - started
        return measured

    def saturated(self, language: str, seconds: float) -> Measured:
        """As many at once as there are cores, for ``seconds``."""
        measured = Measured()
        started = time.perf_counter()
        threads = [
            threading.Thread(target=self._until, args=(language, measured, started + seconds))
            for _ in range(os.cpu_count() or 1)
        ]
        _all(threads, threading.Thread.start)
        _all(threads, threading.Thread.join)
        measured.wall_s = time.perf_counter() - started
        return measured

    def _until(self, language: str, measured: Measured, end: float) -> None:
        while time.perf_counter() < end:
            self._once(language, measured)

    def _once(self, language: str, measured: Measured) -> None:
        command, environment = self.command(language), self.environment()
        started = time.perf_counter()
        output = _output(command, environment)
        measured.times_s.append(time.perf_counter() - started)
        measured.wrong += output != b"1\n"


def _all(threads: list[threading.Thread], verb: Callable[[threading.Thread], None]) -> None:
    for thread in threads:
        verb(thread)


def _output(command: list[str], environment: dict[str, str]) -> bytes:
    """What a program writes; started by posix_spawn, the cheapest way there is from here."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    actions = [(os.POSIX_SPAWN_DUP2, writing, 1), (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)]
    pid = os.posix_spawn(command[0], command, environment, file_actions=actions)
    os.close(writing)
    chunks = []
    while chunk := os.read(reading, 65536):
        chunks.append(chunk)
    os.close(reading)
    os.waitpid(pid, 0)
    return b"".join(chunks)


def children_cpu_s() -> float:
    """CPU seconds that ended children of this process used so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
