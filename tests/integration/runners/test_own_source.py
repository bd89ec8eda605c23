"""Programs in JavaScript that need their own source as a file: workers, child processes, imports of themselves."""

from __future__ import annotations

import pytest

from runners.runner import Runner
from runners.types import Changes, InputFile, RunSpec
from tests.boxes import output

NODE = {
    "worker": (
        "const { Worker, isMainThread, parentPort } = require('worker_threads');\n"
        "if (isMainThread) new Worker(__filename).on('message', console.log); else parentPort.postMessage('from inside');",
        "from inside",
    ),
    "module-worker": (
        "import { Worker, isMainThread, parentPort } from 'node:worker_threads';\n"
        "if (isMainThread) new Worker(new URL(import.meta.url)).on('message', console.log);\n"
        "else parentPort.postMessage('from inside');",
        "from inside",
    ),
    "fork": (
        "const { fork } = require('child_process');\n"
        "if (process.argv[2]) console.log('child'); else fork(process.argv[1], ['x']).on('exit', console.log);",
        "child\n0 null",
    ),
    "cluster": (
        "const cluster = require('cluster');\n"
        "if (cluster.isPrimary) cluster.fork().on('exit', (code) => console.log('ended', code)); else process.exit(2);",
        "ended 2",
    ),
    "itself": ("exports.a = 1; console.log(require('./main') === module.exports);", "true"),
}
DENO = {
    "worker": (
        "if (self instanceof (globalThis.WorkerGlobalScope ?? class {})) { postMessage('from inside'); self.close(); }\n"
        "else new Worker(import.meta.url, { type: 'module' }).onmessage = (event) => console.log(event.data);",
        "from inside",
    ),
    "main-worker": (
        "console.log(import.meta.main);\n"
        "if (!globalThis.WorkerGlobalScope) new Worker(import.meta.url, { type: 'module' }).onmessage = () => {};\n"
        "else self.close();",
        "true\ntrue",
    ),
    "text": ("console.log((await Deno.readTextFile(new URL(import.meta.url))).length);", "72"),
    "itself": ("import * as me from './main.ts';\nexport const y = 1;\nconsole.log(Object.keys(me).length);", "1"),
}


@pytest.mark.parametrize(
    ("language", "code", "text"),
    [
        pytest.param(language, code, text, id=f"{language}-{name}")
        for language, programs in (("node", NODE), ("typescript", NODE), ("deno", DENO))
        for name, (code, text) in programs.items()
    ],
)
def test_programs_that_need_themselves(runner: Runner, language: str, code: str, text: str) -> None:
    result = runner.run(RunSpec(language, code))
    assert (result.exit_code, output(result), result.changes) == (0, text, Changes())


def test_a_module_that_requires_the_program(runner: Runner) -> None:
    files = (InputFile("helper.js", b"console.log(Object.keys(require('./main.js')));"),)
    result = runner.run(RunSpec("node", "exports.a = 1; require('./helper.js');", files=files))
    assert output(result) == "[ 'a' ]"


@pytest.mark.parametrize("code", ["console.log(import.meta.url)", "console.log(typeof module, await 1)"])
@pytest.mark.parametrize("kind", ["module", "commonjs"])
def test_a_package_says_what_the_program_is(runner: Runner, code: str, kind: str) -> None:
    files = (InputFile("package.json", f'{{"type": "{kind}"}}'.encode()),)
    result = runner.run(RunSpec("node", code, files=files))
    if kind == "commonjs":
        assert result.exit_code == 1 and b"SyntaxError" in result.stderr.content
    else:
        assert output(result) in ("file:///workspace/main.js", "undefined 1")


def test_an_error_of_a_program_that_stays_is_told_as_denos(runner: Runner) -> None:
    result = runner.run(RunSpec("deno", "console.log(import.meta.url);\nconst a = ;"))
    assert result.stderr.content.startswith(b"error: SyntaxError: Expression expected") and result.changes == Changes()
    thrown = runner.run(RunSpec("deno", "import.meta.url;\nthrow new TypeError('own')"))
    assert thrown.stderr.content.startswith(b"error: Uncaught (in promise) TypeError: own")


@pytest.mark.parametrize("language", ["node", "typescript"])
def test_variables_that_node_reads_at_its_start(runner: Runner, language: str) -> None:
    env = {"NODE_PATH": "/workspace/lib", "NODE_OPTIONS": "--no-deprecation"}
    files = (InputFile("lib/mine/index.js", b"module.exports = 6;"),)
    result = runner.run(RunSpec(language, "new Buffer(1); console.log(require('mine'));", env=env, files=files))
    assert output(result) == "6"
