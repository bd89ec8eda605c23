"""Python one-shots end as `python main.py` would."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from runners.cancel import Cancel
from runners.runner import Runner
from runners.types import MIB, Changes, InputFile, Limits, RunResult, RunSpec, Status
from tests.boxes import output
from tests.waiting import wait_until


def run(runner: Runner, code: str, **spec: Any) -> RunResult:
    return runner.run(RunSpec("python", code, **spec))


@pytest.mark.parametrize(
    ("code", "exit_code", "number"),
    [
        ("print(1)", 0, None),
        ("import sys; sys.exit()", 0, None),
        ("import sys; sys.exit(5)", 5, None),
        ("import sys; sys.exit(125)", 125, None),
        ("import sys; sys.exit(-1)", 255, None),
        ("import sys; sys.exit(256 + 7)", 7, None),
        ("raise SystemExit(None)", 0, None),
        ("exit(3)", 3, None),
        ("quit()", 0, None),
        ("1 / 0", 1, None),
        ("def f(:", 1, None),
        ("raise KeyboardInterrupt", 130, 2),
        ("import os; os._exit(9)", 9, None),
        ("import os; os.kill(os.getpid(), 9)", 137, 9),
        ("import os; os.kill(os.getpid(), 15)", 143, 15),
        ("import os; os.abort()", 134, 6),
        ("import ctypes; ctypes.string_at(0)", 139, 11),
        ("import atexit, os; atexit.register(lambda: os._exit(4))", 4, None),
    ],
)
def test_exit_codes(runner: Runner, code: str, exit_code: int, number: int | None) -> None:
    result = run(runner, code)
    assert (result.exit_code, result.signal) == (exit_code, number)
    assert result.status is (Status.SUCCEEDED if exit_code == 0 else Status.FAILED)


def test_text_as_exit_code(runner: Runner) -> None:
    assert output(run(runner, "import sys; sys.exit('so long')")) == "|so long"


def test_traceback_shows_the_users_lines_only(runner: Runner) -> None:
    result = run(runner, "def f(x):\n    return 1 / x\n\n\nf(0)\n")
    assert result.stderr.content.decode() == (
        "Traceback (most recent call last):\n"
        '  File "/workspace/main.py", line 5, in <module>\n'
        "    f(0)\n"
        "    ~^^^\n"
        '  File "/workspace/main.py", line 2, in f\n'
        "    return 1 / x\n"
        "           ~~^~~\n"
        "ZeroDivisionError: division by zero\n"
    )


def test_syntax_error_has_no_frames(runner: Runner) -> None:
    result = run(runner, "x = 1\nif x\n  print(1)\n")
    assert result.stderr.content.decode() == (
        "  File \"/workspace/main.py\", line 2\n    if x\n        ^\nSyntaxError: expected ':'\n"
    )


def test_hook_and_chained_exceptions(runner: Runner) -> None:
    hooked = run(runner, "import sys\nsys.excepthook = lambda kind, error, tb: print('hook', kind.__name__)\n1 / 0")
    assert output(hooked) == "hook ZeroDivisionError" and hooked.exit_code == 1
    chained = output(run(runner, "try:\n  1 / 0\nexcept Exception as e:\n  raise ValueError('x') from e"))
    assert "direct cause" in chained and chained.count("/workspace/main.py") == 2


def test_input_and_arguments(runner: Runner) -> None:
    result = run(runner, "import sys\nprint(sys.argv, input(), sys.stdin.read())", args=("a", "ü"), stdin=b"one\ntwo")
    assert output(result) == "['/workspace/main.py', 'a', 'ü'] one two"
    assert "EOFError" in output(run(runner, "input()"))


def test_environment(runner: Runner) -> None:
    result = run(
        runner,
        "import os\nprint(sorted(os.environ))\nprint(os.environ['A'], os.environ['PATH'])",
        env={"A": "ä\n", "PATH": "/x"},
    )
    assert output(result) == "['A', 'HOME', 'LANG', 'PATH', 'TMPDIR', 'USER']\nä\n /x"


def test_main_module_is_sane(runner: Runner) -> None:
    code = (
        "import pickle, dataclasses, typing, inspect, sys\n"
        "@dataclasses.dataclass\nclass A:\n  x: int = 1\n"
        "print(__name__, __file__, pickle.loads(pickle.dumps(A(2))), typing.get_type_hints(A), A.__module__)\n"
        "print(inspect.getsource(A), __builtins__ is sys.modules['builtins'], sys.modules['__main__'].A is A)"
    )
    lines = output(run(runner, code)).splitlines()
    assert lines[0] == "__main__ /workspace/main.py A(x=2) {'x': <class 'int'>} __main__"
    assert lines[1:] == ["@dataclasses.dataclass", "class A:", "  x: int = 1", " True True"]


@pytest.mark.parametrize("method", ["default", "fork", "spawn", "forkserver"])
def test_multiprocessing(runner: Runner, method: str) -> None:
    context = "multiprocessing" if method == "default" else f"multiprocessing.get_context('{method}')"
    code = (
        f"import multiprocessing\ndef square(x):\n  return x * x\nif __name__ == '__main__':\n"
        f"  with {context}.Pool(2) as pool:\n    print(pool.map(square, [1, 2, 3]))\n"
    )
    result = run(runner, code)
    assert output(result) == "[1, 4, 9]" and result.changes == Changes()


def test_process_pool_executor(runner: Runner) -> None:
    code = "from concurrent.futures import ProcessPoolExecutor\ndef f(x): return -x\nif __name__ == '__main__':\n  print(list(ProcessPoolExecutor(2).map(f, [1, 2])))"
    assert output(run(runner, code)) == "[-1, -2]"


def test_subprocess_is_the_same_python(runner: Runner) -> None:
    code = "import subprocess, sys\nfor p in (sys.executable, 'python3'):\n  print(subprocess.run([p, '-c', 'import sys; print(sys.version_info[:2])'], capture_output=True, text=True).stdout.strip())"
    assert output(run(runner, code)) == "(3, 14)\n(3, 14)"


def test_reads_its_own_source(runner: Runner) -> None:
    code = "print(open(__file__).read() == open('/workspace/main.py').read(), len(open(__file__).read()))"
    result = run(runner, code)
    assert output(result) == f"True {len(code)}" and result.changes == Changes()


def test_async_threads_and_common_modules(runner: Runner) -> None:
    code = (
        "import asyncio, threading, json, queue, decimal, sqlite3, ssl, zoneinfo, datetime\n"
        "async def main():\n  await asyncio.sleep(0); return await asyncio.to_thread(lambda: 5)\n"
        "print(asyncio.run(main()), datetime.datetime(2026, 1, 1, tzinfo=zoneinfo.ZoneInfo('Europe/Berlin')).utcoffset())\n"
        "t = threading.Thread(target=lambda: print('thread')); t.start()"
    )
    assert output(run(runner, code)) == "5 1:00:00\nthread"


def test_print_is_unbuffered(runner: Runner) -> None:
    result = run(runner, "print('no end of line', end='')\nwhile True: pass", limits=Limits(wall_time_s=3.0))
    assert result.status is Status.TIMED_OUT and result.stdout.content == b"no end of line"
    assert output(run(runner, "import os\nprint('x', end='')\nos._exit(0)")) == "x"


def test_open_files_are_written_at_the_end(runner: Runner) -> None:
    code = "f = open('a', 'w'); f.write('hi')\nclass A:\n  def __del__(self): print('gone', open)\na = A()\na.me = a"
    result = run(runner, code)
    assert output(result).startswith("gone <built-in") and result.changes == Changes(created=("a",))


def test_bytes_that_are_no_text(runner: Runner) -> None:
    result = run(runner, "import sys\nsys.stdout.buffer.write(bytes(range(256)))\nprint('\\udcff')")
    assert result.stdout.content == bytes(range(256)) + b"\xff\n"


def test_files_and_changes(runner: Runner) -> None:
    files = (InputFile("in/a.txt", b"zz", 0o755), InputFile("b", b""), InputFile("helper.py", b"X = 7\n"))
    code = (
        "import os, helper\nprint(open('in/a.txt').read(), oct(os.stat('in/a.txt').st_mode), helper.X)\n"
        "os.remove('b'); open('in/a.txt', 'a').write('more'); os.makedirs('new/er'); open('new/c', 'w')"
    )
    result = run(runner, code, files=files, env={"PYTHONDONTWRITEBYTECODE": "1"})
    assert output(result) == "zz 0o100755 7"
    assert result.changes
    assert result.changes.changed == ("in/a.txt",) and result.changes.deleted == ("b",)
    assert {"new/c", "new/er"} <= set(result.changes.created)


def test_files_that_do_not_fit(runner: Runner) -> None:
    result = run(runner, "print(1)", files=(InputFile("big", b"z" * (140 * MIB)),))
    assert result.status is Status.FAILED and b"do not fit" in result.stderr.content
    assert output(run(runner, "import os; print(os.listdir())")) == "['.session_data.json']"


def test_session_data_is_there_and_no_change(runner: Runner) -> None:
    code = "import json\nprint(json.load(open('.session_data.json')))\nopen('.session_data.json', 'w').write('{}')"
    result = run(runner, code, data=b'{"a": 1}')
    assert output(result) == "{'a': 1}" and result.changes == Changes()


@pytest.mark.parametrize(
    "code",
    [
        "import os; print(os.listdir('.'))",
        "print(list(map(str, __import__('pathlib').Path('.').iterdir())))",
        "print([open('.session' + '_data.json') and '.session_data.json'])",
        "import subprocess; print([subprocess.run(['/usr/bin/ls', '-A'], capture_output=True, text=True).stdout.strip()])",
    ],
)
def test_session_data_is_there_however_it_is_looked_for(runner: Runner, code: str) -> None:
    assert output(run(runner, code)) == "['.session_data.json']"


def test_a_module_of_the_run_finds_the_session_data(runner: Runner) -> None:
    files = (InputFile("reader.py", b"TEXT = open('.session_data.json').read()\n"),)
    code = "import sys; sys.dont_write_bytecode = True\nimport reader; print(reader.TEXT)"
    result = run(runner, code, files=files)
    assert output(result) == "{}" and result.changes == Changes()


def test_long_code_and_long_output(runner: Runner) -> None:
    text = "y" * 3_000_000
    result = run(runner, f"x = '{text}'\nprint(x)")
    assert result.stdout.written_bytes == 3_000_001 and not result.stdout.truncated


def test_truncated_output_keeps_head_and_tail(runner: Runner) -> None:
    result = run(runner, "for i in range(100000): print(i)", limits=Limits(kept_bytes=1000))
    assert result.status is Status.SUCCEEDED and result.stdout.truncated
    assert result.stdout.content.startswith(b"0\n1\n2\n") and result.stdout.content.endswith(b"99998\n99999\n")
    assert result.stdout.written_bytes == 588_890 and b"[587890 bytes left out]" in result.stdout.content


def test_output_comes_while_it_runs(runner: Runner) -> None:
    heard: list[tuple[str, bytes]] = []
    started: list[float] = []
    cancel = Cancel()

    def listen(stream: str, chunk: bytes) -> None:
        heard.append((stream, chunk))
        cancel.request()

    spec = RunSpec("python", "print('tick')\nimport time; time.sleep(60)")
    result = runner.run(spec, on_output=listen, on_start=lambda: started.append(1), cancel=cancel)
    assert b"".join(chunk for _, chunk in heard) == b"tick\n" == result.stdout.content and started == [1]
    assert (result.status, result.exit_code) == (Status.CANCELLED, 137)


def test_cancel_before_and_during(runner: Runner) -> None:
    cancel = Cancel()
    cancel.request()
    started: list[int] = []
    result = runner.run(RunSpec("python", "print(1)"), cancel=cancel, on_start=lambda: started.append(1))
    assert result.status is Status.CANCELLED and not started
    during = Cancel()
    result = runner.run(
        RunSpec("python", "import time; time.sleep(60)"),
        cancel=during,
        on_start=lambda: threading.Timer(0.1, during.request).start(),
    )
    assert result.status is Status.CANCELLED


def test_cancel_after_the_end_hits_nobody(runner: Runner) -> None:
    for _ in range(20):
        cancel = Cancel()
        threading.Timer(0.003, cancel.request).start()
        assert runner.run(RunSpec("python", "print(1)"), cancel=cancel).status in (Status.SUCCEEDED, Status.CANCELLED)
    assert output(run(runner, "print('fine')")) == "fine"


def test_a_listener_that_fails_costs_the_slot_only(runner: Runner) -> None:
    def fail(stream: str, chunk: bytes) -> None:
        raise OSError("listener")

    with pytest.raises(OSError, match="listener"):
        runner.run(RunSpec("python", "print(1)"), on_output=fail)
    assert output(run(runner, "print(2)")) == "2"


def test_usage(runner: Runner) -> None:
    usage = run(
        runner,
        "import time\nend = time.process_time() + .2\nwhile time.process_time() < end: pass\nx = bytearray(50 << 20)",
    ).usage
    assert usage.cpu_time_s and 0.2 <= usage.cpu_time_s < 5 and usage.wall_time_s >= 0.2
    assert usage.memory_peak_bytes and 50 * MIB < usage.memory_peak_bytes < 200 * MIB


def test_many_threads_at_once(runner: Runner) -> None:
    results: list[str] = []

    def work(number: int) -> None:
        for turn in range(5):
            results.append(output(run(runner, f"print({number} * {turn})")) + f" {number * turn}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    wait_until(lambda: len(results) == 40, 30, "all runs")
    assert all(left == right for left, right in (result.split() for result in results))


def test_what_runs_share_is_never_counted(runner: Runner) -> None:
    code = "import os, sys; print(sys._is_immortal(os.path.join), sys._is_immortal(os.environ), sys._is_immortal([]))"
    assert output(run(runner, code)) == "True True False"
