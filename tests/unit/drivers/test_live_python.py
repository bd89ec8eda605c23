"""Live Python sessions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.drivers import driving
from tests.unit.drivers.driving import Place, Session


@pytest.fixture
def live(place: Place) -> Iterator[Session]:
    with driving.session(place, "python") as session:
        yield session


def test_variables_functions_and_imports_stay(live: Session) -> None:
    assert live.run("import json\nx = 20\ndef f(): return x + 1\nclass A: pass").result is None
    reply = live.run("print(json.dumps([f()]))\nx + 22")
    assert (reply.exit_code, reply.stdout, reply.result) == (0, "[21]\n", "42")
    assert live.run("None").result is None
    assert live.run("__name__, isinstance(A(), A)").result == "('__main__', True)"


def test_top_level_await_has_one_loop(live: Session) -> None:
    live.run("import asyncio\nq = asyncio.Queue()\nasync def put():\n    await q.put(5)")
    reply = live.run("await put()\nt = asyncio.create_task(asyncio.sleep(0, 'slept'))")
    assert reply.exit_code == 0, reply.stderr
    assert live.run("(await q.get(), await t)").result == "(5, 'slept')"
    assert live.run("asyncio.run(asyncio.sleep(0, 'inner'))").result == "'inner'"
    assert live.run("await asyncio.sleep(0, 'again')").result == "'again'"


def test_ends_keep_the_state(live: Session) -> None:
    live.run("kept = 1")
    for code, exit_code in [
        ("import sys; sys.exit(7)", 7), ("exit()", 0), ("quit(3)", 3), ("raise SystemExit('why')", 1), ("1/0", 1), ("def x(:", 1),
    ]:  # fmt: skip
        assert live.run(code).exit_code == exit_code
        assert live.run("kept").result == "1"


def test_tracebacks_show_the_users_lines_alone(live: Session) -> None:
    live.run("def first():\n    raise ValueError('bad')\n")
    reply = live.run("x = 1\n\nfirst()  # here\n")
    assert reply.exit_code == 1
    assert "line 3, in <module>\n    first()  # here\n" in reply.stderr
    assert "line 2, in first\n    raise ValueError('bad')\n" in reply.stderr
    assert "python_cell" not in reply.stderr
    assert "python_live" not in reply.stderr
    reply = live.run("async def g():\n    raise KeyError(3)\nawait g()")
    assert "line 2, in g" in reply.stderr
    assert "python_cell" not in reply.stderr


def test_environment_and_arguments_are_of_one_run(live: Session) -> None:
    code = "import os, sys\nos.environ['STAYS'] = 'mine'\n(os.environ.get('A'), sys.argv[1:])"
    assert live.run(code, env={"A": "1"}, args=["x", "ü"]).result == "('1', ['x', 'ü'])"
    assert live.run("(os.environ.get('A'), sys.argv[1:], os.environ['STAYS'])").result == "(None, [], 'mine')"


def test_input_is_of_one_run(live: Session) -> None:
    assert (
        live.run("import sys\ninput(), sys.stdin.read()", stdin=b"eins\nzwei\ndrei").result == "('eins', 'zwei\\ndrei')"
    )
    assert "EOFError" in live.run("input()").stderr
    assert live.run("input()", stdin=b"again\n").result == "'again'"


def test_an_interrupt_ends_the_run_alone(live: Session) -> None:
    live.run("kept = 1")
    for wait in ["while True: pass", "import time; time.sleep(600)", "import asyncio; await asyncio.sleep(600)"]:
        live.begin(f"print('begun', flush=True)\n{wait}")
        live.stdout.wait_for("begun")
        live.interrupt()
        reply = live.finish()
        assert reply.exit_code == 130
        assert "KeyboardInterrupt" in reply.stderr
        live.interrupt()
        assert live.run("kept").result == "1"


def test_children_do_not_answer(live: Session) -> None:
    code = """
import multiprocessing, os, subprocess, threading
def double(x): return 2 * x
child = os.fork()
if child:
    os.waitpid(child, 0)
with multiprocessing.Pool(2) as pool:
    results = pool.map(double, [1, 2]) if child else []
"""
    assert live.run(code).exit_code == 0
    assert live.run("results").result == "[2, 4]"
    assert live.run("subprocess.run(['/bin/echo', 'sub'], capture_output=True).stdout").result == "b'sub\\n'"
    code = "said = []\nthread = threading.Thread(target=lambda: said.append(1))\nthread.start(); thread.join()\nsaid"
    assert live.run(code).result == "[1]"


def test_output_is_unbuffered_and_comes_back_after_a_redirection(live: Session) -> None:
    live.begin("import sys, time\nprint('no newline', end='')\ntime.sleep(600)")
    live.stdout.wait_for("no newline")
    live.interrupt()
    live.finish()
    live.run("import io\nsys.stdout = io.StringIO()")
    assert live.run("print('back')").stdout == "back\n"


def test_results_are_bounded(live: Session) -> None:
    result = live.run("'é' * 100_000").result
    assert result is not None
    assert 65_000 < len(result.encode()) <= 65_536
    assert live.run("class Bad:\n    def __repr__(self): raise RuntimeError('no')\nBad()").exit_code == 1


def test_a_driver_that_user_code_breaks_ends_its_own_session(live: Session) -> None:
    with pytest.raises((EOFError, ConnectionResetError)):
        live.run("import os\nos.close(3)")


def test_hanging_up_ends_the_driver(live: Session) -> None:
    assert live.run("1").result == "1"
    assert live.close() == 0


SNAPSHOT = """
import json, decimal, threading, sqlite3, sys
from os.path import join
n = 1
numbers = [1, 2]
alias = numbers
pair = (numbers, alias)
price = decimal.Decimal('1.10')
class Point:
    count = 5
    def __init__(self, x): self.x = x
    def shifted(self): return self.x + n
