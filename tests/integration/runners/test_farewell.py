"""Results that are known before the interpreter has taken itself down, and those that must not be."""

from __future__ import annotations

import pytest

from runners.backends.slot.backend import SlotBackend
from runners.runner import Runner
from runners.types import Changes, RunResult, RunSpec, Status
from tests.boxes import output
from tests.waiting import wait_until

LISTENER = "process.on('exit', () => console.log('listener'));"
WRAPPED = """
const { emit } = process;
process.emit = function (name, ...rest) {
  const told = emit.call(this, name, ...rest);
  if (name === 'exit') console.log('wrapped');
  return told;
};
"""
REPLACED = """
const { reallyExit } = process;
process.reallyExit = (code) => { console.log('replaced'); reallyExit.call(process, 4); };
process.exit(0);
"""
FORGED = """
import { Socket } from 'node:net';
new Socket({ fd: 3 }).write('D');
while (true);
"""
GREEDY = """
import { Socket } from 'node:net';
new Socket({ fd: 3 }).write('D');
const held = [];
while (true) held.push(Buffer.alloc(1 << 24, 1));
"""
TALKATIVE = """
import { Socket } from 'node:net';
const channel = new Socket({ fd: 3, allowHalfOpen: true });
channel.write('x');
setTimeout(() => channel.write('D'), 100);
setTimeout(() => console.log('end'), 700);
"""


def run(runner: Runner, code: str, language: str = "node") -> RunResult:
    return runner.run(RunSpec(language, code))


@pytest.mark.parametrize("language", ["node", "typescript", "deno"])
@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("console.log(1)", "1"),
        ("setTimeout(() => console.log('late'), 20); process.once('beforeExit', () => console.log('before'))", "late\nbefore"),
        (LISTENER, "listener"),
        ("console.log('x'.repeat(300000) + '!')", "x" * 300_000 + "!"),
        (WRAPPED, "wrapped"),
    ],
    ids=["plain", "late", "listener", "much", "wrapped"],
)  # fmt: skip
def test_nothing_that_a_program_says_at_its_end_is_missed(runner: Runner, language: str, code: str, text: str) -> None:
    result = run(runner, code, language)
    assert (result.status, result.exit_code, output(result)) == (Status.SUCCEEDED, 0, text)
    assert result.changes == Changes() and result.usage.cpu_time_s


def test_the_exit_code_is_the_one_of_the_process(runner: Runner) -> None:
    assert (run(runner, REPLACED).exit_code, output(run(runner, REPLACED))) == (4, "replaced")
    assert run(runner, "process.on('exit', () => { process.exitCode = 5; })").exit_code == 5
    assert run(runner, "process.exitCode = 6").exit_code == 6
    assert run(runner, "await new Promise(() => {}); export {}").exit_code == 13
    failed = run(runner, "process.on('exit', () => {}); throw new Error('boom')")
    assert failed.exit_code == 1 and b"boom" in failed.stderr.content


AT_THE_LAST = """
process.prependOnceListener('exit', () => {
  Promise.resolve().then(() => console.log('micro'));
  process.exitCode = 4;
});
"""
WITHDRAWN = """
const leave = () => { process.off('exit', leave); process.exitCode = 7; };
process.on('exit', leave);
"""
EMITTED = """
console.log(process.emit('exit', 0), process.listenerCount('exit'), process.eventNames().includes('exit'));
setTimeout(() => { console.log('late'); process.exitCode = 5; }, 300);
"""
NESTED = """
process.prependOnceListener('exit', () => { process.emit('exit', 0); process.exitCode = 8; });
"""
PATCHED = """
const { EventEmitter } = require('events');
const { emit } = EventEmitter.prototype;
EventEmitter.prototype.emit = function (name, ...rest) {
  if (name === 'exit') console.log('patched');
  return emit.call(this, name, ...rest);
};
"""
MANY = "for (let i = 0; i < 10; i++) process.on('exit', () => {}); console.log(process.listenerCount('exit'));"


