"""Python one-shots begin and end as `python main.py` does, in unusual cases, too: each was compared with a bare one."""

from __future__ import annotations

from typing import Any

import pytest

from runners.runner import Runner
from runners.types import InputFile, RunResult, RunSpec, Status
from tests.boxes import output

HOOK_ENDS = "import sys\ndef hook(*error): sys.exit(9)\nsys.excepthook = hook\n1 / 0"
HOOK_FAILS = "import sys\ndef hook(*error): raise KeyError('second')\nsys.excepthook = hook\n1 / 0"
MUTE_EXIT = "import sys\nclass Mute:\n  def __str__(self): raise ValueError\nsys.exit(Mute())"
BAD_FLUSH = """
import sys
class Bad:
    def write(self, text): pass
    def flush(self): raise OSError('bad flush')
sys.stdout = Bad()
sys.exit(3)
"""


def run(runner: Runner, code: str, **spec: Any) -> RunResult:
    return runner.run(RunSpec("python", code, **spec))


@pytest.mark.parametrize(
    ("code", "exit_code", "stderr"),
    [
        ("import sys; sys.exit(2 ** 70)", 255, ""),
        ("import sys; sys.exit(2 ** 32 + 3)", 3, ""),
        (MUTE_EXIT, 1, "\n"),
        (HOOK_ENDS, 9, ""),
        ("import sys; sys.stdout.close()", 0, ""),
        ("import sys; sys.stdout = None", 0, ""),
        ("import sys; sys.stderr = None; 1 / 0", 1, ""),
        ("import os; os.close(2); 1 / 0", 1, ""),
        ("import sys; sys.stderr = None; sys.exit('so long')", 1, "so long\n"),
    ],
)
def test_ends(runner: Runner, code: str, exit_code: int, stderr: str) -> None:
    result = run(runner, code)
    assert (result.exit_code, result.stdout.content, result.stderr.content.decode()) == (exit_code, b"", stderr)


def test_an_interrupt_that_nobody_caught_is_the_signal(runner: Runner) -> None:
    result = run(runner, "import atexit; atexit.register(print, 'at exit')\nraise KeyboardInterrupt")
    assert (result.exit_code, result.signal, result.stdout.content) == (130, 2, b"at exit\n")
    assert run(runner, "import sys; sys.exit(130)").signal is None


def test_hooks_that_fail(runner: Runner) -> None:
    text = run(runner, HOOK_FAILS).stderr.content.decode()
    assert text.startswith('Error in sys.excepthook:\nTraceback (most recent call last):\n  File "/workspace/main.py"')
    assert text.count("Traceback") == 2 and "\n\nOriginal exception was:\n" in text and "During" not in text
    missing = run(runner, "import sys\ndel sys.excepthook\n1 / 0")
    assert missing.exit_code == 1
    assert missing.stderr.content.startswith(b"sys.excepthook is missing\nTraceback (most recent call last):\n")
    limited = run(runner, "import sys\nsys.tracebacklimit = 1\ndef f(): 1 / 0\nf()").stderr.content.decode()
    assert "in f\n" in limited and "<module>" not in limited


def test_output_that_cannot_be_flushed(runner: Runner) -> None:
    result = run(runner, BAD_FLUSH)
    assert result.exit_code == 120
    assert result.stderr.content.startswith(b"Exception ignored while flushing sys.stdout:\nTraceback")
    assert result.stderr.content.endswith(b"OSError: bad flush\n")


def test_the_last_exception_is_known_at_exit(runner: Runner) -> None:
    result = run(runner, "import atexit, sys\natexit.register(lambda: print(repr(sys.last_exc)))\n1 / 0")
    assert result.stdout.content == b"ZeroDivisionError('division by zero')\n"


@pytest.mark.parametrize("line", ["return 5", "break", "x = await y", "from __future__ import annotations"])
def test_errors_of_the_compiler_show_the_line(runner: Runner, line: str) -> None:
    text = run(runner, f"print(1)\n{line}\n").stderr.content.decode()
    assert text.startswith(f'  File "/workspace/main.py", line 2\n    {line}\n    ') and "^" in text


def test_standard_streams_can_be_wrapped_anew(runner: Runner) -> None:
    code = (
        "import io, sys\n"
        "sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding='utf-8')\n"
        "sys.stdin = io.TextIOWrapper(sys.stdin.buffer, encoding='utf-8')\n"
        "print(input(), sys.__stdout__.seekable(), sys.__stdout__.encoding, sys.__stdout__.errors, sys.__stdout__.name)"
    )
    assert output(run(runner, code, stdin="é".encode())) == "é False utf-8 surrogateescape <stdout>"


def test_a_programs_own_modules_come_before_those_that_are_loaded_already(runner: Runner) -> None:
    files = (InputFile("random.py", b"CHOICE = 4\n"), InputFile("json/__init__.py", b"MINE = 5\n"))
    result = run(runner, "import random, json\nprint(random.CHOICE, json.MINE)", files=files)
    assert (result.status, output(result)) == (Status.SUCCEEDED, "4 5")
    folder = (InputFile("json/data.txt", b""),)
    assert output(run(runner, "import json\nprint(json.dumps(1))", files=folder)) == "1"


def test_variables_that_python_reads_at_its_start(runner: Runner) -> None:
    env = {"TZ": "Asia/Tokyo", "PYTHONPATH": "/workspace/lib"}
    result = run(
        runner,
        "import time, mine\nprint(time.tzname[0], mine.X)",
        env=env,
        files=(InputFile("lib/mine.py", b"X = 6"),),
    )
    assert output(result) == "JST 6"


def test_a_module_that_imports_the_program(runner: Runner) -> None:
    files = (InputFile("helper.py", b"import main\nprint(main.X, main.__name__)"),)
    assert output(run(runner, "X = 7\nif __name__ == '__main__':\n  import helper", files=files)) == "7 main"
