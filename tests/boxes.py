"""Runners for tests: one of root's in this process, one of an ordinary user's in a process of its own."""

from __future__ import annotations

import itertools
import os
import pickle
import subprocess
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from runners.runner import Runner, RunnerConfig
from runners.types import MIB, Limits, RunResult, RunSpec
from tests import stack

LIMITS = Limits(wall_time_s=30.0, processes=64, kept_bytes=MIB, written_bytes=8 * MIB)
_numbers = itertools.count()


def start_runner(home: Path, mode: str, **changes: Any) -> Runner:
    """A runner with everything below ``home``."""
    settings: dict[str, Any] = {
        "mode": mode,
        "slots": 3,
        "live": 4,
        "parked": {},
        "cgroup": f"{stack.current.cgroup}-box{next(_numbers)}",
    }
    return Runner.start(
        RunnerConfig(
            runtimes=stack.current.runtimes,
            workspaces=home / "workspaces",
            run_dir=home / "run",
            **(settings | changes),
        )
    )


class Box:
    """Runs Python and more in a sandbox of one mode."""

    def __init__(self, mode: str) -> None:
        self.mode = mode

    def run_spec(self, spec: RunSpec) -> RunResult:
        """Run in the sandbox."""
        raise LookupError

    def run(self, code: str, *, language: str = "python", limits: Limits = LIMITS, **spec: Any) -> RunResult:
        """Run ``code``; always of the master with preloaded modules, so that a run meets the slot of the one before."""
        if language == "python":
            code += "\nif 0:\n import json\n"
        return self.run_spec(RunSpec(language, code, limits=limits, **spec))

    def text(self, code: str, **given: Any) -> str:
        """What a run printed, stderr behind a bar."""
        return output(self.run(code, **given))

    def both(self, first: str, second: str) -> tuple[RunResult, RunResult]:
        """Two runs at the same time."""
        with ThreadPoolExecutor(2) as pool:
            runs = [pool.submit(self.run, code) for code in (first, second)]
            return runs[0].result(), runs[1].result()


def output(result: RunResult) -> str:
    """Both streams as text."""
    parts = (result.stdout.content, result.stderr.content)
    return "|".join(part.decode("utf-8", "replace") for part in parts).strip().rstrip("|").strip()


class NearBox(Box):
    """In this process."""

    def __init__(self, mode: str, home: Path) -> None:
        super().__init__(mode)
        self.runner = start_runner(home, mode, slots=2)

    def run_spec(self, spec: RunSpec) -> RunResult:
        return self.runner.run(spec)

    def close(self) -> None:
        self.runner.close()


class FarBox(Box):
    """In a process of an ordinary user's, which serves pickled requests on its standard streams."""

    def __init__(self, mode: str) -> None:
        super().__init__(mode)
        own = stack.current
        home = own.base / f"box-{own.name}-{next(_numbers)}"  # the user may walk there
        home.mkdir(mode=0o700)
        os.chown(home, own.tester_uid, own.tester_uid)
        self._process = subprocess.Popen(
            [own.python, "-m", "tests.far_box", mode, str(home), str(own.runtimes)],
            user=own.tester_uid,
            group=own.tester_uid,
            extra_groups=[],
            cwd=own.code,
            env={"PATH": "/usr/bin:/bin", "HOME": str(home), "PYTHONPATH": str(own.code)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._lock = threading.Lock()
        self._waiting: dict[int, Future[RunResult]] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout
        while True:
            try:
                number, result = pickle.load(self._process.stdout)
            except EOFError:
                break
            self._waiting.pop(number).set_result(result)
        for future in self._waiting.values():
            future.set_exception(RuntimeError("the ordinary user's process ended"))

    def run_spec(self, spec: RunSpec) -> RunResult:
        assert self._process.stdin
        future: Future[RunResult] = Future()
        with self._lock:
            number = next(_numbers)
            self._waiting[number] = future
            pickle.dump((number, spec), self._process.stdin)
            self._process.stdin.flush()
        return future.result(100)

    def close(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(20)
        self._reader.join(20)
        self._process.stdout.close()


def make_box(mode: str, home: Path) -> NearBox | FarBox:
    """A box of the mode; as root ``one`` is an ordinary user's."""
    if mode == "one" and os.geteuid() == 0:
        return FarBox(mode)
    return NearBox(mode, home)


def modes() -> list[str]:
    """The modes that this process can have."""
    return ["root", "one"] if os.geteuid() == 0 else ["one"]