@pytest.mark.parametrize("language", ["node", "typescript"])
@pytest.mark.parametrize(
    ("code", "exit_code", "text"),
    [
        (AT_THE_LAST, 4, "micro"),
        (WITHDRAWN, 7, ""),
        (EMITTED, 5, "false 0 false\nlate"),
        (NESTED, 8, ""),
        (PATCHED, 0, "patched"),
        (MANY, 0, "10"),
        ("process.listenerCount = () => { throw new Error('mine'); };", 0, ""),
        ("process.emit = process.emit; console.log(Object.keys(process).includes('emit'))", 0, "true"),
    ],
    ids=["at-the-last", "withdrawn", "emitted", "nested", "patched", "many", "counting", "assigned"],
)
def test_listeners_of_the_exit_are_as_without_us(
    runner: Runner, language: str, code: str, exit_code: int, text: str
) -> None:
    result = run(runner, code, language)
    assert (result.exit_code, output(result)) == (exit_code, text)


UNLOAD = """
addEventListener('beforeunload', () => console.log('before'));
addEventListener('unload', () => console.log('unload'));
dispatchEvent(new Event('unload'));
setTimeout(() => console.log('late'), 20);
"""
NEVER = "addEventListener('unload', () => queueMicrotask(() => Deno.stdout.writeSync(new Uint8Array([63]))));"
ITERATING = (
    "Array.prototype[Symbol.iterator] = () => { console.log('ours'); return { next: () => ({ done: true }) }; };"
)


def test_deno_says_all_that_it_says_at_its_end(runner: Runner) -> None:
    assert output(run(runner, UNLOAD, "deno")) == "unload\nlate\nbefore\nunload"
    assert output(run(runner, NEVER, "deno")) == output(run(runner, ITERATING, "deno")) == ""
    assert run(runner, "addEventListener('unload', () => { Deno.exitCode = 5; })", "deno").exit_code == 5
    assert run(runner, "process.on('exit', () => { process.exitCode = 6; })", "deno").exit_code == 6
    assert run(runner, "await new Promise(() => {});", "deno").exit_code == 1
    failed = run(runner, "process.on('exit', () => { throw new Error('boom'); })", "deno")
    assert failed.exit_code == 1 and b"boom" in failed.stderr.content and b"_once" not in failed.stderr.content


def test_files_that_deno_leaves_are_told(runner: Runner) -> None:
    late = run(runner, "addEventListener('unload', () => Deno.writeTextFileSync('left.txt', 'x'))", "deno")
    assert late.changes is not None and late.changes.created == ("left.txt",)
    assert run(runner, "Deno.writeTextFileSync('a', 'x'); Deno.removeSync('a')", "deno").changes == Changes()


def test_files_that_a_program_leaves_are_told(runner: Runner) -> None:
    result = run(runner, "process.report.writeReport('left.json')")
    assert result.changes is not None and result.changes.created == ("left.json",)
    assert run(runner, "console.log(2)").changes == Changes()


def test_a_program_that_only_says_that_it_ends_is_killed(runner: Runner) -> None:
    backend = of_cgroups(runner)
    result = run(runner, FORGED)
    assert (result.status, output(result)) == (Status.SUCCEEDED, "")
    assert result.usage.wall_time_s is not None and result.usage.wall_time_s < 20
    wait_until(lambda: all_idle(backend), 30, "the end of the run's process")
    assert output(run(runner, "console.log(3)")) == "3"


def test_what_a_program_does_after_it_said_that_it_ends_is_laid_to_no_other(runner: Runner) -> None:
    backend = of_cgroups(runner)
    assert run(runner, GREEDY).status is Status.SUCCEEDED
    wait_until(lambda: all_idle(backend), 30, "the end of the run's process")
    assert not any(slot.group and slot.group.has_new_oom_kills() for slot in backend._pool._idle)


@pytest.mark.parametrize("language", ["node", "typescript"])
def test_only_the_first_word_on_the_channel_is_heard(runner: Runner, language: str) -> None:
    assert output(run(runner, TALKATIVE, language)) == "end"


def of_cgroups(runner: Runner) -> SlotBackend:
    backend = runner._backend
    assert isinstance(backend, SlotBackend)
    if not backend._terms.cgroups:
        pytest.skip("farewells are taken where cgroups tell what a run has used")
    return backend


def all_idle(backend: SlotBackend) -> bool:
    return len(backend._pool._idle) == len(backend._builder._living)
