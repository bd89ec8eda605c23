"""The museum's instruments: with a proof switched off, what it proves is found missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runners.backends.slot import starter
from runners.runner import Runner
from runners.types import RunSpec
from tests import boxes
from tests.boxes import output

TOUCHED = (
    "        return Touched(workspace != self._workspace, scratch != self._scratch, queues != self._queue_figures)"
)
CONTROLS = {
    "workspace": (
        "proof",
        TOUCHED,
        "        return Touched(False, scratch != self._scratch, queues != self._queue_figures)",
        "open('left', 'w')",
        "import os; print('left' in os.listdir('/workspace'))",
        "True",
    ),
    "scratch": (
        "proof",
        TOUCHED,
        "        return Touched(workspace != self._workspace, False, queues != self._queue_figures)",
        "open('/tmp/left', 'w')",
        "import os; print(os.listdir('/tmp'))",
        "['left']",
    ),
    "queues": (
        "pid1",
        "        if touched.queues:\n            flags |= WORN",
        "        if touched.queues:\n            flags |= 0",
        "import ctypes; ctypes.CDLL(None).shmget(77, 4096, 0o1666)",
        "import ctypes; print(ctypes.CDLL(None).shmget(77, 0, 0) >= 0)",
        "True",
    ),
    "network": (
        "proof",
        "        if self._read_network() != self._network_figures:",
        "        if False:",
        "import socket; s = socket.create_server(('127.0.0.1', 8000)); c = socket.create_connection(s.getsockname()); a, _ = s.accept(); a.close()",
        "import socket; print([l for l in open('/proc/net/dev').read().splitlines() if 'lo:' in l][0].split()[1] != '0')",
        "True",
    ),
    "processes": (
        "pid1",
        "            os.kill(-1, signal.SIGKILL)\n            while True:\n                used",
        "            if os.waitstatus_to_exitcode(0) == 0: raise ProcessLookupError\n            while True:\n                used",
        "import os, time\nif os.fork() == 0:\n  os.setsid(); os.close(1); os.close(2); time.sleep(60)",
        "import os; print(len([x for x in os.listdir('/proc') if x.isdigit()]) > 1)",
        "True",
    ),
}


@pytest.fixture
def changed_runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, str], Runner]:
    """A runner with one line of the guest's program changed."""
    genuine = starter._programs

    def start(name: str, old: str, new: str) -> Runner:
        files = genuine()
        path = f"/app/runners/backends/slot/guest/{name}.py"
        assert files[path].count(old) == 1, f"{name} has changed: this control controls nothing"
        files[path] = files[path].replace(old, new)
        monkeypatch.setattr(starter, "_programs", lambda: files)
        return boxes.start_runner(tmp_path, "auto", slots=1, languages=("python",))

    return start


@pytest.mark.parametrize("name", list(CONTROLS))
def test_without_its_proof(changed_runner: Callable[[str, str, str], Runner], name: str) -> None:
    module, old, new, deed, look, found = CONTROLS[name]
    runner = changed_runner(module, old, new)
    try:
        for _ in range(3):
            runner.run(RunSpec("python", deed))
            if output(runner.run(RunSpec("python", look))) == found:
                return
        raise AssertionError(f"nothing was left behind without the proof of {name}")
    finally:
        runner.close()
