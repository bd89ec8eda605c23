"""Every language through its driver: the mechanisms that slots give to all of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runners.runner import Runner
from runners.types import MIB, Changes, InputFile, Limits, RunResult, RunSpec, Status
from tests.boxes import output
from tests.waiting import wait_until

GO = 'package main\n\nimport (\n\t"fmt"\n\t"io"\n\t"os"\n)\n\nfunc main() {\n%s\n}\n'
LOOK = {
    "node": (
        "const fs = require('fs');\nconsole.log(process.argv.slice(2), process.env.A, fs.readFileSync(0, 'utf8'),"
        " fs.readFileSync('in/a.txt', 'utf8'));\nfs.writeFileSync('out', 'x');\nprocess.exitCode = 3;"
    ),
    "typescript": (
        "import fs from 'fs';\nenum E { A = 5 }\nconst n: number = E.A;\nif (n !== 5) throw 1;\n"
        "console.log(process.argv.slice(2), process.env.A, fs.readFileSync(0, 'utf8'), fs.readFileSync('in/a.txt', 'utf8'));\n"
        "fs.writeFileSync('out', 'x');\nprocess.exitCode = 3;"
    ),
    "deno": (
        "const input: string = new TextDecoder().decode(await new Response(Deno.stdin.readable).arrayBuffer().then(b => new Uint8Array(b)));\n"
        "console.log(Deno.args, Deno.env.get('A'), input, await Deno.readTextFile('in/a.txt'));\n"
        "await Deno.writeTextFile('out', 'x');\nDeno.exit(3);"
    ),
    "go": GO
    % (
        '\ttext, _ := io.ReadAll(os.Stdin)\n\tfile, _ := os.ReadFile("in/a.txt")\n'
        '\tfmt.Println(os.Args[1:], os.Getenv("A"), string(text), string(file))\n\tos.WriteFile("out", file, 0o644)\n\tos.Exit(3)'
    ),
}
SHOWN = {
    "node": "[ 'x', 'ü' ] b hello zz",
    "typescript": "[ 'x', 'ü' ] b hello zz",
    "deno": '[ "x", "ü" ] b hello zz',
    "go": "[x ü] b hello zz",
}
ENDLESS = {
    "node": "while (true);",
    "typescript": "while (true);",
    "deno": "while (true);",
    "go": 'package main\n\nimport "fmt"\n\nfunc main() {\n\tfmt.Println("runs")\n\tfor {\n\t}\n}\n',
}
GREEDY = {
    "node": "const a = []; while (true) a.push(new Array(100000).fill(1));",
    "typescript": "const a: number[][] = []; while (true) a.push(new Array(100000).fill(1));",
    "deno": "const a = []; while (true) a.push(new Array(100000).fill(1));",
    "go": "package main\n\nfunc main() {\n\tvar a [][]byte\n\tfor {\n\t\tb := make([]byte, 1<<20)\n\t\tfor i := range b {\n\t\t\tb[i] = 1\n\t\t}\n\t\ta = append(a, b)\n\t}\n}\n",
}


def run(runner: Runner, language: str, code: str, **spec: Any) -> RunResult:
    return runner.run(RunSpec(language, code, **spec))


@pytest.mark.parametrize("language", list(LOOK))
def test_everything_that_a_run_is_given(runner: Runner, language: str) -> None:
    result = run(
        runner,
        language,
        LOOK[language],
        args=("x", "ü"),
        env={"A": "b"},
        stdin=b"hello",
        files=(InputFile("in/a.txt", b"zz"),),
    )
    assert output(result) == SHOWN[language]
    assert (result.status, result.exit_code) == (Status.FAILED, 3)
    assert result.changes == Changes(created=("out",))
    assert result.usage.cpu_time_s and result.usage.memory_peak_bytes
    assert (result.usage.compile_time_s is not None) == (language in ("go", "typescript"))


@pytest.mark.parametrize("language", list(ENDLESS))
def test_ends_at_its_time(runner: Runner, language: str) -> None:
    result = run(runner, language, ENDLESS[language], limits=Limits(wall_time_s=3.0))
    assert (result.status, result.exit_code) == (Status.TIMED_OUT, 124)
    if language == "go":  # compiling took time of its own, and what was printed before the end is there
        assert result.stdout.content == b"runs\n"


@pytest.mark.parametrize("language", list(GREEDY))
def test_ends_at_its_memory(runner: Runner, language: str) -> None:
    result = run(runner, language, GREEDY[language], limits=Limits(memory_bytes=192 * MIB))
    assert (result.status, result.exit_code) == (Status.OUT_OF_MEMORY, 137)


@pytest.mark.parametrize(
    ("language", "code"),
    [("go", "package main\n\nfunc main() {\n\tx\n}\n"), ("typescript", "const x: = 5")],
    ids=["go", "typescript"],
)
def test_what_does_not_compile(runner: Runner, language: str, code: str) -> None:
    result = run(runner, language, code)
    assert result.status is Status.COMPILE_ERROR and result.exit_code not in (0, None)
    assert b"main." in result.stderr.content


def test_compiling_has_a_limit_of_its_own(runner: Runner) -> None:
    result = run(runner, "go", ENDLESS["go"], limits=Limits(compile_time_s=0.001))
    assert result.status is Status.COMPILE_ERROR and result.exit_code != 0


def test_booted_ahead_child_serves_and_is_replaced(runner: Runner) -> None:
    from runners.backends.slot.backend import SlotBackend

    backend = runner._backend
    assert isinstance(backend, SlotBackend)
    for number in range(3):
        wait_until(lambda: backend._stock._count("node") == 1, 30, "a node that has booted")
        assert output(run(runner, "node", f"console.log({number})")) == str(number)


def test_a_language_is_booted_ahead_while_it_is_in_use(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    from runners.backends.slot import stock
    from runners.backends.slot.backend import SlotBackend

    backend = runner._backend
    assert isinstance(backend, SlotBackend)
    for number in range(2):
        assert output(run(runner, "deno", f"console.log({number})")) == str(number)
        wait_until(lambda: backend._stock._count("deno") == 1, 30, "a deno that has booted")
    with monkeypatch.context() as changed:
        changed.setattr(stock, "IN_USE_S", 0.0)
        backend._stock._missing.set()
        wait_until(lambda: backend._stock._count("deno") == 0, 30, "the end of what nobody uses")
    wait_until(lambda: backend._stock._count("node") == 1, 30, "the node that always stands ready")
    assert output(run(runner, "deno", "console.log(2)")) == "2"


def test_a_booted_child_that_dies_is_not_handed_out(runner: Runner) -> None:
    from runners.backends.slot.backend import SlotBackend

    backend = runner._backend
    assert isinstance(backend, SlotBackend)
    wait_until(lambda: backend._stock._count("node") == 1, 30, "a node that has booted")
    slot = next(slot for slot in backend._pool._idle if slot.prepared)
    slot.signal(10)  # pid 1 ends what it has
    wait_until(slot.has_word, 30, "the word of pid 1")
    assert output(run(runner, "node", "console.log(7)")) == "7"


def test_session_run_without_live_state(runner: Runner, workspace: Path) -> None:
    (workspace / "old").write_text("here")
    for language, code in (
        ("python", "import os\nprint(sorted(os.listdir())); open('py', 'w'); print(oct(os.getuid()))"),
        ("node", "console.log(require('fs').readdirSync('.').sort().join()); require('fs').writeFileSync('js', '')"),
        ("go", GO % '\t_ = io.EOF\n\tfile, _ := os.ReadFile("old")\n\tfmt.Println(string(file))'),
    ):
        result = run(runner, language, code, workspace=workspace.name)
        assert result.exit_code == 0, output(result)
        assert result.changes is None
    assert {entry.name for entry in workspace.iterdir()} == {"old", "py", "js"}


def test_folders_of_sessions_are_apart(runner: Runner, workspace: Path) -> None:
    other = workspace.parent / f"{workspace.name}-other"
    other.mkdir()
    (other / "secret").write_text("x")
    code = "import os\nprint([d for d in ('/ws', '/workspace/..', '/proc/self/root') for e in os.listdir(d) if 'ws-' in e], os.listdir())"
    assert "secret" not in output(run(runner, "python", code, workspace=workspace.name))
    for name in ("../x", "", ".", "a/b"):
        if name:
            with pytest.raises(ValueError, match="segment"):
                run(runner, "python", "1", workspace=name)


def test_uid_of_a_session_on_the_host(runner: Runner, workspace: Path, is_root: bool) -> None:
    (workspace / "mine").write_text("")
    run(runner, "python", "open('new', 'w')", workspace=workspace.name)
    owners = {workspace.stat().st_uid, (workspace / "new").stat().st_uid, (workspace / "mine").stat().st_uid}
    assert len(owners) == 1
    assert (0 not in owners) is is_root or not is_root


def test_limits_change_from_run_to_run(runner: Runner) -> None:
    code = "import os, time\nn = 0\ntry:\n  while n < 40:\n    if os.fork() == 0: time.sleep(60); os._exit(0)\n    n += 1\nexcept OSError: pass\nprint(n < 40)\nos._exit(0)"
    small = Limits(processes=16)
    for limits, few in ((small, "True"), (Limits(), "False"), (small, "True"), (replace(small, processes=64), "False")):
        assert output(run(runner, "python", code, limits=limits)) == few


def test_folder_that_grows_over_its_limits(runner: Runner, workspace: Path) -> None:
    grow = "import os, time\nfor i in range(64):\n  with open(f'f{i}', 'wb') as f: f.write(os.urandom(1 << 20)); f.flush(); os.fsync(f.fileno())\ntime.sleep(60)"
    result = run(runner, "python", grow, workspace=workspace.name, limits=Limits(workspace_bytes=16 * MIB))
    assert (result.status, result.exit_code) == (Status.FAILED, 137)
    assert result.reason == "Its workspace grew over 16 MiB."
    many = "import os, time\nfor i in range(3000): os.close(os.open(f'g{i}', os.O_CREAT))\ntime.sleep(60)"
    result = run(runner, "python", many, workspace=workspace.name, limits=Limits(workspace_files=1000))
    assert result.reason == "Its workspace grew over 1000 files."
    huge = "import os\ntry:\n  os.ftruncate(os.open('h', os.O_CREAT | os.O_RDWR), 1 << 40)\nexcept OSError as e: print(e.strerror)"
    assert "File too large" in output(run(runner, "python", huge, workspace=workspace.name))