class Point3(Point): pass
point = Point3(3)
again = point
def recursive(k): return 1 if k == 0 else k * recursive(k - 1)
lam = lambda z: z + n
def fails():
    raise ValueError('its own line')
generator = (i for i in range(3))
thread = threading.Thread(target=print)
connection = sqlite3.connect(':memory:')
opened = open('/dev/null')
holding = [thread, numbers]
"""


def test_a_snapshot_brings_back_what_can_be_kept(place: Place, live: Session) -> None:
    live.run(SNAPSHOT)
    content, lost = live.snapshot()
    assert set(lost) == {"generator", "thread", "connection", "opened", "holding"}
    assert live.run("n").result == "1"
    with driving.session(place, "python") as other:
        assert other.restore(content) == []
        code = """
        (alias is numbers and pair[0] is pair[1] is numbers, price, point.shifted(), again is point, isinstance(point, Point),
         recursive(5), lam(1), json.dumps(1), join('a', 'b'), Point3.count)""".strip()
        assert other.run(code).result == "(True, Decimal('1.10'), 4, True, True, 120, 2, '1', 'a/b', 5)"
        assert other.run("n = 100\n(point.shifted(), lam(1))").result == "(103, 101)"
        assert "in fails\n    raise ValueError('its own line')\n" in other.run("fails()").stderr
        assert "thread" in other.run("thread").stderr


@pytest.mark.parametrize("line", ["return 5", "break", "from __future__ import annotations"])
def test_errors_of_the_compiler_show_the_line(live: Session, line: str) -> None:
    live.run("1")
    assert f'main.py#2", line 2\n    {line}\n    ' in live.run(f"x = 1\n{line}\n").stderr


def test_an_exit_code_that_is_too_large(live: Session) -> None:
    assert live.run("import sys; sys.exit(2 ** 70)").exit_code == 255


def test_the_zone_of_one_run(live: Session) -> None:
    assert live.run("import time; time.localtime(0).tm_hour", env={"TZ": "Asia/Tokyo"}).result == "9"
    assert live.run("time.localtime(0).tm_hour", env={"TZ": "UTC"}).result == "0"
    assert live.run("time.tzname[0]").result != "'JST'"


MANY_KINDS = """
import collections, enum, functools, typing
lost_one = (i for i in range(3))
T = typing.TypeVar('T')
class Kind(typing.TypedDict):
    a: int
class Color(enum.Enum):
    RED = 1
    ROUGE = 1
    BLUE = (2, 3)
    def shout(self): return self.name + '!'
    @property
    def half(self): return str(self.value)
class Rights(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()
class Planet(enum.Enum):
    EARTH = (5.9, 6.3)
    def __init__(self, mass, radius): self.mass = mass
blue = Color.BLUE
from dataclasses import dataclass
@dataclass
class Pair:
    left: int
    right: Color = Color.RED
pair = Pair(1)
def counter():
    count = 0
    def step():
        nonlocal count
        count += 1
        return count
    return step
step = counter()
step()
class Own(Exception): pass
def decorate(function):
    @functools.wraps(function)
    def inner(*values): return function(*values)
    return inner
@decorate
def double(x: int) -> int: return 2 * x
"""


def test_what_cannot_be_kept_takes_nothing_else_along(place: Place, live: Session) -> None:
    assert live.run(MANY_KINDS).exit_code == 0
    content, lost = live.snapshot()
    assert set(lost) == {"lost_one", "T"}
    assert live.run("step()").stderr == ""
    with driving.session(place, "python") as other:
        assert other.restore(content) == ["Kind"]
        code = """
        (Color.RED is Color.ROUGE, blue is Color.BLUE, Color((2, 3)).shout(), Color.BLUE.half, Rights.READ | Rights.WRITE,
         Planet.EARTH.mass, pair == Pair(1), pair.right is Color.RED, step(), double(2), collections.Counter('a'))""".strip()
        assert other.run(code).result == (
            "(True, True, 'BLUE!', '(2, 3)', <Rights.READ|WRITE: 3>, 5.9, True, True, 2, 4, Counter({'a': 1}))"
        )
        assert other.run("raise Own").stderr.endswith("Own\n")


def test_what_is_too_large_is_lost_alone(place: Place, live: Session) -> None:
    assert (
        live.run(
            "large = bytearray(50 << 20)\nsmall = 1\nsecond = [bytes(30 << 20)]\nthird = [bytes(30 << 20)]"
        ).exit_code
        == 0
    )
    content, lost = live.snapshot()
    assert lost == ["large", "third"]
    with driving.session(place, "python") as other:
        assert other.restore(content) == []
        assert other.run("(small, len(second[0]) >> 20)").result == "(1, 30)"


def test_what_a_restored_session_lacks_is_told_by_name(place: Place, live: Session) -> None:
    module = place.workspace / "own.py"
    module.write_text("class Own: pass\n")
    live.run("from own import Own\none = Own()\ntwo = [one]\nthree = 3\nshared = [4]\nfour = [shared]")
    content, lost = live.snapshot()
    assert lost == []
    module.unlink()
    with driving.session(place, "python") as other:
        assert set(other.restore(content)) == {"Own", "one", "two"}
        assert other.run("(three, four[0] is shared)").result == "(3, True)"
