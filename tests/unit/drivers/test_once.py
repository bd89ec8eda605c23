"""One-shot drivers: programs behave as under `node file`, `deno run file` and `go run file`."""

from __future__ import annotations

import pytest

from tests.unit.drivers.driving import Place

FAIL_LINE_3 = {
    "node": "function f() {\n  // line 2\n  throw new Error('boom');\n}\nf();\n",
    "typescript": "function f(x: number): never {\n  // line 2\n  throw new Error('boom' + x);\n}\nf(1);\n",
    "deno": "function f(x: number): never {\n  // line 2\n  throw new Error('boom' + x);\n}\nf(1);\n",
}


@pytest.mark.parametrize("language", ["node", "typescript", "deno"])
def test_errors_name_the_users_lines(place: Place, language: str) -> None:
    ended = place.once(language, FAIL_LINE_3[language])
    assert ended.exit_code == 1
    name = "main.js" if language == "node" else "main.ts"
    assert f"{place.workspace}/{name}:3:9" in ended.stderr
    assert "boom" in ended.stderr
    assert "_once" not in ended.stderr
    assert list(place.workspace.iterdir()) == []


@pytest.mark.parametrize("language", ["node", "typescript"])
def test_arguments_environment_input_and_exit_code(place: Place, language: str) -> None:
    code = """
    const text = require('fs').readFileSync(0, 'utf8');
    console.log(process.argv.slice(2).join('+'), process.env.GREETING, text, require.main === module);
    console.error('to stderr');
    process.exit(7);
    """
    ended = place.once(language, code, args=["a", "ü"], env={"GREETING": "hello"}, stdin=b"input")
    assert (ended.exit_code, ended.stdout, ended.stderr) == (7, "a+ü hello input true\n", "to stderr\n")


@pytest.mark.parametrize("language", ["node", "typescript"])
def test_import_and_require_live_in_one_program(place: Place, language: str) -> None:
    (place.workspace / "a.mjs").write_text("export const a = 1;")
    (place.workspace / "b.cjs").write_text("module.exports = { b: 2 };")
    (place.workspace / "c.json").write_text('{"c": 3}')
    code = """import { a } from './a.mjs';
    const { b } = require('./b.cjs');
    const { c } = require('./c.json');
    const d = await Promise.resolve(4);
    const e = await import('./a.mjs');
    console.log(a, b, c, d, e.a, import.meta.filename.endsWith('/main.' + import.meta.filename.slice(-2)));
    """
    ended = place.once(language, code)
    assert (ended.exit_code, ended.stdout, ended.stderr) == (0, "1 2 3 4 1 true\n", "")


def test_typescript_has_enums_namespaces_and_parameter_properties(place: Place) -> None:
    (place.workspace / "other.ts").write_text("export enum Size { Small = 5 }\nexport interface Unused { a: number }\n")
    code = """import { Size } from './other';
enum Color { Red, Green }
namespace Space { export const x: number = 2; }
class Point { constructor(public x: number, private readonly y = 1) {} sum(): number { return this.x + this.y; } }
const list: Array<number> = [Color.Green, Space.x, new Point(3).sum(), Size.Small];
console.log(...list);
throw new Error('line 7');
"""
    ended = place.once("typescript", code)
    assert ended.stdout == "1 2 4 5\n"
    assert f"{place.workspace}/main.ts:7:7" in ended.stderr
    assert ended.told[:1] == b"C"
    assert len(ended.told) == 9


def test_typescript_errors_of_syntax_are_the_compilers(place: Place) -> None:
    ended = place.once("typescript", "const a: number = 1;\nconst b: = 2;\nconsole.log(a);\n")
    assert (ended.exit_code, ended.stdout, ended.told) == (1, "", b"E\x01")
    assert "main.ts:2" in ended.stderr
    assert "SyntaxError" in ended.stderr


