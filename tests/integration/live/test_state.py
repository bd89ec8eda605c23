"""What one run of a session leaves to the next, in every language that keeps state."""

from __future__ import annotations

import threading

import pytest

from tests.integration.live.conftest import Talk, talk
from tests.servers import Server
from tests.waiting import wait_until

KEEPS = {
    "python": ("x = 20\ndef double(): return x * 2", "double() + 2"),
    "node": ("let x = 20; function double() { return x * 2 }", "double() + 2"),
    "typescript": ("let x: number = 20; const double = (): number => x * 2", "double() + 2"),
    "deno": ("let x: number = 20; function double() { return x * 2 }", "double() + 2"),
}
AGAIN = {
    "python": ("x = 1", "x = 2\nx"),
    "node": ("let x = 1; class C {}", "let x = 2; class C {}\nx"),
    "typescript": ("let x: number = 1; enum E { A }", "let x: number = 2\nx"),
    "deno": ("let x = 1; const y = 1", "let x = 2; const y = 2\nx"),
}
AWAITS = {
    "python": "import asyncio\nawait asyncio.sleep(0)\n5",
    "node": "await new Promise(done => setTimeout(done, 1)); 5",
    "typescript": "await new Promise<void>(done => setTimeout(done, 1)); 5",
    "deno": "await new Promise(done => setTimeout(done, 1)); 5",
}
ENDS = {
    "python": ("import sys; kept = 1; sys.exit(3)", "kept"),
    "node": ("var kept = 1; process.exit(3)", "kept"),
    "typescript": ("var kept: number = 1; process.exit(3)", "kept"),
    "deno": ("var kept = 1; Deno.exit(3)", "kept"),
}
FAILS = {
    "python": "kept = 1\nraise ValueError('no')",
    "node": "var kept = 1; throw new Error('no')",
    "typescript": "var kept: number = 1; throw new Error('no')",
    "deno": "var kept = 1; throw new Error('no')",
}
ENDLESS = {"python": "while True: pass", "node": "while (true) {}", "typescript": "while (true) {}"}


@pytest.mark.parametrize("language", KEEPS)
def test_variables_and_functions_live_on(server: Server, language: str) -> None:
    session = talk(server, language)
    first, second = KEEPS[language]
    assert session.run(first)["state"] == {"status": "fresh", "lost": []}
    run = session.run(second)
    assert (run["result"], run["state"]["status"], run["stdout"]) == ("42", "live", "")


@pytest.mark.parametrize("language", AGAIN)
def test_names_may_be_declared_again(server: Server, language: str) -> None:
    session = talk(server, language)
    first, second = AGAIN[language]
    session.run(first)
    assert session.result(second) == "2"


@pytest.mark.parametrize("language", AWAITS)
def test_awaits_at_the_top_level(server: Server, language: str) -> None:
    assert talk(server, language).result(AWAITS[language]) == "5"


@pytest.mark.parametrize("language", ENDS)
def test_an_exit_ends_the_run_and_not_the_state(server: Server, language: str) -> None:
    session = talk(server, language)
    ends, then = ENDS[language]
    assert session.run(ends)["exit_code"] == 3
    assert session.result(then) == "1"


@pytest.mark.parametrize("language", FAILS)
def test_an_exception_ends_the_run_and_not_the_state(server: Server, language: str) -> None:
    session = talk(server, language)
    run = session.run(FAILS[language])
    assert (run["status"], run["exit_code"]) == ("failed", 1)
    assert "no" in run["stderr"]
    assert session.result("kept") == "1"


@pytest.mark.parametrize("language", ENDLESS)
def test_a_timeout_keeps_the_state_where_it_can(server: Server, language: str) -> None:
    session = talk(server, language)
    session.run("var kept = 1" if language != "python" else "kept = 1")
    run = session.run(ENDLESS[language], timeout=1)
    assert (run["status"], run["exit_code"], run["code"]) == ("timed_out", 124, "TIMEOUT")
    assert run["state"]["status"] == "live"
    assert session.result("kept") == "1"


def test_what_ignores_the_interrupt_loses_the_state(server: Server) -> None:
    session = talk(server)
    session.run("kept = 1")
    stubborn = "while True:\n    try:\n        while True: pass\n    except BaseException: pass"
    run = session.run(stubborn, timeout=1)
    assert (run["status"], run["state"]["status"]) == ("timed_out", "lost")
    assert run["state"]["reason"]
    assert session.run("kept")["state"]["status"] == "fresh"


