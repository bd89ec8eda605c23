"""Live sessions of node, typescript and deno: one driver, three languages."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.drivers import driving
from tests.unit.drivers.driving import Place, Session

ALL = ["node", "typescript", "deno"]


@pytest.fixture(params=ALL)
def language(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def live(place: Place, language: str) -> Iterator[Session]:
    with driving.session(place, language) as session:
        yield session


def test_declarations_stay_and_may_be_made_again(live: Session) -> None:
    live.run("const a = 1; let b = 2; class C { x = 1 } function f() { return a + b } var v = 9;")
    assert live.run("[a, b, new C().x, f(), v]").result == "[ 1, 2, 1, 3, 9 ]"
    assert (
        live.run("const a = 10; let b = 20; class C { x = 5 } function f() { return a * b } var v = 8;").exit_code == 0
    )
    assert live.run("[a, b, new C().x, f(), v]").result == "[ 10, 20, 5, 200, 8 ]"


def test_a_name_may_become_another_kind_of_thing(live: Session) -> None:
    live.run("const a = 1; let b = 2; class c {} function d() {} var e = 5, g = 6;")
    reply = live.run("let a = 2; const b = 3; let { c, d } = { c: 4, d: 5 }; class e {} const g = 7;")
    assert reply.exit_code == 0, reply.stderr
    assert live.run("[a, b, c, d, typeof e, g]").result == "[ 2, 3, 4, 5, 'function', 7 ]"
    reply = live.run("function a() { return 1 } var b = 4; for (var c of [8]) {} if (a) { var h = 1, b = 5 }")
    assert reply.exit_code == 0, reply.stderr
    assert live.run("[a(), b, c, h]").result == "[ 1, 5, 8, 1 ]"


def test_constants_are_constant(live: Session) -> None:
    reply = live.run("const fixed = 1;\nfixed = 2;")
    assert reply.exit_code == 1
    assert "TypeError: Assignment to constant variable." in reply.stderr
    assert live.run("let fixed = 3; fixed").result == "3"


def test_modules_by_import_and_require(live: Session, place: Place) -> None:
    (place.workspace / "own.mjs").write_text("export default 1; export const two = 2;")
    code = """import fs, { readFileSync as read } from 'node:fs';
    import * as path from 'node:path';
    import one, { two } from './own.mjs';
    const { join } = require('path');
    const again = await import('./own.mjs');
    """
    reply = live.run(code)
    assert reply.exit_code == 0, reply.stderr
    code = "[read === fs.readFileSync, path.join === join, one, two, again.two, import.meta.url.includes('/main.')]"
    assert live.run(code).result == "[ true, true, 1, 2, 2, true ]"
    assert "does not provide an export named 'nothing'" in live.run("import { nothing } from 'node:fs'").stderr


def test_results_are_inspected_values(live: Session) -> None:
    for code, result in [
        ("({ a: [1, 'x'] })", "{ a: [ 1, 'x' ] }"), ("10n ** 20n", "100000000000000000000n"), ("-0", "-0"), ("null", "null"),
        ("undefined", None), ("let x = 5", None), ("Symbol('s')", "Symbol(s)"), ("await Promise.resolve('y')", "'y'"),
    ]:  # fmt: skip
        assert live.run(code).result == result
    result = live.run("'é'.repeat(60_000) + '' ").result
    assert result is not None
    assert len(result.encode()) <= 65_536


def test_a_run_ends_when_the_loop_is_idle(live: Session) -> None:
    reply = live.run("setTimeout(() => console.log('late'), 50); console.error('early'); 1")
    assert (reply.stdout, reply.stderr, reply.result) == ("late\n", "early\n", "1")
    code = """const server = require('http').createServer((request, response) => response.end('served')).listen(0);
    await new Promise((ready) => server.on('listening', ready));
    server.address().port > 0"""
    assert live.run(code).result == "true"
    assert live.run("await (await fetch('http://127.0.0.1:' + server.address().port)).text()").result == "'served'"
    assert live.run("server.closeAllConnections?.(); server.close(); 2").result == "2"


def test_ends_keep_the_state(place: Place) -> None:
    with driving.session(place, "node") as live:
        live.run("const kept = 1;")
        for code, exit_code in [
            ("process.exit(3)", 3), ("await 1; process.exit(4)", 4), ("process.exitCode = 6; 1", 6), ("let y = = 4", 1),
            ("setInterval(() => {}, 1000); setTimeout(() => process.exit(5), 10)", 5), ("throw new Error('x')", 1),
            ("Promise.reject(new Error('x'))", 1), ("await new Promise(() => {})", 13),
        ]:  # fmt: skip
            assert live.run(code).exit_code == exit_code
            assert live.run("kept").result == "1"


def test_exit_ends_the_run_in_every_language(live: Session, language: str) -> None:
    live.run("const kept = 1;")
    code = "Deno.exit(7)" if language == "deno" else "try { process.exit(7) } catch { console.log('caught') }"
    reply = live.run(code)
    assert (reply.exit_code, reply.stdout) == (7, "")
    assert live.run("kept").result == "1"


def test_errors_name_the_run_and_its_lines(live: Session) -> None:
    live.run("function first() {\n  throw new TypeError('bad');\n}")
    reply = live.run("1;\n\nfirst();")
    assert reply.exit_code == 1
    assert reply.stderr.startswith("Uncaught TypeError: bad\n    at first (")
    assert ":2:9)" in reply.stderr
    assert "#2:3:1" in reply.stderr
    assert "/drivers/" not in reply.stderr
    reply = live.run("1;\nlet y = = 4;")
    assert "SyntaxError" in reply.stderr
    assert "let y = = 4;" in reply.stderr


def test_environment_arguments_and_input_are_of_one_run(live: Session) -> None:
    code = "process.env.STAYS = 'mine'; [process.env.A, process.argv.slice(2), require('fs').readFileSync(0, 'utf8')]"
    assert live.run(code, env={"A": "1"}, args=["x"], stdin=b"text").result == "[ '1', [ 'x' ], 'text' ]"
    code = "[process.env.A, process.env.STAYS, process.argv.length, require('fs').readFileSync(0, 'utf8')]"
    assert live.run(code).result == "[ undefined, 'mine', 2, '' ]"
    code = "let text = ''; for await (const part of process.stdin) text += part; text"
    assert live.run(code, stdin=b"streamed").result == "'streamed'"


@pytest.mark.parametrize(
    ("language", "wait"),
    [
        (name, "setTimeout(() => console.log('begun'), 20); await new Promise(() => setTimeout(() => {}, 600_000))")
        for name in ALL
    ]
    + [(name, "console.log('begun'); while (true);") for name in ALL if name != "deno"],
)
def test_an_interrupt_ends_the_run_alone(place: Place, language: str, wait: str) -> None:
    with driving.session(place, language) as live:
        live.run("const kept = 1;")
        live.begin(wait)
        live.stdout.wait_for("begun")
        live.interrupt()
        assert live.finish().exit_code == 130
        live.interrupt()
        live.snapshot()  # by its answer the signal has been heard
        assert live.run("kept").result == "1"


@pytest.mark.parametrize("language", ["typescript", "deno"])
def test_types_are_stripped(live: Session, place: Place) -> None:
    (place.workspace / "own.ts").write_text("export enum Size { Small = 5 }\n")
    code = """import { Size } from './own.ts';
    enum Color { Red = 4, Green }
    interface Point { x: number }
    class Made { constructor(public readonly z: number) {} }
    const point: Point = { x: Color.Green };
    [point.x, new Made(3).z, Size.Small]"""
    assert live.run(code).result == "[ 5, 3, 5 ]"
    assert live.run("Color.Red as number").result == "4"
    # Enums move lines; stack traces show those of the source.
    reply = live.run("enum E {\n  A,\n  B,\n}\nfunction fails(): never {\n  throw new Error('x');\n}\nfails();")
    assert "#3:6:9)" in reply.stderr
    assert "#3:8:1" in reply.stderr


def test_typescript_that_does_not_compile_says_so(place: Place) -> None:
    with driving.session(place, "typescript") as live:
        reply = live.run("let n: number = 1;\nlet t: = 4;")
        assert (reply.exit_code, reply.error) == (1, "compile_error")
        assert "main.ts:2" in reply.stderr
        assert live.run("typeof n").result == "'undefined'"


SNAPSHOT = """
import fs, { readFileSync as read } from 'node:fs';
const { join } = require('path');
let n = 1, s = 'a', big = 10n, zero = -0, nothing = null, missing;
const o = { a: [1, 2, { b: 1 }], d: new Date(5), r: /x/gi, m: new Map([[1, { z: 1 }]]), t: new Set([1]) };
o.self = o;
const alias = o.a;
function add(a, b) { return a + b + n }
const twice = (x) => x * 2;
class A { static c = 1; constructor(x) { this.x = x } get() { return this.x + n } }
class B extends A { hi() { return 'hi' + this.get() } }
A.c = 7;
const b = new B(4);
const api = { add(a) { return a + 1 }, twice };
var v = 5;
implicit = 6;
const floats = new Float32Array([1, 2]);
const error = new TypeError('bad');
const frozen = Object.freeze({ a: 1 });
const log = console;
const counter = (() => { let count = 0; return () => ++count; })();
const symbol = Symbol('q');
class Secret { #x = 1; get() { return this.#x } }
const secret = new Secret();
const generator = (function* () {})();
const promise = Promise.resolve(1);
const holding = { promise };
undefined
"""


@pytest.mark.parametrize("language", ["node", "deno"])
def test_a_snapshot_brings_back_what_can_be_kept(place: Place, live: Session, language: str) -> None:
    reply = live.run(SNAPSHOT)
    assert reply.exit_code == 0, reply.stderr
    content, lost = live.snapshot()
    assert set(lost) == {"counter", "symbol", "secret", "generator", "promise", "holding"}
    assert live.run("counter()").result == "1"
    with driving.session(place, language) as other:
        assert other.restore(content) == []
        code = """[n, s, big, Object.is(zero, -0), nothing, missing, o.self === o, alias === o.a, o.d.getTime(), o.r.flags,
          o.m.get(1).z, o.t.has(1), v, implicit, floats[1], error.message, error instanceof TypeError, Object.isFrozen(frozen),
          log === console].join()"""
        assert other.run(code).result == "'1,a,10,true,,,true,true,5,gi,1,true,5,6,2,bad,true,true,true'"
        code = """[add(1, 2), twice(4), twice.name, A.c, b.hi(), b instanceof B, api.add(1), api.twice === twice,
          read === fs.readFileSync, join('a', 'b'), typeof counter].join()"""
        assert other.run(code).result == "'4,8,twice,7,hi5,true,2,true,true,a/b,undefined'"
        assert other.run(
            "n = 100; let s = 'new'; class A {} function add() { return 9 } [b.get(), s, add()].join()"
        ).result == ("'104,new,9'")


def test_hanging_up_ends_the_driver(live: Session) -> None:
    assert live.run("1").result == "1"
    assert live.close() == 0