def test_deno_is_the_main_module_with_every_permission(place: Place) -> None:
    (place.workspace / "other.ts").write_text("export enum Size { Small = 5 }\n")
    (place.workspace / "main.ts").write_text("the session's own file")
    code = """import { Size } from './other.ts';
    Deno.writeTextFileSync('made.txt', 'x');
    const text = await new Response(Deno.stdin.readable).text();
    console.log(Size.Small, import.meta.main, Deno.args.join('+'), Deno.env.get('GREETING'), text);
    Deno.exit(7);
    """
    ended = place.once("deno", code, args=["a", "b"], env={"GREETING": "hello"}, stdin=b"input")
    assert (ended.exit_code, ended.stdout, ended.stderr) == (7, "5 true a+b hello input\n", "")
    assert sorted(path.name for path in place.workspace.iterdir()) == ["made.txt", "main.ts", "other.ts"]
    assert (place.workspace / "main.ts").read_text() == "the session's own file"


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("const a = ;", "error: SyntaxError: Expression expected\n  |\n1 | const a = ;\n"),
        ("import './nope.ts';", 'error: Module not found "file://'),
        ("throw new TypeError('own')", "error: Uncaught (in promise) TypeError: own\n"),
    ],
)
def test_deno_says_why_a_program_cannot_be_loaded(place: Place, code: str, text: str) -> None:
    ended = place.once("deno", code)
    assert (ended.exit_code, ended.stdout) == (1, "")
    assert ended.stderr.startswith(text)
    assert "main.ts:1:" in ended.stderr
    assert list(place.workspace.iterdir()) == []


def test_deno_tells_a_program_that_it_was_loaded(place: Place) -> None:
    ended = place.once("deno", "onload = () => console.log('loaded'); await 0; console.log('first');")
    assert (ended.exit_code, ended.stdout, ended.stderr) == (0, "first\nloaded\n", "")


def test_go_compiles_and_becomes_the_program(place: Place) -> None:
    code = """package main

import (
	"bufio"
	"fmt"
	"os"
)

func main() {
	line, _ := bufio.NewReader(os.Stdin).ReadString('\\n')
	fmt.Println(os.Args[1:], os.Getenv("GREETING"), line)
	panic("line 12")
}
"""
    ended = place.once("go", code, args=["a"], env={"GREETING": "hello"}, stdin=b"input")
    assert (ended.exit_code, ended.stdout) == (2, "[a] hello input\n")
    assert f"{place.workspace}/main.go:12" in ended.stderr
    assert ended.told[:1] == b"C"
    assert len(ended.told) == 9
    assert list(place.workspace.iterdir()) == []


def test_go_errors_are_the_compilers(place: Place) -> None:
    ended = place.once("go", "package main\n\nfunc main() {\n\tx := 1\n}\n")
    assert (ended.stdout, ended.told) == ("", b"E" + bytes([ended.exit_code]))
    assert ended.exit_code in (1, 2)
    assert "main.go:4:2: declared and not used: x" in ended.stderr


def test_go_takes_the_files_beside_it(place: Place) -> None:
    (place.workspace / "go.mod").write_text("module example.com/own\n\ngo 1.21\n")
    (place.workspace / "main.go").write_text("package main\n\nthe session's own file")
    (place.workspace / "beside.go").write_text("package main\n\nfunc beside() int { return 5 }\n")
    (place.workspace / "sub").mkdir()
    (place.workspace / "sub" / "sub.go").write_text("package sub\n\nfunc Six() int { return 6 }\n")
    code = 'package main\n\nimport "example.com/own/sub"\n\nfunc main() { println(beside(), sub.Six()) }\n'
    ended = place.once("go", code)
    assert (ended.exit_code, ended.stderr) == (0, "5 6\n")
    assert (place.workspace / "main.go").read_text() == "package main\n\nthe session's own file"


@pytest.mark.parametrize("language", ["node", "typescript"])
@pytest.mark.parametrize(
    ("code", "word"),
    [
        ("console.log(1)", b"D"),
        ("process.exit()", b"D"),
        ("process.on('beforeExit', () => {})", b"D"),
        ("const e = await Promise.resolve(1); export { e }", b"D"),
        ("process.exitCode = 1", b""),
        ("process.on('exit', () => {})", b""),
        ("process.emit = process.emit", b""),
        ("require('fs').mkdirSync('made')", b""),
    ],
)
def test_farewell_is_said_where_nothing_can_follow(place: Place, language: str, code: str, word: bytes) -> None:
    ended = place.once(language, code, farewell=True)
    assert ended.told[9 * (language == "typescript") :] == word


@pytest.mark.parametrize("language", ["node", "typescript"])
def test_output_written_to_the_descriptor_itself_waits_for_room(place: Place, language: str) -> None:
    code = "const { writeSync } = require('fs');\nfor (let left = 2_000_000; left > 0;) left -= writeSync(1, 'x'.repeat(left));"
    ended = place.once(language, code)
    assert (ended.exit_code, len(ended.stdout), ended.stderr) == (0, 2_000_000, "")
