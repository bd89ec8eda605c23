"""Program: a runner of an ordinary user's, for FarBox.  python -m tests.far_box MODE HOME RUNTIMES"""

from __future__ import annotations

import os
import pickle
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from runners.runner import Runner, RunnerConfig
from runners.types import RunSpec


def main(mode: str, home: Path, runtimes: Path) -> None:
    """Answer pickled requests until standard input ends."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    runner = Runner.start(RunnerConfig(runtimes, home / "workspaces", home / "run", mode=mode, slots=2, live=2))
    lock = threading.Lock()

    def answer(number: int, spec: RunSpec) -> None:
        result = runner.run(spec)
        with lock:
            pickle.dump((number, result), replies)
            replies.flush()

    try:
        with ThreadPoolExecutor(4) as pool:
            while True:
                try:
                    number, spec = pickle.load(sys.stdin.buffer)
                except EOFError:
                    return
                pool.submit(answer, number, spec)
    finally:
        runner.close()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
