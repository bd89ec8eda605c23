"""`python -m runners LANGUAGE FILE`: run one file in a sandbox, to try a runner without a server."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from runners.languages import canonical
from runners.runner import Runner, RunnerConfig
from runners.types import Limits, RunResult, RunSpec, SandboxUnavailable, Stream

UNAVAILABLE_CODE = 70


def main() -> int:
    """Exit code of the program that was run."""
    parser = argparse.ArgumentParser(prog="python -m runners", description=__doc__)
    parser.add_argument("language")
    parser.add_argument("file", type=Path)
    parser.add_argument("args", nargs="*")
    parser.add_argument("--runtimes", type=Path, default=Path("/var/lib/era/runtimes/current"))
    parser.add_argument("--mode", default="auto", choices=("auto", "root", "sub", "one"))
    parser.add_argument("--timeout", type=float, default=30.0, metavar="SECONDS")
    options = parser.parse_args()
    language = canonical(options.language)
    if language is None:
        parser.error(f"no language is called {options.language}")
    with tempfile.TemporaryDirectory(prefix="era-") as folder:
        config = RunnerConfig(
            options.runtimes,
            Path(folder, "workspaces"),
            Path(folder, "run"),
            mode=options.mode,
            languages=(language,),
        )
        try:
            runner = Runner.start(config)
        except SandboxUnavailable as error:
            print(error, file=sys.stderr)
            return UNAVAILABLE_CODE
        try:
            code = options.file.read_text(encoding="utf-8")
            spec = RunSpec(language, code, tuple(options.args), limits=Limits(wall_time_s=options.timeout))
            return _show(runner.run(spec, on_output=_echo))
        finally:
            runner.close()


def _echo(stream: Stream, chunk: bytes) -> None:
    target = sys.stdout if stream == "stdout" else sys.stderr
    target.buffer.write(chunk)
    target.flush()


def _show(result: RunResult) -> int:
    if result.status not in ("succeeded", "failed"):
        print(f"[{result.status}] {result.reason or ''}".rstrip(), file=sys.stderr)
    return UNAVAILABLE_CODE if result.exit_code is None else result.exit_code


if __name__ == "__main__":
    sys.exit(main())
