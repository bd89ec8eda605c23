"""Live sessions that must go: frozen, stored, restored, on this server's next start too."""

from __future__ import annotations

import pytest

from tests.integration.live.conftest import LIVE_MAX, Talk, talk
from tests.servers import Server
from tests.waiting import wait_until

SETS = {
    "python": "numbers = [1, 2]\ndef total(): return sum(numbers)\nlines = (n for n in numbers)",
    "node": "let numbers = [1, 2]; function total() { return numbers[0] + numbers[1] }",
    "typescript": "let numbers: number[] = [1, 2]; function total() { return numbers[0] + numbers[1] }",
    "deno": "let numbers = [1, 2]; function total() { return numbers[0] + numbers[1] }",
}


def crowd_out(server: Server, session: Talk) -> None:
    """Use as many other sessions as a node keeps."""
    for _ in range(LIVE_MAX):
        talk(server).run("1")
    wait_until(lambda: session.state == "stored", 30, "the session is stored")


def test_an_idle_session_is_frozen_and_thaws(small: Server) -> None:
    session = talk(small)
    session.run("kept = 1")
    wait_until(lambda: session.state == "frozen", 20, "the session is frozen")
    run = session.run("kept")
    assert (run["result"], run["state"]["status"]) == ("1", "live")


@pytest.mark.parametrize("language", SETS)
def test_the_least_recently_used_is_stored_and_restored(small: Server, language: str) -> None:
    session = talk(small, language)
    session.run(SETS[language])
    crowd_out(small, session)
    run = session.run("total()")
    assert (run["result"], run["state"]["status"]) == ("3", "restored")
    assert run["state"]["lost"] == (["lines"] if language == "python" else [])


def test_a_copy_has_the_variables(small: Server) -> None:
    session = talk(small)
    session.run("kept = {'a': [1]}")
    copy = Talk(small, session.post("duplicate")["id"])
    run = copy.run("kept")
    assert (run["result"], run["state"]["status"]) == ("{'a': [1]}", "restored")
    copy.run("kept['a'].append(2)")
    assert session.result("kept") == "{'a': [1]}"


def test_other_limits_keep_the_variables(small: Server) -> None:
    session = talk(small)
    session.run("kept = 1")
    changed = small.request("PATCH", f"/api/sessions/{session.id}", {"memory_mib": 300})
    assert changed.status == 200
    run = session.run("kept")
    assert (run["result"], run["state"]["status"]) == ("1", "restored")


def test_an_interpreter_that_ends_itself_is_told_of(small: Server) -> None:
    session = talk(small)
    session.run("kept = 1")
    run = session.run("import os; os._exit(7)")
    assert run["state"]["status"] == "lost"
    assert session.run("'kept' in globals()")["result"] == "False"


def test_a_server_that_stops_keeps_the_variables(small: Server) -> None:
    session = talk(small)
    session.run("kept = 1")
    small.stop()
    again = Server.start(
        {name: value for name, value in small.env.items() if name.startswith("ERA_") and name != "ERA_STATE_DIR"},
        state=small.state,
    )
    try:
        run = Talk(again, session.id).run("kept")
        assert (run["result"], run["state"]["status"]) == ("1", "restored")
    finally:
        again.stop()