def test_the_environment_is_of_one_run_alone(server: Server) -> None:
    session = talk(server)
    assert session.run("import os; os.environ['ONCE']", env={"ONCE": "yes"})["result"] == "'yes'"
    assert session.result("'ONCE' in os.environ") == "False"
    assert session.result("os.environ['ERA_SESSION_ID']") == repr(session.id)


def test_a_file_uploaded_between_two_runs_is_there(server: Server) -> None:
    session = talk(server)
    session.run("1")
    assert server.request("PUT", f"/api/sessions/{session.id}/files/new.txt", b"fresh").status == 200
    assert session.result("open('new.txt').read()") == "'fresh'"
    assert server.delete(f"/api/sessions/{session.id}/files/new.txt").status == 200
    assert session.result("import os; os.path.exists('new.txt')") == "False"


def test_a_restart_forgets_variables_and_keeps_files(server: Server) -> None:
    session = talk(server)
    session.run("kept = 1; open('file', 'w').write('x')")
    assert session.post("restart")["success"] is True
    run = session.run("import os; ('kept' in globals(), os.path.exists('file'))")
    assert (run["result"], run["state"]["status"]) == ("(False, True)", "fresh")


def _runs(server: Server, session: Talk, count: int = 1) -> bool:
    runs = server.get(f"/api/runs?session_id={session.id}&status=running").json["runs"]
    return len(runs) == count


def _in_background(session: Talk, code: str) -> tuple[threading.Thread, list[dict[str, object]]]:
    answers: list[dict[str, object]] = []
    thread = threading.Thread(target=lambda: answers.append(session.run(code)), daemon=True)
    thread.start()
    return thread, answers


def test_an_interrupt_ends_the_run_and_keeps_the_state(server: Server) -> None:
    session = talk(server)
    session.run("kept = 1")
    thread, answers = _in_background(session, "open('begun', 'w').close()\nimport time; time.sleep(60)")
    wait_until(lambda: _runs(server, session), 20, "the run goes on")

    def interrupted() -> bool:
        session.post("interrupt")
        thread.join(0.5)
        return bool(answers)

    wait_until(interrupted, 20, "the run is interrupted")
    assert (answers[0]["status"], answers[0]["exit_code"]) == ("failed", 130)
    assert session.result("kept") == "1"


def test_deleting_a_session_ends_its_run_at_once(server: Server) -> None:
    session = talk(server)
    thread, answers = _in_background(session, "import time; time.sleep(60)")
    wait_until(lambda: _runs(server, session), 20, "the run goes on")
    assert server.delete(f"/api/sessions/{session.id}").json["success"] is True
    thread.join(20)
    assert answers[0]["status"] == "cancelled"
    assert server.get(f"/api/sessions/{session.id}").status == 404


def test_a_program_of_another_session_sees_none_of_it(server: Server) -> None:
    one, other = talk(server), talk(server)
    one.run("secret = 'of one'; open('/tmp/secret', 'w').write(secret)")
    looks = "import os; ('secret' in globals(), os.path.exists('/tmp/secret'), os.listdir('.'))"
    assert other.result(looks) == "(False, False, ['.session_data.json'])"


def test_a_restart_in_mid_run_cancels_it(server: Server) -> None:
    session = talk(server)
    session.run("kept = 1")
    thread, answers = _in_background(session, "open('begun', 'w').close()\nimport time; time.sleep(60)")
    wait_until(lambda: _runs(server, session), 20, "the run goes on")
    assert session.post("restart")["success"] is True
    thread.join(20)
    (run,) = answers
    assert (run["status"], run["exit_code"], run["message"]) == ("cancelled", 137, "The session was restarted.")
    assert run["state"] == {"status": "lost", "reason": "The session was restarted.", "lost": []}
    assert session.run("'kept' in globals()")["result"] == "False"


def test_a_deletion_in_mid_run_says_so(server: Server) -> None:
    session = talk(server)
    session.run("kept = 1")
    thread, answers = _in_background(session, "import time; time.sleep(60)")
    wait_until(lambda: _runs(server, session), 20, "the run goes on")
    assert server.delete(f"/api/sessions/{session.id}").status == 200
    thread.join(20)
    assert (answers[0]["status"], answers[0]["message"]) == ("cancelled", "The session was deleted.")
